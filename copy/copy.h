/* SPDX-License-Identifier: Apache-2.0 */
/* copy.h: the initial copy: collections created with all their options, ranges copied in parallel,
 * indexes built. */
#ifndef TOW_COPY_COPY_H
#define TOW_COPY_COPY_H

#include "engine/state/claims.h"
#include "engine/state/filter.h"
#include "engine/state/namespaces.h"
#include "engine/state/store.h"

typedef struct tow_copy tow_copy_t;

typedef struct {
    tow_link_t *source, *destination;
    tow_namespaces_t *namespaces;
    tow_store_t *store;
    tow_claims_t *claims; /* what may be dropped; NULL, of a repair without a job: everything */
    const tow_filter_t *filter;
    tow_stop_t *stop;
    tow_sink_t sink;
    uint32_t workers;
    uint32_t index_workers;
    uint64_t range_bytes;   /* about the most bytes of one range */
    bool index_errors_fail; /* --index-errors fail */
    bool indexes_first;     /* non-unique ones are built while a collection is empty */
    /* Called before a collection is copied again, when the lanes are held already: returns when
     * none of them writes any more. */
    void (*await_lanes)(void *data);
    void *data;
    bool keep_extra; /* reconciling drops no collection that the source does not have */
    bool expires;    /* nothing holds TTL off: a repair, after which no cutover restores it */
} tow_copy_options_t;

tow_copy_t *tow_copy_new(const tow_copy_options_t *options);
/* Waits until no range is copied any more: its workers end, those that build indexes are not waited
 * for. Idempotent. */
void tow_copy_end(tow_copy_t *copy);
void tow_copy_destroy(tow_copy_t *copy); /* joins its threads */

/* In how many ranges a collection of so many bytes is to be copied. */
uint32_t tow_copy_wanted_ranges(uint64_t bytes, uint64_t range_bytes);

/* Creates one collection on the destination with its raw options (views too), only the _id index.
 * `TOW_ERROR_CONFLICT` when it exists with other options. NamespaceExists with equal options is
 * fine. *out_late (may be NULL): the command may arrive once more, and make the collection after
 * somebody dropped it. */
bool tow_copy_create(tow_conn_t *destination, const tow_collection_info_t *info, bool *out_late,
                     tow_error_t *error) TOW_CHECK;

/* The same under the job's claims: what is there and is not the job's is TOW_ERROR_CONFLICT. */
bool tow_copy_make(tow_copy_t *copy, tow_conn_t *destination, const tow_collection_info_t *info,
                   tow_error_t *error) TOW_CHECK;
/* What the source dropped goes on the destination too, if it is the job's; else that
 * is told once. */
bool tow_copy_dropped(tow_copy_t *copy, tow_conn_t *destination, const char *database,
                      const char *name, tow_error_t *error) TOW_CHECK;
/* A plain collection of that name, unless the job has made one. TOW_ERROR_CONFLICT: somebody else
 * has. */
bool tow_copy_make_placeholder(tow_copy_t *copy, tow_conn_t *destination, const char *database,
                               const char *name, tow_error_t *error) TOW_CHECK;
/* Before a rename on the destination, which drops what has the new name: TOW_ERROR_CONFLICT when
 * that is not the job's. *out_ours false: what has the old name is not the job's, or is not there;
 * *out_replaces: what has the new name is the job's, and is there. And after it. */
bool tow_copy_may_rename(tow_copy_t *copy, tow_conn_t *destination, const char *from_database,
                         const char *from_name, const char *to_database, const char *to_name,
                         bool *out_ours, bool *out_replaces, tow_error_t *error) TOW_CHECK;
bool tow_copy_renamed(tow_copy_t *copy, tow_conn_t *destination, const char *from_ns,
                      const char *database, const char *name, tow_error_t *error) TOW_CHECK;

/* Reads the source's catalog (filtered), creates the collections on the destination, samples range
 * bounds, records all in namespaces and store. Views are left for tow_copy_views. */
/* `known` may tell the size of a collection that was measured a moment ago; false, or no function:
 * it is asked. Some servers read the whole collection to answer that. */
typedef bool (*tow_copy_size_fn)(const void *data, const char *ns, tow_collection_stats_t *out);
bool tow_copy_prepare(tow_copy_t *copy, tow_copy_size_fn known, const void *data,
                      tow_error_t *error) TOW_CHECK;
/* Restart: namespaces and ranges from the store; unfinished ranges are emptied on the destination
 * when a worker takes them. */
bool tow_copy_restore(tow_copy_t *copy, tow_error_t *error) TOW_CHECK;
/* One collection anew: drops it on the destination, reads its catalog entry, creates it, splits it
 * and queues its ranges. *out_found false: it does not exist at the source (and is dropped).
 * Thread-safe. */
bool tow_copy_again(tow_copy_t *copy, const char *database, const char *name, bool *out_found,
                    tow_error_t *error) TOW_CHECK;
/* Starts the workers (idempotent). They end at the stop or with destroy; errors go to the stop. */
bool tow_copy_start(tow_copy_t *copy, tow_error_t *error) TOW_CHECK;
void tow_copy_pause(tow_copy_t *copy, bool paused); /* workers finish their batch and wait */
/* Waits until every range is copied and every non-unique index of copied collections was tried.
 * False: stopped. */
bool tow_copy_wait(tow_copy_t *copy);
bool tow_copy_finished(tow_copy_t *copy);     /* the ranges alone; cheap: asked for every batch */
bool tow_copy_indexes_idle(tow_copy_t *copy); /* no background index build is queued or running */
/* All missing unique ones, once consistent; returns when built. Those with TTL hold it off. */
bool tow_copy_build_unique(tow_copy_t *copy, tow_error_t *error) TOW_CHECK;
/* Gives a collection, in the background, the options and indexes that the source lists when its
 * turn comes: after its copy has ended, TTL held off, unique indexes only where those of others are
 * there. What cannot be changed in place is copied again; what the destination refuses is left to
 * tow_copy_reconcile. */
void tow_copy_make_alike(tow_copy_t *copy, const char *database, const char *name);
/* The same for views and, with `whole`, for all collections that differ. One look at a time, and
 * not so soon after the last. */
void tow_copy_look(tow_copy_t *copy, bool whole);
void tow_copy_end_look(tow_copy_t *copy); /* the one under way ends early */
bool tow_copy_index_wait(
    tow_copy_t *copy); /* until the background builds are done; false: stopped */
/* The source dropped an index by that name: so does the destination, unless it lists another one by
 * now. */
bool tow_copy_index_gone(tow_copy_t *copy, const char *database, const char *name,
                         const char *index, tow_error_t *error) TOW_CHECK;
/* Drops an index by name on the destination; one that does not exist is fine. */
bool tow_copy_index_drop(tow_copy_t *copy, const char *database, const char *name,
                         const char *index, tow_error_t *error) TOW_CHECK;
/* Until the release nothing of the collection, or with no name of the database, is built or made
 * alike: most DDL is refused beside a build. What runs is ended where the destination can do that,
 * otherwise waited for. The release is due also after an error; `again`: the collection is made
 * alike after it. */
bool tow_copy_hold(tow_copy_t *copy, const char *database, const char *name,
                   tow_error_t *error) TOW_CHECK;
void tow_copy_release(tow_copy_t *copy, const char *database, const char *name, bool again);

typedef enum {
    TOW_RECONCILE_ALONG, /* the job goes on: what a unique index refuses may come right */
    TOW_RECONCILE_LAST,  /* what is refused now is an error; views too */
    TOW_RECONCILE_TTL    /* the same, and TTL is as at the source, no longer held off */
} tow_reconcile_t;
/* Reconciles one collection's (or with NULLs every) options and indexes with the source, before it
 * returns: collMod for validator, pre/post images and the like; creates and drops indexes;
 * recreates views; creates missing and drops extra collections within the filter where every one is
 * looked at. The indexes of a collection that is being copied come with the end of its copy. */
bool tow_copy_reconcile(tow_copy_t *copy, const char *database, const char *name,
                        tow_reconcile_t how, tow_error_t *error) TOW_CHECK;
/* TTL as at the source, of what TOW_RECONCILE_LAST found to have any. */
bool tow_copy_restore_ttl(tow_copy_t *copy, tow_error_t *error) TOW_CHECK;

/* What the two catalogs say that no event explains; namespaces within the filter,
 * each list sorted. */
typedef struct {
    tow_names_t
        lost; /* the job copied them, the destination has them, the source does not list them */
    tow_names_t left_out; /* of a kind that cannot be copied, and not on the destination either */
    tow_names_t by_hand;  /* the same, on the destination: somebody copied them */
    tow_names_t foreign;  /* on both sides, and the destination's was not made by the job */
    tow_names_t strays;   /* in the source's admin and local, which no job copies */
} tow_gaps_t;
bool tow_copy_gaps(tow_copy_t *copy, tow_gaps_t *out, tow_error_t *error) TOW_CHECK;
void tow_gaps_clear(tow_gaps_t *gaps);
/* Makes the destination's views those of the source, as far as they are the job's; *out_refused:
 * those that the destination refuses, and *error says why, of the last. */
bool tow_copy_try_views(tow_copy_t *copy, tow_names_t *out_refused, tow_error_t *error) TOW_CHECK;
/* Of the lost ones drops what the source, asked for it by name, does not have: where the stream
 * lost its history, and no event can say so. */
bool tow_copy_drop_gone(tow_copy_t *copy, tow_error_t *error) TOW_CHECK;

typedef struct {
    uint64_t documents, bytes;
    uint32_t collections, collections_done, ranges, ranges_done, indexes, indexes_built;
} tow_copy_progress_t;
void tow_copy_progress(tow_copy_t *copy, tow_copy_progress_t *out);

/* Indexes that the destination refused: ns, name and the server's message, for the summary. */
typedef struct {
    char *ns, *name, *message;
} tow_index_failure_t;
/* A copy of the list, since index workers may still add to it. */
tow_index_failure_t *tow_copy_index_failures(tow_copy_t *copy, uint32_t *out_count);
void tow_copy_index_failures_free(tow_index_failure_t *failures, uint32_t count);

#endif
