/* SPDX-License-Identifier: Apache-2.0 */
/* catalog.c: commands about collections, indexes and the server itself. */
#include <string.h>

#include "document.h"
#include "schedule.h"
#include "server.h"

enum { NOT_FOUND = 26, EXISTS = 48, INDEX_NOT_FOUND = 27, DUPLICATE = 11000, INDEX_CONFLICT = 86 };

typedef struct {
    sim_server_t *server;
    const char *database;
    const bson_t *command;
    char ns[2 * SIM_NAME];
    bson_t *reply;
    bson_error_t *error;
} request_t;

static bool done(request_t *request)
{
    sim_append_time(request->server, request->reply, request->server->now);
    return true;
}

static bool refuse(request_t *request, int code, const char *message)
{
    return sim_refuse(request->reply, request->error, code, message);
}

static void begin_batch(request_t *request, bson_t *cursor, bson_t *batch)
{
    bson_append_document_begin(request->reply, "cursor", -1, cursor);
    bson_append_array_begin(cursor, "firstBatch", -1, batch);
}

static bool end_batch(request_t *request, bson_t *cursor, bson_t *batch)
{
    bson_append_array_end(cursor, batch);
    bson_append_int64(cursor, "id", -1, 0);
    bson_append_utf8(cursor, "ns", -1, request->ns, -1);
    bson_append_document_end(request->reply, cursor);
    return done(request);
}

/* The server ------------------------------------------------------------------------------------*/

static void append_last_write(bson_t *reply, const char *field, tow_optime_t time)
{
    bson_t child;

    bson_append_document_begin(reply, field, -1, &child);
    bson_append_timestamp(&child, "ts", -1, (uint32_t)(time >> 32), (uint32_t)time);
    bson_append_document_end(reply, &child);
}

static bool do_hello(request_t *request)
{
    sim_server_t *server = request->server;
    char host[SIM_NAME];
    bson_t child;

    snprintf(host, sizeof host, "%s:27017", server->side);
    BCON_APPEND(request->reply, "isWritablePrimary", BCON_BOOL(true), "ismaster", BCON_BOOL(true),
                "setName", BCON_UTF8(server->side), "hosts", "[", BCON_UTF8(host), "]", "me",
                BCON_UTF8(host), "maxWriteBatchSize", BCON_INT32(100000), "maxMessageSizeBytes",
                BCON_INT32(48000000), "localTime",
                BCON_DATE_TIME(INT64_C(1700000000000) + sim_now_us() / 1000));
    bson_append_document_begin(request->reply, "lastWrite", -1, &child);
    append_last_write(&child, "opTime", server->now);
    append_last_write(&child, "majorityOpTime", sim_commit(server, 0));
    bson_append_document_end(request->reply, &child);
    return done(request);
}

static bool do_build_info(request_t *request)
{
    BCON_APPEND(request->reply, "version", BCON_UTF8(request->server->version));
    return done(request);
}

static bool do_status(request_t *request)
{
    BCON_APPEND(request->reply, "authInfo", "{", "authenticatedUsers", "[", "]",
                "authenticatedUserRoles", "[", "]", "authenticatedUserPrivileges", "[", "]", "}");
    return done(request);
}

static bool do_config(request_t *request)
{
    bson_oid_t id;

    bson_oid_init_from_string(&id, *request->server->side == 's' ? "0123456789abcdef01234567"
                                                                 : "89abcdef0123456789abcdef");
    BCON_APPEND(request->reply, "config", "{", "settings", "{", "replicaSetId", BCON_OID(&id), "}",
                "}");
    return done(request);
}

static bool do_nothing(request_t *request)
{
    return done(request);
}

/* Documents are said to be large, so that a collection is copied in several ranges. */
static bool do_size(request_t *request)
{
    enum { SAID_BYTES = 200000 };
    sim_collection_t *collection =
        sim_find_collection(request->server, sim_text(request->command, "dataSize"));
    int64_t count = 0, bytes = 0;

    for (uint32_t i = 0; collection && i < collection->count; i++) {
        const bson_t *document = sim_document_at(&collection->entries[i], 0);

        count += document != NULL;
        bytes += document ? SAID_BYTES : 0;
    }
    BCON_APPEND(request->reply, "numObjects", BCON_INT64(count), "size", BCON_INT64(bytes));
    return done(request);
}

/* Collections -----------------------------------------------------------------------------------*/

static bool has_database(sim_server_t *server, const char *name, uint32_t before)
{
    for (uint32_t i = 0; i < before; i++)
        if (server->collections[i].there && !strcmp(server->collections[i].database, name))
            return true;
    return false;
}

static bool do_list_databases(request_t *request)
{
    sim_server_t *server = request->server;
    bson_t list, entry;
    bson_iter_t wanted;
    uint32_t count = 0;
    char room[16];
    const char *key;

    bson_append_array_begin(request->reply, "databases", -1, &list);
    for (uint32_t i = 0; i < server->collection_count; i++) {
        const char *name = server->collections[i].database;

        if (!server->collections[i].there || has_database(server, name, i) ||
            (sim_path(request->command, "filter.name", &wanted) &&
             strcmp(bson_iter_utf8(&wanted, NULL), name) != 0))
            continue;
        bson_uint32_to_string(count++, &key, room, sizeof room);
        bson_append_document_begin(&list, key, -1, &entry);
        bson_append_utf8(&entry, "name", -1, name, -1);
        bson_append_document_end(&list, &entry);
    }
    bson_append_array_end(request->reply, &list);
    return done(request);
}

static void append_collection(bson_t *batch, uint32_t number, const sim_collection_t *collection)
{
    bson_t entry = BSON_INITIALIZER, child;

    bson_append_utf8(&entry, "name", -1, collection->name, -1);
    bson_append_utf8(&entry, "type", -1, "collection", -1);
    bson_append_document(&entry, "options", -1, &collection->options);
    bson_append_document_begin(&entry, "info", -1, &child);
    bson_append_bool(&child, "readOnly", -1, false);
    bson_append_binary(&child, "uuid", -1, BSON_SUBTYPE_UUID, collection->uuid, 16);
    bson_append_document_end(&entry, &child);
    sim_append_index(batch, number, &entry);
    bson_destroy(&entry);
}

static bool do_list_collections(request_t *request)
{
    sim_server_t *server = request->server;
    bson_t cursor, batch;
    bson_iter_t wanted;
    uint32_t count = 0;

    begin_batch(request, &cursor, &batch);
    for (uint32_t i = 0; i < server->collection_count; i++)
        if (server->collections[i].there &&
            !strcmp(server->collections[i].database, request->database) &&
            (!sim_path(request->command, "filter.name", &wanted) ||
             !strcmp(bson_iter_utf8(&wanted, NULL), server->collections[i].name)))
            append_collection(&batch, count++, &server->collections[i]);
    return end_batch(request, &cursor, &batch);
}

static bool do_create(request_t *request)
{
    bson_t options = BSON_INITIALIZER;

    if (sim_find_collection(request->server, request->ns)) {
        bson_destroy(&options);
        return refuse(request, EXISTS, "collection already exists");
    }
    sim_make_collection(request->server, request->ns, &options);
    request->server->writes++;
    bson_destroy(&options);
    return done(request);
}

static bool do_drop(request_t *request)
{
    sim_collection_t *collection = sim_find_collection(request->server, request->ns);

    if (!collection)
        return refuse(request, NOT_FOUND, "ns not found");
    sim_drop_collection(request->server, collection);
    return done(request);
}

static bool do_drop_database(request_t *request)
{
    for (uint32_t i = 0; i < request->server->collection_count; i++)
        if (request->server->collections[i].there &&
            !strcmp(request->server->collections[i].database, request->database))
            sim_drop_collection(request->server, &request->server->collections[i]);
    return done(request);
}

static bool do_rename(request_t *request)
{
    sim_collection_t *from =
        sim_find_collection(request->server, sim_text(request->command, "renameCollection"));
    sim_collection_t *to = sim_find_collection(request->server, sim_text(request->command, "to"));

    if (!from)
        return refuse(request, NOT_FOUND, "source namespace does not exist");
    if (to && !sim_number(request->command, "dropTarget", 0))
        return refuse(request, EXISTS, "target namespace exists");
    if (to)
        sim_drop_collection(request->server, to);
    sim_rename_collection(request->server, from, sim_text(request->command, "to"));
    return done(request);
}

/* Indexes ---------------------------------------------------------------------------------------*/

static bool do_list_indexes(request_t *request)
{
    sim_collection_t *collection = sim_find_collection(request->server, request->ns);
    bson_t cursor, batch;
    bson_t *id =
        BCON_NEW("v", BCON_INT32(2), "key", "{", "_id", BCON_INT32(1), "}", "name", "_id_");

    if (!collection)
        return refuse(request, NOT_FOUND, "ns does not exist");
    begin_batch(request, &cursor, &batch);
    sim_append_index(&batch, 0, id);
    for (uint32_t i = 0; i < collection->index_count; i++)
        sim_append_index(&batch, i + 1, collection->indexes[i]);
    bson_destroy(id);
    return end_batch(request, &cursor, &batch);
}

static bool has_index(const sim_collection_t *collection, const char *name, uint32_t *out)
{
    for (*out = 0; *out < collection->index_count; ++*out)
        if (!strcmp(sim_text(collection->indexes[*out], "name"), name))
            return true;
    return false;
}

/* Whether all documents together fit under the index. */
static bool fits(sim_collection_t *collection, bson_t *index)
{
    bool good = true;

    if (collection->index_count == SIM_INDEXES)
        sim_fail("too many indexes");
    collection->indexes[collection->index_count++] = index;
    for (uint32_t i = 0; good && i < collection->count; i++) {
        const bson_t *document = sim_document_at(&collection->entries[i], 0);

        good = !document || !sim_refusal(collection, document);
    }
    if (!good)
        collection->index_count--;
    return good;
}

static bool do_create_indexes(request_t *request)
{
    sim_collection_t *collection = sim_find_collection(request->server, request->ns);
    bson_iter_t iter;

    if (!collection)
        collection = sim_make_collection(request->server, request->ns, NULL);
    bson_iter_init_find(&iter, request->command, "indexes");
    for (bson_iter_recurse(&iter, &iter); bson_iter_next(&iter);) {
        const uint8_t *data;
        uint32_t length, place;
        bson_t index;

        bson_iter_document(&iter, &length, &data);
        bson_init_static(&index, data, length);
        if (has_index(collection, sim_text(&index, "name"), &place))
            continue;
        if (!fits(collection, bson_copy(&index)))
            return refuse(request, DUPLICATE, "E11000 duplicate key error");
        request->server->writes++;
    }
    return done(request);
}

static bool do_drop_indexes(request_t *request)
{
    sim_collection_t *collection = sim_find_collection(request->server, request->ns);
    uint32_t place;

    if (!collection)
        return refuse(request, NOT_FOUND, "ns not found");
    if (!has_index(collection, sim_text(request->command, "index"), &place))
        return refuse(request, INDEX_NOT_FOUND, "index not found");
    bson_destroy(collection->indexes[place]);
    memmove(&collection->indexes[place], &collection->indexes[place + 1],
            (--collection->index_count - place) * sizeof *collection->indexes);
    request->server->writes++;
    return done(request);
}

static const struct {
    const char *name;
    bool (*run)(request_t *request);
} commands[] = {{"hello", do_hello},
                {"isMaster", do_hello},
                {"buildInfo", do_build_info},
                {"connectionStatus", do_status},
                {"replSetGetConfig", do_config},
                {"dbStats", do_nothing},
                {"dataSize", do_size},
                {"listDatabases", do_list_databases},
                {"listCollections", do_list_collections},
                {"create", do_create},
                {"drop", do_drop},
                {"dropDatabase", do_drop_database},
                {"renameCollection", do_rename},
                {"listIndexes", do_list_indexes},
                {"createIndexes", do_create_indexes},
                {"dropIndexes", do_drop_indexes}};

bool sim_catalog(sim_server_t *server, const char *database, const bson_t *command, bson_t *reply,
                 bson_error_t *error, bool *out_known)
{
    request_t request = {
        .server = server, .database = database, .command = command, .reply = reply, .error = error};
    bson_iter_t iter;

    bson_iter_init(&iter, command);
    bson_iter_next(&iter);
    if (BSON_ITER_HOLDS_UTF8(&iter))
        snprintf(request.ns, sizeof request.ns, "%s.%s", database, bson_iter_utf8(&iter, NULL));
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (!strcmp(commands[i].name, bson_iter_key(&iter)))
            return commands[i].run(&request);
    *out_known = false;
    return false;
}
