/* SPDX-License-Identifier: Apache-2.0 */
/* store.h: the job's state on the destination, in the database `towline_<job>`: settings, lease,
 * collections, ranges with their as-of intervals, checkpoint. All writes are majority-acknowledged.
 *
 * Threads: every function may be called from any thread; one connection inside, behind a lock. */
#ifndef TOW_STATE_STORE_H
#define TOW_STATE_STORE_H

#include "engine/link/catalog.h"
#include "engine/link/link.h"

typedef struct tow_store tow_store_t;

/* What must not change between runs of one job. */
typedef struct {
    const char *source_identity, *destination_identity; /* tow_facts_t.identity */
    const char *filter;                                 /* tow_filter_text */
} tow_settings_t;

typedef struct {
    tow_link_t *destination;
    const char *job;         /* its name; copied */
    tow_settings_t settings; /* borrowed for the call */
    int64_t lease_ms;
    bool wait;        /* for a lease that is not renewed, until it has run out */
    tow_sink_t sink;  /* is told of that wait */
    tow_stop_t *stop; /* gets the error when the lease is lost; ends the wait; borrowed */
} tow_store_options_t;

/* Takes the lease (creates the job's document when it is new) and keeps it until it is given back.
 * Nothing but the destination's clock decides whether a lease has run out. TOW_ERROR_LEASE: it is
 * held, by whom. TOW_ERROR_SETTINGS says which setting differs and both values, or that another
 * user began the job. *out_resumed: the job was begun (tow_store_begin). After the call no
 * retryable write of an earlier process of the job comes into effect any more, and the destination
 * takes writes of this link only under the lease: until it has run out by our clock, or after a
 * guarded update that names the write. */
tow_store_t *tow_store_open(const tow_store_options_t *options, bool *out_resumed,
                            tow_error_t *error);
/* The destination holds nothing but what is this job's: from now on it is resumed. */
bool tow_store_begin(tow_store_t *store, tow_error_t *error) TOW_CHECK;
/* What the destination holds of a job, without taking its lease or writing anything. */
typedef struct {
    bool exists;    /* the job was begun */
    bool held;      /* its lease has not run out */
    char host[256]; /* of the holder */
    int64_t pid;
    int64_t expires_ms;     /* when it runs out, by the destination's clock: a renewal moves it */
    double expires_seconds; /* from the look to there */
    bool writes_blocked;    /* the field `writesBlocked`: a cutover blocked the source's writes */
} tow_store_view_t;
/* TOW_ERROR_SETTINGS as with open, with *out filled. */
bool tow_store_peek(tow_link_t *destination, const char *job, const tow_settings_t *settings,
                    tow_store_view_t *out, tow_error_t *error) TOW_CHECK;
/* The name of a repair's own state: none that a job may have. */
#define TOW_REPAIR_NAME "verify+repair"
/* TOW_ERROR_LEASE: the destination holds the state of a job, any job's, whose lease was not given
 * back: it writes, or what it sent may still arrive. A repair looks once it has its own lease. */
bool tow_store_refuse_held(tow_link_t *destination, tow_error_t *error) TOW_CHECK;
/* Whether there is a repair's state: who has a job's lease looks, and ends what it left. */
bool tow_store_find_repair(tow_link_t *destination, bool *out, tow_error_t *error) TOW_CHECK;
/* What `other` may have sent that may still arrive is what this job's processes sent. */
bool tow_store_adopt_late(tow_store_t *store, tow_store_t *other, tow_error_t *error) TOW_CHECK;
void tow_store_destroy(tow_store_t *store); /* keeps state and lease; takes NULL */
/* Gives the lease back; nothing may be under way any more, and nothing is written after it. */
bool tow_store_release(tow_store_t *store, tow_error_t *error) TOW_CHECK;
/* Removes the database, once the destination has confirmed that it is ours; TOW_ERROR_LEASE. */
bool tow_store_drop(tow_store_t *store, tow_error_t *error) TOW_CHECK;
/* Tells whether a lease that this process believes to hold has run out by its own clock. */
bool tow_store_lease_valid(tow_store_t *store);
/* Records namespaces that are about to be dropped, so that the state says whose doing it was. */
bool tow_store_record_cleared(tow_store_t *store, const tow_collection_info_t *const *items,
                              size_t count, tow_error_t *error) TOW_CHECK;
const char *tow_store_database(const tow_store_t *store);
/* Whether it is called as a job's state is. */
bool tow_may_be_job_state(const char *database);

/* The job's own fields: a small document merged ($set) into / read from the job document:
 * {phase, startToken, startTime, consistentTime, …}. Guarded by the lease: TOW_ERROR_LEASE. */
bool tow_store_set(tow_store_t *store, const bson_t *fields, tow_error_t *error) TOW_CHECK;
bool tow_store_get(tow_store_t *store, bson_t *out,
                   tow_error_t *error) TOW_CHECK; /* whole document; TOW_ERROR_LEASE: it is gone */

/* checkpoint {token, time, ddlToken, ddlTime}: guarded by the lease like set. *out_found false:
 * none yet. One that cannot be read, and none where the job was prepared, is an error. */
typedef struct {
    bson_t token; /* resume token document, owned */
    tow_optime_t time;
    bson_t ddl_token;      /* of the last DDL event carried out, owned; empty: none after `token` */
    tow_optime_t ddl_time; /* and its time */
} tow_checkpoint_t;
void tow_checkpoint_clear(tow_checkpoint_t *checkpoint);
bool tow_store_save_checkpoint(tow_store_t *store, const tow_checkpoint_t *checkpoint,
                               tow_error_t *error) TOW_CHECK;
bool tow_store_load_checkpoint(tow_store_t *store, tow_checkpoint_t *out, bool *out_found,
                               tow_error_t *error) TOW_CHECK;

/* What is somebody's data or options is stored as binary: a server has rules for names of fields,
 * and older ones store none that begin with $. */
void tow_store_append_packed(bson_t *out, const char *name, const bson_t *document);
/* *out borrows from the iterator's document. False: it holds nothing of the kind. */
bool tow_store_read_packed(const bson_iter_t *iter, bson_t *out);

/* Collections and ranges of the copy. Documents are as follows (any further field is kept):
 *   collections: {_id: ns, options: packed, type, uuid, readTime: Timestamp, copied: bool, indexed:
 * bool} ranges: {_id: {ns, n: int}, bounds: packed {min?, max?}, state: "open"|"started"|"done",
 *            lo, hi: Timestamp, documents, bytes: int64}   (min/max absent: open end) */
typedef struct {
    uint32_t number;
    bool has_min, has_max;
    bson_value_t min, max; /* owned by whoever holds the struct; tow_range_clear */
    enum { TOW_RANGE_OPEN, TOW_RANGE_STARTED, TOW_RANGE_DONE } state;
    tow_optime_t lo, hi;
    uint64_t documents, bytes;
} tow_range_t;
void tow_range_clear(tow_range_t *range);

/* A NULL store keeps nothing: these four are also called for a repair that belongs to no job. */
/* Replaces a collection's document and all its ranges (a new copy of it begins). */
bool tow_store_put_collection(tow_store_t *store, const tow_collection_info_t *info,
                              tow_optime_t read_time, const tow_range_t *ranges, uint32_t count,
                              tow_error_t *error) TOW_CHECK;
bool tow_store_put_range(tow_store_t *store, const char *ns, const tow_range_t *range,
                         tow_error_t *error) TOW_CHECK;
bool tow_store_set_collection(tow_store_t *store, const char *ns, const bson_t *fields,
                              tow_error_t *error) TOW_CHECK;
bool tow_store_remove_collection(tow_store_t *store, const char *ns, tow_error_t *error) TOW_CHECK;
/* Calls `each` for every collection with its ranges (sorted by number), for a restart. */
typedef bool (*tow_store_each_fn)(void *data, const bson_t *collection, tow_range_t *ranges,
                                  uint32_t count, tow_error_t *error);
bool tow_store_each_collection(tow_store_t *store, tow_store_each_fn each, void *data,
                               tow_error_t *error) TOW_CHECK;

/* What was sent that no number keeps from arriving, and whose end was not seen, as the job's whole
 * document names it: what ("drop", …), namespace, and the new name of a rename. */
void tow_store_each_late(const bson_t *document,
                         void (*each)(void *data, const char *what, const char *ns, const char *to),
                         void *data);

#endif
