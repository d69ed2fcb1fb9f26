/* SPDX-License-Identifier: Apache-2.0 */
/* capped_add.c: adds the documents to a log that the source has after the destination's newest.
 *
 * No insert is sent that may be a duplicate: in a full collection a refused one pushes out the
 * oldest document all the same. */
#include <stdlib.h>
#include <string.h>

#include "engine/state/selection.h"
#include "oplog/capped.h"

enum {
    ADD_BYTES = 16 * 1024 * 1024, /* wanted in memory at a time */
    ADD_LEAST = 16
};

static int by_hash(const void *left, const void *right)
{
    const uint64_t *a = left, *b = right;

    return (*a > *b) - (*a < *b);
}

typedef struct {
    size_t from, asked; /* the documents `from`, `from` - 1, … */
    uint64_t hashes[TOW_SELECTION_MOST];
    size_t count;
} present_t;

static bool is_asked(const tow_continuing_t *log, size_t from, size_t asked, uint64_t hash)
{
    for (size_t i = 0; i < asked; i++)
        if (log->hashes[from - i] == hash)
            return true;
    return false;
}

static bool take_present(tow_continuing_t *log, const bson_t *document, void *data)
{
    present_t *present = data;
    tow_value_t id = {0};

    tow_value_id(document, &id);
    if (!is_asked(log, present->from, present->asked, tow_value_hash(id)))
        tow_log_note_stranger(log, id);
    if (present->count < TOW_SELECTION_MOST)
        present->hashes[present->count++] = tow_value_hash(id);
    return true;
}

/* The filter for up to *count documents from `from` on, towards the newest; *count:
 * how many fit. */
static void select_new(const tow_continuing_t *log, size_t from, size_t *count, bson_t *out)
{
    tow_selection_t selection;
    size_t i;

    tow_selection_begin(&selection);
    for (i = 0; i < *count && tow_selection_fits(&selection, tow_log_id(log, from - i)); i++)
        tow_selection_add(&selection, tow_log_id(log, from - i));
    tow_selection_end(&selection, out);
    *count = i;
}

/* How many of the documents from `from` on, towards the newest, the destination does not have: up
 * to the first that it has, or `most`. */
static bool count_absent(tow_continuing_t *log, size_t from, size_t most, size_t *out,
                         tow_error_t *error)
{
    present_t *present = tow_alloc(sizeof *present);
    bson_t filter, projection;
    bool ok, end;
    size_t i;

    select_new(log, from, &most, &filter);
    present->from = from;
    present->asked = most;
    tow_log_id_only(&projection);
    ok = tow_log_read(log, log->lane->destination,
                      &(tow_read_t){.filter = &filter, .projection = &projection}, take_present,
                      present, &end, error);
    qsort(present->hashes, present->count, sizeof *present->hashes, by_hash);
    for (i = 0; i < most; i++)
        if (bsearch(&log->hashes[from - i], present->hashes, present->count,
                    sizeof *present->hashes, by_hash))
            break;
    *out = i;
    bson_destroy(&filter);
    bson_destroy(&projection);
    free(present);
    return ok;
}

/* It was deleted and inserted again at the source, and is in its old place yet. */
static bool remove_old(tow_continuing_t *log, tow_value_t id, tow_error_t *error)
{
    tow_write_t write = {0};
    bool ok = true;

    if (!tow_log_may_delete(tow_log_options(log)->destination)) {
        tow_log_give_up(log, "an _id that was inserted again at the source is in its old place");
        return true;
    }
    tow_write_begin(&write, TOW_WRITE_DELETE, log->collection);
    tow_write_delete(&write, id, NULL);
    ok = tow_log_send(log, &write, error);
    tow_write_clear(&write);
    return ok;
}

/* The key of a document that was added needs nothing more, in whichever list it is. Without keys
 * (tow_replay_trim_logs) no lane works, and it is in that of its own lane. */
static void settle_added(tow_continuing_t *log, tow_value_t id)
{
    tow_replay_t *replay = log->lane->replay;
    unsigned hash = tow_item_hash(log->collection, id);
    const tow_namespace_t *of = log->key_count ? log->keys[0]->collection : log->collection;
    tow_lane_t *lane = log->key_count ? log->lane : tow_lane_of(replay, log->collection, hash);
    tow_dirty_key_t *key;

    tow_recent_note(lane->dirty, log->collection, id, hash, log->lo, log->hi);
    key = tow_dirty_find(lane->dirty, of, id, hash);
    if (key && key->in_flight)
        key->found = true;
    else if (key && key->time <= log->lo) {
        tow_dirty_pick(lane->dirty, key);
        tow_dirty_settle(lane->dirty, key, log->lo);
        atomic_fetch_add(&replay->refetched, 1);
        atomic_fetch_add(&replay->applied, 1);
    }
}

/* Documents of the source in the order of the log; NULL: it has dropped off meanwhile. */
typedef struct {
    bson_t *items[TOW_SELECTION_MOST];
    size_t from, count;
    uint64_t bytes;
} added_t;

static bool take_added(tow_continuing_t *log, const bson_t *document, void *data)
{
    added_t *added = data;
    tow_value_t id = {0};
    uint64_t hash;

    tow_value_id(document, &id);
    hash = tow_value_hash(id);
    if (!is_asked(log, added->from, added->count, hash))
        tow_log_note_stranger(log, id);
    for (size_t i = 0; i < added->count; i++)
        if (log->hashes[added->from - i] == hash && !added->items[i]) {
            added->items[i] = bson_copy(document);
            added->bytes += document->len;
            break;
        }
    return true;
}

static bool restore_timestamps(tow_continuing_t *log, const added_t *added, tow_write_t *write,
                               tow_error_t *error)
{
    bool ok = true;

    if (tow_link_facts(tow_log_options(log)->destination)->bypass_empty_ts)
        return true;
    for (size_t i = 0; ok && !log->apart && i < added->count; i++) {
        if (!added->items[i] || !tow_has_empty_timestamp(added->items[i]))
            continue;
        tow_write_begin(write, TOW_WRITE_UPDATE, log->collection);
        tow_write_timestamps(write, tow_log_id(log, added->from - i), added->items[i], NULL);
        ok = tow_log_send(log, write, error);
    }
    return ok;
}

/* In as many messages as it takes. Whatever goes wrong leaves the log in doubt. */
static bool insert_added(tow_continuing_t *log, const added_t *added, tow_error_t *error)
{
    tow_write_t write = {0};
    size_t last = added->count;
    bool ok = true;

    log->log->known = false;
    tow_write_begin_ordered(&write, log->collection);
    for (size_t i = 0; ok && !log->apart && i < added->count; i++) {
        if (!added->items[i])
            continue;
        if (!tow_write_fits(&write, added->items[i]->len)) {
            ok = tow_log_send(log, &write, error);
            tow_write_begin_ordered(&write, log->collection);
        }
        tow_write_insert(&write, added->items[i], NULL);
        last = i;
    }
    ok = ok && (log->apart || tow_log_send(log, &write, error)) &&
         restore_timestamps(log, added, &write, error);
    tow_write_clear(&write);
    if (!ok || log->apart)
        return ok;
    log->log->known = last < added->count;
    if (log->log->known)
        log->log->newest = log->hashes[added->from - last];
    for (size_t i = 0; i < added->count; i++)
        if (added->items[i])
            settle_added(log, tow_log_id(log, added->from - i));
    return true;
}

/* The documents `from`, `from` - 1, …; *count: wanted, and then how many it were. */
static bool add(tow_continuing_t *log, size_t from, size_t *count, tow_error_t *error)
{
    added_t *added = tow_alloc(sizeof *added);
    bson_t filter;
    bool ok, end;

    select_new(log, from, count, &filter);
    added->from = from;
    added->count = *count;
    ok = tow_log_read(log, log->lane->source, &(tow_read_t){.filter = &filter}, take_added, added,
                      &end, error) &&
         insert_added(log, added, error);
    log->log->document_bytes = added->bytes / added->count + 1;
    for (size_t i = 0; i < added->count; i++)
        if (added->items[i])
            bson_destroy(added->items[i]);
    bson_destroy(&filter);
    free(added);
    return ok;
}

/* How many documents are added at a time: few until their size is known. */
static size_t wanted(const tow_continuing_t *log, size_t left)
{
    size_t count = log->log->document_bytes ? ADD_BYTES / log->log->document_bytes : ADD_LEAST;

    if (count < ADD_LEAST)
        count = ADD_LEAST;
    if (count > TOW_SELECTION_MOST)
        count = TOW_SELECTION_MOST;
    return count < left ? count : left;
}

/* The first `left` of the source's, the oldest of them first. */
static bool add_some(tow_continuing_t *log, size_t *left, size_t *removed, tow_error_t *error)
{
    size_t count = wanted(log, *left);

    if (tow_stop_requested(tow_log_options(log)->stop))
        return tow_fail(error, TOW_ERROR_INTERRUPTED, "stopped");
    if (log->tail_count && !count_absent(log, *left - 1, count, &count, error))
        return false;
    if (!count) {
        if (*removed == *left)
            tow_log_give_up(log, "a document that was deleted is still there");
        *removed = *left;
        return log->apart || remove_old(log, tow_log_id(log, *left - 1), error);
    }
    if (!add(log, *left - 1, &count, error))
        return false;
    *left -= count;
    return true;
}

static bool add_new(tow_continuing_t *log, tow_error_t *error)
{
    size_t left = log->fresh, removed = 0;

    while (left && !log->apart)
        if (!add_some(log, &left, &removed, error))
            return false;
    if (!log->apart && !log->fresh && log->count) {
        log->log->known = true;
        log->log->newest = log->hashes[0];
    }
    return true;
}

bool tow_log_add(tow_continuing_t *log, tow_error_t *error)
{
    if (!add_new(log, error))
        return false;
    /* All that the source has came after all that the destination had, which has to go. */
    if (!log->apart && log->whole && log->fresh == log->count && log->tail_count && log->count)
        log->log->has_heads = true;
    return log->apart || !log->log->has_heads || tow_log_drop_heads(log, error);
}
