/* SPDX-License-Identifier: Apache-2.0 */
/* alike.c: makes what both sides have alike beside the replay, one collection at a time, and looks
 * for what differs. */
#include <string.h>

#include "copy/internal.h"
#include "engine/link/codes.h"

typedef tow_reconciling_t task_t;

bool tow_reconcile_is_known(const tow_copy_t *copy, const tow_collection_info_t *info)
{
    const tow_namespace_t *known =
        tow_namespaces_find(copy->options.namespaces, info->database, info->name);

    return !known || tow_copy_may_be(known, info);
}

/* Gone or another collection meanwhile, on one side or both: later events say so. */
static bool is_passing(const tow_error_t *error)
{
    return error->server_code == TOW_CODE_NAMESPACE_NOT_FOUND ||
           error->server_code == TOW_CODE_INDEX_NOT_FOUND ||
           error->server_code == TOW_CODE_BACKGROUND_OPERATION_IN_PROGRESS_FOR_NAMESPACE;
}

static bool alike_or_again(task_t *task, const tow_collection_info_t *ours,
                           const tow_collection_info_t *theirs, bool *out_again, tow_error_t *error)
{
    bool alike;

    if (!tow_reconcile_options(task, ours, theirs, &alike, error))
        return false;
    *out_again = !alike;
    if (alike)
        return tow_reconcile_modify(task, ours, theirs, error) &&
               (tow_reconcile_is_copied(task, ours) || tow_reconcile_indexes(task, ours, error));
    tow_reconcile_tell(task, ours->ns, "copied again: its options cannot be changed in place");
    return true;
}

bool tow_reconcile_found(task_t *task, const tow_collection_info_t *ours, bool *out_again,
                         tow_error_t *error)
{
    tow_collection_info_t theirs;
    bool there = false, ok;

    *out_again = false;
    if (ours->type != TOW_COLLECTION || !tow_reconcile_is_known(task->copy, ours))
        return true;
    ok = tow_catalog_find(task->destination, ours->database, ours->name, &theirs, &there, error) &&
         (!there || theirs.type != TOW_COLLECTION || !tow_copy_is_ours(task->copy, &theirs) ||
          alike_or_again(task, ours, &theirs, out_again, error));
    if (there)
        tow_collection_info_clear(&theirs);
    return ok;
}

static bool alike_by_name(task_t *task, const char *database, const char *name, bool *out_again,
                          tow_error_t *error)
{
    tow_collection_info_t ours;
    bool found, ok;

    *out_again = false;
    if (!tow_catalog_find(task->source, database, name, &ours, &found, error))
        return false;
    if (!found)
        return true;
    ok = tow_reconcile_found(task, &ours, out_again, error);
    tow_collection_info_clear(&ours);
    return ok;
}

bool tow_copy_alike(tow_worker_t *worker, const char *database, const char *name, bool *out_again,
                    tow_error_t *error)
{
    const tow_copy_options_t *options = &worker->copy->options;
    task_t task = {worker->copy, worker->source, worker->destination,
                   tow_takes(options->destination),
                   options->expires ? TOW_RECONCILE_TTL : TOW_RECONCILE_ALONG};

    return alike_by_name(&task, database, name, out_again, error) || is_passing(error);
}

/* Whether anything is to be changed; reads, and changes nothing. */
static bool differs(task_t *task, const tow_collection_info_t *ours,
                    const tow_collection_info_t *theirs, bool *out, tow_error_t *error)
{
    tow_indexes_t wanted, there = {0};
    bool ok;

    *out = tow_reconcile_options_differ(task, ours, theirs);
    if (*out)
        return true;
    if (!tow_indexes_read(task->source, ours->database, ours->name, &wanted, error))
        return false;
    ok = tow_indexes_read(task->destination, ours->database, ours->name, &there, error);
    *out = wanted.count != there.count;
    for (size_t i = 0; i < wanted.count && !*out; i++) {
        const bson_t *other = tow_index_find(&there, tow_index_name(&wanted.items[i]));
        bson_t specification;

        tow_index_spec(&wanted.items[i], &task->takes, true, &specification);
        *out = !other || !tow_index_is_same(&specification, other, task->how);
        bson_destroy(&specification);
    }
    tow_indexes_clear(&wanted);
    tow_indexes_clear(&there);
    return ok;
}

static bool look_at(task_t *task, const tow_collection_info_t *ours,
                    const tow_collection_info_t *theirs, tow_error_t *error)
{
    tow_copy_t *copy = task->copy;
    bool different;

    if (ours->type != TOW_COLLECTION || !theirs || theirs->type != TOW_COLLECTION ||
        !tow_filter_takes(copy->options.filter, ours->database, ours->name) ||
        !tow_reconcile_is_known(copy, ours) || tow_reconcile_is_copied(task, ours) ||
        !tow_copy_is_ours(copy, theirs))
        return true;
    if (!differs(task, ours, theirs, &different, error))
        return false;
    if (different)
        tow_copy_make_alike(copy, ours->database, ours->name);
    return true;
}

/* A view that the destination refuses keeps nobody from looking at the rest. The cutover asks about
 * it. */
static bool look_at_views(task_t *task, const tow_catalog_t *ours, const tow_catalog_t *theirs,
                          tow_error_t *error)
{
    tow_names_t refused = {0};
    tow_error_t reason = {0};
    bool ok = tow_reconcile_views(task, ours, theirs, &refused, &reason);

    for (size_t i = 0; ok && i < refused.count; i++)
        if (tow_claims_first_told(task->copy->options.claims, refused.names[i]))
            tow_emit(&task->copy->options.sink, TOW_LEVEL_WARNING, "view_refused", "%s: %s",
                     refused.names[i], reason.message);
    tow_names_clear(&refused);
    if (!ok)
        *error = reason;
    return ok;
}

/* The time is taken after the listings were read. */
static bool ask(task_t *task, tow_catalog_t *ours, const tow_catalog_t *theirs, tow_error_t *error)
{
    tow_questions_t questions = {0};

    if (!tow_copy_leave_out_states(task->destination, ours, error))
        return false;
    tow_copy_ask(task->copy, ours, theirs, &questions);
    if (questions.count && !tow_link_barrier_time(task->source, &questions.time, error)) {
        tow_questions_clear(&questions);
        return false;
    }
    tow_copy_keep_questions(task->copy, &questions);
    return true;
}

bool tow_copy_look_around(tow_worker_t *worker, bool whole, tow_error_t *error)
{
    tow_copy_t *copy = worker->copy;
    task_t task = {copy, worker->source, worker->destination, tow_takes(copy->options.destination),
                   TOW_RECONCILE_ALONG};
    tow_catalog_t ours, theirs = {0};
    bool ok = tow_catalog_read(task.source, NULL, &ours, error);

    ok = ok && tow_catalog_read(task.destination, NULL, &theirs, error) &&
         (atomic_load(&copy->look_ended) || look_at_views(&task, &ours, &theirs, error)) &&
         (atomic_load(&copy->look_ended) || ask(&task, &ours, &theirs, error));
    for (size_t i = 0;
         ok && whole && i < ours.count && !atomic_load(&copy->look_ended) && !tow_copy_ended(copy);
         i++)
        ok = look_at(&task, &ours.items[i], tow_catalog_get(&theirs, ours.items[i].ns), error);
    tow_catalog_clear(&ours);
    tow_catalog_clear(&theirs);
    return ok;
}
