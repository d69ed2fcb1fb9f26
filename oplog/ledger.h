/* SPDX-License-Identifier: Apache-2.0 */
/* ledger.h: the blocks of events in the order of the stream, and the floor that they make.
 *
 * A block is what one or a few replies of the stream held: either keys (in memory, or in the spool)
 * or whole events. It is settled when everything in it is settled on the destination; the floor is
 * the token of the newest block before which all are settled. An idle token is a block of its own
 * without events, so that it never passes an unsettled one.
 *
 * Threads: the tail appends, the dispatcher takes, lanes settle, anybody reads the floor. */
#ifndef TOW_OPLOG_LEDGER_H
#define TOW_OPLOG_LEDGER_H

#include <stdatomic.h>

#include "engine/link/link.h"
#include "oplog/spool.h"

typedef struct tow_block tow_block_t;
struct tow_block {
    tow_block_t *next;
    /* Constant after the append. */
    tow_optime_t time; /* of its last event, or of the idle token */
    bson_t token;
    uint32_t events;
    bool direct; /* holds whole events in `reply` */
    bool spooled;
    tow_spool_place_t place;
    size_t payload_bytes;
    /* Owned by the dispatcher while it dispatches; freed when payload_users falls to 0. */
    bson_t reply;
    tow_buffer_t records;
    bool loaded;               /* the payload is in memory */
    atomic_uint payload_users; /* items in lanes, and 1 for the dispatcher */
    atomic_uint unsettled;     /* events not settled, and 1 while it is not dispatched */
};

typedef struct tow_ledger tow_ledger_t;

/* `memory_bytes`: payload kept in memory; a block of keys beyond it is read from
 * the spool later. */
tow_ledger_t *tow_ledger_new(tow_stop_t *stop, size_t memory_bytes);
void tow_ledger_destroy(tow_ledger_t *ledger);

/* The place where a stream begins: floor and read are there. */
void tow_ledger_begin(tow_ledger_t *ledger, const bson_t *token, tow_optime_t time);
/* Takes the block, which must not be older than what came before it. A block of keys whose payload
 * would exceed the memory is unloaded (if spooled). */
void tow_ledger_append(tow_ledger_t *ledger, tow_block_t *block);
/* The same for a block whose payload is in the spool alone (found there at a restart). */
void tow_ledger_append_spooled(tow_ledger_t *ledger, tow_block_t *block);
/* A block of keys that did not come from the stream, such as differences to be repaired: it stands
 * where the stream is now, and has its token and time from there. Takes the block; returns its
 * number. */
uint64_t tow_ledger_insert(tow_ledger_t *ledger, tow_block_t *block);
/* Waits until the block of that number and all before it are settled; false: stopped, or wait_ms
 * passed. */
bool tow_ledger_wait_block(tow_ledger_t *ledger, uint64_t number, int64_t wait_ms);
/* A token without events. */
void tow_ledger_idle(tow_ledger_t *ledger, const bson_t *token, tow_optime_t time);
/* The next block to dispatch; waits at most wait_ms; NULL: none, or stopped. It stays in the
 * ledger. */
tow_block_t *tow_ledger_take(tow_ledger_t *ledger, int64_t wait_ms);
/* The dispatcher is done with the block: its payload is used by lanes only from now on. */
void tow_ledger_dispatched(tow_ledger_t *ledger, tow_block_t *block);
/* So many events of the block are settled. */
void tow_ledger_settle(tow_ledger_t *ledger, tow_block_t *block, uint32_t events);
/* One event more that the floor waits for; the block must be unsettled. */
void tow_ledger_hold(tow_ledger_t *ledger, tow_block_t *block);
/* One user of its payload less. */
void tow_ledger_payload_done(tow_ledger_t *ledger, tow_block_t *block);
/* Reads a block's payload back into memory. */
bool tow_ledger_load(tow_ledger_t *ledger, tow_block_t *block, tow_spool_t *spool,
                     tow_error_t *error) TOW_CHECK;

typedef struct {
    bson_t token; /* owned by the caller: bson_destroy */
    tow_optime_t time;
    bool has_keep; /* spool frames before `keep` are needed no more once this is stored */
    tow_spool_place_t keep;
} tow_floor_t;
void tow_ledger_floor(tow_ledger_t *ledger, tow_floor_t *out);
tow_optime_t tow_ledger_floor_time(const tow_ledger_t *ledger);
/* Waits until the floor is at least `time`; false: stopped, or wait_ms passed. */
bool tow_ledger_wait_floor(tow_ledger_t *ledger, tow_optime_t time, int64_t wait_ms);

uint64_t tow_ledger_backlog(const tow_ledger_t *ledger);      /* events not settled */
uint64_t tow_ledger_undispatched(const tow_ledger_t *ledger); /* events not dispatched */
size_t tow_ledger_direct_bytes(const tow_ledger_t *ledger);   /* payload of direct blocks */

#endif
