/* SPDX-License-Identifier: Apache-2.0 */
/* store.c: commands on the job's database, the job's document and its checkpoint. */
#include "engine/link/codes.h"
#include "engine/state/store_internal.h"

#include <inttypes.h>
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

/* The reply of an update of one document. */
static bool read_update(const tow_store_t *store, const bson_t *reply, int64_t *out_matched,
                        int *out_code, tow_error_t *error)
{
    tow_write_error_t failure;
    uint32_t position = 0;
    bson_iter_t iter;

    if (bson_iter_init_find(&iter, reply, "n"))
        *out_matched = bson_iter_as_int64(&iter);
    if (!tow_reply_write_error(reply, &position, &failure))
        return true;
    *out_code = failure.code;
    return failure.code == TOW_CODE_DUPLICATE_KEY ||
           tow_fail(error, TOW_ERROR_SERVER, "the job's state (%s): %s", store->database,
                    failure.message);
}

static bool update_with(tow_store_t *store, tow_conn_t *conn, const char *collection,
                        const bson_t *filter, const bson_t *update, bool pipeline, bool upsert,
                        int64_t *out_matched, int *out_code, tow_error_t *error)
{
    tow_send_options_t send = {.flags = TOW_SEND_WRITE | TOW_SEND_ONCE | TOW_SEND_RETRY};
    bson_t command = BSON_INITIALIZER, list, statement, reply;
    bool ok;

    *out_matched = 0;
    *out_code = 0;
    bson_append_utf8(&command, "update", -1, collection, -1);
    bson_append_array_begin(&command, "updates", -1, &list);
    bson_append_document_begin(&list, "0", -1, &statement);
    bson_append_document(&statement, "q", -1, filter);
    if (pipeline)
        bson_append_array(&statement, "u", -1, update);
    else
        bson_append_document(&statement, "u", -1, update);
    bson_append_bool(&statement, "upsert", -1, upsert);
    bson_append_document_end(&list, &statement);
    bson_append_array_end(&command, &list);
    ok = tow_conn_command(conn, store->database, &command, &send, &reply, error) ||
         tow_fail_context(error, "the job's state (%s)", store->database);
    ok = ok && read_update(store, &reply, out_matched, out_code, error);
    bson_destroy(&reply);
    bson_destroy(&command);
    return ok;
}

bool tow_store_update_one(tow_store_t *store, const char *collection, const bson_t *filter,
                          const bson_t *update, bool pipeline, bool upsert, int64_t *out_matched,
                          int *out_code, tow_error_t *error)
{
    return update_with(store, store->conn, collection, filter, update, pipeline, upsert,
                       out_matched, out_code, error);
}

bool tow_store_now(tow_store_t *store, int64_t *out_ms, tow_error_t *error)
{
    bson_t command = BSON_INITIALIZER, reply;
    bson_iter_t iter;
    bool ok;

    bson_append_int32(&command, "isMaster", -1, 1);
    ok = tow_store_run(store, &command, 0, &reply, error);
    *out_ms = tow_wall_ms();
    if (ok && bson_iter_init_find(&iter, &reply, "localTime"))
        tow_iter_wall_ms(&iter, out_ms);
    bson_destroy(&reply);
    bson_destroy(&command);
    return ok;
}

/* A document by its _id, as of all that this side is known to have done: a majority read alone may
 * see less after an election. What `is_whole` does not take is asked for again, and
 * then an error. */
static bool find_whole(tow_store_t *store, tow_conn_t *conn, const char *collection, const char *id,
                       tow_is_whole_fn is_whole, const char *what, bson_t *out, bool *out_found,
                       tow_error_t *error)
{
    tow_link_t *link = tow_conn_link(conn);
    tow_optime_t after = tow_link_facts(link)->standalone ? 0 : tow_link_time(link);
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
    ok = tow_conn_ask_after(conn, store->database, &command, TOW_SEND_READ, after, is_whole, what,
                            &reply, error) ||
         tow_fail_context(error, "the job's state (%s)", store->database);
    if (ok && tow_reply_cursor(&reply, &cursor) &&
        tow_batch_document(&cursor.batch, &first, &broken)) {
        bson_copy_to(&first, out);
        *out_found = true;
    }
    bson_destroy(&reply);
    bson_destroy(&command);
    return ok;
}

static bool find_with(tow_store_t *store, tow_conn_t *conn, const char *collection, const char *id,
                      bson_t *out, bool *out_found, tow_error_t *error)
{
    return find_whole(store, conn, collection, id, tow_reply_holds_documents, "find", out,
                      out_found, error);
}

bool tow_store_find_one(tow_store_t *store, const char *collection, const char *id, bson_t *out,
                        bool *out_found, tow_error_t *error)
{
    return find_with(store, store->conn, collection, id, out, out_found, error);
}

static bool fail_removed(const tow_store_t *store, tow_error_t *error)
{
    return tow_fail(
        error, TOW_ERROR_LEASE,
        "the job's state (%s) was removed from the destination; this process stops. What it "
        "copied is still there, but where it stood is lost: a new job begins from the start "
        "(towline run --clear-destination drops what was copied first)",
        store->database);
}

/* Why no document of the job is ours any more. */
static bool fail_lost(tow_store_t *store, tow_conn_t *conn, tow_error_t *error)
{
    tow_lease_t lease = {0};
    bson_t document;
    bool found;

    if (!find_with(store, conn, "job", "job", &document, &found, error))
        return false;
    if (!found)
        return fail_removed(store, error);
    tow_lease_parse(&document, &lease);
    bson_destroy(&document);
    if (!lease.holder[0])
        return tow_fail(
            error, TOW_ERROR_LEASE,
            "another process took this job over and gave it back (%s); this one stops, the same "
            "command goes on from there",
            store->database);
    return tow_fail(error, TOW_ERROR_LEASE,
                    "process %" PRId64
                    " on %s took this job over (%s); this one stops, and nothing is lost",
                    lease.pid, lease.host, store->database);
}

bool tow_store_update_by(tow_store_t *store, tow_conn_t *conn, const bson_t *update, bool pipeline,
                         tow_error_t *error)
{
    bson_t filter = BSON_INITIALIZER;
    int64_t matched;
    int code;
    bool ok;

    bson_append_utf8(&filter, "_id", -1, "job", -1);
    bson_append_utf8(&filter, "lease.holder", -1, store->holder, -1);
    bson_append_int64(&filter, "epoch", -1, store->epoch);
    ok = update_with(store, conn, "job", &filter, update, pipeline, false, &matched, &code, error);
    bson_destroy(&filter);
    return ok && !matched ? fail_lost(store, conn, error) : ok;
}

bool tow_store_update_guarded(tow_store_t *store, const bson_t *update, tow_error_t *error)
{
    return tow_store_update_by(store, store->conn, update, false, error);
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
    tow_store_lock(store);
    ok = tow_store_update_guarded(store, &update, error);
    tow_store_unlock(store);
    bson_destroy(&update);
    return ok;
}

/* A job that has the lease has a document: none is not an empty one. */
static bool get_whole(tow_store_t *store, tow_is_whole_fn is_whole, const char *what, bson_t *out,
                      tow_error_t *error)
{
    bool found, ok;

    tow_store_lock(store);
    ok = find_whole(store, store->conn, "job", "job", is_whole, what, out, &found, error);
    tow_store_unlock(store);
    if (!ok || !found)
        bson_init(out);
    return ok && !found ? fail_removed(store, error) : ok;
}

bool tow_store_get(tow_store_t *store, bson_t *out, tow_error_t *error)
{
    return get_whole(store, tow_reply_holds_documents, "find", out, error);
}

bool tow_may_be_job_state(const char *database)
{
    return !strncmp(database, "towline_", 8);
}

const char *tow_store_database(const tow_store_t *store)
{
    return store->database;
}

bool tow_store_begin(tow_store_t *store, tow_error_t *error)
{
    bson_t fields = BSON_INITIALIZER;
    bool ok;

    bson_append_bool(&fields, "begun", -1, true);
    ok = tow_store_set(store, &fields, error);
    bson_destroy(&fields);
    return ok;
}

/* Checkpoint ------------------------------------------------------------------------------------*/

void tow_checkpoint_clear(tow_checkpoint_t *checkpoint)
{
    bson_destroy(&checkpoint->token);
    bson_destroy(&checkpoint->ddl_token);
}

/* The checkpoint is stored in the job's document, so that one guarded write stores it. */
bool tow_store_save_checkpoint(tow_store_t *store, const tow_checkpoint_t *checkpoint,
                               tow_error_t *error)
{
    bson_t fields = BSON_INITIALIZER, part;
    bool ok;

    bson_append_document_begin(&fields, "checkpoint", -1, &part);
    bson_append_document(&part, "token", -1, &checkpoint->token);
    tow_store_append_time(&part, "time", checkpoint->time);
    if (!bson_empty(&checkpoint->ddl_token)) {
        bson_append_document(&part, "ddlToken", -1, &checkpoint->ddl_token);
        tow_store_append_time(&part, "ddlTime", checkpoint->ddl_time);
    }
    bson_append_document_end(&fields, &part);
    ok = tow_store_set(store, &fields, error);
    bson_destroy(&fields);
    return ok;
}

/* The checkpoint of the job's document, as its parts. *out_found false: it has none. False: it has
 * one that cannot be read, or was prepared and has none. */
typedef struct {
    bson_t token, ddl_token; /* borrow from the document */
    tow_optime_t time, ddl_time;
} parts_t;

static bool read_parts(const bson_t *document, parts_t *out, bool *out_found)
{
    bson_t checkpoint;
    bson_iter_t iter;

    *out = (parts_t){0};
    *out_found = bson_has_field(document, "checkpoint");
    if (bson_iter_init_find(&iter, document, "prepared") &&
        (!BSON_ITER_HOLDS_BOOL(&iter) || (bson_iter_bool(&iter) && !*out_found)))
        return false;
    if (!*out_found)
        return true;
    return tow_field_document(document, "checkpoint", &checkpoint) &&
           tow_field_document(&checkpoint, "token", &out->token) && !bson_empty(&out->token) &&
           (!bson_has_field(&checkpoint, "time") ||
            (bson_iter_init_find(&iter, &checkpoint, "time") &&
             tow_iter_time(&iter, &out->time))) &&
           (!bson_has_field(&checkpoint, "ddlToken") ||
            tow_field_document(&checkpoint, "ddlToken", &out->ddl_token)) &&
           (!bson_has_field(&checkpoint, "ddlTime") ||
            (bson_iter_init_find(&iter, &checkpoint, "ddlTime") &&
             tow_iter_time(&iter, &out->ddl_time)));
}

static bool holds_checkpoint(const bson_t *reply)
{
    tow_reply_cursor_t cursor;
    bson_t document;
    parts_t parts;
    bool broken, found;

    return tow_reply_holds_documents(reply) && tow_reply_cursor(reply, &cursor) &&
           (!tow_batch_document(&cursor.batch, &document, &broken) ||
            read_parts(&document, &parts, &found));
}

bool tow_store_load_checkpoint(tow_store_t *store, tow_checkpoint_t *out, bool *out_found,
                               tow_error_t *error)
{
    parts_t parts = {0};
    bson_t document;
    bool ok;

    *out_found = false;
    *out = (tow_checkpoint_t){.token = BSON_INITIALIZER, .ddl_token = BSON_INITIALIZER};
    ok = get_whole(store, holds_checkpoint, "the question for the job's checkpoint", &document,
                   error);
    if (ok && read_parts(&document, &parts, out_found) && *out_found) {
        bson_concat(&out->token, &parts.token);
        if (parts.ddl_token.len)
            bson_concat(&out->ddl_token, &parts.ddl_token);
        out->time = parts.time;
        out->ddl_time = parts.ddl_time;
    }
    bson_destroy(&document);
    return ok;
}
