/* SPDX-License-Identifier: Apache-2.0 */
/* canary.c: how long a write on the source takes to be readable on the destination.
 *
 * The writer writes one canary every 20 ms, in turns an insert and an update of what was inserted
 * before; the watcher reads on the destination those that have not been seen yet. The clock of a
 * canary starts before its write is sent, so the source's own time is in the figure, and stops when
 * the read that shows it has returned. Canaries that never arrive are an error, not a gap. */
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "bench/bench.h"
#include "bench/canary.h"
#include "engine/base/clock.h"
#include "engine/base/memory.h"

enum { WATCH_US = 1000, WATCH_MOST = 200 };

typedef struct {
    int64_t sent_us, seen_us;
} canary_t;

struct tow_bench_canary {
    const tow_bench_options_t *options;
    int64_t total, interval_us, deadline_us, base;
    canary_t
        *canaries;     /* sent_us: the writer's until published by `sent`; seen_us: the watcher's */
    atomic_llong sent; /* canaries [0, sent) have been or are being written */
    atomic_bool failed;
    tow_timestamp_t last;
    tow_bench_samples_t writes; /* milliseconds that the source took for each, writer's */
    pthread_t writer, watcher;
    bool writer_ok, watcher_ok;
    tow_error_t writer_error, watcher_error;
};

static void wait_us(int64_t microseconds)
{
    if (microseconds <= 0)
        return;
    struct timespec wait = {microseconds / 1000000, microseconds % 1000000 * 1000};
    nanosleep(&wait, NULL);
}

/* Canary 2k inserts document 2k, canary 2k + 1 updates it. */
static bool write_canary(tow_bench_canary_t *canary, mongoc_collection_t *collection,
                         const bson_t *opts, int64_t number, bson_error_t *reason)
{
    bson_t document = BSON_INITIALIZER, update = BSON_INITIALIZER, set;
    bool ok;
    BSON_APPEND_INT64(&document, "_id", canary->base + number / 2 * 2);
    if (number % 2 == 0) {
        BSON_APPEND_INT64(&document, "n", number);
        ok = mongoc_collection_insert_one(collection, &document, opts, NULL, reason);
    } else {
        bson_append_document_begin(&update, "$set", -1, &set);
        BSON_APPEND_INT64(&set, "n", number);
        bson_append_document_end(&update, &set);
        ok = mongoc_collection_update_one(collection, &document, &update, opts, NULL, reason);
    }
    bson_destroy(&document);
    bson_destroy(&update);
    return ok;
}

static bool write_all(tow_bench_canary_t *canary, mongoc_client_t *client, bson_t *opts,
                      mongoc_client_session_t *session)
{
    bson_error_t reason;
    if (!session || !mongoc_client_session_append(session, opts, &reason))
        return tow_fail(&canary->writer_error, TOW_ERROR_SERVER, "canary: cannot start a session");
    mongoc_collection_t *collection =
        mongoc_client_get_collection(client, canary->options->database, "canary");
    int64_t started_us = tow_now_us();
    bool ok = true;
    for (int64_t i = 0; ok && i < canary->total && !atomic_load(&canary->failed); i++) {
        wait_us(started_us + i * canary->interval_us - tow_now_us());
        canary->canaries[i].sent_us = tow_now_us();
        atomic_store(&canary->sent, i + 1);
        ok = write_canary(canary, collection, opts, i, &reason);
        if (!ok)
            tow_bench_mongo(&canary->writer_error, &reason, "write a canary");
        tow_bench_samples_add(&canary->writes,
                              (double)(tow_now_us() - canary->canaries[i].sent_us) / 1000);
    }
    mongoc_client_session_get_operation_time(session, &canary->last.t, &canary->last.i);
    mongoc_collection_destroy(collection);
    return ok;
}

static void *writer_main(void *data)
{
    tow_bench_canary_t *canary = data;
    mongoc_client_t *client = tow_bench_connect(canary->options->source, &canary->writer_error);
    if (client) {
        bson_t opts = BSON_INITIALIZER;
        mongoc_client_session_t *session = mongoc_client_start_session(client, NULL, NULL);
        canary->writer_ok = write_all(canary, client, &opts, session);
        if (session)
            mongoc_client_session_destroy(session);
        bson_destroy(&opts);
        mongoc_client_destroy(client);
    }
    if (!canary->writer_ok)
        atomic_store(&canary->failed, true);
    return NULL;
}

/* A read of canary n's document marks every canary of that document up to the `n` it holds. */
static void mark(tow_bench_canary_t *canary, const bson_t *document, int64_t now_us)
{
    bson_iter_t iter;
    int64_t first = -1, last = -1;
    if (bson_iter_init_find(&iter, document, "_id"))
        first = bson_iter_as_int64(&iter) - canary->base;
    if (bson_iter_init_find(&iter, document, "n"))
        last = bson_iter_as_int64(&iter);
    for (int64_t i = first; i >= 0 && i <= last && i < canary->total; i++)
        if (canary->canaries[i].seen_us == 0)
            canary->canaries[i].seen_us = now_us;
}

static void make_query(const tow_bench_canary_t *canary, int64_t first, int64_t sent, bson_t *out)
{
    bson_t child, list;
    int count = 0;
    bson_init(out);
    bson_append_document_begin(out, "_id", -1, &child);
    bson_append_array_begin(&child, "$in", -1, &list);
    for (int64_t i = first / 2 * 2; i < sent && count < WATCH_MOST; i += 2) {
        bool seen =
            canary->canaries[i].seen_us && (i + 1 >= sent || canary->canaries[i + 1].seen_us);
        if (seen)
            continue;
        char key[16];
        snprintf(key, sizeof key, "%d", count++);
        BSON_APPEND_INT64(&list, key, canary->base + i);
    }
    bson_append_array_end(&child, &list);
    bson_append_document_end(out, &child);
}

static bool watch_all(tow_bench_canary_t *canary, mongoc_collection_t *collection)
{
    int64_t first = 0; /* all canaries before it have been seen */
    while (first < canary->total && !atomic_load(&canary->failed)) {
        int64_t sent = atomic_load(&canary->sent);
        if (tow_now_us() > canary->deadline_us)
            return tow_fail(&canary->watcher_error, TOW_ERROR_VERIFY,
                            "canary %lld of %lld has not arrived at the destination",
                            (long long)first, (long long)canary->total);
        if (first < sent) {
            bson_t query;
            const bson_t *document;
            bson_error_t reason;
            make_query(canary, first, sent, &query);
            mongoc_cursor_t *cursor =
                mongoc_collection_find_with_opts(collection, &query, NULL, NULL);
            while (mongoc_cursor_next(cursor, &document))
                mark(canary, document, tow_now_us());
            bool bad = mongoc_cursor_error(cursor, &reason);
            mongoc_cursor_destroy(cursor);
            bson_destroy(&query);
            if (bad)
                return tow_bench_mongo(&canary->watcher_error, &reason, "read the canaries");
            while (first < sent && canary->canaries[first].seen_us)
                first++;
        }
        wait_us(WATCH_US);
    }
    return true;
}

static void *watcher_main(void *data)
{
    tow_bench_canary_t *canary = data;
    mongoc_client_t *client =
        tow_bench_connect(canary->options->destination, &canary->watcher_error);
    if (client) {
        mongoc_collection_t *collection =
            mongoc_client_get_collection(client, canary->options->database, "canary");
        canary->watcher_ok = watch_all(canary, collection);
        mongoc_collection_destroy(collection);
        mongoc_client_destroy(client);
    }
    if (!canary->watcher_ok)
        atomic_store(&canary->failed, true);
    return NULL;
}

tow_bench_canary_t *tow_bench_canary_start(const tow_bench_options_t *options, int64_t interval_ms,
                                           int64_t total)
{
    tow_bench_canary_t *canary = tow_alloc(sizeof *canary);
    canary->options = options;
    canary->total = total;
    canary->interval_us = interval_ms * 1000;
    canary->deadline_us = tow_now_us() + options->timeout * 1000000;
    canary->base = tow_wall_ms() / 2 * 2000; /* documents of earlier runs stay out of the way */
    canary->canaries = tow_alloc((size_t)total * sizeof *canary->canaries);
    if (pthread_create(&canary->watcher, NULL, watcher_main, canary) != 0 ||
        pthread_create(&canary->writer, NULL, writer_main, canary) != 0)
        abort();
    return canary;
}

bool tow_bench_canary_finish(tow_bench_canary_t *canary, tow_bench_samples_t *out_lag_ms,
                             tow_bench_samples_t *out_write_ms, tow_timestamp_t *out_last,
                             tow_error_t *error)
{
    pthread_join(canary->writer, NULL);
    pthread_join(canary->watcher, NULL);
    bool ok = canary->writer_ok && canary->watcher_ok && !atomic_load(&canary->failed);
    if (!ok)
        *error = canary->writer_ok ? canary->watcher_error : canary->writer_error;
    for (int64_t i = 0; ok && i < canary->total; i++)
        tow_bench_samples_add(
            out_lag_ms, (double)(canary->canaries[i].seen_us - canary->canaries[i].sent_us) / 1000);
    for (size_t i = 0; ok && i < canary->writes.count; i++)
        tow_bench_samples_add(out_write_ms, canary->writes.values[i]);
    if (ok)
        *out_last = canary->last;
    tow_bench_samples_free(&canary->writes);
    free(canary->canaries);
    free(canary);
    return ok;
}
