/* SPDX-License-Identifier: Apache-2.0 */
/* track_changes.c: what of a track is stored, and how one begins with what was stored. */
#include <stdlib.h>
#include <string.h>

#include "verify/track_internal.h"

/* Ranges of collections without a shared order are one each, and opened by any write: they are not
 * worth it. */
static bool is_clean(const tow_track_collection_t *collection, const tow_track_range_t *range)
{
    return collection->ordered && range->equal && !range->keys;
}

static void copy_bound(const bson_value_t *from, bson_value_t *out)
{
    out->value_type = BSON_TYPE_EOD;
    if (from && from->value_type != BSON_TYPE_EOD)
        bson_value_copy(from, out);
}

static void add_entry(tow_track_entry_t **list, uint32_t *count,
                      const tow_track_collection_t *collection, uint32_t number)
{
    const tow_track_range_t *range = &collection->ranges[number];
    tow_track_entry_t *entry;

    if ((*count & (*count - 1)) == 0)
        *list = tow_realloc(*list, (*count ? *count * 2 : 1) * sizeof **list);
    entry = &(*list)[(*count)++];
    *entry = (tow_track_entry_t){
        .ns = tow_strdup(collection->ns), .range = number, .digest = range->digest};
    memcpy(entry->uuid, collection->uuid, sizeof entry->uuid);
    copy_bound(&range->min, &entry->min);
    copy_bound(number + 1 < collection->count ? &range[1].min : NULL, &entry->max);
}

void tow_track_changes(tow_track_t *track, tow_track_changes_t *out)
{
    tow_track_collection_t *collection, *next;

    *out = (tow_track_changes_t){0};
    tow_track_lock(track);
    out->all = track->purge;
    track->purge = false;
    HASH_ITER(hh, track->collections, collection, next)
        for (uint32_t i = 0; i < collection->count; i++) {
            tow_track_range_t *range = &collection->ranges[i];

            if (out->all)
                range->saved = false;
            if (range->saved == is_clean(collection, range))
                continue;
            if (range->saved)
                add_entry(&out->removed, &out->removed_count, collection, i);
            else
                add_entry(&out->added, &out->added_count, collection, i);
            range->saved = !range->saved;
        }
    tow_track_unlock(track);
}

static void clear_entries(tow_track_entry_t *entries, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        free(entries[i].ns);
        if (entries[i].min.value_type != BSON_TYPE_EOD)
            bson_value_destroy(&entries[i].min);
        if (entries[i].max.value_type != BSON_TYPE_EOD)
            bson_value_destroy(&entries[i].max);
    }
    free(entries);
}

void tow_track_changes_clear(tow_track_changes_t *changes)
{
    clear_entries(changes->removed, changes->removed_count);
    clear_entries(changes->added, changes->added_count);
    *changes = (tow_track_changes_t){0};
}

void tow_track_unsaved(tow_track_t *track)
{
    tow_track_lock(track);
    track->purge = true;
    tow_track_unlock(track);
}

/* Restoring -------------------------------------------------------------------------------------*/

/* An open min is the least of all. */
static int by_place(const void *left, const void *right)
{
    const tow_track_entry_t *a = left, *b = right;
    int order = strcmp(a->ns, b->ns);

    if (order)
        return order;
    if (a->min.value_type == BSON_TYPE_EOD || b->min.value_type == BSON_TYPE_EOD)
        return (a->min.value_type != BSON_TYPE_EOD) - (b->min.value_type != BSON_TYPE_EOD);
    return tow_bson_value_compare(&a->min, &b->min);
}

/* Whether `b` begins where `a` ends, or behind it. */
static bool is_behind(const tow_track_entry_t *a, const tow_track_entry_t *b)
{
    return a->max.value_type != BSON_TYPE_EOD && b->min.value_type != BSON_TYPE_EOD &&
           tow_bson_value_compare(&a->max, &b->min) <= 0;
}

static void add_range(tow_track_collection_t *collection, const bson_value_t *min,
                      const tow_track_entry_t *entry)
{
    tow_track_range_t *range;

    /* At most a gap before each entry and one at the end. */
    range = &collection->ranges[collection->count++];
    copy_bound(min, &range->min);
    if (entry) {
        range->digest = entry->digest;
        range->equal = true;
    }
}

/* One collection's entries, in order, that do not overlap. */
static TOW_REQUIRES(tow_track) void restore_collection(tow_track_t *track,
                                                       const tow_track_entry_t *const *entries,
                                                       uint32_t count)
{
    tow_track_collection_t *collection = tow_alloc(sizeof *collection);
    const bson_value_t *end = NULL; /* of the range before; NULL: the beginning */

    collection->ns = tow_strdup(entries[0]->ns);
    memcpy(collection->uuid, entries[0]->uuid, sizeof collection->uuid);
    collection->ordered = collection->seen = true;
    collection->ranges = tow_alloc((2 * (size_t)count + 1) * sizeof *collection->ranges);
    for (uint32_t i = 0; i < count; i++) {
        const tow_track_entry_t *entry = entries[i];
        bool adjoins = end ? tow_bson_value_compare(end, &entry->min) == 0
                           : entry->min.value_type == BSON_TYPE_EOD;

        if (!adjoins)
            add_range(collection, end, NULL);
        add_range(collection, &entry->min, entry);
        end = &entry->max;
    }
    if (end->value_type != BSON_TYPE_EOD)
        add_range(collection, end, NULL);
    HASH_ADD_KEYPTR(hh, track->collections, collection->ns, strlen(collection->ns), collection);
}

void tow_track_restore(tow_track_t *track, uint64_t seed, tow_track_entry_t *entries,
                       uint32_t count)
{
    const tow_track_entry_t **group = tow_alloc((count + 1) * sizeof *group);

    if (count)
        qsort(entries, count, sizeof *entries, by_place);
    tow_track_lock(track);
    track->seed = seed;
    track->purge = true; /* the numbers of the ranges are other ones now */
    for (uint32_t i = 0; i < count;) {
        uint32_t members = 0, first = i;

        for (; i < count && !strcmp(entries[i].ns, entries[first].ns); i++)
            if (!members || (!memcmp(entries[i].uuid, entries[first].uuid, 16) &&
                             is_behind(group[members - 1], &entries[i])))
                group[members++] = &entries[i];
        restore_collection(track, group, members);
    }
    tow_track_unlock(track);
    free(group);
}
