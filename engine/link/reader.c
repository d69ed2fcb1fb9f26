/* reader.c: see reader.h. */
#include "engine/link/reader.h"

#include <stdlib.h>
#include <string.h>

#include "engine/base/memory.h"

enum { NAMESPACE_NOT_FOUND = 26 };

struct tow_reader {
    tow_conn_t *conn;
    char *database, *collection;
    int32_t batch_documents;
    int64_t cursor;
    uint32_t server;
    bson_t reply; /* holds the current batch */
    bool has_reply, in_batch, broken;
    bson_iter_t batch;
    uint32_t batch_bytes;
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

static void build_find(const tow_read_t *what, bson_t *out)
{
    bson_t hint;

    bson_init(out);
    bson_append_utf8(out, "find", -1, what->collection, -1);
    if (what->filter)
        bson_append_document(out, "filter", -1, what->filter);
    if (what->projection)
        bson_append_document(out, "projection", -1, what->projection);
    /* min and max need a hint; a filter is better left to the planner. */
    if (!what->filter || what->natural || what->min || what->max) {
        bson_append_document_begin(out, "hint", -1, &hint);
        bson_append_int32(&hint, what->natural ? "$natural" : "_id", -1, 1);
        bson_append_document_end(out, &hint);
    }
    if (!what->natural) {
        append_bound(out, "min", what->min);
        append_bound(out, "max", what->max);
    }
    if (what->batch_documents)
        bson_append_int32(out, "batchSize", -1, what->batch_documents);
    if (what->prefer_no_timeout)
        bson_append_bool(out, "noCursorTimeout", -1, true);
}

static bool fail_malformed(const tow_reader_t *reader, const char *what, tow_error_t *error)
{
    tow_fail(error, TOW_ERROR_SERVER, "%s", what);
    error->retry = TOW_RETRY_RECONNECT;
    return false;
}

/* Takes the reply's cursor and batch. */
static bool take_reply(tow_reader_t *reader, tow_error_t *error)
{
    bson_iter_t iter, child;
    bool found = false;
    tow_optime_t time = tow_reply_time(&reader->reply);

    /* It never goes back: a reply without a time must not make hi earlier than what was read. */
    if (time > reader->time)
        reader->time = time;
    reader->batch_bytes = reader->reply.len;
    if (!bson_iter_init_find(&iter, &reader->reply, "cursor") || !BSON_ITER_HOLDS_DOCUMENT(&iter) ||
        !bson_iter_recurse(&iter, &child))
        return fail_malformed(reader, "a reply has no cursor", error);
    while (bson_iter_next(&child)) {
        const char *name = bson_iter_key(&child);

        if (!strcmp(name, "id"))
            reader->cursor = bson_iter_as_int64(&child);
        else if ((!strcmp(name, "firstBatch") || !strcmp(name, "nextBatch")) &&
                 BSON_ITER_HOLDS_ARRAY(&child))
            found = bson_iter_recurse(&child, &reader->batch);
    }
    if (!found)
        return fail_malformed(reader, "a reply has no batch", error);
    reader->in_batch = true;
    return true;
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
    build_find(what, &command);
    ok = tow_conn_command(conn, what->database, &command, &send, &reader->reply, error);
    bson_destroy(&command);
    reader->has_reply = true;
    reader->server = tow_conn_server(conn);
    if (!ok && error->server_code == NAMESPACE_NOT_FOUND) {
        reader->time = tow_reply_time(&reader->reply);
        return reader;
    }
    if (ok && take_reply(reader, error))
        return reader;
    tow_fail_context(error, "read %s.%s", what->database, what->collection);
    tow_reader_close(reader);
    return NULL;
}

bool tow_reader_next(tow_reader_t *reader, bson_t *out)
{
    const uint8_t *data;
    uint32_t length;

    if (!reader->in_batch)
        return false;
    if (bson_iter_next(&reader->batch)) {
        if (BSON_ITER_HOLDS_DOCUMENT(&reader->batch)) {
            bson_iter_document(&reader->batch, &length, &data);
            if (bson_init_static(out, data, length))
                return true;
        }
        reader->broken = true;
    } else if (reader->batch.err_off) {
        reader->broken = true;
    }
    /* A batch that cannot be read to its end must not pass for a short one: next_batch tells. */
    reader->in_batch = false;
    return false;
}

bool tow_reader_next_batch(tow_reader_t *reader, bool *out_more, tow_error_t *error)
{
    tow_send_options_t send = {.server_id = reader->server};
    bson_t command = BSON_INITIALIZER;
    bool ok;

    *out_more = reader->cursor != 0;
    if (reader->broken || !reader->cursor) {
        bson_destroy(&command);
        return reader->broken ? fail_malformed(reader, "a document of a reply is malformed", error)
                              : true;
    }
    bson_destroy(&reader->reply); /* before the next one comes: one batch in memory at a time */
    bson_append_int64(&command, "getMore", -1, reader->cursor);
    bson_append_utf8(&command, "collection", -1, reader->collection, -1);
    if (reader->batch_documents)
        bson_append_int32(&command, "batchSize", -1, reader->batch_documents);
    ok = tow_conn_command(reader->conn, reader->database, &command, &send, &reader->reply, error);
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
        bson_destroy(&reader->reply);
    free(reader->database);
    free(reader->collection);
    free(reader);
}
