/* SPDX-License-Identifier: Apache-2.0 */
/* catalog.c: reads what collections a side has; see catalog.h. */
#include "engine/link/catalog.h"

#include <stdlib.h>
#include <string.h>

#include "engine/base/memory.h"
#include "engine/link/codes.h"
#include "engine/link/internal.h"
#include "engine/link/reply.h"

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
