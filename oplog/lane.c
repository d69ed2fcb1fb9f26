/* SPDX-License-Identifier: Apache-2.0 */
/* lane.c: a lane's thread: takes its inbox, applies and refetches, untangles. */
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "oplog/replay_internal.h"

enum { LOOK_MS = 100 }; /* between two looks at keys that are not due */

typedef enum { WORK_NONE, WORK_LATER, WORK_NOW } lane_work_t;

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

/* Waits for something to do, under the lane's lock. Keys that wait for their time, or for the copy
 * of their collection to end, are looked at again after LOOK_MS; a lane without keys sleeps until
 * it is woken. */
static TOW_REQUIRES(tow_lane) void wait_more(tow_lane_t *lane, lane_work_t work)
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

    tow_lane_lock(lane);
    if (work != WORK_NOW)
        wait_more(lane, work);
    empty.count = 0;
    lane->taken = lane->inbox;
    lane->inbox = empty;
    tow_lane_unlock(lane);
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

        tow_lane_lock(lane);
        lane->absorbed += lane->taken.count;
        pthread_cond_broadcast(&lane->less);
        tow_lane_unlock(lane);
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

TOW_UNSHARED void tow_lane_destroy(tow_lane_t *lane)
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
