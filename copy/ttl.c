/* SPDX-License-Identifier: Apache-2.0 */
/* ttl.c: the end of holding TTL off, the last step of a job. */
#include <string.h>

#include "copy/internal.h"

static bool not_restored(const tow_collection_info_t *ours, const char *why, tow_error_t *error)
{
    return tow_fail(error, TOW_ERROR_SERVER,
                    "what expires in %s could not be restored: %s; run the same command again",
                    ours->ns, why);
}

static bool is_refused(tow_copy_t *copy, const char *ns, const char *name)
{
    bool refused = false;

    tow_copy_lock(copy);
    for (uint32_t i = 0; i < copy->failure_count && !refused; i++)
        refused = !strcmp(copy->failures[i].ns, ns) && !strcmp(copy->failures[i].name, name);
    tow_copy_unlock(copy);
    return refused;
}

static bool index_expires(tow_reconciling_t *task, const tow_collection_info_t *ours,
                          const bson_t *index, const tow_indexes_t *there)
{
    const bson_t *other = tow_index_find(there, tow_index_name(index));
    bson_t wanted;
    bool same;

    if (!tow_index_has_ttl(index))
        return true;
    if (!other)
        return is_refused(task->copy, ours->ns, tow_index_name(index));
    tow_index_spec(index, &task->takes, false, &wanted);
    same = tow_index_is_same(&wanted, other, TOW_RECONCILE_TTL);
    bson_destroy(&wanted);
    return same;
}

/* By what the destination lists now, whatever the commands before answered. */
static bool check_ttl(tow_reconciling_t *task, const tow_collection_info_t *ours,
                      tow_error_t *error)
{
    tow_collection_info_t theirs;
    tow_indexes_t wanted, there;
    bool found, ok, same;

    if (!tow_catalog_find(task->destination, ours->database, ours->name, &theirs, &found, error))
        return false;
    if (!found)
        return not_restored(ours, "the destination has no such collection", error);
    same = tow_reconcile_same_option(task, &ours->options, &theirs.options, "expireAfterSeconds");
    tow_collection_info_clear(&theirs);
    if (!tow_indexes_read(task->source, ours->database, ours->name, &wanted, error))
        return false;
    ok = tow_indexes_read(task->destination, ours->database, ours->name, &there, error);
    for (size_t i = 0; ok && same && i < wanted.count; i++)
        same = index_expires(task, ours, &wanted.items[i], &there);
    tow_indexes_clear(&wanted);
    if (!ok)
        return false;
    tow_indexes_clear(&there);
    return same || not_restored(ours, "the destination does not list it as the source does", error);
}

/* After the comparison nothing may be left out in silence. What the source has changed since makes
 * the job go on when it is run again. */
static bool restore_ttl(tow_reconciling_t *task, const char *database, const char *name,
                        tow_error_t *error)
{
    tow_collection_info_t ours;
    bool found, ok, again = false;

    if (!tow_catalog_find(task->source, database, name, &ours, &found, error))
        return false;
    if (!found)
        return tow_fail(error, TOW_ERROR_SERVER,
                        "%s.%s was dropped at the source after the comparison, before what expires "
                        "in it was restored; run the same command again",
                        database, name);
    ok = ours.type == TOW_COLLECTION && tow_reconcile_is_known(task->copy, &ours)
             ? tow_reconcile_found(task, &ours, &again, error) && check_ttl(task, &ours, error)
             : not_restored(&ours, "the source has something else of that name by now", error);
    tow_collection_info_clear(&ours);
    return ok;
}

bool tow_copy_restore_ttl(tow_copy_t *copy, tow_error_t *error)
{
    tow_reconciling_t task = {
        .copy = copy, .takes = tow_takes(copy->options.destination), .how = TOW_RECONCILE_TTL};
    bool ok = true;

    task.source = tow_conn_open(copy->options.source);
    task.destination = tow_conn_open(copy->options.destination);
    for (uint32_t i = 0; ok && i < copy->ttl_count; i++)
        ok = restore_ttl(&task, copy->ttl[i * 2], copy->ttl[i * 2 + 1], error);
    tow_conn_close(task.source);
    tow_conn_close(task.destination);
    return ok ? true : tow_fail_context(error, "restore what expires");
}
