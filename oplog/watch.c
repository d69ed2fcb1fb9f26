/* watch.c: see watch.h. */
#include "oplog/watch.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/base/thread.h"
#include "engine/link/reply.h"
#include "oplog/record.h"
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
    tow_optime_t time;     /* of the token, where that is a KeyString; else 0 */
    /* The thread's own. */
    tow_conn_t *conn;
    int64_t cursor;
    uint32_t server;
    bson_t token; /* empty: none; written by the thread alone */
};

static void append_stages(const tow_watch_t *watch, bool resume, bson_t *stages)
{
    static const char *const fields[] = {"operationType", "clusterTime", "ns", "to", "documentKey"};
    bson_t stage, inner;

    bson_append_document_begin(stages, "0", -1, &stage);
    bson_append_document_begin(&stage, "$changeStream", -1, &inner);
    bson_append_bool(&inner, "allChangesForCluster", -1, true);
    if (resume)
        bson_append_document(&inner, "resumeAfter", -1, &watch->token);
    bson_append_document_end(&stage, &inner);
    bson_append_document_end(stages, &stage);
    tow_filter_match(watch->options.filter, stages, "1");
    bson_append_document_begin(stages, "2", -1, &stage);
    bson_append_document_begin(&stage, "$project", -1, &inner);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        bson_append_int32(&inner, fields[i], -1, 1);
    bson_append_document_end(&stage, &inner);
    bson_append_document_end(stages, &stage);
}

/* The new name of a renamed collection. */
static void tell_target(const tow_watch_options_t *options, const bson_t *event)
{
    const char *database, *collection;

    if (tow_field_text(event, "to.db", &database) && tow_field_text(event, "to.coll", &collection))
        options->gone(options->data, database, collection);
}

static void tell(tow_watch_t *watch, const bson_t *event)
{
    const tow_watch_options_t *options = &watch->options;
    tow_event_t parsed;

    tow_event_parse(event, &parsed);
    if (parsed.change && parsed.has_id) {
        options->key(options->data, parsed.database, parsed.collection, parsed.id);
    } else if (!strcmp(parsed.operation, "drop") || !strcmp(parsed.operation, "dropDatabase") ||
               !strcmp(parsed.operation, "rename")) {
        options->gone(options->data, parsed.database, parsed.collection);
        tell_target(options, event);
    } else if (!strcmp(parsed.operation, "invalidate")) {
        options->gap(options->data, parsed.operation);
    }
}

static void keep_token(tow_watch_t *watch, const bson_t *token)
{
    pthread_mutex_lock(&watch->lock);
    bson_destroy(&watch->token);
    bson_copy_to(token, &watch->token);
    if (!tow_token_time(token, &watch->time))
        watch->time = 0;
    pthread_mutex_unlock(&watch->lock);
}

/* Takes in the batch of a reply. `resumed`: of an aggregate that goes on after a token. Its batch is empty by our
 * own wish, and what it says of the position is no delivery: that the server no longer has it shows with the
 * first getMore only. */
static bool take_reply(tow_watch_t *watch, const bson_t *reply, bool resumed, tow_error_t *error)
{
    tow_reply_cursor_t cursor;
    bson_iter_t batch;
    bson_t event, token;
    uint32_t count = 0;
    bool broken;

    watch->cursor = 0;
    if (!tow_reply_cursor(reply, &cursor))
        return tow_fail(error, TOW_ERROR_SERVER, "a change stream answered without a cursor");
    if (!tow_reply_are_events(&cursor.batch))
        return tow_fail(error, TOW_ERROR_SERVER, "a change stream sent a broken event");
    watch->cursor = cursor.id;
    batch = cursor.batch;
    while (tow_batch_document(&batch, &event, &broken)) {
        tell(watch, &event);
        if (tow_field_document(&event, "_id", &token))
            keep_token(watch, &token);
        count++;
    }
    /* Only once all of the batch was told may the stream go on behind it. */
    if (cursor.has_token && !resumed)
        keep_token(watch, &cursor.token);
    pthread_mutex_lock(&watch->lock);
    if (!count && !resumed)
        atomic_fetch_add(&watch->idle, 1);
    pthread_cond_broadcast(&watch->changed);
    pthread_mutex_unlock(&watch->lock);
    return watch->cursor ? true : tow_fail(error, TOW_ERROR_SERVER, "a change stream was closed");
}

/* As of the tail's stream: a mongod may look through its oplog for long. */
static int patience(const tow_watch_t *watch)
{
    return tow_link_facts(watch->options.link)->sharded ? TOW_SEND_PLAIN : TOW_SEND_NO_TIMEOUT;
}

static bool open_stream(tow_watch_t *watch, bool resume, tow_error_t *error)
{
    tow_send_options_t send = {.flags = TOW_SEND_READ | patience(watch)};
    bson_t command = BSON_INITIALIZER, stages, cursor, reply;
    bool ok;

    bson_append_int32(&command, "aggregate", -1, 1);
    bson_append_array_begin(&command, "pipeline", -1, &stages);
    append_stages(watch, resume, &stages);
    bson_append_array_end(&command, &stages);
    bson_append_document_begin(&command, "cursor", -1, &cursor);
    bson_append_int32(&cursor, "batchSize", -1, 0);
    bson_append_document_end(&command, &cursor);
    ok = tow_conn_command(watch->conn, "admin", &command, &send, &reply, error) &&
         take_reply(watch, &reply, resume, error);
    watch->server = tow_conn_server(watch->conn);
    bson_destroy(&reply);
    bson_destroy(&command);
    return ok;
}

static bool read_more(tow_watch_t *watch, tow_error_t *error)
{
    tow_send_options_t send = {.flags = patience(watch), .server_id = watch->server};
    bson_t command = BSON_INITIALIZER, reply;
    bool ok;

    bson_append_int64(&command, "getMore", -1, watch->cursor);
    bson_append_utf8(&command, "collection", -1, "$cmd.aggregate", -1);
    bson_append_int32(&command, "batchSize", -1, BATCH);
    bson_append_int64(&command, "maxTimeMS", -1, AWAIT_MS);
    ok = tow_conn_command(watch->conn, "admin", &command, &send, &reply, error) &&
         take_reply(watch, &reply, false, error);
    bson_destroy(&reply);
    bson_destroy(&command);
    return ok;
}

static bool is_ended(tow_watch_t *watch)
{
    return tow_stop_requested(watch->end) || tow_stop_requested(watch->options.stop);
}

/* After an error: goes on after the last token, or from now on with a gap; waits between attempts. `failures`: how often in
 * a row the stream has failed, although it was opened: a mongod finds out by the first getMore that the position is
 * gone. */
static void reopen(tow_watch_t *watch, int failures)
{
    tow_error_t error;

    if (failures > 1 && tow_stop_wait(watch->end, AGAIN_MS))
        return;
    for (int attempt = failures; !is_ended(watch); attempt++) {
        bool resume = attempt <= ATTEMPTS_MOST && !bson_empty(&watch->token);

        if (open_stream(watch, resume, &error)) {
            /* The gap is told when the new stream is open, so that nothing falls between. */
            if (!resume)
                watch->options.gap(watch->options.data, "the stream began anew");
            return;
        }
        if (tow_error_history_lost(&error))
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
        failures = tow_error_history_lost(&error) ? ATTEMPTS_MOST + 1 : failures + 1;
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
    if (token) {
        bson_destroy(&watch->token);
        bson_copy_to(token, &watch->token);
        if (open_stream(watch, true, error))
            return true;
    }
    if (!open_stream(watch, false, error))
        return false;
    if (token)
        watch->options.gap(watch->options.data, "it cannot be continued");
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
    watch->conn = tow_conn_open(options->link, error);
    if (watch->conn)
        tow_conn_heed(watch->conn, watch->end);
    if (!watch->conn || !begin(watch, token, error)) {
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
    tow_conn_close(watch->conn);
    bson_destroy(&watch->token);
    pthread_cond_destroy(&watch->changed);
    pthread_mutex_destroy(&watch->lock);
    tow_stop_destroy(watch->end);
    free(watch);
}

/* Whether the stream has delivered everything up to a time of the barrier. Beyond it, surely. A mongod's two empty
 * replies say the same when the first was asked for after that time, since it gives one only at the end of its
 * oplog; a mongos gives one whenever its time is over. The lock is held. */
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
    tow_conn_t *conn = tow_conn_open(watch->options.link, &error);
    tow_optime_t time, ignored;
    uint64_t idle;
    bool passed = false, goes_on;

    goes_on = conn && tow_link_barrier_time(conn, &time, &error);
    idle = atomic_load(&watch->idle);
    while (goes_on && !passed) {
        pthread_mutex_lock(&watch->lock);
        passed = has_passed(watch, time, idle);
        goes_on = passed || await_reply(watch, until_ms);
        pthread_mutex_unlock(&watch->lock);
        if (passed || tow_now_ms() - pushed_ms < PUSH_MS || !tow_link_facts(watch->options.link)->sharded)
            continue;
        goes_on = tow_link_push_shards(conn, &ignored, &error) || error.retry != TOW_RETRY_NEVER;
        pushed_ms = tow_now_ms();
    }
    tow_conn_close(conn);
    return passed;
}
