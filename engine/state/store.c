/* store.c: commands on the job's database, the job's document and its checkpoint. */
#include "engine/state/store_internal.h"

#include <string.h>

#include "engine/base/clock.h"
#include "engine/link/reply.h"

bool tow_store_run(tow_store_t *store, const bson_t *command, int flags, bson_t *reply,
                   tow_error_t *error)
{
    tow_send_options_t send = {.flags = flags | TOW_SEND_RETRY};

    if (tow_conn_command(store->conn, store->database, command, &send, reply, error))
        return true;
    return tow_fail_context(error, "the job's state (%s)", store->database);
}

/* update one document; *out_matched: how many the filter found (or were inserted). */
bool tow_store_update_one(tow_store_t *store, const char *collection, const bson_t *filter,
                          const bson_t *update, bool upsert, int64_t *out_matched, int *out_code,
                          tow_error_t *error)
{
    bson_t command = BSON_INITIALIZER, list, statement, reply;
    tow_write_error_t failure;
    bson_iter_t iter;
    uint32_t position = 0;
    bool ok;

    *out_matched = 0;
    *out_code = 0;
    bson_append_utf8(&command, "update", -1, collection, -1);
    bson_append_array_begin(&command, "updates", -1, &list);
    bson_append_document_begin(&list, "0", -1, &statement);
    bson_append_document(&statement, "q", -1, filter);
    bson_append_document(&statement, "u", -1, update);
    bson_append_bool(&statement, "upsert", -1, upsert);
    bson_append_document_end(&list, &statement);
    bson_append_array_end(&command, &list);
    ok = tow_store_run(store, &command, TOW_SEND_WRITE | TOW_SEND_ONCE, &reply, error);
    if (ok && bson_iter_init_find(&iter, &reply, "n"))
        *out_matched = bson_iter_as_int64(&iter);
    if (ok && tow_reply_write_error(&reply, &position, &failure)) {
        *out_code = failure.code;
        if (failure.code != TOW_DUPLICATE_KEY)
            ok = tow_fail(error, TOW_ERROR_SERVER, "the job's state (%s): %s", store->database,
                          failure.message);
    }
    bson_destroy(&reply);
    bson_destroy(&command);
    return ok;
}

/* No answer is not the answer that there is no job. */
static bool holds_documents(const bson_t *reply)
{
    tow_reply_cursor_t cursor;
    bson_t document;
    bool broken;

    if (!tow_reply_cursor(reply, &cursor))
        return false;
    while (tow_batch_document(&cursor.batch, &document, &broken))
        continue;
    return !broken;
}

bool tow_store_find_one(tow_store_t *store, const char *collection, const char *id, bson_t *out,
                        bool *out_found, tow_error_t *error)
{
    bson_t command = BSON_INITIALIZER, filter, reply, first;
    tow_reply_cursor_t cursor;
    bool ok, broken;

    *out_found = false;
    bson_append_utf8(&command, "find", -1, collection, -1);
    bson_append_document_begin(&command, "filter", -1, &filter);
    bson_append_utf8(&filter, "_id", -1, id, -1);
    bson_append_document_end(&command, &filter);
    bson_append_int32(&command, "limit", -1, 1);
    bson_append_bool(&command, "singleBatch", -1, true);
    ok = tow_conn_ask(store->conn, store->database, &command, TOW_SEND_READ, holds_documents, "find", &reply,
                      error) ||
         tow_fail_context(error, "the job's state (%s)", store->database);
    if (ok && tow_reply_cursor(&reply, &cursor) && tow_batch_document(&cursor.batch, &first, &broken)) {
        bson_copy_to(&first, out);
        *out_found = true;
    }
    bson_destroy(&reply);
    bson_destroy(&command);
    return ok;
}

bool tow_store_update_guarded(tow_store_t *store, const bson_t *update, tow_error_t *error)
{
    bson_t filter = BSON_INITIALIZER;
    int64_t matched;
    int code;
    bool ok;

    bson_append_utf8(&filter, "_id", -1, "job", -1);
    bson_append_utf8(&filter, "lease.holder", -1, store->holder, -1);
    ok = tow_store_update_one(store, "job", &filter, update, false, &matched, &code, error);
    bson_destroy(&filter);
    if (ok && !matched)
        return tow_fail(error, TOW_ERROR_LEASE,
                        "another process took this job over, or its state (%s) was removed; this "
                        "one stops, nothing is lost",
                        store->database);
    return ok;
}

bool tow_store_drop(tow_store_t *store, tow_error_t *error)
{
    bson_t command = BSON_INITIALIZER, reply;
    bool ok;

    bson_append_int32(&command, "dropDatabase", -1, 1);
    pthread_mutex_lock(&store->lock);
    ok = tow_store_run(store, &command, TOW_SEND_WRITE, &reply, error);
    pthread_mutex_unlock(&store->lock);
    bson_destroy(&reply);
    bson_destroy(&command);
    return ok;
}

void tow_store_append_time(bson_t *out, const char *name, tow_optime_t time)
{
    if (!time)
        return;
    bson_append_timestamp(out, name, -1, (uint32_t)(time >> 32), (uint32_t)time);
}

tow_optime_t tow_store_read_time(const bson_iter_t *iter)
{
    tow_optime_t time = 0;

    tow_iter_time(iter, &time);
    return time;
}

bool tow_store_set(tow_store_t *store, const bson_t *fields, tow_error_t *error)
{
    bson_t update = BSON_INITIALIZER;
    bool ok;

    bson_append_document(&update, "$set", -1, fields);
    pthread_mutex_lock(&store->lock);
    ok = tow_store_update_guarded(store, &update, error);
    pthread_mutex_unlock(&store->lock);
    bson_destroy(&update);
    return ok;
}

bool tow_store_get(tow_store_t *store, bson_t *out, tow_error_t *error)
{
    bool found, ok;

    pthread_mutex_lock(&store->lock);
    ok = tow_store_find_one(store, "job", "job", out, &found, error);
    pthread_mutex_unlock(&store->lock);
    if (!ok || !found)
        bson_init(out);
    return ok;
}

/* The checkpoint stands in the job's document, so that one guarded write stores it. */
bool tow_store_save_checkpoint(tow_store_t *store, const tow_checkpoint_t *checkpoint,
                               tow_error_t *error)
{
    bson_t fields = BSON_INITIALIZER, part;
    bool ok;

    bson_append_document_begin(&fields, "checkpoint", -1, &part);
    bson_append_document(&part, "token", -1, &checkpoint->token);
    tow_store_append_time(&part, "time", checkpoint->time);
    tow_store_append_time(&part, "ddlTime", checkpoint->ddl_time);
    bson_append_document_end(&fields, &part);
    ok = tow_store_set(store, &fields, error);
    bson_destroy(&fields);
    return ok;
}

bool tow_store_load_checkpoint(tow_store_t *store, tow_checkpoint_t *out, bool *out_found,
                               tow_error_t *error)
{
    bson_t document, token;
    bson_iter_t iter, field;
    bool ok = tow_store_get(store, &document, error);

    *out_found = false;
    *out = (tow_checkpoint_t){0};
    if (ok && bson_iter_init_find(&iter, &document, "checkpoint") &&
        BSON_ITER_HOLDS_DOCUMENT(&iter) && bson_iter_recurse(&iter, &field))
        while (bson_iter_next(&field)) {
            const char *name = bson_iter_key(&field);

            if (!strcmp(name, "token") && !*out_found && tow_iter_document(&field, &token)) {
                bson_copy_to(&token, &out->token);
                *out_found = true;
            } else if (!strcmp(name, "time")) {
                out->time = tow_store_read_time(&field);
            } else if (!strcmp(name, "ddlTime")) {
                out->ddl_time = tow_store_read_time(&field);
            }
        }
    bson_destroy(&document);
    return ok;
}
