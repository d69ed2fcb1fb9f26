/* SPDX-License-Identifier: Apache-2.0 */
/* reply.c: replies, each with the headers that keep a browser from doing anything
 * else with them. */
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/base/json.h"
#include "engine/http/files.h"
#include "engine/http/internal.h"

enum { EVENTS_PIECE = 16 * 1024, PROGRESS_MS = 1000 };

void tow_reply_secure(struct MHD_Response *response)
{
    static const char *const headers[][2] = {
        {"Cache-Control", "no-store"},
        {"X-Content-Type-Options", "nosniff"},
        {"Referrer-Policy", "no-referrer"},
        {"Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
                                    "form-action 'none'"},
    };

    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++)
        MHD_add_response_header(response, headers[i][0], headers[i][1]);
}

static enum MHD_Result queue(const tow_request_t *request, unsigned status, const char *type,
                             struct MHD_Response *response)
{
    enum MHD_Result result;

    MHD_add_response_header(response, "Content-Type", type);
    if (status == MHD_HTTP_UNAUTHORIZED)
        MHD_add_response_header(response, "WWW-Authenticate", "Bearer");
    tow_reply_secure(response);
    result = MHD_queue_response(request->connection, status, response);
    MHD_destroy_response(response);
    return result;
}

enum MHD_Result tow_reply_text(const tow_request_t *request, unsigned status, const char *type,
                               char *text)
{
    return queue(request, status, type,
                 MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE));
}

enum MHD_Result tow_reply_json(const tow_request_t *request, char *json)
{
    return tow_reply_text(request, MHD_HTTP_OK, "application/json", json);
}

enum MHD_Result tow_reply_with(const tow_request_t *request, const char *name, char *json)
{
    tow_json_t out = {0};

    tow_json_begin(&out, NULL);
    tow_json_put_flag(&out, "success", true);
    tow_json_put_json(&out, name, json);
    tow_json_end(&out);
    tow_free(json);
    return tow_reply_json(request, tow_json_take_line(&out));
}

enum MHD_Result tow_reply_done(const tow_request_t *request)
{
    tow_json_t out = {0};

    tow_json_begin(&out, NULL);
    tow_json_put_flag(&out, "success", true);
    tow_json_end(&out);
    return tow_reply_json(request, tow_json_take_line(&out));
}

enum MHD_Result tow_reply_file(const tow_request_t *request, const char *path)
{
    const tow_file_t *file = tow_file_find(path);

    if (!file)
        return tow_reply_refusal(request, MHD_HTTP_NOT_FOUND, "NotFound", "there is no such path",
                                 TOW_ERROR_CONTROL);
    return queue(
        request, MHD_HTTP_OK, tow_file_type(file),
        MHD_create_response_from_buffer(file->length, (void *)file->data, MHD_RESPMEM_PERSISTENT));
}

enum MHD_Result tow_reply_refusal(const tow_request_t *request, unsigned status, const char *name,
                                  const char *description, int exit_status)
{
    tow_json_t out = {0};

    tow_json_begin(&out, NULL);
    tow_json_put_flag(&out, "success", false);
    tow_json_put_text(&out, "error", name);
    tow_json_put_text(&out, "errorDescription", description);
    tow_json_put_integer(&out, "exitStatus", exit_status);
    tow_json_end(&out);
    return tow_reply_text(request, status, "application/json", tow_json_take_line(&out));
}

enum MHD_Result tow_reply_error(const tow_request_t *request, const tow_error_t *error)
{
    const char *name = error->code == TOW_ERROR_NOT_IN_SYNC ? "NotInSync"
                       : error->code == TOW_ERROR_STATE     ? "InvalidState"
                       : error->code == TOW_ERROR_OPTION    ? "InvalidOption"
                                                            : "Failed";

    return tow_reply_refusal(request, MHD_HTTP_BAD_REQUEST, name, error->message, (int)error->code);
}

/* Events ----------------------------------------------------------------------------------------*/

typedef struct {
    tow_server_t *server;
    uint64_t position;   /* in the events */
    int64_t progress_ms; /* when progress is due */
    bool closed;         /* the events are; the last progress (how the job ended) is in the text */
    tow_buffer_t text;   /* what waits to be sent, from `sent` on */
    size_t sent;
} stream_t;

static void append_progress(stream_t *stream)
{
    char *progress = tow_server_progress(stream->server);

    tow_buffer_append(&stream->text, "event: progress\ndata: ", 22);
    tow_buffer_append(&stream->text, progress, strlen(progress));
    tow_buffer_append(&stream->text, "\n\n", 2);
    tow_free(progress);
    stream->progress_ms = tow_now_ms() + PROGRESS_MS;
}

/* Waits for something to send; the connection's thread is its own. */
static ssize_t more_events(void *data, uint64_t ignored TOW_UNUSED, char *out, size_t size)
{
    stream_t *stream = data;
    size_t length;

    if (stream->sent == stream->text.length) {
        int64_t left_ms = stream->progress_ms - tow_now_ms();

        if (stream->closed)
            return MHD_CONTENT_READER_END_OF_STREAM;
        stream->text.length = stream->sent = 0;
        stream->closed = !tow_events_read(stream->server->events, &stream->position,
                                          left_ms > 0 ? (int)left_ms : 0, &stream->text);
        if (stream->closed || tow_now_ms() >= stream->progress_ms)
            append_progress(stream);
    }
    length = stream->text.length - stream->sent;
    if (length > size)
        length = size;
    memcpy(out, stream->text.data + stream->sent, length);
    stream->sent += length;
    return (ssize_t)length;
}

static void end_events(void *data)
{
    stream_t *stream = data;

    tow_events_leave(stream->server->events);
    tow_buffer_free(&stream->text);
    free(stream);
}

enum MHD_Result tow_reply_events(const tow_request_t *request)
{
    stream_t *stream = tow_alloc(sizeof *stream);

    stream->server = request->server;
    tow_events_join(stream->server->events);
    return queue(request, MHD_HTTP_OK, "text/event-stream",
                 MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, EVENTS_PIECE, more_events,
                                                   stream, end_events));
}
