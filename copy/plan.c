/* SPDX-License-Identifier: Apache-2.0 */
/* plan.c: how a collection is cut into ranges. */
#include <stdlib.h>

#include "copy/internal.h"

enum { RANGES_MOST = 100000 };

/* A worker overlaps its reading with the writing of others, so that even a single range keeps both
 * sides busy: ranges are no smaller than a crash asks for. */
uint32_t tow_copy_wanted_ranges(uint64_t bytes, uint64_t range_bytes)
{
    uint64_t wanted = bytes / range_bytes + 1;

    return (uint32_t)(wanted > RANGES_MOST ? RANGES_MOST : wanted);
}

bool tow_copy_plan(tow_copy_t *copy, tow_conn_t *source, const tow_collection_info_t *info,
                   const tow_collection_stats_t *stats, tow_range_t **out_ranges,
                   uint32_t *out_count, tow_error_t *error)
{
    bson_value_t *bounds = NULL;
    uint32_t count = 0;
    tow_range_t *ranges;

    /* The order of a capped collection must be kept, and that of a collated one is not ours. */
    if (!info->capped && !info->collated &&
        !tow_split_bounds(source, info, stats->documents,
                          tow_copy_wanted_ranges(stats->bytes, copy->options.range_bytes),
                          tow_bson_value_compare, &bounds, &count, error))
        return false;
    ranges = tow_alloc((count + 1) * sizeof *ranges);
    for (uint32_t i = 0; i <= count; i++) {
        ranges[i].number = i;
        if (i > 0) {
            ranges[i].has_min = true;
            bson_value_copy(&bounds[i - 1], &ranges[i].min);
        }
        if (i < count) {
            ranges[i].has_max = true;
            bson_value_copy(&bounds[i], &ranges[i].max);
        }
    }
    for (uint32_t i = 0; i < count; i++)
        bson_value_destroy(&bounds[i]);
    free(bounds);
    *out_ranges = ranges;
    *out_count = count + 1;
    return true;
}
