/* ddl.c: DDL events as barriers.
 *
 * Three answers of the collection's gate decide, as for documents: the copy was read after the event
 * (skip), all of it before (apply), or across it (copy the collection again). A rename is the one case
 * where keys outlive their collection: dirty keys move to the new name, and so do keys that were
 * refetched under the old name when it may have been gone already. */
#include <stdlib.h>
#include <string.h>

#include "engine/link/codes.h"
#include "engine/link/reply.h"
#include "oplog/replay_internal.h"
#include "oplog/token.h"

typedef struct {
    tow_replay_t *replay;
    const bson_t *event;
    tow_event_t parsed;
    tow_block_t *block;
    tow_optime_t time;
    bson_t token;     /* borrowed from the event; empty: it has none */
    bool done_before; /* by an earlier process */
} ddl_t;

/* Keys on their way from the old name to the new one. */
typedef struct moved {
    struct moved *next;
    bson_t id;
    tow_optime_t time;
    tow_block_t *block;
} moved_t;

static bool is_not_found(const tow_error_t *error)
{
    return error->server_code == TOW_CODE_NAMESPACE_NOT_FOUND;
}

static bool takes(const ddl_t *ddl, const char *database, const char *name)
{
    return *name && tow_filter_takes(ddl->replay->options.filter, database, name);
}

static tow_namespace_t *find(const ddl_t *ddl, const char *database, const char *name)
{
    return tow_namespaces_find(ddl->replay->options.namespaces, database, name);
}

static tow_gate_t gate(const ddl_t *ddl, tow_namespace_t *collection)
{
    return tow_namespaces_gate_ddl(ddl->replay->options.namespaces, collection, ddl->time);
}

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
    return handler->dropped ? handler->dropped(handler->data, replay->destination, database, name, error)
                            : tow_collection_drop(replay->destination, database, name, error);
}

tow_namespace_t *tow_replay_ensure(tow_replay_t *replay, const char *database, const char *name,
                                   tow_error_t *error)
{
    const tow_ddl_handler_t *handler = &replay->options.ddl;
    tow_collection_info_t info;
    bool found, ok = true;

    if (!tow_catalog_find(replay->source, database, name, &info, &found, error))
        return NULL;
    if (found && info.type == TOW_COLLECTION) {
        ok = handler->create(handler->data, replay->destination, &info, error);
        /* Known by now: somebody copies it. */
        if (ok && !tow_namespaces_find(replay->options.namespaces, database, name))
            tow_namespaces_set_ranges(replay->options.namespaces,
                                      tow_namespaces_add(replay->options.namespaces, &info, 0),
                                      NULL, 0);
        else if (!ok && error->code == TOW_ERROR_CONFLICT)
            ok = handler->copy_again(handler->data, database, name, &found, error);
    }
    if (found)
        tow_collection_info_clear(&info);
    /* It is gone again, or has another name: later events will tell. */
    if (ok && !tow_namespaces_find(replay->options.namespaces, database, name))
        ok = clear_view(replay, database, name, error) &&
             add_placeholder(replay, database, name, error);
    return ok ? tow_namespaces_find(replay->options.namespaces, database, name) : NULL;
}

/* Forgets the dirty keys of a collection in every lane. */
static void discard_keys(ddl_t *ddl, const tow_namespace_t *collection)
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

static bool run_on_destination(ddl_t *ddl, const char *database, const bson_t *command,
                               tow_error_t *error)
{
    tow_send_options_t send = {.flags = TOW_SEND_WRITE | TOW_SEND_RETRY};
    bson_t reply;
    bool ok = tow_conn_command(ddl->replay->destination, database, command, &send, &reply, error);

    bson_destroy(&reply);
    return ok;
}

/* The uuid of what has that name on a side now; *out_found false: no collection has. */
static bool read_uuid(tow_conn_t *conn, const char *database, const char *name, uint8_t out[16],
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

static bool has_uuid(const tow_namespace_t *collection, const uint8_t uuid[16])
{
    static const uint8_t none[16];

    return collection && memcmp(uuid, none, 16) != 0 && !memcmp(collection->uuid, uuid, 16);
}

static bool drop_on_destination(ddl_t *ddl, const char *database, const char *name,
                                tow_error_t *error)
{
    const tow_ddl_handler_t *handler = &ddl->replay->options.ddl;

    return handler->dropped
               ? handler->dropped(handler->data, ddl->replay->destination, database, name, error)
               : tow_collection_drop(ddl->replay->destination, database, name, error);
}

static bool copy_again(ddl_t *ddl, const char *database, const char *name, tow_error_t *error)
{
    const tow_ddl_handler_t *handler = &ddl->replay->options.ddl;
    tow_namespace_t *collection = find(ddl, database, name);
    bool found;

    if (collection)
        discard_keys(ddl, collection);
    return handler->copy_again(handler->data, database, name, &found, error);
}

/* A cluster tells of drops that are none: movePrimary drops what it left on the old shard, and each shard of a
 * collection tells of its drop, the last perhaps when the name is in use again. So what the source has under
 * that name now is kept: as it is when it is the collection that we know, else it is copied again. *out_kept
 * false: it has none. */
static bool keep_living(ddl_t *ddl, const tow_namespace_t *collection, const char *database,
                        const char *name, bool *out_kept, tow_error_t *error)
{
    uint8_t uuid[16];

    *out_kept = false;
    if (!ddl->replay->merged)
        return true;
    if (!read_uuid(ddl->replay->source, database, name, uuid, out_kept, error))
        return false;
    return !*out_kept || has_uuid(collection, uuid) || copy_again(ddl, database, name, error);
}

/* The collection as we know it ends here. */
static bool drop(ddl_t *ddl, const char *database, const char *name, tow_error_t *error)
{
    const tow_ddl_handler_t *handler = &ddl->replay->options.ddl;
    tow_namespace_t *collection = find(ddl, database, name);
    tow_gate_t answer = collection ? gate(ddl, collection) : TOW_GATE_APPLY;
    char ns[512];
    bool kept;

    if (answer == TOW_GATE_SKIP)
        return true;
    if (answer == TOW_GATE_DIRTY)
        return copy_again(ddl, database, name, error);
    if (ddl->done_before && !(collection && collection->placeholder))
        return true; /* done before the restart; what has that name now is a later collection */
    if (!keep_living(ddl, collection, database, name, &kept, error))
        return false;
    if (kept)
        return true;
    if (collection)
        discard_keys(ddl, collection);
    if (!drop_on_destination(ddl, database, name, error))
        return false;
    snprintf(ns, sizeof ns, "%s.%s", database, name);
    if (collection)
        tow_namespaces_drop(ddl->replay->options.namespaces, collection);
    return handler->forget(handler->data, ns, error);
}

static bool drop_database(ddl_t *ddl, tow_error_t *error)
{
    uint32_t count;
    tow_namespace_t **list = tow_namespaces_list(ddl->replay->options.namespaces, &count);
    bool ok = true;

    for (uint32_t i = 0; ok && i < count; i++)
        if (!strcmp(list[i]->database, ddl->parsed.database))
            ok = drop(ddl, list[i]->database, list[i]->name, error);
    free(list);
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

static bool parse_target(const ddl_t *ddl, const char **out_database, const char **out_name)
{
    *out_database = *out_name = "";
    return tow_field_text(ddl->event, "to.db", out_database) &&
           tow_field_text(ddl->event, "to.coll", out_name) && **out_database && **out_name;
}

/* Too many reads to remember one by one may have been made since the rename. */
static bool horizon_passed(const ddl_t *ddl)
{
    for (uint32_t i = 0; i < ddl->replay->lane_count; i++)
        if (tow_dirty_horizon(ddl->replay->lanes[i].dirty) >= ddl->time)
            return true;
    return false;
}

/* renameCollection on the destination. *out_found false: the old name is not there, or not the job's. That it is
 * not there is also what a server says whose first answer was lost: then the new name has what the old one had. */
static bool rename_on_destination(ddl_t *ddl, const tow_namespace_t *from, const char *database,
                                  const char *name, bool *out_found, tow_error_t *error)
{
    const tow_ddl_handler_t *handler = &ddl->replay->options.ddl;
    tow_conn_t *destination = ddl->replay->destination;
    uint8_t before[16], after[16];
    bson_t command;
    bool ok, known, there;
    char *to;

    *out_found = true;
    if (handler->may_rename &&
        !handler->may_rename(handler->data, destination, from, database, name, out_found, error))
        return false;
    if (!*out_found)
        return true;
    to = tow_format("%s.%s", database, name);
    bson_init(&command);
    ok = read_uuid(destination, from->database, from->name, before, &known, error);
    bson_append_utf8(&command, "renameCollection", -1, from->ns, -1);
    bson_append_utf8(&command, "to", -1, to, -1);
    bson_append_bool(&command, "dropTarget", -1, true);
    /* Only a view is not dropped with the rest: it was there before, or is there later. */
    if (ok && !run_on_destination(ddl, "admin", &command, error) &&
        !(error->server_code == TOW_CODE_NAMESPACE_EXISTS &&
          drop_on_destination(ddl, database, name, error) &&
          run_on_destination(ddl, "admin", &command, error))) {
        ok = is_not_found(error) && read_uuid(destination, database, name, after, &there, error);
        *out_found = ok && known && there && !memcmp(before, after, sizeof after);
    }
    bson_destroy(&command);
    if (ok && *out_found && handler->renamed)
        ok = handler->renamed(handler->data, destination, from->ns, database, name, error);
    if (!ok)
        tow_fail_context(error, "rename %s to %s", from->ns, to);
    free(to);
    return ok;
}

static tow_namespace_t *add_renamed(ddl_t *ddl, const tow_namespace_t *from, const char *database,
                                    const char *name, const uint8_t uuid[16])
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

    memcpy(info.uuid, uuid, sizeof info.uuid);
    to = tow_namespaces_add(table, &info, ddl->time);
    tow_namespaces_set_ranges(table, to, NULL, 0);
    return to;
}

/* Both names are ours and the old one was copied before: the destination renames too. `uuid`: of the source's
 * collection under its new name. */
static bool rename_exactly(ddl_t *ddl, tow_namespace_t *from, const char *database,
                           const char *name, const uint8_t uuid[16], tow_error_t *error)
{
    const tow_ddl_handler_t *handler = &ddl->replay->options.ddl;
    tow_namespace_t *target = find(ddl, database, name), *to = NULL;
    moved_t *moved = NULL;
    char ns[512];
    bool found, ok;

    snprintf(ns, sizeof ns, "%s.%s", database, name);
    if (target)
        discard_keys(ddl, target);
    take_moved(ddl, from, &moved);
    ok = rename_on_destination(ddl, from, database, name, &found, error);
    if (ok && found) {
        to = add_renamed(ddl, from, database, name, uuid);
        tow_namespaces_drop(ddl->replay->options.namespaces, from);
        ok = handler->forget(handler->data, from->ns, error) &&
             handler->forget(handler->data, ns, error);
    } else if (ok) {
        tow_namespaces_drop(ddl->replay->options.namespaces, from);
        ok = handler->forget(handler->data, from->ns, error) &&
             copy_again(ddl, database, name, error);
    }
    give_moved(ddl, moved, to);
    return ok;
}

/* A rename that was carried out before the restart: only the keys have to move. */
static bool rename_keys(ddl_t *ddl, tow_namespace_t *from, const char *database, const char *name,
                        tow_error_t *error)
{
    tow_namespace_t *to = find(ddl, database, name);
    moved_t *moved = NULL;

    if (!to)
        to = tow_replay_ensure(ddl->replay, database, name, error);
    if (!to)
        return false;
    take_moved(ddl, from, &moved);
    /* The old name may be a later collection's by now: its keys are dirty there as well. */
    for (moved_t *each = moved; each; each = each->next) {
        tow_value_t id = {0};
        unsigned hash;

        if (!tow_value_id(&each->id, &id))
            continue;
        hash = tow_item_hash(from, id);
        tow_ledger_hold(ddl->replay->options.ledger, ddl->block);
        tow_dirty_mark(tow_lane_of(ddl->replay, from, hash)->dirty, from, id, hash, ddl->time,
                       ddl->block, false);
    }
    give_moved(ddl, moved, to);
    return true;
}

/* Each shard of a cluster tells of a rename, and sharded collections have another uuid behind it: what the source
 * has under the new name says whether this one was carried out already. */
static bool look_at_target(ddl_t *ddl, const char *database, const char *name, uint8_t out_uuid[16],
                           bool *out_done, tow_error_t *error)
{
    bool found;

    *out_done = false;
    if (!read_uuid(ddl->replay->source, database, name, out_uuid, &found, error))
        return false;
    *out_done = has_uuid(find(ddl, database, name), out_uuid);
    return true;
}

static bool rename_collection(ddl_t *ddl, tow_error_t *error)
{
    const char *database, *name;
    const char *old_database = ddl->parsed.database, *old_name = ddl->parsed.collection;
    tow_namespace_t *from = find(ddl, old_database, old_name), *to;
    bool takes_old = takes(ddl, old_database, old_name), takes_new, done = false;
    uint8_t uuid[16] = {0};

    if (!parse_target(ddl, &database, &name))
        return tow_fail(error, TOW_ERROR_SERVER, "a rename event does not say the new name");
    takes_new = takes(ddl, database, name);
    if (!takes_new)
        return takes_old ? drop(ddl, old_database, old_name, error) : true;
    to = find(ddl, database, name);
    if (to && gate(ddl, to) == TOW_GATE_SKIP)
        return takes_old ? drop(ddl, old_database, old_name, error) : true;
    if (ddl->done_before && from && gate(ddl, from) != TOW_GATE_SKIP &&
        !rename_keys(ddl, from, database, name, error))
        return false;
    if (ddl->done_before)
        return !(from && from->placeholder) || drop(ddl, old_database, old_name, error);
    if (from)
        memcpy(uuid, from->uuid, sizeof uuid);
    if (ddl->replay->merged && !look_at_target(ddl, database, name, uuid, &done, error))
        return false;
    if (done)
        return takes_old ? drop(ddl, old_database, old_name, error) : true;
    if (takes_old && from && gate(ddl, from) == TOW_GATE_APPLY &&
        (!to || gate(ddl, to) == TOW_GATE_APPLY) && !horizon_passed(ddl))
        return rename_exactly(ddl, from, database, name, uuid, error);
    if (takes_old && !drop(ddl, old_database, old_name, error))
        return false;
    return copy_again(ddl, database, name, error);
}

/* What an index is, the source's listing says better than the event. */
static bool drop_indexes(ddl_t *ddl, tow_error_t *error)
{
    const tow_ddl_handler_t *handler = &ddl->replay->options.ddl;
    const char *database = ddl->parsed.database, *collection = ddl->parsed.collection;
    bson_iter_t list;
    bool ok = true;

    handler->alike(handler->data, database, collection);
    if (!tow_field_list(ddl->event, "operationDescription.indexes", &list))
        return true;
    /* At once: a unique one refuses what the source takes from now on. What the event does not say readably is
     * in the source's catalog. */
    while (ok && bson_iter_next(&list)) {
        const char *name;
        bson_t index;

        if (tow_iter_document(&list, &index) && tow_field_text(&index, "name", &name))
            ok = handler->index_gone(handler->data, database, collection, name, error);
    }
    return ok;
}

/* Indexes and options. The limits of a capped collection decide what it holds: they change in step
 * with its documents. */
static bool change(ddl_t *ddl, bool capped, tow_error_t *error)
{
    const tow_ddl_handler_t *handler = &ddl->replay->options.ddl;
    const char *database = ddl->parsed.database, *collection = ddl->parsed.collection;
    tow_namespace_t *known = find(ddl, database, collection);

    if (!known)
        return true;
    if (capped)
        return handler->reconcile(handler->data, database, collection, error);
    /* Its indexes are read when its copy ends. */
    if (!strcmp(ddl->parsed.operation, "dropIndexes") &&
        tow_namespaces_copied(ddl->replay->options.namespaces, known))
        return drop_indexes(ddl, error);
    handler->alike(handler->data, database, collection);
    return true;
}

static bool create(ddl_t *ddl, tow_error_t *error)
{
    const char *database = ddl->parsed.database, *name = ddl->parsed.collection;
    const char *type;

    if (!takes(ddl, database, name) || find(ddl, database, name))
        return true;
    if (tow_field_text(ddl->event, "nsType", &type) && strcmp(type, "collection") != 0) {
        if (strcmp(type, "view") != 0)
            tow_emit(&ddl->replay->options.sink, TOW_LEVEL_WARNING, "left_out",
                     "%s.%s was created at the source, a %s: it has no change stream and is not "
                     "copied; the cutover waits until it is copied by hand or dropped at the source",
                     database, name, type);
        return true; /* views are made at the end */
    }
    return tow_replay_ensure(ddl->replay, database, name, error) != NULL;
}

/* Once for each type: a source that knows one sends many. */
static void warn_unknown(ddl_t *ddl, const char *operation, const char *database, const char *name)
{
    bson_t *known = &ddl->replay->unknown;

    if (bson_has_field(known, operation))
        return;
    bson_append_bool(known, operation, -1, true);
    tow_emit(&ddl->replay->options.sink, TOW_LEVEL_WARNING, "event_unknown",
             "%s.%s: the source sent an event of the unknown type '%s'; after each of these the "
             "options and indexes are compared with the destination's",
             database, name, operation);
}

static bool dispatch(ddl_t *ddl, tow_error_t *error)
{
    static const char *const changes[] = {"createIndexes", "dropIndexes", "modify"};
    const char *operation = ddl->parsed.operation;
    const char *database = ddl->parsed.database, *name = ddl->parsed.collection;
    bool known = false;

    if (!strcmp(operation, "rename"))
        return rename_collection(ddl, error);
    if (!strcmp(operation, "dropDatabase"))
        return drop_database(ddl, error);
    if (!takes(ddl, database, name))
        return true;
    if (!strcmp(operation, "drop"))
        return drop(ddl, database, name, error);
    if (!strcmp(operation, "create"))
        return create(ddl, error);
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++)
        known = known || !strcmp(operation, changes[i]);
    if (!known)
        warn_unknown(ddl, operation, database, name);
    return change(ddl, tow_ddl_is_barrier(ddl->replay, &ddl->parsed), error);
}

bool tow_ddl_is_barrier(tow_replay_t *replay, const tow_event_t *event)
{
    const tow_namespace_t *known;

    if (!strcmp(event->operation, "drop") || !strcmp(event->operation, "dropDatabase") ||
        !strcmp(event->operation, "rename"))
        return true;
    if (strcmp(event->operation, "modify") != 0)
        return false;
    known = tow_namespaces_find(replay->options.namespaces, event->database, event->collection);
    return known && known->capped;
}

/* Before the lanes are stopped: the destination refuses most DDL while it builds an index of the
 * collection, and that build's end must not hold up the others. */
static bool hold_builds(ddl_t *ddl, tow_error_t *error)
{
    const tow_ddl_handler_t *handler = &ddl->replay->options.ddl;
    const char *database = ddl->parsed.database, *name = ddl->parsed.collection;
    const char *to_database, *to_name;

    if (!strcmp(ddl->parsed.operation, "dropDatabase"))
        return handler->hold(handler->data, database, NULL, error);
    if (!handler->hold(handler->data, database, name, error))
        return false;
    return strcmp(ddl->parsed.operation, "rename") != 0 ||
           !parse_target(ddl, &to_database, &to_name) ||
           handler->hold(handler->data, to_database, to_name, error);
}

/* What a rename brought has the target's options and indexes only at the source yet. */
static void release_builds(ddl_t *ddl)
{
    const tow_ddl_handler_t *handler = &ddl->replay->options.ddl;
    const char *database = ddl->parsed.database, *name = ddl->parsed.collection;
    const char *to_database, *to_name;

    if (!strcmp(ddl->parsed.operation, "dropDatabase")) {
        handler->release(handler->data, database, NULL, false);
        return;
    }
    handler->release(handler->data, database, name, find(ddl, database, name) != NULL);
    if (!strcmp(ddl->parsed.operation, "rename") && parse_target(ddl, &to_database, &to_name))
        handler->release(handler->data, to_database, to_name,
                         find(ddl, to_database, to_name) != NULL);
}

static bool dispatch_alone(ddl_t *ddl, tow_error_t *error)
{
    tow_replay_t *replay = ddl->replay;
    bool ok = hold_builds(ddl, error);

    if (ok) {
        pthread_rwlock_wrlock(&replay->exclusive);
        ok = dispatch(ddl, error);
        if (ok && !ddl->done_before)
            ok = replay->options.ddl.save_ddl(replay->options.ddl.data, &ddl->token, ddl->time, error);
        pthread_rwlock_unlock(&replay->exclusive);
    }
    release_builds(ddl);
    return ok;
}

/* Whether a process before carried the event out: then it came at or before the last that one did.
 * Events are known by their tokens; several, of different shards, may share one cluster time. */
static bool is_done_before(ddl_t *ddl)
{
    tow_replay_t *replay = ddl->replay;
    bool known, reached;

    if (bson_empty(&replay->ddl_token))
        return false;
    reached = tow_token_reached(&ddl->token, &replay->ddl_token, &known);
    if (known)
        return reached;
    if (bson_equal(&ddl->token, &replay->ddl_token)) {
        replay->ddl_found = true;
        return true;
    }
    return ddl->time < replay->ddl_time || (ddl->time == replay->ddl_time && !replay->ddl_found);
}

static void find_token(ddl_t *ddl)
{
    if (!tow_field_document(ddl->event, "_id", &ddl->token))
        bson_init(&ddl->token);
}

bool tow_replay_ddl(tow_replay_t *replay, const bson_t *event, tow_optime_t time,
                    tow_block_t *block, tow_error_t *error)
{
    ddl_t ddl = {.replay = replay, .event = event, .block = block, .time = time};
    bool ok;

    tow_event_parse(event, &ddl.parsed);
    if (!ddl.parsed.database[0])
        return true; /* what concerns no namespace, such as endOfTransaction */
    find_token(&ddl);
    ddl.done_before = is_done_before(&ddl);
    ok = tow_ddl_is_barrier(replay, &ddl.parsed) ? dispatch_alone(&ddl, error)
                                                 : dispatch(&ddl, error);
    if (ok)
        tow_emit(&replay->options.sink, TOW_LEVEL_INFO, "ddl", "%s %s.%s", ddl.parsed.operation,
                 ddl.parsed.database, ddl.parsed.collection);
    return ok;
}
