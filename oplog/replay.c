/* SPDX-License-Identifier: Apache-2.0 */
/* replay.c: the dispatcher, and the life of dispatcher and lanes. */
#include "oplog/replay.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/link/reply.h"
#include "oplog/replay_internal.h"

/* Of those that a DDL event alone needs, all or none. */
static bool is_complete(const tow_ddl_handler_t *handler)
{
    bool events = handler->hold != NULL;

    return handler->copying && handler->create && handler->copy_again && handler->alike &&
           !handler->index_gone == !events && !handler->release == !events &&
           !handler->reconcile == !events && !handler->forget == !events &&
           !handler->save_ddl == !events;
}

tow_replay_t *tow_replay_new(const tow_replay_options_t *options)
{
    tow_replay_t *replay = tow_alloc(sizeof *replay);
    pthread_rwlockattr_t attributes;

    replay->options = *options;
    bson_init(&replay->unknown);
    bson_init(&replay->ddl_token);
    replay->lane_count = options->lanes;
    replay->merged = tow_link_facts(options->source)->sharded;
    replay->lanes = tow_alloc(options->lanes * sizeof *replay->lanes);
    replay->outboxes = tow_alloc(options->lanes * sizeof *replay->outboxes);
    /* A barrier must not starve behind lanes that come and go. */
    pthread_rwlockattr_init(&attributes);
    pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&replay->exclusive, &attributes);
    pthread_rwlockattr_destroy(&attributes);
    pthread_mutex_init(&replay->logs_lock, NULL);
    pthread_mutex_init(&replay->ease_lock, NULL);
    tow_condition_init(&replay->eased);
    tow_stop_watch(options->stop, &replay->ease_lock, &replay->eased);
    for (uint32_t i = 0; i < options->lanes; i++)
        tow_lane_init(&replay->lanes[i], replay, i);
    return replay;
}

void tow_replay_end(tow_replay_t *replay)
{
    tow_thread_join(&replay->dispatcher);
    for (uint32_t i = 0; i < replay->lane_count; i++)
        tow_lane_end(&replay->lanes[i]);
}

void tow_replay_destroy(tow_replay_t *replay)
{
    if (!replay)
        return;
    tow_replay_end(replay);
    for (uint32_t i = 0; i < replay->lane_count; i++) {
        tow_lane_destroy(&replay->lanes[i]);
        free(replay->outboxes[i].items);
    }
    tow_conn_close(replay->source);
    tow_conn_close(replay->destination);
    tow_stop_unwatch(replay->options.stop, &replay->eased);
    pthread_cond_destroy(&replay->eased);
    pthread_mutex_destroy(&replay->ease_lock);
    pthread_rwlock_destroy(&replay->exclusive);
    tow_logs_free(replay);
    pthread_mutex_destroy(&replay->logs_lock);
    bson_destroy(&replay->unknown);
    bson_destroy(&replay->ddl_token);
    free(replay->lanes);
    free(replay->outboxes);
    free(replay);
}

/* Waits while `holds` is true; false: stopped. The count of those who wait is raised before `holds`
 * is asked, and what it looks at is changed before the count is read: one of the two sees the
 * other. */
static bool wait_eased(tow_replay_t *replay, bool (*holds)(tow_replay_t *replay, const void *data),
                       const void *data)
{
    tow_stop_t *stop = replay->options.stop;

    atomic_fetch_add(&replay->waiting, 1);
    pthread_mutex_lock(&replay->ease_lock);
    while (holds(replay, data) && !tow_stop_requested(stop))
        pthread_cond_wait(&replay->eased, &replay->ease_lock);
    pthread_mutex_unlock(&replay->ease_lock);
    atomic_fetch_sub(&replay->waiting, 1);
    return !tow_stop_requested(stop);
}

static bool is_paused(tow_replay_t *replay, const void *data TOW_UNUSED)
{
    return atomic_load(&replay->paused);
}

static bool is_full(tow_replay_t *replay, const void *data TOW_UNUSED)
{
    return atomic_load(&replay->dirty_bytes) > replay->options.dirty_bytes;
}

typedef struct {
    const tow_lane_t *lane;
    uint64_t rounds;
} round_t;

/* Still in that round. */
static bool is_busy(tow_replay_t *replay TOW_UNUSED, const void *data)
{
    const round_t *round = data;

    return atomic_load(&round->lane->busy) && atomic_load(&round->lane->rounds) == round->rounds;
}

static bool flush(tow_replay_t *replay)
{
    bool ok = true;

    for (uint32_t i = 0; i < replay->lane_count; i++) {
        if (replay->outboxes[i].count)
            ok = tow_lane_push(&replay->lanes[i], &replay->outboxes[i]) && ok;
        replay->outboxes[i].count = 0;
    }
    return ok;
}

static void skip(tow_replay_t *replay, tow_block_t *block)
{
    atomic_fetch_add(&replay->skipped, 1);
    tow_ledger_settle(replay->options.ledger, block, 1);
}

/* Puts the item, filled in but for its collection, into the outbox of its lane. */
static void hand_over(tow_replay_t *replay, tow_item_t *item, tow_namespace_t *collection)
{
    item->collection = collection;
    item->hash = tow_item_hash(collection, item->id);
    atomic_fetch_add(&item->block->payload_users, 1);
    tow_items_add(&replay->outboxes[tow_lane_of(replay, collection, item->hash)->number], item);
}

/* Routes a changed key; `event` is the whole event in direct mode, else NULL. */
static bool route(tow_replay_t *replay, tow_block_t *block, const tow_record_t *record,
                  const bson_t *event, tow_error_t *error)
{
    tow_namespace_t *collection =
        tow_namespaces_find(replay->options.namespaces, record->database, record->collection);
    tow_item_t item = {.id = record->id,
                       .time = record->time,
                       .block = block,
                       .repair =
                           record->kind == TOW_RECORD_REFETCH || record->kind == TOW_RECORD_ANEW,
                       .anew = record->kind == TOW_RECORD_ANEW};
    tow_gate_t gate;

    if (replay->options.touched && !item.repair)
        replay->options.touched(replay->options.track_data, record->database, record->collection,
                                record->id);
    if (!collection) {
        if (!tow_filter_takes(replay->options.filter, record->database, record->collection)) {
            skip(replay, block);
            return true;
        }
        collection = tow_replay_ensure(replay, record->database, record->collection, error);
        if (!collection)
            return false;
    }
    if (item.repair) {
        hand_over(replay, &item, collection);
        return true;
    }
    /* A range that is not started yet lets the event pass, since its read will begin behind it. */
    tow_link_note_event(replay->options.source, record->time, false);
    gate = tow_namespaces_gate(replay->options.namespaces, collection, record->id, record->time);
    if (gate == TOW_GATE_SKIP) {
        skip(replay, block);
        return true;
    }
    item.fresh = record->kind == TOW_RECORD_INSERT;
    if (gate == TOW_GATE_APPLY && event) {
        item.event = bson_get_data(event);
        item.event_length = event->len;
    }
    hand_over(replay, &item, collection);
    return true;
}

/* A DDL event: where it is a barrier, everything before it is handed over and absorbed first. */
static bool barrier(tow_replay_t *replay, tow_block_t *block, const bson_t *event,
                    const tow_event_t *parsed, tow_error_t *error)
{
    bool ok = flush(replay);

    ok = ok && wait_eased(replay, is_paused, NULL);
    for (uint32_t i = 0; ok && tow_ddl_is_barrier(replay, parsed) && i < replay->lane_count; i++)
        ok = tow_lane_wait_absorbed(&replay->lanes[i]);
    if (!ok)
        return tow_fail(error, TOW_ERROR_INTERRUPTED, "stopped");
    ok = tow_replay_ddl(replay, event, parsed->time, block, error);
    if (ok)
        tow_ledger_settle(replay->options.ledger, block, 1);
    return ok;
}

static bool dispatch_keys(tow_replay_t *replay, tow_block_t *block, tow_error_t *error)
{
    size_t position = 0;
    tow_record_t record;
    bool broken;

    while (tow_record_next(&block->records, &position, &record, &broken)) {
        if (record.kind == TOW_RECORD_EVENT) {
            bson_t event;
            tow_event_t parsed;

            if (!bson_init_static(&event, record.id.data, record.id.length))
                return tow_fail(error, TOW_ERROR_SPOOL, "a block of keys holds a broken event");
            tow_event_parse(&event, &parsed);
            if (!barrier(replay, block, &event, &parsed, error))
                return false;
        } else if (!route(replay, block, &record, NULL, error)) {
            return false;
        }
    }
    return broken ? tow_fail(error, TOW_ERROR_SPOOL, "a block of keys is malformed") : true;
}

static bool dispatch_events(tow_replay_t *replay, tow_block_t *block, tow_error_t *error)
{
    bson_iter_t batch;
    bson_t event;
    bool broken;

    if (!tow_field_list(&block->reply, "cursor.nextBatch", &batch))
        return tow_fail(error, TOW_ERROR_SERVER, "a block of events has no batch");
    while (tow_batch_document(&batch, &event, &broken)) {
        tow_event_t parsed;

        tow_event_parse(&event, &parsed);
        if (parsed.change && parsed.has_id) {
            bool insert = parsed.kind == TOW_OPERATION_INSERT;
            tow_record_t record = {insert ? TOW_RECORD_INSERT : TOW_RECORD_CHANGE, parsed.database,
                                   parsed.collection, parsed.id, parsed.time};

            if (!route(replay, block, &record, &event, error))
                return false;
        } else if (!barrier(replay, block, &event, &parsed, error)) {
            return false;
        }
    }
    return broken ? tow_fail(error, TOW_ERROR_SERVER, "a block of events holds a broken one")
                  : true;
}

/* Waits while the dirty keys fill their memory: meanwhile the tail goes on into the spool. */
static void wait_for_memory(tow_replay_t *replay)
{
    if (is_full(replay, NULL))
        wait_eased(replay, is_full, NULL);
}

static void *run(void *data)
{
    tow_replay_t *replay = data;
    tow_ledger_t *ledger = replay->options.ledger;
    tow_error_t error;
    bool ok = true;

    while (ok && !tow_stop_requested(replay->options.stop)) {
        tow_block_t *block;

        wait_for_memory(replay);
        block = tow_ledger_take(ledger, 1000);
        if (!block)
            continue;
        ok = tow_ledger_load(ledger, block, replay->options.spool, &error);
        if (ok && block->events)
            ok = block->direct ? dispatch_events(replay, block, &error)
                               : dispatch_keys(replay, block, &error);
        ok = ok && flush(replay);
        if (!ok)
            break;
        atomic_store(&replay->dispatched_time, block->time);
        tow_ledger_dispatched(ledger, block);
    }
    if (!ok && !tow_stop_requested(replay->options.stop))
        tow_stop_request(replay->options.stop, &error);
    return NULL;
}

bool tow_replay_start(tow_replay_t *replay, tow_optime_t horizon, const bson_t *ddl_token,
                      tow_optime_t ddl_time, tow_error_t *error)
{
    assert(is_complete(&replay->options.ddl));
    if (ddl_token)
        bson_concat(&replay->ddl_token, ddl_token);
    replay->ddl_time = ddl_time;
    replay->source = tow_conn_open(replay->options.source);
    replay->destination = tow_conn_open(replay->options.destination);
    for (uint32_t i = 0; i < replay->lane_count; i++) {
        tow_dirty_raise_horizon(replay->lanes[i].dirty, horizon);
        if (!tow_lane_start(&replay->lanes[i], error))
            return false;
    }
    return tow_thread_start(&replay->dispatcher, "dispatch", run, replay, error);
}

void tow_replay_pause(tow_replay_t *replay, bool paused)
{
    atomic_store(&replay->paused, paused);
    tow_replay_wake_lanes(replay);
    tow_replay_eased(replay);
}

void tow_replay_await_lanes(tow_replay_t *replay)
{
    for (uint32_t i = 0; i < replay->lane_count; i++) {
        const tow_lane_t *lane = &replay->lanes[i];

        wait_eased(replay, is_busy, &(round_t){lane, atomic_load(&lane->rounds)});
    }
}

void tow_replay_progress(tow_replay_t *replay, tow_replay_progress_t *out)
{
    out->skipped = atomic_load(&replay->skipped);
    out->applied = atomic_load(&replay->applied);
    out->refetched = atomic_load(&replay->refetched);
    out->statements = atomic_load(&replay->statements);
    out->dirty_keys = atomic_load(&replay->dirty_keys);
    out->dirty_bytes = atomic_load(&replay->dirty_bytes);
}

bool tow_replay_settled(tow_replay_t *replay)
{
    return tow_ledger_backlog(replay->options.ledger) == 0 && atomic_load(&replay->dirty_keys) == 0;
}
