/* SPDX-License-Identifier: Apache-2.0 */
/* replay_internal.h: what dispatcher, lanes and DDL share. */
#ifndef TOW_OPLOG_REPLAY_INTERNAL_H
#define TOW_OPLOG_REPLAY_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "engine/base/guarded.h"
#include "engine/base/thread.h"
#include "engine/state/write.h"
#include "oplog/dirty.h"
#include "oplog/record.h"
#include "oplog/replay.h"

/* One event on its way to a lane; id and event point into the block's payload. */
typedef struct {
    tow_namespace_t *collection;
    tow_value_t id;
    tow_optime_t time;
    tow_block_t *block;
    const uint8_t *event; /* a whole event to apply, or NULL: its key becomes dirty */
    uint32_t event_length;
    unsigned hash;
    bool fresh;  /* an insert */
    bool repair; /* no event: refetched also if it was read lately */
    bool anew;   /* deleted and inserted then */
} tow_item_t;

typedef struct {
    tow_item_t *items;
    uint32_t count, capacity;
} tow_items_t;

typedef struct tow_lane tow_lane_t;
TOW_GUARD(tow_lane);
struct tow_lane {
    tow_replay_t *replay;
    uint32_t number;
    tow_thread_t thread;
    pthread_mutex_t lock;      /* guards inbox, pushed, absorbed, woken */
    pthread_cond_t more, less; /* the inbox was filled; was emptied */
    tow_items_t inbox TOW_GUARDED_BY(tow_lane);
    uint64_t pushed TOW_GUARDED_BY(tow_lane), absorbed TOW_GUARDED_BY(tow_lane);
    bool woken TOW_GUARDED_BY(tow_lane); /* there may be work besides the inbox */
    atomic_bool busy;                    /* it may write just now */
    _Atomic uint64_t rounds;             /* in which it was busy */
    tow_dirty_t *dirty; /* under the replay's exclusive lock, shared by its own thread only */
    /* The thread's own. */
    tow_conn_t *source, *destination;
    tow_items_t taken;
    tow_write_t updates, deletes, inserts, timestamps;
    unsigned attempt;
    int64_t failing_since_ms;
    struct tow_conflict *conflicts; /* to be untangled when the shared lock is given up */
    tow_namespace_t *apart;         /* to be copied again then, and why: a constant text */
    const char *apart_reason;
};
TOW_LOCK(tow_lane, tow_lane_t, lock)

/* A write that a unique index refused. */
typedef struct tow_conflict {
    struct tow_conflict *next;
    tow_namespace_t *collection;
    bson_t id; /* {_id: …} */
    char message[512];
} tow_conflict_t;

struct tow_replay {
    tow_replay_options_t options;
    tow_thread_t dispatcher;
    uint32_t lane_count;
    bool merged; /* the stream is merged from those of several shards */
    tow_lane_t *lanes;
    pthread_rwlock_t exclusive;
    atomic_bool paused;
    _Atomic tow_optime_t
        dispatched_time; /* every event before it is in a lane's inbox or further */
    bson_t ddl_token; /* the last DDL event that a process before carried out; empty: none. The */
    tow_optime_t ddl_time; /* dispatcher's alone, as are its time and */
    bool ddl_found;        /* whether it came by again */
    _Atomic uint64_t skipped, applied, refetched, statements;
    _Atomic uint64_t dirty_keys, dirty_bytes;
    pthread_mutex_t logs_lock; /* held while a capped collection is continued: one writer */
    struct tow_log *logs;      /* guarded by it: what is known of each capped collection */
    /* The dispatcher's own. */
    tow_conn_t *source, *destination;
    bson_t unknown;            /* a field for each unknown type of event that was logged */
    pthread_mutex_t ease_lock; /* guards the waits on `eased` */
    pthread_cond_t eased;      /* a lane has done a round, or the pause changed */
    atomic_uint waiting;       /* for it */
    tow_items_t *outboxes;     /* one for each lane, filled while a block is dispatched */
};

/* By the collection's name: what took its place meanwhile has its keys in the same lane. */
static inline unsigned tow_item_hash(const tow_namespace_t *collection, tow_value_t id)
{
    uint64_t hash = tow_value_hash(id) ^ collection->name_hash;

    return (unsigned)(hash ^ (hash >> 32));
}

/* Keys of a collection whose order or equality we cannot see share one lane. */
static inline tow_lane_t *tow_lane_of(tow_replay_t *replay, const tow_namespace_t *collection,
                                      unsigned hash)
{
    uint32_t number =
        collection->capped || collection->collated ? (uint32_t)collection->name_hash : hash >> 12;

    return &replay->lanes[number % replay->lane_count];
}

/* Keys are collected, nothing is applied. */
static inline bool tow_replay_holding(tow_replay_t *replay)
{
    return atomic_load(&replay->paused) || replay->options.ddl.copying(replay->options.ddl.data);
}

/* inbox.c */
void tow_items_add(tow_items_t *items, const tow_item_t *item);
/* A lane has done something that others may wait for. */
void tow_replay_eased(tow_replay_t *replay);
/* The lanes' keys were changed under the exclusive lock. */
void tow_replay_wake_lanes(tow_replay_t *replay);
void tow_lane_wake(tow_lane_t *lane); /* to look at its keys again */
/* Appends the items; waits while the inbox is full; false: stopped. */
bool tow_lane_push(tow_lane_t *lane, const tow_items_t *items);
/* Waits until everything pushed so far is absorbed; false: stopped. */
bool tow_lane_wait_absorbed(tow_lane_t *lane);
/* A write that a unique index refused is kept for tow_lane_untangle. */
void tow_lane_conflict(tow_lane_t *lane, tow_namespace_t *collection, tow_value_t id,
                       const char *message);
/* A server call of the lane failed: counts, waits, or stops the job when it is final. */
void tow_lane_failed(tow_lane_t *lane, const tow_error_t *error);
void tow_lane_succeeded(tow_lane_t *lane);
/* Returns when nothing of what the lane has written can arrive any more, or the job stops. */
void tow_lane_settle(tow_lane_t *lane);

/* lane.c */
void tow_lane_init(tow_lane_t *lane, tow_replay_t *replay, uint32_t number);
bool tow_lane_start(tow_lane_t *lane, tow_error_t *error);
void tow_lane_end(tow_lane_t *lane); /* joins, idempotent */
void tow_lane_destroy(tow_lane_t *lane);

/* apply.c: events as they come. */
void tow_lane_absorb(tow_lane_t *lane, const tow_items_t *items);
/* refetch.c: one batch of dirty keys; false: nothing to do. */
bool tow_lane_refetch(tow_lane_t *lane);
/* The source's answer to a find by _id has a document that was not asked for. False: the answer is
 * damaged, and says nothing about those that it lacks. True: the name has another collection, whose
 * collation takes more for equal. */
bool tow_lane_explain(tow_lane_t *lane, const tow_namespace_t *collection,
                      tow_error_t *error) TOW_CHECK;
/* Whether a find by _id may have that document in its answer although its _id is not the one asked
 * for: $in: [null] takes undefined, and a collation other spellings. */
static inline bool tow_is_taken_too(tow_value_t id, bool collated)
{
    return id.type == BSON_TYPE_UNDEFINED ||
           (collated && (id.type == BSON_TYPE_UTF8 || id.type == BSON_TYPE_SYMBOL ||
                         id.type == BSON_TYPE_DOCUMENT || id.type == BSON_TYPE_ARRAY));
}
/* untangle.c: reads the keys of a conflict again, with those that stand in their way, deletes all
 * and inserts what the source has. Takes the exclusive lock. */
void tow_lane_untangle(tow_lane_t *lane);
/* A unique index refused a key's document: it is tried again a little later, and untangled after
 * some. */
void tow_lane_refused(tow_lane_t *lane, tow_dirty_key_t *key, const char *message);

/* capped_continue.c: settles keys, in flight, of a collection that is capped by continuing its log.
 * True with keys that have `failed`: the lane is to copy it again when the shared lock is given up.
 */
bool tow_lane_continue(tow_lane_t *lane, tow_namespace_t *collection, tow_dirty_key_t **keys,
                       uint32_t count, tow_optime_t lo, tow_optime_t *out_hi,
                       tow_error_t *error) TOW_CHECK;
/* Has lane->apart copied again. Takes the exclusive lock. */
void tow_lane_copy_again(tow_lane_t *lane);
void tow_logs_free(tow_replay_t *replay);

/* ddl.c: one DDL event. What gives a name another meaning is a barrier, and so are the limits of a
 * capped collection: the dispatcher has flushed everything before them, and they take the exclusive
 * lock. Indexes and options follow beside the replay. */
bool tow_ddl_is_barrier(tow_replay_t *replay, const tow_event_t *event);
bool tow_replay_ddl(tow_replay_t *replay, const bson_t *event, tow_optime_t time,
                    tow_block_t *block, tow_error_t *error);
/* An event on a collection that nobody announced: looks it up at the source. NULL with error code
 * 0: it does not exist there. */
tow_namespace_t *tow_replay_ensure(tow_replay_t *replay, const char *database, const char *name,
                                   tow_error_t *error);

#endif
