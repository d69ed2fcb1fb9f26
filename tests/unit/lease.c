/* SPDX-License-Identifier: Apache-2.0 */
/* What a process finds of a job when it takes the lease over, and what it makes of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <mongoc/mongoc.h>

#include "double.h"
#include "engine/base/clock.h"
#include "engine/state/store_internal.h"

enum { MOST = 8 };

/* The job's document on the destination, as its parts. */
typedef struct {
    double_server_t *destination;
    tow_stop_t *stop;
    /* What is stored. */
    int64_t epoch, sessions[MOST];
    uint32_t session_count;
    bool held, begun, operation;
    const char *user;
    /* What the former holder does just before its lease is taken. */
    bool adds, begins;
    /* What was seen. */
    int64_t ended[MOST];
    uint32_t ended_count, late;
    /* A sharded destination. */
    uint32_t spread, shards, draining; /* shards with marks, and of config.shards: all, draining */
    bool unlisted;                     /* which may not be read */
    char inserted[40];                 /* the collection of the last insert */
    bool limits;                       /* the lease has run out when the first session was noted */
    uint32_t written;
} bench_t;

static void append_session(bson_t *list, uint32_t place, int64_t session)
{
    char buffer[16];
    const char *key;
    bson_t item;

    bson_uint32_to_string(place, &key, buffer, sizeof buffer);
    bson_append_document_begin(list, key, -1, &item);
    bson_append_int64(&item, "id", -1, session);
    bson_append_document_end(list, &item);
}

static void append_job(const bench_t *bench, bson_t *out)
{
    bson_t part;

    bson_append_utf8(out, "_id", -1, "job", -1);
    bson_append_int32(out, "format", -1, TOW_STATE_FORMAT);
    bson_append_int64(out, "epoch", -1, bench->epoch);
    bson_append_utf8(out, "user", -1, bench->user, -1);
    bson_append_utf8(out, "source", -1, "a/1", -1);
    bson_append_utf8(out, "destination", -1, "b/2", -1);
    bson_append_utf8(out, "filter", -1, "", -1);
    if (bench->begun)
        bson_append_bool(out, "begun", -1, true);
    if (bench->held) {
        bson_append_document_begin(out, "lease", -1, &part);
        bson_append_utf8(&part, "holder", -1, "former", -1);
        bson_append_int64(&part, "expires", -1, 1);
        bson_append_document_end(out, &part);
    }
    bson_append_array_begin(out, "sessions", -1, &part);
    for (uint32_t i = 0; i < bench->session_count; i++)
        append_session(&part, i, bench->sessions[i]);
    bson_append_array_end(out, &part);
    if (bench->operation)
        BCON_APPEND(out, "operations", "{", "o0", "{", "what", "drop", "namespace", "d.a", "}",
                    "}");
}

static void answer_find(const bench_t *bench, bson_t *reply)
{
    bson_t cursor, batch, document;

    bson_append_document_begin(reply, "cursor", -1, &cursor);
    bson_append_int64(&cursor, "id", -1, 0);
    bson_append_utf8(&cursor, "ns", -1, "towline_x.job", -1);
    bson_append_array_begin(&cursor, "firstBatch", -1, &batch);
    bson_append_document_begin(&batch, "0", -1, &document);
    append_job(bench, &document);
    bson_append_document_end(&batch, &document);
    bson_append_array_end(&cursor, &batch);
    bson_append_document_end(reply, &cursor);
}

static bool at(const bson_t *command, const char *path, bson_iter_t *out)
{
    bson_iter_t iter;

    return bson_iter_init(&iter, command) && bson_iter_find_descendant(&iter, path, out);
}

/* The former holder may write until the lease is taken; how many the filter finds. */
static int take(bench_t *bench, const bson_t *command)
{
    bson_iter_t iter;

    if (bench->adds) {
        bench->sessions[bench->session_count++] = 2;
        bench->operation = true;
        bench->adds = false;
    }
    if (bench->begins) {
        bench->begun = true;
        bench->begins = false;
    }
    if (at(command, "updates.0.q.begun", &iter) && bench->begun)
        return 0;
    bench->epoch++;
    bench->held = true;
    return 1;
}

static int update(bench_t *bench, const bson_t *command)
{
    bson_iter_t iter, list;

    if (at(command, "updates.0.u.0.$set.lease", &iter))
        return take(bench, command);
    if (at(command, "updates.0.u.$pull.sessions.id", &iter))
        bench->ended[bench->ended_count++] = bson_iter_int64(&iter);
    if (at(command, "updates.0.u.$push.late.$each", &iter) && bson_iter_recurse(&iter, &list))
        while (bson_iter_next(&list))
            bench->late++;
    if (at(command, "updates.0.u.$addToSet.sessions", &iter) && bench->limits)
        tow_link_limit_writes(double_link(bench->destination), 1);
    return 1;
}

static bool answer(void *data, const char *database, const bson_t *command, bson_t *reply,
                   bson_error_t *error)
{
    bench_t *bench = data;

    bson_init(reply);
    if (bson_has_field(command, "isMaster")) {
        bson_append_date_time(reply, "localTime", -1, tow_wall_ms());
    } else if (bson_has_field(command, "connectionStatus")) {
        BCON_APPEND(reply, "authInfo", "{", "authenticatedUsers", "[", "{", "user", "u", "db",
                    "admin", "}", "]", "}");
    } else if (bson_has_field(command, "find")) {
        answer_find(bench, reply);
    } else if (bson_has_field(command, "update")) {
        int count = update(bench, command);

        bson_append_int32(reply, "n", -1, count);
        bson_append_int32(reply, "nModified", -1, count);
    } else {
        bench->written++;
        bson_append_int32(reply, "n", -1, 1);
    }
    bson_append_double(reply, "ok", -1, 1);
    return true;
}

static void append_batch(bson_t *reply, uint32_t count, uint32_t draining)
{
    bson_t cursor, batch, document;

    bson_append_document_begin(reply, "cursor", -1, &cursor);
    bson_append_int64(&cursor, "id", -1, 0);
    bson_append_utf8(&cursor, "ns", -1, "towline_x.fence", -1);
    bson_append_array_begin(&cursor, "firstBatch", -1, &batch);
    for (uint32_t i = 0; i < count; i++) {
        char buffer[16];
        const char *key;

        bson_uint32_to_string(i, &key, buffer, sizeof buffer);
        bson_append_document_begin(&batch, key, -1, &document);
        bson_append_utf8(&document, "_id", -1, "shard", -1);
        bson_append_int32(&document, "count", -1, 5);
        bson_append_bool(&document, "draining", -1, i < draining);
        bson_append_document_end(&batch, &document);
    }
    bson_append_array_end(&cursor, &batch);
    bson_append_document_end(reply, &cursor);
}

/* What a mongos answers; the rest is the job's document. */
static bool answer_cluster(void *data, const char *database, const bson_t *command, bson_t *reply,
                           bson_error_t *error)
{
    bench_t *bench = data;
    bson_iter_t iter, list;
    int count = 0;

    if (bson_has_field(command, "aggregate")) {
        append_batch(reply, bench->spread, 0);
    } else if (!strcmp(database, "config") && bench->unlisted) {
        bson_append_double(reply, "ok", -1, 0);
        bson_append_int32(reply, "code", -1, 13);
        bson_set_error(error, MONGOC_ERROR_SERVER, 13, "not authorized");
        return true;
    } else if (!strcmp(database, "config")) {
        append_batch(reply, bench->shards, bench->draining);
    } else if (bson_iter_init_find(&iter, command, "insert")) {
        snprintf(bench->inserted, sizeof bench->inserted, "%s", bson_iter_utf8(&iter, NULL));
        if (bson_iter_init_find(&iter, command, "documents") && bson_iter_recurse(&iter, &list))
            while (bson_iter_next(&list))
                count++;
        bson_append_int32(reply, "n", -1, count);
    } else {
        return answer(data, database, command, reply, error);
    }
    bson_append_double(reply, "ok", -1, 1);
    return true;
}

static bool spread(bench_t *bench, tow_error_t *error)
{
    tow_store_t store = {.options.destination = double_link(bench->destination),
                         .database = (char *)"towline_x"};
    tow_marks_t marks;
    bool ok;

    pthread_mutex_init(&store.lock, NULL);
    store.conn = tow_conn_open(store.options.destination);
    ok = tow_marks_spread(&store, &marks, error);
    tow_conn_close(store.conn);
    pthread_mutex_destroy(&store.lock);
    return ok;
}

/* A process that did not give its lease back, and named one session. */
static void begin(bench_t *bench)
{
    *bench = (bench_t){.destination = double_new("destination", false),
                       .stop = tow_stop_new(),
                       .epoch = 4,
                       .sessions = {1},
                       .session_count = 1,
                       .held = true,
                       .begun = true,
                       .user = "u@admin"};
    double_hook(bench->destination, answer, bench);
}

static void end(bench_t *bench)
{
    tow_link_limit_writes(double_link(bench->destination), 0);
    tow_stop_destroy(bench->stop);
    double_free(bench->destination);
}

static tow_store_t *take_over(bench_t *bench, const char *source, bool *out_resumed,
                              tow_error_t *error)
{
    tow_store_options_t options = {.destination = double_link(bench->destination),
                                   .job = "x",
                                   .settings = {source, "b/2", ""},
                                   .lease_ms = 600000,
                                   .wait = true,
                                   .stop = bench->stop};

    return tow_store_open(&options, out_resumed, error);
}

/* What is named between the look and the taking is ended and kept like the rest. */
static void what_is_named_until_the_lease_is_taken_is_ended(void **state)
{
    bool resumed = false;
    tow_store_t *store;
    tow_error_t error;
    bench_t bench;

    begin(&bench);
    bench.adds = true;
    store = take_over(&bench, "a/1", &resumed, &error);
    if (!store)
        fail_msg("%s", error.message);
    assert_true(resumed);
    assert_int_equal(bench.ended_count, 2);
    assert_int_equal(bench.ended[0], 1);
    assert_int_equal(bench.ended[1], 2);
    assert_int_equal(bench.late, 1);
    tow_store_destroy(store);
    end(&bench);
}

/* A job that its holder begins between the look and the taking keeps its settings. */
static void what_is_begun_until_the_lease_is_taken_keeps_its_settings(void **state)
{
    tow_error_t error;
    bench_t bench;
    bool resumed;

    begin(&bench);
    bench.begun = false;
    bench.begins = true;
    assert_null(take_over(&bench, "c/3", &resumed, &error));
    assert_int_equal(error.code, TOW_ERROR_SETTINGS);
    assert_int_equal(bench.epoch, 4);
    end(&bench);
}

/* Nor is the lease taken from another user who may name a session until then. */
static void another_users_lease_is_not_taken(void **state)
{
    tow_error_t error;
    bench_t bench;
    bool resumed;

    begin(&bench);
    bench.user = "v@admin";
    bench.session_count = 0;
    assert_null(take_over(&bench, "a/1", &resumed, &error));
    assert_int_equal(error.code, TOW_ERROR_SETTINGS);
    assert_int_equal(bench.epoch, 4);
    end(&bench);
}

/* The time may be over once the session of a first write is noted. */
static void the_lease_is_looked_at_after_a_session_is_noted(void **state)
{
    tow_send_options_t send = {.flags = TOW_SEND_WRITE | TOW_SEND_ONCE};
    bson_t *command =
        BCON_NEW("insert", "a", "documents", "[", "{", "_id", BCON_INT32(1), "}", "]");
    tow_store_t *store;
    tow_error_t error;
    tow_conn_t *conn;
    bench_t bench;
    bson_t reply;
    bool resumed;

    begin(&bench);
    store = take_over(&bench, "a/1", &resumed, &error);
    assert_non_null(store);
    conn = tow_conn_open(double_link(bench.destination));
    bench.limits = true;
    tow_stop_request(bench.stop, NULL); /* it would wait for the renewal */
    double_stop(bench.destination, bench.stop);
    assert_false(tow_conn_command(conn, "d", command, &send, &reply, &error));
    assert_int_equal(bench.written, 0);
    bson_destroy(&reply);
    bson_destroy(command);
    tow_conn_close(conn);
    tow_store_destroy(store);
    end(&bench);
}

/* A shard without a mark keeps the old numbers; that none is named is no proof that
 * all have one. */
static void a_fence_is_on_every_shard(void **state)
{
    tow_error_t error;
    bench_t bench;

    begin(&bench);
    double_hook(bench.destination, answer_cluster, &bench);
    bench.shards = 2;
    assert_false(spread(&bench, &error));
    bench.spread = 1;
    assert_false(spread(&bench, &error));
    bench.draining = 1; /* where a server may place nothing */
    assert_true(spread(&bench, &error));
    bench.draining = 0;
    bench.spread = 2;
    assert_true(spread(&bench, &error));
    bench.unlisted = true;
    assert_true(spread(&bench, &error));
    bench.spread = 0;
    assert_false(spread(&bench, &error));
    end(&bench);
}

/* What an earlier one could not drop, or a drop that arrives late, meets no later one. */
static void a_fence_has_a_name_to_itself(void **state)
{
    char first[40];
    tow_error_t error;
    bench_t bench;

    begin(&bench);
    double_hook(bench.destination, answer_cluster, &bench);
    bench.shards = bench.spread = 1;
    assert_true(spread(&bench, &error));
    snprintf(first, sizeof first, "%s", bench.inserted);
    assert_true(spread(&bench, &error));
    assert_memory_equal(first, "fence_", 6);
    assert_string_not_equal(first, bench.inserted);
    end(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_named_until_the_lease_is_taken_is_ended),
        cmocka_unit_test(what_is_begun_until_the_lease_is_taken_keeps_its_settings),
        cmocka_unit_test(another_users_lease_is_not_taken),
        cmocka_unit_test(the_lease_is_looked_at_after_a_session_is_noted),
        cmocka_unit_test(a_fence_is_on_every_shard),
        cmocka_unit_test(a_fence_has_a_name_to_itself),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
