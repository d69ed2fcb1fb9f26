/* SPDX-License-Identifier: Apache-2.0 */
/* watch.c: see watch.h. */
#include "oplog/watch.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "engine/base/clock.h"
#include "engine/base/thread.h"
#include "engine/link/reply.h"
#include "oplog/stream.h"
#include "oplog/token.h"

enum {
    AWAIT_MS = 100, /* how long the server holds an empty getMore */
    BATCH = 10000,
    ATTEMPTS_MOST = 5, /* to go on where it broke; then it begins anew, with a gap */
    AGAIN_MS = 1000,   /* between attempts to open it at all */
    PUSH_MS = 100      /* between two pushes of idle shards, while somebody waits */
};

struct tow_watch {
    tow_watch_options_t options;
    tow_thread_t thread;
    tow_stop_t *end;       /* of the thread */
    _Atomic uint64_t idle; /* replies without events */
    pthread_mutex_t lock;  /* guards the token, its time, and the waits on `changed` */
    pthread_cond_t changed;
    bson_t token;         /* everything up to it was told */
    tow_optime_t time;    /* of the token, where that is a KeyString; else 0 */
    tow_stream_t *stream; /* the thread's own */
};

static const char *const fields[] = {"operationType", "clusterTime", "ns", "to",
                                     "documentKey",   NULL};

/* The new name of a renamed collection. */
static void tell_target(const tow_watch_options_t *options, const bson_t *event)
{
    const char *database, *collection;

    if (tow_field_text(event, "to.db", &database) && tow_field_text(event, "to.coll", &collection))
        options->gone(options->data, database, collection);
}

static void tell(tow_watch_t *watch, const bson_t *event, const tow_event_t *parts)
{
    const tow_watch_options_t *options = &watch->options;

    if (parts->change && parts->has_id) {
        options->key(options->data, parts->database, parts->collection, parts->id);
    } else if (parts->kind == TOW_OPERATION_DROP || parts->kind == TOW_OPERATION_DROP_DATABASE ||
               parts->kind == TOW_OPERATION_RENAME) {
        options->gone(options->data, parts->database, parts->collection);
        tell_target(options, event);
    } else if (parts->kind == TOW_OPERATION_INVALIDATE) {
        options->gap(options->data, parts->operation);
    }
}

/* Makes the stream's position known, of which everything before was told. */
static void publish(tow_watch_t *watch, bool is_idle)
{
    const bson_t *token = tow_stream_token(watch->stream);

    pthread_mutex_lock(&watch->lock);
    bson_destroy(&watch->token);
    bson_copy_to(token, &watch->token);
    if (!tow_token_time(token, &watch->time))
        watch->time = 0;
    if (is_idle)
        atomic_fetch_add(&watch->idle, 1);
    pthread_cond_broadcast(&watch->changed);
    pthread_mutex_unlock(&watch->lock);
}

static bool read_more(tow_watch_t *watch, tow_error_t *error)
{
    tow_stream_batch_t batch;
    tow_event_t parts;
    bson_t reply, event;
    int64_t pause_ms = tow_stream_pause_ms(watch->stream);
    bool ok;

    if (pause_ms)
        tow_stop_wait(watch->end, pause_ms);
    ok = tow_stream_next(watch->stream, AWAIT_MS, BATCH, &reply, &batch, error);

    while (ok && tow_stream_event(&batch, &event, &parts))
        tell(watch, &event, &parts);
    if (ok) {
        tow_stream_take(watch->stream, &batch);
        publish(watch, !batch.count);
    }
    bson_destroy(&reply);
    return ok && (tow_stream_is_open(watch->stream) ||
                  tow_fail(error, TOW_ERROR_SERVER, "a change stream was closed"));
}

/* Begins from now on. The gap is reported when the new stream is open, so that no write falls in
 * between, and before its position is known, which a waiter takes for delivered. */
static bool begin_now(tow_watch_t *watch, const char *why, tow_error_t *error)
{
    if (!tow_stream_open(watch->stream, TOW_STREAM_NOW, fields, 0, error))
        return false;
    if (why)
        watch->options.gap(watch->options.data, why);
    publish(watch, false);
    return true;
}

static bool go_on(tow_watch_t *watch, tow_error_t *error)
{
    return tow_stream_open(watch->stream, TOW_STREAM_AFTER, fields, 0, error);
}

static bool is_ended(tow_watch_t *watch)
{
    return tow_stop_requested(watch->end) || tow_stop_requested(watch->options.stop);
}

/* After an error: goes on after the position, or from now on with a gap; waits between attempts.
 * `failures`: how often in a row the stream has failed, although it was opened: a mongod finds out
 * by the first getMore that the position is gone. */
static void reopen(tow_watch_t *watch, int failures)
{
    tow_error_t error;

    if (failures > 1 && tow_stop_wait(watch->end, AGAIN_MS))
        return;
    for (int attempt = failures; !is_ended(watch); attempt++) {
        bool resume = attempt <= ATTEMPTS_MOST && !bson_empty(tow_stream_token(watch->stream));

        if (resume ? go_on(watch, &error) : begin_now(watch, "the stream began anew", &error))
            return;
        if (tow_stream_judge(watch->stream, &error) == TOW_STREAM_LOST)
            attempt = ATTEMPTS_MOST + 1;
        tow_stop_wait(watch->end, AGAIN_MS);
    }
}

static void *run(void *data)
{
    tow_watch_t *watch = data;
    tow_error_t error;
    int failures = 0;

    while (!is_ended(watch)) {
        if (read_more(watch, &error)) {
            failures = 0;
            continue;
        }
        failures = tow_stream_judge(watch->stream, &error) == TOW_STREAM_LOST ? ATTEMPTS_MOST + 1
                                                                              : failures + 1;
        if (!is_ended(watch))
            reopen(watch, failures);
        if (failures > ATTEMPTS_MOST)
            failures = 0;
    }
    return NULL;
}

void tow_watch_token(tow_watch_t *watch, bson_t *out)
{
    pthread_mutex_lock(&watch->lock);
    bson_copy_to(&watch->token, out);
    pthread_mutex_unlock(&watch->lock);
}

/* The first opening of all. */
static bool begin(tow_watch_t *watch, const bson_t *token, tow_error_t *error)
{
    if (!token)
        return begin_now(watch, NULL, error);
    tow_stream_move(watch->stream, token, 0);
    if (!go_on(watch, error))
        return begin_now(watch, "it cannot be continued", error);
    publish(watch, false);
    return true;
}

tow_watch_t *tow_watch_new(const tow_watch_options_t *options, const bson_t *token,
                           tow_error_t *error)
{
    tow_watch_t *watch = tow_alloc(sizeof *watch);

    watch->options = *options;
    watch->end = tow_stop_new();
    bson_init(&watch->token);
    pthread_mutex_init(&watch->lock, NULL);
    tow_condition_init(&watch->changed);
    watch->stream = tow_stream_new(&(tow_stream_options_t){
        .link = options->link, .filter = options->filter, .heeds = watch->end});
    if (!begin(watch, token, error)) {
        tow_watch_destroy(watch);
        return NULL;
    }
    if (!tow_thread_start(&watch->thread, "watch", run, watch, error)) {
        tow_watch_destroy(watch);
        return NULL;
    }
    return watch;
}

void tow_watch_destroy(tow_watch_t *watch)
{
    if (!watch)
        return;
    tow_stop_request(watch->end, NULL);
    tow_thread_join(&watch->thread);
    tow_stream_destroy(watch->stream);
    bson_destroy(&watch->token);
    pthread_cond_destroy(&watch->changed);
    pthread_mutex_destroy(&watch->lock);
    tow_stop_destroy(watch->end);
    free(watch);
}

/* Whether the stream has delivered everything up to a time of the barrier. Beyond it, surely. A
 * mongod's two empty replies say the same when the first was asked for after that time, since it
 * gives one only at the end of its oplog; a mongos gives one whenever its time is over. The lock is
 * held. */
static bool has_passed(const tow_watch_t *watch, tow_optime_t time, uint64_t idle)
{
    if (watch->time > time)
        return true;
    return !tow_link_facts(watch->options.link)->sharded && (!watch->time || watch->time >= time) &&
           atomic_load(&watch->idle) >= idle + 2;
}

/* Waits for the next reply; false when it may have been the last. */
static bool await_reply(tow_watch_t *watch, int64_t until_ms)
{
    int64_t now_ms = tow_now_ms();

    if (is_ended(watch) || now_ms >= until_ms)
        return false;
    tow_condition_wait(&watch->changed, &watch->lock,
                       until_ms < now_ms + PUSH_MS ? until_ms : now_ms + PUSH_MS);
    return true;
}

bool tow_watch_wait(tow_watch_t *watch, int64_t wait_ms)
{
    int64_t until_ms = tow_now_ms() + wait_ms, pushed_ms = tow_now_ms();
    tow_error_t error;
    tow_conn_t *conn = tow_conn_open(watch->options.link);
    tow_optime_t time, ignored;
    uint64_t idle;
    bool passed = false, goes_on;

    goes_on = tow_link_barrier_time(conn, &time, &error);
    idle = atomic_load(&watch->idle);
    while (goes_on && !passed) {
        pthread_mutex_lock(&watch->lock);
        passed = has_passed(watch, time, idle);
        goes_on = passed || await_reply(watch, until_ms);
        pthread_mutex_unlock(&watch->lock);
        if (passed || tow_now_ms() - pushed_ms < PUSH_MS ||
            !tow_link_facts(watch->options.link)->sharded)
            continue;
        goes_on = tow_link_push_shards(conn, &ignored, &error) || error.retry != TOW_RETRY_NEVER;
        pushed_ms = tow_now_ms();
    }
    tow_conn_close(conn);
    return passed;
}
