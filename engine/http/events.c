/* SPDX-License-Identifier: Apache-2.0 */
/* events.c: see events.h. */
#include "engine/http/events.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/base/guarded.h"
#include "engine/base/json.h"

enum { KEPT = 200, LEAVE_MS = 1000 };

TOW_GUARD(tow_events);
struct tow_events {
    pthread_mutex_t lock; /* guards all of it */
    pthread_cond_t more;
    char *entries[KEPT] TOW_GUARDED_BY(
        tow_events);                           /* ready to be sent; number n stands at n % KEPT */
    uint64_t count TOW_GUARDED_BY(tow_events); /* of all that ever came */
    uint32_t readers TOW_GUARDED_BY(tow_events);
    bool closed TOW_GUARDED_BY(tow_events);
};
TOW_LOCK(tow_events, tow_events_t, lock)

tow_events_t *tow_events_new(void)
{
    tow_events_t *events = tow_alloc(sizeof *events);

    pthread_mutex_init(&events->lock, NULL);
    tow_condition_init(&events->more);
    return events;
}

TOW_UNSHARED void tow_events_destroy(tow_events_t *events)
{
    if (!events)
        return;
    for (size_t i = 0; i < KEPT; i++)
        free(events->entries[i]);
    pthread_cond_destroy(&events->more);
    pthread_mutex_destroy(&events->lock);
    free(events);
}

void tow_events_join(tow_events_t *events)
{
    tow_events_lock(events);
    events->readers++;
    tow_events_unlock(events);
}

void tow_events_leave(tow_events_t *events)
{
    tow_events_lock(events);
    events->readers--;
    pthread_cond_broadcast(&events->more);
    tow_events_unlock(events);
}

void tow_events_close(tow_events_t *events)
{
    int64_t until_ms = tow_now_ms() + LEAVE_MS;

    tow_events_lock(events);
    events->closed = true;
    pthread_cond_broadcast(&events->more);
    while (events->readers)
        if (!tow_condition_wait(&events->more, &events->lock, until_ms))
            break;
    tow_events_unlock(events);
}

void tow_events_add(tow_events_t *events, tow_level_t level, const char *name, const char *message)
{
    static const char *const levels[] = {"debug", "info", "warning", "error"};
    char time[32], *text, *entry;
    tow_json_t out = {0};

    tow_wall_text(tow_wall_ms(), time);
    tow_json_begin(&out, NULL);
    tow_json_put_text(&out, "time", time);
    tow_json_put_text(&out, "level", levels[level]);
    tow_json_put_text(&out, "name", name);
    tow_json_put_text(&out, "message", message);
    tow_json_end(&out);
    text = tow_json_take(&out);
    entry = tow_format("event: log\ndata: %s\n\n", text);
    free(text);
    tow_events_lock(events);
    free(events->entries[events->count % KEPT]);
    events->entries[events->count % KEPT] = entry;
    events->count++;
    pthread_cond_broadcast(&events->more);
    tow_events_unlock(events);
}

bool tow_events_read(tow_events_t *events, uint64_t *position, int wait_ms, tow_buffer_t *out)
{
    int64_t until_ms = tow_now_ms() + wait_ms;
    bool open;

    tow_events_lock(events);
    while (!events->closed && *position >= events->count)
        if (!tow_condition_wait(&events->more, &events->lock, until_ms))
            break;
    if (events->count > KEPT && *position < events->count - KEPT)
        *position = events->count - KEPT;
    for (; *position < events->count; (*position)++) {
        const char *entry = events->entries[*position % KEPT];

        tow_buffer_append(out, entry, strlen(entry));
    }
    open = !events->closed;
    tow_events_unlock(events);
    return open;
}
