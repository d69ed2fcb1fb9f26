/* SPDX-License-Identifier: Apache-2.0 */
/* stream.c: see stream.h. */
#include "oplog/stream.h"

#include <stdlib.h>

#include "engine/base/clock.h"
#include "engine/link/codes.h"
#include "engine/link/versions.h"
#include "oplog/token.h"

enum {
    PACE_MS = 5,      /* between two requests that find little: events come in company */
    PACE_EVENTS = 500 /* what is not little */
};

struct tow_stream {
    tow_stream_options_t options;
    tow_conn_t *conn; /* NULL until it is needed */
    int64_t cursor;   /* 0: not open */
    uint32_t server;  /* that has the cursor */
    bool whole;       /* whole events were asked for last */
    int64_t asked_ms; /* when a batch was asked for last */
    uint32_t found;   /* events of that batch */
    bson_t token;     /* the position */
    tow_optime_t time;
};

tow_stream_t *tow_stream_new(const tow_stream_options_t *options)
{
    tow_stream_t *stream = tow_alloc(sizeof *stream);

    stream->options = *options;
    bson_init(&stream->token);
    return stream;
}

void tow_stream_destroy(tow_stream_t *stream)
{
    if (!stream)
        return;
    tow_conn_close(stream->conn);
    bson_destroy(&stream->token);
    free(stream);
}

/* Positions -------------------------------------------------------------------------------------*/

const bson_t *tow_stream_token(const tow_stream_t *stream)
{
    return &stream->token;
}

tow_optime_t tow_stream_time(const tow_stream_t *stream)
{
    return stream->time;
}

void tow_stream_move(tow_stream_t *stream, const bson_t *token, tow_optime_t time)
{
    bson_t copy;

    bson_copy_to(token, &copy);
    bson_destroy(&stream->token);
    bson_steal(&stream->token, &copy);
    if (time > stream->time)
        stream->time = time;
}

/* The time of a token: from itself where it holds one, else `other`. */
static tow_optime_t token_time(const bson_t *token, tow_optime_t other)
{
    tow_optime_t time;

    return tow_token_time(token, &time) || tow_token_embedded_time(token, &time) ? time : other;
}

/* An empty batch ends no earlier than what was known before it was asked for. */
void tow_stream_take(tow_stream_t *stream, const tow_stream_batch_t *batch)
{
    const bson_t *token = batch->cursor.has_token ? &batch->cursor.token : &batch->last;

    tow_stream_move(stream, token, token_time(token, batch->count ? batch->newest : batch->known));
    stream->found = batch->count;
}

bool tow_stream_is_opaque(const tow_stream_batch_t *batch)
{
    return batch->cursor.has_token && !tow_token_time(&batch->cursor.token, &(tow_optime_t){0});
}

/* Opening ---------------------------------------------------------------------------------------*/

static void append_fields(bson_t *stages, const char *const *fields)
{
    bson_t stage, project;

    bson_append_document_begin(stages, "2", -1, &stage);
    bson_append_document_begin(&stage, "$project", -1, &project);
    for (; *fields; fields++)
        bson_append_int32(&project, *fields, -1, 1);
    bson_append_document_end(&stage, &project);
    bson_append_document_end(stages, &stage);
}

static void build_aggregate(const tow_stream_t *stream, tow_stream_start_t start,
                            const char *const *fields, bson_t *out)
{
    const tow_stream_options_t *options = &stream->options;
    bson_t stages, stage, change, cursor;

    bson_init(out);
    bson_append_int32(out, "aggregate", -1, 1);
    bson_append_array_begin(out, "pipeline", -1, &stages);
    bson_append_document_begin(&stages, "0", -1, &stage);
    bson_append_document_begin(&stage, "$changeStream", -1, &change);
    bson_append_bool(&change, "allChangesForCluster", -1, true);
    if (options->expanded && tow_server_can(tow_link_facts(options->link), TOW_EXPANDED_EVENTS))
        bson_append_bool(&change, "showExpandedEvents", -1, true);
    if (start == TOW_STREAM_AFTER)
        bson_append_document(&change, "resumeAfter", -1, &stream->token);
    bson_append_document_end(&stage, &change);
    bson_append_document_end(&stages, &stage);
    tow_filter_match(options->filter, &stages, "1");
    if (fields)
        append_fields(&stages, fields);
    bson_append_array_end(out, &stages);
    bson_append_document_begin(out, "cursor", -1, &cursor);
    bson_append_int32(&cursor, "batchSize", -1, 0);
    bson_append_document_end(out, &cursor);
}

/* A stream that answers so is opened again: what is read again is the same. */
static bool fail_reply(const tow_stream_t *stream, const char *what, tow_error_t *error)
{
    tow_fail_reply(error, tow_link_side(stream->options.link), what);
    error->retry = TOW_RETRY_RECONNECT;
    return false;
}

/* Sends a command of the stream. What the server's labels call resumable is of class RECONNECT
 * after it. */
static bool send_command(tow_stream_t *stream, const bson_t *command, int flags, uint32_t server,
                         bson_t *reply, tow_error_t *error)
{
    tow_send_options_t send = {.flags = flags, .server_id = server};

    if (tow_conn_command(stream->conn, "admin", command, &send, reply, error))
        return true;
    if (error->retry == TOW_RETRY_NEVER && tow_error_stream_resumable(error, reply))
        error->retry = TOW_RETRY_RECONNECT;
    return false;
}

static void connect(tow_stream_t *stream)
{
    if (stream->conn)
        return;
    stream->conn = tow_conn_open(stream->options.link);
    if (stream->options.heeds)
        tow_conn_heed(stream->conn, stream->options.heeds);
}

/* Takes the cursor from the reply to an aggregate. Its batch is empty, as was asked for. The token
 * that comes with it is the first position of a stream that begins now; of one that goes on it is
 * no delivery: whether the server still has that position shows with the first getMore only.
 * `before`: a time from before the request. */
static bool take_cursor(tow_stream_t *stream, const bson_t *reply, tow_stream_start_t start,
                        tow_optime_t before, tow_error_t *error)
{
    tow_reply_cursor_t cursor;

    if (!tow_reply_cursor(reply, &cursor) || !cursor.id)
        return fail_reply(stream, "it opened a change stream without a cursor", error);
    if (start == TOW_STREAM_NOW && !cursor.has_token)
        return tow_fail(error, TOW_ERROR_SERVER,
                        "the %s gave no resume token when the stream was opened; a server of 4.2 "
                        "or newer does",
                        tow_link_side(stream->options.link));
    if (start == TOW_STREAM_NOW)
        tow_stream_move(stream, &cursor.token, token_time(&cursor.token, before));
    stream->cursor = cursor.id;
    return true;
}

static bool open_cursor(tow_stream_t *stream, tow_stream_start_t start, const char *const *fields,
                        int flags, tow_error_t *error)
{
    tow_optime_t before = tow_link_time(stream->options.link);
    bson_t command, reply;
    bool ok;

    stream->cursor = 0;
    stream->whole = !fields;
    connect(stream);
    build_aggregate(stream, start, fields, &command);
    ok = send_command(stream, &command, TOW_SEND_READ | flags, 0, &reply, error);
    if (!ok)
        tow_fail_context(error, "open the change stream");
    stream->server = tow_conn_server(stream->conn);
    ok = ok && take_cursor(stream, &reply, start, before, error);
    bson_destroy(&reply);
    bson_destroy(&command);
    return ok;
}

/* A mongod answers only when it has found something or has looked through all of its oplog, which
 * may take longer than any socket time-out; a mongos answers in time. */
static int patience(const tow_stream_t *stream)
{
    return tow_link_facts(stream->options.link)->sharded ? TOW_SEND_PLAIN : TOW_SEND_NO_TIMEOUT;
}

bool tow_stream_open(tow_stream_t *stream, tow_stream_start_t start, const char *const *fields,
                     int flags, tow_error_t *error)
{
    return open_cursor(stream, start, fields, flags | patience(stream), error);
}

bool tow_stream_try(tow_stream_t *stream, const char *const *fields, tow_error_t *error)
{
    bool ok = open_cursor(stream, TOW_STREAM_NOW, fields, TOW_SEND_RETRY, error);

    tow_stream_close(stream);
    return ok;
}

bool tow_stream_is_open(const tow_stream_t *stream)
{
    return stream->cursor != 0;
}

void tow_stream_close(tow_stream_t *stream)
{
    bson_t command = BSON_INITIALIZER, list, reply;
    tow_error_t error;

    if (stream->cursor) {
        bson_append_utf8(&command, "killCursors", -1, "$cmd.aggregate", -1);
        bson_append_array_begin(&command, "cursors", -1, &list);
        bson_append_int64(&list, "0", -1, stream->cursor);
        bson_append_array_end(&command, &list);
        /* It would end by itself. */
        if (!send_command(stream, &command, TOW_SEND_PLAIN, stream->server, &reply, &error))
            tow_emit(&stream->options.sink, TOW_LEVEL_DEBUG, "cursor_kept", "%s", error.message);
        bson_destroy(&reply);
    }
    stream->cursor = 0;
    bson_destroy(&command);
}

/* Reading ---------------------------------------------------------------------------------------*/

static bool get_more(tow_stream_t *stream, int64_t await_ms, int32_t events_most, bson_t *reply,
                     tow_error_t *error)
{
    bson_t command = BSON_INITIALIZER;
    bool ok;

    bson_append_int64(&command, "getMore", -1, stream->cursor);
    bson_append_utf8(&command, "collection", -1, "$cmd.aggregate", -1);
    bson_append_int32(&command, "batchSize", -1, events_most);
    bson_append_int64(&command, "maxTimeMS", -1, await_ms);
    ok = send_command(stream, &command, patience(stream), stream->server, reply, error);
    bson_destroy(&command);
    return ok;
}

static bool is_empty(bson_iter_t batch)
{
    return !bson_iter_next(&batch);
}

/* Whether the batch can be taken in whole, and leads to a position. Each event is known to have a
 * token. */
static bool check_batch(const tow_stream_t *stream, const bson_t *reply, tow_stream_batch_t *out,
                        tow_error_t *error)
{
    if (!tow_reply_cursor(reply, &out->cursor))
        return fail_reply(stream, "it answered getMore without a batch", error);
    if (!tow_reply_are_events(&out->cursor.batch))
        return fail_reply(stream, "it sent a change event that cannot be read", error);
    if (!out->cursor.has_token && is_empty(out->cursor.batch))
        return fail_reply(stream, "it answered getMore without a resume token", error);
    return true;
}

bool tow_stream_next(tow_stream_t *stream, int64_t await_ms, int32_t events_most, bson_t *reply,
                     tow_stream_batch_t *out, tow_error_t *error)
{
    bool ok;

    out->count = 0;
    out->newest = 0;
    out->known = tow_link_time(stream->options.link);
    stream->asked_ms = tow_now_ms();
    stream->found = 0;
    ok = get_more(stream, await_ms, events_most, reply, error) &&
         check_batch(stream, reply, out, error);
    stream->cursor = ok ? out->cursor.id : 0;
    return ok;
}

int64_t tow_stream_pause_ms(const tow_stream_t *stream)
{
    int64_t passed_ms = tow_now_ms() - stream->asked_ms;

    return stream->asked_ms && stream->found < PACE_EVENTS && passed_ms < PACE_MS
               ? PACE_MS - passed_ms
               : 0;
}

bool tow_stream_event(tow_stream_batch_t *batch, bson_t *out_event, tow_event_t *out_parts)
{
    bool broken;

    if (!tow_batch_document(&batch->cursor.batch, out_event, &broken))
        return false;
    tow_event_parse(out_event, out_parts);
    if (out_parts->time > batch->newest)
        batch->newest = out_parts->time;
    tow_field_document(out_event, "_id", &batch->last);
    batch->count++;
    return true;
}

/* Errors ----------------------------------------------------------------------------------------*/

tow_stream_verdict_t tow_stream_judge(const tow_stream_t *stream, const tow_error_t *error)
{
    if (tow_error_history_lost(error))
        return TOW_STREAM_LOST;
    /* An event over 16 MB that comes without its large fields is too large for good: a mongos
     * before 8.0 leaves them out itself, and its shards cannot send the event to it. */
    if (error->server_code == TOW_CODE_BSON_OBJECT_TOO_LARGE)
        return stream->whole ? TOW_STREAM_TOO_LARGE : TOW_STREAM_LOST;
    return error->retry == TOW_RETRY_NEVER ? TOW_STREAM_FAILED : TOW_STREAM_AGAIN;
}
