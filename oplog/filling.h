/* SPDX-License-Identifier: Apache-2.0 */
/* filling.h: the block of keys that the tail is filling, before the ledger has it. */
#ifndef TOW_OPLOG_FILLING_H
#define TOW_OPLOG_FILLING_H

#include "oplog/ledger.h"
#include "oplog/record.h"
#include "oplog/stream.h"

typedef struct {
    tow_buffer_t records;
    uint32_t count;
    int64_t since_ms; /* of its first record */
    bson_t token;     /* position of its last event */
    tow_optime_t time;
} tow_filling_t;

void tow_filling_init(tow_filling_t *filling);
void tow_filling_clear(tow_filling_t *filling);
/* Adds what a dirty key or a DDL event needs. `stream`: its position is before
 * the event's batch. */
void tow_filling_add(tow_filling_t *filling, const tow_stream_t *stream, const bson_t *event,
                     const tow_event_t *parts);
/* The stream's position is after the last event added. */
void tow_filling_reached(tow_filling_t *filling, const tow_stream_t *stream);
bool tow_filling_is_due(const tow_filling_t *filling); /* it is large or old enough */
/* Writes it to the spool and begins the next one. *out: the caller's; NULL: there
 * were no records. */
bool tow_filling_seal(tow_filling_t *filling, tow_spool_t *spool, tow_block_t **out,
                      tow_error_t *error) TOW_CHECK;

#endif
