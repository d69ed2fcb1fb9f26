/* SPDX-License-Identifier: Apache-2.0 */
/* compare.c: compares one range, and cuts collections into ranges. */
#include <stdlib.h>

#include "verify/internal.h"

enum { RANGES_MOST = 8192 };

static bool compare_keys(tow_verify_pair_t *pair, tow_verify_unit_t *unit, tow_error_t *error)
{
    tow_verify_run_t *run = pair->run;
    tow_track_t *track = run->options->track;
    const char *ns = unit->item->ns;
    tow_digest_t digests[2] = {{0}, {0}};
    bson_t keys;
    bool ok;

    tow_track_state(track, ns, unit->range, &digests[TOW_SOURCE]);
    digests[TOW_DESTINATION] = digests[TOW_SOURCE];
    tow_track_take_keys(track, ns, unit->range, &keys);
    ok = tow_verify_locate_keys(
        pair, unit, &keys, digests[TOW_SOURCE].bytes / (digests[TOW_SOURCE].documents + 1), error);
    if (!ok || unit->unequal)
        tow_track_open(track, ns, unit->range);
    if (ok) {
        tow_verify_add_totals(pair, unit->item, digests);
        pthread_mutex_lock(&run->lock);
        run->report->keys_read += bson_count_keys(&keys);
        pthread_mutex_unlock(&run->lock);
    }
    bson_destroy(&keys);
    return ok;
}

static bool compare_range(tow_verify_pair_t *pair, tow_verify_unit_t *unit, tow_error_t *error)
{
    tow_verify_run_t *run = pair->run;
    tow_track_t *track = run->options->track;
    tow_digest_t totals[2] = {{0}, {0}};
    tow_reading_t readings[2];
    bool ok;

    if (track)
        tow_track_begin(track, unit->item->ns, unit->range);

    tow_readings_prepare(pair, unit, readings);
    tow_readings_begin(readings, unit->documents);
    ok = tow_readings_read(pair, readings, error);
    if (ok && tow_digest_equal(&readings[TOW_SOURCE].digest, &readings[TOW_DESTINATION].digest)) {
        totals[TOW_SOURCE] = readings[TOW_SOURCE].digest;
        totals[TOW_DESTINATION] = readings[TOW_DESTINATION].digest;
    } else if (ok) {
        ok = tow_readings_locate(pair, unit, readings, totals, error);
    }
    if (ok) {
        tow_verify_add_totals(pair, unit->item, totals);
        pthread_mutex_lock(&run->lock);
        run->report->ranges_read++;
        pthread_mutex_unlock(&run->lock);
    }
    if (ok && track && !unit->unequal &&
        tow_digest_equal(&totals[TOW_SOURCE], &totals[TOW_DESTINATION]))
        tow_track_equal(track, unit->item->ns, unit->range, &totals[TOW_SOURCE]);
    tow_readings_free(readings);
    return ok;
}

bool tow_verify_unit_compare(tow_verify_pair_t *pair, tow_verify_unit_t *unit, tow_error_t *error)
{
    bool ok = unit->keys_only      ? compare_keys(pair, unit, error)
              : unit->item->capped ? tow_verify_compare_log(pair, unit, error)
                                   : compare_range(pair, unit, error);

    return ok ? true : tow_fail_context(error, "compare %s", unit->item->ns);
}

/*

 *
 *
 * * Ranges ----------------------------------------------------------------------------------------
 */

void tow_verify_unit_destroy(tow_verify_unit_t *unit)
{
    if (unit->has_min)
        bson_value_destroy(&unit->min);
    if (unit->has_max)
        bson_value_destroy(&unit->max);
    free(unit);
}

static tow_verify_unit_t *add_unit(tow_verify_item_t *item, const bson_value_t *min,
                                   const bson_value_t *max, tow_verify_unit_t **list)
{
    tow_verify_unit_t *unit = tow_alloc(sizeof *unit);

    unit->item = item;
    if ((unit->has_min = min != NULL))
        bson_value_copy(min, &unit->min);
    if ((unit->has_max = max != NULL))
        bson_value_copy(max, &unit->max);
    unit->next = *list;
    *list = unit;
    return unit;
}

static uint32_t count_ranges(const tow_verify_pair_t *pair, const tow_verify_item_t *item)
{
    const tow_verify_options_t *options = pair->run->options;
    uint64_t wanted = item->bytes / options->range_bytes + 1;

    if (!item->ordered || item->bytes <= options->whole_bytes)
        return 1;
    return wanted < RANGES_MOST ? (uint32_t)wanted : RANGES_MOST;
}

typedef struct {
    const tow_verify_item_t *item;
    uint32_t wanted;
    bson_value_t *bounds;
    uint32_t count;
} split_t;

/* Bounds come from the source; from the destination only when the source has no such collection. */
static bool split_side(tow_verify_side_t *side, void *data, tow_error_t *error)
{
    split_t *split = data;
    const tow_verify_item_t *item = split->item;
    const tow_collection_info_t *info = item->source ? item->source : item->destination;

    if (side->which != (item->source ? TOW_SOURCE : TOW_DESTINATION))
        return true;
    return tow_split_bounds(side->conn, info, item->documents, split->wanted,
                            tow_bson_value_compare, &split->bounds, &split->count, error);
}

static bool sample(tow_verify_pair_t *pair, tow_verify_item_t *item, split_t *out,
                   tow_error_t *error)
{
    *out = (split_t){.item = item, .wanted = count_ranges(pair, item)};
    if (out->wanted > 1 && !tow_pair_run(pair, split_side, out, out, error))
        return tow_fail_context(error, "compare %s", item->ns);
    return true;
}

/* Units for the ranges of the track that are not equal; the others go into the totals
 * as they are. */
static tow_verify_unit_t *tracked_units(tow_verify_pair_t *pair, tow_verify_item_t *item)
{
    tow_track_t *track = pair->run->options->track;
    uint32_t count = tow_track_count(track, item->ns), kept = 0;
    tow_verify_unit_t *units = NULL;

    for (uint32_t i = 0; i < count; i++) {
        tow_digest_t digests[2];
        tow_track_state_t state = tow_track_state(track, item->ns, i, &digests[TOW_SOURCE]);
        bson_value_t bounds[2];

        kept += state != TOW_TRACK_OPEN;
        if (state != TOW_TRACK_OPEN)
            tow_verify_progress(pair->run, digests[TOW_SOURCE].documents,
                                digests[TOW_SOURCE].bytes);
        if (state == TOW_TRACK_EQUAL) {
            digests[TOW_DESTINATION] = digests[TOW_SOURCE];
            tow_verify_add_totals(pair, item, digests);
            continue;
        }
        tow_track_bounds(track, item->ns, i, &bounds[0], &bounds[1]);
        add_unit(item, bounds[0].value_type == BSON_TYPE_EOD ? NULL : &bounds[0],
                 bounds[1].value_type == BSON_TYPE_EOD ? NULL : &bounds[1], &units);
        units->range = i;
        units->keys_only = state == TOW_TRACK_KEYS;
        units->documents = item->documents / count;
        for (int end = 0; end < 2; end++)
            if (bounds[end].value_type != BSON_TYPE_EOD)
                bson_value_destroy(&bounds[end]);
    }
    pthread_mutex_lock(&pair->run->lock);
    pair->run->report->ranges_kept += kept;
    pthread_mutex_unlock(&pair->run->lock);
    return units;
}

static tow_verify_unit_t *sampled_units(tow_verify_item_t *item, const split_t *split)
{
    tow_verify_unit_t *units = NULL;

    for (uint32_t i = 0; i <= split->count; i++) {
        add_unit(item, i ? &split->bounds[i - 1] : NULL,
                 i < split->count ? &split->bounds[i] : NULL, &units);
        units->documents = item->documents / (split->count + 1);
    }
    return units;
}

bool tow_verify_split(tow_verify_pair_t *pair, tow_verify_item_t *item,
                      tow_verify_unit_t **out_units, tow_error_t *error)
{
    tow_track_t *track = item->source && item->destination ? pair->run->options->track : NULL;
    split_t split = {0};

    /* Of what no stream has the events nobody knows whether it is still as it was compared. */
    if (!track || !tow_collection_is_streamed(item->name) ||
        !tow_track_knows(track, item->ns, item->source->uuid)) {
        if (!sample(pair, item, &split, error))
            return false;
        if (track)
            tow_track_set(track, item->ns, item->source->uuid, split.bounds, split.count,
                          item->ordered);
    }
    *out_units = track ? tracked_units(pair, item) : sampled_units(item, &split);
    for (uint32_t i = 0; i < split.count; i++)
        bson_value_destroy(&split.bounds[i]);
    free(split.bounds);
    return true;
}
