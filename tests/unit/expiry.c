/* SPDX-License-Identifier: Apache-2.0 */
/* What expires: held off until everything else is the same, and restored then alone. And when
 * indexes are made those of the source. */
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

enum { SECONDS = 60, NEVER = 2147483647 };

typedef struct bench bench_t;
typedef struct {
    bench_t *bench;
    double_server_t *server;
    int32_t seconds; /* of the TTL index */
    bool extra;      /* it has another index, a unique one */
} side_t;

struct bench {
    side_t sides[2];
    tow_filter_t *filter;
    tow_namespaces_t *table;
    tow_stop_t *stop;
    tow_copy_t *copy;
    char words[100]; /* what the destination was asked to change */
};

static void append_index(bson_t *list, const char *key, const char *name, const char *field,
                         int32_t seconds, bool unique)
{
    bson_t entry, part;

    bson_append_document_begin(list, key, -1, &entry);
    bson_append_int32(&entry, "v", -1, 2);
    bson_append_document_begin(&entry, "key", -1, &part);
    bson_append_int32(&part, field, -1, 1);
    bson_append_document_end(&entry, &part);
    bson_append_utf8(&entry, "name", -1, name, -1);
    if (seconds)
        bson_append_int32(&entry, "expireAfterSeconds", -1, seconds);
    if (unique)
        bson_append_bool(&entry, "unique", -1, true);
    bson_append_document_end(list, &entry);
}

static void list(const side_t *side, bool indexes, bson_t *reply)
{
    bson_t cursor, batch;

    bson_append_document_begin(reply, "cursor", -1, &cursor);
    bson_append_int64(&cursor, "id", -1, 0);
    bson_append_utf8(&cursor, "ns", -1, "d.a", -1);
    bson_append_array_begin(&cursor, "firstBatch", -1, &batch);
    if (indexes) {
        append_index(&batch, "0", "_id_", "_id", 0, false);
        append_index(&batch, "1", "t", "t", side->seconds, false);
        if (side->extra)
            append_index(&batch, "2", "x", "x", 0, true);
    } else {
        BCON_APPEND(&batch, "0", "{", "name", "a", "type", "collection", "options", "{", "}", "}");
    }
    bson_append_array_end(&cursor, &batch);
    bson_append_document_end(reply, &cursor);
}

static bool serve(void *data, const char *database, const bson_t *command, bson_t *reply,
                  bson_error_t *error)
{
    side_t *side = data;
    bench_t *bench = side->bench;
    size_t length = strlen(bench->words);
    bson_iter_t iter, found;

    if (bson_has_field(command, "listDatabases"))
        BCON_APPEND(reply, "databases", "[", "{", "name", "d", "}", "]");
    else if (bson_has_field(command, "listCollections") || bson_has_field(command, "listIndexes"))
        list(side, bson_has_field(command, "listIndexes"), reply);
    else if (bson_iter_init(&iter, command) &&
             bson_iter_find_descendant(&iter, "index.expireAfterSeconds", &found))
        snprintf(bench->words + length, sizeof bench->words - length, "ttl %d ",
                 (int)(side->seconds = (int32_t)bson_iter_as_int64(&found)));
    else if (bson_iter_init(&iter, command) && bson_iter_next(&iter))
        snprintf(bench->words + length, sizeof bench->words - length, "%s ", bson_iter_key(&iter));
    bson_append_double(reply, "ok", -1, 1);
    return true;
}

static void begin(bench_t *bench)
{
    tow_collection_info_t info = {.database = (char *)"d", .name = (char *)"a"};

    *bench = (bench_t){
        .filter = tow_filter_new(), .table = tow_namespaces_new(), .stop = tow_stop_new()};
    for (int i = 0; i < 2; i++) {
        bench->sides[i] = (side_t){bench, double_new(i ? "destination" : "source", false),
                                   i ? NEVER : SECONDS, false};
        double_hook(bench->sides[i].server, serve, &bench->sides[i]);
    }
    bson_init(&info.options);
    tow_namespaces_set_ranges(bench->table, tow_namespaces_add(bench->table, &info, 0), NULL, 0);
    bson_destroy(&info.options);
    bench->copy =
        tow_copy_new(&(tow_copy_options_t){.source = double_link(bench->sides[0].server),
                                           .destination = double_link(bench->sides[1].server),
                                           .namespaces = bench->table,
                                           .filter = bench->filter,
                                           .stop = bench->stop});
}

static void end(bench_t *bench)
{
    tow_copy_destroy(bench->copy);
    tow_namespaces_destroy(bench->table);
    tow_filter_destroy(bench->filter);
    for (int i = 0; i < 2; i++)
        double_free(bench->sides[i].server);
    tow_stop_destroy(bench->stop);
}

/* Neither while the job goes on nor with the cutover's last look may the destination expire
 * anything: the comparison comes after that. */
static void what_expires_is_restored_at_the_very_end(void **state)
{
    static const tow_reconcile_t before[] = {TOW_RECONCILE_ALONG, TOW_RECONCILE_LAST};
    tow_error_t error;
    bench_t bench;

    begin(&bench);
    for (size_t i = 0; i < sizeof before / sizeof *before; i++) {
        if (!tow_copy_reconcile(bench.copy, NULL, NULL, before[i], &error))
            fail_msg("%s", error.message);
        assert_string_equal(bench.words, "");
    }
    assert_true(tow_copy_restore_ttl(bench.copy, &error));
    assert_string_equal(bench.words, "ttl 60 ");
    end(&bench);
}

/* A cutover that was called off after that: documents may not expire while the job goes on. */
static void what_expires_is_held_off_again(void **state)
{
    tow_error_t error;
    bench_t bench;

    begin(&bench);
    bench.sides[1].seconds = SECONDS;
    if (!tow_copy_reconcile(bench.copy, NULL, NULL, TOW_RECONCILE_ALONG, &error))
        fail_msg("%s", error.message);
    assert_string_equal(bench.words, "ttl 2147483647 ");
    end(&bench);
}

static void an_index_that_the_source_does_not_have_is_dropped(void **state)
{
    tow_error_t error;
    bench_t bench;

    begin(&bench);
    bench.sides[1].extra = true;
    if (!tow_copy_reconcile(bench.copy, NULL, NULL, TOW_RECONCILE_LAST, &error))
        fail_msg("%s", error.message);
    assert_string_equal(bench.words, "dropIndexes ");
    end(&bench);
}

/* Before all is consistent it would refuse what the source takes. */
static void a_unique_index_waits_until_those_of_all_are_built(void **state)
{
    tow_error_t error;
    bench_t bench;

    begin(&bench);
    bench.sides[0].extra = true;
    for (int built = 0; built < 2; built++) {
        atomic_store(&bench.copy->unique_built, built);
        if (!tow_copy_reconcile(bench.copy, NULL, NULL, TOW_RECONCILE_ALONG, &error))
            fail_msg("%s", error.message);
        assert_string_equal(bench.words, built ? "createIndexes " : "");
    }
    end(&bench);
}

/* Built before, a unique one would refuse what ranges hold that were read at another time. */
static void no_index_is_touched_while_its_collection_is_copied(void **state)
{
    tow_range_t *range = tow_alloc(sizeof *range);
    tow_error_t error;
    bench_t bench;

    begin(&bench);
    bench.sides[1].extra = true;
    tow_namespaces_set_ranges(bench.table, tow_namespaces_find(bench.table, "d", "a"), range, 1);
    if (!tow_copy_reconcile(bench.copy, NULL, NULL, TOW_RECONCILE_ALONG, &error))
        fail_msg("%s", error.message);
    assert_string_equal(bench.words, "");
    end(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_expires_is_restored_at_the_very_end),
        cmocka_unit_test(what_expires_is_held_off_again),
        cmocka_unit_test(an_index_that_the_source_does_not_have_is_dropped),
        cmocka_unit_test(a_unique_index_waits_until_those_of_all_are_built),
        cmocka_unit_test(no_index_is_touched_while_its_collection_is_copied),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
