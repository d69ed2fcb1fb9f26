/* SPDX-License-Identifier: Apache-2.0 */
/* server.c: see server.h. What is stored, and what a command does once. */
#include "server.h"

#include <mongoc/mongoc.h>
#include <stdlib.h>
#include <string.h>

#include "document.h"
#include "schedule.h"

enum { WALL_S = 1700000000, TOO_OLD = 225, STEPPED_DOWN = 11602 };

void sim_server_begin(sim_server_t *server, const char *side, const char *version)
{
    *server = (sim_server_t){.side = side, .version = version};
    server->now = server->committed = TOW_OPTIME(WALL_S, 1);
}

/* Collections -----------------------------------------------------------------------------------*/

sim_collection_t *sim_find_collection(sim_server_t *server, const char *ns)
{
    for (uint32_t i = 0; i < server->collection_count; i++)
        if (server->collections[i].there && !strcmp(server->collections[i].ns, ns))
            return &server->collections[i];
    return NULL;
}

static void name_collection(sim_collection_t *collection, const char *ns)
{
    size_t length = strcspn(ns, ".");

    snprintf(collection->ns, SIM_NAME, "%s", ns);
    snprintf(collection->database, SIM_NAME, "%.*s", (int)length, ns);
    snprintf(collection->name, SIM_NAME, "%s", ns + length + 1);
}

sim_collection_t *sim_make_collection(sim_server_t *server, const char *ns, const bson_t *options)
{
    sim_collection_t *collection;
    uint32_t i = 0;

    while (i < server->collection_count && server->collections[i].there)
        i++;
    if (i == SIM_COLLECTIONS)
        sim_fail("too many collections");
    if (i == server->collection_count)
        server->collection_count++;
    collection = &server->collections[i];
    *collection = (sim_collection_t){.there = true};
    name_collection(collection, ns);
    for (int byte = 0; byte < 16; byte++)
        collection->uuid[byte] = (uint8_t)sim_below(SIM_SERVER, 256);
    bson_init(&collection->options);
    if (options)
        bson_concat(&collection->options, options);
    return collection;
}

void sim_drop_collection(sim_server_t *server, sim_collection_t *collection)
{
    for (uint32_t i = 0; i < collection->count; i++) {
        sim_entry_t *entry = &collection->entries[i];

        for (uint32_t v = 0; v < entry->count; v++)
            if (entry->versions[v].document)
                bson_destroy(entry->versions[v].document);
        free(entry->versions);
        bson_destroy(entry->id);
    }
    free(collection->entries);
    for (uint32_t i = 0; i < collection->index_count; i++)
        bson_destroy(collection->indexes[i]);
    bson_destroy(&collection->options);
    *collection = (sim_collection_t){0};
    server->writes++;
}

void sim_rename_collection(sim_server_t *server, sim_collection_t *collection, const char *to)
{
    name_collection(collection, to);
    server->writes++;
}

sim_entry_t *sim_find_entry(const sim_collection_t *collection, tow_value_t id, uint32_t *out_place)
{
    uint32_t low = 0, high = collection->count;

    while (low < high) {
        uint32_t middle = (low + high) / 2;
        int order = tow_value_compare(sim_id(collection->entries[middle].id), id);

        if (!order) {
            *out_place = middle;
            return &collection->entries[middle];
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *out_place = low;
    return NULL;
}

const bson_t *sim_document_at(const sim_entry_t *entry, tow_optime_t time)
{
    for (uint32_t i = entry->count; i-- > 0;)
        if (!time || entry->versions[i].time <= time)
            return entry->versions[i].document;
    return NULL;
}

const bson_t *sim_get(const sim_collection_t *collection, tow_value_t id, tow_optime_t time)
{
    uint32_t place;
    const sim_entry_t *entry = sim_find_entry(collection, id, &place);

    return entry ? sim_document_at(entry, time) : NULL;
}

/* Time ------------------------------------------------------------------------------------------*/

static void advance(sim_server_t *server)
{
    tow_optime_t clock = TOW_OPTIME(WALL_S + sim_now_us() / 1000000, 1);

    if (server->in_transaction)
        return;
    server->now = clock > server->now ? clock : server->now + 1;
    server->number = 0;
}

void sim_server_tick(sim_server_t *server)
{
    advance(server);
}

void sim_transaction(sim_server_t *server, bool begins)
{
    if (begins)
        advance(server);
    server->in_transaction = begins;
}

/* The time that a majority has, at least that one: it goes on by chance. */
tow_optime_t sim_commit(sim_server_t *server, tow_optime_t least)
{
    if (server->in_transaction)
        sim_fail("a command within a transaction");
    if (server->committed < least)
        server->committed = least < server->now ? least : server->now;
    if (server->committed < server->now && sim_below(SIM_SERVER, 3))
        server->committed = server->now;
    return server->committed;
}

/* Writes ----------------------------------------------------------------------------------------*/

static void append_event(sim_server_t *server, bson_t *event)
{
    sim_event_t *item;
    char text[96];
    bson_t token, whole = BSON_INITIALIZER;

    server->oplog = tow_realloc(server->oplog, (server->oplog_count + 1) * sizeof *server->oplog);
    item = &server->oplog[server->oplog_count++];
    item->time = server->now;
    item->number = server->number++;
    snprintf(text, sizeof text, "82%08X%08X2B042C0100296E5A1004%08X04",
             (uint32_t)(item->time >> 32), (uint32_t)item->time, item->number);
    bson_append_document_begin(&whole, "_id", -1, &token);
    bson_append_utf8(&token, "_data", -1, text, -1);
    bson_append_document_end(&whole, &token);
    bson_append_timestamp(&whole, "clusterTime", -1, (uint32_t)(item->time >> 32),
                          (uint32_t)item->time);
    bson_concat(&whole, event);
    item->event = bson_copy(&whole);
    bson_destroy(&whole);
}

static void append_ns(bson_t *event, const char *field, const char *ns)
{
    size_t length = strcspn(ns, ".");
    bson_t child;

    bson_append_document_begin(event, field, -1, &child);
    bson_append_utf8(&child, "db", -1, ns, (int)length);
    bson_append_utf8(&child, "coll", -1, ns + length + 1, -1);
    bson_append_document_end(event, &child);
}

void sim_tell(sim_server_t *server, const char *operation, const char *ns, const char *to)
{
    bson_t event = BSON_INITIALIZER;

    advance(server);
    sim_trace("   source: %s %s %s at %x.%x", operation, ns, to ? to : "",
              (uint32_t)(server->now >> 32), (uint32_t)server->now);
    bson_append_utf8(&event, "operationType", -1, operation, -1);
    append_ns(&event, "ns", ns);
    if (to)
        append_ns(&event, "to", to);
    append_event(server, &event);
    bson_destroy(&event);
}

void sim_tell_index(sim_server_t *server, const char *operation, const char *ns,
                    const bson_t *index)
{
    bson_t event = BSON_INITIALIZER, child, list;

    advance(server);
    sim_trace("   source: %s %s %s", operation, ns, sim_text(index, "name"));
    bson_append_utf8(&event, "operationType", -1, operation, -1);
    append_ns(&event, "ns", ns);
    bson_append_document_begin(&event, "operationDescription", -1, &child);
    bson_append_array_begin(&child, "indexes", -1, &list);
    sim_append_index(&list, 0, index);
    bson_append_array_end(&child, &list);
    bson_append_document_end(&event, &child);
    append_event(server, &event);
    bson_destroy(&event);
}

static void tell_write(sim_server_t *server, const sim_collection_t *collection,
                       const char *operation, const bson_t *id, const bson_t *document)
{
    bson_t event = BSON_INITIALIZER, child;

    bson_append_utf8(&event, "operationType", -1, operation, -1);
    append_ns(&event, "ns", collection->ns);
    bson_append_document(&event, "documentKey", -1, id);
    if (!strcmp(operation, "update")) {
        bson_append_document_begin(&event, "updateDescription", -1, &child);
        bson_append_document_end(&event, &child);
    } else if (document) {
        bson_append_document(&event, "fullDocument", -1, document);
    }
    append_event(server, &event);
    bson_destroy(&event);
}

static sim_entry_t *make_entry(sim_collection_t *collection, tow_value_t id)
{
    bson_t key = BSON_INITIALIZER;
    sim_entry_t *entry;
    uint32_t place;

    entry = sim_find_entry(collection, id, &place);
    if (entry)
        return entry;
    if (collection->count == collection->capacity) {
        collection->capacity = collection->capacity * 2 + 32;
        collection->entries =
            tow_realloc(collection->entries, collection->capacity * sizeof *entry);
    }
    memmove(&collection->entries[place + 1], &collection->entries[place],
            (collection->count - place) * sizeof *entry);
    collection->count++;
    tow_value_append(&key, "_id", 3, id);
    collection->entries[place] = (sim_entry_t){.id = bson_copy(&key)};
    bson_destroy(&key);
    return &collection->entries[place];
}

void sim_put(sim_server_t *server, sim_collection_t *collection, const char *operation,
             tow_value_t id, const bson_t *document)
{
    sim_entry_t *entry = make_entry(collection, id);
    bson_t *copy = document ? bson_copy(document) : NULL;

    advance(server);
    entry->versions = tow_realloc(entry->versions, (entry->count + 1) * sizeof *entry->versions);
    entry->versions[entry->count++] = (sim_version_t){server->now, copy};
    server->writes++;
    if (!strcmp(server->side, "source"))
        tell_write(server, collection, operation, entry->id, copy);
}

static bool is_unique(const bson_t *index)
{
    bson_iter_t iter;

    return bson_iter_init_find(&iter, index, "unique") && bson_iter_as_bool(&iter);
}

const bson_t *sim_refusal(const sim_collection_t *collection, const bson_t *document)
{
    for (uint32_t i = 0; i < collection->index_count; i++) {
        bson_iter_t key, own, other;

        if (!is_unique(collection->indexes[i]) || !sim_path(collection->indexes[i], "key", &key) ||
            !bson_iter_recurse(&key, &key) || !bson_iter_next(&key) ||
            !bson_iter_init_find(&own, document, bson_iter_key(&key)))
            continue;
        for (uint32_t e = 0; e < collection->count; e++) {
            const bson_t *there = sim_document_at(&collection->entries[e], 0);

            if (there && bson_iter_init_find(&other, there, bson_iter_key(&key)) &&
                !tow_value_compare(tow_value_of(&own), tow_value_of(&other)) &&
                tow_value_compare(sim_id(there), sim_id(document)) != 0)
                return collection->indexes[i];
        }
    }
    return NULL;
}

/* Replies ---------------------------------------------------------------------------------------*/

void sim_append_time(sim_server_t *server, bson_t *reply, tow_optime_t time)
{
    bson_t child;

    bson_append_timestamp(reply, "operationTime", -1, (uint32_t)(time >> 32), (uint32_t)time);
    bson_append_document_begin(reply, "$clusterTime", -1, &child);
    bson_append_timestamp(&child, "clusterTime", -1, (uint32_t)(server->now >> 32),
                          (uint32_t)server->now);
    bson_append_document_end(reply, &child);
    bson_append_double(reply, "ok", -1, 1.0);
}

void sim_append_index(bson_t *list, uint32_t number, const bson_t *document)
{
    char room[16];
    const char *key;

    bson_uint32_to_string(number, &key, room, sizeof room);
    bson_append_document(list, key, -1, document);
}

const char *sim_text(const bson_t *document, const char *field)
{
    bson_iter_t iter;

    return bson_iter_init_find(&iter, document, field) && BSON_ITER_HOLDS_UTF8(&iter)
               ? bson_iter_utf8(&iter, NULL)
               : "";
}

int64_t sim_number(const bson_t *document, const char *field, int64_t other)
{
    bson_iter_t iter;

    return bson_iter_init_find(&iter, document, field) ? bson_iter_as_int64(&iter) : other;
}

bool sim_refuse(bson_t *reply, bson_error_t *error, int code, const char *message)
{
    bson_append_double(reply, "ok", -1, 0.0);
    bson_append_int32(reply, "code", -1, code);
    bson_append_utf8(reply, "errmsg", -1, message, -1);
    bson_set_error(error, MONGOC_ERROR_SERVER, (uint32_t)code, "%s", message);
    return false;
}

/* Commands --------------------------------------------------------------------------------------*/

static const char *name_of(const bson_t *command)
{
    bson_iter_t iter;

    bson_iter_init(&iter, command);
    bson_iter_next(&iter);
    return bson_iter_key(&iter);
}

static void say_no_shard(sim_server_t *server, bson_t *reply)
{
    bson_append_bool(reply, "enabled", -1, false);
    sim_append_time(server, reply, server->now);
}

static bool run(sim_server_t *server, const char *database, const bson_t *command, bson_t *reply,
                bson_error_t *error)
{
    const char *name = name_of(command);
    bool known = true, ok = true;

    if (!strcmp(name, "find"))
        sim_find(server, database, command, reply);
    else if (!strcmp(name, "getMore"))
        ok = sim_get_more(server, command, reply, error);
    else if (!strcmp(name, "killCursors"))
        sim_kill_cursors(server, command, reply);
    else if (!strcmp(name, "aggregate"))
        sim_stream_open(server, command, reply);
    else if (!strcmp(name, "shardingState"))
        say_no_shard(server, reply);
    else
        ok = sim_catalog(server, database, command, reply, error, &known);
    if (!known)
        sim_fail("the simulated %s does not know %s", server->side,
                 bson_as_relaxed_extended_json(command, NULL));
    return ok;
}

bool sim_is_write(const bson_t *command)
{
    const char *name = name_of(command);

    return !strcmp(name, "insert") || !strcmp(name, "update") || !strcmp(name, "delete");
}

static sim_session_t *find_session(sim_server_t *server, const bson_t *lsid)
{
    sim_session_t *session;

    for (uint32_t i = 0; i < server->session_count; i++)
        if (bson_equal(server->sessions[i].lsid, lsid))
            return &server->sessions[i];
    server->sessions = tow_realloc(server->sessions, (server->session_count + 1) * sizeof *session);
    session = &server->sessions[server->session_count++];
    *session = (sim_session_t){.lsid = bson_copy(lsid)};
    return session;
}

static bool fail_cut(bson_t *reply, bson_error_t *error)
{
    bson_reinit(reply);
    return sim_refuse(reply, error, STEPPED_DOWN, "interrupted by a step-down");
}

/* A numbered write is done once, and none after a newer one. Its number is remembered only when it
 * changed something. */
bool sim_execute(sim_server_t *server, const char *database, const bson_t *command,
                 const bson_t *lsid, uint32_t most, bson_t *reply, bson_error_t *error)
{
    int64_t number = sim_number(command, "txnNumber", 0);
    sim_session_t *session = number ? find_session(server, lsid) : NULL;
    uint64_t writes = server->writes;
    bool done[SIM_STATEMENTS] = {0};
    bool whole;

    server->commands++;
    if (!sim_is_write(command))
        return run(server, database, command, reply, error);
    if (session && number < session->number)
        return sim_refuse(reply, error, TOO_OLD, "the transaction's number is too old");
    if (session && number == session->number && !session->cut) {
        bson_concat(reply, session->reply);
        return true;
    }
    if (session && number == session->number)
        memcpy(done, session->done, sizeof done);
    whole = sim_write(server, database, command, done, most, reply);
    if (session && server->writes != writes) {
        session->number = number;
        session->cut = !whole;
        memcpy(session->done, done, sizeof done);
        if (session->reply)
            bson_destroy(session->reply);
        session->reply = bson_copy(reply);
    }
    return whole || fail_cut(reply, error);
}
