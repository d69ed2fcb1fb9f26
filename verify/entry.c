/* SPDX-License-Identifier: Apache-2.0 */
/* entry.c: see entry.h. */
#include "verify/entry.h"

#include <string.h>

#include "engine/link/reply.h"
#include "engine/state/store.h"

void tow_track_entry_to_bson(const tow_track_entry_t *entry, tow_verify_mode_t mode, uint64_t seed,
                             bson_t *out)
{
    uint64_t halves[2] = {BSON_UINT64_TO_LE((uint64_t)entry->digest.sum),
                          BSON_UINT64_TO_LE((uint64_t)(entry->digest.sum >> 64))};
    bson_t id, bounds;

    bson_init(out);
    bson_append_document_begin(out, "_id", -1, &id);
    bson_append_utf8(&id, "ns", -1, entry->ns, -1);
    bson_append_int32(&id, "n", -1, (int32_t)entry->range);
    bson_append_document_end(out, &id);
    bson_append_binary(out, "uuid", -1, BSON_SUBTYPE_UUID, entry->uuid, sizeof entry->uuid);
    bson_append_int32(out, "mode", -1, (int32_t)mode);
    bson_append_int64(out, "seed", -1, (int64_t)seed);
    bson_init(&bounds);
    if (entry->min.value_type != BSON_TYPE_EOD)
        bson_append_value(&bounds, "min", -1, &entry->min);
    if (entry->max.value_type != BSON_TYPE_EOD)
        bson_append_value(&bounds, "max", -1, &entry->max);
    tow_store_append_packed(out, "bounds", &bounds);
    bson_destroy(&bounds);
    bson_append_int64(out, "documents", -1, (int64_t)entry->digest.documents);
    bson_append_int64(out, "bytes", -1, (int64_t)entry->digest.bytes);
    bson_append_binary(out, "sum", -1, BSON_SUBTYPE_BINARY, (const uint8_t *)halves, sizeof halves);
}

/* Copies a binary of exactly that size. */
static bool parse_binary(const bson_iter_t *iter, void *out, uint32_t size)
{
    const uint8_t *data;
    uint32_t length;

    if (!BSON_ITER_HOLDS_BINARY(iter))
        return false;
    bson_iter_binary(iter, NULL, &length, &data);
    if (length != size)
        return false;
    memcpy(out, data, size);
    return true;
}

static bool parse_id(const bson_iter_t *iter, tow_track_entry_t *out)
{
    bson_iter_t child;
    const char *ns;

    if (!BSON_ITER_HOLDS_DOCUMENT(iter) || !bson_iter_recurse(iter, &child))
        return false;
    while (bson_iter_next(&child)) {
        if (!strcmp(bson_iter_key(&child), "ns") && !out->ns && tow_iter_text(&child, &ns))
            out->ns = tow_strdup(ns);
        else if (!strcmp(bson_iter_key(&child), "n"))
            out->range = (uint32_t)bson_iter_as_int64(&child);
    }
    return out->ns != NULL;
}

static void copy_bounds(const bson_t *bounds, tow_track_entry_t *out)
{
    bson_iter_t iter;

    if (bson_iter_init_find(&iter, bounds, "min"))
        bson_value_copy(bson_iter_value(&iter), &out->min);
    if (bson_iter_init_find(&iter, bounds, "max"))
        bson_value_copy(bson_iter_value(&iter), &out->max);
}

static bool parse_number(const bson_t *document, const char *name, int64_t *out)
{
    bson_iter_t iter;

    if (!bson_iter_init_find(&iter, document, name) || !BSON_ITER_HOLDS_NUMBER(&iter))
        return false;
    *out = bson_iter_as_int64(&iter);
    return true;
}

bool tow_track_entry_from_bson(const bson_t *document, tow_track_entry_t *out,
                               tow_verify_mode_t *out_mode, uint64_t *out_seed)
{
    tow_track_entry_t entry = {0};
    int64_t mode, seed, documents, bytes;
    uint64_t halves[2];
    bson_iter_t iter;
    bson_t bounds;

    if (!bson_iter_init_find(&iter, document, "bounds") || !tow_store_read_packed(&iter, &bounds) ||
        !bson_iter_init_find(&iter, document, "uuid") ||
        !parse_binary(&iter, entry.uuid, sizeof entry.uuid) ||
        !bson_iter_init_find(&iter, document, "sum") ||
        !parse_binary(&iter, halves, sizeof halves) || !parse_number(document, "mode", &mode) ||
        !parse_number(document, "seed", &seed) ||
        !parse_number(document, "documents", &documents) ||
        !parse_number(document, "bytes", &bytes) || !bson_iter_init_find(&iter, document, "_id") ||
        !parse_id(&iter, &entry))
        return false;
    copy_bounds(&bounds, &entry);
    entry.digest = (tow_digest_t){.documents = (uint64_t)documents,
                                  .bytes = (uint64_t)bytes,
                                  .sum = (tow_hash_t)BSON_UINT64_FROM_LE(halves[1]) << 64 |
                                         BSON_UINT64_FROM_LE(halves[0])};
    *out = entry;
    *out_mode = (tow_verify_mode_t)mode;
    *out_seed = (uint64_t)seed;
    return true;
}

void tow_track_changes_add(tow_track_changes_t *changes, const tow_track_entry_t *entry)
{
    /* The room grows by powers of two, so the count alone says when it is used up. */
    if ((changes->added_count & (changes->added_count - 1)) == 0)
        changes->added =
            tow_realloc(changes->added, (changes->added_count ? changes->added_count * 2 : 1) *
                                            sizeof *changes->added);
    changes->added[changes->added_count++] = *entry;
}
