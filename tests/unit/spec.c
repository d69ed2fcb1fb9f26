/* SPDX-License-Identifier: Apache-2.0 */
/* Invariant: what a server lists is understood as that server means it, and sent as the other one
 * takes it. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/state/spec.h"

enum { NOW = 1795743845, MOST = NOW - 86400, NEVER = INT32_MAX };

static tow_takes_t takes_of(int major, int minor, int patch, bool sharded)
{
    tow_facts_t facts = {.major = major, .minor = minor, .patch = patch, .sharded = sharded};

    return tow_takes_at(&facts, NOW);
}

static bson_t *parse(const char *json)
{
    bson_error_t problem;
    bson_t *document = bson_new_from_json((const uint8_t *)json, -1, &problem);

    if (!document)
        fail_msg("%s: %s", json, problem.message);
    return document;
}

static void expect_bson(bson_t *made, const char *expected)
{
    char *text = bson_as_relaxed_extended_json(made, NULL);
    bson_t *wanted = parse(expected);
    char *other = bson_as_relaxed_extended_json(wanted, NULL);

    assert_string_equal(text, other);
    bson_free(text);
    bson_free(other);
    bson_destroy(wanted);
    bson_destroy(made);
}

#define SIMPLE ",\"collation\":{\"locale\":\"simple\"}}"

/* One row: what is listed, for which server, and what is sent. */
static void test_specifications(void **state)
{
    static const struct {
        int major;
        bool hold_off;
        const char *listed, *sent;
    } rows[] = {
        /* No collation means the simple one, in a listing. */
        {7, false, "{\"v\":2,\"key\":{\"a\":1},\"name\":\"a\"}",
         "{\"v\":2,\"key\":{\"a\":1},\"name\":\"a\"" SIMPLE},
        {4, false,
         "{\"v\":2,\"key\":{\"_fts\":\"text\",\"_ftsx\":1},\"name\":\"t\",\"weights\":{\"t\":1}}",
         "{\"v\":2,\"key\":{\"_fts\":\"text\",\"_ftsx\":1},\"name\":\"t\",\"weights\":{\"t\":"
         "1}" SIMPLE},
        {7, false, "{\"key\":{\"a\":1},\"name\":\"a\"}",
         "{\"v\":2,\"key\":{\"a\":1},\"name\":\"a\"" SIMPLE},
        {7, false, "{\"v\":2,\"key\":{\"a\":1},\"name\":\"a\",\"collation\":{\"locale\":\"de\"}}",
         "{\"v\":2,\"key\":{\"a\":1},\"name\":\"a\",\"collation\":{\"locale\":\"de\"}}"},
        /* Version 1 stays what it is, and has none. */
        {7, false, "{\"v\":1,\"key\":{\"a\":1},\"name\":\"a\"}",
         "{\"v\":1,\"key\":{\"a\":1},\"name\":\"a\"}"},
        /* What old servers kept of what they were given. */
        {7, false,
         "{\"v\":2,\"key\":{\"a\":1},\"name\":\"a\",\"ns\":\"d.c\",\"safe\":null,\"dropDups\":true,"
         "\"background\":\"true\",\"w\":1,\"sparse\":\"true\",\"unique\":1,\"hidden\":false}",
         "{\"v\":2,\"key\":{\"a\":1},\"name\":\"a\",\"background\":true,\"sparse\":true,\"unique\":"
         "true" SIMPLE},
        /* TTL, held off and as it is. */
        {7, true, "{\"v\":2,\"key\":{\"a\":1},\"name\":\"a\",\"expireAfterSeconds\":60}",
         "{\"v\":2,\"key\":{\"a\":1},\"name\":\"a\",\"expireAfterSeconds\":2147483647" SIMPLE},
        {4, true, "{\"v\":2,\"key\":{\"a\":1},\"name\":\"a\",\"expireAfterSeconds\":60}",
         "{\"v\":2,\"key\":{\"a\":1},\"name\":\"a\",\"expireAfterSeconds\":1795657445" SIMPLE},
        {4, false, "{\"v\":2,\"key\":{\"a\":1},\"name\":\"a\",\"expireAfterSeconds\":60.5}",
         "{\"v\":2,\"key\":{\"a\":1},\"name\":\"a\",\"expireAfterSeconds\":60" SIMPLE},
        {7, false,
         "{\"v\":2,\"key\":{\"a\":1},\"name\":\"a\",\"expireAfterSeconds\":{\"$numberDouble\":"
         "\"NaN\"}}",
         "{\"v\":2,\"key\":{\"a\":1},\"name\":\"a\",\"expireAfterSeconds\":2147483647" SIMPLE},
        {7, false, "{\"v\":2,\"key\":{\"a\":1},\"name\":\"a\",\"expireAfterSeconds\":-1}",
         "{\"v\":2,\"key\":{\"a\":1},\"name\":\"a\",\"expireAfterSeconds\":2147483647" SIMPLE},
        /* No value of 4.4 spares a date of 1970, but an index without TTL does. */
        {4, false,
         "{\"v\":2,\"key\":{\"a\":1},\"name\":\"a\",\"expireAfterSeconds\":{\"$numberDouble\":"
         "\"NaN\"}}",
         "{\"v\":2,\"key\":{\"a\":1},\"name\":\"a\"" SIMPLE},
        {4, true, "{\"v\":2,\"key\":{\"a\":1},\"name\":\"a\",\"expireAfterSeconds\":2147483647}",
         "{\"v\":2,\"key\":{\"a\":1},\"name\":\"a\"" SIMPLE},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        tow_takes_t takes = takes_of(rows[i].major, 4, 0, false);
        bson_t *listed = parse(rows[i].listed), sent;

        tow_index_spec(listed, &takes, rows[i].hold_off, &sent);
        expect_bson(&sent, rows[i].sent);
        bson_destroy(listed);
    }
}

static void test_ttl(void **state)
{
    static const struct {
        const char *json;
        int64_t seconds;
    } rows[] = {{"{\"v\":0}", 0},
                {"{\"v\":3600}", 3600},
                {"{\"v\":{\"$numberLong\":\"3600\"}}", 3600},
                {"{\"v\":3600.0}", 3600},
                {"{\"v\":0.9}", 0},
                {"{\"v\":2147483647}", NEVER},
                {"{\"v\":{\"$numberLong\":\"2147483648\"}}", NEVER},
                {"{\"v\":1e300}", NEVER},
                {"{\"v\":{\"$numberDouble\":\"Infinity\"}}", NEVER},
                {"{\"v\":{\"$numberDouble\":\"-Infinity\"}}", NEVER},
                {"{\"v\":{\"$numberDouble\":\"NaN\"}}", NEVER},
                {"{\"v\":-1}", NEVER},
                {"{\"v\":-0.5}", NEVER},
                {"{\"v\":\"60\"}", NEVER},
                {"{\"v\":null}", NEVER},
                {"{\"v\":true}", NEVER}};

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bson_t *document = parse(rows[i].json);
        bson_iter_t iter;

        bson_iter_init_find(&iter, document, "v");
        assert_int_equal(tow_ttl_seconds(&iter), rows[i].seconds);
        bson_destroy(document);
    }
    assert_true(tow_ttl_is_never(MOST));
    assert_false(tow_ttl_is_never(86400 * 365 * 30));
}

static void test_versions(void **state)
{
    assert_int_equal(takes_of(4, 2, 25, false).ttl_most, MOST);
    assert_int_equal(takes_of(5, 0, 3, false).ttl_most, MOST);
    assert_int_equal(takes_of(6, 0, 2, false).ttl_most, MOST); /* patch releases differ */
    assert_int_equal(takes_of(7, 0, 0, false).ttl_most, NEVER);
    assert_int_equal(takes_of(8, 0, 0, false).ttl_most, NEVER);
    assert_false(takes_of(4, 2, 0, false).pre_images);
    assert_true(takes_of(4, 4, 0, false).pre_images);
    assert_false(takes_of(5, 0, 0, true).pre_images);
    assert_false(takes_of(6, 0, 0, false).pre_images);
    assert_false(takes_of(4, 2, 0, false).aborts);
    assert_true(takes_of(4, 4, 0, false).aborts);
    assert_false(takes_of(5, 0, 0, false).converts);
    assert_true(takes_of(6, 0, 0, false).converts);
}

static void expect_index(bool ignore_ttl, const char *left, const char *right, const char *expected)
{
    bson_t *a = parse(left), *b = parse(right);

    for (int turn = 0; turn < 2; turn++) {
        char *name =
            turn ? tow_index_difference(b, a, ignore_ttl) : tow_index_difference(a, b, ignore_ttl);

        if (expected)
            assert_string_equal(name, expected);
        else
            assert_null(name);
        free(name);
    }
    bson_destroy(a);
    bson_destroy(b);
}

static void test_index_differences(void **state)
{
    expect_index(false, "{\"v\":2,\"key\":{\"a\":1},\"name\":\"a_1\",\"ns\":\"x.y\"}",
                 "{\"name\":\"a_1\",\"key\":{\"a\":1},\"v\":1}", NULL);
    expect_index(false, "{\"key\":{\"a\":1,\"b\":1}}", "{\"key\":{\"b\":1,\"a\":1}}", "key");
    expect_index(false, "{\"key\":{\"a\":1}}", "{\"key\":{\"a\":{\"$numberDouble\":\"1.0\"}}}",
                 "key");
    expect_index(false, "{\"unique\":true}", "{}", "unique");
    expect_index(false, "{\"unique\":1}", "{\"unique\":true}", NULL);
    expect_index(false, "{\"sparse\":\"true\"}", "{\"sparse\":true}", NULL);
    expect_index(false, "{\"hidden\":true}", "{\"hidden\":false}", "hidden");
    expect_index(false, "{\"safe\":true,\"w\":1,\"dropDups\":true,\"background\":\"true\"}", "{}",
                 NULL);
    expect_index(false, "{\"collation\":{\"locale\":\"simple\"}}", "{}", NULL);
    expect_index(false, "{\"collation\":{\"locale\":\"en\"}}", "{}", "collation");
    expect_index(false, "{\"expireAfterSeconds\":5}", "{\"expireAfterSeconds\":6}",
                 "expireAfterSeconds");
    expect_index(false, "{\"expireAfterSeconds\":5}", "{\"expireAfterSeconds\":5.0}", NULL);
    expect_index(false, "{\"expireAfterSeconds\":5}", "{}", "expireAfterSeconds");
    expect_index(false, "{\"expireAfterSeconds\":{\"$numberDouble\":\"NaN\"}}",
                 "{\"expireAfterSeconds\":2147483647}", NULL);
    expect_index(false, "{\"expireAfterSeconds\":1795657445}",
                 "{\"expireAfterSeconds\":2147483647}", NULL);
    expect_index(false, "{\"expireAfterSeconds\":-1}", "{}", NULL);
    expect_index(false, "{\"expireAfterSeconds\":{\"$numberDouble\":\"NaN\"}}",
                 "{\"expireAfterSeconds\":0}", "expireAfterSeconds");
    expect_index(true, "{\"expireAfterSeconds\":5}", "{\"expireAfterSeconds\":2147483647}", NULL);
}

static void test_modifiable(void **state)
{
    static const struct {
        int major;
        const char *wanted, *there;
        bool expected;
    } rows[] = {{4, "{\"expireAfterSeconds\":5}", "{\"expireAfterSeconds\":6}", true},
                {4, "{\"hidden\":true}", "{}", true},
                {4, "{\"expireAfterSeconds\":5}", "{}", false},
                {6, "{\"expireAfterSeconds\":5}", "{}", true},
                {6, "{}", "{\"expireAfterSeconds\":5}", false},
                {5, "{\"unique\":true}", "{}", false},
                {6, "{\"unique\":true}", "{}", true},
                {6, "{\"unique\":true}", "{\"prepareUnique\":true}", true},
                {6, "{\"sparse\":true}", "{}", false}};

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        tow_takes_t takes = takes_of(rows[i].major, 0, 9, false);
        bson_t *wanted = parse(rows[i].wanted), *there = parse(rows[i].there);

        assert_int_equal(tow_index_is_modifiable(wanted, there, &takes), rows[i].expected);
        bson_destroy(wanted);
        bson_destroy(there);
    }
}

static void expect_options(int major, const char *left, const char *right, const char *expected)
{
    tow_takes_t takes = takes_of(major, 4, 9, false);
    bson_t *a = parse(left), *b = parse(right);

    for (int turn = 0; turn < 2; turn++) {
        char *name = turn ? tow_options_difference(b, a, &takes, NULL)
                          : tow_options_difference(a, b, &takes, NULL);

        if (expected)
            assert_string_equal(name, expected);
        else
            assert_null(name);
        free(name);
    }
    bson_destroy(a);
    bson_destroy(b);
}

static void test_option_differences(void **state)
{
    expect_options(7, "{\"capped\":true,\"size\":{\"$numberLong\":\"4096\"}}",
                   "{\"size\":4096,\"capped\":1}", NULL);
    expect_options(7, "{\"capped\":true,\"size\":4096}", "{\"capped\":true}", "size");
    expect_options(7, "{\"validator\":{\"a\":1}}", "{\"validator\":{\"a\":2}}", "validator");
    expect_options(
        7, "{\"validationLevel\":\"strict\",\"validator\":{},\"validationAction\":\"error\"}", "{}",
        NULL);
    expect_options(7, "{\"viewOn\":\"a\",\"pipeline\":[]}", "{\"viewOn\":\"a\",\"pipeline\":[{}]}",
                   "pipeline");
    expect_options(7, "{\"clusteredIndex\":{\"v\":2,\"unique\":true}}",
                   "{\"clusteredIndex\":{\"unique\":true,\"v\":1}}", NULL);
    expect_options(7, "{\"clusteredIndex\":{\"name\":\"a\"}}",
                   "{\"clusteredIndex\":{\"name\":\"b\"}}", "clusteredIndex.name");
    expect_options(7, "{\"clusteredIndex\":{}}", "{}", "clusteredIndex");
    expect_options(7, "{\"expireAfterSeconds\":5}", "{}", "expireAfterSeconds");
    expect_options(7, "{\"temp\":true,\"autoIndexId\":true,\"flags\":1}", "{}", NULL);
    expect_options(7, "{\"collation\":{\"locale\":\"simple\"}}", "{}", NULL);
    /* One option under two names, which some servers do not have at all. */
    expect_options(7, "{\"recordPreImages\":true}",
                   "{\"changeStreamPreAndPostImages\":{\"enabled\":true}}", NULL);
    expect_options(4, "{\"recordPreImages\":true}",
                   "{\"changeStreamPreAndPostImages\":{\"enabled\":true}}", NULL);
    expect_options(4, "{\"recordPreImages\":true}", "{}", "recordPreImages");
    expect_options(7, "{\"recordPreImages\":true}", "{}", "changeStreamPreAndPostImages");
    expect_options(7, "{\"recordPreImages\":false}",
                   "{\"changeStreamPreAndPostImages\":{\"enabled\":false}}", NULL);
    expect_options(3, "{\"recordPreImages\":true}", "{}", NULL);
}

static void test_options(void **state)
{
    static const struct {
        int major;
        bool sharded;
        const char *listed, *sent;
    } rows[] = {
        {7, false, "{\"temp\":true,\"validator\":{\"$jsonSchema\":{}}}",
         "{\"validator\":{\"$jsonSchema\":{}}}"},
        {7, false, "{\"recordPreImages\":true}",
         "{\"changeStreamPreAndPostImages\":{\"enabled\":true}}"},
        {7, false, "{\"recordPreImages\":false}", "{}"},
        {5, false, "{\"changeStreamPreAndPostImages\":{\"enabled\":true}}",
         "{\"recordPreImages\":true}"},
        {5, true, "{\"changeStreamPreAndPostImages\":{\"enabled\":true}}", "{}"},
        {5, true, "{\"recordPreImages\":true}", "{}"},
        {7, true, "{\"recordPreImages\":true}",
         "{\"changeStreamPreAndPostImages\":{\"enabled\":true}}"},
        {7, false, "{\"clusteredIndex\":{\"v\":2},\"expireAfterSeconds\":5}",
         "{\"clusteredIndex\":{\"v\":2}}"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        tow_takes_t takes = takes_of(rows[i].major, 0, 9, rows[i].sharded);
        bson_t *listed = parse(rows[i].listed), sent;

        tow_options_spec(listed, &takes, &sent);
        expect_bson(&sent, rows[i].sent);
        bson_destroy(listed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_specifications), cmocka_unit_test(test_ttl),
        cmocka_unit_test(test_versions),       cmocka_unit_test(test_index_differences),
        cmocka_unit_test(test_modifiable),     cmocka_unit_test(test_option_differences),
        cmocka_unit_test(test_options)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
