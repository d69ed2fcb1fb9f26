/* SPDX-License-Identifier: Apache-2.0 */
/* views.c: makes the destination's views those of the source. */
#include <stdlib.h>

#include "copy/internal.h"

typedef tow_reconciling_t task_t;

/* A collection of that name is still being followed, or is somebody else's: while the job goes on
 * it stays. */
static bool is_taken(const task_t *task, const tow_collection_info_t *view,
                     const tow_collection_info_t *theirs)
{
    return task->how == TOW_RECONCILE_ALONG &&
           ((theirs && (theirs->type != TOW_VIEW || !tow_copy_is_ours(task->copy, theirs))) ||
            tow_namespaces_find(task->copy->options.namespaces, view->database, view->name));
}

/* Makes a view as at the source. *out_done false: it could not be made yet. */
static bool reconcile_view(task_t *task, const tow_collection_info_t *ours,
                           const tow_collection_info_t *theirs, bool *out_done, tow_error_t *error)
{
    tow_whose_t whose;

    *out_done = theirs && theirs->type == TOW_VIEW &&
                tow_reconcile_alike(task, &ours->options, &theirs->options, NULL);
    if (*out_done)
        return true;
    if (theirs && (!tow_copy_unmake(task->copy, task->destination, ours->database, ours->name,
                                    &whose, error) ||
                   (whose == TOW_WHOSE_FOREIGN && !tow_copy_fail_foreign(ours->ns, error))))
        return false;
    *out_done = tow_copy_make(task->copy, task->destination, ours, error);
    if (*out_done)
        tow_reconcile_tell(task, ours->ns, theirs ? "view made anew" : "view made");
    return *out_done || error->retry == TOW_RETRY_NEVER;
}

/* Views may stand on views: rounds until none is left, or none can be made. */
bool tow_reconcile_views(task_t *task, const tow_catalog_t *ours, const tow_catalog_t *theirs,
                         tow_names_t *refused, tow_error_t *error)
{
    bool *done = tow_alloc(ours->count + 1), *left = tow_alloc(ours->count + 1);
    bool progress = true, any = true, ok = true;

    while (ok && progress && any) {
        progress = any = false;
        for (size_t i = 0; ok && i < ours->count; i++) {
            const tow_collection_info_t *info = &ours->items[i];

            left[i] = false;
            if (done[i] || info->type != TOW_VIEW ||
                is_taken(task, info, tow_catalog_get(theirs, info->ns)) ||
                !tow_filter_takes(task->copy->options.filter, info->database, info->name))
                continue;
            ok = reconcile_view(task, info, tow_catalog_get(theirs, info->ns), &done[i], error);
            progress = progress || done[i];
            left[i] = !done[i];
            any = any || left[i];
        }
    }
    for (size_t i = 0; ok && refused && i < ours->count; i++)
        if (left[i])
            tow_names_add(refused, ours->items[i].ns);
    free(done);
    free(left);
    return ok && (!any || refused);
}

bool tow_copy_make_views(tow_copy_t *copy, tow_conn_t *source, tow_conn_t *destination,
                         const tow_catalog_t *ours, tow_error_t *error)
{
    task_t task = {copy, source, destination, tow_takes(copy->options.destination),
                   TOW_RECONCILE_ALONG};
    tow_catalog_t theirs;
    bool ok = tow_catalog_read(destination, NULL, &theirs, error) &&
              tow_reconcile_views(&task, ours, &theirs, NULL, error);

    tow_catalog_clear(&theirs);
    return ok;
}

bool tow_copy_try_views(tow_copy_t *copy, tow_names_t *out_refused, tow_error_t *error)
{
    task_t task = {
        .copy = copy, .takes = tow_takes(copy->options.destination), .how = TOW_RECONCILE_LAST};
    tow_catalog_t ours = {0}, theirs = {0};
    bool ok;

    *out_refused = (tow_names_t){0};
    task.source = tow_conn_open(copy->options.source);
    task.destination = tow_conn_open(copy->options.destination);
    ok = tow_catalog_read(task.source, NULL, &ours, error) &&
         tow_catalog_read(task.destination, NULL, &theirs, error) &&
         tow_reconcile_views(&task, &ours, &theirs, out_refused, error);
    tow_catalog_clear(&ours);
    tow_catalog_clear(&theirs);
    tow_conn_close(task.source);
    tow_conn_close(task.destination);
    return ok;
}
