/* SPDX-License-Identifier: Apache-2.0 */
/* digest.c: sums of hashes, the merge of two maps, field paths, metadata and the report's JSON. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "verify/internal.h"

static bson_t *parse(const char *json)
{
    bson_error_t error;
    bson_t *document = bson_new_from_json((const uint8_t *)json, -1, &error);

    if (!document)
        fail_msg("%s: %s", json, error.message);
    return document;
}

static void add(tow_digest_t *digest, const char *text)
{
    tow_digest_add(digest, tow_digest_hash(text, strlen(text), 7), strlen(text));
}

static void test_sum_needs_no_order(void **state)
{
    tow_digest_t a = {0}, b = {0}, c = {0};

    add(&a, "one"), add(&a, "two"), add(&a, "three");
    add(&b, "three"), add(&b, "one");
    assert_false(tow_digest_equal(&a, &b));
    add(&c, "two");
    tow_digest_merge(&b, &c);
    assert_true(tow_digest_equal(&a, &b));
    tow_digest_remove(&b, tow_digest_hash("two", 3, 7), 3);
    tow_digest_remove(&b, tow_digest_hash("one", 3, 7), 3);
    tow_digest_remove(&b, tow_digest_hash("three", 5, 7), 5);
    c = (tow_digest_t){0};
    assert_true(tow_digest_equal(&b, &c));
}

/* An XOR of hashes would be zero for both of these, with as many documents and bytes. */
static void test_pairs_do_not_cancel(void **state)
{
    tow_digest_t a = {0}, b = {0};

    add(&a, "aaa"), add(&a, "aaa");
    add(&b, "bbb"), add(&b, "bbb");
    assert_int_equal(a.documents, b.documents);
    assert_int_equal(a.bytes, b.bytes);
    assert_false(tow_digest_equal(&a, &b));
    /* Nor does a document whose hash adds nothing. */
    b = a;
    tow_digest_add(&b, 0, 10);
    assert_true(a.sum == b.sum);
    assert_false(tow_digest_equal(&a, &b));
}

static void test_hash_has_128_seeded_bits(void **state)
{
    tow_hash_t hash = tow_digest_hash("x", 1, 1), other = tow_digest_hash("x", 1, 2);
    char text[33];

    assert_true((uint64_t)hash != (uint64_t)other);
    assert_true(hash >> 64 != other >> 64);
    assert_true(hash >> 64 != (uint64_t)hash);
    tow_digest_text((tow_hash_t)0xfedcba9876543210 << 64 | 0x123, text);
    assert_string_equal(text, "fedcba98765432100000000000000123");
    /* The carry goes over the middle, and out at the top. */
    tow_digest_text(((tow_hash_t)0 - 1) + 2, text);
    assert_string_equal(text, "00000000000000000000000000000001");
    tow_digest_text((tow_hash_t)UINT64_MAX + 1, text);
    assert_string_equal(text, "00000000000000010000000000000000");
}

/*

 *
 *
 * * Maps ------------------------------------------------------------------------------------------
 */

static void map_add(tow_map_t *map, const char *json, const char *content)
{
    bson_t *document = parse(json);
    tow_value_t id = {0};

    tow_value_id(document, &id);
    tow_map_add(map, id, tow_value_hash(id), tow_digest_hash(content, strlen(content), 0),
                (uint32_t)strlen(content));
    bson_destroy(document);
}

typedef struct {
    tow_map_t maps[2];
    char text[512]; /* "KIND:ID;" for each, in the order they were found */
    int counts[TOW_DIFFERENCE_DIFFERENT + 1];
} found_t;

static void take(void *data, tow_difference_kind_t kind, const tow_map_entry_t *source,
                 const tow_map_entry_t *destination)
{
    found_t *found = data;
    char id[64];
    size_t length = strlen(found->text);

    assert_int_equal(source == NULL, kind == TOW_DIFFERENCE_EXTRA);
    assert_int_equal(destination == NULL, kind == TOW_DIFFERENCE_MISSING);
    tow_value_text(source ? tow_map_id(&found->maps[0], source)
                          : tow_map_id(&found->maps[1], destination),
                   id, sizeof id);
    found->counts[kind]++;
    snprintf(found->text + length, sizeof found->text - length, "%d:%s;", (int)kind, id);
}

static void compare_maps(found_t *found)
{
    tow_map_compare(&found->maps[0], &found->maps[1], take, found);
    tow_map_free(&found->maps[0]);
    tow_map_free(&found->maps[1]);
}

static void test_maps_name_every_difference(void **state)
{
    found_t found = {0};
    char json[64];

    for (int i = 0; i < 1000; i++) {
        snprintf(json, sizeof json, "{\"_id\":%d}", i);
        if (i != 999)
            map_add(&found.maps[0], json, "same");
        /* The other side in another order and another type: still the same key. */
        snprintf(json, sizeof json, "{\"_id\":{\"$numberDouble\":\"%d.0\"}}", 999 - i);
        if (i != 999)
            map_add(&found.maps[1], json, i == 499 ? "other" : "same");
    }
    compare_maps(&found);
    assert_int_equal(found.counts[TOW_DIFFERENCE_MISSING], 1);
    assert_int_equal(found.counts[TOW_DIFFERENCE_EXTRA], 1);
    assert_int_equal(found.counts[TOW_DIFFERENCE_DIFFERENT], 1);
    assert_non_null(strstr(found.text, "0:0;"));
    assert_non_null(strstr(found.text, "1:999.0;"));
    assert_non_null(strstr(found.text, "2:500;"));
}

static void test_one_side_empty(void **state)
{
    found_t found = {0};

    compare_maps(&found);
    assert_string_equal(found.text, "");
    map_add(&found.maps[1], "{\"_id\":\"a\"}", "x");
    compare_maps(&found);
    assert_string_equal(found.text, "1:\"a\";");
    map_add(&found.maps[0], "{\"_id\":\"b\"}", "x");
    compare_maps(&found);
    assert_string_equal(found.text, "1:\"a\";0:\"b\";");
}

/* A key may occur more than once; documents without an _id share one. */
static void test_duplicates_are_a_multiset(void **state)
{
    found_t found = {0};

    for (int side = 0; side < 2; side++) {
        map_add(&found.maps[side], "{\"_id\":1}", side ? "b" : "a");
        map_add(&found.maps[side], "{\"_id\":1}", side ? "a" : "b");
        map_add(&found.maps[side], "{}", "n");
        map_add(&found.maps[side], "{}", side ? "m" : "n");
    }
    map_add(&found.maps[0], "{\"_id\":1}", "a");
    compare_maps(&found);
    assert_int_equal(found.counts[TOW_DIFFERENCE_MISSING], 1);
    assert_int_equal(found.counts[TOW_DIFFERENCE_DIFFERENT], 1);
    assert_int_equal(found.counts[TOW_DIFFERENCE_EXTRA], 0);
    assert_non_null(strstr(found.text, "0:1;"));
    assert_non_null(strstr(found.text, "2:(none);"));
}

/* Paths
 * and metadata ---------------------------------------------------------------------------- */

static void expect_path(const char *a_json, const char *b_json, const char *expected)
{
    bson_t *a = parse(a_json), *b = parse(b_json);
    char *path = tow_verify_path(TOW_VERIFY_BYTES, a, b);
    char *back = tow_verify_path(TOW_VERIFY_BYTES, b, a);

    if (!expected) {
        assert_null(path);
        assert_null(back);
    } else {
        assert_string_equal(path, expected);
        assert_non_null(back);
    }
    free(path);
    free(back);
    bson_destroy(a);
    bson_destroy(b);
}

static void test_first_differing_path(void **state)
{
    expect_path("{\"a\":1,\"b\":{\"c\":[1,2]}}", "{\"a\":1,\"b\":{\"c\":[1,2]}}", NULL);
    expect_path("{\"a\":1}", "{\"a\":2}", "a");
    expect_path("{\"a\":1}", "{\"a\":{\"$numberLong\":\"1\"}}", "a");
    expect_path("{\"a\":1,\"b\":{\"c\":[1,{\"d\":1}]}}", "{\"a\":1,\"b\":{\"c\":[1,{\"d\":2}]}}",
                "b.c.1.d");
    expect_path("{\"a\":1,\"b\":2}", "{\"a\":1}", "b");
    expect_path("{\"a\":1}", "{\"a\":1,\"b\":2}", "b");
    expect_path("{\"a\":1,\"b\":2}", "{\"b\":2,\"a\":1}", "a"); /* order counts */
    expect_path("{\"a\":{\"x\":1}}", "{\"a\":{\"x\":1,\"y\":2}}", "a.y");
    expect_path("{\"a\":[]}", "{\"a\":{}}", "a");
}

/*

 *
 *
 * * Report ----------------------------------------------------------------------------------------
 */

static void test_report(void **state)
{
    tow_verify_options_t options = {.max_differences = 3};
    tow_verify_report_t *report = tow_alloc(sizeof *report);
    tow_verify_run_t run = {.options = &options, .report = report, .item_count = 1};
    tow_collection_info_t info = {.type = TOW_COLLECTION};
    char ns[] = "d.c\"\x01";
    tow_verify_item_t item = {.ns = ns, .source = &info};
    tow_verify_unit_t unit = {.item = &item, .has_max = true};
    tow_value_t id;
    char *json;
    bson_t *parsed, *document = parse("{\"_id\":\"b\"}");

    run.items = &item;
    pthread_mutex_init(&run.lock, NULL);
    unit.max = (bson_value_t){.value_type = BSON_TYPE_INT32, .value.v_int32 = 9};
    assert_true(tow_value_id(document, &id));
    tow_verify_add(&run, &item,
                   &(tow_finding_t){.kind = TOW_DIFFERENCE_DIFFERENT,
                                    .id = &id,
                                    .unit = &unit,
                                    .path = "x.\xff\xc3\xa4",
                                    .lengths = {11, 12},
                                    .repaired = true});
    tow_verify_add(&run, &item,
                   &(tow_finding_t){.kind = TOW_DIFFERENCE_INDEXES, .path = "index a_1"});
    tow_verify_add(&run, &item,
                   &(tow_finding_t){.kind = TOW_DIFFERENCE_MISSING, .id = &id, .unit = &unit});
    assert_true(tow_verify_list_full(&run));
    tow_verify_add(&run, &item,
                   &(tow_finding_t){.kind = TOW_DIFFERENCE_EXTRA, .id = &id, .unit = &unit});
    tow_verify_count(&run, &item, 5);
    item.totals[TOW_SOURCE] = (tow_digest_t){.documents = 2, .bytes = 30, .sum = 0xab};
    tow_verify_report_finish(&run);

    assert_false(report->equal);
    assert_int_equal(report->difference_count, 3);
    assert_int_equal(report->differences_total, 9);
    assert_int_equal(report->collections[0].differences, 9);
    assert_int_equal(report->differences[0].kind, TOW_DIFFERENCE_INDEXES);
    assert_int_equal(report->differences[1].id_value.value_type, BSON_TYPE_UTF8);
    json = tow_verify_report_json(report);
    parsed = parse(json);
    assert_non_null(strstr(json, "\"ns\":\"d.c\\\"\\u0001\""));
    assert_non_null(
        strstr(json, "\"id\":\"\\\"b\\\"\",\"path\":\"x.\\ufffd\xc3\xa4\",\"range\":\"(-inf, 9)\","
                     "\"sourceLength\":11,\"destinationLength\":12,\"repaired\":true}"));
    assert_non_null(strstr(json, "\"source\":{\"documents\":2,\"bytes\":30,\"hash\":"
                                 "\"000000000000000000000000000000ab\"}"));
    assert_non_null(strstr(json, "\"differencesTotal\":9"));
    assert_non_null(strstr(json, "\"differences\":9,\"repaired\":1}"));
    assert_null(strchr(json, '\n'));
    bson_destroy(parsed);
    bson_destroy(document);
    free(json);
    tow_verify_report_destroy(report);
    pthread_mutex_destroy(&run.lock);
}

/* A report of one collection, d.c, with an index difference for each of the names. */
static tow_verify_report_t *report_of(const char *const *indexes)
{
    tow_verify_options_t options = {.max_differences = 9};
    tow_verify_report_t *report = tow_alloc(sizeof *report);
    tow_verify_run_t run = {.options = &options, .report = report, .item_count = 1};
    tow_collection_info_t info = {.type = TOW_COLLECTION};
    char ns[] = "d.c";
    tow_verify_item_t item = {.ns = ns, .source = &info};

    run.items = &item;
    pthread_mutex_init(&run.lock, NULL);
    for (; *indexes; indexes++)
        tow_verify_add(&run, &item,
                       &(tow_finding_t){.kind = TOW_DIFFERENCE_INDEXES, .path = *indexes});
    tow_verify_report_finish(&run);
    pthread_mutex_destroy(&run.lock);
    return report;
}

/* What was found before and is not found after was repaired; what appears only after counts too. */
static void test_catalog_before_and_after(void **state)
{
    tow_verify_report_t *report = report_of((const char *const[]){"b", NULL});
    tow_verify_report_t *before = report_of((const char *const[]){"a", "b", NULL});
    tow_verify_report_t *after = report_of((const char *const[]){"b", "c", NULL});
    tow_verify_report_t *none = report_of((const char *const[]){NULL});

    tow_verify_report_catalog(report, before, after);
    assert_false(report->equal);
    assert_int_equal(report->differences_total, 3);
    assert_int_equal(report->repaired_total, 1);
    assert_int_equal(report->difference_count, 3);
    assert_string_equal(report->differences[0].path, "a");
    assert_true(report->differences[0].repaired);
    assert_false(report->differences[1].repaired || report->differences[2].repaired);
    assert_false(report->collections[0].equal);
    tow_verify_report_catalog(report, before, none);
    assert_true(report->equal && report->collections[0].equal);
    assert_int_equal(report->differences_total, 2);
    tow_verify_report_destroy(report);
    tow_verify_report_destroy(before);
    tow_verify_report_destroy(after);
    tow_verify_report_destroy(none);
}

static void test_report_of_equal_sides(void **state)
{
    tow_verify_options_t options = {.max_differences = 3};
    tow_verify_run_t run = {.options = &options, .report = tow_alloc(sizeof *run.report)};
    char *json;

    tow_verify_report_finish(&run);
    assert_true(run.report->equal);
    json = tow_verify_report_json(run.report);
    assert_non_null(strstr(json, "{\"equal\":true"));
    assert_non_null(strstr(json, "\"collections\":[],\"differences\":[]}"));
    free(json);
    tow_verify_report_destroy(run.report);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sum_needs_no_order),
        cmocka_unit_test(test_pairs_do_not_cancel),
        cmocka_unit_test(test_hash_has_128_seeded_bits),
        cmocka_unit_test(test_maps_name_every_difference),
        cmocka_unit_test(test_one_side_empty),
        cmocka_unit_test(test_duplicates_are_a_multiset),
        cmocka_unit_test(test_first_differing_path),
        cmocka_unit_test(test_report),
        cmocka_unit_test(test_report_of_equal_sides),
        cmocka_unit_test(test_catalog_before_and_after),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
