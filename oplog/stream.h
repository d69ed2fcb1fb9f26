/* SPDX-License-Identifier: Apache-2.0 */
/* stream.h: the protocol of a deployment's change stream: opening, reading, positions, errors.
 *
 * A stream has a position: everything that it gives next comes after it. The position moves when
 * the reader has taken in a batch, not when the batch arrives. After any error the stream is opened
 * again at its position, so nothing is left out, and what was not taken in is read again.
 *
 * Threads: a stream belongs to one thread at a time. */
#ifndef TOW_OPLOG_STREAM_H
#define TOW_OPLOG_STREAM_H

#include "engine/link/reply.h"
#include "engine/state/filter.h"
#include "oplog/record.h"

typedef struct tow_stream tow_stream_t;

typedef struct {
    tow_link_t *link; /* borrowed, like the others */
    const tow_filter_t *filter;
    const tow_stop_t
        *heeds;    /* ends a call without a time-out, as the link's stop does; NULL: none */
    bool expanded; /* with the DDL events of 6.0 and later, where the server has them */
    tow_sink_t sink;
} tow_stream_options_t;

tow_stream_t *tow_stream_new(const tow_stream_options_t *options); /* does not touch the network */
void tow_stream_destroy(
    tow_stream_t *stream); /* takes NULL; a cursor that is open ends by itself */

/* The position: its token (empty: none yet) and its cluster time. The time never goes back. */
const bson_t *tow_stream_token(const tow_stream_t *stream);
tow_optime_t tow_stream_time(const tow_stream_t *stream);
void tow_stream_move(tow_stream_t *stream, const bson_t *token, tow_optime_t time);

typedef enum {
    TOW_STREAM_AFTER, /* after the position */
    TOW_STREAM_NOW    /* from now on; the position becomes the stream's first */
} tow_stream_start_t;

/* Opens the stream; one that was open is forgotten, not closed. `fields`: what is asked for of each
 * event besides its `_id`, a list that ends with NULL; NULL: whole events. `flags`: as of
 * tow_send_options_t, besides that it is a read without a time-out where that is needed.
 * TOW_ERROR_SERVER where the server gives no cursor or no token; otherwise see tow_stream_judge. */
bool tow_stream_open(tow_stream_t *stream, tow_stream_start_t start, const char *const *fields,
                     int flags, tow_error_t *error) TOW_CHECK;
/* Whether a stream can be opened from now on, within the socket time-out; it is closed again. */
bool tow_stream_try(tow_stream_t *stream, const char *const *fields, tow_error_t *error) TOW_CHECK;
bool tow_stream_is_open(const tow_stream_t *stream);
/* Ends the cursor on the server. */
void tow_stream_close(tow_stream_t *stream);

/* A batch, borrowed from its reply. Never copied: a bson_t points into itself. */
typedef struct {
    tow_reply_cursor_t cursor; /* its `batch` is before the next event */
    bson_t last;               /* token of the last event given out */
    uint32_t count;            /* of the events given out so far */
    tow_optime_t newest;       /* time of the newest of them, 0: none */
    tow_optime_t known;        /* a time of the server's from before the request was sent */
} tow_stream_batch_t;

/* Reads the next batch. The server holds an empty reply for await_ms. *reply is always initialized
 * and owned by the caller. Nothing is given of a batch that cannot be read as a whole; after an
 * error the stream is not open, and neither is it where the server has ended it with this batch. */
bool tow_stream_next(tow_stream_t *stream, int64_t await_ms, int32_t events_most, bson_t *reply,
                     tow_stream_batch_t *out, tow_error_t *error) TOW_CHECK;
/* How long to wait before the next batch is asked for. A request for each event would cost more
 * than the event, and a few milliseconds bring several; a server that does not hold its empty
 * replies is not asked without a pause. */
int64_t tow_stream_pause_ms(const tow_stream_t *stream);
/* The next event of the batch, and the parts of it; false at its end. */
bool tow_stream_event(tow_stream_batch_t *batch, bson_t *out_event, tow_event_t *out_parts);
/* All events of the batch were taken in: moves the position after it. */
void tow_stream_take(tow_stream_t *stream, const tow_stream_batch_t *batch);
/* Whether the token that an empty reply may carry says nothing of how far the stream has come. */
bool tow_stream_is_opaque(const tow_stream_batch_t *batch);

/* What an error of open or next means. */
typedef enum {
    TOW_STREAM_AGAIN,     /* opened again after its position, the stream goes on */
    TOW_STREAM_TOO_LARGE, /* the same, with fewer fields: a whole event was over 16 MB */
    TOW_STREAM_LOST,      /* no stream goes on after the position; it can be opened from now on */
    TOW_STREAM_FAILED     /* opening it again does not help */
} tow_stream_verdict_t;
tow_stream_verdict_t tow_stream_judge(const tow_stream_t *stream, const tow_error_t *error);

#endif
