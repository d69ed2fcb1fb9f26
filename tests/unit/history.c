/* SPDX-License-Identifier: Apache-2.0 */
/* Random histories: whatever the order of writes, reads, events, refusals, lost answers, pauses and
 * restarts, the destination becomes what the source is, byte by byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <mongoc/mongoc.h>

#include "bench.h"
#include "copy/internal.h"
#include "random.h"

enum { IDS = 12, RANGES = 3, EACH = IDS / RANGES, SEQUENCES = 12 };

/* Three ranges of four _ids each, none of them read. */
static void plan_ranges(bench_t *bench)
{
    tow_range_t *ranges = tow_alloc(RANGES * sizeof *ranges);

    for (int32_t i = 0; i < RANGES; i++) {
        ranges[i].number = (uint32_t)i;
        ranges[i].has_min = i > 0;
        ranges[i].has_max = i < RANGES - 1;
        ranges[i].min = (bson_value_t){.value_type = BSON_TYPE_INT32, .value.v_int32 = i * EACH};
        ranges[i].max =
            (bson_value_t){.value_type = BSON_TYPE_INT32, .value.v_int32 = i * EACH + EACH};
    }
    tow_namespaces_set_ranges(bench->table, bench->collection, ranges, RANGES);
}

static void write_something(bench_t *bench)
{
    int32_t id = (int32_t)random_below(&bench->random, IDS);
    uint32_t dice = random_below(&bench->random, 10);
    bson_t *there = double_get(bench->source, NS, value_of(&id), 0);

    if (!there)
        bench_put(bench, "insert", id, ++bench->unique, 0);
    else if (dice < 4)
        bench_put(bench, "update", id, bench_field_of(there, "u"), bench_field_of(there, "n") + 1);
    else if (dice < 6)
        bench_put(bench, "replace", id, ++bench->unique, bench_field_of(there, "n") + 1);
    else if (dice < 8)
        bench_take_away(bench, id);
    else
        bench_swap(bench, id, (int32_t)random_below(&bench->random, IDS));
    if (there)
        bson_destroy(there);
}

/* Copy and following ----------------------------------------------------------------------------*/

static void write_and_tell(bench_t *bench, uint32_t most)
{
    bool may_apply = !atomic_load(&bench->copying);

    for (uint32_t count = random_below(&bench->random, most + 1); count; count--) {
        write_something(bench);
        if (!random_below(&bench->random, 3))
            bench_deliver(bench, may_apply && random_below(&bench->random, 2));
    }
}

/* Reads a range at times of its interval and writes it, while the source goes on; perhaps not to
 * its end. */
static bool copy_range(bench_t *bench, uint32_t number)
{
    tow_link_t *link = double_link(bench->source);
    tow_optime_t lo = tow_namespaces_start_range(bench->table, bench->collection, number, link);
    tow_optime_t hi = lo;
    bool fails = !random_below(&bench->random, 4);

    for (int32_t id = (int32_t)number * EACH; id < (int32_t)(number + 1) * EACH; id++) {
        tow_optime_t now = double_now(bench->source);
        tow_optime_t at = lo + random_below(&bench->random, (uint32_t)(now - lo + 1));
        bson_t *document = double_get(bench->source, NS, value_of(&id), at ? at : 1);

        double_remove(bench->destination, NS, value_of(&id)); /* of an earlier attempt */
        if (document) {
            double_put(bench->destination, NS, document);
            bson_destroy(document);
        }
        if (at > hi)
            hi = at;
        write_and_tell(bench, 2);
    }
    if (fails) {
        tow_namespaces_reopen_range(bench->table, bench->collection, number);
        return false;
    }
    tow_link_note_time(link, hi);
    tow_namespaces_finish_range(bench->table, bench->collection, number, hi, 1, 1);
    write_and_tell(bench, 2);
    return true;
}

/* From an empty destination to one that may have its unique index. */
static void copy_all(bench_t *bench)
{
    for (int32_t id = 0; id < IDS; id++)
        if (id % 4)
            bench_put(bench, "insert", id, ++bench->unique, 0);
    bench->delivered = bench->told; /* before the job */
    tow_link_note_time(double_link(bench->source), double_now(bench->source));
    atomic_store(&bench->copying, true);
    plan_ranges(bench);
    bench_start_replay(bench, 0);
    for (uint32_t range = 0; range < RANGES;) {
        write_and_tell(bench, 2);
        range += copy_range(bench, range);
    }
    atomic_store(&bench->copying, false);
    bench_catch_up(bench);
    bench_expect_equal(bench);
    double_unique(bench->destination, "u");
}

static void follow(bench_t *bench, uint32_t steps)
{
    static const char *const writes[] = {"update", "insert", "delete"};

    while (steps--) {
        uint32_t dice = random_below(&bench->random, 40);

        write_and_tell(bench, 3);
        if (dice == 0)
            tow_replay_pause(bench->replay, true);
        else if (dice < 6)
            tow_replay_pause(bench->replay, false);
        else if (dice == 6)
            double_lose_answer(bench->destination, writes[random_below(&bench->random, 3)]);
        else if (dice == 7)
            bench_restart(bench);
        else if (dice == 8)
            bench_catch_up(bench);
    }
}

static void whatever_happens_both_sides_become_equal(void **state)
{
    uint64_t seed = random_seed();

    for (uint64_t i = 0; i < SEQUENCES; i++) {
        bench_t *bench = bench_begin(seed + i);

        copy_all(bench);
        follow(bench, 40);
        bench_catch_up(bench);
        bench_expect_equal(bench);
        bench_end(bench);
    }
}

/* The copy itself -------------------------------------------------------------------------------*/

/* Every few reads and writes end with an error after which they are done again. */
static bool fail_some(void *data, const char *database, const bson_t *command, bson_t *reply,
                      bson_error_t *error)
{
    static atomic_uint calls;

    if (atomic_fetch_add(&calls, 1) % 5 != 4)
        return false;
    bson_set_error(error, MONGOC_ERROR_SERVER, 43, "cursor not found");
    return true;
}

static void a_copy_under_writes_loses_nothing(void **state)
{
    uint64_t seed = random_seed();

    for (uint64_t i = 0; i < SEQUENCES; i++) {
        bench_t *bench = bench_begin(seed + i);
        tow_copy_options_t options = {.source = double_link(bench->source),
                                      .destination = double_link(bench->destination),
                                      .namespaces = bench->table,
                                      .filter = bench->filter,
                                      .stop = bench->stop,
                                      .workers = 2,
                                      .index_workers = 1};
        tow_copy_t *copy = tow_copy_new(&options);
        tow_error_t error;

        for (int32_t id = 0; id < IDS; id++)
            bench_put(bench, "insert", id, ++bench->unique, 0);
        bench->delivered = bench->told;
        tow_link_note_time(double_link(bench->source), double_now(bench->source));
        atomic_store(&bench->copying, true);
        plan_ranges(bench);
        bench_start_replay(bench, 0);
        double_hook(bench->source, fail_some, NULL);
        assert_true(tow_copy_start(copy, &error));
        for (uint32_t range = 0; range < RANGES; range++)
            tow_copy_queue(copy, bench->collection, range);
        for (int writes = 0; !tow_copy_finished(copy); writes++) {
            if (tow_stop_error(bench->stop, &error))
                fail_msg("%s", error.message);
            if (writes < 200)
                write_and_tell(bench, 2);
            nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
        }
        double_hook(bench->source, NULL, NULL);
        atomic_store(&bench->copying, false);
        bench_catch_up(bench);
        bench_expect_equal(bench);
        tow_stop_request(bench->stop, NULL);
        tow_copy_destroy(copy);
        bench_end(bench);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whatever_happens_both_sides_become_equal),
        cmocka_unit_test(a_copy_under_writes_loses_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
