/* SPDX-License-Identifier: Apache-2.0 */
/* What a unique index refuses: the documents in the way are found, none of them is lost, and no
 * index is blamed for what passes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <mongoc/mongoc.h>

#include "bench.h"

static void put_extra(bench_t *bench, int32_t id, int32_t u)
{
    bson_t *document = BCON_NEW("_id", BCON_INT32(id), "n", BCON_INT32(0), "u", BCON_INT32(u));

    double_put(bench->destination, NS, document);
    bson_destroy(document);
}

static void await_floor(bench_t *bench, tow_optime_t time)
{
    if (!tow_ledger_wait_floor(bench->ledger, time, BENCH_WAIT_MS))
        fail_msg("the floor is %llu and not %llu",
                 (unsigned long long)tow_ledger_floor_time(bench->ledger),
                 (unsigned long long)time);
}

/* No event will ever tell of it: it has to be looked for. */
static void a_value_that_an_extra_document_holds_is_freed(void **state)
{
    bench_t *bench = bench_filled();

    put_extra(bench, 50, 200);
    bench_start_replay(bench, 0);
    bench_put(bench, "insert", 7, 200, 0);
    bench_catch_up(bench);
    bench_expect_equal(bench);
    bench_end(bench);
}

/* The documents that hold the values of those that hold it are looked for, too. */
static void a_chain_of_holders_is_followed_to_its_end(void **state)
{
    bench_t *bench = bench_filled();

    for (int32_t id = 0; id < 5; id++) /* the event of the last one alone comes */
        bench_put(bench, "update", id, id == 4 ? 200 : id + 1, 1);
    bench->history[bench->told - 5] = bench->history[bench->told - 1];
    bench->told -= 4;
    bench->history[bench->told - 1].id = 0;
    put_extra(bench, 50, 200);
    bench_start_replay(bench, 0);
    bench_deliver(bench, false);
    await_floor(bench, double_now(bench->source));
    bench_expect_equal(bench);
    bench_end(bench);
}

/* The third insert fails: that of a knot whose documents were deleted just before. */
static bool lose_third_insert(void *data, const char *database, const bson_t *command,
                              bson_t *reply, bson_error_t *error)
{
    atomic_uint *inserts = data;

    if (!bson_has_field(command, "insert") || atomic_fetch_add(inserts, 1) != 2)
        return false;
    BCON_APPEND(reply, "ok", BCON_DOUBLE(0), "code", BCON_INT32(50));
    bson_set_error(error, MONGOC_ERROR_SERVER, 50, "scripted");
    return true;
}

/* The document in the way has no event of its own yet: that it is dirty before it is deleted brings
 * it back, and the floor waits for it. */
static void what_is_deleted_for_a_knot_comes_back(void **state)
{
    bench_t *bench = bench_in_sync();
    atomic_uint inserts = 0;

    double_hook(bench->destination, lose_third_insert, &inserts);
    bench_put(bench, "update", 2, 60, 0);
    bench->told--;
    bench_put(bench, "insert", 7, 2, 0);
    bench_deliver(bench, false);
    await_floor(bench, double_now(bench->source));
    bench_expect_equal(bench);
    assert_true(inserts > 2);
    for (int i = 0; i < BENCH_WAIT_MS && bench_progress(bench).dirty_keys; i++)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    assert_int_equal(tow_ledger_backlog(bench->ledger), 0);
    bench_end(bench);
}

typedef struct {
    bool collated;
    atomic_bool deleted, answered;
} straying_t;

static bool note_delete(void *data, const char *database, const bson_t *command, bson_t *reply,
                        bson_error_t *error)
{
    straying_t *straying = data;

    if (bson_has_field(command, "delete"))
        atomic_store(&straying->deleted, true);
    return false;
}

static bool stray_once(void *data, const char *database, const bson_t *command, bson_t *reply,
                       bson_error_t *error)
{
    straying_t *straying = data;

    if (bson_has_field(command, "listCollections") && straying->collated) {
        BCON_APPEND(reply, "cursor", "{", "id", BCON_INT64(0), "ns", NS, "firstBatch", "[", "{",
                    "name", "a", "type", "collection", "options", "{", "collation", "{", "locale",
                    "en", "}", "}", "}", "]", "}", "ok", BCON_DOUBLE(1));
        return true;
    }
    if (!bson_has_field(command, "find") || !atomic_load(&straying->deleted) ||
        atomic_exchange(&straying->answered, true))
        return false;
    BCON_APPEND(reply, "cursor", "{", "id", BCON_INT64(0), "ns", NS, "firstBatch", "[", "{", "_id",
                BCON_INT32(999), "}", "]", "}", "operationTime", BCON_TIMESTAMP(0, 1), "ok",
                BCON_DOUBLE(1));
    return true;
}

/* The knot's documents are deleted, and the answer that they are read with has another one. They
 * are not gone, whatever the collection takes for equal. */
static void what_another_document_came_for_is_inserted_again(void **state)
{
    for (int collated = 0; collated < 2; collated++) {
        bench_t *bench = bench_in_sync();
        straying_t straying = {.collated = collated};

        bench->collection->collated = collated;
        double_hook(bench->destination, note_delete, &straying);
        double_hook(bench->source, stray_once, &straying);
        bench_put(bench, "update", 2, 60, 0);
        bench->told--;
        bench_put(bench, "insert", 7, 2, 0);
        bench_deliver(bench, false);
        await_floor(bench, double_now(bench->source));
        assert_true(straying.answered);
        bench_expect_equal(bench);
        bench_end(bench);
    }
}

typedef struct {
    atomic_uint left, drops;
} refusing_t;

/* Refuses some writes of document 1 for a value that no document holds. */
static bool refuse_for_a_while(void *data, const char *database, const bson_t *command,
                               bson_t *reply, bson_error_t *error)
{
    refusing_t *refusing = data;

    if (bson_has_field(command, "dropIndexes")) {
        atomic_fetch_add(&refusing->drops, 1);
        bson_append_double(reply, "ok", -1, 1);
        return true;
    }
    if ((!bson_has_field(command, "update") && !bson_has_field(command, "insert")) ||
        !atomic_load(&refusing->left))
        return false;
    atomic_fetch_sub(&refusing->left, 1);
    BCON_APPEND(reply, "ok", BCON_DOUBLE(1), "n", BCON_INT32(0), "writeErrors", "[", "{", "index",
                BCON_INT32(0), "code", BCON_INT32(11000), "errmsg", "duplicate key", "keyPattern",
                "{", "u", BCON_INT32(1), "}", "keyValue", "{", "u", BCON_INT32(1), "}", "}", "]");
    return true;
}

/* Five of the lane, one of the first knot, and one of the lane again. */
static void what_a_knot_could_not_write_is_tried_again(void **state)
{
    bench_t *bench = bench_in_sync();
    refusing_t refusing = {.left = 7};

    double_hook(bench->destination, refuse_for_a_while, &refusing);
    bench_put(bench, "update", 1, 1, 1);
    bench_catch_up(bench);
    bench_expect_equal(bench);
    assert_int_equal(refusing.left, 0);
    assert_int_equal(refusing.drops, 0);
    bench_end(bench);
}

/* The fifth refusal makes a conflict of it, and at that moment the replay is paused. */
typedef struct {
    bench_t *bench;
    atomic_uint refused, deletes;
} pausing_t;

static bool refuse_and_pause(void *data, const char *database, const bson_t *command, bson_t *reply,
                             bson_error_t *error)
{
    pausing_t *pausing = data;
    refusing_t once = {.left = 1};

    atomic_fetch_add(&pausing->deletes, bson_has_field(command, "delete"));
    if (!bson_has_field(command, "update") || atomic_load(&pausing->refused) == 5)
        return false;
    if (atomic_load(&pausing->refused) == 4)
        tow_replay_pause(pausing->bench->replay, true);
    atomic_fetch_add(&pausing->refused, 1);
    return refuse_for_a_while(&once, database, command, reply, error);
}

/* Deleted and inserted again it would be missing after a crash in between: the floor
 * has passed it. */
static void a_conflict_that_was_settled_meanwhile_is_forgotten(void **state)
{
    bench_t *bench = bench_in_sync();
    pausing_t pausing = {.bench = bench};

    double_hook(bench->destination, refuse_and_pause, &pausing);
    bench_put(bench, "update", 1, 1, 1);
    bench_deliver(bench, false);
    bench_await(&pausing.refused, 5);
    tow_replay_await_lanes(bench->replay);
    bench_catch_up(bench);
    bench_put(bench, "update", 1, 1, 2); /* comes after what is left of the conflict */
    bench_catch_up(bench);
    bench_expect_equal(bench);
    assert_int_equal(pausing.deletes, 0);
    bench_end(bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_value_that_an_extra_document_holds_is_freed),
        cmocka_unit_test(a_chain_of_holders_is_followed_to_its_end),
        cmocka_unit_test(what_is_deleted_for_a_knot_comes_back),
        cmocka_unit_test(what_another_document_came_for_is_inserted_again),
        cmocka_unit_test(what_a_knot_could_not_write_is_tried_again),
        cmocka_unit_test(a_conflict_that_was_settled_meanwhile_is_forgotten),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
