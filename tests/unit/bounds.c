/* SPDX-License-Identifier: Apache-2.0 */
/* Requests are bounded in number and in bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/state/selection.h"
#include "engine/state/write.h"
#include "oplog/dirty.h"

enum { LARGE = 120000, KEYS = 430, COMMAND_MOST = 16793600, KEY_ROOM = LARGE + 16 };

static void by_both(void **state)
{
    tow_bounds_t bounds = tow_bounds(3, 1000);

    assert_true(tow_bounds_take(&bounds, 5000)); /* a single one always fits */
    assert_false(tow_bounds_take(&bounds, 1));
    tow_bounds_reset(&bounds);
    assert_true(tow_bounds_take(&bounds, 400));
    assert_true(tow_bounds_take(&bounds, 400));
    assert_false(tow_bounds_fit(&bounds, 400));
    tow_bounds_reset(&bounds);
    for (int i = 0; i < 3; i++)
        assert_true(tow_bounds_take(&bounds, 1));
    assert_false(tow_bounds_take(&bounds, 1));
}

/* The raw _id, a string of LARGE bytes that begins with the number. */
static tow_value_t large_id(bson_t *document, int number)
{
    char *text = malloc(LARGE + 1);
    tow_value_t id;

    memset(text, 'x', LARGE);
    text[LARGE] = '\0';
    memcpy(text,
           (char[4]){(char)('a' + number / 676), (char)('a' + number / 26 % 26),
                     (char)('a' + number % 26), '-'},
           4);
    bson_init(document);
    bson_append_utf8(document, "_id", 3, text, LARGE);
    free(text);
    assert_true(tow_value_id(document, &id));
    return id;
}

static void a_selection(void **state)
{
    tow_selection_t selection;
    bson_t filter;
    int count = 0;

    tow_selection_begin(&selection);
    for (; count < KEYS; count++) {
        bson_t document;
        tow_value_t id = large_id(&document, count);
        bool fits = tow_selection_fits(&selection, id);

        if (fits)
            tow_selection_add(&selection, id);
        bson_destroy(&document);
        if (!fits)
            break;
    }
    tow_selection_end(&selection, &filter);
    assert_true(count > 50 && count < KEYS);
    assert_true(filter.len < COMMAND_MOST);
    bson_destroy(&filter);
}

/* Invariant: 430 dirty _ids of 120 KB never make one find of 52 MB, which no server answers. */
static void keys_that_are_taken(void **state)
{
    tow_namespaces_t *table = tow_namespaces_new();
    tow_collection_info_t info = {.database = "d", .name = "c"};
    _Atomic uint64_t bytes = 0, keys = 0;
    tow_ledger_t *ledger;
    tow_stop_t *stop = tow_stop_new();
    tow_dirty_t *dirty;
    tow_namespace_t *collection;
    tow_dirty_key_t *taken[TOW_SELECTION_MOST];
    int total = 0;

    bson_init(&info.options);
    collection = tow_namespaces_add(table, &info, 0);
    ledger = tow_ledger_new(stop, 1 << 20);
    dirty = tow_dirty_new(ledger, &bytes, &keys);
    for (int i = 0; i < KEYS; i++) {
        bson_t document;
        tow_value_t id = large_id(&document, i);

        tow_dirty_mark(dirty, collection, id, (unsigned)i, 1, NULL, false);
        bson_destroy(&document);
    }
    while (total < KEYS) {
        uint32_t count = tow_dirty_take(dirty, taken, TOW_SELECTION_MOST, 0);

        assert_true(count > 0 && count * (size_t)KEY_ROOM < COMMAND_MOST);
        total += (int)count;
    }
    assert_int_equal(total, KEYS);
    assert_int_equal(tow_dirty_take(dirty, taken, TOW_SELECTION_MOST, 0), 0);
    /* One that waits is passed over, and comes when it is due. */
    taken[0]->due_ms = 100;
    tow_dirty_return(dirty, taken[0]);
    assert_int_equal(tow_dirty_take(dirty, taken, TOW_SELECTION_MOST, 99), 0);
    assert_int_equal(tow_dirty_take(dirty, taken, TOW_SELECTION_MOST, 100), 1);
    tow_dirty_destroy(dirty);
    tow_ledger_destroy(ledger);
    tow_namespaces_destroy(table);
    tow_stop_destroy(stop);
    bson_destroy(&info.options);
}

/* Deletes and updates by large _ids, each of which has its _id twice. */
static void statements(void **state)
{
    static const tow_write_kind_t kinds[] = {TOW_WRITE_UPDATE, TOW_WRITE_DELETE, TOW_WRITE_INSERT};
    tow_namespace_t collection = {.name = "c", .database = "d"};

    for (size_t k = 0; k < 3; k++) {
        tow_write_t write = {0};

        tow_write_begin(&write, kinds[k], &collection);
        for (int i = 0; i < KEYS; i++) {
            bson_t document;
            tow_value_t id = large_id(&document, i);

            if (!tow_write_fits(&write, id.length + document.len)) {
                bson_destroy(&document);
                break;
            }
            if (kinds[k] == TOW_WRITE_UPDATE)
                tow_write_replace(&write, id, &document, NULL);
            else if (kinds[k] == TOW_WRITE_DELETE)
                tow_write_delete(&write, id, NULL);
            else
                tow_write_insert(&write, &document, NULL);
            bson_destroy(&document);
        }
        assert_true(write.count > 20 && write.count < KEYS);
        assert_true(write.list.len < COMMAND_MOST);
        tow_write_clear(&write);
    }
}

static void expect_replaceable(const char *json, int major, bool wanted)
{
    tow_facts_t facts = {.major = major};
    bson_error_t problem;
    bson_t *document = bson_new_from_json((const uint8_t *)json, -1, &problem);

    if (!document)
        fail_msg("%s", problem.message);
    if (tow_is_replaceable(document, &facts) != wanted)
        fail_msg("%s on %d", json, major);
    bson_destroy(document);
}

/* A nested $x can be inserted on every server, and before 5.0 never be written again by
 * replacement. */
static void nested_dollars(void **state)
{
    expect_replaceable("{\"_id\":1,\"a\":{\"b\":[{\"$x\":1}]}}", 4, false);
    expect_replaceable("{\"_id\":1,\"a\":{\"b\":[{\"$x\":1}]}}", 5, true);
    expect_replaceable("{\"_id\":1,\"$a\":1}", 8, false);
    expect_replaceable("{\"_id\":1,\"a.b\":{\"c$\":1}}", 4, true);
    expect_replaceable("{\"_id\":1,\"r\":{\"$ref\":\"c\",\"$id\":1,\"$db\":\"d\"}}", 4, true);
    expect_replaceable("{\"_id\":1,\"r\":{\"$ref\":\"c\",\"$x\":1}}", 4, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(by_both), cmocka_unit_test(a_selection),
                                       cmocka_unit_test(keys_that_are_taken),
                                       cmocka_unit_test(statements),
                                       cmocka_unit_test(nested_dollars)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
