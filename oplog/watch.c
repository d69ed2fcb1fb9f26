/* watch.c: see watch.h. */
#include "oplog/watch.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
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
    pthread_t thread;
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
    bson_iter_t iter, database, collection;

    if (bson_iter_init(&iter, event) && bson_iter_find_descendant(&iter, "to.db", &database) &&
        bson_iter_init(&iter, event) && bson_iter_find_descendant(&iter, "to.coll", &collection) &&
        BSON_ITER_HOLDS_UTF8(&database) && BSON_ITER_HOLDS_UTF8(&collection))
        options->gone(options->data, bson_iter_utf8(&database, NULL),
                      bson_iter_utf8(&collection, NULL));
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

static void keep_token(tow_watch_t *watch, const bson_iter_t *found)
{
    const uint8_t *data;
    uint32_t length;
    bson_t token;

    bson_iter_document(found, &length, &data);
    if (!bson_init_static(&token, data, length))
        return;
    pthread_mutex_lock(&watch->lock);
    bson_destroy(&watch->token);
    bson_copy_to(&token, &watch->token);
    if (!tow_token_time(&token, &watch->time))
        watch->time = 0;
    pthread_mutex_unlock(&watch->lock);
}

/* Takes in the batch of a reply. `resumed`: of an aggregate that goes on after a token. Its batch is empty by our
 * own wish, and what it says of the position is no delivery: that the server no longer has it shows with the
 * first getMore only. */
static bool take_reply(tow_watch_t *watch, const bson_t *reply, bool resumed, tow_error_t *error)
{
    bson_iter_t iter, child, batch;
    bool found = false;
    uint32_t count = 0;

    if (!bson_iter_init_find(&iter, reply, "cursor") || !BSON_ITER_HOLDS_DOCUMENT(&iter) ||
        !bson_iter_recurse(&iter, &child))
        return tow_fail(error, TOW_ERROR_SERVER, "a change stream answered without a cursor");
    watch->cursor = 0;
    while (bson_iter_next(&child)) {
        const char *name = bson_iter_key(&child);

        if (!strcmp(name, "id"))
            watch->cursor = bson_iter_as_int64(&child);
        else if (!strcmp(name, "firstBatch") || !strcmp(name, "nextBatch"))
            found = BSON_ITER_HOLDS_ARRAY(&child) && bson_iter_recurse(&child, &batch);
    }
    while (found && bson_iter_next(&batch)) {
        const uint8_t *data;
        uint32_t length;
        bson_t event;
        bson_iter_t id;

        bson_iter_document(&batch, &length, &data);
        if (!bson_init_static(&event, data, length))
            return tow_fail(error, TOW_ERROR_SERVER, "a change stream sent a broken event");
        tell(watch, &event);
        if (bson_iter_init_find(&id, &event, "_id") && BSON_ITER_HOLDS_DOCUMENT(&id))
            keep_token(watch, &id);
        count++;
    }
    /* Only once all of the batch was told may the stream go on behind it. */
    if (!resumed && bson_iter_recurse(&iter, &child) && bson_iter_find(&child, "postBatchResumeToken") &&
        BSON_ITER_HOLDS_DOCUMENT(&child))
        keep_token(watch, &child);
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

/* After an error: goes on after the last token, or from now on with a gap (`lost`: the server no longer has
 * that position); waits between attempts. */
static void reopen(tow_watch_t *watch, bool lost)
{
    tow_error_t error;

    for (int attempt = lost ? ATTEMPTS_MOST : 0; !is_ended(watch); attempt++) {
        bool resume = attempt < ATTEMPTS_MOST && !bson_empty(&watch->token);

        if (open_stream(watch, resume, &error)) {
            /* The gap is told when the new stream is open, so that nothing falls between. */
            if (!resume)
                watch->options.gap(watch->options.data, "the stream began anew");
            return;
        }
        if (tow_error_history_lost(&error))
            attempt = ATTEMPTS_MOST;
        tow_stop_wait(watch->end, AGAIN_MS);
    }
}

static void *run(void *data)
{
    tow_watch_t *watch = data;
    tow_error_t error;

    while (!is_ended(watch))
        if (!read_more(watch, &error) && !is_ended(watch))
            reopen(watch, tow_error_history_lost(&error));
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
    if (pthread_create(&watch->thread, NULL, run, watch)) {
        watch->thread = 0;
        tow_watch_destroy(watch);
        tow_fail(error, TOW_ERROR_INTERNAL, "cannot start a thread");
        return NULL;
    }
    return watch;
}

void tow_watch_destroy(tow_watch_t *watch)
{
    if (!watch)
        return;
    tow_stop_request(watch->end, NULL);
    if (watch->thread)
        pthread_join(watch->thread, NULL);
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
