/* What a process finds of a job when it takes the lease over, and what it makes of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

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
    bool limits; /* the lease has run out when the first session was noted */
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
        BCON_APPEND(out, "operations", "{", "o0", "{", "what", "drop", "namespace", "d.a", "}", "}");
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
    bson_t *command = BCON_NEW("insert", "a", "documents", "[", "{", "_id", BCON_INT32(1), "}", "]");
    tow_store_t *store;
    tow_error_t error;
    tow_conn_t *conn;
    bench_t bench;
    bson_t reply;
    bool resumed;

    begin(&bench);
    store = take_over(&bench, "a/1", &resumed, &error);
    assert_non_null(store);
    conn = tow_conn_open(double_link(bench.destination), &error);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_named_until_the_lease_is_taken_is_ended),
        cmocka_unit_test(what_is_begun_until_the_lease_is_taken_keeps_its_settings),
        cmocka_unit_test(another_users_lease_is_not_taken),
        cmocka_unit_test(the_lease_is_looked_at_after_a_session_is_noted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
