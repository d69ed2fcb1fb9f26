/* SPDX-License-Identifier: Apache-2.0 */
/* Whose the job is: what a process asks of the destination before it writes, and what it may not
 * send. The destination's answers are the test's; each command is told by one word. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <mongoc/mongoc.h>

#include "double.h"
#include "engine/base/clock.h"
#include "engine/link/internal.h"
#include "engine/state/store_internal.h"
#include "engine/state/write.h"

#define IDENTITY "set id=65f1c0ffee65f1c0ffee65f1 hosts=h1:27017 name=rs0"

enum { LEASE_MS = 60000 };

typedef struct {
    double_server_t *destination;
    tow_stop_t *stop;
    _Atomic(tow_store_t *) store;
    bool resumed;
    const char *identity; /* of the destination */
    const char *user, *filter;
    int64_t lease_ms;
    bson_t *job;            /* what the destination has of the job; NULL: nothing */
    pthread_mutex_t lock;   /* guards what follows */
    char words[2000];       /* of the commands, without renewals */
    char taken[2000];       /* the command that took the lease, as JSON */
    const char *refused;    /* the word of an update that matches nothing */
    bool cleared;           /* another job marks it as soon as it is taken */
    const char *lost;       /* of the next command whose answer is lost */
    int64_t renewal_ms;     /* when the first renewal came, by the holder's clock; 0: none */
    int64_t slow_ms;        /* how long renewals take */
    bool slow_take;         /* taking it takes a while */
    int64_t take_ms;        /* when the request came to take it */
    int64_t number, newest; /* of the first fenced session; of the last numbered write */
    uint32_t unguarded;     /* updates of the job's document that do not ask whose it is */
} bench_t;

/* The destination -------------------------------------------------------------------------------*/

static bool has(const bson_t *document, const char *path)
{
    bson_iter_t iter, found;

    return bson_iter_init(&iter, document) && bson_iter_find_descendant(&iter, path, &found);
}

static const char *word_of_update(const bson_t *command)
{
    static const char *const words[][2] = {
        {"updates.0.u.0.$set.lease.holder", "take"}, {"updates.0.u.0.$set.lease.expires", "renew"},
        {"updates.0.u.$pull.sessions", "fence"},     {"updates.0.u.$addToSet.sessions", "name"},
        {"updates.0.u.$push.late", "late"},          {"updates.0.u.$inc.outnumbered", "outnumber"},
        {"updates.0.u.$set.removing", "mark"},       {"updates.0.u.$unset.lease", "release"}};
    bson_iter_t iter, child;

    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (has(command, words[i][0]))
            return words[i][1];
    if (bson_iter_init(&iter, command) &&
        bson_iter_find_descendant(&iter, "updates.0.u.0.$set", &child) &&
        bson_iter_recurse(&child, &iter) && bson_iter_next(&iter) &&
        !strcmp(bson_iter_key(&iter), "lease.expires"))
        return "renew";
    if (bson_iter_init(&iter, command) &&
        (bson_iter_find_descendant(&iter, "updates.0.u.$set", &child) ||
         (bson_iter_init(&iter, command) &&
          bson_iter_find_descendant(&iter, "updates.0.u.$unset", &child))) &&
        bson_iter_recurse(&child, &iter) && bson_iter_next(&iter) &&
        !strncmp(bson_iter_key(&iter), "operations.", 11))
        return has(command, "updates.0.u.$set") ? "announce" : "forget";
    return "update";
}

static const char *word_of(const bson_t *command)
{
    bson_iter_t iter;

    bson_iter_init(&iter, command);
    bson_iter_next(&iter);
    return strcmp(bson_iter_key(&iter), "update") ? bson_iter_key(&iter) : word_of_update(command);
}

static int64_t number_of(const bson_t *command)
{
    bson_iter_t iter;

    return bson_iter_init_find(&iter, command, "txnNumber") ? bson_iter_as_int64(&iter) : 0;
}

static void answer_find(const bench_t *bench, bson_t *reply)
{
    bson_t cursor, batch;

    bson_append_document_begin(reply, "cursor", -1, &cursor);
    bson_append_int64(&cursor, "id", -1, 0);
    bson_append_utf8(&cursor, "ns", -1, "towline_unit.job", -1);
    bson_append_array_begin(&cursor, "firstBatch", -1, &batch);
    if (bench->job)
        bson_append_document(&batch, "0", -1, bench->job);
    bson_append_array_end(&cursor, &batch);
    bson_append_document_end(reply, &cursor);
}

static void answer_status(const bench_t *bench, bson_t *reply)
{
    BCON_APPEND(reply, "authInfo", "{", "authenticatedUsers", "[", "{", "user",
                BCON_UTF8(bench->user), "db", "admin", "}", "]", "}");
}

/* {_id: "job", "lease.holder": ours, epoch: ours} */
static bool asks_whose(const bench_t *bench, const bson_t *command)
{
    bson_iter_t iter, query, field;

    return bson_iter_init(&iter, command) &&
           bson_iter_find_descendant(&iter, "updates.0.q", &query) &&
           bson_iter_recurse(&query, &iter) && bson_iter_find(&iter, "lease.holder") &&
           bson_iter_recurse(&query, &field) && bson_iter_find(&field, "epoch") &&
           (!bench->store || (!strcmp(bson_iter_utf8(&iter, NULL), bench->store->holder) &&
                              bson_iter_as_int64(&field) == bench->store->epoch));
}

/* Notes the command; whether its answer is lost. The lock is held. */
static bool note(bench_t *bench, const bson_t *command, const char *word)
{
    char *json;

    if (number_of(command))
        bench->newest = number_of(command);
    if (!strcmp(word, "fence") && !bench->number)
        bench->number = number_of(command);
    if (!strcmp(word, "take")) {
        json = bson_as_relaxed_extended_json(command, NULL);
        snprintf(bench->taken, sizeof bench->taken, "%s", json);
        bench->take_ms = tow_boot_ms();
        bson_free(json);
        if (bench->cleared)
            BSON_APPEND_UTF8(bench->job, "clearedBy", "towline_other");
    } else if (!strcmp(word, "renew")) {
        if (!bench->renewal_ms)
            bench->renewal_ms = tow_boot_ms();
    }
    if (has(command, "updates.0.q") && strcmp(word, "take"))
        bench->unguarded += !asks_whose(bench, command);
    if (strcmp(word, "renew") && strcmp(word, "connectionStatus") && strcmp(word, "isMaster"))
        snprintf(bench->words + strlen(bench->words), sizeof bench->words - strlen(bench->words),
                 "%s ", word);
    if (!bench->lost || strcmp(bench->lost, word))
        return false;
    bench->lost = NULL;
    return true;
}

static bool serve(void *data, const char *database, const bson_t *command, bson_t *reply,
                  bson_error_t *error)
{
    bench_t *bench = data;
    const char *word = word_of(command);
    int64_t slow_ms;
    bool lost, matches;

    pthread_mutex_lock(&bench->lock);
    lost = note(bench, command, word);
    matches = !bench->refused || strcmp(bench->refused, word);
    slow_ms = !strcmp(word, "renew")                      ? bench->slow_ms
              : bench->slow_take && !strcmp(word, "take") ? 100
                                                          : 0;
    if (!strcmp(word, "find"))
        answer_find(bench, reply);
    else if (!strcmp(word, "connectionStatus"))
        answer_status(bench, reply);
    pthread_mutex_unlock(&bench->lock);
    nanosleep(&(struct timespec){.tv_nsec = slow_ms * 1000000}, NULL);
    if (lost) {
        bson_set_error(error, MONGOC_ERROR_STREAM, MONGOC_ERROR_STREAM_SOCKET, "lost");
        return true;
    }
    if (!strcmp(word, "isMaster"))
        bson_append_date_time(reply, "localTime", -1, 1000);
    bson_append_int32(reply, "n", -1, matches);
    bson_append_double(reply, "ok", -1, 1);
    return true;
}

static void begin(bench_t *bench)
{
    *bench = (bench_t){.destination = double_new("destination", false),
                       .stop = tow_stop_new(),
                       .user = "u",
                       .filter = "",
                       .identity = IDENTITY,
                       .lease_ms = LEASE_MS};
    pthread_mutex_init(&bench->lock, NULL);
    double_hook(bench->destination, serve, bench);
}

static bool open_store(bench_t *bench, tow_error_t *error)
{
    tow_store_options_t options = {.destination = double_link(bench->destination),
                                   .job = "unit",
                                   .settings = {IDENTITY, bench->identity, bench->filter},
                                   .lease_ms = bench->lease_ms,
                                   .stop = bench->stop};

    bench->store = tow_store_open(&options, &bench->resumed, error);
    return bench->store != NULL;
}

static void end(bench_t *bench)
{
    tow_store_destroy(bench->store);
    double_free(bench->destination);
    tow_stop_destroy(bench->stop);
    pthread_mutex_destroy(&bench->lock);
    if (bench->job)
        bson_destroy(bench->job);
}

static void expect_words(bench_t *bench, const char *words)
{
    pthread_mutex_lock(&bench->lock);
    assert_string_equal(bench->words, words);
    bench->words[0] = '\0';
    pthread_mutex_unlock(&bench->lock);
}

/* A job that another process began, with two sessions and a drop that may be under way. */
static bson_t *left_behind(const char *holder)
{
    return BCON_NEW("_id", "job", "format", BCON_INT32(TOW_STATE_FORMAT), "epoch", BCON_INT64(3),
                    "user", "u@admin", "source", IDENTITY, "destination", IDENTITY, "filter", "",
                    "begun", BCON_BOOL(true), "lease", "{", "holder", BCON_UTF8(holder), "host",
                    "there", "expires", BCON_DATE_TIME(500), "}", "sessions", "[", "{", "id",
                    BCON_INT64(11), "}", "{", "id", BCON_INT64(12), "}", "]", "operations", "{",
                    "o0", "{", "what", "drop", "namespace", "d.a", "}", "}");
}

static void begin_held(bench_t *bench)
{
    tow_error_t error;

    begin(bench);
    bench->job = left_behind("before");
    if (!open_store(bench, &error))
        fail_msg("%s", error.message);
    expect_words(bench, "find take find fence fence name late ");
}

/* Taking ----------------------------------------------------------------------------------------*/

static void a_takeover_ends_what_is_under_way_first(void **state)
{
    bench_t bench;

    begin_held(&bench);
    assert_true(bench.resumed);
    assert_true(bench.number == INT64_MAX);
    assert_int_equal(bench.unguarded, 0);
    assert_int_equal(bench.store->epoch, 4);
    end(&bench);
}

/* Of two that try, one finds another epoch; and the destination's clock alone says that a lease is
 * over. */
static void a_lease_is_taken_by_one_guarded_update(void **state)
{
    static const char *const parts[] = {
        "\"_id\" : \"job\"", "\"epoch\" : 3, \"lease.holder\" : \"before\"",
        "\"$expr\" : { \"$lte\" : [ { \"$toLong\" : \"$lease.expires\" }, "
        "{ \"$toLong\" : \"$$NOW\" } ] }",
        "\"epoch\" : 4"};
    bench_t bench;

    begin_held(&bench);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (!strstr(bench.taken, parts[i]))
            fail_msg("no %s in %s", parts[i], bench.taken);
    end(&bench);
}

static void a_lease_that_has_not_run_out_is_not_taken(void **state)
{
    bench_t bench;
    tow_error_t error;

    begin(&bench);
    bench.job = left_behind("before");
    bench.refused = "take";
    assert_false(open_store(&bench, &error));
    assert_int_equal(error.code, TOW_ERROR_LEASE);
    expect_words(&bench, "find take ");
    end(&bench);
}

static void other_settings_and_other_users_take_nothing(void **state)
{
    for (int i = 0; i < 3; i++) {
        bench_t bench;
        tow_error_t error;

        begin(&bench);
        bench.job = left_behind("before");
        if (i == 2) /* the same hosts, as far as they can tell */
            bench.identity = "standalone id=- hosts=h1:27017 name=";
        else
            *(i ? &bench.user : &bench.filter) = "other";
        assert_false(open_store(&bench, &error));
        assert_int_equal(error.code, TOW_ERROR_SETTINGS);
        expect_words(&bench, "find ");
        end(&bench);
    }
}

/* What another job cleared while nobody held it, before the first look or after it. */
static void a_job_that_was_cleared_does_not_go_on(void **state)
{
    for (int i = 0; i < 2; i++) {
        bench_t bench;
        tow_error_t error;

        begin(&bench);
        bench.job = left_behind("before");
        bench.cleared = i;
        if (!i)
            BSON_APPEND_UTF8(bench.job, "clearedBy", "towline_other");
        assert_false(open_store(&bench, &error));
        assert_int_equal(error.code, TOW_ERROR_CONFLICT);
        assert_non_null(strstr(error.message, "towline_other"));
        expect_words(&bench, i ? "find take find release " : "find ");
        end(&bench);
    }
}

/* Keeping ---------------------------------------------------------------------------------------*/

static int64_t limit_of(bench_t *bench)
{
    return atomic_load(&double_link(bench->destination)->writes_until_ms);
}

/* The server counts from when it has the request, we from before it was sent, and a tenth less. */
static void a_renewal_counts_from_before_it_was_sent(void **state)
{
    bench_t bench;
    tow_error_t error;
    int64_t first, limit;

    begin(&bench);
    bench.lease_ms = 1000;
    bench.slow_ms = 100;
    bench.job = left_behind("before");
    assert_true(open_store(&bench, &error));
    first = limit_of(&bench);
    while ((limit = limit_of(&bench)) == first)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    assert_true(limit <= bench.renewal_ms + 900);
    assert_true(tow_store_lease_valid(bench.store));
    end(&bench);
}

/* So does the first, which the takeover brings. */
static void a_lease_counts_from_before_it_was_taken(void **state)
{
    bench_t bench;
    tow_error_t error;

    begin(&bench);
    bench.slow_take = true;
    bench.job = left_behind("before");
    assert_true(open_store(&bench, &error));
    assert_true(limit_of(&bench) <= bench.take_ms + LEASE_MS - LEASE_MS / 10);
    end(&bench);
}

static void await_stop(bench_t *bench)
{
    tow_error_t error;

    assert_true(tow_stop_wait(bench->stop, 20000));
    assert_true(tow_stop_error(bench->stop, &error));
    assert_int_equal(error.code, TOW_ERROR_LEASE);
}

static void who_lost_the_lease_writes_nothing_more(void **state)
{
    bench_t bench;
    tow_error_t error;
    tow_conn_t *conn;
    bson_t document = BSON_INITIALIZER, reply;
    const bson_t *documents[] = {&document};

    begin(&bench);
    bench.lease_ms = 500;
    bench.job = left_behind("before");
    assert_true(open_store(&bench, &error));
    pthread_mutex_lock(&bench.lock);
    bench.refused = "renew";
    pthread_mutex_unlock(&bench.lock);
    await_stop(&bench);
    assert_true(limit_of(&bench) && limit_of(&bench) < tow_boot_ms());
    pthread_mutex_lock(&bench.lock);
    bench.words[0] = '\0';
    pthread_mutex_unlock(&bench.lock);
    double_stop(bench.destination, bench.stop);
    conn = tow_conn_open(double_link(bench.destination));
    assert_false(tow_conn_insert(conn, "d", "a", documents, 1, false, &reply, &error));
    bson_destroy(&reply);
    assert_false(tow_collection_drop(conn, "d", "a", &error));
    expect_words(&bench, "announce "); /* of which the destination decides */
    tow_conn_close(conn);
    bson_destroy(&document);
    end(&bench);
}

/* The server refuses what is older than the successor's number. */
static bool refuse_as_too_old(void *data, const char *database, const bson_t *command,
                              bson_t *reply, bson_error_t *error)
{
    if (!bson_has_field(command, "delete"))
        return serve(data, database, command, reply, error);
    BCON_APPEND(reply, "ok", BCON_DOUBLE(0), "code", BCON_INT32(225));
    bson_set_error(error, MONGOC_ERROR_SERVER, 225, "too old");
    return true;
}

static void a_fenced_write_says_that_the_job_is_lost(void **state)
{
    tow_send_options_t send = {.flags = TOW_SEND_WRITE | TOW_SEND_ONCE};
    bson_t *command = BCON_NEW("delete", "a", "deletes", "[", "{", "q", "{", "}", "limit",
                               BCON_INT32(1), "}", "]"),
           reply;
    bench_t bench;
    tow_error_t error;
    tow_conn_t *conn;

    begin_held(&bench);
    double_hook(bench.destination, refuse_as_too_old, &bench);
    conn = tow_conn_open(double_link(bench.destination));
    assert_false(tow_conn_command(conn, "d", command, &send, &reply, &error));
    assert_int_equal(error.code, TOW_ERROR_LEASE);
    bson_destroy(&reply);
    bson_destroy(command);
    tow_conn_close(conn);
    end(&bench);
}

/* Writing ---------------------------------------------------------------------------------------*/

static void insert_one(tow_conn_t *conn)
{
    bson_t *document = BCON_NEW("_id", BCON_INT32(1)), reply;
    const bson_t *documents[] = {document};
    tow_error_t error;

    if (!tow_conn_insert(conn, "d", "a", documents, 1, false, &reply, &error))
        fail_msg("%s", error.message);
    bson_destroy(&reply);
    bson_destroy(document);
}

static void drop_one(tow_conn_t *conn)
{
    tow_error_t error;

    if (!tow_collection_drop(conn, "d", "a", &error))
        fail_msg("%s", error.message);
}

static void a_session_is_named_before_its_first_write(void **state)
{
    bench_t bench;
    tow_conn_t *conn;

    begin_held(&bench);
    conn = tow_conn_open(double_link(bench.destination));
    insert_one(conn);
    insert_one(conn);
    expect_words(&bench, "name insert insert ");
    tow_conn_close(conn);
    end(&bench);
}

/* Whoever comes next has to know of it for as long as it may arrive. */
static void a_drop_is_announced_and_forgotten_once_answered(void **state)
{
    bench_t bench;
    tow_error_t error;
    tow_conn_t *conn;

    begin_held(&bench);
    conn = tow_conn_open(double_link(bench.destination));
    drop_one(conn);
    expect_words(&bench, "announce drop forget ");
    bench.lost = "drop";
    drop_one(conn);
    expect_words(&bench, "announce drop drop ");
    bench.refused = "announce";
    assert_false(tow_collection_drop(conn, "d", "a", &error));
    assert_int_equal(error.code, TOW_ERROR_LEASE);
    expect_words(&bench, "announce find ");
    tow_conn_close(conn);
    end(&bench);
}

/* Its first sending may still arrive: a newer number of the session keeps it out. */
static void what_was_sent_twice_is_outnumbered_once(void **state)
{
    bench_t bench;
    tow_error_t error;
    tow_conn_t *conn;
    int64_t number;

    begin_held(&bench);
    conn = tow_conn_open(double_link(bench.destination));
    insert_one(conn);
    assert_true(tow_conn_settle(conn, &error));
    expect_words(&bench, "name insert ");
    bench.lost = "insert";
    insert_one(conn);
    number = bench.newest;
    assert_true(tow_conn_settle(conn, &error));
    assert_true(tow_conn_settle(conn, &error));
    expect_words(&bench, "insert insert outnumber ");
    assert_true(bench.newest > number);
    assert_int_equal(bench.unguarded, 0);
    tow_conn_close(conn);
    end(&bench);
}

/* Ending ----------------------------------------------------------------------------------------*/

static void the_state_is_marked_before_it_is_removed(void **state)
{
    bench_t bench;
    tow_error_t error;

    begin_held(&bench);
    assert_true(tow_store_drop(bench.store, &error));
    expect_words(&bench, "mark dropDatabase ");
    end(&bench);
    begin_held(&bench);
    bench.refused = "mark";
    assert_false(tow_store_drop(bench.store, &error));
    assert_int_equal(error.code, TOW_ERROR_LEASE);
    expect_words(&bench, "mark find ");
    end(&bench);
}

static void the_state_is_not_removed_when_the_lease_is_over(void **state)
{
    bench_t bench;
    tow_error_t error;

    begin_held(&bench);
    atomic_store(&bench.store->renewed_ms, tow_boot_ms() - LEASE_MS + LEASE_MS / 10);
    assert_false(tow_store_lease_valid(bench.store));
    assert_false(tow_store_drop(bench.store, &error));
    assert_int_equal(error.code, TOW_ERROR_LEASE);
    expect_words(&bench, "mark ");
    end(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_takeover_ends_what_is_under_way_first),
        cmocka_unit_test(a_lease_is_taken_by_one_guarded_update),
        cmocka_unit_test(a_lease_that_has_not_run_out_is_not_taken),
        cmocka_unit_test(other_settings_and_other_users_take_nothing),
        cmocka_unit_test(a_job_that_was_cleared_does_not_go_on),
        cmocka_unit_test(a_renewal_counts_from_before_it_was_sent),
        cmocka_unit_test(a_lease_counts_from_before_it_was_taken),
        cmocka_unit_test(who_lost_the_lease_writes_nothing_more),
        cmocka_unit_test(a_fenced_write_says_that_the_job_is_lost),
        cmocka_unit_test(a_session_is_named_before_its_first_write),
        cmocka_unit_test(a_drop_is_announced_and_forgotten_once_answered),
        cmocka_unit_test(what_was_sent_twice_is_outnumbered_once),
        cmocka_unit_test(the_state_is_marked_before_it_is_removed),
        cmocka_unit_test(the_state_is_not_removed_when_the_lease_is_over),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
