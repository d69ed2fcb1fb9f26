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

enum { MOST = 8, TTL = 60, NOW = 7 };

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
    bool deaf;      /* collMod changes nothing */
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

    BCON_APPEND(&batch, "id", "{", "v", BCON_INT32(2), "key", "{", "_id", BCON_INT32(1), "}",
                "name", "_id_", "}");
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
    if (bson_has_field(command, "hello") || bson_has_field(command, "isMaster"))
        BCON_APPEND(reply, "lastWrite", "{", "opTime", "{", "ts", BCON_TIMESTAMP(0, NOW), "}", "}",
                    "ok", BCON_DOUBLE(1));
    else if (bson_has_field(command, "dataSize"))
        BCON_APPEND(reply, "numObjects", BCON_INT64(0), "size", BCON_INT64(0), "ok",
                    BCON_DOUBLE(1));
    else
        return serve_listing(&((alike_t *)data)->catalogs[SOURCE], command, reply);
    return true;
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
        if (!alike->deaf)
            modify(catalog, command);
    } else if (bson_has_field(command, "create") || bson_has_field(command, "drop")) {
        catalog->uuid = bson_has_field(command, "create") ? 2 : 0;
        tell(alike, catalog->uuid ? "create" : "drop",
             text_of(command, catalog->uuid ? "create" : "drop"));
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
    double_put(alike->sides[SOURCE], "d.b", &info.options); /* it has a time */
    options = (tow_copy_options_t){.source = double_link(alike->sides[SOURCE]),
                                   .destination = double_link(alike->sides[DESTINATION]),
                                   .namespaces = alike->table,
                                   .filter = alike->filter,
                                   .stop = alike->stop,
                                   .range_bytes = 1 << 20,
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

/* Questions -------------------------------------------------------------------------------------*/

static void know(alike_t *alike, uint8_t uuid)
{
    tow_collection_info_t info = {
        .database = (char *)"d", .name = (char *)"a", .ns = (char *)"d.a", .uuid = {uuid}};

    bson_init(&info.options);
    tow_namespaces_set_ranges(alike->table, tow_namespaces_add(alike->table, &info, 0), NULL, 0);
}

/* What a look at both catalogs leaves open. */
static tow_questions_t look(alike_t *alike)
{
    tow_worker_t worker = {.copy = alike->copy,
                           .source = tow_conn_open(double_link(alike->sides[SOURCE])),
                           .destination = tow_conn_open(double_link(alike->sides[DESTINATION]))};
    tow_questions_t questions;
    tow_error_t error;

    if (!tow_copy_look_around(&worker, true, &error))
        fail_msg("%s", error.message);
    tow_conn_close(worker.source);
    tow_conn_close(worker.destination);
    tow_copy_take_questions(alike->copy, &questions);
    return questions;
}

static void answer(alike_t *alike, tow_questions_t *questions)
{
    tow_error_t error;

    if (!tow_copy_answer(alike->copy, questions, &error))
        fail_msg("%s (%s)", error.message, alike->told);
    tow_questions_clear(questions);
}

/* movePrimary, a lost stream: no event will ever say so. */
static void another_identity_without_an_event_is_copied_again(void **state)
{
    tow_questions_t questions;
    alike_t alike;

    begin(&alike, 9);
    questions = look(&alike);
    assert_int_equal(questions.count, 1);
    assert_true(questions.time);
    answer(&alike, &questions);
    assert_string_equal(alike.told, "drop a; drop a; create a; ");
    assert_int_equal(tow_namespaces_find(alike.table, "d", "a")->uuid[0], 1);
    end(&alike);
}

/* Its event came after the look. */
static void a_question_that_an_event_has_answered_is_none(void **state)
{
    tow_questions_t questions;
    alike_t alike;

    begin(&alike, 9);
    questions = look(&alike);
    know(&alike, 0);
    answer(&alike, &questions);
    assert_string_equal(alike.told, "");
    end(&alike);
}

static void what_is_known_or_of_unknown_identity_is_no_question(void **state)
{
    for (uint8_t known = 0; known < 2; known++) {
        alike_t alike;

        begin(&alike, known);
        assert_int_equal(look(&alike).count, 0);
        end(&alike);
    }
}

/* createIndexes of before 6.0, cloneCollectionAsCapped. */
static void what_no_event_reported_is_copied_while_in_sync(void **state)
{
    tow_questions_t questions;
    alike_t alike;

    begin(&alike, 1);
    tow_namespaces_drop(alike.table, tow_namespaces_find(alike.table, "d", "a"));
    alike.catalogs[DESTINATION].uuid = 0;
    questions = look(&alike);
    assert_int_equal(questions.count, 1);
    answer(&alike, &questions);
    assert_non_null(strstr(alike.told, "create a; "));
    assert_non_null(tow_namespaces_find(alike.table, "d", "a"));
    end(&alike);
}

/* TTL -------------------------------------------------------------------------------------------*/

static void begin_ttl(alike_t *alike)
{
    begin(alike, 1);
    for (int side = 0; side < 2; side++) {
        has(alike, side, 0, "x", "a");
        alike->catalogs[side].indexes[0].ttl = side ? INT32_MAX - TTL : TTL;
    }
    reconcile(alike, TOW_RECONCILE_LAST);
}

static void ttl_is_restored(void **state)
{
    tow_error_t error;
    alike_t alike;

    begin_ttl(&alike);
    tow_reconcile_note_ttl(&(tow_reconciling_t){.copy = alike.copy},
                           &(tow_collection_info_t){.database = (char *)"d", .name = (char *)"a"});
    assert_true(tow_copy_restore_ttl(alike.copy, &error));
    assert_int_equal(alike.catalogs[DESTINATION].indexes[0].ttl, TTL);
    end(&alike);
}

static void what_cannot_be_restored_is_an_error(void **state)
{
    for (int kind = 0; kind < 4; kind++) {
        tow_error_t error;
        alike_t alike;

        begin_ttl(&alike);
        tow_reconcile_note_ttl(
            &(tow_reconciling_t){.copy = alike.copy},
            &(tow_collection_info_t){.database = (char *)"d", .name = (char *)"a"});
        if (kind == 0)
            alike.catalogs[SOURCE].uuid = 9; /* another collection */
        else if (kind == 1)
            alike.catalogs[SOURCE].uuid = 0; /* gone */
        else if (kind == 2)
            alike.catalogs[DESTINATION].uuid = 0;
        else
            alike.deaf = true;
        assert_false(tow_copy_restore_ttl(alike.copy, &error));
        end(&alike);
    }
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
        cmocka_unit_test(another_identity_without_an_event_is_copied_again),
        cmocka_unit_test(a_question_that_an_event_has_answered_is_none),
        cmocka_unit_test(what_is_known_or_of_unknown_identity_is_no_question),
        cmocka_unit_test(what_no_event_reported_is_copied_while_in_sync),
        cmocka_unit_test(ttl_is_restored),
        cmocka_unit_test(what_cannot_be_restored_is_an_error),
        cmocka_unit_test(an_index_whose_name_went_to_another_is_dropped_first),
        cmocka_unit_test(indexes_that_swapped_their_names_are_both_dropped_first),
        cmocka_unit_test(what_is_the_same_or_can_be_changed_stays),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
