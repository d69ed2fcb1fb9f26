/* SPDX-License-Identifier: Apache-2.0 */
/* worker.c: copies one range after another: empties it where need be, reads it, records it. */
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "copy/internal.h"
#include "engine/base/clock.h"
#include "engine/link/codes.h"
#include "engine/state/write.h"

enum { ATTEMPTS_MOST = 100 }; /* of a range, also when it gets further each time */

static void wait_while_paused(const tow_pass_t *pass)
{
    tow_copy_t *copy = pass->worker->copy;

    tow_copy_lock(copy);
    while (copy->paused && !tow_pass_given_up(pass))
        tow_copy_wait_changed(copy);
    tow_copy_unlock(copy);
}

/* Emptying --------------------------------------------------------------------------------------*/

/* Deletes what an earlier attempt left of the range. The read waits for all that this process had
 * acknowledged, so that none of it hides from a majority read. */
static bool empty_by_keys(tow_pass_t *pass, tow_error_t *error)
{
    tow_conn_t *destination = pass->worker->destination;
    bson_t projection = BSON_INITIALIZER, document;
    tow_read_t what = {.database = pass->collection->database,
                       .collection = pass->collection->name,
                       .min = pass->range.has_min ? &pass->range.min : NULL,
                       .max = pass->range.has_max ? &pass->range.max : NULL,
                       .projection = &projection,
                       .after = tow_link_time(pass->worker->copy->options.destination)};
    tow_write_t write = {0};
    tow_reader_t *reader;
    uint32_t matched, refused = 0;
    bool ok, more = true;

    bson_append_int32(&projection, "_id", -1, 1);
    tow_write_begin(&write, TOW_WRITE_DELETE, pass->collection);
    reader = tow_reader_open(destination, &what, error);
    ok = reader != NULL;
    while (ok && more) {
        while (ok && tow_reader_next(reader, &document)) {
            tow_value_t id = {0};

            tow_value_id(&document, &id);
            if (!tow_write_fits(&write, id.length)) {
                ok = tow_write_send(&write, destination, tow_pass_count_refusal, &refused, &matched,
                                    error);
                tow_write_begin(&write, TOW_WRITE_DELETE, pass->collection);
            }
            tow_write_delete(&write, id, NULL);
        }
        ok = ok && tow_reader_next_batch(reader, &more, error);
    }
    ok = ok &&
         tow_write_send(&write, destination, tow_pass_count_refusal, &refused, &matched, error);
    /* What stays and is gone at the source would never be deleted: its event may be past. */
    if (ok && refused) {
        ok = tow_fail(error, TOW_ERROR_SERVER, "the destination refuses to delete %u documents",
                      refused);
        error->retry = TOW_RETRY_SAME;
    }
    tow_write_clear(&write);
    tow_reader_close(reader);
    bson_destroy(&projection);
    return ok;
}

/* Older servers do not delete from capped collections: drop and create. */
static bool empty_by_drop(tow_pass_t *pass, tow_error_t *error)
{
    tow_collection_info_t info = {.database = pass->collection->database,
                                  .name = pass->collection->name,
                                  .ns = pass->collection->ns,
                                  .type = pass->collection->type,
                                  .options = pass->collection->options,
                                  .capped = true};

    tow_copy_t *copy = pass->worker->copy;
    tow_conn_t *destination = pass->worker->destination;
    tow_whose_t whose;

    if (!tow_copy_unmake(copy, destination, info.database, info.name, &whose, error))
        return false;
    return whose == TOW_WHOSE_FOREIGN ? tow_copy_fail_foreign(info.ns, error)
                                      : tow_copy_make(copy, destination, &info, error);
}

/* A delete that arrives later would find what is copied next. */
static bool empty_range(tow_pass_t *pass, tow_error_t *error)
{
    bool ok = pass->collection->capped ? empty_by_drop(pass, error) : empty_by_keys(pass, error);

    tow_copy_settle(pass->worker->copy, pass->worker->destination);
    return ok ? true : tow_fail_context(error, "empty what an earlier attempt left");
}

/* An error of a name is final only while the name still means the same collection. One that was
 * dropped, and whose name a view has now, reads as one that is gone: empty. The event that ended it
 * is on its way. */
static bool is_replaced(const tow_pass_t *pass)
{
    tow_error_t ignored;
    bool replaced;

    return tow_namespace_is_replaced(pass->worker->source, pass->collection, &replaced, &ignored) &&
           replaced;
}

/* Of an error of the read. *out_gone: it is none, since there is nothing to read any more. */
static tow_outcome_t judge_read(const tow_pass_t *pass, const tow_error_t *error, bool *out_gone)
{
    tow_outcome_t outcome = tow_pass_judge(pass, error);

    *out_gone = outcome == TOW_PASS_FAILED && is_replaced(pass);
    return *out_gone ? TOW_PASS_DONE : outcome;
}

/* Reading ---------------------------------------------------------------------------------------*/

static tow_outcome_t read_range(tow_pass_t *pass, tow_optime_t lo, tow_optime_t *out_hi,
                                tow_error_t *error)
{
    tow_read_t what = {.database = pass->collection->database,
                       .collection = pass->collection->name,
                       .min = pass->range.has_min ? &pass->range.min : NULL,
                       .max = pass->range.has_max ? &pass->range.max : NULL,
                       .natural = pass->collection->capped,
                       .after = lo,
                       .batch_documents = TOW_BATCH_DOCUMENTS};
    tow_reader_t *reader = tow_reader_open(pass->worker->source, &what, error);
    bool more = true, gone = false;
    tow_outcome_t outcome = reader ? TOW_PASS_DONE : judge_read(pass, error, &gone), written;
    tow_error_t failure;

    while (outcome == TOW_PASS_DONE && more && !gone) {
        if (!tow_pass_submit(pass, reader))
            break;
        if (!tow_reader_next_batch(reader, &more, error))
            outcome = judge_read(pass, error, &gone);
        if (more && !gone)
            wait_while_paused(pass);
    }
    written = tow_pass_settle(pass, &failure);
    /* The read's own error goes first: an insert may merely have gone the same way. */
    if (outcome == TOW_PASS_DONE && written != TOW_PASS_DONE) {
        outcome = written;
        *error = failure;
    }
    if (outcome ==
        TOW_PASS_DONE) /* where it was gone: the time at which the catalog said so, or later */
        *out_hi =
            gone ? tow_link_time(pass->worker->copy->options.source) : tow_reader_time(reader);
    tow_reader_close(reader);
    return outcome;
}

/* What this attempt has written does not count. */
static void uncount(tow_pass_t *pass)
{
    tow_copy_t *copy = pass->worker->copy;

    atomic_fetch_sub(&copy->documents, pass->documents);
    atomic_fetch_sub(&copy->bytes, pass->bytes);
}

/* The last range of a collection queues its indexes. Marking and asking are one step, so that
 * exactly one worker finds it the last. */
static void finish(tow_pass_t *pass, tow_optime_t hi)
{
    tow_copy_t *copy = pass->worker->copy;
    tow_namespaces_t *table = copy->options.namespaces;
    bool last;

    tow_copy_lock(copy);
    tow_namespaces_finish_range(table, pass->collection, pass->range.number, hi, pass->documents,
                                pass->bytes);
    last = tow_namespaces_copied(table, pass->collection);
    tow_copy_unlock(copy);
    if (last)
        tow_copy_queue_indexes(copy, pass->collection);
}

/* One attempt: `again` says that the destination may hold part of the range. */
static tow_outcome_t attempt_range(tow_pass_t *pass, bool again, tow_error_t *error)
{
    tow_copy_t *copy = pass->worker->copy;
    tow_namespaces_t *table = copy->options.namespaces;
    tow_store_t *store = copy->options.store;
    uint32_t number = pass->range.number;
    tow_optime_t lo, hi = 0;
    tow_range_t record;
    tow_outcome_t outcome;

    pass->documents = pass->bytes = 0;
    pass->advanced = false;
    pass->outcome = TOW_PASS_DONE;
    pass->again = again;
    lo = tow_namespaces_start_range(table, pass->collection, number, copy->options.source);
    record = tow_namespaces_range(table, pass->collection, number);
    /* Recorded before the first write, and before what is there is deleted, since an attempt whose
     * end is not known may have recorded it as done: a crash from here on is known by it. */
    if (!tow_store_put_range(store, pass->collection->ns, &record, error) ||
        (again && !empty_range(pass, error)))
        return tow_pass_judge(pass, error);
    outcome = read_range(pass, lo, &hi, error);
    if (outcome != TOW_PASS_DONE) {
        uncount(pass);
        if (outcome == TOW_PASS_AGAIN)
            tow_namespaces_reopen_range(table, pass->collection, number);
        return outcome;
    }
    /* The record first: a range that counts as done must be found done after a crash. */
    record.state = TOW_RANGE_DONE;
    record.hi = hi > lo ? hi : lo;
    record.documents = pass->documents;
    record.bytes = pass->bytes;
    if (!tow_store_put_range(store, pass->collection->ns, &record, error)) {
        uncount(pass);
        return tow_pass_judge(pass, error);
    }
    finish(pass, hi);
    return TOW_PASS_DONE;
}

static void copy_range(tow_worker_t *worker, tow_namespace_t *collection, uint32_t number)
{
    tow_copy_t *copy = worker->copy;
    tow_pass_t pass = {.worker = worker,
                       .collection = collection,
                       .range = tow_namespaces_range(copy->options.namespaces, collection, number)};
    bool again = pass.range.state == TOW_RANGE_STARTED;
    int64_t failing_ms = 0; /* since when it gets no further */
    unsigned failures = 0;  /* since then */
    tow_outcome_t outcome;
    tow_error_t error;

    for (unsigned attempt = 1;; attempt++, failures++) {
        outcome = attempt_range(&pass, again, &error);
        if (outcome != TOW_PASS_AGAIN)
            break;
        again = true;
        if (pass.advanced || attempt == 1) {
            failures = 0;
            failing_ms = tow_now_ms();
        }
        tow_fail_context(&error, "copy %s range %u", collection->ns, number);
        tow_emit(&copy->options.sink, TOW_LEVEL_WARNING, "range_again", "%s", error.message);
        if (attempt == ATTEMPTS_MOST ||
            !tow_backoff(copy->options.source, failures, failing_ms + TOW_PASS_RETRY_MS)) {
            tow_copy_fail(copy, &error);
            return;
        }
    }
    if (outcome == TOW_PASS_FAILED) {
        tow_fail_context(&error, "copy %s range %u", collection->ns, number);
        tow_copy_fail(copy, &error);
    }
}

void *tow_copy_worker(void *data)
{
    tow_worker_t *worker = data;
    tow_copy_t *copy = worker->copy;

    tow_copy_lock(copy);
    while (!tow_copy_ended(copy)) {
        tow_task_t *task = copy->paused ? NULL : copy->tasks;

        if (!task) {
            tow_copy_wait_changed(copy);
            continue;
        }
        DL_DELETE(copy->tasks, task);
        worker->current = task->collection;
        tow_copy_unlock(copy);
        copy_range(worker, task->collection, task->range);
        free(task);
        tow_copy_lock(copy);
        worker->current = NULL;
        atomic_fetch_sub(&copy->unfinished, 1);
        pthread_cond_broadcast(&copy->changed);
    }
    tow_copy_unlock(copy);
    return NULL;
}
