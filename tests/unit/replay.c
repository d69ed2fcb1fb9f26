/* SPDX-License-Identifier: Apache-2.0 */
/* What the replay does with single events, and when reads, writes or answers fail. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <mongoc/mongoc.h>

#include "bench.h"

static void inserts_replacements_and_deletes_are_applied_as_they_come(void **state)
{
    bench_t *bench = bench_in_sync();
    tow_replay_progress_t progress;

    bench_put(bench, "insert", 7, 7, 0);
    bench_put(bench, "replace", 1, 1, 5);
    bench_take_away(bench, 2);
    bench_deliver(bench, true);
    bench_catch_up(bench);
    bench_expect_equal(bench);
    progress = bench_progress(bench);
    assert_int_equal(progress.applied, 3);
    assert_int_equal(progress.refetched, 0);
    bench_end(bench);
}

static void an_update_is_refetched(void **state)
{
    bench_t *bench = bench_in_sync();

    bench_put(bench, "update", 1, 1, 5);
    bench_deliver(bench, true);
    bench_catch_up(bench);
    bench_expect_equal(bench);
    assert_int_equal(bench_progress(bench).refetched, 1);
    bench_end(bench);
}

static void events_of_one_key_keep_their_order(void **state)
{
    bench_t *bench = bench_in_sync();

    for (int32_t n = 0; n < 20; n++) {
        bench_take_away(bench, 1);
        bench_put(bench, "insert", 1, 1, n);
        bench_put(bench, "replace", 1, 1, -n);
        if (n % 3 == 0)
            bench_put(bench, "update", 1, 1, n * 100);
    }
    bench_deliver(bench, true);
    bench_take_away(bench, 3);
    bench_put(bench, "insert", 3, 3, 9);
    bench_take_away(bench, 3);
    bench_deliver(bench, true);
    bench_catch_up(bench);
    bench_expect_equal(bench);
    bench_end(bench);
}

static void unique_values_that_go_round_are_untangled(void **state)
{
    bench_t *bench = bench_in_sync();

    for (int turn = 0; turn < 3; turn++) {
        for (int32_t id = 1; id < 6; id++)
            bench_swap(bench, 0, id);
        bench_deliver(bench, turn % 2);
    }
    bench_catch_up(bench);
    bench_expect_equal(bench);
    bench_end(bench);
}

/* Answers the first command of a name otherwise than the server would. */
typedef struct {
    const char *name;
    int code; /* it fails with that; 0: it says that nothing matched */
    atomic_int times;
} answer_t;

static bool answer_otherwise(void *data, const char *database, const bson_t *command, bson_t *reply,
                             bson_error_t *error)
{
    answer_t *answer = data;

    if (!bson_has_field(command, answer->name) || atomic_fetch_add(&answer->times, 1))
        return false;
    BCON_APPEND(reply, "ok", BCON_DOUBLE(answer->code ? 0 : 1), "n", BCON_INT32(0));
    if (answer->code) {
        BCON_APPEND(reply, "code", BCON_INT32(answer->code));
        bson_set_error(error, MONGOC_ERROR_SERVER, (uint32_t)answer->code, "scripted");
    }
    return true;
}

/* The source is written to while the first read of it is under way. */
typedef struct {
    bench_t *bench;
    atomic_int written;
} meanwhile_t;

static bool write_meanwhile(void *data, const char *database, const bson_t *command, bson_t *reply,
                            bson_error_t *error)
{
    meanwhile_t *meanwhile = data;

    if (bson_has_field(command, "find") && !atomic_exchange(&meanwhile->written, 1)) {
        bench_put(meanwhile->bench, "update", 1, 1, 2);
        atomic_store(&meanwhile->written, 2);
    }
    return false;
}

/* The read may have seen it or not: its as-of interval says no more. */
static void an_event_within_a_read_is_read_again(void **state)
{
    bench_t *bench = bench_in_sync();
    meanwhile_t meanwhile = {.bench = bench};

    double_worst(bench->source);
    double_hook(bench->source, write_meanwhile, &meanwhile);
    bench_put(bench, "update", 1, 1, 1);
    bench_deliver(bench, false);
    while (atomic_load(&meanwhile.written) != 2 || bench_progress(bench).refetched < 1)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    bench_catch_up(bench);
    bench_expect_equal(bench);
    assert_int_equal(bench_progress(bench).refetched, 2);
    bench_end(bench);
}

static void a_final_error_stops_the_job(void **state)
{
    bench_t *bench = bench_in_sync();
    answer_t answer = {.name = "update", .code = 13 /* Unauthorized */};
    tow_error_t error;

    double_hook(bench->destination, answer_otherwise, &answer);
    bench_put(bench, "update", 1, 1, 1);
    bench_deliver(bench, false);
    assert_true(tow_stop_wait(bench->stop, BENCH_WAIT_MS));
    assert_true(tow_stop_error(bench->stop, &error));
    assert_int_equal(error.server_code, 13);
    bench_end(bench);
}

/* Its outcome is unknown: nothing of it may count as done. */
static void a_failed_write_is_done_again(void **state)
{
    static const char *const names[] = {"update", "delete", "insert"};

    for (int i = 0; i < 6; i++) {
        bench_t *bench = bench_in_sync();
        answer_t answer = {.name = names[i / 2], .code = 50 /* MaxTimeMSExpired */};

        double_hook(bench->destination, answer_otherwise, &answer);
        bench_put(bench, i % 2 ? "replace" : "update", 1, 1, 1);
        bench_take_away(bench, 2);
        bench_put(bench, "insert", 7, 7, 1);
        bench_deliver(bench, i % 2);
        bench_catch_up(bench);
        bench_expect_equal(bench);
        assert_true(i / 2 == 2 || answer.times > 0); /* in direct mode an insert is an update too */
        bench_end(bench);
    }
}

static void a_failed_read_is_done_again(void **state)
{
    bench_t *bench = bench_in_sync();
    answer_t answer = {.name = "find", .code = 50};

    double_hook(bench->source, answer_otherwise, &answer);
    bench_put(bench, "update", 1, 1, 1);
    bench_take_away(bench, 2);
    bench_deliver(bench, false);
    bench_catch_up(bench);
    bench_expect_equal(bench);
    assert_true(answer.times > 1);
    bench_end(bench);
}

static void a_write_that_matched_otherwise_is_read_again(void **state)
{
    bench_t *bench = bench_in_sync();
    answer_t answer = {.name = "update"};

    double_hook(bench->destination, answer_otherwise, &answer);
    bench_put(bench, "replace", 1, 1, 1);
    bench_deliver(bench, true);
    bench_catch_up(bench);
    bench_expect_equal(bench);
    assert_int_equal(bench_progress(bench).refetched, 1);
    bench_end(bench);
}

/* A write of a lane takes its time, and the drop comes after it. */
typedef struct {
    atomic_bool dropped, early;
} slow_t;

static bool slow_down(void *data, const char *database, const bson_t *command, bson_t *reply,
                      bson_error_t *error)
{
    slow_t *slow = data;

    if (bson_has_field(command, "drop"))
        atomic_store(&slow->dropped, true);
    if (!bson_has_field(command, "update"))
        return false;
    for (int i = 0; i < 10 && !atomic_load(&slow->dropped); i++)
        nanosleep(&(struct timespec){.tv_nsec = 10 * 1000000}, NULL);
    if (atomic_load(&slow->dropped))
        atomic_store(&slow->early, true);
    return false;
}

static void a_drop_waits_for_the_writes_before_it(void **state)
{
    bench_t *bench = bench_in_sync();
    slow_t slow = {0};

    double_hook(bench->destination, slow_down, &slow);
    bench_put(bench, "replace", 1, 1, 1);
    bench_put(bench, "replace", 2, 2, 1);
    for (int32_t id = 0; id < 6; id++)
        double_remove(bench->source, NS, value_of(&id));
    bench_tell(bench, "drop", 0, double_now(bench->source) + 1);
    bench_deliver(bench, true);
    bench_put(bench, "insert", 9, 9, 2);
    bench_put(bench, "insert", 9, 9, 3);
    bench->history[bench->told - 1].operation = "replace";
    bench_catch_up(bench);
    assert_true(slow.dropped);
    assert_false(slow.early);
    bench_expect_equal(bench);
    bench_end(bench);
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
                    "keyPattern", "{", "u", BCON_INT32(1), "}", "keyValue", "{", "u", BCON_INT32(1),
                    "}", "}", "]");
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
        bench_t *bench = bench_in_sync();
        refusal_t refusal = {.bench = bench, .floor = UINT64_MAX};
        tow_optime_t before;

        bench_catch_up(bench);
        before = tow_ledger_floor_time(bench->ledger);
        double_hook(bench->destination, refuse_updates, &refusal);
        bench_put(bench, direct ? "replace" : "update", 1, 1, 1);
        bench_deliver(bench, direct);
        bench_catch_up(bench);
        assert_int_equal(refusal.floor, before);
        bench_expect_equal(bench);
        bench_end(bench);
    }
}

/* The first update is refused, and a refetch has written the key before it can be untangled. */
typedef struct {
    atomic_int updates, deletes;
} refused_once_t;

static bool refuse_once(void *data, const char *database, const bson_t *command, bson_t *reply,
                        bson_error_t *error)
{
    refused_once_t *refused = data;

    if (bson_has_field(command, "delete"))
        atomic_fetch_add(&refused->deletes, 1);
    if (!bson_has_field(command, "update") || atomic_fetch_add(&refused->updates, 1))
        return false;
    BCON_APPEND(reply, "ok", BCON_DOUBLE(1), "n", BCON_INT32(0), "writeErrors", "[", "{", "index",
                BCON_INT32(0), "code", BCON_INT32(11000), "errmsg", "duplicate key", "}", "]");
    return true;
}

/* Deleted and inserted again, it would be missing after a crash in between: its
 * floor has passed. */
static void a_key_that_is_settled_is_not_untangled(void **state)
{
    bench_t *bench = bench_in_sync();
    refused_once_t refused = {0};

    double_hook(bench->destination, refuse_once, &refused);
    bench_put(bench, "replace", 1, 1, 1);
    bench_deliver(bench, true);
    bench_catch_up(bench);
    bench_put(bench, "replace", 1, 1, 2); /* comes after what is left of the refusal */
    bench_catch_up(bench);
    bench_expect_equal(bench);
    assert_int_equal(refused.updates, 3);
    assert_int_equal(refused.deletes, 0);
    bench_end(bench);
}

typedef struct {
    atomic_int deletes, finds;
} counted_t;

static bool count_deletes(void *data, const char *database, const bson_t *command, bson_t *reply,
                          bson_error_t *error)
{
    counted_t *counted = data;
    bson_iter_t iter, list;

    if (bson_has_field(command, "find"))
        atomic_fetch_add(&counted->finds, 1);
    if (bson_iter_init_find(&iter, command, "deletes") && bson_iter_recurse(&iter, &list))
        while (bson_iter_next(&list))
            atomic_fetch_add(&counted->deletes, 1);
    return false;
}

enum { RING = 60 };

/* Each document takes the next one's unique value; the stream has told of `told` of these changes
 * first. */
static void turn_ring(uint32_t told, uint32_t knot_large, int finds_most)
{
    bench_t *bench = bench_begin(1);
    counted_t counted = {0};
    uint32_t all;

    bench_fill(bench, RING);
    double_hook(bench->destination, count_deletes, &counted);
    bench->knot_large = knot_large;
    bench_start_replay(bench, 0);
    for (int32_t id = 0; id < RING; id++)
        bench_put(bench, "update", id, (id + 1) % RING, 1);
    all = bench->told;
    bench->told = bench->delivered + told;
    bench_deliver(bench, false);
    bench->told = all;
    for (int i = 0; i < BENCH_WAIT_MS && atomic_load(&counted.deletes) < RING; i++)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    bench_catch_up(bench);
    bench_expect_equal(bench);
    if (counted.deletes > 6 * RING || counted.finds > finds_most)
        fail_msg("%d deletes and %d finds for a ring of %d", counted.deletes, counted.finds, RING);
    bench_end(bench);
}

/* Found one after the other: what was written before is not written again in each round. */
static void a_ring_costs_as_much_as_it_has_documents(void **state)
{
    turn_ring(1, 0, 3 * RING);
    turn_ring(RING, 0, 3 * RING);
}

static void a_large_ring_takes_in_all_dirty_keys(void **state)
{
    turn_ring(1, 4, 3 * RING);
    turn_ring(RING, 4, RING / 2); /* of those that are in the way */
}

/* No event of the stream says that the source's index is gone: its catalog does, also after a
 * while. */
static void what_an_index_refuses_that_the_source_dropped_is_written(void **state)
{
    bench_t *bench = bench_in_sync();

    bench->drops_at = 2;
    bench_put(bench, "insert", 7, 1, 0); /* the value of document 1 */
    bench_catch_up(bench);
    bench_expect_equal(bench);
    assert_int_equal(atomic_load(&bench->alike), 2);
    bench_end(bench);
}

/* The source has the index and both documents: only an operator can tell which is right. */
static void what_the_sources_own_index_refuses_ends_the_job(void **state)
{
    bench_t *bench = bench_in_sync();
    tow_error_t error;

    double_unique(bench->source, "u");
    bench_put(bench, "insert", 7, 1, 0);
    bench_deliver(bench, false);
    assert_true(tow_stop_wait(bench->stop, BENCH_WAIT_MS));
    assert_true(tow_stop_error(bench->stop, &error));
    assert_non_null(
        strstr(error.message, "the destination refuses a document that the source has"));
    bench_end(bench);
}

static void a_lost_answer_does_no_harm(void **state)
{
    static const char *const writes[] = {"update", "insert", "delete"};
    bench_t *bench = bench_in_sync();

    for (int i = 0; i < 3; i++) {
        double_lose_answer(bench->destination, writes[i]);
        bench_put(bench, "update", 1, 1, i + 1);
        bench_put(bench, "replace", 2, 2, i + 1);
        bench_put(bench, "insert", 7 + i, 7 + i, i + 1);
        bench_take_away(bench, 3 + i);
        bench_deliver(bench, i == 1);
        bench_catch_up(bench);
        bench_expect_equal(bench);
    }
    bench_end(bench);
}

static void a_drop_ends_the_keys_before_it(void **state)
{
    for (int direct = 0; direct < 2; direct++) {
        bench_t *bench = bench_in_sync();

        tow_replay_pause(bench->replay, true);
        for (int32_t id = 0; id < 6; id++)
            bench_put(bench, "update", id, id, 1);
        for (int32_t id = 0; id < 6; id++)
            double_remove(bench->source, NS, value_of(&id));
        bench_tell(bench, "drop", 0, double_now(bench->source) + 1);
        bench_put(bench, "insert", 1, 1, 2);
        bench_put(bench, "insert", 1, 1, 2);
        bench->history[bench->told - 1].operation = "update";
        bench_deliver(bench, direct);
        tow_replay_pause(bench->replay, false);
        bench_catch_up(bench);
        bench_expect_equal(bench);
        assert_true(bench->collection->dropped);
        bench_end(bench);
    }
}

/* Three collections, each with one document on either side. */
static void add_three(bench_t *bench, tow_namespace_t *out[3])
{
    static const char *const names[] = {"x", "y", "z"};

    for (int i = 0; i < 3; i++) {
        char ns[8];
        bson_t *document = BCON_NEW("_id", BCON_INT32(1));

        snprintf(ns, sizeof ns, "d.%s", names[i]);
        double_put(bench->destination, ns, document);
        bson_destroy(document);
        out[i] = bench_add_collection(bench, names[i]);
        tow_namespaces_set_ranges(bench->table, out[i], NULL, 0);
    }
}

/* Drops of one cluster time, which several shards may have, told in this order. */
static void tell_drops(bench_t *bench, const char *names, tow_optime_t time)
{
    for (int32_t i = 0; names[i]; i++) {
        told_t *told = bench_tell(bench, "drop", i, time);

        snprintf(told->collection, sizeof told->collection, "%c", names[i]);
    }
}

static void drops_of_one_time_are_two_drops(void **state)
{
    bench_t *bench = bench_in_sync();
    tow_namespace_t *three[3];

    add_three(bench, three);
    tell_drops(bench, "xyz", double_now(bench->source) + 1);
    bench_put(bench, "insert", 100, 100, 0);
    bench_put(bench, "update", 100, 100, 1);
    bench_deliver(bench, false);
    bench_catch_up(bench);
    for (int i = 0; i < 3; i++)
        assert_true(three[i]->dropped);
    assert_int_equal(bench->ddl_saved, 3);
    bench_end(bench);
}

/* The process before saved this event as the last DDL that it carried out. */
static void save_as_done(bench_t *bench, const told_t *told)
{
    bson_t event = BSON_INITIALIZER;
    bson_iter_t iter;

    bench_append_token(bench, &event, told);
    bson_iter_init_find(&iter, &event, "_id");
    bson_reinit(&bench->ddl_token);
    bson_iter_recurse(&iter, &iter);
    bson_iter_next(&iter);
    bson_append_iter(&bench->ddl_token, NULL, 0, &iter);
    bench->ddl_time = told->time;
    bson_destroy(&event);
}

/* Events of a collection that ended before the restart, and its end: the one that was made to take
 * them ends with it, although the process before carried the end out. */
static void ends_before_restart(const char *operation, const char *target, uint32_t copied_again)
{
    bench_t *bench = bench_in_sync();
    told_t *told = bench_tell(bench, "update", 1, double_now(bench->source) + 1);

    snprintf(told->collection, sizeof told->collection, "x");
    told = bench_tell(bench, operation, 2, double_now(bench->source) + 2);
    snprintf(told->collection, sizeof told->collection, "x");
    snprintf(told->to, sizeof told->to, "%s", target);
    save_as_done(bench, told);
    bench_put(bench, "insert", 100, 100, 0);
    bench_put(bench, "update", 100, 100, 1);
    bench_restart(bench);
    bench_deliver(bench, false);
    bench_catch_up(bench);
    assert_int_equal(bench->placeholders, 1);
    assert_int_equal(bench->copied_again, copied_again);
    assert_null(tow_namespaces_find(bench->table, "d", "x"));
    assert_int_equal(bench->ddl_saved, 0);
    bench_end(bench);
}

static void a_placeholder_ends_with_a_drop_that_was_done_before(void **state)
{
    ends_before_restart("drop", "", 0);
}

static void a_placeholder_ends_with_a_rename_that_was_done_before(void **state)
{
    /* Keys that the process before read under the old name, when it was gone already, are known to
     * nobody: what has the new name is copied again. */
    ends_before_restart("rename", "y", 1);
}

/* The source has no d.x any more when its first event comes: what it had before that event came
 * with an earlier name, and the destination has none of it. Under the next name it is copied, not
 * renamed. */
static void a_collection_known_by_events_alone_is_copied_when_renamed(void **state)
{
    bench_t *bench = bench_in_sync();
    tow_namespace_t *known;

    strcpy(bench_tell(bench, "update", 1, double_now(bench->source) + 1)->collection, "x");
    bench_deliver(bench, false);
    for (int i = 0; !(known = tow_namespaces_find(bench->table, "d", "x")); i++) {
        assert_true(i < BENCH_WAIT_MS);
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    assert_true(known->placeholder);
    strcpy(bench_tell(bench, "rename", 0, double_now(bench->source) + 2)->collection, "x");
    strcpy(bench->history[bench->told - 1].to, "y");
    bench_put(bench, "insert", 100, 100, 0);
    bench_put(bench, "update", 100, 100, 1);
    bench_put(bench, "update", 100, 100, 2);
    bench_deliver(bench, false);
    bench_catch_up(bench);
    assert_int_equal(bench->copied_again, 1);
    bench_end(bench);
}

/* The process before carried out the first two of three drops of one time. What has their names now
 * are later collections, and the third is still to go. */
static void drops_before_a_restart_are_known_by_their_tokens(void **state)
{
    bench_t *bench = bench_in_sync();
    tow_namespace_t *three[3];

    add_three(bench, three);
    tell_drops(bench, "xyz", double_now(bench->source) + 1);
    save_as_done(bench, &bench->history[bench->told - 2]);
    bench_put(bench, "insert", 100, 100, 0);
    bench_put(bench, "update", 100, 100, 1);
    bench_restart(bench);
    bench_deliver(bench, false);
    bench_catch_up(bench);
    assert_false(three[0]->dropped);
    assert_false(three[1]->dropped);
    assert_true(three[2]->dropped);
    assert_int_equal(bench->ddl_saved, 1);
    bench_end(bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(inserts_replacements_and_deletes_are_applied_as_they_come),
        cmocka_unit_test(an_update_is_refetched),
        cmocka_unit_test(events_of_one_key_keep_their_order),
        cmocka_unit_test(unique_values_that_go_round_are_untangled),
        cmocka_unit_test(a_ring_costs_as_much_as_it_has_documents),
        cmocka_unit_test(a_large_ring_takes_in_all_dirty_keys),
        cmocka_unit_test(an_event_within_a_read_is_read_again),
        cmocka_unit_test(a_final_error_stops_the_job),
        cmocka_unit_test(a_failed_write_is_done_again),
        cmocka_unit_test(a_failed_read_is_done_again),
        cmocka_unit_test(a_write_that_matched_otherwise_is_read_again),
        cmocka_unit_test(a_drop_waits_for_the_writes_before_it),
        cmocka_unit_test(a_refused_key_holds_the_floor_until_it_is_untangled),
        cmocka_unit_test(a_key_that_is_settled_is_not_untangled),
        cmocka_unit_test(what_an_index_refuses_that_the_source_dropped_is_written),
        cmocka_unit_test(what_the_sources_own_index_refuses_ends_the_job),
        cmocka_unit_test(a_lost_answer_does_no_harm),
        cmocka_unit_test(a_drop_ends_the_keys_before_it),
        cmocka_unit_test(drops_of_one_time_are_two_drops),
        cmocka_unit_test(a_collection_known_by_events_alone_is_copied_when_renamed),
        cmocka_unit_test(drops_before_a_restart_are_known_by_their_tokens),
        cmocka_unit_test(a_placeholder_ends_with_a_drop_that_was_done_before),
        cmocka_unit_test(a_placeholder_ends_with_a_rename_that_was_done_before),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
