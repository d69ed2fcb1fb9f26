/* SPDX-License-Identifier: Apache-2.0 */
/* refetch.c: reads a batch of dirty keys from the source and makes the destination the same. */
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/link/codes.h"
#include "engine/link/reader.h"
#include "engine/link/reply.h"
#include "engine/state/selection.h"
#include "oplog/replay_internal.h"

enum { KEYS_MOST = TOW_SELECTION_MOST };

typedef struct {
    tow_lane_t *lane;
    tow_namespace_t *collection;
    tow_dirty_key_t *keys[KEYS_MOST];
    uint32_t count;
    tow_optime_t lo, hi;
} batch_t;

/* What a unique index refuses is tried again, and untangled when that does not help. Whatever else
 * a replacement cannot do but delete and insert can (an _id of another numeric type, a name that
 * begins with a dollar) is done so the next time; an error that names the document comes when that
 * does not help. */
static void refused(void *data, void *tag, const tow_write_error_t *failure)
{
    batch_t *batch = data;
    tow_dirty_key_t *key = tag;

    key->failed = true;
    if (key->fresh)
        key->fresh = false; /* it is there already, as after a restart: replaced the next time */
    else if (failure->code == TOW_CODE_DUPLICATE_KEY)
        tow_lane_refused(batch->lane, key, failure->message);
    else if (!key->anew)
        key->anew = true;
    else
        tow_lane_conflict(batch->lane, key->collection, tow_dirty_id(key), failure->message);
}

static bool send(batch_t *batch, tow_write_t *write, tow_error_t *error)
{
    uint32_t matched;

    atomic_fetch_add(&batch->lane->replay->statements, write->count);
    return tow_write_send(write, batch->lane->destination, refused, batch, &matched, error);
}

static void begin_messages(batch_t *batch)
{
    tow_lane_t *lane = batch->lane;

    tow_write_begin(&lane->deletes, TOW_WRITE_DELETE, batch->collection);
    tow_write_begin(&lane->updates, TOW_WRITE_UPDATE, batch->collection);
    tow_write_begin(&lane->inserts, TOW_WRITE_INSERT, batch->collection);
    tow_write_begin(&lane->timestamps, TOW_WRITE_UPDATE, batch->collection);
    lane->inserts.strict = true;
}

/* What is gone goes first: it may free what a unique index holds, and what is inserted again was
 * deleted before. */
static bool flush(batch_t *batch, tow_error_t *error)
{
    tow_lane_t *lane = batch->lane;
    bool ok = send(batch, &lane->deletes, error) && send(batch, &lane->updates, error) &&
              send(batch, &lane->inserts, error) && send(batch, &lane->timestamps, error);

    begin_messages(batch);
    return ok;
}

/* All four messages can take the statements of one document of so many bytes, its _id twice. */
static bool make_room(batch_t *batch, size_t bytes, tow_error_t *error)
{
    tow_lane_t *lane = batch->lane;

    return (tow_write_fits(&lane->deletes, bytes) && tow_write_fits(&lane->updates, bytes) &&
            tow_write_fits(&lane->inserts, bytes) && tow_write_fits(&lane->timestamps, bytes)) ||
           flush(batch, error);
}

/* A key that began with an insert is most likely not there yet: an insert costs a fraction. */
static bool write_document(batch_t *batch, tow_dirty_key_t *key, const bson_t *document,
                           tow_error_t *error)
{
    tow_lane_t *lane = batch->lane;
    const tow_facts_t *facts = tow_link_facts(lane->replay->options.destination);
    bool empty = tow_has_empty_timestamp(document);
    tow_value_t id = tow_dirty_id(key);

    tow_value_id(document, &id); /* as the source spells it */
    if (!make_room(batch, id.length + document->len, error))
        return false;
    /* A server that can leave empty timestamps alone does so for inserts. */
    if (key->anew || !tow_is_replaceable(document, facts) || (empty && facts->bypass_empty_ts)) {
        key->fresh = false;
        tow_write_delete(&lane->deletes, id, key);
        tow_write_insert(&lane->inserts, document, key);
    } else if (key->fresh) {
        tow_write_insert(&lane->inserts, document, key);
    } else {
        tow_write_replace(&lane->updates, id, document, key);
    }
    if (empty && !facts->bypass_empty_ts)
        tow_write_timestamps(&lane->timestamps, id, document, key);
    return true;
}

static void build_filter(const batch_t *batch, bson_t *out)
{
    tow_selection_t selection;

    tow_selection_begin(&selection);
    for (uint32_t i = 0; i < batch->count; i++)
        tow_selection_add(&selection, tow_dirty_id(batch->keys[i]));
    tow_selection_end(&selection, out);
}

/* Shards may hold a document each of one _id, where it is not their key; a shard key that changes
 * while its chunk moves leaves such a pair, too. The destination can hold one of them. */
static void tell_duplicate(batch_t *batch, tow_value_t id)
{
    char text[128];

    if (atomic_exchange(&batch->collection->duplicate_told, true))
        return;
    tow_value_text(id, text, sizeof text);
    tow_emit(&batch->lane->replay->options.sink, TOW_LEVEL_WARNING, "duplicate_id",
             "%s: the source has, or had for a moment, two documents of the _id %s on different "
             "shards, and the destination can hold one: `towline verify` says whether it still "
             "does; give one of them another _id",
             batch->collection->ns, text);
}

static bool take_document(batch_t *batch, const bson_t *document, tow_error_t *error)
{
    tow_dirty_key_t *key;
    tow_value_t id = {0};

    tow_value_id(document, &id);
    key = tow_dirty_find(batch->lane->dirty, batch->collection, id,
                         tow_item_hash(batch->collection, id));
    if (!key || !key->in_flight)
        return tow_is_taken_too(id, false) ||
               tow_lane_explain(batch->lane, batch->collection, error);
    if (key->found) {
        tell_duplicate(batch, id);
        return true;
    }
    key->found = true;
    return write_document(batch, key, document, error);
}

static bool read_and_write(batch_t *batch, tow_error_t *error)
{
    tow_lane_t *lane = batch->lane;
    tow_read_t what = {.database = batch->collection->database,
                       .collection = batch->collection->name,
                       .after = batch->lo,
                       .batch_documents = KEYS_MOST};
    tow_reader_t *reader;
    bson_t filter, document;
    bool more = true, ok = true;

    build_filter(batch, &filter);
    what.filter = &filter;
    begin_messages(batch);
    reader = tow_reader_open(lane->source, &what, error);
    ok = reader != NULL;
    while (ok && more) {
        while (ok && tow_reader_next(reader, &document))
            ok = take_document(batch, &document, error);
        if (ok)
            ok = tow_reader_next_batch(reader, &more, error);
    }
    if (ok)
        batch->hi = tow_reader_time(reader);
    for (uint32_t i = 0; ok && i < batch->count; i++) {
        tow_value_t id = tow_dirty_id(batch->keys[i]);

        if (batch->keys[i]->found)
            continue;
        ok = make_room(batch, id.length, error);
        if (ok)
            tow_write_delete(&lane->deletes, id, batch->keys[i]);
    }
    ok = ok && flush(batch, error);
    tow_reader_close(reader);
    bson_destroy(&filter);
    return ok;
}

/* Keys that only a lane which works alone may write: of a collation, which are not equal as we see
 * them, and of a capped collection whose place another one has taken, which spreads its keys over
 * all lanes. */
static void untangle_all(batch_t *batch, const char *why)
{
    for (uint32_t i = 0; i < batch->count; i++) {
        batch->keys[i]->failed = true;
        tow_lane_conflict(batch->lane, batch->collection, tow_dirty_id(batch->keys[i]), why);
    }
}

static bool refetch(batch_t *batch, tow_error_t *error)
{
    const tow_replay_options_t *options = &batch->lane->replay->options;
    tow_namespace_t *collection = batch->collection;
    /* Keys outlive their collection where a copy has taken its place. */
    tow_namespace_t *current =
        tow_namespaces_find(options->namespaces, collection->database, collection->name);

    if (!current)
        current = collection;
    if (current->capped)
        return tow_lane_continue(batch->lane, current, batch->keys, batch->count, batch->lo,
                                 &batch->hi, error);
    if (!collection->collated && !collection->capped)
        return read_and_write(batch, error);
    untangle_all(batch, collection->collated ? "collection with a collation"
                                             : "collection that was capped");
    return true;
}

bool tow_lane_refetch(tow_lane_t *lane)
{
    tow_replay_t *replay = lane->replay;
    batch_t *batch;
    tow_error_t error;
    bool ok = true;

    if (!tow_dirty_count(lane->dirty) || tow_stop_requested(replay->options.stop))
        return false;
    batch = tow_alloc(sizeof *batch);
    batch->lane = lane;
    batch->count = tow_dirty_take(lane->dirty, batch->keys, KEYS_MOST, tow_now_ms());
    if (!batch->count) {
        free(batch);
        return false;
    }
    batch->collection = batch->keys[0]->collection;
    batch->lo = tow_link_read_time(replay->options.source);
    ok = refetch(batch, &error);
    for (uint32_t i = 0; i < batch->count; i++) {
        tow_dirty_key_t *key = batch->keys[i];

        if (!ok || key->failed) {
            tow_dirty_return(lane->dirty, key);
            continue;
        }
        atomic_fetch_add(&replay->refetched, 1);
        atomic_fetch_add(&replay->applied, 1);
        tow_recent_note(lane->dirty, key->collection, tow_dirty_id(key), key->hash, batch->lo,
                        batch->hi);
        tow_dirty_settle(lane->dirty, key, batch->lo);
    }
    free(batch);
    if (ok)
        tow_lane_succeeded(lane);
    else
        tow_lane_failed(lane, &error);
    return true;
}
