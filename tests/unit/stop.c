/* SPDX-License-Identifier: Apache-2.0 */
/* A stop is seen by whoever waits, on its own condition or on another that it watches. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/clock.h"
#include "engine/base/stop.h"

enum { WAIT_MS = 10000 };

typedef struct {
    tow_stop_t *stop;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool waiting, in_time;
} waiter_t;

static void *wait_for_stop(void *data)
{
    waiter_t *waiter = data;
    int64_t until_ms = tow_now_ms() + WAIT_MS;
    bool in_time = true;

    pthread_mutex_lock(&waiter->lock);
    waiter->waiting = true;
    pthread_cond_broadcast(&waiter->changed);
    while (in_time && !tow_stop_requested(waiter->stop))
        in_time = tow_condition_wait(&waiter->changed, &waiter->lock, until_ms);
    waiter->in_time = in_time;
    pthread_mutex_unlock(&waiter->lock);
    return NULL;
}

static void a_stop_wakes_a_watched_condition(void **state)
{
    waiter_t waiter = {.stop = tow_stop_new(), .lock = PTHREAD_MUTEX_INITIALIZER};
    pthread_t thread;

    tow_condition_init(&waiter.changed);
    tow_stop_watch(waiter.stop, &waiter.lock, &waiter.changed);
    assert_int_equal(pthread_create(&thread, NULL, wait_for_stop, &waiter), 0);
    pthread_mutex_lock(&waiter.lock);
    while (!waiter.waiting)
        pthread_cond_wait(&waiter.changed, &waiter.lock);
    pthread_mutex_unlock(&waiter.lock);
    tow_stop_request(waiter.stop, NULL);
    pthread_join(thread, NULL);
    assert_true(waiter.in_time);
    tow_stop_unwatch(waiter.stop, &waiter.changed);
    tow_stop_destroy(waiter.stop);
}

/* Of several, one in the middle: neither its lock nor its condition is touched any more. */
static void what_is_no_longer_watched_is_left_alone(void **state)
{
    waiter_t waiters[3];
    tow_stop_t *stop = tow_stop_new();

    for (int i = 0; i < 3; i++) {
        pthread_mutex_init(&waiters[i].lock, NULL);
        tow_condition_init(&waiters[i].changed);
        tow_stop_watch(stop, &waiters[i].lock, &waiters[i].changed);
    }
    tow_stop_unwatch(stop, &waiters[1].changed);
    tow_stop_unwatch(stop, &waiters[1].changed); /* harmless */
    pthread_mutex_lock(&waiters[1].lock);        /* taken again, it would never return */
    tow_stop_request(stop, NULL);
    pthread_mutex_unlock(&waiters[1].lock);
    tow_stop_unwatch(stop, &waiters[0].changed);
    tow_stop_unwatch(stop, &waiters[2].changed);
    tow_stop_destroy(stop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stop_wakes_a_watched_condition),
        cmocka_unit_test(what_is_no_longer_watched_is_left_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
