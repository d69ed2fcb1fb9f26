/* SPDX-License-Identifier: Apache-2.0 */
/* What a server says of itself and of the job's lease, however wrong: it neither overflows what is
 * calculated with it nor keeps a process turning. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "double.h"
#include "engine/base/clock.h"
#include "engine/link/internal.h"
#include "engine/link/reply.h"
#include "engine/state/store_internal.h"
#include "oplog/watch.h"

typedef struct {
    double_server_t *destination;
    tow_stop_t *stop;
    bool shows; /* the job's document, that no update finds */
    int64_t clock_ms;
    unsigned finds, inserts, updates;
    atomic_uint asked; /* for more of a stream */
} bench_t;

static void show(const bench_t *bench, bson_t *reply)
{
    bson_t cursor, batch, document;

    bson_append_document_begin(reply, "cursor", -1, &cursor);
    bson_append_int64(&cursor, "id", -1, 0);
    bson_append_utf8(&cursor, "ns", -1, "towline_x.job", -1);
    bson_append_array_begin(&cursor, "firstBatch", -1, &batch);
    if (bench->shows) {
        bson_append_document_begin(&batch, "0", -1, &document);
        BCON_APPEND(&document, "_id", "job", "format", BCON_INT32(TOW_STATE_FORMAT), "epoch",
                    BCON_INT64(0));
        bson_append_document_end(&batch, &document);
    }
    bson_append_array_end(&cursor, &batch);
    bson_append_document_end(reply, &cursor);
}

/* An empty batch of a change stream, at once. */
static void say_nothing(const char *batch, bson_t *reply)
{
    BCON_APPEND(reply, "cursor", "{", "id", BCON_INT64(77), "ns", "admin.$cmd.aggregate", batch,
                "[", "]", "postBatchResumeToken", "{", "_data", BCON_INT64(1), "}", "}");
    bson_append_timestamp(reply, "operationTime", -1, 0, 5);
}

static bool serve(void *data, const char *database, const bson_t *command, bson_t *reply,
                  bson_error_t *error)
{
    bench_t *bench = data;

    if (bson_has_field(command, "find")) {
        bench->finds++;
        show(bench, reply);
    } else if (bson_has_field(command, "insert")) {
        bench->inserts++;
        BCON_APPEND(reply, "n", BCON_INT32(1));
    } else if (bson_has_field(command, "update")) {
        bench->updates++;
        BCON_APPEND(reply, "n", BCON_INT32(0), "nModified", BCON_INT32(0));
    } else if (bson_has_field(command, "hello") || bson_has_field(command, "isMaster")) {
        bson_append_date_time(reply, "localTime", -1, bench->clock_ms);
    } else if (bson_has_field(command, "aggregate")) {
        say_nothing("firstBatch", reply);
    } else if (bson_has_field(command, "getMore")) {
        atomic_fetch_add(&bench->asked, 1);
        say_nothing("nextBatch", reply);
    } else if (!bson_has_field(command, "connectionStatus")) {
        return false;
    }
    bson_append_double(reply, "ok", -1, 1);
    return true;
}

static void begin(bench_t *bench)
{
    *bench = (bench_t){.destination = double_new("destination", false), .stop = tow_stop_new()};
    double_stop(bench->destination, bench->stop);
    double_hook(bench->destination, serve, bench);
}

static void end(bench_t *bench)
{
    double_free(bench->destination);
    tow_stop_destroy(bench->stop);
}

static void expect_given_up(bench_t *bench)
{
    tow_store_options_t options = {.destination = double_link(bench->destination),
                                   .job = "x",
                                   .settings = {"a", "b", ""},
                                   .lease_ms = 15000,
                                   .stop = bench->stop};
    tow_error_t error;
    bool resumed;

    assert_null(tow_store_open(&options, &resumed, &error));
    assert_int_equal(error.code, TOW_ERROR_SERVER);
    assert_non_null(strstr(error.message, "another state"));
    assert_in_range(bench->finds, 3, 20);
}

/* Each time the document is made, and each time it is not there. */
static void a_lease_that_no_find_shows_is_given_up(void **state)
{
    bench_t bench;

    begin(&bench);
    expect_given_up(&bench);
    assert_in_range(bench.inserts, 3, 20);
    end(&bench);
}

/* Nobody holds it, and no update finds it so. */
static void a_lease_that_no_update_finds_is_given_up(void **state)
{
    bench_t bench;

    begin(&bench);
    bench.shows = true;
    expect_given_up(&bench);
    assert_in_range(bench.updates, 3, 20);
    end(&bench);
}

static void expect_lease(const bson_t *document, int64_t epoch, int64_t expires_ms)
{
    tow_lease_t lease;

    tow_lease_parse(document, &lease);
    assert_int_equal(lease.epoch, epoch);
    assert_int_equal(lease.expires_ms, expires_ms);
}

/* Its end is subtracted from the server's time, and one is added to its epoch. */
static void a_lease_holds_what_can_be_calculated_with(void **state)
{
    static const int64_t wrong[] = {INT64_MIN, -1, INT64_MAX, TOW_WALL_MOST_MS + 1};
    bson_t *document;

    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        document = BCON_NEW("epoch", BCON_INT64(7), "lease", "{", "expires",
                            BCON_DATE_TIME(wrong[i]), "}");
        expect_lease(document, 7, 0);
        bson_destroy(document);
        document =
            BCON_NEW("epoch", BCON_INT64(7), "lease", "{", "expires", BCON_INT64(wrong[i]), "}");
        expect_lease(document, 7, 0);
        bson_destroy(document);
    }
    document =
        BCON_NEW("epoch", BCON_INT64(INT64_MAX), "lease", "{", "expires", BCON_DOUBLE(1e300), "}");
    expect_lease(document, 0, 0);
    bson_destroy(document);
    document = BCON_NEW("epoch", BCON_DOUBLE(8), "lease", "{", "expires", BCON_DATE_TIME(99), "}");
    expect_lease(document, 8, 99);
    bson_destroy(document);
}

static void a_clock_that_is_no_time_is_an_error(void **state)
{
    static const int64_t clocks[] = {INT64_MIN, INT64_MAX, TOW_WALL_MOST_MS + 1};
    bench_t bench;
    tow_error_t error;
    double seconds;

    begin(&bench);
    for (size_t i = 0; i < sizeof clocks / sizeof *clocks; i++) {
        tow_conn_t *conn = tow_conn_open(double_link(bench.destination));

        bench.clock_ms = clocks[i];
        assert_false(tow_clock_skew(conn, &seconds, &error));
        assert_int_equal(error.code, TOW_ERROR_SERVER);
        tow_conn_close(conn);
    }
    end(&bench);
}

/* Like the tail's (tail.c). */
static void a_watch_does_not_spin_on_empty_replies(void **state)
{
    tow_filter_t *filter = tow_filter_new();
    tow_watch_t *watch;
    tow_error_t error;
    bench_t bench;

    begin(&bench);
    watch = tow_watch_new(&(tow_watch_options_t){.link = double_link(bench.destination),
                                                 .filter = filter,
                                                 .stop = bench.stop},
                          NULL, &error);
    assert_non_null(watch);
    tow_stop_wait(bench.stop, 300);
    assert_in_range(atomic_load(&bench.asked), 2, 70);
    tow_watch_destroy(watch);
    tow_filter_destroy(filter);
    end(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lease_that_no_find_shows_is_given_up),
        cmocka_unit_test(a_lease_that_no_update_finds_is_given_up),
        cmocka_unit_test(a_lease_holds_what_can_be_calculated_with),
        cmocka_unit_test(a_clock_that_is_no_time_is_an_error),
        cmocka_unit_test(a_watch_does_not_spin_on_empty_replies),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
