/* catalog.c: see catalog.h. */
#include "engine/link/catalog.h"

#include <stdlib.h>
#include <string.h>

#include "engine/base/memory.h"
#include "engine/link/internal.h"

enum {
    NAMESPACE_NOT_FOUND = 26,
    VIEW_NOT_SUPPORTED = 166,
    NO_STORAGE_STATS = 40280 /* $collStats of a collection that is not there, through a mongos */
};

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
    bson_iter_t iter, locale;

    return bson_iter_init(&iter, options) &&
           bson_iter_find_descendant(&iter, "collation.locale", &locale) &&
           BSON_ITER_HOLDS_UTF8(&locale) && strcmp(bson_iter_utf8(&locale, NULL), "simple") != 0;
}

static void parse_options(tow_collection_info_t *info, bson_iter_t *options)
{
    bson_iter_t iter;
    const uint8_t *bytes;
    uint32_t length;
    bson_t raw;

    bson_iter_document(options, &length, &bytes);
    if (!bson_init_static(&raw, bytes, length))
        return;
    bson_destroy(&info->options);
    bson_init(&info->options);
    bson_copy_to_excluding_noinit(&raw, &info->options, "uuid", NULL);
    info->collated = is_collated(&info->options);
    if (bson_iter_init_find(&iter, &raw, "capped"))
        info->capped = bson_iter_as_bool(&iter);
    info->clustered = bson_iter_init_find(&iter, &raw, "clusteredIndex");
}

static bool parse_info(const char *database, const bson_t *entry, tow_collection_info_t *out)
{
    bson_iter_t iter, child;

    *out = (tow_collection_info_t){.database = tow_strdup(database)};
    bson_init(&out->options);
    bson_iter_init(&iter, entry);
    while (bson_iter_next(&iter)) {
        const char *name = bson_iter_key(&iter);

        if (!strcmp(name, "name") && BSON_ITER_HOLDS_UTF8(&iter)) {
            out->name = tow_strdup(bson_iter_utf8(&iter, NULL));
        } else if (!strcmp(name, "type") && BSON_ITER_HOLDS_UTF8(&iter)) {
            const char *type = bson_iter_utf8(&iter, NULL);

            out->type = !strcmp(type, "view")         ? TOW_VIEW
                        : !strcmp(type, "timeseries") ? TOW_TIMESERIES
                                                      : TOW_COLLECTION;
        } else if (!strcmp(name, "options") && BSON_ITER_HOLDS_DOCUMENT(&iter)) {
            parse_options(out, &iter);
        } else if (!strcmp(name, "info") && bson_iter_recurse(&iter, &child) &&
                   bson_iter_find(&child, "uuid") && BSON_ITER_HOLDS_BINARY(&child)) {
            const uint8_t *bytes;
            bson_subtype_t subtype;
            uint32_t length;

            bson_iter_binary(&child, &subtype, &length, &bytes);
            if (length == sizeof out->uuid)
                memcpy(out->uuid, bytes, length);
        }
    }
    if (!out->name || is_internal(out->name)) {
        tow_collection_info_clear(out);
        return false;
    }
    out->ns = tow_format("%s.%s", database, out->name);
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

static bool read_databases(tow_conn_t *conn, databases_t *out, tow_error_t *error)
{
    tow_send_options_t send = {.flags = TOW_SEND_RETRY};
    bson_t command = BSON_INITIALIZER, reply;
    bson_iter_t iter, list, name;
    bool ok;

    *out = (databases_t){0};
    bson_append_int32(&command, "listDatabases", -1, 1);
    bson_append_bool(&command, "nameOnly", -1, true);
    ok = tow_conn_command(conn, "admin", &command, &send, &reply, error);
    if (ok && bson_iter_init_find(&iter, &reply, "databases") && bson_iter_recurse(&iter, &list))
        while (bson_iter_next(&list)) {
            const char *text;

            if (!bson_iter_recurse(&list, &name) || !bson_iter_find(&name, "name") ||
                !BSON_ITER_HOLDS_UTF8(&name))
                continue;
            text = bson_iter_utf8(&name, NULL);
            if (!strcmp(text, "admin") || !strcmp(text, "local") || !strcmp(text, "config"))
                continue;
            out->names = tow_realloc(out->names, (out->count + 1) * sizeof *out->names);
            out->names[out->count++] = tow_strdup(text);
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
    ok = tow_cursor_each(conn, database, &command, each, data, error);
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
    const char *database;
    tow_collection_info_t *out;
    bool found;
} finding_t;

static void take_first(void *data, const bson_t *entry)
{
    finding_t *finding = data;

    if (!finding->found)
        finding->found = parse_info(finding->database, entry, finding->out);
}

bool tow_catalog_find(tow_conn_t *conn, const char *database, const char *name,
                      tow_collection_info_t *out, bool *out_found, tow_error_t *error)
{
    finding_t finding = {.database = database, .out = out};

    if (!list_collections(conn, database, name, take_first, &finding, error))
        return false;
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
    bson_iter_t iter, key;
    bool hashed = false;

    if (bson_iter_init_find(&iter, specification, "key") && BSON_ITER_HOLDS_DOCUMENT(&iter) &&
        bson_iter_recurse(&iter, &key))
        while (!hashed && bson_iter_next(&key))
            hashed = BSON_ITER_HOLDS_UTF8(&key) && !strcmp(bson_iter_utf8(&key, NULL), "hashed");
    return hashed;
}

bool tow_index_is_shown(const tow_link_t *link, const bson_t *specification)
{
    return link->options.indexes == TOW_INDEXES_ALL ||
           (link->options.indexes == TOW_INDEXES_NOT_HASHED && !is_hashed(specification));
}

typedef struct {
    const tow_link_t *link;
    tow_indexes_t *out;
} listing_t;

static void take_index(void *data, const bson_t *specification)
{
    listing_t *listing = data;
    tow_indexes_t *indexes = listing->out;
    bson_t *items;

    if (is_id_index(specification) || !tow_index_is_shown(listing->link, specification))
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

bool tow_indexes_read(tow_conn_t *conn, const char *database, const char *collection,
                      tow_indexes_t *out, tow_error_t *error)
{
    bson_t command = BSON_INITIALIZER;
    listing_t listing = {tow_conn_link(conn), out};
    bool ok;

    *out = (tow_indexes_t){0};
    bson_append_utf8(&command, "listIndexes", -1, collection, -1);
    ok = tow_cursor_each(conn, database, &command, take_index, &listing, error);
    bson_destroy(&command);
    /* A view took its name, which has none either. */
    if (!ok &&
        (error->server_code == NAMESPACE_NOT_FOUND || error->server_code == VIEW_NOT_SUPPORTED))
        ok = true;
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

static void take_stats(void *data, const bson_t *entry)
{
    tow_collection_stats_t *stats = data;
    bson_iter_t iter, value;

    /* On a sharded collection one document a shard. */
    if (bson_iter_init(&iter, entry) &&
        bson_iter_find_descendant(&iter, "storageStats.count", &value))
        stats->documents += (uint64_t)bson_iter_as_int64(&value);
    if (bson_iter_init(&iter, entry) &&
        bson_iter_find_descendant(&iter, "storageStats.size", &value))
        stats->bytes += (uint64_t)bson_iter_as_int64(&value);
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
    ok = tow_cursor_each(conn, database, &command, take_stats, out, error);
    bson_destroy(&command);
    bson_destroy(&empty);
    return ok;
}

/* Answered from the server's own counters, and needs no more than the right to read. */
static bool ask_size(tow_conn_t *conn, const char *database, const char *collection,
                     tow_collection_stats_t *out, tow_error_t *error)
{
    tow_send_options_t options = {.flags = TOW_SEND_RETRY};
    char *ns = tow_format("%s.%s", database, collection);
    bson_t command = BSON_INITIALIZER, reply;
    bson_iter_t iter;
    bool ok;

    bson_append_utf8(&command, "dataSize", -1, ns, -1);
    bson_append_bool(&command, "estimate", -1, true);
    ok = tow_conn_command(conn, database, &command, &options, &reply, error);
    if (ok && bson_iter_init_find(&iter, &reply, "numObjects"))
        out->documents = (uint64_t)bson_iter_as_int64(&iter);
    if (ok && bson_iter_init_find(&iter, &reply, "size"))
        out->bytes = (uint64_t)bson_iter_as_int64(&iter);
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
    if (!ok &&
        (error->server_code == NAMESPACE_NOT_FOUND || error->server_code == VIEW_NOT_SUPPORTED ||
         error->server_code == NO_STORAGE_STATS))
        ok = true;
    if (out->documents)
        out->average_bytes = out->bytes / out->documents;
    return ok ? true : tow_fail_context(error, "size of %s.%s", database, collection);
}
