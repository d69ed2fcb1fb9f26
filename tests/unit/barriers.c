/* SPDX-License-Identifier: Apache-2.0 */
/* DDL events: which of them are carried out, what becomes of the keys of a collection that ends or
 * gets another name, and what a look at the source decides. */
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

enum { LATER = 100 };

/* A job with another collection, d.x, whose document 1 is on both sides (`there`) or at the
 * destination alone. */
typedef struct {
    bench_t *bench;
    tow_namespace_t *x;
    tow_optime_t now;
} other_t;

static void put_one(double_server_t *server, const char *ns, int32_t n)
{
    bson_t *document = BCON_NEW("_id", BCON_INT32(1), "n", BCON_INT32(n));

    double_put(server, ns, document);
    bson_destroy(document);
}

static int32_t n_of(double_server_t *server, const char *ns)
{
    const int32_t id = 1;
    bson_t *document = double_get(server, ns, value_of(&id), 0);
    int32_t n = document ? bench_field_of(document, "n") : -1;

    if (document)
        bson_destroy(document);
    return n;
}

static other_t begin(const char *source_ns)
{
    other_t other = {.bench = bench_filled()};

    put_one(other.bench->destination, "d.x", 0);
    if (source_ns)
        put_one(other.bench->source, source_ns, 0);
    other.x = bench_add_collection(other.bench, "x");
    tow_namespaces_set_ranges(other.bench->table, other.x, NULL, 0);
    other.now = double_now(other.bench->source);
    tow_link_note_time(double_link(other.bench->source), other.now);
    return other;
}

static void tell(const other_t *other, const char *operation, const char *collection,
                 const char *to)
{
    told_t *told = bench_tell(other->bench, operation, 1, double_now(other->bench->source) + 1);

    snprintf(told->collection, sizeof told->collection, "%s", collection);
    snprintf(told->to, sizeof told->to, "%s", to);
}

/* Two writes more, so that the source's time is at that of what was told. */
static void catch_up(const other_t *other)
{
    bench_put(other->bench, "update", 1, 1, 1);
    bench_put(other->bench, "update", 1, 1, 2);
    bench_catch_up(other->bench);
}

/* Its only range was read between 1 and then. */
static void set_copied(const other_t *other, tow_namespace_t *collection, tow_optime_t hi)
{
    tow_range_t *range = tow_alloc(sizeof *range);

    range->state = TOW_RANGE_DONE;
    range->lo = 1;
    range->hi = hi;
    tow_namespaces_set_ranges(other->bench->table, collection, range, 1);
}

/* Drops ----------------------------------------------------------------------------------------*/

static void a_drop_that_the_catalogs_read_saw_is_skipped(void **state)
{
    other_t other = begin(NULL);

    other.x->read_time = other.now + LATER;
    bench_start_replay(other.bench, 0);
    tell(&other, "drop", "x", "");
    catch_up(&other);
    assert_false(other.x->dropped);
    assert_int_equal(n_of(other.bench->destination, "d.x"), 0);
    bench_end(other.bench);
}

static void a_drop_across_the_copy_has_it_copied_again(void **state)
{
    other_t other = begin(NULL);

    set_copied(&other, other.x, other.now + LATER);
    bench_start_replay(other.bench, 0);
    atomic_store(&other.bench->copying, true);
    tell(&other, "update", "x", "");
    tell(&other, "drop", "x", "");
    bench_deliver(other.bench, false);
    bench_await(&other.bench->copied_again, 1);
    assert_int_equal(n_of(other.bench->destination, "d.x"), 0);
    bench_await(&other.bench->ddl_saved, 1);
    assert_int_equal(bench_progress(other.bench).dirty_keys, 0);
    bench_end(other.bench);
}

static void keys_end_with_their_collection(void **state)
{
    other_t other = begin(NULL);

    bench_start_replay(other.bench, 0);
    atomic_store(&other.bench->copying, true);
    tell(&other, "update", "x", "");
    tell(&other, "drop", "x", "");
    bench_deliver(other.bench, false);
    bench_await(&other.bench->ddl_saved, 1);
    assert_int_equal(bench_progress(other.bench).dirty_keys, 0);
    assert_int_equal(n_of(other.bench->destination, "d.x"), -1);
    assert_string_equal(other.bench->forgotten, "d.x ");
    assert_string_equal(other.bench->held, "x ");
    bench_end(other.bench);
}

static void a_drop_waits_while_the_replay_is_paused(void **state)
{
    other_t other = begin(NULL);

    bench_start_replay(other.bench, 0);
    tow_replay_pause(other.bench->replay, true);
    tell(&other, "drop", "x", "");
    bench_deliver(other.bench, false);
    for (int i = 0; i < 50 && !other.bench->ddl_saved; i++)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    assert_int_equal(n_of(other.bench->destination, "d.x"), 0);
    catch_up(&other);
    assert_int_equal(n_of(other.bench->destination, "d.x"), -1);
    bench_end(other.bench);
}

/* The lane is at its first write, and has not taken in the second, when the drop comes. */
typedef struct {
    atomic_uint updates, may_end, drops, late; /* late: updates after a drop */
} busy_t;

static bool be_busy(void *data, const char *database, const bson_t *command, bson_t *reply,
                    bson_error_t *error)
{
    busy_t *busy = data;

    atomic_fetch_add(&busy->drops, bson_has_field(command, "drop"));
    if (!bson_has_field(command, "update"))
        return false;
    atomic_fetch_add(&busy->late, atomic_load(&busy->drops));
    if (!atomic_fetch_add(&busy->updates, 1))
        while (!atomic_load(&busy->may_end))
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    return false;
}

static void a_drop_waits_for_what_a_busy_lane_has_not_taken_in(void **state)
{
    bench_t *bench = bench_filled();
    busy_t busy = {0};

    bench->lanes = 1;
    double_hook(bench->destination, be_busy, &busy);
    bench_start_replay(bench, 0);
    bench_put(bench, "replace", 1, 1, 1);
    bench_deliver(bench, true);
    bench_await(&busy.updates, 1);
    bench_put(bench, "replace", 2, 2, 1);
    bench_tell(bench, "drop", 0, double_now(bench->source) + 1);
    bench_deliver(bench, true);
    bench_await(&bench->touched, 2); /* the drop is the dispatcher's next step */
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    atomic_store(&busy.may_end, 1);
    bench_await(&busy.drops, 1);
    bench_await(&busy.updates, 2);
    assert_int_equal(busy.late, 0);
    bench_end(bench);
}

/* Each shard tells of a drop, and movePrimary of one that was none: what the source has stays. */
static void what_a_cluster_still_has_is_not_dropped(void **state)
{
    for (int known = 0; known < 2; known++) {
        other_t other = begin("d.x");

        double_link(other.bench->source)->facts.sharded = true;
        if (known)
            memcpy(other.x->uuid, "d.x", 3);
        bench_start_replay(other.bench, 0);
        tell(&other, "drop", "x", "");
        catch_up(&other);
        assert_false(other.x->dropped);
        assert_int_equal(n_of(other.bench->destination, "d.x"), 0);
        assert_int_equal(other.bench->copied_again, known ? 0 : 1);
        bench_end(other.bench);
    }
}

static void a_database_is_dropped_with_all_its_collections(void **state)
{
    other_t other = begin(NULL);

    for (int32_t id = 0; id < 6; id++)
        double_remove(other.bench->source, NS, value_of(&id));
    bench_start_replay(other.bench, 0);
    tell(&other, "dropDatabase", "", "");
    double_remove(other.bench->source, NS, value_of(&(int32_t){1}));
    bench_catch_up(other.bench);
    assert_int_equal(n_of(other.bench->destination, "d.x"), -1);
    bench_expect_equal(other.bench);
    assert_string_equal(other.bench->held, "* ");
    bench_end(other.bench);
}

/* Tokens that tell no time: those after the one that was saved come later, also those of the same
 * time. */
static void opaque_tokens_tell_what_was_done_before(void **state)
{
    static const char *const names[] = {"x", "y", "z"};
    other_t other = begin(NULL);
    tow_optime_t time = other.now + 1;

    other.bench->opaque = true;
    for (int i = 0; i < 3; i++) {
        told_t *told = bench_tell(other.bench, "drop", i, time);
        char ns[8];

        snprintf(told->collection, sizeof told->collection, "%s", names[i]);
        snprintf(ns, sizeof ns, "d.%s", names[i]);
        put_one(other.bench->destination, ns, i);
        if (i)
            tow_namespaces_set_ranges(other.bench->table,
                                      bench_add_collection(other.bench, names[i]), NULL, 0);
    }
    bson_append_int64(&other.bench->ddl_token, "_data", -1, 1);
    other.bench->ddl_time = time;
    bench_start_replay(other.bench, 0);
    catch_up(&other);
    assert_int_equal(n_of(other.bench->destination, "d.x"), 0);
    assert_int_equal(n_of(other.bench->destination, "d.y"), 1);
    assert_int_equal(n_of(other.bench->destination, "d.z"), -1);
    bench_end(other.bench);
}

/* Renames --------------------------------------------------------------------------------------*/

static void a_rename_is_carried_out_once(void **state)
{
    for (int shards = 0; shards < 2; shards++) {
        other_t other = begin("d.y");

        double_link(other.bench->source)->facts.sharded = shards;
        bench_start_replay(other.bench, 0);
        for (int i = 0; i <= shards; i++) { /* each shard has a time of its own for it */
            tell(&other, "rename", "x", "y");
            other.bench->history[other.bench->told - 1].time += (tow_optime_t)i;
        }
        catch_up(&other);
        assert_int_equal(n_of(other.bench->destination, "d.y"), 0);
        assert_int_equal(n_of(other.bench->destination, "d.x"), -1);
        assert_int_equal(other.bench->copied_again, 0);
        if (!shards) {
            assert_string_equal(other.bench->forgotten, "d.x d.y ");
            assert_string_equal(other.bench->held, "x y ");
            assert_int_equal(other.bench->ddl_saved, 1);
        }
        bench_end(other.bench);
    }
}

static void dirty_keys_move_to_the_new_name(void **state)
{
    other_t other = begin("d.y");

    bench_start_replay(other.bench, 0);
    atomic_store(&other.bench->copying, true);
    put_one(other.bench->source, "d.y", 1);
    tell(&other, "update", "x", "");
    tell(&other, "rename", "x", "y");
    bench_deliver(other.bench, false);
    bench_await(&other.bench->ddl_saved, 1);
    atomic_store(&other.bench->copying, false);
    catch_up(&other);
    assert_int_equal(n_of(other.bench->destination, "d.y"), 1);
    bench_end(other.bench);
}

/* The lane finds nothing under the old name, and deletes what the rename then moves. */
static void what_was_read_under_the_old_name_too_late_is_read_again(void **state)
{
    other_t other = begin("d.y");

    bench_start_replay(other.bench, 0);
    tell(&other, "update", "x", "");
    other.bench->history[other.bench->told - 1].time = other.now;
    bench_deliver(other.bench, false);
    for (int i = 0; i < BENCH_WAIT_MS && bench_progress(other.bench).refetched < 1; i++)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    assert_int_equal(n_of(other.bench->destination, "d.x"), -1);
    tell(&other, "rename", "x", "y");
    other.bench->history[other.bench->told - 1].time = other.now;
    catch_up(&other);
    assert_int_equal(other.bench->copied_again, 0);
    assert_int_equal(n_of(other.bench->destination, "d.y"), 0);
    bench_end(other.bench);
}

static void a_rename_over_what_was_copied_later_copies_again(void **state)
{
    other_t other = begin("d.y");
    tow_namespace_t *y = bench_add_collection(other.bench, "y");

    set_copied(&other, y, other.now + LATER);
    bench_start_replay(other.bench, 0);
    tell(&other, "rename", "x", "y");
    catch_up(&other);
    assert_int_equal(other.bench->copied_again, 1);
    assert_int_equal(n_of(other.bench->destination, "d.x"), -1);
    bench_end(other.bench);
}

/* Which keys the process before read under the old name is not known. */
static void a_rename_before_a_restart_copies_again(void **state)
{
    other_t other = begin("d.y");

    bench_start_replay(other.bench, 0);
    tell(&other, "rename", "x", "y");
    bench_put(other.bench, "update", 1, 1, 1);
    bench_put(other.bench, "update", 1, 1, 2);
    bench_restart(other.bench);
    bench_catch_up(other.bench);
    assert_int_equal(other.bench->copied_again, 1);
    bench_end(other.bench);
}

/* What the name means now -----------------------------------------------------------------------*/

static bool list_a_view(void *data, const char *database, const bson_t *command, bson_t *reply,
                        bson_error_t *error)
{
    if (!bson_has_field(command, "listCollections"))
        return false;
    BCON_APPEND(reply, "cursor", "{", "id", BCON_INT64(0), "ns", "d.$cmd.listCollections",
                "firstBatch", "[", "{", "name", "v", "type", "view", "options", "{", "viewOn", "a",
                "}", "info", "{", "}", "}", "]", "}", "ok", BCON_DOUBLE(1));
    return true;
}

static void a_name_that_a_view_has_now_takes_its_events_all_the_same(void **state)
{
    other_t other = begin(NULL);

    double_hook(other.bench->source, list_a_view, NULL);
    bench_start_replay(other.bench, 0);
    tell(&other, "update", "v", "");
    catch_up(&other);
    assert_int_equal(other.bench->placeholders, 1);
    assert_true(tow_namespaces_find(other.bench->table, "d", "v")->placeholder);
    bench_end(other.bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_drop_that_the_catalogs_read_saw_is_skipped),
        cmocka_unit_test(a_drop_across_the_copy_has_it_copied_again),
        cmocka_unit_test(keys_end_with_their_collection),
        cmocka_unit_test(a_drop_waits_while_the_replay_is_paused),
        cmocka_unit_test(a_drop_waits_for_what_a_busy_lane_has_not_taken_in),
        cmocka_unit_test(what_a_cluster_still_has_is_not_dropped),
        cmocka_unit_test(a_database_is_dropped_with_all_its_collections),
        cmocka_unit_test(opaque_tokens_tell_what_was_done_before),
        cmocka_unit_test(a_rename_is_carried_out_once),
        cmocka_unit_test(dirty_keys_move_to_the_new_name),
        cmocka_unit_test(what_was_read_under_the_old_name_too_late_is_read_again),
        cmocka_unit_test(a_rename_over_what_was_copied_later_copies_again),
        cmocka_unit_test(a_rename_before_a_restart_copies_again),
        cmocka_unit_test(a_name_that_a_view_has_now_takes_its_events_all_the_same),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
