/* SPDX-License-Identifier: Apache-2.0 */
/* stop.c: see stop.h. */
#include "engine/base/stop.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "engine/base/clock.h"
#include "engine/base/memory.h"

/* Somebody else's condition. */
typedef struct watch {
    struct watch *next;
    pthread_mutex_t *lock;
    pthread_cond_t *condition;
} watch_t;

struct tow_stop {
    atomic_bool requested;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    bool has_error;
    tow_error_t error;
    pthread_mutex_t watch_lock; /* guards the list; taken before the locks in it */
    watch_t *watches;
};

tow_stop_t *tow_stop_new(void)
{
    tow_stop_t *stop = tow_alloc(sizeof *stop);

    pthread_mutex_init(&stop->lock, NULL);
    pthread_mutex_init(&stop->watch_lock, NULL);
    tow_condition_init(&stop->changed);
    return stop;
}

void tow_stop_destroy(tow_stop_t *stop)
{
    if (!stop)
        return;
    pthread_cond_destroy(&stop->changed);
    pthread_mutex_destroy(&stop->lock);
    pthread_mutex_destroy(&stop->watch_lock);
    free(stop);
}

void tow_stop_watch(tow_stop_t *stop, pthread_mutex_t *lock, pthread_cond_t *condition)
{
    watch_t *watch = tow_alloc(sizeof *watch);

    watch->lock = lock;
    watch->condition = condition;
    pthread_mutex_lock(&stop->watch_lock);
    watch->next = stop->watches;
    stop->watches = watch;
    pthread_mutex_unlock(&stop->watch_lock);
}

void tow_stop_unwatch(tow_stop_t *stop, pthread_cond_t *condition)
{
    watch_t **at = &stop->watches, *found;

    pthread_mutex_lock(&stop->watch_lock);
    while (*at && (*at)->condition != condition)
        at = &(*at)->next;
    found = *at;
    if (found)
        *at = found->next;
    pthread_mutex_unlock(&stop->watch_lock);
    free(found);
}

/* The lock is taken, so that no one is between asking for the stop and waiting. */
static void wake_watched(tow_stop_t *stop)
{
    pthread_mutex_lock(&stop->watch_lock);
    for (watch_t *watch = stop->watches; watch; watch = watch->next) {
        pthread_mutex_lock(watch->lock);
        pthread_cond_broadcast(watch->condition);
        pthread_mutex_unlock(watch->lock);
    }
    pthread_mutex_unlock(&stop->watch_lock);
}

void tow_stop_request(tow_stop_t *stop, const tow_error_t *error)
{
    pthread_mutex_lock(&stop->lock);
    if (error && !stop->has_error && !atomic_load(&stop->requested)) {
        stop->has_error = true;
        stop->error = *error;
    }
    atomic_store(&stop->requested, true);
    pthread_cond_broadcast(&stop->changed);
    pthread_mutex_unlock(&stop->lock);
    wake_watched(stop);
}

bool tow_stop_requested(const tow_stop_t *stop)
{
    return atomic_load_explicit(&stop->requested, memory_order_acquire);
}

bool tow_stop_wait(tow_stop_t *stop, int64_t wait_ms)
{
    int64_t until_ms = tow_now_ms() + wait_ms;
    bool requested;

    pthread_mutex_lock(&stop->lock);
    while (!atomic_load(&stop->requested))
        if (!tow_condition_wait(&stop->changed, &stop->lock, until_ms))
            break;
    requested = atomic_load(&stop->requested);
    pthread_mutex_unlock(&stop->lock);
    return requested;
}

bool tow_stop_error(const tow_stop_t *stop, tow_error_t *out)
{
    tow_stop_t *mutable_stop = (tow_stop_t *)stop;
    bool has_error;

    pthread_mutex_lock(&mutable_stop->lock);
    has_error = stop->has_error;
    if (has_error && out)
        *out = stop->error;
    pthread_mutex_unlock(&mutable_stop->lock);
    return has_error;
}
