/* SPDX-License-Identifier: Apache-2.0 */
/* ddl_drop.c: ends of collections and databases, and looks at what has their name now. */
#include <stdlib.h>
#include <string.h>

#include "engine/link/reply.h"
#include "oplog/ddl_internal.h"

/* Forgets the dirty keys of a collection in every lane. */
void tow_ddl_discard_keys(ddl_t *ddl, const tow_namespace_t *collection)
{
    for (uint32_t i = 0; i < ddl->replay->lane_count; i++) {
        tow_dirty_t *dirty = ddl->replay->lanes[i].dirty;

        for (tow_dirty_key_t *key = tow_dirty_detach(dirty, collection), *next; key; key = next) {
            next = key->next;
            tow_dirty_forget(dirty, key, true);
        }
        tow_recent_detach(dirty, collection, 0, NULL, NULL);
    }
}

/* The uuid of what has that name on a side now; *out_found false: no collection has. */
bool tow_ddl_read_uuid(tow_conn_t *conn, const char *database, const char *name, uint8_t out[16],
                       bool *out_found, tow_error_t *error)
{
    tow_collection_info_t info;
    bool found;

    *out_found = false;
    memset(out, 0, 16);
    if (!tow_catalog_find(conn, database, name, &info, &found, error))
        return false;
    if (found && info.type == TOW_COLLECTION) {
        *out_found = true;
        memcpy(out, info.uuid, 16);
    }
    if (found)
        tow_collection_info_clear(&info);
    return true;
}

bool tow_ddl_has_uuid(const tow_namespace_t *collection, const uint8_t uuid[16])
{
    static const uint8_t none[16];

    return collection && memcmp(uuid, none, 16) != 0 && !memcmp(collection->uuid, uuid, 16);
}

bool tow_ddl_drop_on_destination(ddl_t *ddl, const char *database, const char *name,
                                 tow_error_t *error)
{
    const tow_ddl_handler_t *handler = &ddl->replay->options.ddl;

    return handler->dropped
               ? handler->dropped(handler->data, ddl->replay->destination, database, name, error)
               : tow_collection_drop(ddl->replay->destination, database, name, error);
}

bool tow_ddl_copy_again(ddl_t *ddl, const char *database, const char *name, tow_error_t *error)
{
    const tow_ddl_handler_t *handler = &ddl->replay->options.ddl;
    tow_namespace_t *collection = tow_ddl_find(ddl, database, name);
    bool found;

    if (collection)
        tow_ddl_discard_keys(ddl, collection);
    return handler->copy_again(handler->data, database, name, &found, error);
}

/* A cluster tells of drops that are none: movePrimary drops what it left on the old shard, and each
 * shard of a collection tells of its drop, the last perhaps when the name is in use again. So what
 * the source has under that name now is kept: as it is when it is the collection that we know, else
 * it is copied again. *out_kept false: it has none. */
static bool keep_living(ddl_t *ddl, const tow_namespace_t *collection, const char *database,
                        const char *name, bool *out_kept, tow_error_t *error)
{
    uint8_t uuid[16];

    *out_kept = false;
    if (!ddl->replay->merged)
        return true;
    if (!tow_ddl_read_uuid(ddl->replay->source, database, name, uuid, out_kept, error))
        return false;
    return !*out_kept || tow_ddl_has_uuid(collection, uuid) ||
           tow_ddl_copy_again(ddl, database, name, error);
}

/* The collection as we know it ends here. */
bool tow_ddl_drop(ddl_t *ddl, const char *database, const char *name, tow_error_t *error)
{
    const tow_ddl_handler_t *handler = &ddl->replay->options.ddl;
    tow_namespace_t *collection = tow_ddl_find(ddl, database, name);
    tow_gate_t answer = collection ? tow_ddl_gate(ddl, collection) : TOW_GATE_APPLY;
    char ns[512];
    bool kept;

    if (answer == TOW_GATE_SKIP)
        return true;
    if (answer == TOW_GATE_DIRTY)
        return tow_ddl_copy_again(ddl, database, name, error);
    if (ddl->done_before && !(collection && collection->placeholder))
        return true; /* done before the restart; what has that name now is a later collection */
    if (!keep_living(ddl, collection, database, name, &kept, error))
        return false;
    if (kept)
        return true;
    if (collection)
        tow_ddl_discard_keys(ddl, collection);
    if (!tow_ddl_drop_on_destination(ddl, database, name, error))
        return false;
    snprintf(ns, sizeof ns, "%s.%s", database, name);
    if (collection)
        tow_namespaces_drop(ddl->replay->options.namespaces, collection);
    return handler->forget(handler->data, ns, error);
}

bool tow_ddl_drop_database(ddl_t *ddl, tow_error_t *error)
{
    uint32_t count;
    tow_namespace_t **list = tow_namespaces_list(ddl->replay->options.namespaces, &count);
    bool ok = true;

    for (uint32_t i = 0; ok && i < count; i++)
        if (!strcmp(list[i]->database, ddl->parsed.database))
            ok = tow_ddl_drop(ddl, list[i]->database, list[i]->name, error);
    free(list);
    return ok;
}
