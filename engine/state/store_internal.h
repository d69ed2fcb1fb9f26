/* store_internal.h: what the files of the store share. */
#ifndef TOW_STATE_STORE_INTERNAL_H
#define TOW_STATE_STORE_INTERNAL_H

#include <pthread.h>

#include "engine/base/memory.h"
#include "engine/state/store.h"

enum { TOW_LEASE_MS = 15000, TOW_DUPLICATE_KEY = 11000, TOW_STATE_FORMAT = 2 };

struct tow_store {
    char *database;
    char holder[25];      /* random, new for every process */
    pthread_mutex_t lock; /* guards what follows */
    tow_conn_t *conn;
    int64_t renewed_ms; /* tow_boot_ms when the lease was last known to be ours */
    bool guarding;
};

/* All of these want the lock to be held. */

/* A command on the job's database, sent again while that may help. The reply is always the
 * caller's. */
bool tow_store_run(tow_store_t *store, const bson_t *command, int flags, bson_t *reply,
                   tow_error_t *error) TOW_CHECK;
/* Updates one document. *out_matched: how many the filter found (or were inserted); *out_code: of
 * the write error, 0 when there was none. */
bool tow_store_update_one(tow_store_t *store, const char *collection, const bson_t *filter,
                          const bson_t *update, bool upsert, int64_t *out_matched, int *out_code,
                          tow_error_t *error) TOW_CHECK;
/* A document by its _id; *out is the caller's when *out_found. */
bool tow_store_find_one(tow_store_t *store, const char *collection, const char *id, bson_t *out,
                        bool *out_found, tow_error_t *error) TOW_CHECK;
/* Updates the job's document while the lease is ours; TOW_ERROR_LEASE when it is not. */
bool tow_store_update_guarded(tow_store_t *store, const bson_t *update,
                              tow_error_t *error) TOW_CHECK;
/* Renews the lease when that was not done for a while: before the job's threads run nobody else does, and
 * what is prepared or restored may take hours. TOW_ERROR_LEASE when it is not ours. */
bool tow_store_keep(tow_store_t *store, tow_error_t *error) TOW_CHECK;

/* No time is no field: a server puts its own time in the place of an empty timestamp. */
void tow_store_append_time(bson_t *out, const char *name, tow_optime_t time);
tow_optime_t tow_store_read_time(const bson_iter_t *iter);

#endif
