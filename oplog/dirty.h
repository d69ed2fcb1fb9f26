/* SPDX-License-Identifier: Apache-2.0 */
/* dirty.h: the dirty keys of one lane, and the keys that it read lately.
 *
 * A key stands once however often it changed. It holds the block of its first unsettled event, so
 * that the floor stays before it, and the time of its last. A key that is being refetched is in
 * flight; an event that comes meanwhile is kept beside and judged when the read is done.
 *
 * Threads: owned by one lane; others only under the replay's exclusive lock. */
#ifndef TOW_OPLOG_DIRTY_H
#define TOW_OPLOG_DIRTY_H

#include "engine/base/hash.h"
#include "engine/state/namespaces.h"
#include "oplog/ledger.h"

typedef struct tow_dirty tow_dirty_t;

typedef struct tow_dirty_key tow_dirty_key_t;
struct tow_dirty_key {
    UT_hash_handle hh;
    tow_dirty_key_t *prev, *next; /* in its collection's list, in the order of becoming dirty */
    tow_namespace_t *collection;
    tow_block_t *block; /* of its first unsettled event */
    tow_block_t *again; /* of the first event since the read began, or NULL */
    tow_optime_t time, again_time;
    unsigned hash;
    bool in_flight, found, failed; /* failed: its write was refused */
    bool fresh;                    /* its first unsettled event was an insert */
    bool anew;                     /* a replacement did not help: delete and insert */
    uint16_t refusals;             /* how often in a row a unique index refused its document */
    int64_t due_ms;                /* it is not taken before; 0: at once */
    uint8_t type;                  /* of the raw _id, which stands at bytes */
    uint32_t length, identity_length;
    uint8_t bytes[]; /* raw _id, then the identity: collection id and canonical _id */
};

static inline tow_value_t tow_dirty_id(const tow_dirty_key_t *key)
{
    return (tow_value_t){key->type, key->length, key->bytes};
}

/* `bytes` counts the memory of all lanes together. */
tow_dirty_t *tow_dirty_new(tow_ledger_t *ledger, _Atomic uint64_t *bytes, _Atomic uint64_t *keys);
void tow_dirty_destroy(tow_dirty_t *dirty); /* settles nothing */
uint64_t tow_dirty_count(const tow_dirty_t *dirty);

tow_dirty_key_t *tow_dirty_find(tow_dirty_t *dirty, const tow_namespace_t *collection,
                                tow_value_t id, unsigned hash);
/* An event makes a key dirty: takes over the event, which counts as settled at once where the key
 * holds the floor already. */
void tow_dirty_mark(tow_dirty_t *dirty, tow_namespace_t *collection, tow_value_t id, unsigned hash,
                    tow_optime_t time, tow_block_t *block, bool fresh);
/* Takes keys of one collection that are due out of the queue and puts them in flight: at most
 * `most`, and as many as one request holds. Collections take turns. Returns the count; 0: none
 * is due. */
uint32_t tow_dirty_take(tow_dirty_t *dirty, tow_dirty_key_t **out, uint32_t most, int64_t now_ms);
/* Takes one key out of the queue and puts it in flight. */
void tow_dirty_pick(tow_dirty_t *dirty, tow_dirty_key_t *key);
/* The key was read in [lo, hi] and written: settled, or dirty again when an event after lo came. */
void tow_dirty_settle(tow_dirty_t *dirty, tow_dirty_key_t *key, tow_optime_t lo);
/* The attempt failed: back into the queue, at its end when it is due later only. */
void tow_dirty_return(tow_dirty_t *dirty, tow_dirty_key_t *key);
/* Takes all keys of a collection away, in order; the caller settles or moves each with
 * tow_dirty_forget. None may be in flight. */
tow_dirty_key_t *tow_dirty_detach(tow_dirty_t *dirty, const tow_namespace_t *collection);
/* All keys of a collection, in order; `each` changes none. */
void tow_dirty_each(tow_dirty_t *dirty, const tow_namespace_t *collection,
                    void (*each)(void *data, tow_value_t id), void *data);
/* Frees a detached key; with `settle` its events count as settled, otherwise they
 * were handed on. */
void tow_dirty_forget(tow_dirty_t *dirty, tow_dirty_key_t *key, bool settle);

/* Keys read lately, with their as-of interval, until the stream has passed hi. */
typedef struct {
    bool known;
    tow_optime_t lo, hi;
} tow_recent_t;
void tow_recent_note(tow_dirty_t *dirty, const tow_namespace_t *collection, tow_value_t id,
                     unsigned hash, tow_optime_t lo, tow_optime_t hi);
tow_recent_t tow_recent_find(tow_dirty_t *dirty, const tow_namespace_t *collection, tow_value_t id,
                             unsigned hash);
/* Everything before `passed` (exclusive) was dispatched and absorbed: forget what
 * was read before. */
void tow_recent_purge(tow_dirty_t *dirty, tow_optime_t passed);
/* Forgets those of a collection; calls `each` for those with hi >= time. */
typedef void (*tow_recent_fn)(void *data, tow_value_t id);
void tow_recent_detach(tow_dirty_t *dirty, const tow_namespace_t *collection, tow_optime_t time,
                       tow_recent_fn each, void *data);
/* Events up to the horizon make a key dirty even where no read is known: reads that were too many
 * to remember, and everything before a restart. */
tow_optime_t tow_dirty_horizon(const tow_dirty_t *dirty);
void tow_dirty_raise_horizon(tow_dirty_t *dirty, tow_optime_t time);

#endif
