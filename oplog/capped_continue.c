/* SPDX-License-Identifier: Apache-2.0 */
/* capped_continue.c: a capped collection is a log: its natural order is content, and nobody may
 * rely on deleting from it.
 *
 * So its dirty keys are not written one by one. Whatever happened to them, the log is continued:
 * the source's newest _ids are read backwards until the destination's newest is met, and the
 * documents after it are added in the source's order. Only then are older documents looked at,
 * those that were updated in place. What cannot be done so makes the collection be copied again, by
 * itself.
 *
 * No insert is sent whose _id may be a duplicate: in a full collection a refused one pushes out the
 * oldest document all the same. After a refusal by another unique index it is copied again. The
 * lock of the logs makes one writer of all lanes: the keys of a collection that was replaced may be
 * in another lane than those of its successor. */
#include <stdlib.h>
#include <string.h>

#include "engine/link/codes.h"
#include "oplog/capped.h"
#include "oplog/continuation.h"

enum {
    TAIL_MOST = TOW_LOG_TAIL_MOST,
    ID_BYTES_MOST =
        256 * 1024 * 1024, /* of the source's newest; where that is not enough: copied again */
    ID_BYTES_LEAST = 4,    /* of one: there are few values that take less, and none twice */
    READ_IDS = 10000
};

static struct tow_log *log_of(tow_replay_t *replay, const tow_namespace_t *collection)
{
    struct tow_log *log;

    HASH_FIND(hh, replay->logs, &collection->id, sizeof collection->id, log);
    if (!log) {
        log = tow_alloc(sizeof *log);
        log->collection_id = collection->id;
        HASH_ADD(hh, replay->logs, collection_id, sizeof log->collection_id, log);
    }
    return log;
}

void tow_logs_free(tow_replay_t *replay)
{
    struct tow_log *log, *next;

    HASH_ITER(hh, replay->logs, log, next) {
        HASH_DELETE(hh, replay->logs, log);
        free(log);
    }
}

/* Both ends -------------------------------------------------------------------------------------*/

static bool take_tail(tow_continuing_t *log, const bson_t *document, void *data)
{
    tow_value_t id = {0};

    (void)data;
    tow_value_id(document, &id);
    log->tail[log->tail_count++] = tow_value_hash(id);
    return log->tail_count < TAIL_MOST;
}

/* While nothing is in doubt one document is enough. */
static bool find_tail(tow_continuing_t *log, tow_error_t *error)
{
    tow_read_t what = {.natural = true, .newest_first = true, .batch_documents = TAIL_MOST};
    bson_t projection;
    bool ok;

    if (log->log->known) {
        log->tail[0] = log->log->newest;
        log->tail_count = 1;
        return true;
    }
    tow_log_id_only(&projection);
    what.projection = &projection;
    log->tail_count = 0;
    ok = tow_log_read(log, log->lane->destination, &what, take_tail, NULL, &log->tail_whole, error);
    bson_destroy(&projection);
    return ok;
}

static tow_continuation_t place(tow_continuing_t *log)
{
    tow_log_end_t source = {log->hashes, log->count, log->whole};
    tow_log_end_t destination = {log->tail, log->tail_count, log->tail_whole};

    return tow_log_continuation(&source, &destination, &log->fresh);
}

/* Looked at each time that there are twice as many, since all that were read are compared then. */
static bool take_newest(tow_continuing_t *log, const bson_t *document, void *data)
{
    size_t *look_at = data;
    tow_value_t id = {0};

    if (log->count == log->capacity) {
        log->capacity = log->capacity ? log->capacity * 2 : 64;
        log->entries = tow_realloc(log->entries, log->capacity * sizeof *log->entries);
        log->hashes = tow_realloc(log->hashes, log->capacity * sizeof *log->hashes);
    }
    tow_value_id(document, &id);
    log->entries[log->count].at = log->ids.length;
    log->entries[log->count].length = id.length;
    log->entries[log->count].type = id.type;
    log->hashes[log->count++] = tow_value_hash(id);
    tow_buffer_append(&log->ids, id.data, id.length);
    if (log->ids.length > ID_BYTES_MOST || log->count > ID_BYTES_MOST / ID_BYTES_LEAST)
        return false;
    if (log->count < *look_at)
        return true;
    *look_at *= 2;
    return place(log) == TOW_LOG_UNKNOWN;
}

static bool find_new(tow_continuing_t *log, tow_error_t *error)
{
    size_t look_at = log->key_count + 1;
    tow_read_t what = {.natural = true,
                       .newest_first = true,
                       .batch_documents = (int32_t)(look_at < READ_IDS ? look_at : READ_IDS)};
    tow_continuation_t answer;
    bson_t projection;
    bool ok;

    tow_log_id_only(&projection);
    what.projection = &projection;
    ok = find_tail(log, error) &&
         tow_log_read(log, log->lane->source, &what, take_newest, &look_at, &log->whole, error);
    bson_destroy(&projection);
    if (!ok)
        return false;
    answer = place(log);
    /* The one that was known is gone at the source: look at what the destination has. */
    if (log->log->known && (answer == TOW_LOG_APART || log->fresh == log->count)) {
        log->log->known = false;
        if (!find_tail(log, error))
            return false;
        answer = place(log);
    }
    if (answer != TOW_LOG_GOES_ON)
        tow_log_give_up(log, "the destination's newest documents are not in the source's order");
    return true;
}

bool tow_lane_continue(tow_lane_t *lane, tow_namespace_t *collection, tow_dirty_key_t **keys,
                       uint32_t count, tow_optime_t lo, tow_optime_t *out_hi, tow_error_t *error)
{
    tow_continuing_t log = {.lane = lane,
                            .collection = collection,
                            .keys = keys,
                            .key_count = count,
                            .lo = lo,
                            .hi = lo};
    tow_replay_t *replay = lane->replay;
    bool ok;

    pthread_mutex_lock(&replay->logs_lock);
    log.log = log_of(replay, collection);
    ok = find_new(&log, error) && (log.apart || tow_log_add(&log, error)) &&
         (log.apart || tow_log_write_older(&log, error));
    if (!ok || log.apart)
        log.log->known = false;
    pthread_mutex_unlock(&replay->logs_lock);
    tow_buffer_free(&log.ids);
    free(log.entries);
    free(log.hashes);
    for (uint32_t i = 0; i < count; i++)
        keys[i]->failed = log.apart;
    if (ok && log.apart) {
        lane->apart = collection;
        lane->apart_reason = log.reason;
    }
    *out_hi = log.hi;
    return ok;
}

/* Its keys need nothing more: they are read with the copy. */
static void discard(tow_replay_t *replay, const tow_namespace_t *collection)
{
    for (uint32_t i = 0; i < replay->lane_count; i++) {
        tow_dirty_t *dirty = replay->lanes[i].dirty;

        for (tow_dirty_key_t *key = tow_dirty_detach(dirty, collection), *next; key; key = next) {
            next = key->next;
            tow_dirty_forget(dirty, key, true);
        }
        tow_recent_detach(dirty, collection, 0, NULL, NULL);
    }
}

void tow_lane_copy_again(tow_lane_t *lane)
{
    tow_replay_t *replay = lane->replay;
    const tow_ddl_handler_t *handler = &replay->options.ddl;
    tow_namespace_t *collection = lane->apart;
    bool ok = true, found;
    tow_error_t error;

    lane->apart = NULL;
    pthread_rwlock_wrlock(&replay->exclusive);
    /* What was replaced meanwhile, or is being copied, is looked at afresh. */
    if (!collection->dropped && !tow_replay_holding(replay)) {
        tow_emit(&replay->options.sink, TOW_LEVEL_INFO, "capped_copy",
                 "%s: %s; the capped collection cannot be continued and is copied again",
                 collection->ns, lane->apart_reason);
        ok = handler->copy_again(handler->data, collection->database, collection->name, &found,
                                 &error);
        if (ok)
            discard(replay, collection);
    }
    pthread_rwlock_unlock(&replay->exclusive);
    tow_replay_wake_lanes(replay);
    if (!ok)
        tow_lane_failed(lane, &error);
}

/* A write that came late may be met before its event is: what it added is added, and its key
 * settled, as any lane would. No lane works meanwhile, since the keys are theirs. */
static bool trim(tow_lane_t *lane, tow_namespace_t *collection, tow_error_t *error)
{
    tow_replay_t *replay = lane->replay;
    tow_optime_t hi;
    bool ok;

    pthread_mutex_lock(&replay->logs_lock);
    log_of(replay, collection)->has_heads = true;
    pthread_mutex_unlock(&replay->logs_lock);
    pthread_rwlock_wrlock(&replay->exclusive);
    ok = collection->dropped ||
         tow_lane_continue(lane, collection, NULL, 0, tow_link_read_time(replay->options.source),
                           &hi, error);
    pthread_rwlock_unlock(&replay->exclusive);
    tow_replay_wake_lanes(replay);
    return ok;
}

static bool trim_all(tow_lane_t *lane, tow_error_t *error)
{
    tow_replay_t *replay = lane->replay;
    tow_namespaces_t *table = replay->options.namespaces;
    uint32_t count;
    tow_namespace_t **list = tow_namespaces_list(table, &count);
    tow_error_t failure;

    for (uint32_t i = 0; i < count && !tow_stop_requested(replay->options.stop); i++) {
        if (!list[i]->capped || !tow_namespaces_copied(table, list[i]))
            continue;
        while (!trim(lane, list[i], &failure) && !tow_stop_requested(replay->options.stop))
            tow_lane_failed(lane, &failure);
        tow_lane_succeeded(lane);
        if (lane->apart)
            tow_lane_copy_again(lane);
    }
    free(list);
    if (!tow_stop_requested(replay->options.stop))
        return true;
    return tow_stop_error(replay->options.stop, error)
               ? false
               : tow_fail(error, TOW_ERROR_INTERRUPTED, "stopped");
}

bool tow_replay_trim_logs(tow_replay_t *replay, tow_error_t *error)
{
    tow_lane_t lane = {.replay = replay}; /* as if it were one, without keys */
    bool ok;

    /* From 5.0 on a refused insert leaves all as it was, and a delete is an event. */
    if (tow_log_may_delete(replay->options.source))
        return true;
    lane.source = tow_conn_open(replay->options.source);
    lane.destination = tow_conn_open(replay->options.destination);
    ok = trim_all(&lane, error);
    tow_conn_close(lane.source);
    tow_conn_close(lane.destination);
    return ok;
}
