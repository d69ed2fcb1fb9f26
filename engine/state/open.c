/* SPDX-License-Identifier: Apache-2.0 */
/* open.c: a job's state is opened under its lease, given back, or removed. */
#include <stdlib.h>

#include "engine/base/clock.h"
#include "engine/state/store_internal.h"

static TOW_UNSHARED void open_conns(tow_store_t *store)
{
    tow_link_t *link = store->options.destination;

    store->conn = tow_conn_open(link);
    store->keeper.conn = tow_conn_open(link);
    /* They write nothing but the state, each time only where it is ours. */
    tow_conn_unguarded(store->conn);
    tow_conn_unguarded(store->keeper.conn);
}

/* Takes the job's lease, and ends what its former holders may have under way. *out_removed: a
 * process before was about to remove the state, and could not; that is done now, and the job is
 * new. No other thread has the store yet, and the keeper has a connection to itself. */
static TOW_UNSHARED bool take_over(tow_store_t *store, bool *out_resumed, bool *out_removed,
                                   tow_error_t *error)
{
    bson_t document;
    bool ok;

    if (!tow_lease_take(store, &document, error))
        return false;
    *out_removed = tow_document_is_removed(&document);
    *out_resumed = tow_document_is_begun(&document);
    tow_lease_limit(store, atomic_load(&store->renewed_ms));
    ok = tow_keeper_start(store, error) && tow_fence(store, &document, error);
    bson_destroy(&document);
    return ok && (!*out_removed || tow_store_drop(store, error));
}

static tow_store_t *make(const tow_store_options_t *options)
{
    tow_store_t *store = tow_alloc(sizeof *store);

    store->options = *options;
    store->database = tow_format("towline_%s", options->job);
    pthread_mutex_init(&store->lock, NULL);
    pthread_mutex_init(&store->keeper.lock, NULL);
    tow_condition_init(&store->keeper.changed);
    tow_new_id(store->holder);
    return store;
}

/* {$set: {removing: true}}: whoever takes the job over from here on ends it, too. */
static TOW_REQUIRES(tow_store) bool mark_removing(tow_store_t *store, tow_error_t *error)
{
    bson_t update = BSON_INITIALIZER, set;
    bool ok;

    bson_append_document_begin(&update, "$set", -1, &set);
    bson_append_bool(&set, "removing", -1, true);
    bson_append_document_end(&update, &set);
    ok = tow_store_update_guarded(store, &update, error);
    bson_destroy(&update);
    return ok;
}

bool tow_store_drop(tow_store_t *store, tow_error_t *error)
{
    bson_t command = BSON_INITIALIZER, reply;
    bool ok;

    bson_append_int32(&command, "dropDatabase", -1, 1);
    tow_store_lock(store);
    ok = mark_removing(store, error);
    tow_store_unlock(store);
    tow_keeper_end(store); /* nothing is left to be renewed; the lease lasts for the drop */
    tow_store_lock(store);
    if (ok && !tow_store_lease_valid(store))
        ok = tow_fail(error, TOW_ERROR_LEASE,
                      "the job's lease ran out before its state (%s) was removed; the same command "
                      "removes it",
                      store->database);
    if (ok) {
        ok = tow_store_run(store, &command, TOW_SEND_WRITE, &reply, error);
        bson_destroy(&reply);
    }
    tow_store_unlock(store);
    tow_link_limit_writes(store->options.destination, 1); /* long ago: this process is done */
    bson_destroy(&command);
    return ok;
}

tow_store_t *tow_store_open(const tow_store_options_t *options, bool *out_resumed,
                            tow_error_t *error)
{
    bool removed = true;
    tow_store_t *store = NULL;

    while (removed) {
        tow_store_destroy(store);
        store = make(options);
        open_conns(store);
        if (!take_over(store, out_resumed, &removed, error)) {
            tow_store_destroy(store);
            return NULL;
        }
    }
    store->options.settings = (tow_settings_t){0}; /* they were borrowed */
    store->options.job = NULL;
    return store;
}

bool tow_store_release(tow_store_t *store, tow_error_t *error)
{
    bson_t update = BSON_INITIALIZER, unset;
    bool ok;

    bson_append_document_begin(&update, "$unset", -1, &unset);
    bson_append_utf8(&unset, "lease", -1, "", -1);
    bson_append_document_end(&update, &unset);
    tow_keeper_end(store);
    tow_link_limit_writes(store->options.destination, 1); /* long ago */
    tow_store_lock(store);
    ok = tow_store_update_guarded(store, &update, error);
    tow_store_unlock(store);
    bson_destroy(&update);
    return ok;
}

TOW_UNSHARED void tow_store_destroy(tow_store_t *store)
{
    if (!store)
        return;
    tow_keeper_end(store);
    if (store->conn)
        tow_link_guard(store->options.destination, NULL, NULL);
    tow_conn_close(store->keeper.conn);
    tow_conn_close(store->conn);
    pthread_cond_destroy(&store->keeper.changed);
    pthread_mutex_destroy(&store->keeper.lock);
    pthread_mutex_destroy(&store->lock);
    free(store->slots);
    free(store->database);
    free(store);
}
