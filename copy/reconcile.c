/* SPDX-License-Identifier: Apache-2.0 */
/* reconcile.c: makes the destination's catalog that of the source: collections and views. */
#include <stdlib.h>
#include <string.h>

#include "copy/internal.h"
#include "engine/link/codes.h"
#include "engine/link/reply.h"

typedef tow_reconciling_t task_t;

static bool reconcile_one(task_t *task, const char *database, const char *name, tow_error_t *error);

/* What the destination lists is not the job's. The list may be older than a drop that the replay
 * carried out meanwhile, together with its claim: then both sides are asked again. */
static bool reconcile_foreign(task_t *task, const tow_collection_info_t *ours,
                              const tow_collection_info_t *theirs, tow_error_t *error)
{
    bool remade, found;
    tow_whose_t whose;

    if (!tow_copy_whose(task->copy, task->destination, ours->database, ours->name, &whose, error))
        return false;
    if (whose != TOW_WHOSE_FOREIGN)
        return reconcile_one(task, ours->database, ours->name, error);
    if (!tow_copy_is_remade(task->copy, theirs, &remade, error))
        return false;
    if (remade) {
        tow_reconcile_tell(task, ours->ns,
                           "copied again: it was dropped on the destination, and writes of this "
                           "job made it again");
        return tow_copy_again(task->copy, ours->database, ours->name, &found, error);
    }
    /* The cutover asks; until then somebody may put it right. */
    tow_copy_tell_foreign(task->copy, ours->ns);
    return task->how == TOW_RECONCILE_ALONG || tow_copy_fail_foreign(ours->ns, error);
}

/* `theirs` NULL: the destination does not have it. */
static bool reconcile_collection(task_t *task, const tow_collection_info_t *ours,
                                 const tow_collection_info_t *theirs, tow_error_t *error)
{
    bool alike = false, found;

    if (theirs && !tow_copy_is_ours(task->copy, theirs))
        return reconcile_foreign(task, ours, theirs, error);
    if (theirs && theirs->type == TOW_COLLECTION &&
        !tow_reconcile_options(task, ours, theirs, &alike, error))
        return false;
    if (alike) {
        if (task->how == TOW_RECONCILE_LAST && bson_has_field(&ours->options, "expireAfterSeconds"))
            tow_reconcile_note_ttl(task, ours);
        return tow_reconcile_modify(task, ours, theirs, error) &&
               (tow_reconcile_is_copied(task, ours) || tow_reconcile_indexes(task, ours, error));
    }
    tow_reconcile_tell(task, ours->ns,
                       theirs ? "copied again: its options cannot be changed in place"
                              : "copied: it was missing on the destination");
    return tow_copy_again(task->copy, ours->database, ours->name, &found, error);
}

static bool reconcile_one(task_t *task, const char *database, const char *name, tow_error_t *error)
{
    tow_collection_info_t ours, theirs;
    bool found, there = false, ok;

    if (!tow_catalog_find(task->source, database, name, &ours, &found, error))
        return false;
    if (!found)
        return true; /* a later event drops it */
    ok = ours.type != TOW_COLLECTION ||
         (tow_catalog_find(task->destination, database, name, &theirs, &there, error) &&
          reconcile_collection(task, &ours, there ? &theirs : NULL, error));
    if (there)
        tow_collection_info_clear(&theirs);
    tow_collection_info_clear(&ours);
    return ok;
}

/* A list may be short, above all where a role was taken away: each is asked for by name before it
 * counts as gone. */
static bool is_gone(task_t *task, const tow_collection_info_t *info, bool *out, tow_error_t *error)
{
    tow_collection_info_t ours;
    bool found;

    if (!tow_catalog_find(task->source, info->database, info->name, &ours, &found, error))
        return false;
    if (found)
        tow_collection_info_clear(&ours);
    *out = !found;
    return true;
}

/* Drops one that the source does not list: never without a claim of the job's own records. A
 * collection that is still in the table is left to its event; the cutover asks about one that has
 * none (tow_copy_gaps). */
static bool drop_one_extra(task_t *task, const tow_collection_info_t *info, tow_error_t *error)
{
    tow_copy_t *copy = task->copy;
    tow_whose_t whose;
    bool gone;

    if (!tow_copy_is_ours(copy, info)) {
        if (!tow_copy_whose(copy, task->destination, info->database, info->name, &whose, error))
            return false;
        if (whose == TOW_WHOSE_FOREIGN)
            tow_copy_tell_foreign(copy, info->ns);
        if (whose != TOW_WHOSE_OURS)
            return true;
    }
    if (copy->options.claims &&
        tow_namespaces_find(copy->options.namespaces, info->database, info->name))
        return true;
    if (!is_gone(task, info, &gone, error))
        return false;
    if (!gone)
        return true;
    if (!tow_copy_unmake(copy, task->destination, info->database, info->name, &whose, error))
        return false;
    if (whose != TOW_WHOSE_FOREIGN)
        tow_reconcile_tell(task, info->ns, "dropped: the source does not have it any more");
    return true;
}

static bool drop_extra(task_t *task, const tow_catalog_t *ours, const tow_catalog_t *theirs,
                       tow_error_t *error)
{
    for (size_t i = 0; i < theirs->count; i++) {
        const tow_collection_info_t *info = &theirs->items[i];

        if (tow_filter_takes(task->copy->options.filter, info->database, info->name) &&
            !tow_catalog_get(ours, info->ns) && !drop_one_extra(task, info, error))
            return false;
    }
    return true;
}

static bool reconcile_whole(task_t *task, tow_error_t *error)
{
    tow_catalog_t ours, theirs = {0};
    bool ok;

    if (task->how == TOW_RECONCILE_LAST)
        tow_copy_forget_ttl(task->copy);
    ok = tow_catalog_read(task->source, NULL, &ours, error);

    if (!ok)
        return false;
    ok = tow_copy_leave_out_states(task->destination, &ours, error) &&
         tow_catalog_read(task->destination, NULL, &theirs, error) &&
         tow_copy_leave_out_states(task->destination, &theirs, error) &&
         (task->copy->options.keep_extra || drop_extra(task, &ours, &theirs, error));
    for (size_t i = 0; ok && i < ours.count; i++)
        if (ours.items[i].type == TOW_COLLECTION &&
            tow_filter_takes(task->copy->options.filter, ours.items[i].database,
                             ours.items[i].name))
            ok = reconcile_collection(task, &ours.items[i],
                                      tow_catalog_get(&theirs, ours.items[i].ns), error);
    if (ok && task->how != TOW_RECONCILE_ALONG)
        ok = tow_reconcile_views(task, &ours, &theirs, NULL, error);
    tow_catalog_clear(&ours);
    tow_catalog_clear(&theirs);
    return ok;
}

bool tow_copy_reconcile(tow_copy_t *copy, const char *database, const char *name,
                        tow_reconcile_t how, tow_error_t *error)
{
    task_t task = {.copy = copy, .takes = tow_takes(copy->options.destination), .how = how};
    bool ok;

    task.source = tow_conn_open(copy->options.source);
    task.destination = tow_conn_open(copy->options.destination);
    ok = name ? reconcile_one(&task, database, name, error) : reconcile_whole(&task, error);
    tow_conn_close(task.source);
    tow_conn_close(task.destination);
    return ok;
}
