/* SPDX-License-Identifier: Apache-2.0 */
/* map.h: the documents of a differing range on one side, each as its _id, hash and length.
 *
 * Two of them are sorted and merged, which names every difference. A key may occur more than once
 * (on a sharded source `_id` is unique only within a shard; a document may have none): documents of
 * one key are compared as a multiset. */
#ifndef TOW_VERIFY_MAP_H
#define TOW_VERIFY_MAP_H

#include "engine/state/key.h"
#include "verify/digest.h"
#include "verify/verify.h"

typedef struct {
    tow_hash_t hash; /* of the document */
    uint64_t key;    /* tow_value_hash of the _id; equal for equal ids, seldom for others */
    size_t id_at;    /* into the map's ids */
    uint32_t id_length;
    uint32_t length; /* of the document */
    uint8_t id_type;
} tow_map_entry_t;

typedef struct {
    tow_map_entry_t *items;
    size_t count, capacity;
    tow_buffer_t ids; /* raw values, end to end */
} tow_map_t;

void tow_map_add(tow_map_t *map, tow_value_t id, uint64_t key, tow_hash_t hash, uint32_t length);
tow_value_t tow_map_id(const tow_map_t *map, const tow_map_entry_t *entry); /* borrowed */
void tow_map_clear(tow_map_t *map);                                         /* keeps the room */
void tow_map_free(tow_map_t *map);

/* Called for every difference: MISSING has no destination entry, EXTRA no source entry, DIFFERENT
 * both. */
typedef void (*tow_map_difference_fn)(void *data, tow_difference_kind_t kind,
                                      const tow_map_entry_t *source,
                                      const tow_map_entry_t *destination);
/* Sorts both maps. The entries handed out stay valid until the maps change. */
void tow_map_compare(tow_map_t *source, tow_map_t *destination, tow_map_difference_fn each,
                     void *data);

#endif
