/* SPDX-License-Identifier: Apache-2.0 */
/* ledger.c: see ledger.h. */
#include "oplog/ledger.h"

#include <pthread.h>
#include <stdlib.h>

#include "engine/base/clock.h"
#include "engine/base/guarded.h"

TOW_GUARD(tow_ledger);
struct tow_ledger {
    tow_stop_t *stop;
    size_t memory_bytes;
    _Atomic tow_optime_t floor_time;
    _Atomic uint64_t backlog, undispatched;
    _Atomic size_t payload, direct_payload;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    tow_block_t *head TOW_GUARDED_BY(tow_ledger), *tail TOW_GUARDED_BY(tow_ledger),
        *cursor TOW_GUARDED_BY(tow_ledger); /* cursor: next to dispatch, NULL: none */
    uint64_t linked TOW_GUARDED_BY(tow_ledger), popped
        TOW_GUARDED_BY(tow_ledger); /* blocks so far: they go in the order in which they came */
    bson_t floor_token TOW_GUARDED_BY(tow_ledger);
    bool has_place TOW_GUARDED_BY(tow_ledger); /* something was spooled */
    tow_spool_place_t last_place TOW_GUARDED_BY(tow_ledger);
};
TOW_LOCK(tow_ledger, tow_ledger_t, lock)

tow_ledger_t *tow_ledger_new(tow_stop_t *stop, size_t memory_bytes)
{
    tow_ledger_t *ledger = tow_alloc(sizeof *ledger);

    ledger->stop = stop;
    ledger->memory_bytes = memory_bytes;
    bson_init(&ledger->floor_token);
    pthread_mutex_init(&ledger->lock, NULL);
    tow_condition_init(&ledger->changed);
    tow_stop_watch(stop, &ledger->lock, &ledger->changed);
    return ledger;
}

static void free_payload(tow_ledger_t *ledger, tow_block_t *block)
{
    if (!block->loaded)
        return;
    block->loaded = false;
    atomic_fetch_sub(&ledger->payload, block->payload_bytes);
    if (block->direct) {
        atomic_fetch_sub(&ledger->direct_payload, block->payload_bytes);
        bson_destroy(&block->reply);
    } else {
        tow_buffer_free(&block->records);
    }
}

static void free_block(tow_ledger_t *ledger, tow_block_t *block)
{
    free_payload(ledger, block);
    bson_destroy(&block->token);
    free(block);
}

TOW_UNSHARED void tow_ledger_destroy(tow_ledger_t *ledger)
{
    if (!ledger)
        return;
    tow_stop_unwatch(ledger->stop, &ledger->changed);
    for (tow_block_t *block = ledger->head, *next; block; block = next) {
        next = block->next;
        free_block(ledger, block);
    }
    bson_destroy(&ledger->floor_token);
    pthread_cond_destroy(&ledger->changed);
    pthread_mutex_destroy(&ledger->lock);
    free(ledger);
}

static void set_floor(tow_ledger_t *ledger, const bson_t *token, tow_optime_t time)
{
    bson_destroy(&ledger->floor_token);
    bson_copy_to(token, &ledger->floor_token);
    if (time > atomic_load(&ledger->floor_time))
        atomic_store(&ledger->floor_time, time);
}

void tow_ledger_begin(tow_ledger_t *ledger, const bson_t *token, tow_optime_t time)
{
    tow_ledger_lock(ledger);
    set_floor(ledger, token, time);
    tow_ledger_unlock(ledger);
}

static TOW_REQUIRES(tow_ledger) void link_block(tow_ledger_t *ledger, tow_block_t *block)
{
    if (ledger->tail)
        ledger->tail->next = block;
    else
        ledger->head = block;
    ledger->tail = block;
    ledger->linked++;
    if (!ledger->cursor)
        ledger->cursor = block;
    pthread_cond_broadcast(&ledger->changed);
}

/* The lock is held. */
static TOW_REQUIRES(tow_ledger) tow_optime_t end_time(const tow_ledger_t *ledger)
{
    return ledger->tail ? ledger->tail->time : atomic_load(&ledger->floor_time);
}

/* Gives a block the position of the one before it; the lock is held. */
static TOW_REQUIRES(tow_ledger) void place_here(tow_ledger_t *ledger, tow_block_t *block)
{
    bson_copy_to(ledger->tail ? &ledger->tail->token : &ledger->floor_token, &block->token);
    block->time = end_time(ledger);
}

/* Returns the block's number. */
static uint64_t append(tow_ledger_t *ledger, tow_block_t *block, bool loaded, bool here)
{
    uint64_t number;

    block->next = NULL;
    block->loaded = loaded;
    atomic_store(&block->unsettled, block->events + 1);
    atomic_store(&block->payload_users, 1);
    tow_ledger_lock(ledger);
    if (here)
        place_here(ledger, block);
    if (block->time < end_time(ledger))
        abort(); /* a bug of ours: the floor may have passed it already, and a restart would not
                    read it again */
    if (loaded)
        atomic_fetch_add(&ledger->payload, block->payload_bytes);
    if (block->direct)
        atomic_fetch_add(&ledger->direct_payload, block->payload_bytes);
    if (block->spooled && atomic_load(&ledger->payload) > ledger->memory_bytes)
        free_payload(ledger, block);
    if (block->spooled) {
        ledger->has_place = true;
        ledger->last_place = block->place;
    }
    atomic_fetch_add(&ledger->backlog, block->events);
    atomic_fetch_add(&ledger->undispatched, block->events);
    link_block(ledger, block);
    number = ledger->linked;
    tow_ledger_unlock(ledger);
    return number;
}

void tow_ledger_append(tow_ledger_t *ledger, tow_block_t *block)
{
    append(ledger, block, true, false);
}

void tow_ledger_append_spooled(tow_ledger_t *ledger, tow_block_t *block)
{
    append(ledger, block, false, false);
}

uint64_t tow_ledger_insert(tow_ledger_t *ledger, tow_block_t *block)
{
    return append(ledger, block, true, true);
}

void tow_ledger_idle(tow_ledger_t *ledger, const bson_t *token, tow_optime_t time)
{
    tow_ledger_lock(ledger);
    if (!ledger->head) {
        set_floor(ledger, token, time);
        pthread_cond_broadcast(&ledger->changed);
    } else if (ledger->cursor && ledger->tail->events == 0) {
        /* The last block is an idle one that nobody has taken yet (the cursor is at or before it):
         * move it on. */
        bson_destroy(&ledger->tail->token);
        bson_copy_to(token, &ledger->tail->token);
        if (time > ledger->tail->time)
            ledger->tail->time = time;
    } else {
        tow_block_t *block = tow_alloc(sizeof *block);

        bson_copy_to(token, &block->token);
        block->time = time;
        atomic_store(&block->unsettled, 1);
        atomic_store(&block->payload_users, 1);
        link_block(ledger, block);
    }
    tow_ledger_unlock(ledger);
}

tow_block_t *tow_ledger_take(tow_ledger_t *ledger, int64_t wait_ms)
{
    int64_t until_ms = tow_now_ms() + wait_ms;
    tow_block_t *block;

    tow_ledger_lock(ledger);
    while (!ledger->cursor && !tow_stop_requested(ledger->stop))
        if (!tow_condition_wait(&ledger->changed, &ledger->lock, until_ms))
            break;
    block = tow_stop_requested(ledger->stop) ? NULL : ledger->cursor;
    if (block)
        ledger->cursor = block->next;
    tow_ledger_unlock(ledger);
    return block;
}

/* Pops what is settled from the front; the lock is held. */
static TOW_REQUIRES(tow_ledger) void pop_settled(tow_ledger_t *ledger)
{
    while (ledger->head && ledger->head != ledger->cursor &&
           atomic_load(&ledger->head->unsettled) == 0 &&
           atomic_load(&ledger->head->payload_users) == 0) {
        tow_block_t *head = ledger->head;

        set_floor(ledger, &head->token, head->time);
        ledger->head = head->next;
        ledger->popped++;
        if (!ledger->head)
            ledger->tail = NULL;
        free_block(ledger, head);
    }
    pthread_cond_broadcast(&ledger->changed);
}

/* Lets go of the block; it may be freed by any thread as soon as both its counts are 0. */
static void let_go(tow_ledger_t *ledger, tow_block_t *block, uint32_t count)
{
    if (atomic_fetch_sub(&block->unsettled, count) != count)
        return;
    tow_ledger_lock(ledger);
    pop_settled(ledger);
    tow_ledger_unlock(ledger);
}

void tow_ledger_settle(tow_ledger_t *ledger, tow_block_t *block, uint32_t events)
{
    atomic_fetch_sub(&ledger->backlog, events);
    let_go(ledger, block, events);
}

void tow_ledger_hold(tow_ledger_t *ledger, tow_block_t *block)
{
    atomic_fetch_add(&ledger->backlog, 1);
    atomic_fetch_add(&block->unsettled, 1);
}

void tow_ledger_payload_done(tow_ledger_t *ledger, tow_block_t *block)
{
    unsigned users = atomic_load(&block->payload_users);

    while (users > 1)
        if (atomic_compare_exchange_weak(&block->payload_users, &users, users - 1))
            return;
    /* The last user frees the payload under the lock, before the block can be popped. */
    tow_ledger_lock(ledger);
    free_payload(ledger, block);
    atomic_store(&block->payload_users, 0);
    pop_settled(ledger);
    tow_ledger_unlock(ledger);
}

void tow_ledger_dispatched(tow_ledger_t *ledger, tow_block_t *block)
{
    atomic_fetch_sub(&ledger->undispatched, block->events);
    tow_ledger_payload_done(ledger, block);
    let_go(ledger, block, 1);
}

bool tow_ledger_load(tow_ledger_t *ledger, tow_block_t *block, tow_spool_t *spool,
                     tow_error_t *error)
{
    if (block->loaded || block->events == 0)
        return true;
    if (!tow_spool_read(spool, block->place, &block->records, error))
        return false;
    block->loaded = true;
    block->payload_bytes = block->records.length;
    atomic_fetch_add(&ledger->payload, block->payload_bytes);
    return true;
}

void tow_ledger_floor(tow_ledger_t *ledger, tow_floor_t *out)
{
    tow_ledger_lock(ledger);
    bson_copy_to(&ledger->floor_token, &out->token);
    out->time = atomic_load(&ledger->floor_time);
    out->has_keep = false;
    for (tow_block_t *block = ledger->head; block && !out->has_keep; block = block->next)
        if (block->spooled) {
            out->has_keep = true;
            out->keep = block->place;
        }
    if (!out->has_keep && ledger->has_place) {
        /* Everything on disk is settled; keep the last frame only. */
        out->has_keep = true;
        out->keep = ledger->last_place;
    }
    tow_ledger_unlock(ledger);
}

tow_optime_t tow_ledger_floor_time(const tow_ledger_t *ledger)
{
    return atomic_load(&ledger->floor_time);
}

bool tow_ledger_wait_floor(tow_ledger_t *ledger, tow_optime_t time, int64_t wait_ms)
{
    int64_t until_ms = tow_now_ms() + wait_ms;
    bool reached;

    tow_ledger_lock(ledger);
    while (!(reached = atomic_load(&ledger->floor_time) >= time) &&
           !tow_stop_requested(ledger->stop))
        if (!tow_condition_wait(&ledger->changed, &ledger->lock, until_ms))
            break;
    tow_ledger_unlock(ledger);
    return reached;
}

bool tow_ledger_wait_block(tow_ledger_t *ledger, uint64_t number, int64_t wait_ms)
{
    int64_t until_ms = tow_now_ms() + wait_ms;
    bool settled;

    tow_ledger_lock(ledger);
    while (!(settled = ledger->popped >= number) && !tow_stop_requested(ledger->stop))
        if (!tow_condition_wait(&ledger->changed, &ledger->lock, until_ms))
            break;
    tow_ledger_unlock(ledger);
    return settled;
}

uint64_t tow_ledger_backlog(const tow_ledger_t *ledger)
{
    return atomic_load(&ledger->backlog);
}

uint64_t tow_ledger_undispatched(const tow_ledger_t *ledger)
{
    return atomic_load(&ledger->undispatched);
}

size_t tow_ledger_direct_bytes(const tow_ledger_t *ledger)
{
    return atomic_load(&ledger->direct_payload);
}
