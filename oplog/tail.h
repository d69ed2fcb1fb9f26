/* SPDX-License-Identifier: Apache-2.0 */
/* tail.h: reads the cluster-wide change stream into the ledger.
 *
 * In refetch mode the stream is projected to what a dirty key needs, and blocks of keys go through
 * the spool; in direct mode whole events are kept. The mode is wished from outside and changed
 * between two batches by reopening the stream after the last token.
 *
 * Threads: one thread of its own, the reader; the functions may be called from any thread. */
#ifndef TOW_OPLOG_TAIL_H
#define TOW_OPLOG_TAIL_H

#include "engine/state/filter.h"
#include "oplog/ledger.h"

typedef struct tow_tail tow_tail_t;

typedef struct {
    tow_link_t *source;
    const tow_filter_t *filter;
    tow_ledger_t *ledger;
    tow_spool_t *spool;
    tow_stop_t *stop;
    tow_sink_t sink;
    int64_t retry_window_ms;
    /* The source no longer has what follows the position (error 286 and the like). Called twice:
     * with `opened` false before a new stream is opened, which is to be remembered durably, since a
     * checkpoint may follow; with true when it is open. False: *error ends the job. May be NULL:
     * the loss does. */
    bool (*lost)(void *data, bool opened, tow_error_t *error);
    void *data;
} tow_tail_options_t;

tow_tail_t *tow_tail_new(const tow_tail_options_t *options);
void tow_tail_end(tow_tail_t *tail);     /* joins; the stop was requested before; idempotent */
void tow_tail_destroy(tow_tail_t *tail); /* the same, and frees it */

/* Whether a stream can be opened there; it is closed again. */
bool tow_tail_try(tow_link_t *source, const tow_filter_t *filter, tow_error_t *error) TOW_CHECK;
/* Opens the stream: after `token`, or with NULL from now on. The position is given back and is
 * where the ledger should begin. TOW_ERROR_HISTORY_LOST when the source's oplog begins after the
 * token. */
bool tow_tail_open(tow_tail_t *tail, const bson_t *token, tow_optime_t time, bson_t *out_token,
                   tow_optime_t *out_time, tow_error_t *error) TOW_CHECK;
/* The same where the position is gone: a new stream from now on, which the ledger goes on with. */
bool tow_tail_open_anew(tow_tail_t *tail, tow_error_t *error) TOW_CHECK;
bool tow_tail_start(tow_tail_t *tail, tow_error_t *error) TOW_CHECK;
void tow_tail_wish_direct(tow_tail_t *tail, bool direct);
/* Somebody waits for the floor of a source that may be idle: it moves sooner, for more requests. */
void tow_tail_hurry(tow_tail_t *tail, bool hurry);
bool tow_tail_direct(const tow_tail_t *tail); /* the mode it is in */
/* It was close enough behind for direct mode, and is in it as far as the size of events allows. */
bool tow_tail_close(const tow_tail_t *tail);

tow_optime_t tow_tail_read_time(const tow_tail_t *tail); /* position `read` */
/* The same, but without what an opaque token of an empty reply claims: 0 until an event came. */
tow_optime_t tow_tail_certain_time(const tow_tail_t *tail);
tow_optime_t tow_tail_spooled_time(const tow_tail_t *tail); /* position `spooled`, 0: none */
uint64_t tow_tail_events(const tow_tail_t *tail);
tow_optime_t
tow_tail_event_time(const tow_tail_t *tail); /* of the newest event read, 0: none yet */
/* Counts the events newer than `since` from now on; one that was read already counts as one. */
void tow_tail_count_late(tow_tail_t *tail, tow_optime_t since);
uint64_t tow_tail_late(const tow_tail_t *tail);
/* From the first of them to the last, by the clock of whoever read them. */
int64_t tow_tail_late_ms(const tow_tail_t *tail);
/* Counts replies without events. A mongod gives one only at the end of its oplog: when the count
 * grew by 2, everything written before the first look was delivered. A mongos gives one when its
 * time is over. */
uint64_t tow_tail_idle_replies(const tow_tail_t *tail);

#endif
