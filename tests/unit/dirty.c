/* SPDX-License-Identifier: Apache-2.0 */
/* Dirty keys: each stands once, holds the floor before its first unsettled event, and is read again
 * when something happened to it after the time that its read had seen. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "oplog/dirty.h"
#include "random.h"

enum { KEYS = 6, COLLECTIONS = 2, SEQUENCES = 300, STEPS = 200, TIMES = 2000 };

/* What is under test, over a ledger. */
typedef struct {
    tow_stop_t *stop;
    tow_ledger_t *ledger;
    tow_namespaces_t *table;
    tow_namespace_t *collections[COLLECTIONS];
    tow_dirty_t *dirty;
    _Atomic uint64_t bytes, keys;
} bench_t;

static void begin(bench_t *bench)
{
    bson_t token = BSON_INITIALIZER;

    memset(bench, 0, sizeof *bench);
    bench->stop = tow_stop_new();
    bench->ledger = tow_ledger_new(bench->stop, 1000);
    tow_ledger_begin(bench->ledger, &token, 0);
    bench->table = tow_namespaces_new();
    for (int i = 0; i < COLLECTIONS; i++) {
        tow_collection_info_t info = {.database = (char *)"d", .name = (char *)(i ? "b" : "a")};

        bson_init(&info.options);
        bench->collections[i] = tow_namespaces_add(bench->table, &info, 0);
        bson_destroy(&info.options);
    }
    bench->dirty = tow_dirty_new(bench->ledger, &bench->bytes, &bench->keys);
    bson_destroy(&token);
}

static void end(bench_t *bench)
{
    tow_dirty_destroy(bench->dirty);
    tow_namespaces_destroy(bench->table);
    tow_ledger_destroy(bench->ledger);
    tow_stop_destroy(bench->stop);
}

/* A dispatched block of so many events. */
static tow_block_t *block_of(bench_t *bench, tow_optime_t time, uint32_t events)
{
    tow_block_t *block = tow_alloc(sizeof *block);

    block->time = time;
    block->events = events;
    bson_init(&block->token);
    tow_ledger_append(bench->ledger, block);
    assert_ptr_equal(tow_ledger_take(bench->ledger, 0), block);
    tow_ledger_dispatched(bench->ledger, block);
    return block;
}

static tow_value_t value_of(const int32_t *number)
{
    return (tow_value_t){BSON_TYPE_INT32, sizeof *number, (const uint8_t *)number};
}

static void mark_fresh(bench_t *bench, int collection, int32_t number, tow_optime_t time,
                       tow_block_t *block, bool fresh)
{
    tow_value_t id = value_of(&number);

    tow_dirty_mark(bench->dirty, bench->collections[collection], id, (unsigned)tow_value_hash(id),
                   time, block, fresh);
}

static void mark(bench_t *bench, int collection, int32_t number, tow_optime_t time,
                 tow_block_t *block)
{
    mark_fresh(bench, collection, number, time, block, false);
}

static tow_dirty_key_t *find(bench_t *bench, int collection, int32_t number)
{
    tow_value_t id = value_of(&number);

    return tow_dirty_find(bench->dirty, bench->collections[collection], id,
                          (unsigned)tow_value_hash(id));
}

static tow_optime_t floor_of(bench_t *bench)
{
    return tow_ledger_floor_time(bench->ledger);
}

static tow_dirty_key_t *take_one(bench_t *bench)
{
    tow_dirty_key_t *key;

    assert_int_equal(tow_dirty_take(bench->dirty, &key, 1, 0), 1);
    return key;
}

/* One by one ------------------------------------------------------------------------------------*/

static void a_key_holds_the_floor_before_its_first_event(void **state)
{
    bench_t bench;
    tow_dirty_key_t *key;

    begin(&bench);
    mark(&bench, 0, 1, 10, block_of(&bench, 10, 1));
    mark(&bench, 0, 1, 20, block_of(&bench, 20, 1));
    assert_int_equal(tow_dirty_count(bench.dirty), 1);
    assert_int_equal(bench.keys, 1);
    assert_int_equal(tow_ledger_backlog(bench.ledger), 1);
    assert_int_equal(floor_of(&bench), 0);
    key = take_one(&bench);
    assert_int_equal(key->time, 20);
    assert_int_equal(floor_of(&bench), 0);
    tow_dirty_settle(bench.dirty, key, 20);
    assert_int_equal(floor_of(&bench), 20);
    assert_int_equal(tow_dirty_count(bench.dirty), 0);
    assert_int_equal(bench.keys, 0);
    assert_int_equal(bench.bytes, 0);
    end(&bench);
}

static void an_event_after_the_read_makes_the_key_dirty_again(void **state)
{
    bench_t bench;
    tow_dirty_key_t *key;

    begin(&bench);
    mark_fresh(&bench, 0, 1, 10, block_of(&bench, 10, 1), true);
    key = take_one(&bench);
    assert_true(key->fresh);
    mark(&bench, 0, 1, 20, block_of(&bench, 20, 1));
    mark(&bench, 0, 1, 30, block_of(&bench, 30, 1));
    tow_dirty_settle(bench.dirty, key, 29);
    assert_int_equal(floor_of(&bench), 10);
    key = take_one(&bench);
    assert_int_equal(key->time, 30);
    assert_false(key->fresh); /* it is there by now */
    tow_dirty_settle(bench.dirty, key, 30);
    assert_int_equal(floor_of(&bench), 30);
    end(&bench);
}

static void an_event_that_the_read_saw_is_settled_with_it(void **state)
{
    bench_t bench;
    tow_dirty_key_t *key;

    begin(&bench);
    mark(&bench, 0, 1, 10, block_of(&bench, 10, 1));
    key = take_one(&bench);
    mark(&bench, 0, 1, 20, block_of(&bench, 20, 1));
    assert_int_equal(floor_of(&bench), 0);
    tow_dirty_settle(bench.dirty, key, 20);
    assert_int_equal(floor_of(&bench), 20);
    assert_int_equal(tow_dirty_count(bench.dirty), 0);
    end(&bench);
}

static void a_failed_attempt_comes_first_the_next_time(void **state)
{
    bench_t bench;
    tow_dirty_key_t *key;

    begin(&bench);
    mark(&bench, 0, 1, 10, block_of(&bench, 10, 1));
    mark(&bench, 0, 2, 11, block_of(&bench, 11, 1));
    key = take_one(&bench);
    key->found = key->failed = true;
    mark(&bench, 0, 1, 20, block_of(&bench, 20, 1));
    tow_dirty_return(bench.dirty, key);
    assert_int_equal(floor_of(&bench), 0);
    assert_int_equal(tow_dirty_count(bench.dirty), 2);
    assert_ptr_equal(take_one(&bench), key);
    assert_int_equal(key->time, 20); /* so that nobody takes an older read for enough */
    assert_false(key->found || key->failed);
    assert_null(key->again);
    tow_dirty_settle(bench.dirty, key, 20);
    assert_int_equal(floor_of(&bench), 10);
    tow_dirty_settle(bench.dirty, take_one(&bench), 20);
    assert_int_equal(floor_of(&bench), 20);
    end(&bench);
}

static void collections_take_turns(void **state)
{
    bench_t bench;
    tow_dirty_key_t *keys[10];
    tow_block_t *block;

    begin(&bench);
    block = block_of(&bench, 10, 6);
    for (int i = 0; i < 5; i++)
        mark(&bench, 0, i, 10, block);
    mark(&bench, 1, 0, 10, block);
    assert_int_equal(tow_dirty_take(bench.dirty, keys, 2, 0), 2);
    assert_ptr_equal(keys[0]->collection, bench.collections[0]);
    assert_int_equal(tow_dirty_take(bench.dirty, keys, 2, 0), 1);
    assert_ptr_equal(keys[0]->collection, bench.collections[1]);
    assert_int_equal(tow_dirty_take(bench.dirty, keys, 10, 0), 3);
    assert_int_equal(tow_dirty_take(bench.dirty, keys, 10, 0), 0);
    end(&bench);
}

static void equal_ids_are_one_key(void **state)
{
    bench_t bench;
    bson_t *one = BCON_NEW("_id", BCON_DOUBLE(1.0));
    tow_value_t id = {0};

    begin(&bench);
    mark(&bench, 0, 1, 10, block_of(&bench, 10, 1));
    tow_value_id(one, &id);
    assert_ptr_equal(
        tow_dirty_find(bench.dirty, bench.collections[0], id, (unsigned)tow_value_hash(id)),
        find(&bench, 0, 1));
    assert_non_null(find(&bench, 0, 1));
    assert_null(find(&bench, 1, 1));
    assert_null(find(&bench, 0, 2));
    bson_destroy(one);
    end(&bench);
}

static void detached_keys_are_settled_or_handed_on(void **state)
{
    bench_t bench;
    tow_dirty_key_t *key, *next;

    begin(&bench);
    mark(&bench, 0, 1, 10, block_of(&bench, 10, 1));
    mark(&bench, 1, 1, 11, block_of(&bench, 11, 1));
    mark(&bench, 0, 2, 12, block_of(&bench, 12, 1));
    key = tow_dirty_detach(bench.dirty, bench.collections[0]);
    next = key->next;
    assert_null(next->next);
    tow_dirty_forget(bench.dirty, key, true);
    assert_int_equal(floor_of(&bench), 10);
    assert_int_equal(tow_ledger_backlog(bench.ledger), 2);
    tow_dirty_forget(bench.dirty, next, false);
    assert_int_equal(tow_ledger_backlog(bench.ledger), 2);
    assert_int_equal(tow_dirty_count(bench.dirty), 1);
    assert_null(tow_dirty_detach(bench.dirty, bench.collections[0]));
    assert_ptr_equal(take_one(&bench), find(&bench, 1, 1));
    end(&bench);
}

/* What was read lately --------------------------------------------------------------------------*/

static tow_recent_t recent_of(bench_t *bench, int collection, int32_t number)
{
    tow_value_t id = value_of(&number);

    return tow_recent_find(bench->dirty, bench->collections[collection], id,
                           (unsigned)tow_value_hash(id));
}

static void note(bench_t *bench, int collection, int32_t number, tow_optime_t lo, tow_optime_t hi)
{
    tow_value_t id = value_of(&number);

    tow_recent_note(bench->dirty, bench->collections[collection], id, (unsigned)tow_value_hash(id),
                    lo, hi);
}

static void a_read_is_known_until_the_stream_has_passed_it(void **state)
{
    bench_t bench;

    begin(&bench);
    assert_false(recent_of(&bench, 0, 1).known);
    note(&bench, 0, 1, 10, 15);
    note(&bench, 0, 2, 11, 16);
    note(&bench, 0, 1, 12, 17);
    assert_int_equal(recent_of(&bench, 0, 1).lo, 12);
    assert_int_equal(recent_of(&bench, 0, 1).hi, 17);
    assert_false(recent_of(&bench, 1, 1).known);
    tow_recent_purge(bench.dirty, 16);
    assert_true(recent_of(&bench, 0, 2).known); /* an event at 16 may come yet */
    tow_recent_purge(bench.dirty, 17);
    assert_false(recent_of(&bench, 0, 2).known);
    assert_true(recent_of(&bench, 0, 1).known);
    tow_recent_purge(bench.dirty, 18);
    assert_false(recent_of(&bench, 0, 1).known);
    assert_int_equal(tow_dirty_horizon(bench.dirty), 0);
    end(&bench);
}

static void reads_too_many_to_remember_raise_the_horizon(void **state)
{
    bench_t bench;
    int32_t count = 0;

    begin(&bench);
    while (!tow_dirty_horizon(bench.dirty)) {
        assert_true(count < 100000);
        note(&bench, 0, count, (tow_optime_t)(100 + count), (tow_optime_t)(200 + count));
        count++;
    }
    assert_false(recent_of(&bench, 0, 0).known);
    assert_true(recent_of(&bench, 0, 1).known);
    assert_int_equal(tow_dirty_horizon(bench.dirty), 200); /* hi of the one forgotten */
    tow_dirty_raise_horizon(bench.dirty, 150);
    assert_int_equal(tow_dirty_horizon(bench.dirty), 200);
    end(&bench);
}

static void count_read(void *data, tow_value_t id)
{
    *(int *)data += *(const int32_t *)id.data;
}

static void reads_of_a_collection_are_detached_by_time(void **state)
{
    bench_t bench;
    int sum = 0;

    begin(&bench);
    note(&bench, 0, 1, 10, 15);
    note(&bench, 0, 2, 10, 16);
    note(&bench, 0, 4, 10, 17);
    note(&bench, 1, 8, 10, 18);
    tow_recent_detach(bench.dirty, bench.collections[0], 16, count_read, &sum);
    assert_int_equal(sum, 2 + 4);
    assert_false(recent_of(&bench, 0, 1).known || recent_of(&bench, 0, 4).known);
    assert_true(recent_of(&bench, 1, 8).known);
    end(&bench);
}

/* Against a model -------------------------------------------------------------------------------*/

/* What each key should be, and which events are unsettled, by their times (0: none). */
typedef struct {
    bool there, in_flight;
    tow_optime_t held, again, time, again_time;
} expected_t;

typedef struct {
    expected_t keys[COLLECTIONS][KEYS];
    bool unsettled[TIMES];
    tow_optime_t now, taken[COLLECTIONS];
} model_t;

static void model_mark(model_t *model, expected_t *key, tow_optime_t time)
{
    bool holds = !key->there || (key->in_flight && !key->again);

    model->unsettled[time] = holds;
    if (!key->there)
        *key = (expected_t){.there = true, .held = time, .time = time};
    else if (key->in_flight) {
        key->again = key->again ? key->again : time;
        key->again_time = time;
    } else
        key->time = time;
}

static void model_settle(model_t *model, expected_t *key, tow_optime_t lo)
{
    model->unsettled[key->held] = false;
    if (key->again && key->again_time > lo) {
        *key = (expected_t){.there = true, .held = key->again, .time = key->again_time};
        return;
    }
    model->unsettled[key->again] = false;
    *key = (expected_t){0};
}

static void model_return(model_t *model, expected_t *key)
{
    model->unsettled[key->again] = false;
    *key = (expected_t){
        .there = true, .held = key->held, .time = key->again ? key->again_time : key->time};
}

static tow_optime_t model_floor(const model_t *model)
{
    for (tow_optime_t time = 1; time <= model->now; time++)
        if (model->unsettled[time])
            return time - 1;
    return model->now;
}

static expected_t *expected_of(bench_t *bench, model_t *model, const tow_dirty_key_t *key)
{
    return &model->keys[key->collection == bench->collections[1]][*(const int32_t *)key->bytes];
}

static void check(bench_t *bench, const model_t *model)
{
    uint64_t count = 0, backlog = 0;

    for (int c = 0; c < COLLECTIONS; c++)
        for (int k = 0; k < KEYS; k++) {
            const expected_t *wanted = &model->keys[c][k];
            const tow_dirty_key_t *key = find(bench, c, k);

            assert_int_equal(key != NULL, wanted->there);
            count += wanted->there;
            if (!key)
                continue;
            assert_int_equal(key->in_flight, wanted->in_flight);
            assert_int_equal(key->time, wanted->time);
            assert_int_equal(key->block->time, wanted->held);
            if (key->in_flight)
                assert_int_equal(key->again ? key->again->time : 0, wanted->again);
        }
    for (tow_optime_t time = 1; time <= model->now; time++)
        backlog += model->unsettled[time];
    assert_int_equal(tow_dirty_count(bench->dirty), count);
    assert_int_equal(bench->keys, count);
    assert_int_equal(tow_ledger_backlog(bench->ledger), backlog);
    assert_int_equal(floor_of(bench), model_floor(model));
}

static bool any_in_flight(const model_t *model, int collection)
{
    for (int k = 0; k < KEYS; k++)
        if (model->keys[collection][k].in_flight)
            return true;
    return false;
}

/* A lane's step: it takes a batch, is told of events meanwhile, and settles or returns each key. */
static void step(bench_t *bench, model_t *model, uint64_t *random)
{
    int collection = (int)random_below(random, COLLECTIONS);
    int number = (int)random_below(random, KEYS);
    tow_dirty_key_t *keys[KEYS], *key = find(bench, collection, number);
    uint32_t dice = random_below(random, 10), count;
    tow_optime_t lo;

    if (dice < 5) {
        model->now++;
        model_mark(model, &model->keys[collection][number], model->now);
        mark(bench, collection, number, model->now, block_of(bench, model->now, 1));
    } else if (dice == 5) {
        count = tow_dirty_take(bench->dirty, keys, 1 + random_below(random, 3), 0);
        for (uint32_t i = 0; i < count; i++) {
            expected_t *wanted = expected_of(bench, model, keys[i]);

            assert_true(wanted->there && !wanted->in_flight);
            wanted->in_flight = true;
        }
    } else if (dice == 6 && key && !key->in_flight) {
        tow_dirty_pick(bench->dirty, key);
        model->keys[collection][number].in_flight = true;
    } else if (dice == 7 && key && key->in_flight) {
        tow_dirty_return(bench->dirty, key);
        model_return(model, &model->keys[collection][number]);
    } else if (dice == 8 && !any_in_flight(model, collection)) {
        tow_dirty_key_t *next, *at = tow_dirty_detach(bench->dirty, bench->collections[collection]);

        for (; at; at = next) {
            expected_t *wanted = expected_of(bench, model, at);

            next = at->next;
            model->unsettled[wanted->held] = false;
            *wanted = (expected_t){0};
            tow_dirty_forget(bench->dirty, at, true);
        }
    } else if (dice == 9 && key && key->in_flight) {
        lo = model->now - random_below(random, (uint32_t)model->now + 1);
        tow_dirty_settle(bench->dirty, key, lo);
        model_settle(model, &model->keys[collection][number], lo);
    }
}

static void random_sequences_do_what_the_model_does(void **state)
{
    uint64_t random = random_seed();

    for (int sequence = 0; sequence < SEQUENCES; sequence++) {
        model_t model = {0};
        bench_t bench;

        begin(&bench);
        for (int i = 0; i < STEPS; i++) {
            step(&bench, &model, &random);
            check(&bench, &model);
        }
        end(&bench);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_holds_the_floor_before_its_first_event),
        cmocka_unit_test(an_event_after_the_read_makes_the_key_dirty_again),
        cmocka_unit_test(an_event_that_the_read_saw_is_settled_with_it),
        cmocka_unit_test(a_failed_attempt_comes_first_the_next_time),
        cmocka_unit_test(collections_take_turns),
        cmocka_unit_test(equal_ids_are_one_key),
        cmocka_unit_test(detached_keys_are_settled_or_handed_on),
        cmocka_unit_test(a_read_is_known_until_the_stream_has_passed_it),
        cmocka_unit_test(reads_too_many_to_remember_raise_the_horizon),
        cmocka_unit_test(reads_of_a_collection_are_detached_by_time),
        cmocka_unit_test(random_sequences_do_what_the_model_does),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
