/* SPDX-License-Identifier: Apache-2.0 */
/* ddl_ensure.c: an event on a collection that no one announced: it is looked up at the source, made
 * at the destination, or a placeholder takes its documents until its end is replayed. */
#include <string.h>

#include "oplog/replay_internal.h"

/* It is made by a command, and not by the first write: what the job's records do not claim, its end
 * would not drop. */
static bool add_placeholder(tow_replay_t *replay, const char *database, const char *name,
                            tow_error_t *error)
{
    const tow_ddl_handler_t *handler = &replay->options.ddl;
    tow_collection_info_t info = {.database = (char *)database, .name = (char *)name};
    tow_namespace_t *collection;

    if (handler->placeholder &&
        !handler->placeholder(handler->data, replay->destination, database, name, error))
        return false;
    bson_init(&info.options);
    collection = tow_namespaces_add(replay->options.namespaces, &info, 0);
    collection->placeholder = true;
    tow_namespaces_set_ranges(replay->options.namespaces, collection, NULL, 0);
    bson_destroy(&info.options);
    return true;
}

/* What was a collection may be a view at the source by now, which the destination has already:
 * until the collection's end is replayed it takes documents. The view is made again when catalogs
 * are compared. */
static bool clear_view(tow_replay_t *replay, const char *database, const char *name,
                       tow_error_t *error)
{
    const tow_ddl_handler_t *handler = &replay->options.ddl;
    tow_collection_info_t there;
    bool found, is_view;

    if (!tow_catalog_find(replay->destination, database, name, &there, &found, error))
        return false;
    is_view = found && there.type == TOW_VIEW;
    if (found)
        tow_collection_info_clear(&there);
    if (!is_view)
        return true;
    return handler->dropped
               ? handler->dropped(handler->data, replay->destination, database, name, error)
               : tow_collection_drop(replay->destination, database, name, error);
}

/* What the source has under that name now may be a later collection than the event's: several
 * shards are merged with a delay. Its identity would make the end of the earlier one pass for a
 * drop that is none. */
static void add_found(tow_replay_t *replay, tow_collection_info_t *info)
{
    if (replay->merged)
        memset(info->uuid, 0, sizeof info->uuid);
    tow_namespaces_set_ranges(replay->options.namespaces,
                              tow_namespaces_add(replay->options.namespaces, info, 0), NULL, 0);
}

/* A collection is empty before its first event, but for a capped one: cloneCollectionAsCapped and
 * convertToCapped fill it by inserts that no stream reports. */
static bool make_found(tow_replay_t *replay, tow_collection_info_t *info, tow_error_t *error)
{
    const tow_ddl_handler_t *handler = &replay->options.ddl;
    bool found, known;

    if (info->capped)
        return handler->copy_again(handler->data, info->database, info->name, &found, error);
    if (!handler->create(handler->data, replay->destination, info, error))
        return error->code == TOW_ERROR_CONFLICT &&
               handler->copy_again(handler->data, info->database, info->name, &found, error);
    known = tow_namespaces_find(replay->options.namespaces, info->database, info->name) != NULL;
    if (!known) /* else somebody copies it */
        add_found(replay, info);
    return true;
}

tow_namespace_t *tow_replay_ensure(tow_replay_t *replay, const char *database, const char *name,
                                   tow_error_t *error)
{
    tow_collection_info_t info;
    bool found, ok = true;

    if (!tow_catalog_find(replay->source, database, name, &info, &found, error))
        return NULL;
    if (found && info.type == TOW_COLLECTION)
        ok = make_found(replay, &info, error);
    if (found)
        tow_collection_info_clear(&info);
    /* It is gone again, or has another name: later events will tell. */
    if (ok && !tow_namespaces_find(replay->options.namespaces, database, name))
        ok = clear_view(replay, database, name, error) &&
             add_placeholder(replay, database, name, error);
    return ok ? tow_namespaces_find(replay->options.namespaces, database, name) : NULL;
}
