/* SPDX-License-Identifier: Apache-2.0 */
/* pair.c: two threads that do the same on both sides at once, and how either reads documents.
 *
 * The leader is whoever calls tow_pair_run; it works on the source itself. The partner sleeps until
 * it is handed the same function for the destination. */
#include <stdlib.h>

#include "engine/base/clock.h"
#include "engine/link/reply.h"
#include "verify/internal.h"

enum {
    READ_ATTEMPTS = 10,       /* enough for a failover, with the waits between them */
    READ_PATIENCE_MS = 120000 /* for the waits alone; a read may take as long as it likes */
};

static void *partner_main(void *data)
{
    tow_verify_pair_t *pair = data;

    pthread_mutex_lock(&pair->lock);
    for (;;) {
        tow_error_t error = {0};
        bool ok;

        while (!pair->fn && !pair->quit)
            pthread_cond_wait(&pair->changed, &pair->lock);
        if (pair->quit)
            break;
        pthread_mutex_unlock(&pair->lock);
        ok = pair->fn(&pair->sides[TOW_DESTINATION], pair->data, &error);
        if (!ok)
            atomic_store(&pair->abandon, true);
        pthread_mutex_lock(&pair->lock);
        pair->ok = ok;
        pair->error = error;
        pair->fn = NULL;
        pthread_cond_broadcast(&pair->changed);
    }
    pthread_mutex_unlock(&pair->lock);
    return NULL;
}

bool tow_pair_init(tow_verify_pair_t *pair, tow_verify_run_t *run, tow_error_t *error)
{
    tow_link_t *links[2] = {run->options->source, run->options->destination};

    pair->run = run;
    pthread_mutex_init(&pair->lock, NULL);
    pthread_cond_init(&pair->changed, NULL);
    for (int which = TOW_SOURCE; which <= TOW_DESTINATION; which++) {
        pair->sides[which] =
            (tow_verify_side_t){.run = run, .pair = pair, .which = which, .link = links[which]};
        pair->sides[which].conn = tow_conn_open(links[which]);
    }
    return tow_thread_start(&pair->partner, "partner", partner_main, pair, error);
}

void tow_pair_clear(tow_verify_pair_t *pair)
{
    if (!pair->run)
        return;
    if (pair->partner.started) {
        pthread_mutex_lock(&pair->lock);
        pair->quit = true;
        pthread_cond_broadcast(&pair->changed);
        pthread_mutex_unlock(&pair->lock);
        tow_thread_join(&pair->partner);
    }
    for (int which = TOW_SOURCE; which <= TOW_DESTINATION; which++)
        if (pair->sides[which].conn)
            tow_conn_close(pair->sides[which].conn);
    pthread_cond_destroy(&pair->changed);
    pthread_mutex_destroy(&pair->lock);
}

bool tow_pair_run(tow_verify_pair_t *pair, tow_pair_fn fn, void *source_data,
                  void *destination_data, tow_error_t *error)
{
    tow_error_t partner_error;
    bool source_first, source_ok, partner_ok;

    atomic_store(&pair->abandon, false);
    pthread_mutex_lock(&pair->lock);
    pair->data = destination_data;
    pair->fn = fn;
    pthread_cond_broadcast(&pair->changed);
    pthread_mutex_unlock(&pair->lock);

    source_ok = fn(&pair->sides[TOW_SOURCE], source_data, error);
    source_first = !source_ok && !atomic_exchange(&pair->abandon, true);

    pthread_mutex_lock(&pair->lock);
    while (pair->fn)
        pthread_cond_wait(&pair->changed, &pair->lock);
    partner_ok = pair->ok;
    partner_error = pair->error;
    pthread_mutex_unlock(&pair->lock);

    /* When both failed, the second one mostly did because of the first. */
    if (!partner_ok && !source_first)
        *error = partner_error;
    return source_ok && partner_ok;
}

bool tow_side_goes_on(tow_verify_side_t *side, tow_error_t *error)
{
    tow_verify_run_t *run = side->run;
    tow_stop_t *stop = run->options->stop;

    if (stop && tow_stop_requested(stop)) {
        if (tow_stop_error(stop, error))
            return false;
        return tow_fail(error, TOW_ERROR_INTERRUPTED, "the comparison was stopped");
    }
    if (atomic_load(&run->ended) || atomic_load(&side->pair->abandon))
        return tow_fail(error, TOW_ERROR_INTERRUPTED, "the comparison was given up");
    return true;
}

void tow_verify_progress(tow_verify_run_t *run, uint64_t documents, uint64_t bytes)
{
    const tow_verify_options_t *options = run->options;

    if (options->documents)
        atomic_fetch_add(options->documents, documents);
    if (options->bytes)
        atomic_fetch_add(options->bytes, bytes);
}

static bool pace(tow_verify_side_t *side, uint64_t bytes, tow_error_t *error)
{
    const tow_verify_options_t *options = side->run->options;

    if (!options->pace || options->pace(options->data, bytes))
        return true;
    return tow_fail(error, TOW_ERROR_INTERRUPTED, "the comparison was ended");
}

static bool read_once(tow_verify_side_t *side, const tow_read_t *what, const tow_visitor_t *visitor,
                      uint64_t *documents, uint64_t *bytes, tow_error_t *error)
{
    tow_reader_t *reader;
    bool more = true, ok;
    bson_t document;

    if (!tow_side_goes_on(side, error) || !(reader = tow_reader_open(side->conn, what, error)))
        return false;
    do {
        uint64_t batch_documents = 0, batch_bytes = 0;

        while (tow_reader_next(reader, &document)) {
            batch_documents++;
            batch_bytes += document.len;
            visitor->each(visitor->data, &document);
        }
        *documents += batch_documents;
        *bytes += batch_bytes;
        if (visitor->progress)
            tow_verify_progress(side->run, batch_documents, batch_bytes);
        ok = tow_side_goes_on(side, error) && pace(side, batch_bytes, error) &&
             tow_reader_next_batch(reader, &more, error);
    } while (ok && more);
    tow_reader_close(reader);
    if (ok && visitor->is_whole && !visitor->is_whole(visitor->data))
        return tow_fail_reply(error, tow_link_side(side->link),
                              "its answer to find has a document nobody asked for");
    return ok;
}

bool tow_side_read(tow_verify_side_t *side, const tow_read_t *what, const tow_visitor_t *visitor,
                   tow_error_t *error)
{
    int64_t deadline = tow_now_ms() + READ_PATIENCE_MS;
    tow_read_t read = *what;

    /* Of the destination no read may miss what this process had acknowledged there, such as a
     * repair. */
    read.after = side->which == TOW_SOURCE ? side->run->after : tow_link_time(side->link);
    for (unsigned attempt = 0;; attempt++) {
        uint64_t documents = 0, bytes = 0;

        visitor->reset(visitor->data);
        if (read_once(side, &read, visitor, &documents, &bytes, error))
            return true;
        /* What is read again must not be counted twice; unsigned arithmetic takes it back. */
        if (visitor->progress)
            tow_verify_progress(side->run, -documents, -bytes);
        if ((error->retry != TOW_RETRY_RECONNECT && error->retry != TOW_RETRY_SAME) ||
            attempt + 1 == READ_ATTEMPTS || !tow_backoff(side->link, attempt, deadline))
            return false;
        tow_emit(&side->run->options->sink, TOW_LEVEL_DEBUG, "verify_read_again", "%s",
                 error->message);
    }
}
