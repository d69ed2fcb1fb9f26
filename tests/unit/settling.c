/* SPDX-License-Identifier: Apache-2.0 */
/* When everything up to a barrier is on the destination, as the cutover concludes it from
 * positions: of a stream whose replies are the test's, over a ledger without events. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <mongoc/mongoc.h>

#include "copy/internal.h"
#include "double.h"
#include "engine/base/clock.h"
#include "engine/job/internal.h"
#include "engine/link/internal.h"

#define SECONDS 1500000000U /* tokens of earlier times are no KeyStrings */

enum { BARRIER = 10, WAIT_MS = 10000 };

typedef struct {
    char folder[64];
    double_server_t *source;
    tow_filter_t *filter;
    tow_job_t job;
    bool opaque;
    atomic_uint asked, time, left; /* left: replies that may still be given; time: of their token */
} bench_t;

static void append_token(const bench_t *bench, bson_t *out, uint32_t time)
{
    char text[40];

    snprintf(text, sizeof text, "82%08X%08X2B0229296E04", SECONDS, time);
    if (bench->opaque)
        bson_append_int64(out, "_data", -1, time);
    else
        bson_append_utf8(out, "_data", -1, text, -1);
}

static void answer(bench_t *bench, const char *batch, uint32_t time, bson_t *reply)
{
    bson_t cursor, child;

    bson_append_document_begin(reply, "cursor", -1, &cursor);
    bson_append_int64(&cursor, "id", -1, 77);
    bson_append_array_begin(&cursor, batch, -1, &child);
    bson_append_array_end(&cursor, &child);
    bson_append_document_begin(&cursor, "postBatchResumeToken", -1, &child);
    append_token(bench, &child, time);
    bson_append_document_end(&cursor, &child);
    bson_append_document_end(reply, &cursor);
    bson_append_timestamp(reply, "operationTime", -1, SECONDS, time);
    bson_append_double(reply, "ok", -1, 1);
}

/* Empty replies alone, so many as the test lets it give. */
static bool serve(void *data, const char *database, const bson_t *command, bson_t *reply,
                  bson_error_t *error)
{
    bench_t *bench = data;

    if (bson_has_field(command, "aggregate")) {
        answer(bench, "firstBatch", 1, reply);
        return true;
    }
    if (!bson_has_field(command, "getMore"))
        return false;
    atomic_fetch_add(&bench->asked, 1);
    while (!atomic_load(&bench->left))
        if (tow_stop_wait(bench->job.sides.stop, 1)) {
            bson_set_error(error, MONGOC_ERROR_STREAM, MONGOC_ERROR_STREAM_SOCKET, "closed");
            return true;
        }
    atomic_fetch_sub(&bench->left, 1);
    answer(bench, "nextBatch", atomic_load(&bench->time), reply);
    return true;
}

static bench_t *begin(bool sharded, bool opaque)
{
    bench_t *bench = tow_alloc(sizeof *bench);
    tow_job_t *job = &bench->job;
    tow_error_t error;
    bson_t token;
    tow_optime_t time;

    strcpy(bench->folder, "/tmp/towline-settling-XXXXXX");
    assert_non_null(mkdtemp(bench->folder));
    bench->opaque = opaque;
    bench->source = double_new("source", false);
    bench->filter = tow_filter_new();
    job->sides.stop = tow_stop_new();
    job->sides.source = double_link(bench->source);
    job->sides.source->facts.sharded = sharded;
    double_stop(bench->source, job->sides.stop);
    double_hook(bench->source, serve, bench);
    job->flow.spool = tow_spool_open(bench->folder, "job", "id", &error);
    job->flow.ledger = tow_ledger_new(job->sides.stop, 1 << 20);
    job->flow.copy = tow_copy_new(&(tow_copy_options_t){
        .source = job->sides.source, .destination = job->sides.source, .stop = job->sides.stop});
    job->flow.replay = tow_replay_new(&(tow_replay_options_t){.source = job->sides.source,
                                                              .destination = job->sides.source,
                                                              .ledger = job->flow.ledger,
                                                              .stop = job->sides.stop,
                                                              .lanes = 1});
    job->flow.tail = tow_tail_new(&(tow_tail_options_t){.source = job->sides.source,
                                                        .filter = bench->filter,
                                                        .ledger = job->flow.ledger,
                                                        .spool = job->flow.spool,
                                                        .stop = job->sides.stop,
                                                        .retry_window_ms = 5000});
    assert_true(tow_tail_open(job->flow.tail, NULL, 0, &token, &time, &error));
    tow_ledger_begin(job->flow.ledger, &token, time);
    bson_destroy(&token);
    assert_true(tow_tail_start(job->flow.tail, &error));
    return bench;
}

static void end(bench_t *bench)
{
    tow_job_t *job = &bench->job;
    char command[128];

    tow_stop_request(job->sides.stop, NULL);
    tow_tail_destroy(job->flow.tail);
    tow_replay_destroy(job->flow.replay);
    tow_copy_destroy(job->flow.copy);
    tow_ledger_destroy(job->flow.ledger);
    tow_spool_close(job->flow.spool);
    tow_filter_destroy(bench->filter);
    double_free(bench->source);
    tow_stop_destroy(job->sides.stop);
    snprintf(command, sizeof command, "rm -rf %s", bench->folder);
    assert_int_equal(system(command), 0);
    free(bench);
}

/* The stream gives so many empty replies, up to a time. */
static void reply(bench_t *bench, uint32_t count, uint32_t time)
{
    uint64_t before = tow_tail_idle_replies(bench->job.flow.tail);
    int64_t until_ms = tow_now_ms() + WAIT_MS;

    /* An opaque token has the time that was known before it was asked for. */
    tow_link_note_time(bench->job.sides.source, TOW_OPTIME(SECONDS, time));
    atomic_store(&bench->time, time);
    atomic_store(&bench->left, count);
    while (tow_tail_idle_replies(bench->job.flow.tail) < before + count && tow_now_ms() < until_ms)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    assert_int_equal(tow_tail_idle_replies(bench->job.flow.tail), before + count);
}

/* Replies come while somebody waits; after the second look it is over. */
static bench_t *waiting;
static uint32_t replies, looks;

static bool reply_and_look(tow_job_t *job)
{
    if (replies)
        reply(waiting, replies, atomic_load(&waiting->time));
    replies = 0;
    return looks++;
}

/* Whether it is settled after one look, or with `count` replies that came since the wait began. */
static bool is_settled(bench_t *bench, uint32_t count)
{
    waiting = bench;
    looks = 0;
    replies = count;
    return tow_job_wait_settled(&bench->job, TOW_OPTIME(SECONDS, BARRIER), reply_and_look);
}

static void a_position_beyond_the_barrier_is_enough(void **state)
{
    for (int sharded = 0; sharded < 2; sharded++) {
        bench_t *bench = begin(sharded, false);

        reply(bench, 3, BARRIER - 1);
        assert_false(is_settled(bench, 3));
        reply(bench, 1, BARRIER + 1);
        assert_true(is_settled(bench, 0));
        end(bench);
    }
}

/* A mongod says nothing only at the end of its oplog: after the second such reply that began since.
 * A mongos says it when its time is over. */
static void at_the_barrier_two_empty_replies_of_a_set_are_enough(void **state)
{
    for (int sharded = 0; sharded < 2; sharded++) {
        bench_t *bench = begin(sharded, false);

        reply(bench, 3, BARRIER);
        assert_false(is_settled(bench, 0));
        assert_false(is_settled(bench, 1));
        assert_int_equal(is_settled(bench, 2), !sharded);
        end(bench);
    }
}

/* What an opaque token of an empty reply claims, its stream may not have come to. */
static void a_time_that_is_a_guess_is_not_enough(void **state)
{
    bench_t *bench = begin(true, true);

    reply(bench, 3, BARRIER + 5);
    reply(bench, 3, BARRIER + 5);
    assert_true(tow_ledger_floor_time(bench->job.flow.ledger) > TOW_OPTIME(SECONDS, BARRIER));
    assert_false(is_settled(bench, 3));
    end(bench);
}

static void what_is_copied_again_is_waited_for(void **state)
{
    bench_t *bench = begin(false, false);

    reply(bench, 1, BARRIER + 1);
    atomic_store(&bench->job.flow.copy->unfinished, 1);
    assert_false(is_settled(bench, 3));
    atomic_store(&bench->job.flow.copy->unfinished, 0);
    assert_true(is_settled(bench, 0));
    end(bench);
}

/* What of an answer that tells a time is damaged. */
typedef enum { WHOLE, NO_OPERATION, NO_LAST_WRITE, NO_CLUSTER, DAMAGES } damage_t;

/* What each command that asks for a time waits for, and what it answers. */
typedef struct {
    tow_optime_t after[8];
    uint32_t lists, finds;
    damage_t damage;
    bool typed;       /* the field is of another type, and else missing */
    uint32_t damaged; /* so many answers are */
} asked_t;

/* The time, or what is there in its place. */
static void append_time(asked_t *asked, damage_t damage, bson_t *out, const char *name,
                        uint32_t increment)
{
    if (asked->damage != damage || !asked->damaged)
        bson_append_timestamp(out, name, -1, 0, increment);
    else if (asked->damaged-- && asked->typed)
        bson_append_int64(out, name, -1, increment);
}

static tow_optime_t after_of(const bson_t *command)
{
    uint32_t seconds = 0, increment = 0;
    bson_iter_t iter, after;

    if (bson_iter_init(&iter, command) &&
        bson_iter_find_descendant(&iter, "readConcern.afterClusterTime", &after))
        bson_iter_timestamp(&after, &seconds, &increment);
    return TOW_OPTIME(seconds, increment);
}

/* The last write is of 20; a cluster's newest time is 30, and one later each time that
 * it is asked. */
static bool tell_time(void *data, const char *database, const bson_t *command, bson_t *reply,
                      bson_error_t *error)
{
    asked_t *asked = data;
    bson_t part, time;

    bson_append_double(reply, "ok", -1, 1);
    if (bson_has_field(command, "listDatabases")) {
        bool damaged = asked->damage == NO_CLUSTER && asked->damaged;

        asked->after[asked->lists] = after_of(command);
        bson_append_timestamp(reply, "operationTime", -1, 0, 5);
        bson_append_document_begin(reply, "$clusterTime", -1, &part);
        append_time(asked, NO_CLUSTER, &part, "clusterTime", 30 + asked->lists);
        bson_append_document_end(reply, &part);
        asked->lists += !damaged;
    } else if (bson_has_field(command, "find")) {
        asked->after[asked->finds++] = after_of(command);
        append_time(asked, NO_OPERATION, reply, "operationTime", 21);
    } else {
        bson_append_document_begin(reply, "lastWrite", -1, &part);
        bson_append_document_begin(&part, "opTime", -1, &time);
        append_time(asked, NO_LAST_WRITE, &time, "ts", 20);
        bson_append_document_end(&part, &time);
        bson_append_document_end(reply, &part);
    }
    return true;
}

/* A majority read alone may see a little less than the last write; and a cluster's idle shards are
 * pushed to the barrier, and beyond. */
static void a_barrier_is_a_time_that_everybody_has_come_to(void **state)
{
    for (int sharded = 0; sharded < 2; sharded++) {
        double_server_t *server = double_new("source", false);
        asked_t asked = {0};
        tow_optime_t time;
        tow_error_t error;
        tow_conn_t *conn;

        double_link(server)->facts.sharded = sharded;
        double_hook(server, tell_time, &asked);
        conn = tow_conn_open(double_link(server));
        assert_true(tow_link_barrier_time(conn, &time, &error));
        assert_int_equal(time, sharded ? 30 : 21);
        assert_int_equal(asked.lists, sharded ? 3 : 0);
        assert_int_equal(asked.after[0], sharded ? 0 : 20);
        assert_int_equal(asked.after[1], sharded ? 30 : 0);
        assert_int_equal(asked.after[2], sharded ? 31 : 0);
        tow_conn_close(conn);
        double_free(server);
    }
}

/* A position that is not there is not 0, which everything has reached: it is asked for again, and
 * not for ever. */
static void a_barrier_without_a_time_is_none(void **state)
{
    enum { ONCE = 1, ALWAYS = 1000 };

    for (damage_t damage = NO_OPERATION; damage < DAMAGES; damage++)
        for (int always = 0; always < 2; always++) {
            double_server_t *server = double_new("source", false);
            asked_t asked = {.damage = damage, .typed = always, .damaged = always ? ALWAYS : ONCE};
            bool sharded = damage == NO_CLUSTER;
            tow_error_t error = {0};
            tow_optime_t time;
            tow_conn_t *conn;

            double_link(server)->facts.sharded = sharded;
            double_link(server)->facts.tells_last_write = true;
            double_hook(server, tell_time, &asked);
            conn = tow_conn_open(double_link(server));
            assert_int_equal(tow_link_barrier_time(conn, &time, &error), !always);
            if (!always) {
                assert_int_equal(time, sharded ? 30 : 21);
                assert_int_equal(asked.after[asked.finds ? asked.finds - 1 : 1], sharded ? 30 : 20);
            }
            assert_true(always ? asked.damaged > ALWAYS - 100 : !asked.damaged);
            tow_conn_close(conn);
            double_free(server);
        }
}

/* Nor is a flag of the job's document that is not there, or of another type, false. */
static void a_flag_that_cannot_be_read_is_not_false(void **state)
{
    static const struct {
        const char *document;
        bool whole;
    } cases[] = {
#define REST "\"rollover\": false, \"writesBlocked\": false, \"ttlRestored\": false"
        {"{\"prepared\": true, " REST ", \"allFlags\": true}", true},
        {"{\"prepared\": true}", true}, /* as earlier versions wrote it */
        {"{}", true},
        {"{" REST ", \"allFlags\": true}", false},
        {"{\"prepared\": null, " REST ", \"allFlags\": true}", false},
        {"{\"prepared\": 0, " REST "}", false},
        {"{\"prepared\": true, \"rollover\": 1}", false},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bson_error_t error;
        bson_t document;

        assert_true(bson_init_from_json(&document, cases[i].document, -1, &error));
        assert_int_equal(tow_journal_is_whole(&document), cases[i].whole);
        bson_destroy(&document);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_position_beyond_the_barrier_is_enough),
        cmocka_unit_test(at_the_barrier_two_empty_replies_of_a_set_are_enough),
        cmocka_unit_test(a_time_that_is_a_guess_is_not_enough),
        cmocka_unit_test(what_is_copied_again_is_waited_for),
        cmocka_unit_test(a_barrier_is_a_time_that_everybody_has_come_to),
        cmocka_unit_test(a_barrier_without_a_time_is_none),
        cmocka_unit_test(a_flag_that_cannot_be_read_is_not_false),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
