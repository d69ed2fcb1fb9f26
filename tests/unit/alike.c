/* SPDX-License-Identifier: Apache-2.0 */
/* Indexes and options as the source lists them: what is dropped, built and changed, in which order,
 * and of which collection. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <mongoc/mongoc.h>

#include "copy/internal.h"
#include "double.h"
#include "engine/link/internal.h"

enum { MOST = 8, TTL = 60 };

/* What a server lists: its only collection, d.a, and the indexes of that. */
typedef struct {
    struct {
        char name[8], field[8]; /* no name: none */
        int64_t ttl;            /* 0: none */
    } indexes[MOST];
    uint8_t uuid; /* 0: there is no collection */
} catalog_t;

typedef struct {
    double_server_t *sides[2];
    catalog_t catalogs[2];
    tow_namespaces_t *table;
    tow_filter_t *filter;
    tow_stop_t *stop;
    tow_copy_t *copy;
    char told[200]; /* what the destination was told to do */
    bool refuses;   /* collMod */
} alike_t;

enum { SOURCE, DESTINATION };

static const char *text_of(const bson_t *command, const char *path)
{
    bson_iter_t iter, found;

    return bson_iter_init(&iter, command) && bson_iter_find_descendant(&iter, path, &found) &&
                   BSON_ITER_HOLDS_UTF8(&found)
               ? bson_iter_utf8(&found, NULL)
               : "";
}

static void tell(alike_t *alike, const char *what, const char *name)
{
    size_t length = strlen(alike->told);

    snprintf(alike->told + length, sizeof alike->told - length, "%s %s; ", what, name);
}

/* Servers ---------------------------------------------------------------------------------------*/

static void append_batch(bson_t *reply, const bson_t *batch)
{
    BCON_APPEND(reply, "cursor", "{", "id", BCON_INT64(0), "ns", "d.$cmd", "firstBatch",
                BCON_ARRAY(batch), "}", "ok", BCON_DOUBLE(1));
}

static void list_collections(const catalog_t *catalog, bson_t *reply)
{
    const uint8_t uuid[16] = {catalog->uuid};
    bson_t batch = BSON_INITIALIZER, entry;

    bson_init(&entry);
    BCON_APPEND(&entry, "name", "a", "type", "collection", "options", "{", "}", "info", "{", "uuid",
                BCON_BIN(BSON_SUBTYPE_UUID, uuid, sizeof uuid), "}");
    if (catalog->uuid)
        bson_append_document(&batch, "0", -1, &entry);
    append_batch(reply, &batch);
    bson_destroy(&entry);
    bson_destroy(&batch);
}

static void list_indexes(const catalog_t *catalog, bson_t *reply)
{
    bson_t batch = BSON_INITIALIZER;

    for (int i = 0; i < MOST; i++) {
        char key[16];
        bson_t entry = BSON_INITIALIZER;

        snprintf(key, sizeof key, "%d", i);
        BCON_APPEND(&entry, "v", BCON_INT32(2), "key", "{", catalog->indexes[i].field,
                    BCON_INT32(1), "}", "name", catalog->indexes[i].name);
        if (catalog->indexes[i].ttl)
            bson_append_int64(&entry, "expireAfterSeconds", -1, catalog->indexes[i].ttl);
        if (catalog->indexes[i].name[0])
            bson_append_document(&batch, key, -1, &entry);
        bson_destroy(&entry);
    }
    append_batch(reply, &batch);
    bson_destroy(&batch);
}

static bool serve_listing(const catalog_t *catalog, const bson_t *command, bson_t *reply)
{
    if (bson_has_field(command, "listDatabases"))
        BCON_APPEND(reply, "databases", "[", "{", "name", "d", "}", "]", "ok", BCON_DOUBLE(1));
    else if (bson_has_field(command, "listCollections"))
        list_collections(catalog, reply);
    else if (bson_has_field(command, "listIndexes"))
        list_indexes(catalog, reply);
    else
        return false;
    return true;
}

static bool serve_source(void *data, const char *database, const bson_t *command, bson_t *reply,
                         bson_error_t *error)
{
    return serve_listing(&((alike_t *)data)->catalogs[SOURCE], command, reply);
}

static void refuse(bson_t *reply, bson_error_t *error, int code, const char *message)
{
    BCON_APPEND(reply, "ok", BCON_DOUBLE(0), "code", BCON_INT32(code), "errmsg", message);
    bson_set_error(error, MONGOC_ERROR_SERVER, (uint32_t)code, "%s", message);
}

static void build(catalog_t *catalog, const bson_t *command, bson_t *reply, bson_error_t *error)
{
    const char *name = text_of(command, "indexes.0.name"), *field = "";
    bson_iter_t iter, found, key;
    int at = MOST;

    if (bson_iter_init(&iter, command) &&
        bson_iter_find_descendant(&iter, "indexes.0.key", &found) &&
        bson_iter_recurse(&found, &key) && bson_iter_next(&key))
        field = bson_iter_key(&key);
    for (int i = MOST - 1; i >= 0; i--) {
        if (!catalog->indexes[i].name[0])
            at = i;
        else if (!strcmp(catalog->indexes[i].name, name))
            refuse(reply, error, 86, "another index has this name");
        else if (!strcmp(catalog->indexes[i].field, field))
            refuse(reply, error, 85, "the index exists with another name");
        if (error->code)
            return;
    }
    snprintf(catalog->indexes[at].name, sizeof catalog->indexes[at].name, "%s", name);
    snprintf(catalog->indexes[at].field, sizeof catalog->indexes[at].field, "%s", field);
    if (bson_iter_init(&iter, command) &&
        bson_iter_find_descendant(&iter, "indexes.0.expireAfterSeconds", &found))
        catalog->indexes[at].ttl = bson_iter_as_int64(&found);
    BCON_APPEND(reply, "ok", BCON_DOUBLE(1));
}

static void drop(catalog_t *catalog, const char *name)
{
    for (int i = 0; i < MOST; i++)
        if (!strcmp(catalog->indexes[i].name, name))
            catalog->indexes[i].name[0] = '\0';
}

static void modify(catalog_t *catalog, const bson_t *command)
{
    bson_iter_t iter, ttl;

    for (int i = 0; i < MOST; i++)
        if (!strcmp(catalog->indexes[i].name, text_of(command, "index.name")) &&
            bson_iter_init(&iter, command) &&
            bson_iter_find_descendant(&iter, "index.expireAfterSeconds", &ttl))
            catalog->indexes[i].ttl = bson_iter_as_int64(&ttl);
}

static bool serve_destination(void *data, const char *database, const bson_t *command,
                              bson_t *reply, bson_error_t *error)
{
    alike_t *alike = data;
    catalog_t *catalog = &alike->catalogs[DESTINATION];

    if (serve_listing(catalog, command, reply))
        return true;
    if (bson_has_field(command, "createIndexes")) {
        tell(alike, "build", text_of(command, "indexes.0.name"));
        build(catalog, command, reply, error);
        return true;
    }
    if (bson_has_field(command, "dropIndexes")) {
        tell(alike, "drop", text_of(command, "index"));
        drop(catalog, text_of(command, "index"));
    } else if (bson_has_field(command, "collMod")) {
        tell(alike, "change", text_of(command, "index.name"));
        modify(catalog, command);
    } else {
        return false;
    }
    BCON_APPEND(reply, "ok", BCON_DOUBLE(1));
    return true;
}

/* The job --------------------------------------------------------------------------------------*/

static void begin(alike_t *alike, uint8_t known)
{
    tow_collection_info_t info = {
        .database = (char *)"d", .name = (char *)"a", .ns = (char *)"d.a", .uuid = {known}};
    tow_copy_options_t options;

    *alike = (alike_t){.catalogs = {{.uuid = 1}, {.uuid = 2}}};
    alike->stop = tow_stop_new();
    alike->filter = tow_filter_new();
    alike->table = tow_namespaces_new();
    for (int i = 0; i < 2; i++) {
        alike->sides[i] = double_new(i ? "destination" : "source", false);
        double_link(alike->sides[i])->facts.major = 4;
        double_link(alike->sides[i])->facts.minor = 4;
        double_hook(alike->sides[i], i ? serve_destination : serve_source, alike);
    }
    bson_init(&info.options);
    tow_namespaces_set_ranges(alike->table, tow_namespaces_add(alike->table, &info, 0), NULL, 0);
    options = (tow_copy_options_t){.source = double_link(alike->sides[SOURCE]),
                                   .destination = double_link(alike->sides[DESTINATION]),
                                   .namespaces = alike->table,
                                   .filter = alike->filter,
                                   .stop = alike->stop,
                                   .index_errors_fail = true};
    alike->copy = tow_copy_new(&options);
}

static void end(alike_t *alike)
{
    tow_stop_request(alike->stop, NULL);
    tow_copy_destroy(alike->copy);
    tow_namespaces_destroy(alike->table);
    tow_filter_destroy(alike->filter);
    double_free(alike->sides[0]);
    double_free(alike->sides[1]);
    tow_stop_destroy(alike->stop);
}

static void has(alike_t *alike, int side, int at, const char *name, const char *field)
{
    catalog_t *catalog = &alike->catalogs[side];

    snprintf(catalog->indexes[at].name, sizeof catalog->indexes[at].name, "%s", name);
    snprintf(catalog->indexes[at].field, sizeof catalog->indexes[at].field, "%s", field);
}

static void reconcile(alike_t *alike, tow_reconcile_t how)
{
    tow_error_t error;

    if (!tow_copy_reconcile(alike->copy, "d", "a", how, &error))
        fail_msg("%s (%s)", error.message, alike->told);
}

/* Names that change hands ----------------------------------------------------------------------*/

static void an_index_whose_name_went_to_another_is_dropped_first(void **state)
{
    alike_t alike;

    begin(&alike, 1);
    has(&alike, SOURCE, 0, "z", "a");
    has(&alike, SOURCE, 1, "x", "b");
    has(&alike, DESTINATION, 0, "x", "a");
    reconcile(&alike, TOW_RECONCILE_LAST);
    assert_string_equal(alike.told, "drop x; build z; build x; ");
    end(&alike);
}

static void indexes_that_swapped_their_names_are_both_dropped_first(void **state)
{
    alike_t alike;

    begin(&alike, 1);
    has(&alike, SOURCE, 0, "x", "b");
    has(&alike, SOURCE, 1, "y", "a");
    has(&alike, DESTINATION, 0, "x", "a");
    has(&alike, DESTINATION, 1, "y", "b");
    reconcile(&alike, TOW_RECONCILE_LAST);
    assert_string_equal(alike.told, "drop x; drop y; build x; build y; ");
    end(&alike);
}

static void what_is_the_same_or_can_be_changed_stays(void **state)
{
    alike_t alike;

    begin(&alike, 1);
    for (int side = 0; side < 2; side++) {
        has(&alike, side, 0, "x", "a");
        has(&alike, side, 1, "y", "b");
        alike.catalogs[side].indexes[1].ttl = side ? 2 * TTL : TTL;
    }
    reconcile(&alike, TOW_RECONCILE_TTL);
    assert_string_equal(alike.told, "change y; ");
    end(&alike);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_index_whose_name_went_to_another_is_dropped_first),
        cmocka_unit_test(indexes_that_swapped_their_names_are_both_dropped_first),
        cmocka_unit_test(what_is_the_same_or_can_be_changed_stays),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
