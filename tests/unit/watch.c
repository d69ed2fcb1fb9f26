/* SPDX-License-Identifier: Apache-2.0 */
/* What a watch tells of a deployment's writes, what counts as a gap, and when it has heard of
 * everything. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <mongoc/mongoc.h>

#include "double.h"
#include "engine/base/clock.h"
#include "engine/base/thread.h"
#include "engine/link/internal.h"
#include "oplog/watch.h"

#define SECONDS 1500000000U /* tokens of earlier times are no KeyStrings */

enum { BARRIER = 10, WAIT_MS = 10000 };

typedef struct {
    double_server_t *server;
    tow_filter_t *filter;
    tow_stop_t *stop;
    tow_watch_t *watch;
    pthread_mutex_t lock;
    _Atomic(const char *) event;     /* of the next reply, as JSON; NULL: none */
    atomic_int code;                 /* an error instead */
    atomic_uint time;                /* of the reply's token */
    atomic_uint left, given, opened; /* left: replies that may still be given */
    atomic_uint asked, pushed;       /* for its time */
    char told[200];
} bench_t;

static void append_token(bson_t *out, const char *name, uint32_t time)
{
    char text[40];
    bson_t token;

    snprintf(text, sizeof text, "82%08X%08X2B0229296E04", SECONDS, time);
    bson_append_document_begin(out, name, -1, &token);
    bson_append_utf8(&token, "_data", -1, text, -1);
    bson_append_document_end(out, &token);
}

static void answer(bench_t *bench, const char *batch, bson_t *reply)
{
    bson_t cursor, list, event, *parsed;

    bson_append_document_begin(reply, "cursor", -1, &cursor);
    bson_append_int64(&cursor, "id", -1, 77);
    bson_append_array_begin(&cursor, batch, -1, &list);
    if (bench->event && *batch == 'n') {
        parsed = bson_new_from_json((const uint8_t *)bench->event, -1, NULL);
        bson_append_document_begin(&list, "0", -1, &event);
        append_token(&event, "_id", bench->time);
        bson_append_timestamp(&event, "clusterTime", -1, SECONDS, bench->time);
        bson_concat(&event, parsed);
        bson_append_document_end(&list, &event);
        bson_destroy(parsed);
    }
    bson_append_array_end(&cursor, &list);
    append_token(&cursor, "postBatchResumeToken", bench->time);
    bson_append_document_end(reply, &cursor);
    bson_append_double(reply, "ok", -1, 1);
}

static void answer_time(bson_t *reply)
{
    BCON_APPEND(reply, "lastWrite", "{", "opTime", "{", "ts", BCON_TIMESTAMP(SECONDS, BARRIER), "}",
                "}", "cursor", "{", "id", BCON_INT64(0), "ns", "d.c", "firstBatch", "[", "]", "}",
                "$clusterTime", "{", "clusterTime", BCON_TIMESTAMP(SECONDS, BARRIER), "}", "ok",
                BCON_DOUBLE(1));
    bson_append_timestamp(reply, "operationTime", -1, SECONDS, BARRIER);
}

static bool serve(void *data, const char *database, const bson_t *command, bson_t *reply,
                  bson_error_t *error)
{
    bench_t *bench = data;

    if (bson_has_field(command, "aggregate")) {
        answer(bench, "firstBatch", reply);
        atomic_fetch_add(&bench->opened, 1);
        return true;
    }
    if (!bson_has_field(command, "getMore")) {
        answer_time(reply);
        atomic_fetch_add(&bench->pushed, bson_has_field(command, "listDatabases"));
        atomic_fetch_add(&bench->asked, 1);
        return true;
    }
    while (!atomic_load(&bench->left))
        if (tow_stop_wait(bench->stop, 1)) {
            bson_set_error(error, MONGOC_ERROR_STREAM, MONGOC_ERROR_STREAM_SOCKET, "closed");
            return true;
        }
    atomic_fetch_sub(&bench->left, 1);
    if (bench->code)
        bson_set_error(error, MONGOC_ERROR_SERVER, (uint32_t)bench->code, "scripted");
    else
        answer(bench, "nextBatch", reply);
    bench->code = 0;
    bench->event = NULL;
    atomic_fetch_add(&bench->given, 1);
    return true;
}

static void tell(bench_t *bench, const char *what, const char *collection)
{
    size_t length;

    pthread_mutex_lock(&bench->lock);
    length = strlen(bench->told);
    snprintf(bench->told + length, sizeof bench->told - length, "%s(%s) ", what, collection);
    pthread_mutex_unlock(&bench->lock);
}

static void take_key(void *data, const char *database, const char *collection, tow_value_t id)
{
    tell(data, "key", collection);
}

static void take_gone(void *data, const char *database, const char *collection)
{
    tell(data, "gone", collection);
}

static void take_gap(void *data, const char *why)
{
    tell(data, "gap", "");
}

static void begin(bench_t *bench, bool sharded)
{
    tow_watch_options_t options;
    tow_error_t error;

    *bench = (bench_t){.server = double_new("destination", false),
                       .filter = tow_filter_new(),
                       .stop = tow_stop_new(),
                       .time = 1};
    pthread_mutex_init(&bench->lock, NULL);
    double_link(bench->server)->facts.sharded = sharded;
    double_hook(bench->server, serve, bench);
    options = (tow_watch_options_t){.link = double_link(bench->server),
                                    .filter = bench->filter,
                                    .stop = bench->stop,
                                    .data = bench,
                                    .key = take_key,
                                    .gone = take_gone,
                                    .gap = take_gap};
    bench->watch = tow_watch_new(&options, NULL, &error);
    assert_non_null(bench->watch);
}

static void end(bench_t *bench)
{
    tow_stop_request(bench->stop, NULL);
    tow_watch_destroy(bench->watch);
    double_free(bench->server);
    tow_filter_destroy(bench->filter);
    tow_stop_destroy(bench->stop);
    pthread_mutex_destroy(&bench->lock);
}

static void expect_told(bench_t *bench, const char *told)
{
    int64_t until_ms = tow_now_ms() + WAIT_MS;
    bool same = false;

    while (!same && tow_now_ms() < until_ms) {
        pthread_mutex_lock(&bench->lock);
        same = !strcmp(bench->told, told);
        pthread_mutex_unlock(&bench->lock);
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    assert_string_equal(bench->told, told);
    bench->told[0] = '\0';
}

static void give(bench_t *bench, const char *event, int code, uint32_t time)
{
    uint32_t given = atomic_load(&bench->given);

    bench->event = event;
    bench->code = code;
    bench->time = time;
    atomic_store(&bench->left, 1);
    while (atomic_load(&bench->given) == given)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static void each_event_is_told_as_what_it_means(void **state)
{
    bench_t bench;

    begin(&bench, false);
    give(&bench,
         "{\"operationType\": \"insert\", \"ns\": {\"db\": \"d\", \"coll\": \"a\"}, "
         "\"documentKey\": {\"_id\": 1}}",
         0, 2);
    expect_told(&bench, "key(a) ");
    give(&bench, "{\"operationType\": \"drop\", \"ns\": {\"db\": \"d\", \"coll\": \"a\"}}", 0, 3);
    expect_told(&bench, "gone(a) ");
    give(&bench,
         "{\"operationType\": \"rename\", \"ns\": {\"db\": \"d\", \"coll\": \"a\"}, "
         "\"to\": {\"db\": \"d\", \"coll\": \"b\"}}",
         0, 4);
    expect_told(&bench, "gone(a) gone(b) ");
    give(&bench, "{\"operationType\": \"dropDatabase\", \"ns\": {\"db\": \"d\"}}", 0, 5);
    expect_told(&bench, "gone() ");
    give(&bench, "{\"operationType\": \"invalidate\"}", 0, 6);
    expect_told(&bench, "gap() ");
    end(&bench);
}

static void a_stream_that_begins_again_tells_of_a_gap(void **state)
{
    bench_t bench;

    begin(&bench, false);
    give(&bench, NULL, 43 /* CursorNotFound */, 2);
    give(&bench, NULL, 0, 3);
    assert_int_equal(bench.opened, 2);
    assert_string_equal(bench.told, ""); /* it goes on where it was */
    give(&bench, NULL, 286 /* ChangeStreamHistoryLost */, 4);
    expect_told(&bench, "gap() ");
    end(&bench);
}

typedef struct {
    bench_t *bench;
    tow_thread_t thread;
    bool passed;
} waiting_t;

static void *wait_for_all(void *data)
{
    waiting_t *waiting = data;

    waiting->passed = tow_watch_wait(waiting->bench->watch, 300);
    return NULL;
}

/* Whether it has heard of everything, when so many empty replies of a time come while it waits. */
static bool has_passed(bench_t *bench, uint32_t count, uint32_t time)
{
    waiting_t waiting = {.bench = bench};
    uint32_t asked = atomic_load(&bench->asked);
    tow_error_t error;

    assert_true(tow_thread_start(&waiting.thread, "wait", wait_for_all, &waiting, &error));
    while (atomic_load(&bench->asked) < asked + 2) /* on either kind at least two commands */
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    for (uint32_t i = 0; i < count; i++)
        give(bench, NULL, 0, time);
    tow_thread_join(&waiting.thread);
    return waiting.passed;
}

static void everything_was_told_beyond_the_barrier_or_at_the_end_of_an_oplog(void **state)
{
    for (int sharded = 0; sharded < 2; sharded++) {
        bench_t bench;

        begin(&bench, sharded);
        assert_false(has_passed(&bench, 3, BARRIER - 1));
        assert_false(has_passed(&bench, 1, BARRIER));
        assert_int_equal(has_passed(&bench, 3, BARRIER), !sharded); /* the first may be too early */
        assert_true(has_passed(&bench, 1, BARRIER + 1));
        assert_true(!sharded || bench.pushed > 3); /* idle shards would hold it back */
        end(&bench);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_event_is_told_as_what_it_means),
        cmocka_unit_test(a_stream_that_begins_again_tells_of_a_gap),
        cmocka_unit_test(everything_was_told_beyond_the_barrier_or_at_the_end_of_an_oplog),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
