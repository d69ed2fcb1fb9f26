/* worker.c: copies one range after another. Documents go from the reply to the insert as they are. */
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "copy/internal.h"
#include "engine/base/clock.h"
#include "engine/link/reader.h"
#include "engine/state/write.h"

enum {
    BATCH_DOCUMENTS = 5000,
    DUPLICATE_KEY = 11000,
    QUERY_PLAN_KILLED = 175,
    CAPPED_POSITION_LOST = 136,
    RETRY_WINDOW_MS = 600000, /* how long a range may fail without getting any further */
    ATTEMPTS_MOST = 100,      /* also when it gets further each time */
    DUPLICATES_MOST = 3       /* attempts that may meet documents that are there already */
};

typedef enum {
    COPY_DONE,
    COPY_GIVEN_UP, /* stopped, or the collection is stale */
    COPY_AGAIN,    /* an error that reading the range again may cure */
    COPY_FAILED
} outcome_t;

typedef struct {
    tow_worker_t *worker;
    tow_namespace_t *collection;
    tow_range_t range;      /* bounds borrowed from the collection */
    uint64_t documents, bytes;
    uint32_t duplicates;    /* how often documents were there already */
    bool advanced;          /* this attempt has written something */
} pass_t;

static bool given_up(const pass_t *pass)
{
    return tow_copy_ended(pass->worker->copy) || atomic_load(&pass->collection->stale);
}

/* Errors of a read that another read of the range is spared: the collection was dropped, renamed or
 * lost an index under the cursor, or a capped one has overtaken it. */
static bool is_cursor_lost(const tow_error_t *error)
{
    return error->server_code == QUERY_PLAN_KILLED || error->server_code == CAPPED_POSITION_LOST;
}

static outcome_t judge(const pass_t *pass, const tow_error_t *error)
{
    if (given_up(pass))
        return COPY_GIVEN_UP;
    return error->retry == TOW_RETRY_NEVER && !is_cursor_lost(error) ? COPY_FAILED : COPY_AGAIN;
}

static void wait_while_paused(const pass_t *pass)
{
    tow_copy_t *copy = pass->worker->copy;

    pthread_mutex_lock(&copy->lock);
    while (copy->paused && !given_up(pass))
        tow_copy_wait_changed(copy);
    pthread_mutex_unlock(&copy->lock);
}

/* Emptying --------------------------------------------------------------------------------------*/

static void ignore_refusal(void *data, void *tag, const tow_write_error_t *error)
{
    uint32_t *refused = data;

    (*refused)++;
}

/* Deletes what an earlier attempt left of the range. The read waits for all that this process had
 * acknowledged, so that none of it hides from a majority read. */
static bool empty_by_keys(pass_t *pass, tow_error_t *error)
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
            tow_value_t id;

            if (!tow_value_id(&document, &id))
                continue;
            if (!tow_write_fits(&write, id.length)) {
                ok = tow_write_send(&write, destination, ignore_refusal, &refused, &matched, error);
                tow_write_begin(&write, TOW_WRITE_DELETE, pass->collection);
            }
            tow_write_delete(&write, id, NULL);
        }
        ok = ok && tow_reader_next_batch(reader, &more, error);
    }
    ok = ok && tow_write_send(&write, destination, ignore_refusal, &refused, &matched, error);
    tow_write_clear(&write);
    tow_reader_close(reader);
    bson_destroy(&projection);
    return ok;
}

/* Older servers do not delete from capped collections: drop and create. */
static bool empty_by_drop(pass_t *pass, tow_error_t *error)
{
    tow_collection_info_t info = {.database = pass->collection->database,
                                  .name = pass->collection->name,
                                  .ns = pass->collection->ns,
                                  .type = pass->collection->type,
                                  .options = pass->collection->options,
                                  .capped = true};

    return tow_copy_drop(pass->worker->destination, info.database, info.name, error) &&
           tow_copy_create(pass->worker->destination, &info, error);
}

static bool empty_range(pass_t *pass, tow_error_t *error)
{
    bool ok = pass->collection->capped ? empty_by_drop(pass, error) : empty_by_keys(pass, error);

    return ok ? true : tow_fail_context(error, "empty what an earlier attempt left");
}

/* Writing ---------------------------------------------------------------------------------------*/

/* Whether the server puts its own time into a field of the document. */
static bool has_empty_timestamp(const bson_t *document)
{
    bson_iter_t iter;

    if (!bson_iter_init(&iter, document))
        return false;
    while (bson_iter_next(&iter)) {
        uint32_t seconds, increment;

        if (!BSON_ITER_HOLDS_TIMESTAMP(&iter) || !strcmp(bson_iter_key(&iter), "_id"))
            continue;
        bson_iter_timestamp(&iter, &seconds, &increment);
        if (!seconds && !increment)
            return true;
    }
    return false;
}

/* [{$replaceWith: {$literal: document}}]: exact also where names hold dots and dollars. */
static void build_literal(const bson_t *document, bson_t *out)
{
    bson_t stage, literal;

    bson_init(out);
    bson_append_document_begin(out, "0", 1, &stage);
    bson_append_document_begin(&stage, "$replaceWith", -1, &literal);
    bson_append_document(&literal, "$literal", -1, document);
    bson_append_document_end(&stage, &literal);
    bson_append_document_end(out, &stage);
}

/* Without bypassEmptyTsReplacement the server fills in Timestamp(0,0) fields: put them right. */
static bool restore_timestamps(pass_t *pass, size_t count, tow_error_t *error)
{
    tow_write_t write = {0};
    uint32_t matched, refused = 0;
    bool ok = true;

    tow_write_begin(&write, TOW_WRITE_UPDATE, pass->collection);
    for (size_t i = 0; ok && i < count; i++) {
        const bson_t *document = &pass->worker->documents[i];
        tow_value_t id;
        bson_t pipeline;

        if (!has_empty_timestamp(document) || !tow_value_id(document, &id))
            continue;
        build_literal(document, &pipeline);
        if (!tow_write_fits(&write, pipeline.len)) {
            ok = tow_write_send(&write, pass->worker->destination, ignore_refusal, &refused,
                                &matched, error);
            tow_write_begin(&write, TOW_WRITE_UPDATE, pass->collection);
        }
        tow_write_update(&write, id, &pipeline, true, NULL);
        bson_destroy(&pipeline);
    }
    ok = ok && tow_write_send(&write, pass->worker->destination, ignore_refusal, &refused, &matched,
                              error);
    tow_write_clear(&write);
    if (ok && refused)
        return tow_fail(error, TOW_ERROR_SERVER, "empty timestamps could not be restored");
    return ok;
}

static outcome_t insert_batch(pass_t *pass, size_t count, uint64_t bytes, tow_error_t *error)
{
    tow_worker_t *worker = pass->worker;
    tow_copy_t *copy = worker->copy;
    tow_write_error_t refusal;
    uint32_t position = 0;
    bson_t reply;
    outcome_t outcome = COPY_DONE;

    if (!count)
        return COPY_DONE;
    if (!tow_conn_insert(worker->destination, pass->collection->database, pass->collection->name,
                         worker->pointers, count, pass->collection->capped, &reply, error)) {
        outcome = judge(pass, error);
    } else if (tow_reply_write_error(&reply, &position, &refusal)) {
        char id[200] = "?";
        tow_value_t value;

        if (refusal.index < count && tow_value_id(worker->pointers[refusal.index], &value))
            tow_value_text(value, id, sizeof id);
        tow_fail(error, TOW_ERROR_SERVER, "document with _id %s: %s", id, refusal.message);
        if (refusal.code == DUPLICATE_KEY && ++pass->duplicates < DUPLICATES_MOST)
            outcome = COPY_AGAIN; /* of an attempt whose end is not known, or that still runs */
        else
            outcome = given_up(pass) ? COPY_GIVEN_UP : COPY_FAILED;
    } else if (!tow_link_facts(copy->options.destination)->bypass_empty_ts &&
               !restore_timestamps(pass, count, error)) {
        outcome = judge(pass, error);
    }
    bson_destroy(&reply);
    if (outcome == COPY_DONE) {
        pass->documents += count;
        pass->bytes += bytes;
        pass->advanced = true;
        atomic_fetch_add(&copy->documents, count);
        atomic_fetch_add(&copy->bytes, bytes);
    }
    return outcome;
}

/* One whole batch of the reader, in one insert unless it holds very many documents. */
static outcome_t pass_batch(pass_t *pass, tow_reader_t *reader, tow_error_t *error)
{
    tow_worker_t *worker = pass->worker;
    outcome_t outcome = COPY_DONE;
    size_t count = 0;
    uint64_t bytes = 0;

    while (outcome == COPY_DONE && tow_reader_next(reader, &worker->documents[count])) {
        bytes += worker->documents[count].len;
        if (++count == BATCH_DOCUMENTS) {
            outcome = insert_batch(pass, count, bytes, error);
            count = 0;
            bytes = 0;
        }
    }
    return outcome == COPY_DONE ? insert_batch(pass, count, bytes, error) : outcome;
}

static outcome_t read_range(pass_t *pass, tow_optime_t lo, tow_optime_t *out_hi,
                            tow_error_t *error)
{
    tow_read_t what = {.database = pass->collection->database,
                       .collection = pass->collection->name,
                       .min = pass->range.has_min ? &pass->range.min : NULL,
                       .max = pass->range.has_max ? &pass->range.max : NULL,
                       .natural = pass->collection->capped,
                       .after = lo,
                       .batch_documents = BATCH_DOCUMENTS};
    tow_reader_t *reader = tow_reader_open(pass->worker->source, &what, error);
    outcome_t outcome = reader ? COPY_DONE : judge(pass, error);
    bool more = true;

    while (outcome == COPY_DONE && more) {
        outcome = pass_batch(pass, reader, error);
        if (outcome == COPY_DONE && !tow_reader_next_batch(reader, &more, error))
            outcome = judge(pass, error);
        if (more)
            wait_while_paused(pass);
        if (outcome == COPY_DONE && given_up(pass))
            outcome = COPY_GIVEN_UP;
    }
    if (outcome == COPY_DONE)
        *out_hi = tow_reader_time(reader);
    tow_reader_close(reader);
    return outcome;
}

/* What this attempt has written does not count. */
static void uncount(pass_t *pass)
{
    tow_copy_t *copy = pass->worker->copy;

    atomic_fetch_sub(&copy->documents, pass->documents);
    atomic_fetch_sub(&copy->bytes, pass->bytes);
}

/* The last range of a collection queues its indexes. Marking and asking are one step, so that
 * exactly one worker finds it the last. */
static void finish(pass_t *pass, tow_optime_t hi)
{
    tow_copy_t *copy = pass->worker->copy;
    tow_namespaces_t *table = copy->options.namespaces;
    bool last;

    pthread_mutex_lock(&copy->lock);
    tow_namespaces_finish_range(table, pass->collection, pass->range.number, hi, pass->documents,
                                pass->bytes);
    last = tow_namespaces_copied(table, pass->collection);
    pthread_mutex_unlock(&copy->lock);
    if (last)
        tow_copy_queue_indexes(copy, pass->collection);
}

/* One attempt: `again` says that the destination may hold part of the range. */
static outcome_t attempt_range(pass_t *pass, bool again, tow_error_t *error)
{
    tow_copy_t *copy = pass->worker->copy;
    tow_namespaces_t *table = copy->options.namespaces;
    tow_store_t *store = copy->options.store;
    uint32_t number = pass->range.number;
    tow_optime_t lo, hi = 0;
    tow_range_t record;
    outcome_t outcome;

    pass->documents = pass->bytes = 0;
    pass->advanced = false;
    if (again && !empty_range(pass, error))
        return judge(pass, error);
    lo = tow_namespaces_start_range(table, pass->collection, number, copy->options.source);
    record = tow_namespaces_range(table, pass->collection, number);
    /* Recorded before the first write: a crash from here on is known by it. */
    if (!tow_store_put_range(store, pass->collection->ns, &record, error))
        return judge(pass, error);
    outcome = read_range(pass, lo, &hi, error);
    if (outcome != COPY_DONE) {
        uncount(pass);
        if (outcome == COPY_AGAIN)
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
        return judge(pass, error);
    }
    finish(pass, hi);
    return COPY_DONE;
}

static void copy_range(tow_worker_t *worker, tow_namespace_t *collection, uint32_t number)
{
    tow_copy_t *copy = worker->copy;
    pass_t pass = {.worker = worker,
                   .collection = collection,
                   .range = tow_namespaces_range(copy->options.namespaces, collection, number)};
    bool again = pass.range.state == TOW_RANGE_STARTED;
    int64_t failing_ms = 0; /* since when it gets no further */
    unsigned failures = 0;  /* since then */
    outcome_t outcome;
    tow_error_t error;

    for (unsigned attempt = 1;; attempt++, failures++) {
        outcome = attempt_range(&pass, again, &error);
        if (outcome != COPY_AGAIN)
            break;
        again = true;
        if (pass.advanced || attempt == 1) {
            failures = 0;
            failing_ms = tow_now_ms();
        }
        tow_fail_context(&error, "copy %s range %u", collection->ns, number);
        tow_emit(&copy->options.sink, TOW_LEVEL_WARNING, "range_again", "%s", error.message);
        if (attempt == ATTEMPTS_MOST ||
            !tow_backoff(copy->options.source, failures, failing_ms + RETRY_WINDOW_MS)) {
            tow_copy_fail(copy, &error);
            return;
        }
    }
    if (outcome == COPY_FAILED) {
        tow_fail_context(&error, "copy %s range %u", collection->ns, number);
        tow_copy_fail(copy, &error);
    }
}

void *tow_copy_worker(void *data)
{
    tow_worker_t *worker = data;
    tow_copy_t *copy = worker->copy;

    worker->documents = tow_alloc(BATCH_DOCUMENTS * sizeof *worker->documents);
    worker->pointers = tow_alloc(BATCH_DOCUMENTS * sizeof *worker->pointers);
    for (uint32_t i = 0; i < BATCH_DOCUMENTS; i++)
        worker->pointers[i] = &worker->documents[i];
    pthread_mutex_lock(&copy->lock);
    while (!tow_copy_ended(copy)) {
        tow_task_t *task = copy->paused ? NULL : copy->tasks;

        if (!task) {
            tow_copy_wait_changed(copy);
            continue;
        }
        DL_DELETE(copy->tasks, task);
        worker->current = task->collection;
        pthread_mutex_unlock(&copy->lock);
        copy_range(worker, task->collection, task->range);
        free(task);
        pthread_mutex_lock(&copy->lock);
        worker->current = NULL;
        atomic_fetch_sub(&copy->unfinished, 1);
        pthread_cond_broadcast(&copy->changed);
    }
    pthread_mutex_unlock(&copy->lock);
    return NULL;
}
