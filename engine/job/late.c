/* SPDX-License-Identifier: Apache-2.0 */
/* late.c: what may have been dropped or renamed by a command that arrived late.
 *
 * A drop has no number by which a server would know it for an old one. One that an earlier process
 * sent, or that this one sent more than once, may arrive when the collection has been made again
 * and filled. So the cutover compares what such commands name, also where nothing else is to be
 * compared. */
#include <string.h>

#include "engine/job/internal.h"

typedef struct {
    tow_filter_t *filter;
    uint32_t count;
    bool all; /* what was dropped cannot be named exactly in a filter */
} suspects_t;

static void add(suspects_t *suspects, const char *ns)
{
    tow_error_t ignored;

    suspects->count++;
    if (strchr(ns, '/') || !tow_filter_include(suspects->filter, ns, &ignored))
        suspects->all = true;
}

static void take(void *data, const char *what, const char *ns, const char *to)
{
    suspects_t *suspects = data;

    if (strcmp(what, "drop") != 0 && strcmp(what, "dropDatabase") != 0 &&
        strcmp(what, "renameCollection") != 0)
        return;
    add(suspects, ns);
    if (*to)
        add(suspects, to);
}

bool tow_job_find_late(tow_job_t *job, tow_filter_t **out, bool *out_all, tow_error_t *error)
{
    suspects_t suspects = {.filter = tow_filter_new()};
    bson_t document;
    bool ok = tow_store_get(job->journal.store, &document, error);

    *out = NULL;
    if (ok)
        tow_store_each_late(&document, take, &suspects);
    bson_destroy(&document);
    *out_all = suspects.all;
    if (suspects.count)
        tow_emit(
            &job->sides.sink, TOW_LEVEL_INFO, "late_drops",
            "%u drops and renames were sent whose end was not seen: what they name is compared",
            suspects.count);
    if (suspects.count && !suspects.all)
        *out = suspects.filter;
    else
        tow_filter_destroy(suspects.filter);
    return ok;
}
