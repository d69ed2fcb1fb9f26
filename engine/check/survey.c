/* SPDX-License-Identifier: Apache-2.0 */
/* survey.c: see survey.h. */
#include "engine/check/survey.h"

#include <stdlib.h>
#include <string.h>

#include "copy/copy.h"
#include "engine/base/clock.h"
#include "engine/base/memory.h"
#include "engine/state/spec.h"

/* By a value that is no number of seconds, not by one that is just large. */
static bool never_expires(const bson_t *index)
{
    bson_iter_t iter;

    return bson_iter_init_find(&iter, index, "expireAfterSeconds") &&
           tow_ttl_seconds(&iter) == INT32_MAX &&
           !((BSON_ITER_HOLDS_INT(&iter) || BSON_ITER_HOLDS_DOUBLE(&iter)) &&
             bson_iter_as_double(&iter) >= INT32_MAX);
}

static bool measure(tow_conn_t *source, tow_surveyed_t *item, uint64_t range_bytes,
                    tow_error_t *error)
{
    const tow_collection_info_t *info = item->info;
    tow_collection_stats_t stats;
    tow_indexes_t indexes;

    if (!tow_collection_stats(source, info->database, info->name, &stats, error) ||
        !tow_indexes_read(source, info->database, info->name, &indexes, error))
        return false;
    item->measured = true;
    item->size = stats;
    item->indexes = (uint32_t)indexes.count + 1;
    item->ranges =
        info->capped || info->collated ? 1 : tow_copy_wanted_ranges(stats.bytes, range_bytes);
    for (size_t i = 0; i < indexes.count; i++)
        item->never_expires = item->never_expires || never_expires(&indexes.items[i]);
    tow_indexes_clear(&indexes);
    return true;
}

static void add_up(tow_survey_t *survey, const tow_surveyed_t *item)
{
    survey->measured++;
    survey->documents += item->size.documents;
    survey->bytes += item->size.bytes;
    survey->indexes += item->indexes;
    survey->ranges += item->ranges;
    survey->index_entries += item->size.documents * item->indexes;
}

bool tow_survey_read(tow_conn_t *source, const tow_filter_t *filter, uint64_t range_bytes,
                     int64_t budget_ms, tow_stop_t *stop, tow_survey_t *out, tow_error_t *error)
{
    int64_t until_ms = tow_now_ms() + budget_ms;

    *out = (tow_survey_t){0};
    if (!tow_catalog_read(source, NULL, &out->catalog, error))
        return false;
    out->items = tow_alloc((out->catalog.count + 1) * sizeof *out->items);
    for (size_t i = 0; i < out->catalog.count; i++) {
        const tow_collection_info_t *info = &out->catalog.items[i];

        if (!tow_filter_takes(filter, info->database, info->name))
            continue;
        out->items[out->count++].info = info;
        out->collections += info->type == TOW_COLLECTION;
        out->views += info->type == TOW_VIEW;
    }
    for (size_t i = 0; i < out->count; i++) {
        if (out->items[i].info->type != TOW_COLLECTION)
            continue;
        if (tow_stop_requested(stop))
            return tow_fail(error, TOW_ERROR_INTERRUPTED, "stopped");
        if (budget_ms && tow_now_ms() >= until_ms)
            break;
        if (!measure(source, &out->items[i], range_bytes, error))
            return false;
        add_up(out, &out->items[i]);
    }
    return true;
}

static int compare_ns(const void *ns, const void *item)
{
    return strcmp(ns, ((const tow_surveyed_t *)item)->info->ns);
}

bool tow_survey_size(const void *survey, const char *ns, tow_collection_stats_t *out)
{
    const tow_survey_t *known = survey;
    const tow_surveyed_t *item =
        known->count ? bsearch(ns, known->items, known->count, sizeof *item, compare_ns) : NULL;

    if (!item || !item->measured)
        return false;
    *out = item->size;
    return true;
}

void tow_survey_clear(tow_survey_t *survey)
{
    free(survey->items);
    tow_catalog_clear(&survey->catalog);
    *survey = (tow_survey_t){0};
}

double tow_estimate_copy_seconds(uint64_t bytes, uint64_t index_entries)
{
    return (double)bytes / (TOW_COPY_MB_PER_S * 1e6) + (double)index_entries / TOW_INDEX_KEYS_PER_S;
}
