/* SPDX-License-Identifier: Apache-2.0 */
/* What lanes send, in which order, and what they leave alone: while keys are only collected, after
 * a restart, and when a write may still be under way that nobody waits for any more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <mongoc/mongoc.h>

#include "bench.h"
#include "engine/link/internal.h"
#include "oplog/replay_internal.h"

/* They are counted after their keys are settled. */
static void expect_statements(bench_t *bench, uint64_t count)
{
    for (int i = 0; i < BENCH_WAIT_MS && bench_progress(bench).statements < count; i++)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    assert_int_equal(bench_progress(bench).statements, count);
}

/* Order -----------------------------------------------------------------------------------------*/

/* A value that a deleted document had is free for the next one. */
static void what_is_deleted_goes_first(void **state)
{
    for (int direct = 0; direct < 2; direct++) {
        bench_t *bench = bench_filled();

        bench->lanes = 1;
        bench_start_replay(bench, 0);
        bench_take_away(bench, 2);
        bench_put(bench, "insert", 7, 2, 0);
        bench_deliver(bench, direct);
        bench_catch_up(bench);
        bench_expect_equal(bench);
        expect_statements(bench, 2); /* none was refused */
        bench_end(bench);
    }
}

/* Whatever follows an event of a dirty key is read with it. */
static void nothing_is_applied_to_a_dirty_key(void **state)
{
    bench_t *bench = bench_in_sync();

    bench_put(bench, "update", 1, 1, 5);
    bench_put(bench, "replace", 1, 1, 6);
    bench_deliver(bench, true);
    bench_catch_up(bench);
    bench_expect_equal(bench);
    expect_statements(bench, 1);
    bench_end(bench);
}

/* The next find is answered with another document than the one asked for. */
typedef struct {
    bson_t *document;
    atomic_uint left;
} strange_t;

static bool answer_strangely(void *data, const char *database, const bson_t *command, bson_t *reply,
                             bson_error_t *error)
{
    strange_t *strange = data;

    if (!bson_has_field(command, "find") || !atomic_load(&strange->left))
        return false;
    atomic_fetch_sub(&strange->left, 1);
    BCON_APPEND(reply, "cursor", "{", "id", BCON_INT64(0), "ns", NS, "firstBatch", "[",
                BCON_DOCUMENT(strange->document), "]", "}", "operationTime", BCON_TIMESTAMP(0, 1),
                "ok", BCON_DOUBLE(1));
    return true;
}

/* Nor is it gone when the answer has a document without an _id. Taken for gone it would be deleted
 * until its next event. */
static void what_another_document_came_for_is_not_gone(void **state)
{
    bson_t *documents[] = {BCON_NEW("_id", BCON_INT32(999), "n", BCON_INT32(1)),
                           BCON_NEW("n", BCON_INT32(1))};

    for (int i = 0; i < 2; i++) {
        bench_t *bench = bench_in_sync();
        strange_t strange = {.document = documents[i], .left = 1};

        double_hook(bench->source, answer_strangely, &strange);
        bench_put(bench, "update", 1, 1, 5);
        bench_deliver(bench, false);
        bench_catch_up(bench);
        assert_int_equal(strange.left, 0);
        bench_expect_equal(bench);
        expect_statements(bench, 1); /* nothing was deleted */
        bench_end(bench);
        bson_destroy(documents[i]);
    }
}

/* Reads and events -----------------------------------------------------------------------------*/

/* Document 1 is replaced while the first read of it is under way: after what it sees, before its
 * end. */
static bool replace_meanwhile(void *data, const char *database, const bson_t *command,
                              bson_t *reply, bson_error_t *error)
{
    bench_t *bench = data;

    if (bson_has_field(command, "find") && bench->told == bench->delivered)
        bench_put(bench, "replace", 1, 1, 2);
    return false;
}

static void await_refetched(bench_t *bench, uint64_t count)
{
    for (int i = 0; i < BENCH_WAIT_MS && bench_progress(bench).refetched < count; i++)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    assert_int_equal(bench_progress(bench).refetched, count);
}

static void a_whole_event_within_a_read_is_read_again(void **state)
{
    bench_t *bench = bench_in_sync();

    double_worst(bench->source);
    double_hook(bench->source, replace_meanwhile, bench);
    bench_put(bench, "update", 1, 1, 1);
    bench_deliver(bench, false);
    await_refetched(bench, 1);
    double_hook(bench->source, NULL, NULL);
    bench_deliver(bench, true);
    bench_catch_up(bench);
    bench_expect_equal(bench);
    assert_int_equal(bench_progress(bench).refetched, 2);
    bench_end(bench);
}

/* The first event comes alone, and its read sees what the second tells of. */
static void an_event_that_a_read_saw_is_skipped(void **state)
{
    bench_t *bench = bench_in_sync();
    uint32_t told;

    bench_put(bench, "update", 1, 1, 1);
    bench_put(bench, "update", 1, 1, 2);
    tow_link_note_time(double_link(bench->source), double_now(bench->source));
    told = bench->told--;
    bench_deliver(bench, false);
    await_refetched(bench, 1);
    bench->told = told;
    bench_catch_up(bench);
    bench_expect_equal(bench);
    assert_int_equal(bench_progress(bench).refetched, 1);
    assert_int_equal(bench_progress(bench).skipped, 1);
    bench_end(bench);
}

/* The destination may be further than the event: what a process before did is not known. */
static void events_up_to_a_restart_are_read(void **state)
{
    bench_t *bench = bench_in_sync();

    bench_catch_up(bench);
    tow_replay_pause(bench->replay, true);
    bench_put(bench, "replace", 1, 1, 1);
    bench_put(bench, "insert", 7, 7, 1);
    bench_take_away(bench, 2);
    bench_restart(bench);
    bench_deliver(bench, true);
    bench_put(bench, "replace", 3, 3, 1);
    bench_deliver(bench, true);
    bench_catch_up(bench);
    bench_expect_equal(bench);
    assert_int_equal(bench_progress(bench).refetched, 3);
    assert_int_equal(bench_progress(bench).applied, 4);
    bench_end(bench);
}

/* One range, which was read from now to then. */
static void set_copied(bench_t *bench, tow_optime_t hi)
{
    tow_range_t *range = tow_alloc(sizeof *range);

    range->state = TOW_RANGE_DONE;
    range->lo = double_now(bench->source);
    range->hi = hi;
    tow_namespaces_set_ranges(bench->table, bench->collection, range, 1);
}

/* Somebody changed the destination, and the key was read just before. */
static void a_repair_reads_what_was_read_lately(void **state)
{
    bench_t *bench = bench_in_sync();
    const int32_t id = 1;
    tow_value_t ids[] = {value_of(&id)};
    tow_error_t error;

    for (int turn = 0; turn < 2; turn++) {
        bench_put(bench, "update", 1, 1, turn + 1);
        bench_catch_up(bench);
        double_remove(bench->destination, NS, ids[0]);
        assert_true(tow_replay_repair(bench->replay, "d", "a", ids, 1, turn, &error));
        bench_expect_equal(bench);
    }
    assert_int_equal(bench->touched, 2); /* a repair is no write of the source */
    bench_end(bench);
}

/* The copy has read it, and nothing was written at the source since. */
static void a_repair_is_not_gated(void **state)
{
    bench_t *bench = bench_filled();
    const int32_t id = 1;
    tow_value_t ids[] = {value_of(&id)};
    tow_error_t error;

    set_copied(bench, double_now(bench->source));
    double_remove(bench->destination, NS, ids[0]);
    bench_start_replay(bench, 0);
    assert_true(tow_replay_repair(bench->replay, "d", "a", ids, 1, false, &error));
    bench_expect_equal(bench);
    bench_end(bench);
}

/* The copy may have read what the event tells of, or not. */
static void a_whole_event_within_the_copys_read_is_read_again(void **state)
{
    bench_t *bench = bench_filled();

    set_copied(bench, double_now(bench->source) + 2);
    bench_start_replay(bench, 0);
    bench_put(bench, "replace", 1, 1, 1);
    bench_put(bench, "replace", 2, 2, 1);
    bench_put(bench, "replace", 3, 3, 1);
    bench_deliver(bench, true);
    bench_catch_up(bench);
    bench_expect_equal(bench);
    assert_int_equal(bench_progress(bench).refetched, 2);
    assert_int_equal(bench_progress(bench).applied, 3);
    bench_end(bench);
}

/* Counts writes by their name, of the collection alone. */
typedef struct {
    atomic_uint inserts, updates, deletes;
} writes_t;

static bool count_writes(void *data, const char *database, const bson_t *command, bson_t *reply,
                         bson_error_t *error)
{
    writes_t *writes = data;

    atomic_fetch_add(&writes->inserts, bson_has_field(command, "insert"));
    atomic_fetch_add(&writes->updates, bson_has_field(command, "update"));
    atomic_fetch_add(&writes->deletes, bson_has_field(command, "delete"));
    return false;
}

static void a_repair_anew_deletes_and_inserts(void **state)
{
    bench_t *bench = bench_in_sync();
    const int32_t id = 1;
    tow_value_t ids[] = {value_of(&id)};
    writes_t writes = {0};
    tow_error_t error;

    double_hook(bench->destination, count_writes, &writes);
    assert_true(tow_replay_repair(bench->replay, "d", "a", ids, 1, true, &error));
    bench_expect_equal(bench);
    assert_int_equal(writes.deletes, 1);
    assert_int_equal(writes.inserts, 1);
    assert_int_equal(writes.updates, 0);
    bench_end(bench);
}

/* What a replacement cannot express -------------------------------------------------------------*/

/* Servers before 5.0 refuse such a name in a replacement, at any depth. */
static void a_dollar_inside_is_inserted_on_older_servers(void **state)
{
    bench_t *bench = bench_filled();
    writes_t writes = {0};
    bson_t *document = BCON_NEW("_id", BCON_INT32(1), "n", "{", "$x", BCON_INT32(1), "}");
    told_t *told;

    double_link(bench->destination)->facts.major = 4;
    double_hook(bench->destination, count_writes, &writes);
    bench_start_replay(bench, 0);
    told = bench_tell(bench, "replace", 1, double_put(bench->source, NS, document));
    told->document = document;
    bench_deliver(bench, true);
    bench_catch_up(bench);
    bench_expect_equal(bench);
    assert_int_equal(writes.updates, 0);
    assert_int_equal(writes.inserts, 1);
    bench_end(bench);
}

/* Which _ids are equal there we cannot see: what both sides have is read, deleted and inserted. */
static void a_collation_has_its_documents_inserted(void **state)
{
    bench_t *bench = bench_filled();
    writes_t writes = {0};

    bench->collection->collated = true;
    double_hook(bench->destination, count_writes, &writes);
    bench_start_replay(bench, 0);
    bench_put(bench, "replace", 1, 1, 1);
    bench_take_away(bench, 2);
    bench_deliver(bench, true);
    bench_catch_up(bench);
    bench_expect_equal(bench);
    assert_int_equal(writes.updates, 0);
    bench_end(bench);
}

/* The first insert is refused as a whole, because of an older document of that _id. */
static bool refuse_inserts(void *data, const char *database, const bson_t *command, bson_t *reply,
                           bson_error_t *error)
{
    if (!bson_has_field(command, "insert"))
        return false;
    BCON_APPEND(reply, "ok", BCON_DOUBLE(0), "code", BCON_INT32(11000), "keyPattern", "{", "_id",
                BCON_INT32(1), "}", "keyValue", "{", "_id", BCON_INT32(7), "}");
    bson_set_error(error, MONGOC_ERROR_SERVER, 11000, "duplicate key");
    return true;
}

static void an_insert_that_is_there_already_is_replaced(void **state)
{
    bench_t *bench = bench_filled();
    bson_t *older = BCON_NEW("_id", BCON_INT32(7), "n", BCON_INT32(-1));

    double_put(bench->destination, NS, older);
    bson_destroy(older);
    double_hook(bench->destination, refuse_inserts, NULL);
    bench_start_replay(bench, 0);
    bench_put(bench, "insert", 7, 7, 1);
    bench_catch_up(bench);
    bench_expect_equal(bench);
    bench_end(bench);
}

/* The source is a cluster, and two of its shards have the _id. */
static bool answer_twice(void *data, const char *database, const bson_t *command, bson_t *reply,
                         bson_error_t *error)
{
    atomic_uint *left = data;

    if (!bson_has_field(command, "find") || !atomic_load(left))
        return false;
    atomic_fetch_sub(left, 1);
    BCON_APPEND(reply, "cursor", "{", "id", BCON_INT64(0), "ns", NS, "firstBatch", "[", "{", "_id",
                BCON_INT32(1), "n", BCON_INT32(1), "}", "{", "_id", BCON_INT32(1), "n",
                BCON_INT32(2), "}", "]", "}", "operationTime", BCON_TIMESTAMP(0, 1), "ok",
                BCON_DOUBLE(1));
    return true;
}

static void an_id_that_comes_twice_is_named(void **state)
{
    bench_t *bench = bench_in_sync();
    atomic_uint left = 1;

    double_hook(bench->source, answer_twice, &left);
    bench_put(bench, "update", 1, 1, 5);
    bench_deliver(bench, false);
    bench_catch_up(bench);
    assert_int_equal(left, 0);
    assert_true(atomic_load(&bench->collection->duplicate_told));
    bench_end(bench);
}

/* Collecting ------------------------------------------------------------------------------------*/

static void await_dirty(bench_t *bench, uint64_t count)
{
    for (int i = 0; i < BENCH_WAIT_MS && bench_progress(bench).dirty_keys < count; i++)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    assert_int_equal(bench_progress(bench).dirty_keys, count);
}

/* Every key is dirty once, and the round after it has nothing to send. */
static void a_pause_collects_keys_and_writes_nothing(void **state)
{
    bench_t *bench = bench_in_sync();
    writes_t writes = {0};

    double_hook(bench->destination, count_writes, &writes);
    tow_replay_pause(bench->replay, true);
    bench_put(bench, "replace", 1, 1, 1);
    bench_deliver(bench, true);
    await_dirty(bench, 1);
    bench_put(bench, "update", 2, 2, 1);
    bench_deliver(bench, false);
    await_dirty(bench, 2);
    tow_replay_await_lanes(bench->replay);
    assert_int_equal(writes.updates, 0);
    assert_false(tow_replay_settled(bench->replay));
    bench_catch_up(bench);
    bench_expect_equal(bench);
    for (int i = 0; i < BENCH_WAIT_MS && !tow_replay_settled(bench->replay); i++)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL); /* the floor comes just before */
    assert_true(tow_replay_settled(bench->replay));
    assert_int_equal(bench->touched, 2);
    bench_end(bench);
}

/* Its write takes a while. */
typedef struct {
    atomic_uint begun, ended;
} slow_t;

static bool take_long(void *data, const char *database, const bson_t *command, bson_t *reply,
                      bson_error_t *error)
{
    slow_t *slow = data;

    if (!bson_has_field(command, "update") || atomic_exchange(&slow->begun, 1))
        return false;
    nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    atomic_store(&slow->ended, 1);
    return false;
}

static void a_wait_for_the_lanes_covers_what_they_began(void **state)
{
    bench_t *bench = bench_in_sync();
    slow_t slow = {0};

    double_hook(bench->destination, take_long, &slow);
    bench_put(bench, "replace", 1, 1, 1);
    bench_deliver(bench, true);
    bench_await(&slow.begun, 1);
    tow_replay_pause(bench->replay, true);
    tow_replay_await_lanes(bench->replay);
    assert_int_equal(slow.ended, 1);
    bench_end(bench);
}

static void what_the_filter_leaves_out_is_skipped(void **state)
{
    bench_t *bench = bench_filled();
    tow_error_t error;

    assert_true(tow_filter_exclude(bench->filter, "d.x", &error));
    bench_start_replay(bench, 0);
    strcpy(bench_tell(bench, "update", 1, double_now(bench->source) + 1)->collection, "x");
    bench_put(bench, "update", 1, 1, 1);
    bench_put(bench, "update", 2, 2, 1);
    bench_catch_up(bench);
    assert_int_equal(bench_progress(bench).skipped, 1);
    assert_int_equal(bench->placeholders, 0);
    bench_end(bench);
}

/* Failing ---------------------------------------------------------------------------------------*/

static bool fail_always(void *data, const char *database, const bson_t *command, bson_t *reply,
                        bson_error_t *error)
{
    if (!bson_has_field(command, "update"))
        return false;
    BCON_APPEND(reply, "ok", BCON_DOUBLE(0), "code", BCON_INT32(50));
    bson_set_error(error, MONGOC_ERROR_SERVER, 50, "scripted");
    return true;
}

static void what_fails_for_too_long_ends_the_job(void **state)
{
    bench_t *bench = bench_filled();
    tow_error_t error;

    bench->retry_window_ms = 100;
    double_hook(bench->destination, fail_always, NULL);
    bench_start_replay(bench, 0);
    bench_put(bench, "update", 1, 1, 1);
    bench_deliver(bench, false);
    assert_true(tow_stop_wait(bench->stop, BENCH_WAIT_MS));
    assert_true(tow_stop_error(bench->stop, &error));
    assert_int_equal(error.server_code, 50);
    bench_end(bench);
}

static void a_block_that_cannot_be_read_ends_the_job(void **state)
{
    bench_t *bench = bench_in_sync();
    tow_block_t *block = tow_alloc(sizeof *block);
    bson_t none = BSON_INITIALIZER;
    tow_error_t error;

    tow_record_begin(&block->records, &none, 0);
    tow_buffer_append(&block->records, "\1\2\3", 3);
    bson_init(&block->token);
    block->time = double_now(bench->source) + 1;
    block->events = 1;
    tow_ledger_append(bench->ledger, block);
    assert_true(tow_stop_wait(bench->stop, BENCH_WAIT_MS));
    assert_true(tow_stop_error(bench->stop, &error));
    assert_int_equal(error.code, TOW_ERROR_SPOOL);
    bench_end(bench);
}

/* Writes that come late -------------------------------------------------------------------------*/

static bool take_session(void *data, const bson_t *session, tow_error_t *error)
{
    return true;
}

static bool take_command(void *data, const char *database, const bson_t *command,
                         uint32_t *out_slot, tow_error_t *error)
{
    *out_slot = 0;
    return true;
}

static void take_end(void *data, uint32_t slot, bool settled)
{
}

/* A numbered write that changes something, by that connection. */
static bool outnumber(void *data, tow_conn_t *conn, tow_error_t *error)
{
    tow_send_options_t send = {.flags = TOW_SEND_WRITE | TOW_SEND_ONCE};
    bson_t *command = BCON_NEW("delete", "job", "deletes", "[", "{", "q", "{", "_id", BCON_INT32(1),
                               "}", "limit", BCON_INT32(1), "}", "]"),
           reply;
    bool ok = tow_conn_command(conn, "towline_unit", command, &send, &reply, error);

    bson_destroy(&reply);
    bson_destroy(command);
    return ok;
}

/* With a link that gives up at once; what it sent may arrive all the same. */
static bench_t *begin_impatient(void)
{
    static const tow_write_guard_t guard = {take_session, take_command, take_end, outnumber};
    bench_t *bench = bench_filled();

    double_impatient(bench->destination);
    tow_link_guard(double_link(bench->destination), &guard, NULL);
    return bench;
}

/* Nothing can be read, so that no later write of the lane outnumbers the one that is under way. */
typedef struct {
    atomic_uint blind, drops;
    char unread[16]; /* the _ids whose reads fail, as a part of a find; "": all */
} blind_t;

static bool fail_reads(void *data, const char *database, const bson_t *command, bson_t *reply,
                       bson_error_t *error)
{
    blind_t *blind = data;
    char *text = bson_as_relaxed_extended_json(command, NULL);
    bool fails = bson_has_field(command, "find") && atomic_load(&blind->blind) &&
                 strstr(text, blind->unread);

    bson_free(text);
    if (!fails)
        return false;
    BCON_APPEND(reply, "ok", BCON_DOUBLE(0), "code", BCON_INT32(50));
    bson_set_error(error, MONGOC_ERROR_SERVER, 50, "scripted");
    return true;
}

static bool count_drops(void *data, const char *database, const bson_t *command, bson_t *reply,
                        bson_error_t *error)
{
    atomic_fetch_add(&((blind_t *)data)->drops, bson_has_field(command, "drop"));
    return false;
}

static void no_write_arrives_after_a_barrier_behind_it(void **state)
{
    bench_t *bench = begin_impatient();
    blind_t blind = {.blind = 1};
    const int32_t id = 1;

    double_hook(bench->source, fail_reads, &blind);
    double_hook(bench->destination, count_drops, &blind);
    double_hold(bench->destination, "update", 0);
    bench_start_replay(bench, 0);
    bench_put(bench, "replace", 1, 1, 1);
    bench_tell(bench, "drop", 0, double_now(bench->source) + 1);
    bench_deliver(bench, true);
    bench_await(&blind.drops, 1);
    double_arrive(bench->destination);
    assert_null(double_get(bench->destination, NS, value_of(&id), 0));
    bench_end(bench);
}

static tow_lane_t *lane_of(bench_t *bench, int32_t id)
{
    return tow_lane_of(bench->replay, bench->collection,
                       tow_item_hash(bench->collection, value_of(&id)));
}

/* One lane deletes what is another's, and the answer does not come: the other one
 * writes it again. */
static void no_write_of_a_knot_arrives_when_others_go_on(void **state)
{
    bench_t *bench = begin_impatient();
    blind_t blind = {0};
    const int32_t holder = 2;
    int32_t id = 7;
    bson_t *there = NULL;

    bench_start_replay(bench, 0);
    while (lane_of(bench, id) == lane_of(bench, holder))
        id++;
    snprintf(blind.unread, sizeof blind.unread, "[ %d ]", id);
    double_hook(bench->source, fail_reads, &blind);
    bench_put(bench, "update", holder, 60, 0);
    bench->told--;
    bench_put(bench, "insert", id, holder, 0);
    double_hold(bench->destination, "delete", 1); /* the first is of the refused one alone */
    bench_deliver(bench, false);
    bench_await(double_held(bench->destination), 1);
    atomic_store(&blind.blind, 1);
    for (int i = 0; i < BENCH_WAIT_MS && (!there || bench_field_of(there, "u") != 60); i++) {
        if (there)
            bson_destroy(there);
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        there = double_get(bench->destination, NS, value_of(&holder), 0);
    }
    assert_non_null(there);
    bson_destroy(there);
    double_arrive(bench->destination);
    atomic_store(&blind.blind, 0);
    bench_catch_up(bench);
    bench_expect_equal(bench);
    bench_end(bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_deleted_goes_first),
        cmocka_unit_test(nothing_is_applied_to_a_dirty_key),
        cmocka_unit_test(what_another_document_came_for_is_not_gone),
        cmocka_unit_test(an_id_that_comes_twice_is_named),
        cmocka_unit_test(a_whole_event_within_a_read_is_read_again),
        cmocka_unit_test(an_event_that_a_read_saw_is_skipped),
        cmocka_unit_test(events_up_to_a_restart_are_read),
        cmocka_unit_test(a_repair_reads_what_was_read_lately),
        cmocka_unit_test(a_repair_is_not_gated),
        cmocka_unit_test(a_whole_event_within_the_copys_read_is_read_again),
        cmocka_unit_test(a_repair_anew_deletes_and_inserts),
        cmocka_unit_test(a_dollar_inside_is_inserted_on_older_servers),
        cmocka_unit_test(a_collation_has_its_documents_inserted),
        cmocka_unit_test(an_insert_that_is_there_already_is_replaced),
        cmocka_unit_test(a_pause_collects_keys_and_writes_nothing),
        cmocka_unit_test(a_wait_for_the_lanes_covers_what_they_began),
        cmocka_unit_test(what_the_filter_leaves_out_is_skipped),
        cmocka_unit_test(what_fails_for_too_long_ends_the_job),
        cmocka_unit_test(a_block_that_cannot_be_read_ends_the_job),
        cmocka_unit_test(no_write_arrives_after_a_barrier_behind_it),
        cmocka_unit_test(no_write_of_a_knot_arrives_when_others_go_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
