/* SPDX-License-Identifier: Apache-2.0 */
/* capped_older.c: documents of a log that are not new: those that were updated where they are, and
 * those that a source deletes by itself (5.0+). */
#include <stdlib.h>
#include <xxhash.h>

#include "engine/state/selection.h"
#include "oplog/capped.h"

typedef struct {
    bool there[2];      /* at the source, at the destination */
    XXH128_hash_t hash; /* of the destination's document */
} older_t;

typedef struct {
    older_t *items; /* one for each key */
    tow_write_t write;
    tow_error_t *error;
    bool ok, destination;
} patching_t;

static void patch(tow_continuing_t *log, patching_t *patching, tow_value_t id,
                  const bson_t *document)
{
    tow_write_t *write = &patching->write;

    if (!tow_is_replaceable(document, tow_link_facts(tow_log_options(log)->destination))) {
        tow_log_give_up(log, "a document was updated that this server takes by insert alone");
        return;
    }
    if (!tow_write_fits(write, id.length + document->len)) {
        patching->ok = tow_log_send(log, write, patching->error);
        tow_write_begin(write, TOW_WRITE_UPDATE, log->collection);
    }
    tow_write_replace_present(write, id, document, NULL);
    if (tow_has_empty_timestamp(document))
        tow_write_timestamps(write, id, document, NULL);
}

/* Of the destination: notes what it has. Of the source, afterwards: replaces what is different.
 * What the destination has no more its cap has dropped. */
static bool take_older(tow_continuing_t *log, const bson_t *document, void *data)
{
    patching_t *patching = data;
    XXH128_hash_t hash = XXH3_128bits(bson_get_data(document), document->len);
    tow_dirty_key_t *key;
    tow_value_t id = {0};

    tow_value_id(document, &id);
    key = tow_dirty_find(log->lane->dirty, log->keys[0]->collection, id,
                         tow_item_hash(log->collection, id));
    for (uint32_t i = 0; key && i < log->key_count; i++) {
        older_t *item = &patching->items[i];

        if (log->keys[i] != key)
            continue;
        item->there[patching->destination] = true;
        if (patching->destination)
            item->hash = hash;
        else if (item->there[true] && !XXH128_isEqual(item->hash, hash))
            patch(log, patching, id, document);
        return patching->ok && !log->apart;
    }
    tow_log_note_stranger(log, id);
    return patching->ok && !log->apart;
}

/* Keys that were not added: false when there are none. */
static bool select_older(const tow_continuing_t *log, bson_t *out)
{
    tow_selection_t selection;

    tow_selection_begin(&selection);
    for (uint32_t i = 0; i < log->key_count; i++)
        if (!log->keys[i]->found)
            tow_selection_add(&selection, tow_dirty_id(log->keys[i]));
    tow_selection_end(&selection, out);
    return selection.bounds.count > 0;
}

typedef struct {
    const patching_t *patching;
    uint32_t
        left; /* keys that are gone at the source, and not met yet in the destination's order */
} gone_t;

static bool is_gone(const tow_continuing_t *log, const patching_t *patching, uint32_t i)
{
    return !log->keys[i]->found && patching->items[i].there[true] &&
           !patching->items[i].there[false];
}

static bool take_head(tow_continuing_t *log, const bson_t *document, void *data)
{
    gone_t *gone = data;
    tow_value_t id = {0};
    uint64_t hash;

    tow_value_id(document, &id);
    hash = tow_value_hash(id);
    for (uint32_t i = 0; i < log->key_count; i++)
        if (is_gone(log, gone->patching, i) && tow_value_hash(tow_dirty_id(log->keys[i])) == hash) {
            gone->left--;
            break;
        }
    return gone->left > 0;
}

/* Those that are older than all that the source has were dropped by its cap, and the destination's
 * will drop them. Others were deleted. */
static bool look_for_deleted(tow_continuing_t *log, const patching_t *patching, uint32_t count,
                             tow_error_t *error)
{
    gone_t gone = {patching, count};
    bool met;

    if (!tow_log_each_head(log, take_head, &gone, &met, error))
        return false;
    if (gone.left)
        tow_log_give_up(log, "a document was deleted at the source, which this server cannot do");
    return true;
}

/* Where a source deletes nothing from a capped collection, its cap did it, and the destination's
 * will. */
static bool delete_gone(tow_continuing_t *log, patching_t *patching, tow_error_t *error)
{
    tow_write_t *write = &patching->write;
    uint32_t count = 0;

    if (!tow_log_may_delete(tow_log_options(log)->source))
        return true;
    tow_write_begin(write, TOW_WRITE_DELETE, log->collection);
    for (uint32_t i = 0; i < log->key_count; i++)
        if (is_gone(log, patching, i)) {
            tow_write_delete(write, tow_dirty_id(log->keys[i]), NULL);
            count++;
        }
    if (!count || tow_log_may_delete(tow_log_options(log)->destination))
        return tow_log_send(log, write, error);
    return look_for_deleted(log, patching, count, error);
}

bool tow_log_write_older(tow_continuing_t *log, tow_error_t *error)
{
    patching_t patching = {.error = error, .ok = true, .destination = true};
    bson_t filter;
    bool ok, end;

    if (!select_older(log, &filter)) {
        bson_destroy(&filter);
        return true;
    }
    patching.items = tow_alloc(log->key_count * sizeof *patching.items);
    tow_write_begin(&patching.write, TOW_WRITE_UPDATE, log->collection);
    ok = tow_log_read(log, log->lane->destination, &(tow_read_t){.filter = &filter}, take_older,
                      &patching, &end, error);
    patching.destination = false;
    ok = ok &&
         tow_log_read(log, log->lane->source, &(tow_read_t){.filter = &filter}, take_older,
                      &patching, &end, error) &&
         patching.ok;
    if (ok && !log->apart)
        ok = tow_log_send(log, &patching.write, error) &&
             (log->apart || delete_gone(log, &patching, error));
    tow_write_clear(&patching.write);
    free(patching.items);
    bson_destroy(&filter);
    return ok;
}
