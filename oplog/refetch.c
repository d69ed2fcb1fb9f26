/* refetch.c: reads a batch of dirty keys from the source and makes the destination the same. */
#include <stdlib.h>
#include <string.h>

#include "engine/link/reader.h"
#include "engine/state/selection.h"
#include "oplog/replay_internal.h"

enum { KEYS_MOST = 1000, DUPLICATE_KEY = 11000, KEY_BYTES_MOST = 8 * 1024 * 1024 };

typedef struct {
    tow_lane_t *lane;
    tow_namespace_t *collection;
    tow_dirty_key_t *keys[KEYS_MOST];
    bson_t *copies[KEYS_MOST]; /* of a capped collection: documents by the order of the keys */
    uint32_t count;
    tow_optime_t lo, hi;
} batch_t;

static void refused(void *data, void *tag, const tow_write_error_t *failure)
{
    batch_t *batch = data;
    tow_dirty_key_t *key = tag;

    /* A duplicate key is untangled; so is everything else that a replacement cannot do but delete and
     * insert can (an _id of another numeric type, a capped document that grows). Untangling ends with
     * an error that names the document when that does not help either. */
    key->failed = true;
    if (key->fresh)
        key->fresh = false; /* it is there already, as after a restart: replaced the next time */
    else
        tow_lane_conflict(batch->lane, key->collection, tow_dirty_id(key), failure->message);
}

static void begin_inserts(batch_t *batch)
{
    tow_write_begin(&batch->lane->inserts, TOW_WRITE_INSERT, batch->collection);
    batch->lane->inserts.strict = true;
}

static bool send(batch_t *batch, tow_write_t *write, tow_error_t *error)
{
    uint32_t matched;

    atomic_fetch_add(&batch->lane->replay->statements, write->count);
    return tow_write_send(write, batch->lane->destination, refused, batch, &matched, error);
}

/* A key that began with an insert is most likely not there yet: an insert costs a fraction. */
static bool add_insert(batch_t *batch, tow_dirty_key_t *key, const bson_t *document,
                       tow_error_t *error)
{
    tow_lane_t *lane = batch->lane;

    if (!tow_write_fits(&lane->inserts, document->len)) {
        if (!send(batch, &lane->inserts, error))
            return false;
        begin_inserts(batch);
    }
    tow_write_insert(&lane->inserts, document, key);
    return true;
}

static bool add_replace(batch_t *batch, tow_dirty_key_t *key, const bson_t *document,
                        tow_error_t *error)
{
    tow_lane_t *lane = batch->lane;
    tow_value_t id;

    if (key->fresh && !batch->collection->capped &&
        (tow_link_facts(lane->replay->options.destination)->bypass_empty_ts ||
         !tow_has_empty_timestamp(document)))
        return add_insert(batch, key, document, error);
    key->fresh = false;
    if (key->anew || !tow_is_updatable(document)) {
        key->anew = false;
        key->failed = true;
        tow_lane_conflict(lane, key->collection, tow_dirty_id(key), "cannot be written by update");
        return true;
    }
    if (!tow_write_fits(&lane->updates, document->len)) {
        if (!send(batch, &lane->updates, error))
            return false;
        tow_write_begin(&lane->updates, TOW_WRITE_UPDATE, batch->collection);
    }
    if (!tow_value_id(document, &id))
        id = tow_dirty_id(key);
    tow_write_replace(&lane->updates, id, document, key);
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

static bool take_document(batch_t *batch, const bson_t *document, tow_error_t *error)
{
    tow_lane_t *lane = batch->lane;
    tow_dirty_key_t *key;
    tow_value_t id;

    if (!tow_value_id(document, &id))
        return true;
    key = tow_dirty_find(lane->dirty, batch->collection, id,
                         tow_item_hash(batch->collection, id));
    if (!key || !key->in_flight || key->found)
        return true;
    key->found = true;
    if (!batch->collection->capped)
        return add_replace(batch, key, document, error);
    for (uint32_t i = 0; i < batch->count; i++)
        if (batch->keys[i] == key)
            batch->copies[i] = bson_copy(document);
    return true;
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
    tow_write_begin(&lane->updates, TOW_WRITE_UPDATE, batch->collection);
    tow_write_begin(&lane->deletes, TOW_WRITE_DELETE, batch->collection);
    begin_inserts(batch);
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
        if (batch->copies[i])
            ok = add_replace(batch, batch->keys[i], batch->copies[i], error);
        else if (!batch->keys[i]->found)
            tow_write_delete(&lane->deletes, tow_dirty_id(batch->keys[i]), batch->keys[i]);
    }
    /* What is gone goes first: it may free what a unique index holds. */
    ok = ok && send(batch, &lane->deletes, error) && send(batch, &lane->updates, error) &&
         send(batch, &lane->inserts, error);
    tow_reader_close(reader);
    bson_destroy(&filter);
    return ok;
}

/* Keys of a collation are not equal as we see them: all of them are deleted and inserted. */
static void untangle_all(batch_t *batch)
{
    for (uint32_t i = 0; i < batch->count; i++) {
        batch->keys[i]->failed = true;
        tow_lane_conflict(batch->lane, batch->collection, tow_dirty_id(batch->keys[i]),
                          "collection with a collation");
    }
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
    batch->count = tow_dirty_take(lane->dirty, batch->keys, KEYS_MOST);
    if (!batch->count) {
        free(batch);
        return false;
    }
    batch->collection = batch->keys[0]->collection;
    batch->lo = tow_link_read_time(replay->options.source);
    if (batch->collection->collated)
        untangle_all(batch);
    else
        ok = read_and_write(batch, &error);
    for (uint32_t i = 0; i < batch->count; i++) {
        tow_dirty_key_t *key = batch->keys[i];

        if (batch->copies[i])
            bson_destroy(batch->copies[i]);
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
