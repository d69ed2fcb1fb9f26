/* catalog.c: see catalog.h. */
#include "engine/link/catalog.h"

#include <stdlib.h>
#include <string.h>

#include "engine/base/memory.h"
#include "engine/link/codes.h"
#include "engine/link/internal.h"
#include "engine/link/reply.h"

/* Collections -----------------------------------------------------------------------------------*/

static bool is_internal(const char *name)
{
    return !strcmp(name, "system.profile") || !strcmp(name, "system.views") ||
           !strncmp(name, "system.buckets.", 15);
}

bool tow_collection_is_streamed(const char *name)
{
    return strncmp(name, "system.", 7) != 0;
}

/* A collation other than simple. */
static bool is_collated(const bson_t *options)
{
    const char *locale;

    return tow_field_text(options, "collation.locale", &locale) && strcmp(locale, "simple") != 0;
}

static bool is_uuid(const bson_iter_t *iter, const uint8_t **out)
{
    bson_subtype_t subtype;
    uint32_t length = 0;

    if (!BSON_ITER_HOLDS_BINARY(iter))
        return false;
    bson_iter_binary(iter, &subtype, &length, out);
    return length == 16;
}

/* What listCollections says of one: name, type and options are always there, an identity where
 * there is one. */
static bool is_collection(const bson_t *entry)
{
    const char *name, *type;
    const uint8_t *uuid;
    bson_iter_t iter, found;
    bson_t options;

    return tow_field_text(entry, "name", &name) && *name && tow_field_text(entry, "type", &type) &&
           tow_field_document(entry, "options", &options) && bson_iter_init(&iter, entry) &&
           (!bson_iter_find_descendant(&iter, "info.uuid", &found) || is_uuid(&found, &uuid));
}

static tow_collection_type_t parse_type(const char *type)
{
    return !strcmp(type, "collection")   ? TOW_COLLECTION
           : !strcmp(type, "view")       ? TOW_VIEW
           : !strcmp(type, "timeseries") ? TOW_TIMESERIES
                                         : TOW_UNKNOWN_KIND;
}

static void parse_options(tow_collection_info_t *info, const bson_t *options)
{
    bson_iter_t iter;

    bson_copy_to_excluding_noinit(options, &info->options, "uuid", NULL);
    info->collated = is_collated(&info->options);
    if (bson_iter_init_find(&iter, options, "capped"))
        info->capped = bson_iter_as_bool(&iter);
    info->clustered = bson_has_field(options, "clusteredIndex");
}

/* An entry that is_collection. False: it is one of the server's own. */
static bool parse_info(const char *database, const bson_t *entry, tow_collection_info_t *out)
{
    const char *name = "", *type = "";
    const uint8_t *uuid;
    bson_iter_t iter, found;
    bson_t options;

    *out = (tow_collection_info_t){0};
    bson_init(&out->options);
    tow_field_text(entry, "name", &name);
    tow_field_text(entry, "type", &type);
    if (is_internal(name)) {
        tow_collection_info_clear(out);
        return false;
    }
    out->database = tow_strdup(database);
    out->name = tow_strdup(name);
    out->ns = tow_format("%s.%s", database, name);
    out->type = parse_type(type);
    if (tow_field_document(entry, "options", &options))
        parse_options(out, &options);
    if (bson_iter_init(&iter, entry) && bson_iter_find_descendant(&iter, "info.uuid", &found) &&
        is_uuid(&found, &uuid))
        memcpy(out->uuid, uuid, sizeof out->uuid);
    return true;
}

void tow_collection_info_clear(tow_collection_info_t *info)
{
    free(info->database);
    free(info->name);
    free(info->ns);
    bson_destroy(&info->options);
    info->database = info->name = info->ns = NULL;
}

void tow_catalog_clear(tow_catalog_t *catalog)
{
    for (size_t i = 0; i < catalog->count; i++)
        tow_collection_info_clear(&catalog->items[i]);
    free(catalog->items);
    *catalog = (tow_catalog_t){0};
}

typedef struct {
    tow_catalog_t *catalog;
    size_t capacity;
    const char *database;
} collecting_t;

/* A bson_t points into itself: it is stolen, never copied byte by byte. */
static void move_info(tow_collection_info_t *to, tow_collection_info_t *from)
{
    *to = *from;
    bson_steal(&to->options, &from->options);
}

static void collect(void *data, const bson_t *entry)
{
    collecting_t *collecting = data;
    tow_catalog_t *catalog = collecting->catalog;

    if (catalog->count == collecting->capacity) {
        size_t capacity = collecting->capacity ? collecting->capacity * 2 : 32;
        tow_collection_info_t *items = tow_alloc(capacity * sizeof *items);

        for (size_t i = 0; i < catalog->count; i++)
            move_info(&items[i], &catalog->items[i]);
        free(catalog->items);
        catalog->items = items;
        collecting->capacity = capacity;
    }
    if (parse_info(collecting->database, entry, &catalog->items[catalog->count]))
        catalog->count++;
}

typedef struct {
    char **names;
    size_t count;
} databases_t;

static bool is_database(const bson_iter_t *entry, const char **out_name)
{
    bson_t document;

    return tow_iter_document(entry, &document) && tow_field_text(&document, "name", out_name) &&
           **out_name;
}

/* The answer to listDatabases: a list, and every entry of it has a name. */
static bool lists_databases(const bson_t *reply)
{
    const char *name;
    bson_iter_t list;

    if (!tow_field_list(reply, "databases", &list))
        return false;
    while (bson_iter_next(&list))
        if (!is_database(&list, &name))
            return false;
    return tow_iter_complete(&list);
}

static bool read_databases(tow_conn_t *conn, databases_t *out, tow_error_t *error)
{
    bson_t command = BSON_INITIALIZER, reply;
    const char *name;
    bson_iter_t list;
    bool ok;

    *out = (databases_t){0};
    bson_append_int32(&command, "listDatabases", -1, 1);
    bson_append_bool(&command, "nameOnly", -1, true);
    ok = tow_conn_ask(conn, "admin", &command, 0, lists_databases, "listDatabases", &reply, error);
    if (ok && tow_field_list(&reply, "databases", &list))
        while (bson_iter_next(&list)) {
            if (!is_database(&list, &name) || !strcmp(name, "admin") || !strcmp(name, "local") ||
                !strcmp(name, "config"))
                continue;
            out->names = tow_realloc(out->names, (out->count + 1) * sizeof *out->names);
            out->names[out->count++] = tow_strdup(name);
        }
    bson_destroy(&reply);
    bson_destroy(&command);
    return ok;
}

static bool list_collections(tow_conn_t *conn, const char *database, const char *name,
                             tow_each_fn each, void *data, tow_error_t *error)
{
    bson_t command = BSON_INITIALIZER, filter;
    bool ok;

    bson_append_int32(&command, "listCollections", -1, 1);
    if (name) {
        bson_append_document_begin(&command, "filter", -1, &filter);
        bson_append_utf8(&filter, "name", -1, name, -1);
        bson_append_document_end(&command, &filter);
    }
    ok = tow_cursor_each(conn, database, &command, is_collection, each, data, error);
    bson_destroy(&command);
    return ok ? true : tow_fail_context(error, "list the collections of %s", database);
}

static int by_ns(const void *left, const void *right)
{
    const tow_collection_info_t *const *a = left, *const *b = right;

    return strcmp((*a)->ns, (*b)->ns);
}

static void sort_catalog(tow_catalog_t *catalog)
{
    tow_collection_info_t *items = tow_alloc((catalog->count + 1) * sizeof *items);
    tow_collection_info_t **order = tow_alloc((catalog->count + 1) * sizeof *order);

    for (size_t i = 0; i < catalog->count; i++)
        order[i] = &catalog->items[i];
    qsort(order, catalog->count, sizeof *order, by_ns);
    for (size_t i = 0; i < catalog->count; i++)
        move_info(&items[i], order[i]);
    free(order);
    free(catalog->items);
    catalog->items = items;
}

static int compare_ns(const void *key, const void *item)
{
    return strcmp(key, ((const tow_collection_info_t *)item)->ns);
}

const tow_collection_info_t *tow_catalog_get(const tow_catalog_t *catalog, const char *ns)
{
    return catalog->count
               ? bsearch(ns, catalog->items, catalog->count, sizeof *catalog->items, compare_ns)
               : NULL;
}

void tow_catalog_leave_out(tow_catalog_t *catalog, const char *database)
{
    size_t kept = 0;

    for (size_t i = 0; i < catalog->count; i++)
        if (!strcmp(catalog->items[i].database, database))
            tow_collection_info_clear(&catalog->items[i]);
        else if (kept++ != i)
            move_info(&catalog->items[kept - 1], &catalog->items[i]);
    catalog->count = kept;
}

bool tow_catalog_read(tow_conn_t *conn, const char *database, tow_catalog_t *out,
                      tow_error_t *error)
{
    databases_t databases = {0};
    collecting_t collecting = {.catalog = out};
    bool ok = true;

    *out = (tow_catalog_t){0};
    if (database) {
        collecting.database = database;
        ok = list_collections(conn, database, NULL, collect, &collecting, error);
    } else {
        ok = read_databases(conn, &databases, error);
        for (size_t i = 0; ok && i < databases.count; i++) {
            collecting.database = databases.names[i];
            ok = list_collections(conn, databases.names[i], NULL, collect, &collecting, error);
        }
    }
    for (size_t i = 0; i < databases.count; i++)
        free(databases.names[i]);
    free(databases.names);
    if (!ok)
        tow_catalog_clear(out);
    else
        sort_catalog(out);
    return ok;
}

typedef struct {
    const char *database, *name;
    tow_collection_info_t *out;
    bool found, foreign; /* foreign: the answer is about another collection */
} finding_t;

static void take_named(void *data, const bson_t *entry)
{
    finding_t *finding = data;
    const char *name = "";

    tow_field_text(entry, "name", &name);
    if (strcmp(name, finding->name) != 0)
        finding->foreign = true;
    else if (!finding->found)
        finding->found = parse_info(finding->database, entry, finding->out);
}

bool tow_catalog_find(tow_conn_t *conn, const char *database, const char *name,
                      tow_collection_info_t *out, bool *out_found, tow_error_t *error)
{
    finding_t finding = {.database = database, .name = name, .out = out};

    if (!list_collections(conn, database, name, take_named, &finding, error))
        return false;
    if (finding.foreign) {
        if (finding.found)
            tow_collection_info_clear(out);
        return tow_fail(error, TOW_ERROR_SERVER,
                        "the %s was asked for %s.%s and lists another collection", conn->link->side,
                        database, name);
    }
    *out_found = finding.found;
    return true;
}

/* Indexes ---------------------------------------------------------------------------------------*/

static bool is_id_index(const bson_t *specification)
{
    bson_iter_t iter, key;

    if (bson_iter_init_find(&iter, specification, "clustered") && bson_iter_as_bool(&iter))
        return true;
    if (!bson_iter_init_find(&iter, specification, "key") || !BSON_ITER_HOLDS_DOCUMENT(&iter) ||
        !bson_iter_recurse(&iter, &key) || !bson_iter_next(&key))
        return false;
    return !strcmp(bson_iter_key(&key), "_id") && BSON_ITER_HOLDS_NUMBER(&key) &&
           !bson_iter_next(&key);
}

static bool is_hashed(const bson_t *specification)
{
    const char *kind;
    bool hashed = false;
    bson_iter_t key;
    bson_t keys;

    if (tow_field_document(specification, "key", &keys) && bson_iter_init(&key, &keys))
        while (!hashed && bson_iter_next(&key))
            hashed = tow_iter_text(&key, &kind) && !strcmp(kind, "hashed");
    return hashed;
}

bool tow_index_is_shown(const tow_link_t *link, const bson_t *specification)
{
    return link->options.indexes == TOW_INDEXES_ALL ||
           (link->options.indexes == TOW_INDEXES_NOT_HASHED && !is_hashed(specification));
}

static bool is_index(const bson_t *specification)
{
    const char *name;
    bson_t key;

    return tow_field_text(specification, "name", &name) &&
           tow_field_document(specification, "key", &key) && !bson_empty(&key);
}

typedef struct {
    const tow_link_t *link;
    tow_indexes_t *out;
    bool has_id; /* or there is nothing to have one */
} listing_t;

static void take_index(void *data, const bson_t *specification)
{
    listing_t *listing = data;
    tow_indexes_t *indexes = listing->out;
    bson_t *items;

    if (is_id_index(specification)) {
        listing->has_id = true;
        return;
    }
    if (!tow_index_is_shown(listing->link, specification))
        return;
    items = tow_alloc((indexes->count + 1) * sizeof *items);
    for (size_t i = 0; i < indexes->count; i++)
        bson_steal(&items[i], &indexes->items[i]);
    free(indexes->items);
    indexes->items = items;
    bson_init(&items[indexes->count]);
    bson_copy_to_excluding_noinit(specification, &items[indexes->count], "ns", NULL);
    indexes->count++;
}

static bool list_indexes(tow_conn_t *conn, const char *database, const char *collection,
                         listing_t *listing, tow_error_t *error)
{
    bson_t command = BSON_INITIALIZER;
    bool ok;

    *listing->out = (tow_indexes_t){0};
    bson_append_utf8(&command, "listIndexes", -1, collection, -1);
    ok = tow_cursor_each(conn, database, &command, is_index, take_index, listing, error);
    bson_destroy(&command);
    /* A view took its name, which has none either. */
    if (!ok && (error->server_code == TOW_CODE_NAMESPACE_NOT_FOUND ||
                error->server_code == TOW_CODE_COMMAND_NOT_SUPPORTED_ON_VIEW))
        ok = listing->has_id = true;
    return ok;
}

/* Every collection has an index on _id, or is clustered by it: a listing without is damaged, and
 * not the answer that there are no indexes. */
bool tow_indexes_read(tow_conn_t *conn, const char *database, const char *collection,
                      tow_indexes_t *out, tow_error_t *error)
{
    tow_retrying_t retrying = tow_retrying_begin(conn->link, conn->link->options.retry_window_ms);
    listing_t listing = {.link = tow_conn_link(conn), .out = out};
    unsigned unreadable = 0;
    bool ok;

    while ((ok = list_indexes(conn, database, collection, &listing, error)) && !listing.has_id) {
        ok = tow_fail_reply(error, conn->link->side,
                            "its answer to listIndexes has no index on _id");
        if (!tow_retrying_reply(&retrying, &unreadable, error))
            break;
        tow_indexes_clear(out);
    }
    tow_retrying_end(&retrying);
    if (!ok) {
        tow_indexes_clear(out);
        tow_fail_context(error, "list the indexes of %s.%s", database, collection);
    }
    return ok;
}

void tow_indexes_clear(tow_indexes_t *indexes)
{
    for (size_t i = 0; i < indexes->count; i++)
        bson_destroy(&indexes->items[i]);
    free(indexes->items);
    *indexes = (tow_indexes_t){0};
}

/* Sizes -----------------------------------------------------------------------------------------*/

static bool read_stats(const bson_t *reply, const char *documents_path, const char *bytes_path,
                       tow_collection_stats_t *out)
{
    int64_t documents, bytes;

    if (!tow_field_number(reply, documents_path, &documents) || documents < 0 ||
        !tow_field_number(reply, bytes_path, &bytes) || bytes < 0)
        return false;
    out->documents += (uint64_t)documents;
    out->bytes += (uint64_t)bytes;
    return true;
}

static bool is_shard_stats(const bson_t *entry)
{
    return read_stats(entry, "storageStats.count", "storageStats.size",
                      &(tow_collection_stats_t){0});
}

/* On a sharded collection one document a shard. */
static void take_stats(void *data, const bson_t *entry)
{
    read_stats(entry, "storageStats.count", "storageStats.size", data);
}

static bool is_size(const bson_t *reply)
{
    return read_stats(reply, "numObjects", "size", &(tow_collection_stats_t){0});
}

/* A mongos has several of everything. */
static bool ask_shards(tow_conn_t *conn, const char *database, const char *collection,
                       tow_collection_stats_t *out, tow_error_t *error)
{
    bson_t command = BSON_INITIALIZER, stages, stage, stats, empty = BSON_INITIALIZER;
    bool ok;

    bson_append_utf8(&command, "aggregate", -1, collection, -1);
    bson_append_array_begin(&command, "pipeline", -1, &stages);
    bson_append_document_begin(&stages, "0", -1, &stage);
    bson_append_document_begin(&stage, "$collStats", -1, &stats);
    bson_append_document(&stats, "storageStats", -1, &empty);
    bson_append_document_end(&stage, &stats);
    bson_append_document_end(&stages, &stage);
    bson_append_array_end(&command, &stages);
    bson_append_document(&command, "cursor", -1, &empty);
    ok = tow_cursor_each(conn, database, &command, is_shard_stats, take_stats, out, error);
    bson_destroy(&command);
    bson_destroy(&empty);
    return ok;
}

/* Answered from the server's own counters, and needs no more than the right to read. */
static bool ask_size(tow_conn_t *conn, const char *database, const char *collection,
                     tow_collection_stats_t *out, tow_error_t *error)
{
    char *ns = tow_format("%s.%s", database, collection);
    bson_t command = BSON_INITIALIZER, reply;
    bool ok;

    bson_append_utf8(&command, "dataSize", -1, ns, -1);
    bson_append_bool(&command, "estimate", -1, true);
    ok = tow_conn_ask(conn, database, &command, 0, is_size, "dataSize", &reply, error) &&
         read_stats(&reply, "numObjects", "size", out);
    bson_destroy(&command);
    bson_destroy(&reply);
    free(ns);
    return ok;
}

bool tow_collection_stats(tow_conn_t *conn, const char *database, const char *collection,
                          tow_collection_stats_t *out, tow_error_t *error)
{
    bool ok;

    *out = (tow_collection_stats_t){0};
    ok = tow_link_facts(tow_conn_link(conn))->sharded
             ? ask_shards(conn, database, collection, out, error)
             : ask_size(conn, database, collection, out, error);
    if (!ok && (error->server_code == TOW_CODE_NAMESPACE_NOT_FOUND ||
                error->server_code == TOW_CODE_COMMAND_NOT_SUPPORTED_ON_VIEW ||
                error->server_code == TOW_CODE_NO_STORAGE_STATS))
        ok = true;
    if (out->documents)
        out->average_bytes = out->bytes / out->documents;
    return ok ? true : tow_fail_context(error, "size of %s.%s", database, collection);
}
