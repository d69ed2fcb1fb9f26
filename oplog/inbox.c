/* SPDX-License-Identifier: Apache-2.0 */
/* inbox.c: what is handed to a lane, and how its work reports back. */
#include <stdio.h>
#include <stdlib.h>

#include "engine/base/clock.h"
#include "oplog/replay_internal.h"

enum { INBOX_MOST = 20000 }; /* items; the dispatcher waits beyond */

void tow_items_add(tow_items_t *items, const tow_item_t *item)
{
    if (items->count == items->capacity) {
        items->capacity = items->capacity ? items->capacity * 2 : 256;
        items->items = tow_realloc(items->items, items->capacity * sizeof *items->items);
    }
    items->items[items->count++] = *item;
}

bool tow_lane_push(tow_lane_t *lane, const tow_items_t *items)
{
    tow_stop_t *stop = lane->replay->options.stop;

    tow_lane_lock(lane);
    while (lane->inbox.count >= INBOX_MOST && !tow_stop_requested(stop))
        pthread_cond_wait(&lane->less, &lane->lock);
    for (uint32_t i = 0; i < items->count; i++)
        tow_items_add(&lane->inbox, &items->items[i]);
    lane->pushed += items->count;
    pthread_cond_signal(&lane->more);
    tow_lane_unlock(lane);
    return !tow_stop_requested(stop);
}

bool tow_lane_wait_absorbed(tow_lane_t *lane)
{
    tow_stop_t *stop = lane->replay->options.stop;

    tow_lane_lock(lane);
    while (lane->absorbed < lane->pushed && !tow_stop_requested(stop))
        pthread_cond_wait(&lane->less, &lane->lock);
    tow_lane_unlock(lane);
    return !tow_stop_requested(stop);
}

void tow_lane_wake(tow_lane_t *lane)
{
    tow_lane_lock(lane);
    lane->woken = true;
    pthread_cond_broadcast(&lane->more);
    tow_lane_unlock(lane);
}

void tow_replay_wake_lanes(tow_replay_t *replay)
{
    for (uint32_t i = 0; i < replay->lane_count; i++)
        tow_lane_wake(&replay->lanes[i]);
}

void tow_replay_eased(tow_replay_t *replay)
{
    if (!atomic_load(&replay->waiting))
        return;
    pthread_mutex_lock(&replay->ease_lock);
    pthread_cond_broadcast(&replay->eased);
    pthread_mutex_unlock(&replay->ease_lock);
}

void tow_lane_succeeded(tow_lane_t *lane)
{
    lane->attempt = 0;
    lane->failing_since_ms = 0;
}

void tow_lane_failed(tow_lane_t *lane, const tow_error_t *error)
{
    tow_replay_t *replay = lane->replay;
    int64_t now = tow_now_ms();

    if (tow_stop_requested(replay->options.stop))
        return;
    if (error->retry == TOW_RETRY_NEVER) {
        tow_stop_request(replay->options.stop, error);
        return;
    }
    if (!lane->failing_since_ms) {
        lane->failing_since_ms = now;
        tow_emit(&replay->options.sink, TOW_LEVEL_WARNING, "replay_retry",
                 "keys will be refetched: %s", error->message);
    }
    if (!tow_backoff(replay->options.destination, lane->attempt++,
                     lane->failing_since_ms + replay->options.retry_window_ms))
        tow_stop_request(replay->options.stop, error);
}

void tow_lane_conflict(tow_lane_t *lane, tow_namespace_t *collection, tow_value_t id,
                       const char *message)
{
    tow_conflict_t *conflict = tow_alloc(sizeof *conflict);

    conflict->collection = collection;
    bson_init(&conflict->id);
    tow_value_append(&conflict->id, "_id", 3, id);
    snprintf(conflict->message, sizeof conflict->message, "%s", message);
    conflict->next = lane->conflicts;
    lane->conflicts = conflict;
}

void tow_lane_settle(tow_lane_t *lane)
{
    tow_error_t error;

    while (!tow_stop_requested(lane->replay->options.stop) &&
           !tow_conn_settle(lane->destination, &error))
        tow_lane_failed(lane, &error);
}
