/* SPDX-License-Identifier: Apache-2.0 */
/* survey.h: what a job would copy: the source's collections within the filter, with their sizes. */
#ifndef TOW_CHECK_SURVEY_H
#define TOW_CHECK_SURVEY_H

#include "engine/link/catalog.h"
#include "engine/state/filter.h"

typedef struct {
    const tow_collection_info_t *info; /* within the survey's catalog */
    bool measured;                     /* the figures below were read */
    tow_collection_stats_t size;       /* estimates of the server */
    uint32_t indexes;                  /* with the one on _id */
    uint32_t ranges;
    bool never_expires; /* a TTL index of it has a value that is NaN or the like */
} tow_surveyed_t;

typedef struct {
    tow_catalog_t catalog; /* all of the source */
    tow_surveyed_t
        *items; /* what the filter takes, sorted by namespace; views and time series too */
    size_t count;
    size_t collections; /* of `items`, those that hold documents of their own and can be copied */
    size_t views, measured;
    uint64_t documents, bytes, index_entries;
    uint32_t indexes, ranges;
} tow_survey_t;

/* Reads the catalog, then sizes and indexes of collection after collection until `budget_ms` is
 * over (0: of all). tow_survey_clear is due also after an error. Errors: those of the link. */
bool tow_survey_read(tow_conn_t *source, const tow_filter_t *filter, uint64_t range_bytes,
                     int64_t budget_ms, tow_stop_t *stop, tow_survey_t *out,
                     tow_error_t *error) TOW_CHECK;
void tow_survey_clear(tow_survey_t *survey);
/* What a survey measured of a collection: a tow_copy_size_fn, whose data is the survey. */
bool tow_survey_size(const void *survey, const char *ns, tow_collection_stats_t *out);

/* About how long the copy takes, in seconds, at TOW_COPY_MB_PER_S and with TOW_INDEX_KEYS_PER_S
 * keys put into indexes: what bench/results has for a machine of two cores that runs all three. */
enum { TOW_COPY_MB_PER_S = 50, TOW_INDEX_KEYS_PER_S = 200000 };
double tow_estimate_copy_seconds(uint64_t bytes, uint64_t index_entries);

#endif
