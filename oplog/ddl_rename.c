/* SPDX-License-Identifier: Apache-2.0 */
/* ddl_rename.c: a rename is the one case where keys outlive their collection: dirty keys move to
 * the new name, and so do keys that were refetched under the old name when it may have been gone
 * already. */
#include <stdlib.h>
#include <string.h>

#include "engine/link/codes.h"
#include "engine/link/reply.h"
#include "oplog/ddl_internal.h"

/* Keys on their way from the old name to the new one. */
typedef struct moved {
    struct moved *next;
    bson_t id;
    tow_optime_t time;
    tow_block_t *block;
} moved_t;

bool tow_ddl_target(const ddl_t *ddl, const char **out_database, const char **out_name)
{
    *out_database = *out_name = "";
    return tow_field_text(ddl->event, "to.db", out_database) &&
           tow_field_text(ddl->event, "to.coll", out_name) && **out_database && **out_name;
}

static bool is_not_found(const tow_error_t *error)
{
    return error->server_code == TOW_CODE_NAMESPACE_NOT_FOUND;
}

static bool run_on_destination(ddl_t *ddl, const char *database, const bson_t *command,
                               tow_error_t *error)
{
    tow_send_options_t send = {.flags = TOW_SEND_WRITE | TOW_SEND_RETRY};
    bson_t reply;
    bool ok = tow_conn_command(ddl->replay->destination, database, command, &send, &reply, error);

    bson_destroy(&reply);
    return ok;
}

static void keep_moved(moved_t **list, tow_value_t id, tow_optime_t time, tow_block_t *block)
{
    moved_t *moved = tow_alloc(sizeof *moved);

    bson_init(&moved->id);
    tow_value_append(&moved->id, "_id", 3, id);
    moved->time = time;
    moved->block = block;
    moved->next = *list;
    *list = moved;
}

typedef struct {
    ddl_t *ddl;
    moved_t **list;
} suspects_t;

static void keep_suspect(void *data, tow_value_t id)
{
    suspects_t *suspects = data;

    tow_ledger_hold(suspects->ddl->replay->options.ledger, suspects->ddl->block);
    keep_moved(suspects->list, id, suspects->ddl->time, suspects->ddl->block);
}

/* Takes the dirty keys of the old name away, and those read under it at or after the rename. */
static void take_moved(ddl_t *ddl, const tow_namespace_t *from, moved_t **out)
{
    suspects_t suspects = {ddl, out};

    for (uint32_t i = 0; i < ddl->replay->lane_count; i++) {
        tow_dirty_t *dirty = ddl->replay->lanes[i].dirty;

        for (tow_dirty_key_t *key = tow_dirty_detach(dirty, from), *next; key; key = next) {
            next = key->next;
            keep_moved(out, tow_dirty_id(key), key->time > ddl->time ? key->time : ddl->time,
                       key->block);
            tow_dirty_forget(dirty, key, false);
        }
        tow_recent_detach(dirty, from, ddl->time, keep_suspect, &suspects);
    }
}

/* Makes the taken keys dirty under the new name; with NULL they are settled. */
static void give_moved(ddl_t *ddl, moved_t *list, tow_namespace_t *to)
{
    while (list) {
        moved_t *moved = list;
        tow_value_t id = {0};

        if (to && tow_value_id(&moved->id, &id)) {
            unsigned hash = tow_item_hash(to, id);

            tow_dirty_mark(tow_lane_of(ddl->replay, to, hash)->dirty, to, id, hash, moved->time,
                           moved->block, false);
        } else {
            tow_ledger_settle(ddl->replay->options.ledger, moved->block, 1);
        }
        list = moved->next;
        bson_destroy(&moved->id);
        free(moved);
    }
}

/* Too many reads to remember one by one may have been made since the rename. */
static bool horizon_passed(const ddl_t *ddl)
{
    for (uint32_t i = 0; i < ddl->replay->lane_count; i++)
        if (tow_dirty_horizon(ddl->replay->lanes[i].dirty) >= ddl->time)
            return true;
    return false;
}

/* *out_ours false: the old name is not there, or not the job's. *out_replaces: the new one is
 * there, and the job's. */
static bool may_rename(const ddl_t *ddl, const tow_namespace_t *from, const char *database,
                       const char *name, bool *out_ours, bool *out_replaces, tow_error_t *error)
{
    const tow_ddl_handler_t *handler = &ddl->replay->options.ddl;

    *out_ours = *out_replaces = true;
    return !handler->may_rename ||
           handler->may_rename(handler->data, ddl->replay->destination, from, database, name,
                               out_ours, out_replaces, error);
}

static bool send_rename(ddl_t *ddl, const char *from, const char *to, bool replaces,
                        tow_error_t *error)
{
    bson_t command = BSON_INITIALIZER;
    bool ok;

    bson_append_utf8(&command, "renameCollection", -1, from, -1);
    bson_append_utf8(&command, "to", -1, to, -1);
    /* What somebody makes there from now on is not the job's to drop. */
    bson_append_bool(&command, "dropTarget", -1, replaces);
    ok = run_on_destination(ddl, "admin", &command, error);
    bson_destroy(&command);
    return ok;
}

/* Sends it once more where something has the new name that was not dropped with the rest: a view of
 * the job's, or what somebody has made there since. Whose it is is asked again: *error says so. */
static bool rename_over(ddl_t *ddl, const tow_namespace_t *from, const char *to,
                        const char *database, const char *name, bool replaces, tow_error_t *error)
{
    bool ours;

    return send_rename(ddl, from->ns, to, replaces, error) ||
           (error->server_code == TOW_CODE_NAMESPACE_EXISTS &&
            may_rename(ddl, from, database, name, &ours, &replaces, error) &&
            tow_ddl_drop_on_destination(ddl, database, name, error) &&
            send_rename(ddl, from->ns, to, false, error));
}

/* renameCollection on the destination. *out_found false: the old name is not there, or not the
 * job's. That it is not there is also what a server says whose first answer was lost: then the new
 * name has what the old one had. */
static bool rename_on_destination(ddl_t *ddl, const tow_namespace_t *from, const char *database,
                                  const char *name, bool *out_found, tow_error_t *error)
{
    const tow_ddl_handler_t *handler = &ddl->replay->options.ddl;
    tow_conn_t *destination = ddl->replay->destination;
    uint8_t before[16], after[16];
    bool ok, known, there, replaces;
    char *to;

    if (!may_rename(ddl, from, database, name, out_found, &replaces, error))
        return false;
    if (!*out_found)
        return true;
    to = tow_format("%s.%s", database, name);
    ok = tow_ddl_read_uuid(destination, from->database, from->name, before, &known, error);
    if (ok && !rename_over(ddl, from, to, database, name, replaces, error)) {
        ok = is_not_found(error) &&
             tow_ddl_read_uuid(destination, database, name, after, &there, error);
        *out_found = ok && known && there && !memcmp(before, after, sizeof after);
    }
    if (ok && *out_found && handler->renamed)
        ok = handler->renamed(handler->data, destination, from->ns, database, name, error);
    if (!ok)
        tow_fail_context(error, "rename %s to %s", from->ns, to);
    free(to);
    return ok;
}

/* `there`: the identity of what the source has under the new name now. */
static tow_namespace_t *add_renamed(ddl_t *ddl, const tow_namespace_t *from, const char *database,
                                    const char *name, const uint8_t there[16])
{
    tow_collection_info_t info = {.database = (char *)database,
                                  .name = (char *)name,
                                  .type = from->type,
                                  .options = from->options,
                                  .capped = from->capped,
                                  .clustered = from->clustered,
                                  .collated = from->collated};
    tow_namespaces_t *table = ddl->replay->options.namespaces;
    tow_namespace_t *to;

    /* Of several shards, what is there now may be a later collection, or this one with another
     * identity. */
    if (!ddl->replay->merged || !memcmp(from->uuid, there, sizeof from->uuid))
        memcpy(info.uuid, from->uuid, sizeof info.uuid);
    to = tow_namespaces_add(table, &info, ddl->time);
    memcpy(to->renamed_uuid, there, sizeof to->renamed_uuid);
    tow_namespaces_set_ranges(table, to, NULL, 0);
    return to;
}

/* Both names are ours and the old one was copied before: the destination renames too. `there`: what
 * the source has under the new name now. */
static bool rename_exactly(ddl_t *ddl, tow_namespace_t *from, const char *database,
                           const char *name, const uint8_t there[16], tow_error_t *error)
{
    const tow_ddl_handler_t *handler = &ddl->replay->options.ddl;
    tow_namespace_t *target = tow_ddl_find(ddl, database, name), *to = NULL;
    moved_t *moved = NULL;
    char ns[512];
    bool found, ok;

    snprintf(ns, sizeof ns, "%s.%s", database, name);
    if (target)
        tow_ddl_discard_keys(ddl, target);
    take_moved(ddl, from, &moved);
    ok = rename_on_destination(ddl, from, database, name, &found, error);
    if (ok && found) {
        to = add_renamed(ddl, from, database, name, there);
        tow_namespaces_drop(ddl->replay->options.namespaces, from);
        ok = handler->forget(handler->data, from->ns, error) &&
             handler->forget(handler->data, ns, error);
    } else if (ok) {
        tow_namespaces_drop(ddl->replay->options.namespaces, from);
        ok = handler->forget(handler->data, from->ns, error) &&
             tow_ddl_copy_again(ddl, database, name, error);
    }
    give_moved(ddl, moved, to);
    return ok;
}

/* Each shard of a cluster reports a rename, and a sharded collection has another identity after it.
 * So a rename of something that is not known (any more) was carried out already when the target is
 * what the first report brought. */
static bool look_at_target(ddl_t *ddl, const tow_namespace_t *from, const char *database,
                           const char *name, uint8_t out_there[16], bool *out_done,
                           tow_error_t *error)
{
    const tow_namespace_t *to = tow_ddl_find(ddl, database, name);
    bool found;

    *out_done = false;
    memset(out_there, 0, 16);
    if (!ddl->replay->merged)
        return true;
    if (!tow_ddl_read_uuid(ddl->replay->source, database, name, out_there, &found, error))
        return false;
    *out_done = !from && found && to &&
                (tow_ddl_has_uuid(to, out_there) || !memcmp(to->renamed_uuid, out_there, 16));
    return true;
}

/* Names under which a server fills a collection by inserts that no stream reports, before it gives
 * it its own: in a rename across databases, and where a collection becomes capped. */
static bool is_filled_unseen(const char *name)
{
    enum { PREFIX = 3, RANDOM = 5 }; /* "tmp", letters and digits */
    const char *rest = name + PREFIX + RANDOM;

    return !strncmp(name, "tmp", PREFIX) && strlen(name) > PREFIX + RANDOM &&
           (!strcmp(rest, ".renameCollection") ||
            !strncmp(rest, ".convertToCapped.", strlen(".convertToCapped.")));
}

/* Whether the destination has under the old name what the source had, so that a rename is all that
 * is needed. A placeholder has only what its events brought: the rest came with an earlier name.
 * What a process before carried out is copied again as well: that one read keys under the old name
 * when it was gone already, and which ones nobody knows any more. */
static bool may_rename_exactly(ddl_t *ddl, tow_namespace_t *from, tow_namespace_t *to)
{
    return from && !from->placeholder && tow_collection_is_streamed(from->name) &&
           !is_filled_unseen(from->name) && tow_ddl_gate(ddl, from) == TOW_GATE_APPLY &&
           (!to || tow_ddl_gate(ddl, to) == TOW_GATE_APPLY) && !horizon_passed(ddl);
}

bool tow_ddl_rename(ddl_t *ddl, tow_error_t *error)
{
    const char *database, *name;
    const char *old_database = ddl->parsed.database, *old_name = ddl->parsed.collection;
    tow_namespace_t *from = tow_ddl_find(ddl, old_database, old_name), *to;
    bool takes_old = tow_ddl_takes(ddl, old_database, old_name), done;
    uint8_t there[16];

    if (!tow_ddl_target(ddl, &database, &name))
        return tow_fail(error, TOW_ERROR_SERVER, "a rename event does not say the new name");
    if (!tow_ddl_takes(ddl, database, name))
        return takes_old ? tow_ddl_drop(ddl, old_database, old_name, error) : true;
    if (!look_at_target(ddl, from, database, name, there, &done, error))
        return false;
    to = tow_ddl_find(ddl, database, name);
    if (done || (to && tow_ddl_gate(ddl, to) == TOW_GATE_SKIP))
        return takes_old ? tow_ddl_drop(ddl, old_database, old_name, error) : true;
    if (takes_old && may_rename_exactly(ddl, from, to))
        return rename_exactly(ddl, from, database, name, there, error);
    if (takes_old && !tow_ddl_drop(ddl, old_database, old_name, error))
        return false;
    return tow_ddl_copy_again(ddl, database, name, error);
}
