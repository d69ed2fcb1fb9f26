/* SPDX-License-Identifier: Apache-2.0 */
/* follow.c: follows a running job by the server's events, of which it takes the progress. A
 * connection that breaks is made again: what counts is whether anything answers. */
#include "engine/cmd/follow.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/cmd/json.h"
#include "engine/cmd/request.h"

#define PROGRESS "event: progress\ndata: "

enum {
    BLOCK_MOST = 8 << 20, /* an event; longer ones are no Towline's */
    TRIES = 3,            /* to connect, in a row */
    PAUSE_US = 300000
};
static const long CONNECT_MS = 3000, SILENT_SECONDS = 10; /* progress comes each second */

typedef struct {
    cmd_progress_fn take;
    void *data;
    tow_buffer_t text; /* of the event that is not whole yet */
    bool heard, enough;
} stream_t;

/* One event, without the empty line that ends it. */
static void take_event(stream_t *stream, const char *event, size_t length)
{
    size_t head = strlen(PROGRESS);
    char *progress, *json;
    bson_t *document;

    if (length <= head || strncmp(event, PROGRESS, head) != 0)
        return;
    progress = tow_format("%.*s", (int)(length - head), event + head);
    json = tow_format("{\"progress\":%s}", progress);
    document = cmd_document(json);
    if (document) {
        stream->heard = true;
        stream->enough = stream->take(stream->data, document, progress);
        bson_destroy(document);
    }
    free(json);
    free(progress);
}

/* A piece of the stream, as it comes; the events that are whole are taken. */
static void feed(stream_t *stream, const char *data, size_t length)
{
    size_t begin = 0;

    tow_buffer_append(&stream->text, data, length);
    for (size_t i = 0; i + 1 < stream->text.length && !stream->enough; i++) {
        const char *text = (const char *)stream->text.data;

        if (text[i] != '\n' || text[i + 1] != '\n')
            continue;
        take_event(stream, text + begin, i - begin);
        begin = i + 2;
        i++;
    }
    memmove(stream->text.data, stream->text.data + begin, stream->text.length - begin);
    stream->text.length -= begin;
}

static size_t receive(char *data, size_t size, size_t count, void *context)
{
    stream_t *stream = context;

    if (stream->text.length + size * count > BLOCK_MOST)
        return 0;
    feed(stream, data, size * count);
    return stream->enough ? 0 : size * count;
}

/* One connection, until it ends by itself, by `take` or by the deadline. False: *out_status. */
static bool listen_once(const tow_options_t *options, int64_t until_ms, stream_t *stream,
                        int *out_status)
{
    int64_t left_ms = until_ms - tow_now_ms();
    struct curl_slist *headers;
    CURL *curl = cmd_request(options, "events", NULL, &headers, out_status);
    long status = 0;
    CURLcode code;

    if (!curl)
        return false;
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, !until_ms ? 0L : left_ms > 0 ? (long)left_ms : 1L);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, SILENT_SECONDS);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, receive);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, stream);
    stream->text.length = 0;
    stream->heard = false;
    code = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_slist_free_all(headers);
    curl_easy_cleanup(curl);
    if (code == CURLE_ABORTED_BY_CALLBACK) { /* nothing was sent, and that was said */
        *out_status = TOW_ERROR_CONTROL;
        return false;
    }
    if (status < 400)
        return true;
    tow_buffer_append(&stream->text, "", 1);
    *out_status = cmd_judge(&(cmd_reply_t){(char *)stream->text.data, stream->text.length},
                            &(bson_t *){NULL});
    return false;
}

cmd_followed_t cmd_follow(const tow_options_t *options, int64_t until_ms, cmd_progress_fn take,
                          void *data, int *out_status)
{
    stream_t stream = {.take = take, .data = data};
    cmd_followed_t result = CMD_FOLLOW_GONE;

    for (int tries = 0; tries < TRIES; tries++) {
        if (!listen_once(options, until_ms, &stream, out_status)) {
            result = CMD_FOLLOW_FAILED;
            break;
        }
        if (stream.enough || (until_ms && tow_now_ms() >= until_ms)) {
            result = stream.enough ? CMD_FOLLOW_ENOUGH : CMD_FOLLOW_TIMEOUT;
            break;
        }
        if (stream.heard)
            tries = 0;
        usleep(PAUSE_US);
    }
    tow_buffer_free(&stream.text);
    return result;
}
