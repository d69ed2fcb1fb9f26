/* SPDX-License-Identifier: Apache-2.0 */
/* reindex.c: makes the indexes of a collection those of the source. */
#include <stdlib.h>
#include <string.h>

#include "copy/internal.h"
#include "engine/link/codes.h"
#include "engine/link/reply.h"

typedef tow_reconciling_t task_t;

static void tell_index(const task_t *task, const tow_collection_info_t *info, const char *name,
                       const char *what)
{
    tow_emit(&task->copy->options.sink, TOW_LEVEL_INFO, "reconciled", "%s: index %s %s", info->ns,
             name, what);
}

/* One collMod of an index, with {name: value} besides its name. */
static bool modify_index(task_t *task, const tow_collection_info_t *info, const char *name,
                         const char *what, int64_t value, tow_error_t *error)
{
    bson_t command = BSON_INITIALIZER, index;
    bool ok;

    bson_append_utf8(&command, "collMod", -1, info->name, -1);
    bson_append_document_begin(&command, "index", -1, &index);
    bson_append_utf8(&index, "name", -1, name, -1);
    if (!strcmp(what, "expireAfterSeconds"))
        bson_append_int64(&index, what, -1, value);
    else
        bson_append_bool(&index, what, -1, value != 0);
    bson_append_document_end(&command, &index);
    ok = tow_reconcile_run(task, info->database, &command, error);
    bson_destroy(&command);
    return ok ? true : tow_fail_context(error, "collMod index %s of %s", name, info->ns);
}

/* An index becomes unique in two steps, so that what is written between them cannot break it. */
static bool change_unique(task_t *task, const tow_collection_info_t *info, const bson_t *wanted,
                          const bson_t *there, tow_error_t *error)
{
    const char *name = tow_index_name(wanted);
    bool prepared = tow_field_is_set(there, "prepareUnique"),
         prepare = tow_field_is_set(wanted, "prepareUnique");

    if (tow_field_is_set(wanted, "unique") && !tow_field_is_set(there, "unique"))
        return (prepared || modify_index(task, info, name, "prepareUnique", true, error)) &&
               modify_index(task, info, name, "unique", true, error);
    if (tow_field_is_set(there, "unique") && !tow_field_is_set(wanted, "unique"))
        return modify_index(task, info, name, "forceNonUnique", true, error);
    return prepare == prepared || modify_index(task, info, name, "prepareUnique", prepare, error);
}

/* One that is held off may be held off by another value. */
static bool is_same_ttl(const bson_t *wanted, const bson_t *there, tow_reconcile_t how)
{
    bson_iter_t iter;
    bool expires = bson_iter_init_find(&iter, wanted, "expireAfterSeconds"), does;
    int64_t seconds = expires ? tow_ttl_seconds(&iter) : 0, has;

    does = bson_iter_init_find(&iter, there, "expireAfterSeconds");
    has = does ? tow_ttl_seconds(&iter) : 0;
    return expires == does &&
           (seconds == has ||
            (how != TOW_RECONCILE_TTL && tow_ttl_is_never(seconds) && tow_ttl_is_never(has)));
}

/* Only what differs is sent: older servers know no more. */
static bool change_index(task_t *task, const tow_collection_info_t *info, const bson_t *wanted,
                         const bson_t *there, tow_error_t *error)
{
    const char *name = tow_index_name(wanted);
    bson_iter_t ttl;

    if (!change_unique(task, info, wanted, there, error))
        return false;
    if (!is_same_ttl(wanted, there, task->how) &&
        bson_iter_init_find(&ttl, wanted, "expireAfterSeconds") &&
        !modify_index(task, info, name, "expireAfterSeconds", tow_ttl_seconds(&ttl), error))
        return false;
    if (tow_field_is_set(wanted, "hidden") != tow_field_is_set(there, "hidden") &&
        !modify_index(task, info, name, "hidden", tow_field_is_set(wanted, "hidden"), error))
        return false;
    tell_index(task, info, name, "changed");
    return true;
}

static bool drop_index(task_t *task, const tow_collection_info_t *info, const char *name,
                       tow_error_t *error)
{
    if (!tow_copy_index_drop(task->copy, info->database, info->name, name, error))
        return false;
    tell_index(task, info, name, "dropped");
    return true;
}

bool tow_index_is_same(const bson_t *wanted, const bson_t *there, tow_reconcile_t how)
{
    char *name = tow_index_difference(wanted, there, false);

    free(name);
    return !name && is_same_ttl(wanted, there, how);
}

/* While others' unique indexes are not there yet: it comes with them. */
static bool is_too_early(const task_t *task, const bson_t *wanted)
{
    return task->how == TOW_RECONCILE_ALONG && tow_index_is_unique(wanted) &&
           !atomic_load(&task->copy->unique_built);
}

static bool build_index(task_t *task, const tow_collection_info_t *info, const bson_t *wanted,
                        bool counted, tow_error_t *error)
{
    uint32_t built;

    if (is_too_early(task, wanted))
        return true;
    if (!counted)
        atomic_fetch_add(&task->copy->indexes, 1);
    if (!tow_copy_build(task->copy, task->destination, info->database, info->name, wanted, 1,
                        task->how != TOW_RECONCILE_ALONG, &built, error))
        return false;
    atomic_fetch_add(&task->copy->indexes_built, built);
    if (built)
        tell_index(task, info, tow_index_name(wanted), "built");
    return true;
}

/* `there` NULL: the destination does not have it. What it refuses to change is
 * dropped and built. */
static bool reconcile_index(task_t *task, const tow_collection_info_t *info, const bson_t *wanted,
                            const bson_t *there, tow_error_t *error)
{
    if (there && tow_index_is_same(wanted, there, task->how))
        return true;
    if (there && tow_index_is_modifiable(wanted, there, &task->takes)) {
        if (change_index(task, info, wanted, there, error))
            return true;
        if (error->retry != TOW_RETRY_NEVER || error->server_code == TOW_CODE_NAMESPACE_NOT_FOUND)
            return false;
        if (!drop_index(task, info, tow_index_name(wanted), error))
            return false;
    }
    return build_index(task, info, wanted, there != NULL, error);
}

/* Whether the destination's index is, or can be changed into, the source's of that name. */
static bool may_stay(const task_t *task, const bson_t *there, const tow_indexes_t *ours)
{
    const bson_t *listed = tow_index_find(ours, tow_index_name(there));
    bson_t wanted;
    bool stays;

    if (!listed)
        return false;
    tow_index_spec(listed, &task->takes, task->how != TOW_RECONCILE_TTL, &wanted);
    stays = tow_index_is_same(&wanted, there, task->how) ||
            tow_index_is_modifiable(&wanted, there, &task->takes);
    bson_destroy(&wanted);
    return stays;
}

/* All of it before anything is built: at the source names may have changed hands, and an index that
 * has the key or the name of another one refuses it. */
static bool drop_outdated(task_t *task, const tow_collection_info_t *info,
                          const tow_indexes_t *ours, const tow_indexes_t *theirs,
                          tow_error_t *error)
{
    for (size_t i = 0; i < theirs->count; i++)
        if (!may_stay(task, &theirs->items[i], ours) &&
            !drop_index(task, info, tow_index_name(&theirs->items[i]), error))
            return false;
    return true;
}

bool tow_reconcile_indexes(task_t *task, const tow_collection_info_t *info, tow_error_t *error)
{
    tow_indexes_t ours, theirs = {0};
    bool expires = false,
         ok = tow_indexes_read(task->source, info->database, info->name, &ours, error);

    if (!ok)
        return false;
    ok = tow_indexes_read(task->destination, info->database, info->name, &theirs, error) &&
         drop_outdated(task, info, &ours, &theirs, error);
    for (size_t i = 0; ok && i < ours.count; i++) {
        bson_t wanted;

        tow_index_spec(&ours.items[i], &task->takes, task->how != TOW_RECONCILE_TTL, &wanted);
        ok = reconcile_index(task, info, &wanted,
                             tow_index_find(&theirs, tow_index_name(&ours.items[i])), error);
        bson_destroy(&wanted);
    }
    for (size_t i = 0; i < ours.count; i++)
        expires = expires || tow_index_has_ttl(&ours.items[i]);
    if (expires && task->how == TOW_RECONCILE_LAST)
        tow_reconcile_note_ttl(task, info);
    tow_indexes_clear(&ours);
    tow_indexes_clear(&theirs);
    return ok;
}
