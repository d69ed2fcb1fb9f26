/* The replay, with its own threads, between two servers in memory (double.h): whatever the order of reads,
 * events, refusals and lost answers, the destination becomes what the source is, byte by byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "double.h"
#include "oplog/record.h"
#include "oplog/replay.h"
#include "random.h"

#define NS "d.a"

enum { IDS = 12, RANGES = 3, EACH = IDS / RANGES, HISTORY = 4000, WAIT_MS = 20000, SEQUENCES = 12 };

/* One event of the stream. */
typedef struct {
    const char *operation;
    char collection[8];
    int32_t id;
    tow_optime_t time;
    bson_t *document; /* of an insert or a replacement */
} told_t;

typedef struct {
    tow_stop_t *stop;
    double_server_t *source, *destination;
    tow_namespaces_t *table;
    tow_namespace_t *collection;
    tow_filter_t *filter;
    tow_ledger_t *ledger;
    tow_replay_t *replay;
    atomic_bool copying;
    told_t history[HISTORY];
    uint32_t told, delivered; /* of the history */
    uint64_t random;
    int32_t unique; /* the last value that was given out */
    atomic_uint copied_again;
} bench_t;

/* What the layers beside do ------------------------------------------------------------------------*/

static bool is_copying(void *data)
{
    return atomic_load(&((bench_t *)data)->copying);
}

static bool create(void *data, tow_conn_t *destination, const tow_collection_info_t *info,
                   tow_error_t *error)
{
    return true;
}

static bool copy_again(void *data, const char *database, const char *name, bool *out_found,
                       tow_error_t *error)
{
    atomic_fetch_add(&((bench_t *)data)->copied_again, 1);
    return true;
}

/* Nobody builds indexes here. */
static bool hold(void *data, const char *database, const char *name, tow_error_t *error)
{
    return true;
}

static void release(void *data, const char *database, const char *name, bool again)
{
}

static bool forget(void *data, const char *ns, tow_error_t *error)
{
    return true;
}

static bool save_ddl_time(void *data, tow_optime_t time, tow_error_t *error)
{
    return true;
}

static void start_replay(bench_t *bench, tow_optime_t horizon, tow_optime_t ddl_time)
{
    tow_replay_options_t options = {
        .source = double_link(bench->source),
        .destination = double_link(bench->destination),
        .namespaces = bench->table,
        .filter = bench->filter,
        .ledger = bench->ledger,
        .stop = bench->stop,
        .lanes = 3,
        .dirty_bytes = 1 << 20,
        .retry_window_ms = 5000,
        .ddl = {.data = bench, .copying = is_copying, .create = create, .copy_again = copy_again,
                .hold = hold, .release = release, .forget = forget, .save_ddl_time = save_ddl_time}};
    tow_error_t error;

    double_stop(bench->source, bench->stop);
    double_stop(bench->destination, bench->stop);
    bench->replay = tow_replay_new(&options);
    assert_true(tow_replay_start(bench->replay, horizon, ddl_time, &error));
}

static bson_t *token_of(tow_optime_t time)
{
    return BCON_NEW("_data", BCON_INT64((int64_t)time));
}

static void start_ledger(bench_t *bench, tow_optime_t time)
{
    bson_t *token = token_of(time);

    bench->ledger = tow_ledger_new(bench->stop, 64 << 20);
    tow_ledger_begin(bench->ledger, token, time);
    bson_destroy(token);
}

static tow_namespace_t *add_collection(bench_t *bench, const char *name)
{
    tow_collection_info_t info = {.database = (char *)"d", .name = (char *)name};
    tow_namespace_t *collection;

    bson_init(&info.options);
    collection = tow_namespaces_add(bench->table, &info, 0);
    bson_destroy(&info.options);
    return collection;
}

/* Three ranges of four _ids each, none of them read. */
static void plan_ranges(bench_t *bench)
{
    tow_range_t *ranges = tow_alloc(RANGES * sizeof *ranges);

    for (int32_t i = 0; i < RANGES; i++) {
        ranges[i].number = (uint32_t)i;
        ranges[i].has_min = i > 0;
        ranges[i].has_max = i < RANGES - 1;
        ranges[i].min = (bson_value_t){.value_type = BSON_TYPE_INT32, .value.v_int32 = i * EACH};
        ranges[i].max = (bson_value_t){.value_type = BSON_TYPE_INT32,
                                       .value.v_int32 = i * EACH + EACH};
    }
    tow_namespaces_set_ranges(bench->table, bench->collection, ranges, RANGES);
}

static bench_t *begin(uint64_t seed)
{
    bench_t *bench = tow_alloc(sizeof *bench);

    bench->random = seed;
    bench->stop = tow_stop_new();
    bench->source = double_new("source", true);
    bench->destination = double_new("destination", false);
    double_seed(bench->source, seed);
    bench->table = tow_namespaces_new();
    bench->collection = add_collection(bench, "a");
    bench->filter = tow_filter_new();
    start_ledger(bench, 0);
    return bench;
}

static void end_replay(bench_t *bench)
{
    tow_stop_request(bench->stop, NULL);
    tow_replay_destroy(bench->replay);
    tow_ledger_destroy(bench->ledger);
}

static void end(bench_t *bench)
{
    end_replay(bench);
    double_free(bench->source);
    double_free(bench->destination);
    tow_namespaces_destroy(bench->table);
    tow_filter_destroy(bench->filter);
    tow_stop_destroy(bench->stop);
    for (uint32_t i = 0; i < bench->told; i++)
        if (bench->history[i].document)
            bson_destroy(bench->history[i].document);
    free(bench);
}

/* The source and its stream -----------------------------------------------------------------------*/

static tow_value_t value_of(const int32_t *id)
{
    return (tow_value_t){BSON_TYPE_INT32, sizeof *id, (const uint8_t *)id};
}

static told_t *tell(bench_t *bench, const char *operation, int32_t id, tow_optime_t time)
{
    told_t *told = &bench->history[bench->told++];

    assert_true(bench->told < HISTORY);
    *told = (told_t){.operation = operation, .collection = "a", .id = id, .time = time};
    return told;
}

static void put(bench_t *bench, const char *operation, int32_t id, int32_t u, int32_t n)
{
    bson_t *document = BCON_NEW("_id", BCON_INT32(id), "n", BCON_INT32(n), "u", BCON_INT32(u));
    told_t *told = tell(bench, operation, id, double_put(bench->source, NS, document));

    told->document = *operation == 'u' ? NULL : bson_copy(document);
    bson_destroy(document);
}

static void take_away(bench_t *bench, int32_t id)
{
    tell(bench, "delete", id, double_remove(bench->source, NS, value_of(&id)));
}

static int32_t field_of(const bson_t *document, const char *name)
{
    bson_iter_t iter;

    return bson_iter_init_find(&iter, document, name) ? bson_iter_int32(&iter) : 0;
}

/* Two documents exchange their values of the unique field. */
static void swap(bench_t *bench, int32_t one, int32_t two)
{
    bson_t *first = double_get(bench->source, NS, value_of(&one), 0);
    bson_t *second = double_get(bench->source, NS, value_of(&two), 0);

    if (first && second && one != two) {
        put(bench, "update", one, ++bench->unique, field_of(first, "n"));
        put(bench, "update", two, field_of(first, "u"), field_of(second, "n"));
        put(bench, "update", one, field_of(second, "u"), field_of(first, "n"));
    }
    if (first)
        bson_destroy(first);
    if (second)
        bson_destroy(second);
}

static void write_something(bench_t *bench)
{
    int32_t id = (int32_t)random_below(&bench->random, IDS);
    uint32_t dice = random_below(&bench->random, 10);
    bson_t *there = double_get(bench->source, NS, value_of(&id), 0);

    if (!there)
        put(bench, "insert", id, ++bench->unique, 0);
    else if (dice < 4)
        put(bench, "update", id, field_of(there, "u"), field_of(there, "n") + 1);
    else if (dice < 6)
        put(bench, "replace", id, ++bench->unique, field_of(there, "n") + 1);
    else if (dice < 8)
        take_away(bench, id);
    else
        swap(bench, id, (int32_t)random_below(&bench->random, IDS));
    if (there)
        bson_destroy(there);
}

static void append_event(bson_t *batch, uint32_t number, const told_t *told)
{
    char room[16];
    const char *key;
    bson_t event, child;

    bson_uint32_to_string(number, &key, room, sizeof room);
    bson_append_document_begin(batch, key, -1, &event);
    bson_append_utf8(&event, "operationType", -1, told->operation, -1);
    bson_append_timestamp(&event, "clusterTime", -1, (uint32_t)(told->time >> 32),
                          (uint32_t)told->time);
    bson_append_document_begin(&event, "ns", -1, &child);
    bson_append_utf8(&child, "db", -1, "d", -1);
    bson_append_utf8(&child, "coll", -1, told->collection, -1);
    bson_append_document_end(&event, &child);
    if (strcmp(told->operation, "drop")) {
        bson_append_document_begin(&event, "documentKey", -1, &child);
        bson_append_int32(&child, "_id", -1, told->id);
        bson_append_document_end(&event, &child);
    }
    if (told->document)
        bson_append_document(&event, "fullDocument", -1, told->document);
    bson_append_document_end(batch, &event);
}

/* Whole events, as the tail hands them on in direct mode. */
static void fill_direct(tow_block_t *block, const told_t *told, uint32_t count)
{
    bson_t cursor, batch;

    block->direct = true;
    bson_init(&block->reply);
    bson_append_document_begin(&block->reply, "cursor", -1, &cursor);
    bson_append_array_begin(&cursor, "nextBatch", -1, &batch);
    for (uint32_t i = 0; i < count; i++)
        append_event(&batch, i, &told[i]);
    bson_append_array_end(&cursor, &batch);
    bson_append_document_end(&block->reply, &cursor);
    block->payload_bytes = block->reply.len;
}

/* Keys alone, as in refetch mode. */
static void fill_keys(tow_block_t *block, const told_t *told, uint32_t count)
{
    bson_t *before = token_of(0);

    tow_record_begin(&block->records, before, 0);
    for (uint32_t i = 0; i < count; i++) {
        tow_record_t record = {.kind = *told[i].operation == 'i' ? 'i' : 'c',
                               .database = "d",
                               .collection = told[i].collection,
                               .id = value_of(&told[i].id),
                               .time = told[i].time};
        bson_t batch = BSON_INITIALIZER;
        bson_iter_t iter;

        if (!strcmp(told[i].operation, "drop")) {
            append_event(&batch, 0, &told[i]);
            bson_iter_init(&iter, &batch);
            bson_iter_next(&iter);
            record.kind = 'e';
            record.database = record.collection = "";
            record.id = tow_value_of(&iter);
            record.id.type = 0;
        }
        tow_record_append(&block->records, &record);
        bson_destroy(&batch);
    }
    block->payload_bytes = block->records.capacity;
    bson_destroy(before);
}

/* Everything that was written since the last time comes with the stream. */
static void deliver(bench_t *bench, bool direct)
{
    const told_t *told = &bench->history[bench->delivered];
    uint32_t count = bench->told - bench->delivered;
    tow_block_t *block;
    bson_t *token;

    if (!count)
        return;
    block = tow_alloc(sizeof *block);
    block->events = count;
    block->time = told[count - 1].time;
    token = token_of(block->time);
    bson_copy_to(token, &block->token);
    bson_destroy(token);
    (direct ? fill_direct : fill_keys)(block, told, count);
    bench->delivered = bench->told;
    tow_link_note_event(double_link(bench->source), block->time, false);
    tow_ledger_append(bench->ledger, block);
}

static void catch_up(bench_t *bench)
{
    tow_optime_t now = double_now(bench->source);
    bson_t *token = token_of(now);
    tow_error_t error = {0};

    tow_replay_pause(bench->replay, false);
    deliver(bench, false);
    tow_ledger_idle(bench->ledger, token, now);
    if (!tow_ledger_wait_floor(bench->ledger, now, WAIT_MS)) {
        tow_stop_error(bench->stop, &error);
        fail_msg("the floor is %llu and not %llu: %s",
                 (unsigned long long)tow_ledger_floor_time(bench->ledger), (unsigned long long)now,
                 error.message);
    }
    bson_destroy(token);
}

static void expect_equal(bench_t *bench)
{
    char different[100];

    double_compare(bench->source, bench->destination, NS, different, sizeof different);
    if (different[0])
        fail_msg("_id %s differs", different);
}

/* Copy and following ------------------------------------------------------------------------------*/

static void write_and_tell(bench_t *bench, uint32_t most)
{
    bool may_apply = !atomic_load(&bench->copying);

    for (uint32_t count = random_below(&bench->random, most + 1); count; count--) {
        write_something(bench);
        if (!random_below(&bench->random, 3))
            deliver(bench, may_apply && random_below(&bench->random, 2));
    }
}

/* Reads a range at times of its interval and writes it, while the source goes on; perhaps not to its end. */
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
            put(bench, "insert", id, ++bench->unique, 0);
    bench->delivered = bench->told; /* before the job */
    tow_link_note_time(double_link(bench->source), double_now(bench->source));
    atomic_store(&bench->copying, true);
    plan_ranges(bench);
    start_replay(bench, 0, 0);
    for (uint32_t range = 0; range < RANGES;) {
        write_and_tell(bench, 2);
        range += copy_range(bench, range);
    }
    atomic_store(&bench->copying, false);
    catch_up(bench);
    expect_equal(bench);
    double_unique(bench->destination, "u");
}

/* A crash, and what a restart does: a new ledger at the floor, every event up to now a dirty key. */
static void restart(bench_t *bench)
{
    tow_floor_t floor;

    tow_ledger_floor(bench->ledger, &floor);
    end_replay(bench);
    tow_stop_destroy(bench->stop);
    bench->stop = tow_stop_new();
    start_ledger(bench, floor.time);
    tow_link_note_time(double_link(bench->source), double_now(bench->source));
    start_replay(bench, double_now(bench->source), 0);
    bench->delivered = 0;
    while (bench->delivered < bench->told && bench->history[bench->delivered].time <= floor.time)
        bench->delivered++;
    bson_destroy(&floor.token);
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
            restart(bench);
        else if (dice == 8)
            catch_up(bench);
    }
}

static void whatever_happens_both_sides_become_equal(void **state)
{
    uint64_t seed = random_seed();

    for (uint64_t i = 0; i < SEQUENCES; i++) {
        bench_t *bench = begin(seed + i);

        copy_all(bench);
        follow(bench, 40);
        catch_up(bench);
        expect_equal(bench);
        end(bench);
    }
}

/* Case by case ------------------------------------------------------------------------------------*/

/* A job that is in sync, with documents 0 … 5. */
static bench_t *in_sync(void)
{
    bench_t *bench = begin(1);

    for (int32_t id = 0; id < 6; id++) {
        bson_t *document;

        put(bench, "insert", id, id, 0);
        document = double_get(bench->source, NS, value_of(&id), 0);
        double_put(bench->destination, NS, document);
        bson_destroy(document);
    }
    bench->delivered = bench->told;
    bench->unique = 100;
    tow_link_note_time(double_link(bench->source), double_now(bench->source));
    tow_namespaces_set_ranges(bench->table, bench->collection, NULL, 0);
    double_unique(bench->destination, "u");
    start_replay(bench, 0, 0);
    return bench;
}

static tow_replay_progress_t progress_of(bench_t *bench)
{
    tow_replay_progress_t progress;

    tow_replay_progress(bench->replay, &progress);
    return progress;
}

static void inserts_replacements_and_deletes_are_applied_as_they_come(void **state)
{
    bench_t *bench = in_sync();
    tow_replay_progress_t progress;

    put(bench, "insert", 7, 7, 0);
    put(bench, "replace", 1, 1, 5);
    take_away(bench, 2);
    deliver(bench, true);
    catch_up(bench);
    expect_equal(bench);
    progress = progress_of(bench);
    assert_int_equal(progress.applied, 3);
    assert_int_equal(progress.refetched, 0);
    end(bench);
}

static void an_update_is_refetched(void **state)
{
    bench_t *bench = in_sync();

    put(bench, "update", 1, 1, 5);
    deliver(bench, true);
    catch_up(bench);
    expect_equal(bench);
    assert_int_equal(progress_of(bench).refetched, 1);
    end(bench);
}

static void events_of_one_key_keep_their_order(void **state)
{
    bench_t *bench = in_sync();

    for (int32_t n = 0; n < 20; n++) {
        take_away(bench, 1);
        put(bench, "insert", 1, 1, n);
        put(bench, "replace", 1, 1, -n);
        if (n % 3 == 0)
            put(bench, "update", 1, 1, n * 100);
    }
    deliver(bench, true);
    take_away(bench, 3);
    put(bench, "insert", 3, 3, 9);
    take_away(bench, 3);
    deliver(bench, true);
    catch_up(bench);
    expect_equal(bench);
    end(bench);
}

static void unique_values_that_go_round_are_untangled(void **state)
{
    bench_t *bench = in_sync();

    for (int turn = 0; turn < 3; turn++) {
        for (int32_t id = 1; id < 6; id++)
            swap(bench, 0, id);
        deliver(bench, turn % 2);
    }
    catch_up(bench);
    expect_equal(bench);
    end(bench);
}

/* Updates are refused until the knot is untangled; what the floor is then. */
typedef struct {
    bench_t *bench;
    atomic_int untangled;
    _Atomic tow_optime_t floor;
} refusal_t;

static bool refuse_updates(void *data, const char *database, const bson_t *command, bson_t *reply,
                        bson_error_t *error)
{
    refusal_t *refusal = data;

    if (bson_has_field(command, "update") && !atomic_load(&refusal->untangled)) {
        BCON_APPEND(reply, "ok", BCON_DOUBLE(1), "n", BCON_INT32(0), "writeErrors", "[", "{",
                    "index", BCON_INT32(0), "code", BCON_INT32(11000), "errmsg", "duplicate key",
                    "keyPattern", "{", "u", BCON_INT32(1), "}", "keyValue", "{", "u",
                    BCON_INT32(1), "}", "}", "]");
        return true;
    }
    if (bson_has_field(command, "delete") && !atomic_exchange(&refusal->untangled, 1))
        atomic_store(&refusal->floor, tow_ledger_floor_time(refusal->bench->ledger));
    return false;
}

/* A crash between the refusal and the untangling must find the event above the floor. */
static void a_refused_key_holds_the_floor_until_it_is_untangled(void **state)
{
    for (int direct = 0; direct < 2; direct++) {
        bench_t *bench = in_sync();
        refusal_t refusal = {.bench = bench, .floor = UINT64_MAX};
        tow_optime_t before;

        catch_up(bench);
        before = tow_ledger_floor_time(bench->ledger);
        double_hook(bench->destination, refuse_updates, &refusal);
        put(bench, direct ? "replace" : "update", 1, 1, 1);
        deliver(bench, direct);
        catch_up(bench);
        assert_int_equal(refusal.floor, before);
        expect_equal(bench);
        end(bench);
    }
}

static void a_lost_answer_does_no_harm(void **state)
{
    static const char *const writes[] = {"update", "insert", "delete"};
    bench_t *bench = in_sync();

    for (int i = 0; i < 3; i++) {
        double_lose_answer(bench->destination, writes[i]);
        put(bench, "update", 1, 1, i + 1);
        put(bench, "replace", 2, 2, i + 1);
        put(bench, "insert", 7 + i, 7 + i, i + 1);
        take_away(bench, 3 + i);
        deliver(bench, i == 1);
        catch_up(bench);
        expect_equal(bench);
    }
    end(bench);
}

static void a_drop_ends_the_keys_before_it(void **state)
{
    for (int direct = 0; direct < 2; direct++) {
        bench_t *bench = in_sync();

        tow_replay_pause(bench->replay, true);
        for (int32_t id = 0; id < 6; id++)
            put(bench, "update", id, id, 1);
        for (int32_t id = 0; id < 6; id++)
            double_remove(bench->source, NS, value_of(&id));
        tell(bench, "drop", 0, double_now(bench->source) + 1);
        put(bench, "insert", 1, 1, 2);
        put(bench, "insert", 1, 1, 2);
        bench->history[bench->told - 1].operation = "update";
        deliver(bench, direct);
        tow_replay_pause(bench->replay, false);
        catch_up(bench);
        expect_equal(bench);
        assert_true(bench->collection->dropped);
        end(bench);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(inserts_replacements_and_deletes_are_applied_as_they_come),
        cmocka_unit_test(an_update_is_refetched),
        cmocka_unit_test(events_of_one_key_keep_their_order),
        cmocka_unit_test(unique_values_that_go_round_are_untangled),
        cmocka_unit_test(a_refused_key_holds_the_floor_until_it_is_untangled),
        cmocka_unit_test(a_lost_answer_does_no_harm),
        cmocka_unit_test(a_drop_ends_the_keys_before_it),
        cmocka_unit_test(whatever_happens_both_sides_become_equal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
