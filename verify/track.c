/* SPDX-License-Identifier: Apache-2.0 */
/* track.c: see track.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "verify/track_internal.h"

tow_track_t *tow_track_new(void)
{
    tow_track_t *track = tow_alloc(sizeof *track);

    pthread_mutex_init(&track->lock, NULL);
    while (getrandom(&track->seed, sizeof track->seed, 0) != (ssize_t)sizeof track->seed)
        ;
    return track;
}

static TOW_REQUIRES(tow_track) void drop_keys(tow_track_t *track, tow_track_range_t *range)
{
    if (!range->keys)
        return;
    track->key_bytes -= range->keys->len;
    bson_destroy(range->keys);
    range->keys = NULL;
    range->key_count = 0;
}

static TOW_REQUIRES(tow_track) void open_range(tow_track_t *track, tow_track_range_t *range)
{
    drop_keys(track, range);
    range->equal = false;
    range->overflow = true; /* also for a reading that goes on */
}

static TOW_REQUIRES(tow_track) void remove_collection(tow_track_t *track,
                                                      tow_track_collection_t *collection)
{
    HASH_DEL(track->collections, collection);
    for (uint32_t i = 0; i < collection->count; i++)
        track->purge = track->purge || collection->ranges[i].saved;
    for (uint32_t i = 0; i < collection->count; i++) {
        drop_keys(track, &collection->ranges[i]);
        if (collection->ranges[i].min.value_type != BSON_TYPE_EOD)
            bson_value_destroy(&collection->ranges[i].min);
    }
    free(collection->ranges);
    free(collection->ns);
    free(collection);
}

static TOW_REQUIRES(tow_track) void remove_all(tow_track_t *track)
{
    tow_track_collection_t *collection, *next;

    HASH_ITER(hh, track->collections, collection, next)
        remove_collection(track, collection);
}

TOW_UNSHARED void tow_track_destroy(tow_track_t *track)
{
    if (!track)
        return;
    remove_all(track);
    pthread_mutex_destroy(&track->lock);
    free(track);
}

uint64_t tow_track_seed(const tow_track_t *track)
{
    return track->seed;
}

/* Opens the ranges of those whose namespace is `name`, or begins with it when it is a prefix. The
 * ranges stay, for a comparison may be at them. */
static void open_all(tow_track_t *track, const char *name, bool prefix)
{
    tow_track_collection_t *collection, *next;
    size_t length = strlen(name);

    tow_track_lock(track);
    HASH_ITER(hh, track->collections, collection, next) {
        if (prefix ? strncmp(collection->ns, name, length) != 0 : strcmp(collection->ns, name) != 0)
            continue;
        for (uint32_t i = 0; i < collection->count; i++)
            open_range(track, &collection->ranges[i]);
    }
    tow_track_unlock(track);
}

void tow_track_reset(tow_track_t *track)
{
    open_all(track, "", true);
}

void tow_track_gone(tow_track_t *track, const char *database, const char *collection)
{
    char ns[600];

    snprintf(ns, sizeof ns, "%s.%s", database, collection);
    open_all(track, ns, !*collection);
}

/* The lock is held. */
static TOW_REQUIRES(tow_track) tow_track_collection_t *find(tow_track_t *track, const char *ns)
{
    tow_track_collection_t *collection;

    HASH_FIND_STR(track->collections, ns, collection);
    return collection;
}

static TOW_REQUIRES(tow_track) tow_track_range_t *find_range(tow_track_t *track, const char *ns,
                                                             uint32_t range)
{
    tow_track_collection_t *collection = find(track, ns);

    return collection && range < collection->count ? &collection->ranges[range] : NULL;
}

/* The range that an _id belongs to: the last whose min is not above it. */
static tow_track_range_t *locate(const tow_track_collection_t *collection, const bson_value_t *id)
{
    uint32_t low = 0, high = collection->count;

    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;

        if (tow_bson_value_compare(&collection->ranges[middle].min, id) <= 0)
            low = middle;
        else
            high = middle;
    }
    return &collection->ranges[low];
}

static bool has_key(const tow_track_range_t *range, tow_value_t id, tow_track_side_t side)
{
    bson_iter_t iter;

    if (!range->keys || !bson_iter_init(&iter, range->keys))
        return false;
    while (bson_iter_next(&iter)) {
        tow_value_t other = tow_value_of(&iter);

        if (*bson_iter_key(&iter) == (char)side && other.type == id.type &&
            other.length == id.length && (!id.length || !memcmp(other.data, id.data, id.length)))
            return true;
    }
    return false;
}

static TOW_REQUIRES(tow_track) void note_key(tow_track_t *track, tow_track_range_t *range,
                                             tow_value_t id, tow_track_side_t side)
{
    char name[16];
    uint32_t before = range->keys ? range->keys->len : 0;

    if (has_key(range, id, side))
        return;
    if (range->key_count == TOW_TRACK_KEYS_MOST ||
        track->key_bytes + id.length > TOW_TRACK_KEY_BYTES) {
        open_range(track, range);
        return;
    }
    if (!range->keys)
        range->keys = bson_new();
    snprintf(name, sizeof name, "%c%u", (char)side, range->key_count++);
    tow_value_append(range->keys, name, -1, id);
    track->key_bytes += range->keys->len - before;
}

void tow_track_touch(tow_track_t *track, const char *database, const char *name, tow_value_t id,
                     tow_track_side_t side)
{
    char ns[600];
    tow_track_collection_t *collection;
    tow_track_range_t *range;
    bson_value_t value;

    snprintf(ns, sizeof ns, "%s.%s", database, name);
    tow_track_lock(track);
    collection = find(track, ns);
    if (collection && !collection->ordered) {
        open_range(track, &collection->ranges[0]);
    } else if (collection) {
        tow_value_to_bson(id, &value);
        range = locate(collection, &value);
        bson_value_destroy(&value);
        if (range->equal || (range->reading && !range->overflow))
            note_key(track, range, id, side);
    }
    tow_track_unlock(track);
}

bool tow_track_knows(tow_track_t *track, const char *ns, const uint8_t uuid[16])
{
    tow_track_collection_t *collection;

    tow_track_lock(track);
    collection = find(track, ns);
    if (collection && memcmp(collection->uuid, uuid, 16) != 0) {
        remove_collection(track, collection);
        collection = NULL;
    }
    if (collection)
        collection->seen = true;
    tow_track_unlock(track);
    return collection != NULL;
}

void tow_track_sweep(tow_track_t *track)
{
    tow_track_collection_t *collection, *next;

    tow_track_lock(track);
    HASH_ITER(hh, track->collections, collection, next) {
        if (!collection->seen)
            remove_collection(track, collection);
        else
            collection->seen = false;
    }
    tow_track_unlock(track);
}

void tow_track_set(tow_track_t *track, const char *ns, const uint8_t uuid[16],
                   const bson_value_t *bounds, uint32_t count, bool ordered)
{
    tow_track_collection_t *collection = tow_alloc(sizeof *collection), *old;

    collection->ns = tow_strdup(ns);
    memcpy(collection->uuid, uuid, 16);
    collection->ordered = ordered;
    collection->seen = true;
    collection->count = count + 1;
    collection->ranges = tow_alloc(collection->count * sizeof *collection->ranges);
    for (uint32_t i = 0; i < count; i++)
        bson_value_copy(&bounds[i], &collection->ranges[i + 1].min);
    tow_track_lock(track);
    old = find(track, ns);
    if (old)
        remove_collection(track, old);
    HASH_ADD_KEYPTR(hh, track->collections, collection->ns, strlen(collection->ns), collection);
    tow_track_unlock(track);
}

uint32_t tow_track_count(tow_track_t *track, const char *ns)
{
    tow_track_collection_t *collection;
    uint32_t count;

    tow_track_lock(track);
    collection = find(track, ns);
    count = collection ? collection->count : 0;
    tow_track_unlock(track);
    return count;
}

void tow_track_bounds(tow_track_t *track, const char *ns, uint32_t number, bson_value_t *out_min,
                      bson_value_t *out_max)
{
    tow_track_range_t *range, *next;

    out_min->value_type = out_max->value_type = BSON_TYPE_EOD;
    tow_track_lock(track);
    range = find_range(track, ns, number);
    next = find_range(track, ns, number + 1);
    if (range && range->min.value_type != BSON_TYPE_EOD)
        bson_value_copy(&range->min, out_min);
    if (next)
        bson_value_copy(&next->min, out_max);
    tow_track_unlock(track);
}

tow_track_state_t tow_track_state(tow_track_t *track, const char *ns, uint32_t number,
                                  tow_digest_t *out_digest)
{
    tow_track_state_t state = TOW_TRACK_OPEN;
    const tow_track_range_t *range;

    tow_track_lock(track);
    range = find_range(track, ns, number);
    if (range && range->equal) {
        state = range->keys ? TOW_TRACK_KEYS : TOW_TRACK_EQUAL;
        *out_digest = range->digest;
    }
    tow_track_unlock(track);
    return state;
}

void tow_track_begin(tow_track_t *track, const char *ns, uint32_t number)
{
    tow_track_range_t *range;

    tow_track_lock(track);
    range = find_range(track, ns, number);
    if (range) {
        drop_keys(track, range);
        range->reading = true;
        range->equal = range->overflow = false;
    }
    tow_track_unlock(track);
}

void tow_track_equal(tow_track_t *track, const char *ns, uint32_t number,
                     const tow_digest_t *digest)
{
    tow_track_range_t *range;

    tow_track_lock(track);
    range = find_range(track, ns, number);
    if (range && range->reading) {
        range->reading = false;
        range->digest = *digest;
        range->equal = !range->overflow;
    }
    tow_track_unlock(track);
}

void tow_track_take_keys(tow_track_t *track, const char *ns, uint32_t number, bson_t *out)
{
    tow_track_range_t *range;

    bson_init(out);
    tow_track_lock(track);
    range = find_range(track, ns, number);
    if (range && range->keys) {
        bson_concat(out, range->keys);
        drop_keys(track, range);
    }
    tow_track_unlock(track);
}

void tow_track_open(tow_track_t *track, const char *ns, uint32_t number)
{
    tow_track_range_t *range;

    tow_track_lock(track);
    range = find_range(track, ns, number);
    if (range)
        open_range(track, range);
    tow_track_unlock(track);
}

void tow_track_totals(tow_track_t *track, tow_track_totals_t *out)
{
    tow_track_collection_t *collection, *next;

    *out = (tow_track_totals_t){0};
    tow_track_lock(track);
    out->bytes = sizeof *track + track->key_bytes;
    HASH_ITER(hh, track->collections, collection, next) {
        out->ranges += collection->count;
        out->bytes += sizeof *collection + collection->count * sizeof *collection->ranges;
        for (uint32_t i = 0; i < collection->count; i++) {
            const tow_track_range_t *range = &collection->ranges[i];

            out->open += !range->equal;
            out->keys += range->equal ? range->key_count : 0;
            out->bytes += range->keys ? sizeof *range->keys : 0;
        }
    }
    tow_track_unlock(track);
}
