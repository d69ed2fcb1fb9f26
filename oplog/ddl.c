/* SPDX-License-Identifier: Apache-2.0 */
/* ddl.c: DDL events as barriers.
 *
 * Three answers of the collection's gate decide, as for documents: the copy was read after the
 * event (skip), all of it before (apply), or across it (copy the collection again). */
#include <string.h>

#include "engine/link/reply.h"
#include "oplog/ddl_internal.h"
#include "oplog/token.h"

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
    /* At once: a unique one refuses what the source takes from now on. What the event does not say
     * readably is in the source's catalog. */
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
    tow_namespace_t *known = tow_ddl_find(ddl, database, collection);

    if (!known)
        return true;
    if (capped)
        return handler->reconcile(handler->data, database, collection, error);
    /* Its indexes are read when its copy ends. */
    if (ddl->parsed.kind == TOW_OPERATION_DROP_INDEXES &&
        tow_namespaces_copied(ddl->replay->options.namespaces, known))
        return drop_indexes(ddl, error);
    handler->alike(handler->data, database, collection);
    return true;
}

static bool create(ddl_t *ddl, tow_error_t *error)
{
    const char *database = ddl->parsed.database, *name = ddl->parsed.collection;
    const char *type;

    if (!tow_ddl_takes(ddl, database, name) || tow_ddl_find(ddl, database, name))
        return true;
    if (tow_field_text(ddl->event, "nsType", &type) && strcmp(type, "collection") != 0) {
        if (strcmp(type, "view") != 0)
            tow_emit(
                &ddl->replay->options.sink, TOW_LEVEL_WARNING, "left_out",
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
    const char *database = ddl->parsed.database, *name = ddl->parsed.collection;
    tow_operation_t kind = ddl->parsed.kind;

    if (kind == TOW_OPERATION_RENAME)
        return tow_ddl_rename(ddl, error);
    if (kind == TOW_OPERATION_DROP_DATABASE)
        return tow_ddl_drop_database(ddl, error);
    if (!tow_ddl_takes(ddl, database, name))
        return true;
    if (kind == TOW_OPERATION_DROP)
        return tow_ddl_drop(ddl, database, name, error);
    if (kind == TOW_OPERATION_CREATE)
        return create(ddl, error);
    if (kind != TOW_OPERATION_CREATE_INDEXES && kind != TOW_OPERATION_DROP_INDEXES &&
        kind != TOW_OPERATION_MODIFY)
        warn_unknown(ddl, ddl->parsed.operation, database, name);
    return change(ddl, tow_ddl_is_barrier(ddl->replay, &ddl->parsed), error);
}

bool tow_ddl_is_barrier(tow_replay_t *replay, const tow_event_t *event)
{
    const tow_namespace_t *known;

    if (event->kind == TOW_OPERATION_DROP || event->kind == TOW_OPERATION_DROP_DATABASE ||
        event->kind == TOW_OPERATION_RENAME)
        return true;
    if (event->kind != TOW_OPERATION_MODIFY)
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

    if (ddl->parsed.kind == TOW_OPERATION_DROP_DATABASE)
        return handler->hold(handler->data, database, NULL, error);
    if (!handler->hold(handler->data, database, name, error))
        return false;
    return ddl->parsed.kind != TOW_OPERATION_RENAME ||
           !tow_ddl_target(ddl, &to_database, &to_name) ||
           handler->hold(handler->data, to_database, to_name, error);
}

/* What a rename brought has the target's options and indexes only at the source yet. */
static void release_builds(ddl_t *ddl)
{
    const tow_ddl_handler_t *handler = &ddl->replay->options.ddl;
    const char *database = ddl->parsed.database, *name = ddl->parsed.collection;
    const char *to_database, *to_name;

    if (ddl->parsed.kind == TOW_OPERATION_DROP_DATABASE) {
        handler->release(handler->data, database, NULL, false);
        return;
    }
    handler->release(handler->data, database, name, tow_ddl_find(ddl, database, name) != NULL);
    if (ddl->parsed.kind == TOW_OPERATION_RENAME && tow_ddl_target(ddl, &to_database, &to_name))
        handler->release(handler->data, to_database, to_name,
                         tow_ddl_find(ddl, to_database, to_name) != NULL);
}

static bool dispatch_alone(ddl_t *ddl, tow_error_t *error)
{
    tow_replay_t *replay = ddl->replay;
    bool ok = hold_builds(ddl, error);

    if (ok) {
        pthread_rwlock_wrlock(&replay->exclusive);
        ok = dispatch(ddl, error);
        if (ok && !ddl->done_before)
            ok = replay->options.ddl.save_ddl(replay->options.ddl.data, &ddl->token, ddl->time,
                                              error);
        pthread_rwlock_unlock(&replay->exclusive);
        tow_replay_wake_lanes(replay);
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
