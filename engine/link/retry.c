/* SPDX-License-Identifier: Apache-2.0 */
/* retry.c: waits between two attempts of one call, and tells that it waits. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/base/clock.h"
#include "engine/link/driver.h"
#include "engine/link/internal.h"

enum { WARN_EACH_MS = 1000, FIRST_WAIT_MS = 50, MOST_WAIT_MS = 5000, DOUBLINGS = 7 };

bool tow_backoff(tow_link_t *link, unsigned attempt, int64_t deadline_ms)
{
    static atomic_uint seed = 1;
    int64_t most_ms = (int64_t)FIRST_WAIT_MS << (attempt > DOUBLINGS ? DOUBLINGS : attempt);
    unsigned state = atomic_fetch_add(&seed, 7919) ^ (unsigned)tow_now_us();
    int64_t wait_ms;
    struct timespec pause;

    tow_driver_tell(&link->options.sink); /* what it says of the failure */
    if (most_ms > MOST_WAIT_MS)
        most_ms = MOST_WAIT_MS;
    wait_ms =
        10 + (int64_t)rand_r(&state) % most_ms; /* full jitter: clients must not march in step */
    if (tow_now_ms() + wait_ms > deadline_ms)
        return false;
    if (link->options.stop) {
        if (tow_stop_wait(link->options.stop, wait_ms))
            return false;
    } else {
        pause = (struct timespec){wait_ms / 1000, (wait_ms % 1000) * 1000000};
        nanosleep(&pause, NULL);
    }
    /* Counted here, so that calls which their callers repeat, as reads of a range, count too. */
    atomic_fetch_add(&link->retries, 1);
    return true;
}

tow_retrying_t tow_retrying_begin(tow_link_t *link, int64_t window_ms)
{
    return (tow_retrying_t){.link = link, .deadline_ms = tow_now_ms() + window_ms};
}

static void show(tow_retrying_t *retrying, const tow_error_t *error)
{
    tow_link_t *link = retrying->link;
    int64_t now_ms = tow_now_ms();
    bool warn;

    tow_link_lock(link);
    if (!retrying->attempt)
        link->waiting++;
    snprintf(link->retrying, sizeof link->retrying, "%.*s", (int)sizeof link->retrying - 1,
             error->message);
    warn = now_ms - link->warned_ms >= WARN_EACH_MS;
    if (warn)
        link->warned_ms = now_ms;
    tow_link_unlock(link);
    if (warn)
        tow_emit(&link->options.sink, TOW_LEVEL_WARNING, "retry", "%s", error->message);
}

bool tow_retrying_wait(tow_retrying_t *retrying, tow_error_t *error)
{
    tow_link_t *link = retrying->link;

    if (error->retry != TOW_RETRY_SAME && error->retry != TOW_RETRY_RECONNECT)
        return false;
    show(retrying, error);
    if (!tow_backoff(link, retrying->attempt++, retrying->deadline_ms)) {
        /* The failure itself is what the stop found the call in, not why it ends. */
        if (link->options.stop && tow_stop_requested(link->options.stop))
            tow_fail(error, TOW_ERROR_INTERRUPTED, "stopped while waiting for the %s", link->side);
        return false;
    }
    return true;
}

void tow_retrying_end(tow_retrying_t *retrying)
{
    tow_link_t *link = retrying->link;

    if (!retrying->attempt)
        return;
    tow_link_lock(link);
    if (--link->waiting == 0)
        link->retrying[0] = '\0';
    tow_link_unlock(link);
}

bool tow_retrying_reply(tow_retrying_t *retrying, unsigned *unreadable, tow_error_t *error)
{
    /* A server, or what stands before it, that answers wrongly each time is not waited out. */
    if (++*unreadable < TOW_UNREADABLE_MOST && tow_retrying_wait(retrying, error))
        return true;
    error->retry = TOW_RETRY_NEVER;
    return false;
}
