/* SPDX-License-Identifier: Apache-2.0 */
/* reader.c: see reader.h. */
#include "engine/link/reader.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/memory.h"
#include "engine/link/codes.h"
#include "engine/link/reply.h"

struct tow_reader {
    tow_conn_t *conn;
    char *database, *collection;
    int32_t batch_documents;
    int64_t cursor;
    uint32_t server;
    tow_batch_t batch;
    bool has_reply;
    uint32_t batch_bytes;
    uint64_t kept, kept_most; /* bytes of the replies so far */
    unsigned empty;           /* batches without a document, one after another */
    tow_optime_t time;
};

static void append_bound(bson_t *command, const char *name, const bson_value_t *value)
{
    bson_t bound;

    if (!value)
        return;
    bson_append_document_begin(command, name, -1, &bound);
    bson_append_value(&bound, "_id", 3, value);
    bson_append_document_end(command, &bound);
}

/* The class of an _id whose values a comparison brackets off from all others; 0: none that is
 * surely exact (a NaN compares to nothing, an object is compared by field order). */
static int bracket_of(const bson_value_t *value)
{
    switch (value->value_type) {
    case BSON_TYPE_DOUBLE:
        return isnan(value->value.v_double) ? 0 : 1;
    case BSON_TYPE_INT32:
    case BSON_TYPE_INT64:
        return 1;
    case BSON_TYPE_UTF8:
        return 2;
    case BSON_TYPE_OID:
        return 3;
    case BSON_TYPE_DATE_TIME:
        return 4;
    case BSON_TYPE_BINARY:
        return 5;
    default:
        return 0;
    }
}

/* Between two bounds of one class lie only values of that class, so that bracketing loses nothing.
 * Every server bounds such a filter by the index; not all do so for min and max. */
static bool is_bracketed(const tow_read_t *what)
{
    return what->min && what->max && !what->filter && bracket_of(what->min) &&
           bracket_of(what->min) == bracket_of(what->max);
}

static void append_bracket(bson_t *command, const tow_read_t *what)
{
    bson_t filter, condition;

    bson_append_document_begin(command, "filter", -1, &filter);
    bson_append_document_begin(&filter, "_id", -1, &condition);
    bson_append_value(&condition, "$gte", -1, what->min);
    bson_append_value(&condition, "$lt", -1, what->max);
    bson_append_document_end(&filter, &condition);
    bson_append_document_end(command, &filter);
}

static void build_find(const tow_read_t *what, bson_t *out)
{
    bson_t hint;

    bson_init(out);
    bson_append_utf8(out, "find", -1, what->collection, -1);
    if (what->filter)
        bson_append_document(out, "filter", -1, what->filter);
    else if (!what->natural && is_bracketed(what))
        append_bracket(out, what);
    if (what->projection)
        bson_append_document(out, "projection", -1, what->projection);
    if (what->collation)
        bson_append_document(out, "collation", -1, what->collation);
    /* Bounds need a hint; a filter, and a whole collection, are better left to the planner. */
    if (what->natural || what->min || what->max) {
        bson_append_document_begin(out, "hint", -1, &hint);
        bson_append_int32(&hint, what->natural ? "$natural" : "_id", -1,
                          what->natural && what->newest_first ? -1 : 1);
        bson_append_document_end(out, &hint);
    }
    if (!what->natural && !is_bracketed(what)) {
        append_bound(out, "min", what->min);
        append_bound(out, "max", what->max);
    }
    if (what->batch_documents)
        bson_append_int32(out, "batchSize", -1, what->batch_documents);
    if (what->prefer_no_timeout)
        bson_append_bool(out, "noCursorTimeout", -1, true);
}

static bool fail_malformed(const char *what, tow_error_t *error)
{
    tow_fail(error, TOW_ERROR_SERVER, "%s", what);
    error->retry = TOW_RETRY_RECONNECT;
    return false;
}

/* Sets the batch's iterator; *out_cursor when not NULL. False: the reply is malformed. */
static bool open_batch(tow_batch_t *batch, int64_t *out_cursor)
{
    tow_reply_cursor_t cursor;

    batch->open = tow_reply_cursor(&batch->reply, &cursor);
    batch->iter = cursor.batch;
    if (batch->open && out_cursor)
        *out_cursor = cursor.id;
    return batch->open;
}

/* It never goes back: a reply without a time must not make hi earlier than what was read. */
static void take_time(tow_reader_t *reader, tow_optime_t time)
{
    if (time > reader->time)
        reader->time = time;
}

static bool check_end(tow_reader_t *reader, bool any, tow_error_t *error)
{
    reader->empty = any ? 0 : reader->empty + 1;
    if (reader->kept_most)
        reader->kept += reader->batch_bytes;
    return (reader->kept <= reader->kept_most && reader->empty <= TOW_EMPTY_BATCHES_MOST) ||
           tow_fail(
               error, TOW_ERROR_SERVER,
               "what the %s answers does not end, or is larger than %llu MB",
               tow_link_side(tow_conn_link(reader->conn)),
               (unsigned long long)(reader->kept_most ? reader->kept_most : TOW_KEPT_BYTES_MOST) >>
                   20);
}

static bool has_time(const bson_t *reply)
{
    bson_iter_t iter;
    tow_optime_t time;

    return bson_iter_init_find(&iter, reply, "operationTime") && tow_iter_time(&iter, &time);
}

/* A collection that was dropped or renamed is gone at once, also for a read of majority, whose
 * operationTime is then earlier than that of the drop or rename. But $clusterTime is never earlier
 * than what a server has done. */
static bool take_reply(tow_reader_t *reader, tow_error_t *error)
{
    const bson_t *reply = &reader->batch.reply;
    bson_iter_t first;
    bool any;

    reader->batch_bytes = reply->len;
    if (!open_batch(&reader->batch, &reader->cursor))
        return fail_malformed("a reply has no cursor with a batch", error);
    first = reader->batch.iter;
    any = bson_iter_next(&first);
    /* What was read as of no time would count as read at its beginning. */
    if (!has_time(reply) && !tow_link_facts(tow_conn_link(reader->conn))->standalone)
        return fail_malformed("a reply does not tell its time", error);
    take_time(reader, any ? tow_reply_time(reply) : tow_reply_newest_time(reply));
    return check_end(reader, any, error);
}

tow_reader_t *tow_reader_open(tow_conn_t *conn, const tow_read_t *what, tow_error_t *error)
{
    tow_reader_t *reader = tow_alloc(sizeof *reader);
    tow_send_options_t send = {.flags = TOW_SEND_READ, .after = what->after};
    bson_t command;
    bool ok;

    reader->conn = conn;
    reader->database = tow_strdup(what->database);
    reader->collection = tow_strdup(what->collection);
    reader->batch_documents = what->batch_documents;
    reader->kept_most = what->kept_most;
    build_find(what, &command);
    ok = tow_conn_command(conn, what->database, &command, &send, &reader->batch.reply, error);
    bson_destroy(&command);
    reader->has_reply = true;
    reader->server = tow_conn_server(conn);
    if (!ok && error->server_code == TOW_CODE_NAMESPACE_NOT_FOUND) {
        take_time(reader, tow_reply_newest_time(&reader->batch.reply));
        return reader;
    }
    if (ok && take_reply(reader, error))
        return reader;
    tow_fail_context(error, "read %s.%s", what->database, what->collection);
    tow_reader_close(reader);
    return NULL;
}

/* Servers store no document without one. A reply that has such a document is damaged, and to pass
 * over it would be to take the document for gone. */
static bool has_id(const bson_t *document)
{
    bson_iter_t iter;

    return bson_iter_init_find_w_len(&iter, document, "_id", 3);
}

bool tow_batch_next(tow_batch_t *batch, bson_t *out)
{
    bool found, broken;

    if (!batch->open)
        return false;
    found = tow_batch_document(&batch->iter, out, &broken);
    if (found && has_id(out))
        return true;
    batch->broken = batch->broken || broken || found;
    /* A batch that cannot be read to its end must not pass for a short one. */
    batch->open = false;
    return false;
}

void tow_batch_clear(tow_batch_t *batch)
{
    bson_destroy(&batch->reply);
}

bool tow_reader_next(tow_reader_t *reader, bson_t *out)
{
    return tow_batch_next(&reader->batch, out);
}

void tow_reader_detach(tow_reader_t *reader, tow_batch_t *out)
{
    bool open = reader->batch.open;

    bson_steal(&out->reply, &reader->batch.reply);
    bson_init(&reader->batch.reply);
    reader->batch.open = false;
    /* Begun anew: the bytes of a short reply have moved with the structure that holds them. */
    out->open = false;
    out->broken = reader->batch.broken || (open && !open_batch(out, NULL));
}

bool tow_reader_next_batch(tow_reader_t *reader, bool *out_more, tow_error_t *error)
{
    tow_send_options_t send = {.server_id = reader->server};
    bson_t command = BSON_INITIALIZER;
    bool ok;

    *out_more = reader->cursor != 0;
    if (reader->batch.broken || !reader->cursor) {
        bson_destroy(&command);
        return reader->batch.broken ? fail_malformed("a document of a reply is malformed", error)
                                    : true;
    }
    bson_destroy(
        &reader->batch.reply); /* before the next one comes: one batch in memory at a time */
    bson_append_int64(&command, "getMore", -1, reader->cursor);
    bson_append_utf8(&command, "collection", -1, reader->collection, -1);
    if (reader->batch_documents)
        bson_append_int32(&command, "batchSize", -1, reader->batch_documents);
    ok = tow_conn_command(reader->conn, reader->database, &command, &send, &reader->batch.reply,
                          error);
    bson_destroy(&command);
    if (!ok) {
        reader->cursor = 0;
        /* The same getMore can never be sent again: the range is read anew. */
        if (error->retry == TOW_RETRY_SAME)
            error->retry = TOW_RETRY_RECONNECT;
    }
    if (!ok || !take_reply(reader, error))
        return tow_fail_context(error, "read %s.%s", reader->database, reader->collection);
    return true;
}

tow_optime_t tow_reader_time(const tow_reader_t *reader)
{
    return reader->time;
}

uint32_t tow_reader_batch_bytes(const tow_reader_t *reader)
{
    return reader->batch_bytes;
}

/* A failure does not matter: the cursor dies by itself. */
static void kill_cursor(tow_reader_t *reader)
{
    tow_send_options_t send = {.server_id = reader->server};
    bson_t command = BSON_INITIALIZER, list, reply;
    tow_error_t ignored;

    bson_append_utf8(&command, "killCursors", -1, reader->collection, -1);
    bson_append_array_begin(&command, "cursors", -1, &list);
    bson_append_int64(&list, "0", -1, reader->cursor);
    bson_append_array_end(&command, &list);
    if (!tow_conn_command(reader->conn, reader->database, &command, &send, &reply, &ignored))
        reader->cursor = 0;
    bson_destroy(&reply);
    bson_destroy(&command);
}

void tow_reader_close(tow_reader_t *reader)
{
    if (!reader)
        return;
    if (reader->cursor)
        kill_cursor(reader);
    if (reader->has_reply)
        bson_destroy(&reader->batch.reply);
    free(reader->database);
    free(reader->collection);
    free(reader);
}
