/* SPDX-License-Identifier: Apache-2.0 */
/* store_internal.h: what the files of the store share. */
#ifndef TOW_STATE_STORE_INTERNAL_H
#define TOW_STATE_STORE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "engine/base/guarded.h"
#include "engine/base/memory.h"
#include "engine/base/thread.h"
#include "engine/state/store.h"

enum { TOW_STATE_FORMAT = 2 };

/* The keeper: a thread with a connection that renews the lease, whatever the store is busy with. */
typedef struct {
    tow_thread_t thread;
    tow_conn_t *conn;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    bool quit;
} tow_keeper_t;

TOW_GUARD(tow_store);
struct tow_store {
    tow_store_options_t options;
    char *database;
    char holder[25];            /* random, new for every process */
    int64_t epoch;              /* of our lease; constant once it is taken */
    _Atomic int64_t renewed_ms; /* tow_boot_ms before the last renewal that succeeded was sent */
    tow_keeper_t keeper;
    pthread_mutex_t lock; /* guards what follows */
    tow_conn_t *conn TOW_GUARDED_BY(tow_store);
    bool *slots TOW_GUARDED_BY(tow_store); /* of operations: taken */
    uint32_t slot_count TOW_GUARDED_BY(tow_store);
};
TOW_LOCK(tow_store, tow_store_t, lock)

/* Who a document says holds the job. */
typedef struct {
    char holder[64], host[256], user[512];
    int64_t pid, epoch, expires_ms; /* by the server's clock */
} tow_lease_t;

/* document.c */
void tow_lease_parse(const bson_t *document, tow_lease_t *out);
bool tow_document_is_begun(const bson_t *document);
bool tow_document_is_removed(const bson_t *document); /* or about to be */
/* Another job may have cleared what this one had copied while nobody held it. */
bool tow_document_check_cleared(const bson_t *document, tow_error_t *error) TOW_CHECK;
/* Compares what must not change. */
bool tow_document_check(const bson_t *document, const tow_settings_t *settings,
                        tow_error_t *error) TOW_CHECK;
/* {name: {$literal: text}}: no text is taken for an expression. */
void tow_document_append_literal(bson_t *out, const char *name, const char *text);
void tow_lease_append(bson_t *out, const tow_store_t *store);
/* A filter: nobody holds it, or exactly the lease that was read has run out by the server's
 * clock. */
void tow_lease_append_takeable(bson_t *out, const tow_lease_t *old);
/* One stage {$set: fields} of a pipeline; expressions are those of an aggregation. */
void tow_store_stage(bson_t *out, const bson_t *fields);
/* {$add: [{$toLong: "$$NOW"}, length]}: date arithmetic is not what every server has. */
void tow_store_append_expiry(bson_t *out, const char *name, int64_t length_ms);

/* lease.c. *out_document: the job's, as its former holders left it; the caller's when true.
 * store->renewed_ms: before the lease's time began. */
bool tow_lease_take(tow_store_t *store, bson_t *out_document, tow_error_t *error) TOW_CHECK
    TOW_REQUIRES(tow_store);

/* keeper.c. Stops writes as soon as the lease has run out by our clock, until it is renewed. */
void tow_lease_limit(tow_store_t *store, int64_t renewed_ms);
bool tow_keeper_start(tow_store_t *store, tow_error_t *error) TOW_CHECK;
void tow_keeper_end(tow_store_t *store); /* joins; idempotent */

/* fence.c: what the processes before may have under way, and what this one has. */
/* Ends the sessions that `document`, the job's, names; then notes our own, and guards the link's
 * writes. */
bool tow_fence(tow_store_t *store, const bson_t *document, tow_error_t *error) TOW_CHECK
    TOW_REQUIRES(tow_store);

/* marks.c: a collection of the job's own with documents on every shard of a sharded destination. */
typedef struct {
    char collection[32];
    uint32_t count;
} tow_marks_t;
/* Makes it, under a name that was never used: a drop of an earlier one that failed, or arrives
 * late, takes no mark away. Every shard has one, or it is an error. */
bool tow_marks_spread(tow_store_t *store, tow_marks_t *out, tow_error_t *error) TOW_CHECK
    TOW_REQUIRES(tow_store);
/* One retryable write that every shard stores the number of; a majority of each acknowledges it. */
bool tow_marks_write(tow_store_t *store, tow_conn_t *conn, const tow_marks_t *marks,
                     tow_error_t *error) TOW_CHECK;
void tow_marks_remove(tow_store_t *store, const tow_marks_t *marks) TOW_REQUIRES(tow_store);

/* All of these want the lock to be held. */

/* records.c */
typedef struct {
    bson_t **items; /* each owned */
    size_t count;
} tow_records_t;
void tow_records_free(tow_records_t *records);
/* All documents of a collection that match, or all with NULL. */
bool tow_records_read(tow_store_t *store, const char *collection, const bson_t *filter,
                      tow_records_t *out, tow_error_t *error) TOW_CHECK TOW_REQUIRES(tow_store);
/* Deletes the given documents by their _ids, each by a statement of its own: a deleteMany is no
 * retryable write, and could arrive when another process has the job. */
bool tow_records_delete(tow_store_t *store, const char *collection, bson_t *const *documents,
                        size_t count, tow_error_t *error) TOW_CHECK TOW_REQUIRES(tow_store);
bool tow_records_delete_all(tow_store_t *store, const char *collection, const bson_t *filter,
                            tow_error_t *error) TOW_CHECK TOW_REQUIRES(tow_store);
/* What a reply says of documents that were refused. */
bool tow_records_check(const tow_store_t *store, const bson_t *reply, tow_error_t *error) TOW_CHECK;
/* The readConcern of a find that lists records of the job. */
void tow_store_append_concern(const tow_store_t *store, bson_t *command);
/* A command on the job's database, sent again while that may help. The reply is always the
 * caller's. */
bool tow_store_run(tow_store_t *store, const bson_t *command, int flags, bson_t *reply,
                   tow_error_t *error) TOW_CHECK TOW_REQUIRES(tow_store);
/* What a process shows that waits; the server itself decides when a lease has run out. */
bool tow_store_now(tow_store_t *store, int64_t *out_ms, tow_error_t *error) TOW_CHECK
    TOW_REQUIRES(tow_store);
/* Updates one document; `pipeline`: by an array of stages. *out_matched: how many the filter found
 * (or were inserted); *out_code: of the write error, 0 when there was none. */
bool tow_store_update_one(tow_store_t *store, const char *collection, const bson_t *filter,
                          const bson_t *update, bool pipeline, bool upsert, int64_t *out_matched,
                          int *out_code, tow_error_t *error) TOW_CHECK TOW_REQUIRES(tow_store);
/* A document by its _id; *out is the caller's when *out_found. */
bool tow_store_find_one(tow_store_t *store, const char *collection, const char *id, bson_t *out,
                        bool *out_found, tow_error_t *error) TOW_CHECK TOW_REQUIRES(tow_store);
/* Deletes every document whose field has that value. */
bool tow_store_delete_by(tow_store_t *store, const char *collection, const char *field,
                         const char *value, tow_error_t *error) TOW_CHECK TOW_REQUIRES(tow_store);
/* Updates the job's document while the lease is ours; TOW_ERROR_LEASE when it is not. */
bool tow_store_update_guarded(tow_store_t *store, const bson_t *update,
                              tow_error_t *error) TOW_CHECK TOW_REQUIRES(tow_store);
/* The same with another connection, and without the lock. `pipeline`: the update is an array of
 * stages. */
bool tow_store_update_by(tow_store_t *store, tow_conn_t *conn, const bson_t *update, bool pipeline,
                         tow_error_t *error) TOW_CHECK;

/* No time is no field: a server puts its own time in the place of an empty timestamp. */
void tow_store_append_time(bson_t *out, const char *name, tow_optime_t time);
tow_optime_t tow_store_read_time(const bson_iter_t *iter);

#endif
