/* SPDX-License-Identifier: Apache-2.0 */
/* readings.c: reads a range on both sides, and finds out which of its documents differ.
 *
 * A range is read once on both sides, with a digest for each of many buckets (by hash of the _id)
 * besides the sum of all. A range of few documents is mapped at the same time, so that a difference
 * needs no second reading. Of a larger one that differs the documents of differing buckets are read
 * again and mapped, in parts of bounded size. What counts for the totals is always the last reading
 * of a document. */
#include <stdlib.h>

#include "verify/internal.h"

enum {
    MAP_DOCUMENTS = 131072, /* mapped at a time on either side: about 8 MB */
    MAP_AT_ONCE = 16384,    /* mapped by the first reading: about 1 MB */
    BUCKET_DOCUMENTS = 64,  /* wanted in a bucket … */
    BUCKET_ENOUGH = 64,     /* … and so many times more are put up with */
    BUCKETS_MOST = 65536,   /* 2 MB of digests on either side */
    BUCKETS_LEAST = 64,
    BATCH_BYTES = 2 << 20, /* what a processor's cache holds is hashed without going to memory */
    BATCH_LEAST = 100,
    BATCH_UNKNOWN = 2000,
    BATCH_MOST = 10000
};

static void reset_reading(void *data)
{
    tow_reading_t *reading = data;

    if (reading->sequence)
        tow_sequence_reset(reading->sequence);
    reading->digest = (tow_digest_t){0};
    for (uint32_t i = 0; reading->buckets && i < reading->bucket_count; i++)
        reading->buckets[i] = (tow_digest_t){0};
    tow_map_clear(&reading->map);
}

/* The number of documents may have been far too low: a map that would grow beyond its room is given
 * up. */
static void map_document(tow_reading_t *reading, tow_value_t id, uint64_t key, tow_hash_t hash,
                         uint32_t length)
{
    if (reading->map.count == reading->map_most) {
        reading->mapping = false;
        tow_map_clear(&reading->map);
        return;
    }
    tow_map_add(&reading->map, id, key, hash, length);
}

static void read_document(void *data, const bson_t *document)
{
    tow_reading_t *reading = data;
    tow_value_t id = {0};
    uint64_t key = 0;
    uint32_t bucket = 0;
    tow_hash_t hash;

    if (reading->bucket_count || reading->mapping) {
        tow_value_id(document, &id);
        key = tow_value_hash(id);
    }
    if (reading->bucket_count) {
        bucket = (uint32_t)key & (reading->bucket_count - 1);
        if (reading->selected && !reading->selected[bucket])
            return;
    }
    hash = tow_verify_hash(reading->mode, reading->seed, document, &reading->scratch);
    tow_digest_add(&reading->digest, hash, document->len);
    if (reading->sequence)
        tow_sequence_add(reading->sequence, hash, document->len);
    if (reading->buckets)
        tow_digest_add(&reading->buckets[bucket], hash, document->len);
    if (reading->mapping)
        map_document(reading, id, key, hash, document->len);
}

static int32_t batch_documents(const tow_verify_item_t *item)
{
    uint64_t wanted = item->bytes ? item->documents * BATCH_BYTES / item->bytes : BATCH_UNKNOWN;

    return (int32_t)(wanted < BATCH_LEAST  ? BATCH_LEAST
                     : wanted > BATCH_MOST ? BATCH_MOST
                                           : wanted);
}

static bool read_side(tow_verify_side_t *side, void *data, tow_error_t *error)
{
    tow_reading_t *reading = data;
    tow_verify_unit_t *unit = reading->unit;
    const tow_collection_info_t *info =
        side->which == TOW_SOURCE ? unit->item->source : unit->item->destination;
    tow_read_t what = {.database = unit->item->database,
                       .collection = unit->item->name,
                       .min = unit->has_min ? &unit->min : NULL,
                       .max = unit->has_max ? &unit->max : NULL,
                       .natural = info && info->capped,
                       .clustered = info && info->clustered,
                       .batch_documents = batch_documents(unit->item)};
    tow_visitor_t visitor = {reset_reading, read_document, reading,
                             .progress = reading->first && side->which == TOW_SOURCE};

    if (!info) {
        reset_reading(reading);
        return true;
    }
    return tow_side_read(side, &what, &visitor, error);
}

void tow_readings_prepare(tow_verify_pair_t *pair, tow_verify_unit_t *unit, tow_reading_t out[2])
{
    for (int which = TOW_SOURCE; which <= TOW_DESTINATION; which++)
        out[which] = (tow_reading_t){
            .unit = unit, .seed = pair->run->seed, .mode = pair->run->options->mode};
}

static void use_buckets(tow_reading_t readings[2], uint64_t documents)
{
    uint32_t count = BUCKETS_LEAST;

    while (count < BUCKETS_MOST && (uint64_t)count * BUCKET_DOCUMENTS < documents)
        count *= 2;
    for (int which = TOW_SOURCE; which <= TOW_DESTINATION; which++) {
        free(readings[which].buckets);
        readings[which].bucket_count = count;
        readings[which].buckets = tow_alloc(count * sizeof *readings[which].buckets);
    }
}

void tow_readings_begin(tow_reading_t readings[2], uint64_t documents)
{
    use_buckets(readings, documents);
    for (int which = TOW_SOURCE; which <= TOW_DESTINATION; which++) {
        readings[which].mapping = documents <= MAP_AT_ONCE;
        readings[which].map_most = 2 * MAP_AT_ONCE;
    }
    readings[TOW_SOURCE].first = true;
}

/* So many documents in each bucket that looking for a few would mean reading them all, part by
 * part. */
static bool are_coarse(const tow_reading_t readings[2], uint64_t documents)
{
    uint32_t count = readings[TOW_SOURCE].bucket_count;

    return count < BUCKETS_MOST && documents > (uint64_t)count * BUCKET_DOCUMENTS * BUCKET_ENOUGH;
}

void tow_readings_free(tow_reading_t readings[2])
{
    for (int which = TOW_SOURCE; which <= TOW_DESTINATION; which++) {
        free(readings[which].buckets);
        tow_map_free(&readings[which].map);
        tow_buffer_free(&readings[which].scratch);
    }
}

bool tow_readings_read(tow_verify_pair_t *pair, tow_reading_t readings[2], tow_error_t *error)
{
    return tow_pair_run(pair, read_side, &readings[TOW_SOURCE], &readings[TOW_DESTINATION], error);
}

/* Reports what differs among the documents that were mapped, and adds them to the totals. */
static bool locate_mapped(tow_verify_pair_t *pair, tow_verify_unit_t *unit,
                          const tow_reading_t readings[2], tow_digest_t totals[2],
                          tow_error_t *error)
{
    tow_map_t maps[2] = {readings[TOW_SOURCE].map, readings[TOW_DESTINATION].map};
    tow_digest_t digests[2] = {readings[TOW_SOURCE].digest, readings[TOW_DESTINATION].digest};

    if (!tow_verify_locate(pair, unit, maps, digests, error))
        return false;
    for (int which = TOW_SOURCE; which <= TOW_DESTINATION; which++)
        tow_digest_merge(&totals[which], &digests[which]);
    return true;
}

/* Maps the selected documents, about so many, reports what differs among them, and adds them to the
 * totals. */
static bool map_part(tow_verify_pair_t *pair, tow_verify_unit_t *unit, uint32_t bucket_count,
                     const uint8_t *selected, uint64_t documents, tow_digest_t totals[2],
                     tow_error_t *error)
{
    tow_reading_t readings[2];
    bool ok;

    tow_readings_prepare(pair, unit, readings);
    for (int which = TOW_SOURCE; which <= TOW_DESTINATION; which++) {
        readings[which].mapping = true;
        readings[which].map_most = MAP_DOCUMENTS + 2 * documents;
        readings[which].bucket_count = bucket_count;
        readings[which].selected = selected;
    }
    ok = tow_readings_read(pair, readings, error) &&
         ((readings[TOW_SOURCE].mapping && readings[TOW_DESTINATION].mapping) ||
          tow_fail(error, TOW_ERROR_SERVER,
                   "a range of %s has more than twice the documents that it had a moment before",
                   unit->item->ns)) &&
         locate_mapped(pair, unit, readings, totals, error);
    tow_readings_free(readings);
    return ok;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* Equal buckets go into the totals as they are, differing ones are mapped, as many at a time as
 * fit. */
static bool map_buckets(tow_verify_pair_t *pair, tow_verify_unit_t *unit,
                        const tow_reading_t readings[2], tow_digest_t totals[2], tow_error_t *error)
{
    const tow_digest_t *source = readings[TOW_SOURCE].buckets;
    const tow_digest_t *destination = readings[TOW_DESTINATION].buckets;
    uint32_t count = readings[TOW_SOURCE].bucket_count, next = 0;
    uint8_t *selected = tow_alloc(count);
    bool ok = true;

    while (ok && next < count) {
        uint64_t documents = 0;
        uint32_t start = next;

        for (; next < count; next++) {
            uint64_t in_bucket = larger(source[next].documents, destination[next].documents);

            if (tow_digest_equal(&source[next], &destination[next])) {
                tow_digest_merge(&totals[TOW_SOURCE], &source[next]);
                tow_digest_merge(&totals[TOW_DESTINATION], &destination[next]);
                continue;
            }
            if (documents && documents + in_bucket > MAP_DOCUMENTS)
                break;
            documents += in_bucket;
            selected[next] = 1;
        }
        if (documents)
            ok = map_part(pair, unit, count, selected, documents, totals, error);
        for (uint32_t i = start; i < next; i++)
            selected[i] = 0;
    }
    free(selected);
    return ok;
}

void tow_verify_add_totals(tow_verify_pair_t *pair, tow_verify_item_t *item,
                           const tow_digest_t totals[2])
{
    pthread_mutex_lock(&pair->run->lock);
    for (int which = TOW_SOURCE; which <= TOW_DESTINATION; which++)
        tow_digest_merge(&item->totals[which], &totals[which]);
    pthread_mutex_unlock(&pair->run->lock);
}

bool tow_readings_locate(tow_verify_pair_t *pair, tow_verify_unit_t *unit,
                         tow_reading_t readings[2], tow_digest_t totals[2], tow_error_t *error)
{
    uint64_t on_source = readings[TOW_SOURCE].digest.documents;
    uint64_t on_destination = readings[TOW_DESTINATION].digest.documents;

    /* With one side empty the number is known, and the names only matter while there is room. */
    if ((on_source == 0 || on_destination == 0) && tow_verify_list_full(pair->run) &&
        !pair->run->options->repair) {
        tow_verify_count(pair->run, unit->item, on_source + on_destination);
        totals[TOW_SOURCE] = readings[TOW_SOURCE].digest;
        totals[TOW_DESTINATION] = readings[TOW_DESTINATION].digest;
        return true;
    }
    if (readings[TOW_SOURCE].mapping && readings[TOW_DESTINATION].mapping)
        return locate_mapped(pair, unit, readings, totals, error);
    readings[TOW_SOURCE].mapping = readings[TOW_DESTINATION].mapping = false;
    if (are_coarse(readings, larger(on_source, on_destination))) {
        use_buckets(readings, larger(on_source, on_destination));
        readings[TOW_SOURCE].first = false;
        if (!tow_readings_read(pair, readings, error))
            return false;
    }
    return map_buckets(pair, unit, readings, totals, error);
}
