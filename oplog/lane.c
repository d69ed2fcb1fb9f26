/* lane.c: a lane's thread, its inbox, and what it does when servers fail. */
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "oplog/replay_internal.h"

enum {
    INBOX_MOST = 20000, /* items; the dispatcher waits beyond */
    LOOK_MS = 100       /* between two looks at keys that are not due */
};

typedef enum { WORK_NONE, WORK_LATER, WORK_NOW } lane_work_t;

void tow_items_add(tow_items_t *items, const tow_item_t *item)
{
    if (items->count == items->capacity) {
        items->capacity = items->capacity ? items->capacity * 2 : 256;
        items->items = tow_realloc(items->items, items->capacity * sizeof *items->items);
    }
    items->items[items->count++] = *item;
}

void tow_lane_init(tow_lane_t *lane, tow_replay_t *replay, uint32_t number)
{
    lane->replay = replay;
    lane->number = number;
    lane->dirty = tow_dirty_new(replay->options.ledger, &replay->dirty_bytes, &replay->dirty_keys);
    pthread_mutex_init(&lane->lock, NULL);
    tow_condition_init(&lane->more);
    tow_condition_init(&lane->less);
    tow_stop_watch(replay->options.stop, &lane->lock, &lane->more);
    tow_stop_watch(replay->options.stop, &lane->lock, &lane->less);
}

bool tow_lane_push(tow_lane_t *lane, const tow_items_t *items)
{
    tow_stop_t *stop = lane->replay->options.stop;

    pthread_mutex_lock(&lane->lock);
    while (lane->inbox.count >= INBOX_MOST && !tow_stop_requested(stop))
        pthread_cond_wait(&lane->less, &lane->lock);
    for (uint32_t i = 0; i < items->count; i++)
        tow_items_add(&lane->inbox, &items->items[i]);
    lane->pushed += items->count;
    pthread_cond_signal(&lane->more);
    pthread_mutex_unlock(&lane->lock);
    return !tow_stop_requested(stop);
}

bool tow_lane_wait_absorbed(tow_lane_t *lane)
{
    tow_stop_t *stop = lane->replay->options.stop;

    pthread_mutex_lock(&lane->lock);
    while (lane->absorbed < lane->pushed && !tow_stop_requested(stop))
        pthread_cond_wait(&lane->less, &lane->lock);
    pthread_mutex_unlock(&lane->lock);
    return !tow_stop_requested(stop);
}

void tow_lane_wake(tow_lane_t *lane)
{
    pthread_mutex_lock(&lane->lock);
    lane->woken = true;
    pthread_cond_broadcast(&lane->more);
    pthread_mutex_unlock(&lane->lock);
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

/* Waits for something to do, under the lane's lock. Keys that wait for their time, or for the copy
 * of their collection to end, are looked at again after LOOK_MS; a lane without keys sleeps until
 * it is woken. */
static void wait_more(tow_lane_t *lane, lane_work_t work)
{
    int64_t until_ms = tow_now_ms() + LOOK_MS;
    bool goes_on = true;

    while (goes_on && !lane->inbox.count && !lane->woken &&
           !tow_stop_requested(lane->replay->options.stop)) {
        if (work == WORK_LATER)
            goes_on = tow_condition_wait(&lane->more, &lane->lock, until_ms);
        else
            pthread_cond_wait(&lane->more, &lane->lock);
    }
    lane->woken = false;
}

/* Takes the inbox; waits for something to come unless there is work already. */
static void take_inbox(tow_lane_t *lane, lane_work_t work)
{
    tow_items_t empty = lane->taken;

    pthread_mutex_lock(&lane->lock);
    if (work != WORK_NOW)
        wait_more(lane, work);
    empty.count = 0;
    lane->taken = lane->inbox;
    lane->inbox = empty;
    pthread_mutex_unlock(&lane->lock);
}

void tow_lane_settle(tow_lane_t *lane)
{
    tow_error_t error;

    while (!tow_stop_requested(lane->replay->options.stop) &&
           !tow_conn_settle(lane->destination, &error))
        tow_lane_failed(lane, &error);
}

/* One round under the shared lock; what is left to do. Nothing of it is under way any more when the
 * lock is free: what follows may be a drop, or another lane's write. Within the round that needs no
 * care: what a lane sends next has a newer number of the same session, and a key that is dirty is
 * always written. */
static lane_work_t work_once(tow_lane_t *lane, tow_optime_t passed)
{
    tow_replay_t *replay = lane->replay;
    lane_work_t work;
    bool found;

    pthread_rwlock_rdlock(&replay->exclusive);
    atomic_store(&lane->busy, true);
    tow_lane_absorb(lane, &lane->taken);
    tow_recent_purge(lane->dirty, passed);
    found = !tow_replay_holding(replay) && tow_lane_refetch(lane);
    tow_lane_settle(lane);
    /* Keys that are not due yet are no work. */
    work = tow_dirty_count(lane->dirty) == 0 ? WORK_NONE : found ? WORK_NOW : WORK_LATER;
    atomic_fetch_add(&lane->rounds, 1);
    atomic_store(&lane->busy, false);
    pthread_rwlock_unlock(&replay->exclusive);
    tow_replay_eased(replay);
    return work;
}

static void *run(void *data)
{
    tow_lane_t *lane = data;
    tow_replay_t *replay = lane->replay;
    lane_work_t work = WORK_NONE;

    while (!tow_stop_requested(replay->options.stop)) {
        tow_optime_t passed = atomic_load(&replay->dispatched_time);

        take_inbox(lane, work);
        work = work_once(lane, passed);

        pthread_mutex_lock(&lane->lock);
        lane->absorbed += lane->taken.count;
        pthread_cond_broadcast(&lane->less);
        pthread_mutex_unlock(&lane->lock);
        if (lane->conflicts &&
            !tow_replay_holding(replay)) /* else they keep, and untangling wakes all lanes */
            tow_lane_untangle(lane);
        if (lane->apart)
            tow_lane_copy_again(lane);
        tow_replay_eased(replay);
    }
    return NULL;
}

bool tow_lane_start(tow_lane_t *lane, tow_error_t *error)
{
    lane->source = tow_conn_open(lane->replay->options.source);
    lane->destination = tow_conn_open(lane->replay->options.destination);
    return tow_thread_start(&lane->thread, "lane", run, lane, error);
}

void tow_lane_end(tow_lane_t *lane)
{
    tow_thread_join(&lane->thread);
}

void tow_lane_destroy(tow_lane_t *lane)
{
    while (lane->conflicts) {
        tow_conflict_t *conflict = lane->conflicts;

        lane->conflicts = conflict->next;
        bson_destroy(&conflict->id);
        free(conflict);
    }
    tow_conn_close(lane->source);
    tow_conn_close(lane->destination);
    tow_write_clear(&lane->updates);
    tow_write_clear(&lane->deletes);
    tow_write_clear(&lane->inserts);
    tow_write_clear(&lane->timestamps);
    tow_dirty_destroy(lane->dirty);
    free(lane->inbox.items);
    free(lane->taken.items);
    tow_stop_unwatch(lane->replay->options.stop, &lane->more);
    tow_stop_unwatch(lane->replay->options.stop, &lane->less);
    pthread_cond_destroy(&lane->more);
    pthread_cond_destroy(&lane->less);
    pthread_mutex_destroy(&lane->lock);
}
