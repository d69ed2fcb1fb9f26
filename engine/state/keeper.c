/* SPDX-License-Identifier: Apache-2.0 */
/* keeper.c: the lease is renewed as long as the process holds it, whatever else it is busy with. */
#include "engine/state/store_internal.h"

#include "engine/base/clock.h"

enum { RENEWALS = 5, MARGINS = 10 }; /* parts of the lease's length */

/* Our clock may be slower than the server's: a tenth of the time is left to that. */
static int64_t valid_ms(const tow_store_t *store)
{
    return store->options.lease_ms - store->options.lease_ms / MARGINS;
}

void tow_lease_limit(tow_store_t *store, int64_t renewed_ms)
{
    atomic_store(&store->renewed_ms, renewed_ms);
    tow_link_limit_writes(store->options.destination, renewed_ms + valid_ms(store));
}

bool tow_store_lease_valid(tow_store_t *store)
{
    return tow_boot_ms() < atomic_load(&store->renewed_ms) + valid_ms(store);
}

static bool renew(tow_store_t *store, tow_error_t *error)
{
    bson_t fields = BSON_INITIALIZER, update;
    int64_t before_ms = tow_boot_ms();
    bool ok;

    tow_store_append_expiry(&fields, "lease.expires", store->options.lease_ms);
    tow_store_stage(&update, &fields);
    ok = tow_store_update_by(store, store->keeper.conn, &update, true, error);
    if (ok)
        tow_lease_limit(store, before_ms);
    bson_destroy(&fields);
    bson_destroy(&update);
    return ok;
}

/* A lease that is lost, or an error that stays, ends the job; everything else may pass. */
static void tell(tow_store_t *store, const tow_error_t *error)
{
    tow_stop_t *stop = store->options.stop;

    if (error->code == TOW_ERROR_LEASE)
        tow_link_limit_writes(store->options.destination, 1); /* long ago */
    if (!stop || tow_stop_requested(stop))
        return;
    if (error->code == TOW_ERROR_LEASE || error->retry == TOW_RETRY_NEVER)
        tow_stop_request(stop, error);
    else
        tow_emit(&store->options.sink, TOW_LEVEL_WARNING, "lease_not_renewed", "%s",
                 error->message);
}

/* Waits until the next renewal is due; one that took long is due again at once. False: quit. */
static bool wait_until_due(tow_store_t *store)
{
    tow_keeper_t *keeper = &store->keeper;
    int64_t period_ms = store->options.lease_ms / RENEWALS;
    int64_t age_ms = tow_boot_ms() - atomic_load(&store->renewed_ms);
    int64_t until_ms = tow_now_ms() + (age_ms < period_ms ? period_ms - age_ms : 10);
    bool quit;

    pthread_mutex_lock(&keeper->lock);
    while (!keeper->quit && tow_now_ms() < until_ms)
        tow_condition_wait(&keeper->changed, &keeper->lock, until_ms);
    quit = keeper->quit;
    pthread_mutex_unlock(&keeper->lock);
    return !quit;
}

static void *keep(void *data)
{
    tow_store_t *store = data;
    tow_error_t error;
    bool held = true;

    while (held && wait_until_due(store))
        if (!renew(store, &error)) {
            held = error.code != TOW_ERROR_LEASE;
            tell(store, &error);
            pthread_mutex_lock(&store->keeper.lock); /* not again at once */
            if (held && !store->keeper.quit)
                tow_condition_wait(&store->keeper.changed, &store->keeper.lock,
                                   tow_now_ms() + store->options.lease_ms / MARGINS);
            pthread_mutex_unlock(&store->keeper.lock);
        }
    return NULL;
}

bool tow_keeper_start(tow_store_t *store, tow_error_t *error)
{
    return tow_thread_start(&store->keeper.thread, "keeper", keep, store, error);
}

void tow_keeper_end(tow_store_t *store)
{
    if (!store->keeper.thread.started)
        return;
    pthread_mutex_lock(&store->keeper.lock);
    store->keeper.quit = true;
    pthread_cond_broadcast(&store->keeper.changed);
    pthread_mutex_unlock(&store->keeper.lock);
    tow_thread_join(&store->keeper.thread);
}
