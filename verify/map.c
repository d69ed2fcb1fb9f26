/* SPDX-License-Identifier: Apache-2.0 */
/* map.c: see map.h. */
#include "verify/map.h"

#include <stdlib.h>

void tow_map_add(tow_map_t *map, tow_value_t id, uint64_t key, tow_hash_t hash, uint32_t length)
{
    if (map->count == map->capacity) {
        map->capacity = map->capacity ? map->capacity * 2 : 64;
        map->items = tow_realloc(map->items, map->capacity * sizeof *map->items);
    }
    map->items[map->count++] = (tow_map_entry_t){.hash = hash,
                                                 .key = key,
                                                 .id_at = map->ids.length,
                                                 .id_length = id.length,
                                                 .length = length,
                                                 .id_type = id.type};
    tow_buffer_append(&map->ids, id.data, id.length);
}

tow_value_t tow_map_id(const tow_map_t *map, const tow_map_entry_t *entry)
{
    return (tow_value_t){.type = entry->id_type,
                         .length = entry->id_length,
                         .data = entry->id_length ? map->ids.data + entry->id_at : NULL};
}

void tow_map_clear(tow_map_t *map)
{
    map->count = 0;
    tow_buffer_clear(&map->ids);
}

void tow_map_free(tow_map_t *map)
{
    free(map->items);
    tow_buffer_free(&map->ids);
    *map = (tow_map_t){0};
}

/* By the key's hash first, which nearly always decides, then by the _id itself. */
static int compare_keys(const tow_map_t *a_map, const tow_map_entry_t *a, const tow_map_t *b_map,
                        const tow_map_entry_t *b)
{
    if (a->key != b->key)
        return a->key < b->key ? -1 : 1;
    return tow_value_compare(tow_map_id(a_map, a), tow_map_id(b_map, b));
}

static int compare_hashes(const tow_map_entry_t *a, const tow_map_entry_t *b)
{
    return (a->hash > b->hash) - (a->hash < b->hash);
}

static int by_key(const void *left, const void *right, void *data)
{
    const tow_map_entry_t *a = left, *b = right;
    int order = compare_keys(data, a, data, b);

    return order ? order : compare_hashes(a, b);
}

static size_t group_end(const tow_map_t *map, size_t start)
{
    size_t end = start + 1;

    while (end < map->count && compare_keys(map, &map->items[start], map, &map->items[end]) == 0)
        end++;
    return end;
}

/* Drops what stands on both sides with one hash; returns how many are left of each, moved to the
 * front of their groups. */
static void cancel_equal(tow_map_entry_t *a, size_t *a_count, tow_map_entry_t *b, size_t *b_count)
{
    size_t i = 0, j = 0, a_left = 0, b_left = 0;

    while (i < *a_count || j < *b_count) {
        int order = i == *a_count ? 1 : j == *b_count ? -1 : compare_hashes(&a[i], &b[j]);

        if (order == 0) {
            i++;
            j++;
        } else if (order < 0) {
            a[a_left++] = a[i++];
        } else {
            b[b_left++] = b[j++];
        }
    }
    *a_count = a_left;
    *b_count = b_left;
}

static void compare_group(tow_map_entry_t *a, size_t a_count, tow_map_entry_t *b, size_t b_count,
                          tow_map_difference_fn each, void *data)
{
    cancel_equal(a, &a_count, b, &b_count);
    for (size_t i = 0; i < a_count || i < b_count; i++) {
        if (i >= b_count)
            each(data, TOW_DIFFERENCE_MISSING, &a[i], NULL);
        else if (i >= a_count)
            each(data, TOW_DIFFERENCE_EXTRA, NULL, &b[i]);
        else
            each(data, TOW_DIFFERENCE_DIFFERENT, &a[i], &b[i]);
    }
}

void tow_map_compare(tow_map_t *source, tow_map_t *destination, tow_map_difference_fn each,
                     void *data)
{
    size_t i = 0, j = 0;

    if (source->count)
        qsort_r(source->items, source->count, sizeof *source->items, by_key, source);
    if (destination->count)
        qsort_r(destination->items, destination->count, sizeof *destination->items, by_key,
                destination);
    while (i < source->count || j < destination->count) {
        int order = i == source->count        ? 1
                    : j == destination->count ? -1
                                              : compare_keys(source, &source->items[i], destination,
                                                             &destination->items[j]);
        size_t i_end = order <= 0 ? group_end(source, i) : i;
        size_t j_end = order >= 0 ? group_end(destination, j) : j;

        compare_group(source->items ? source->items + i : NULL, i_end - i,
                      destination->items ? destination->items + j : NULL, j_end - j, each, data);
        i = i_end;
        j = j_end;
    }
}
