/* SPDX-License-Identifier: Apache-2.0 */
/* replay.h: applies what the tail reads: the dispatcher routes events through the gate to lanes,
 * lanes apply them or refetch their keys, DDL events are barriers.
 *
 *   tail → ledger → dispatcher → lanes (by hash of the canonical _id) → destination
 *
 * Threads: one dispatcher, `lanes` lanes; a readers-writer lock that lanes share while they work
 * and that a barrier, or a lane that untangles unique keys, takes alone. Lock order: exclusive,
 * then a lane's inbox, then the namespaces' and the ledger's own locks. */
#ifndef TOW_OPLOG_REPLAY_H
#define TOW_OPLOG_REPLAY_H

#include "engine/state/filter.h"
#include "engine/state/namespaces.h"
#include "oplog/ledger.h"
#include "oplog/tail.h"

/* What is to be done by the layers beside; each returns false with *error. Given by job. None is
 * NULL but those that say so, and all that only a DDL event needs where no stream is followed. */
typedef struct {
    void *data;
    bool (*copying)(void *data); /* ranges are unfinished: lanes only collect keys; cheap */
    bool (*create)(void *data, tow_conn_t *destination, const tow_collection_info_t *info,
                   tow_error_t *error);
    /* Makes a plain collection that is to take documents until its end is replayed, unless the job
     * has made one of that name already; NULL: the first write makes it. */
    bool (*placeholder)(void *data, tow_conn_t *destination, const char *database, const char *name,
                        tow_error_t *error);
    bool (*copy_again)(void *data, const char *database, const char *name, bool *out_found,
                       tow_error_t *error);
    /* Options and indexes as the source lists them, in the background. */
    void (*alike)(void *data, const char *database, const char *name);
    /* About what the job made on the destination, which alone may go; NULL: all that is there is
     * the job's. */
    bool (*dropped)(void *data, tow_conn_t *destination, const char *database, const char *name,
                    tow_error_t *error);
    bool (*may_rename)(void *data, tow_conn_t *destination, const tow_namespace_t *from,
                       const char *to_database, const char *to_name, bool *out_ours,
                       bool *out_replaces, tow_error_t *error);
    bool (*renamed)(void *data, tow_conn_t *destination, const char *from_ns, const char *database,
                    const char *name, tow_error_t *error);
    /* DDL events alone. */
    bool (*index_gone)(void *data, const char *database, const char *name, const char *index,
                       tow_error_t *error);
    /* No index of the collection, or with no name of the database, is built until the release,
     * which is due also after an error; waits for what is under way. `again`: it is made alike
     * after that. */
    bool (*hold)(void *data, const char *database, const char *name, tow_error_t *error);
    void (*release)(void *data, const char *database, const char *name, bool again);
    /* Options and indexes, before it returns. */
    bool (*reconcile)(void *data, const char *database, const char *name, tow_error_t *error);
    bool (*forget)(void *data, const char *ns, tow_error_t *error); /* the store's collection */
    /* The barrier of this token was carried out. */
    bool (*save_ddl)(void *data, const bson_t *token, tow_optime_t time, tow_error_t *error);
} tow_ddl_handler_t;

typedef struct {
    tow_link_t *source, *destination;
    tow_namespaces_t *namespaces;
    const tow_filter_t *filter;
    tow_ledger_t *ledger;
    tow_spool_t *spool;
    tow_stop_t *stop;
    tow_sink_t sink;
    uint32_t lanes;
    uint64_t dirty_bytes; /* most memory of dirty keys */
    int64_t retry_window_ms;
    uint32_t refusals_most; /* of one document by a unique index, until that is looked into; 0: a
                               minute's */
    uint32_t
        knot_large; /* keys, from which on all that are dirty are untangled together; 0: 1,000 */
    tow_ddl_handler_t ddl;
    /* May be NULL: told of each changed key before it is applied, by the dispatcher. */
    void (*touched)(void *data, const char *database, const char *collection, tow_value_t id);
    void *track_data; /* of `touched` */
} tow_replay_options_t;

typedef struct tow_replay tow_replay_t;

tow_replay_t *tow_replay_new(const tow_replay_options_t *options);
/* Waits until nothing is applied any more; the stop was requested before. Idempotent. */
void tow_replay_end(tow_replay_t *replay);
void tow_replay_destroy(tow_replay_t *replay); /* the same, and frees it */
/* `horizon`: every event up to it becomes a dirty key (the source's time at a restart, or 0);
 * `ddl_token`, `ddl_time`: of the last DDL event that a process before carried out; NULL or empty:
 * none. */
bool tow_replay_start(tow_replay_t *replay, tow_optime_t horizon, const bson_t *ddl_token,
                      tow_optime_t ddl_time, tow_error_t *error) TOW_CHECK;
/* While ranges are copied keys are only collected. A pause does the same, and DDL waits as well. */
void tow_replay_pause(tow_replay_t *replay, bool paused);

/* Returns when no lane writes what it began before they were held: while ranges are copied, or by a
 * pause. From any thread, also under a barrier. */
void tow_replay_await_lanes(tow_replay_t *replay);

/* Once the source stands still and all is settled: has what capped collections have beyond the
 * source's oldest document go, or has them copied again. Before 5.0 an insert that the source
 * refused as a duplicate pushed its oldest out, and is in no stream. From any thread. */
bool tow_replay_trim_logs(tow_replay_t *replay, tow_error_t *error) TOW_CHECK;

/* Reads documents again at the source and makes the destination's the same, as for dirty keys, or
 * `anew` by deleting and inserting them; returns when all are settled, which waits for what the
 * stream brought before. From any thread. False: stopped. */
bool tow_replay_repair(tow_replay_t *replay, const char *database, const char *collection,
                       const tow_value_t *ids, uint32_t count, bool anew,
                       tow_error_t *error) TOW_CHECK;

typedef struct {
    uint64_t skipped, applied, refetched, statements, dirty_keys, dirty_bytes;
} tow_replay_progress_t;
void tow_replay_progress(tow_replay_t *replay, tow_replay_progress_t *out);
/* All that was read is settled: no backlog and no dirty key. */
bool tow_replay_settled(tow_replay_t *replay);

#endif
