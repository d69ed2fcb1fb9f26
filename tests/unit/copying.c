/* SPDX-License-Identifier: Apache-2.0 */
/* One range from the first attempt to its record: what is recorded when, what an attempt before
 * left, and what of it may arrive late. */
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
#include "engine/link/internal.h"
#include "engine/link/reply.h"
#include "engine/state/store_internal.h"

enum { IDS = 6, STRAGGLER = 9 };

typedef struct {
    bench_t *bench;
    tow_store_t store;
    tow_copy_t *copy;
    atomic_uint started, done, inserts, inserting, refused;
    bool wrong;          /* a record came too early or too late */
    bool stragglers;     /* of an earlier attempt come with the first insert */
    bool source_empties; /* it is emptied with the first insert */
    tow_optime_t hi;     /* recorded last */
} copying_t;

static void put(double_server_t *server, int32_t id, int32_t n)
{
    bson_t *document = BCON_NEW("_id", BCON_INT32(id), "n", BCON_INT32(n));

    double_put(server, NS, document);
    bson_destroy(document);
}

static bool is_done(copying_t *copying)
{
    return tow_namespaces_copied(copying->bench->table, copying->bench->collection);
}

/* The record of a range: before the first insert that it was begun, and that it is done before
 * anybody may conclude it. */
static void take_record(copying_t *copying, const bson_t *command)
{
    uint32_t seconds, increment;
    bson_iter_t iter, field;
    bool done;

    if (!bson_iter_init(&iter, command) ||
        !bson_iter_find_descendant(&iter, "updates.0.u.state", &field))
        return;
    done = !strcmp(bson_iter_utf8(&field, NULL), "done");
    copying->wrong = copying->wrong || is_done(copying) || atomic_load(&copying->inserting) ||
                     (!done && atomic_load(&copying->inserts) && !atomic_load(&copying->started));
    atomic_fetch_add(done ? &copying->done : &copying->started, 1);
    if (bson_iter_init(&iter, command) &&
        bson_iter_find_descendant(&iter, "updates.0.u.hi", &field)) {
        bson_iter_timestamp(&field, &seconds, &increment);
        copying->hi = TOW_OPTIME(seconds, increment);
    }
}

static bool serve(void *data, const char *database, const bson_t *command, bson_t *reply,
                  bson_error_t *error)
{
    copying_t *copying = data;
    bench_t *bench = copying->bench;

    if (!strcmp(database, "towline_unit")) {
        take_record(copying, command);
        BCON_APPEND(reply, "n", BCON_INT32(1), "ok", BCON_DOUBLE(1));
        return true;
    }
    if (bson_has_field(command, "delete") && atomic_load(&copying->refused)) {
        atomic_fetch_sub(&copying->refused, 1);
        BCON_APPEND(reply, "ok", BCON_DOUBLE(1), "n", BCON_INT32(0), "writeErrors", "[", "{",
                    "index", BCON_INT32(0), "code", BCON_INT32(20), "errmsg", "scripted", "}", "]");
        return true;
    }
    if (!bson_has_field(command, "insert"))
        return false;
    atomic_store(&copying->inserting, 1);
    nanosleep(&(struct timespec){.tv_nsec = 20000000},
              NULL); /* a range that does not wait is done by then */
    atomic_store(&copying->inserting, 0);
    if (atomic_fetch_add(&copying->inserts, 1))
        return false;
    copying->wrong = copying->wrong || !atomic_load(&copying->started);
    if (copying->stragglers) {
        put(bench->destination, 1, -1);
        put(bench->destination, STRAGGLER, -1);
    }
    for (int32_t id = 0; copying->source_empties && id < IDS; id++)
        tow_link_note_time(double_link(bench->source),
                           double_remove(bench->source, NS, value_of(&id)));
    return false;
}

static void begin(copying_t *copying)
{
    bench_t *bench = bench_begin(1);
    tow_copy_options_t options;

    *copying = (copying_t){.bench = bench};
    double_worst(bench->source);
    for (int32_t id = 0; id < IDS; id++)
        put(bench->source, id, id);
    tow_link_note_time(double_link(bench->source), double_now(bench->source));
    copying->store = (tow_store_t){.options.destination = double_link(bench->destination),
                                   .database = (char *)"towline_unit",
                                   .renewed_ms = INT64_MAX / 2};
    pthread_mutex_init(&copying->store.lock, NULL);
    copying->store.conn = tow_conn_open(double_link(bench->destination));
    tow_conn_unguarded(copying->store.conn);
    double_hook(bench->destination, serve, copying);
    options = (tow_copy_options_t){.source = double_link(bench->source),
                                   .destination = double_link(bench->destination),
                                   .store = &copying->store,
                                   .namespaces = bench->table,
                                   .filter = bench->filter,
                                   .stop = bench->stop,
                                   .workers = 1};
    copying->copy = tow_copy_new(&options);
    double_stop(bench->source, bench->stop);
    double_stop(bench->destination, bench->stop);
}

/* Copies the only range, in that state. */
static void run(copying_t *copying, int state)
{
    bench_t *bench = copying->bench;
    tow_range_t *range = tow_alloc(sizeof *range);
    tow_error_t error;

    range->state = state;
    tow_namespaces_set_ranges(bench->table, bench->collection, range, 1);
    tow_copy_queue(copying->copy, bench->collection, 0);
    assert_true(tow_copy_start(copying->copy, &error));
    for (int i = 0; i < BENCH_WAIT_MS && !tow_copy_finished(copying->copy); i++) {
        if (tow_stop_error(bench->stop, &error))
            fail_msg("%s", error.message);
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    assert_true(is_done(copying));
}

static void end(copying_t *copying)
{
    tow_stop_request(copying->bench->stop, NULL);
    tow_copy_destroy(copying->copy);
    tow_conn_close(copying->store.conn);
    pthread_mutex_destroy(&copying->store.lock);
    bench_end(copying->bench);
}

static void a_range_is_recorded_before_it_begins_and_before_it_counts(void **state)
{
    copying_t copying;

    begin(&copying);
    run(&copying, TOW_RANGE_OPEN);
    bench_expect_equal(copying.bench);
    assert_false(copying.wrong);
    assert_int_equal(copying.started, 1);
    assert_int_equal(copying.done, 1);
    assert_true(copying.hi && copying.hi == double_now(copying.bench->source));
    assert_int_equal(tow_namespaces_range(copying.bench->table, copying.bench->collection, 0).hi,
                     copying.hi);
    end(&copying);
}

/* Something was written while it was read: an event of that time may be seen by the
 * read, or not. */
static bool write_meanwhile(void *data, const char *database, const bson_t *command, bson_t *reply,
                            bson_error_t *error)
{
    copying_t *copying = data;

    if (bson_has_field(command, "find") && double_now(copying->bench->source) == IDS)
        put(copying->bench->source, 1, 100);
    return false;
}

static void a_range_ends_when_its_last_read_was_answered(void **state)
{
    copying_t copying;

    begin(&copying);
    double_hook(copying.bench->source, write_meanwhile, &copying);
    run(&copying, TOW_RANGE_OPEN);
    assert_int_equal(copying.hi, IDS + 1);
    assert_int_equal(tow_namespaces_range(copying.bench->table, copying.bench->collection, 0).lo,
                     IDS);
    assert_int_equal(tow_namespaces_range(copying.bench->table, copying.bench->collection, 0).hi,
                     IDS + 1);
    end(&copying);
}

/* What the process before left of it is gone at the source. Deletes that are refused are tried
 * again. */
static void what_an_attempt_before_left_is_deleted_first(void **state)
{
    for (unsigned refused = 0; refused < 2; refused++) {
        copying_t copying;

        begin(&copying);
        copying.refused = refused;
        if (!refused)
            put(copying.bench->destination, 1, -1);
        put(copying.bench->destination, STRAGGLER, -1);
        run(&copying, TOW_RANGE_STARTED);
        bench_expect_equal(copying.bench);
        assert_int_equal(copying.refused, 0);
        end(&copying);
    }
}

/* A document that is there already says that others may be, too, that the source no longer has. */
static void stragglers_have_the_range_emptied_once_more(void **state)
{
    copying_t copying;

    begin(&copying);
    copying.stragglers = true;
    run(&copying, TOW_RANGE_STARTED);
    bench_expect_equal(copying.bench);
    end(&copying);
}

/* The order of a capped collection is content, and that of a collated one is not ours. */
static void what_has_no_order_of_ours_is_one_range(void **state)
{
    tow_collection_info_t info = {
        .database = (char *)"d", .name = (char *)"a", .ns = (char *)"d.a"};
    const tow_collection_stats_t stats = {.documents = IDS, .bytes = 1000};
    copying_t copying;

    begin(&copying);
    copying.copy->options.range_bytes = 100;
    for (int32_t id = 0; id < IDS; id++)
        put(copying.bench->destination, id, id);
    bson_init(&info.options);
    for (int kind = 0; kind < 3; kind++) {
        tow_conn_t *source;
        tow_range_t *ranges;
        tow_error_t error;
        uint32_t count;

        info.capped = kind == 1;
        info.collated = kind == 2;
        source = tow_conn_open(double_link(copying.bench->destination)); /* shows all at once */
        assert_true(tow_copy_plan(copying.copy, source, &info, &stats, &ranges, &count, &error));
        assert_true(kind ? count == 1 : count > 1);
        for (uint32_t i = 0; i < count; i++)
            tow_range_clear(&ranges[i]);
        free(ranges);
        tow_conn_close(source);
    }
    bson_destroy(&info.options);
    end(&copying);
}

static bool take_session(void *data, const bson_t *session, tow_error_t *error)
{
    return true;
}

static bool outnumber(void *data, tow_conn_t *conn, tow_error_t *error)
{
    tow_send_options_t send = {.flags = TOW_SEND_WRITE | TOW_SEND_ONCE};
    bson_t *command = BCON_NEW("delete", "none", "deletes", "[", "{", "q", "{", "_id",
                               BCON_INT32(1), "}", "limit", BCON_INT32(1), "}", "]"),
           reply;
    bool ok = tow_conn_command(conn, "d", command, &send, &reply, error);

    bson_destroy(&reply);
    bson_destroy(command);
    return ok;
}

/* The insert has no answer; the next attempt finds nothing to insert, and the range is done. */
static void an_insert_that_comes_late_comes_to_nothing(void **state)
{
    static const tow_write_guard_t guard = {take_session, NULL, NULL, outnumber};
    copying_t copying;

    begin(&copying);
    copying.source_empties = true;
    double_impatient(copying.bench->destination);
    tow_link_guard(double_link(copying.bench->destination), &guard, NULL);
    double_hold(copying.bench->destination, "insert", 0);
    run(&copying, TOW_RANGE_OPEN);
    assert_int_equal(*double_held(copying.bench->destination), 1);
    double_arrive(copying.bench->destination);
    bench_expect_equal(copying.bench);
    end(&copying);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_range_is_recorded_before_it_begins_and_before_it_counts),
        cmocka_unit_test(a_range_ends_when_its_last_read_was_answered),
        cmocka_unit_test(what_an_attempt_before_left_is_deleted_first),
        cmocka_unit_test(stragglers_have_the_range_emptied_once_more),
        cmocka_unit_test(what_has_no_order_of_ours_is_one_range),
        cmocka_unit_test(an_insert_that_comes_late_comes_to_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
