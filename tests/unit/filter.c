/* SPDX-License-Identifier: Apache-2.0 */
/* filter.c: which namespaces a filter takes, and that the server is told the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/state/filter.h"

/* A pattern that starts with '-' is excluded; the list ends with NULL. */
static tow_filter_t *make(const char *const *patterns)
{
    tow_filter_t *filter = tow_filter_new();
    tow_error_t error;

    for (; *patterns; patterns++)
        assert_true(**patterns == '-' ? tow_filter_exclude(filter, *patterns + 1, &error)
                                      : tow_filter_include(filter, *patterns, &error));
    return filter;
}

#define MAKE(...) make((const char *const[]){__VA_ARGS__, NULL})

static void test_internal_namespaces_are_never_taken(void **state)
{
    tow_filter_t *filter = tow_filter_new();

    tow_filter_set_own(filter, "towline_job");
    assert_false(tow_filter_takes(filter, "admin", "system.users"));
    assert_false(tow_filter_takes(filter, "local", "oplog.rs"));
    assert_false(tow_filter_takes(filter, "config", "x"));
    assert_false(tow_filter_takes(filter, "towline_job", "ranges"));
    assert_false(tow_filter_takes(filter, "shop", "system.profile"));
    assert_false(tow_filter_takes(filter, "shop", "system.views"));
    assert_false(tow_filter_takes(filter, "shop", "system.buckets.weather"));
    assert_true(tow_filter_takes(filter, "shop", "system.js"));
    assert_true(tow_filter_takes(filter, "shop", "system.profiles"));
    assert_true(tow_filter_takes(filter, "shop", "orders"));
    assert_true(tow_filter_takes(filter, "administration", "x"));
    assert_true(tow_filter_takes(filter, "towline", "x"));
    /* Data of somebody who likes the name. */
    assert_true(tow_filter_takes(filter, "towline_orders", "x"));
    assert_true(tow_filter_takes_database(filter, "towline_jobs"));
    assert_false(tow_filter_takes_database(filter, "admin"));
    assert_false(tow_filter_takes_database(filter, "towline_job"));
    assert_true(tow_filter_takes_database(filter, "shop"));
    tow_filter_destroy(filter);
}

static void test_include_and_exclude(void **state)
{
    tow_filter_t *filter = MAKE("shop", "stock.items.old", "-shop.secret", "-none", "none.x");

    assert_true(tow_filter_takes(filter, "shop", "orders"));
    assert_false(tow_filter_takes(filter, "shop", "secret"));
    assert_true(tow_filter_takes(filter, "stock", "items.old"));
    assert_false(tow_filter_takes(filter, "stock", "items"));
    assert_false(tow_filter_takes(filter, "other", "orders"));
    assert_false(tow_filter_takes(filter, "none", "x"));
    assert_true(tow_filter_takes_database(filter, "shop"));
    assert_true(tow_filter_takes_database(filter, "stock"));
    assert_false(tow_filter_takes_database(filter, "other"));
    assert_false(tow_filter_takes_database(filter, "none"));
    tow_filter_destroy(filter);

    filter = MAKE("-shop.a", "-all.*");
    assert_true(tow_filter_takes(filter, "shop", "b"));
    assert_false(tow_filter_takes(filter, "shop", "a"));
    assert_true(tow_filter_takes_database(filter, "shop"));
    assert_false(tow_filter_takes(filter, "all", "x"));
    assert_false(tow_filter_takes_database(filter, "all"));
    tow_filter_destroy(filter);

    /* The only collection included is excluded again: nothing of the database is left. */
    filter = MAKE("shop.a", "-shop.a");
    assert_false(tow_filter_takes_database(filter, "shop"));
    tow_filter_destroy(filter);
}

static void test_malformed_patterns(void **state)
{
    static const char *const bad[] = {"",         ".",           ".a",           "a.",
                                      "$a",       "a.b$c",       "admin",        "local.x",
                                      "config.*", "towline_job", "towline_job.x"};
    tow_filter_t *filter = tow_filter_new();

    tow_filter_set_own(filter, "towline_job");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        tow_error_t error = {0};
        char *pattern = strdup(bad[i]); /* reading behind its end shows on the heap */

        assert_false(tow_filter_include(filter, pattern, &error));
        assert_int_equal(error.code, TOW_ERROR_OPTION);
        assert_non_null(strchr(error.message, '\'')); /* it names what was wrong */
        assert_false(tow_filter_exclude(filter, pattern, &error));
        free(pattern);
    }
    /* What was refused left nothing behind. */
    assert_true(tow_filter_takes(filter, "a", "b"));
    tow_filter_destroy(filter);
}

static void test_regular_expressions(void **state)
{
    static const char *const bad[] = {"/(/", "/a/q", "/a/./(/", "/admin/.x$y"};
    tow_filter_t *filter =
        MAKE("/^shop_/.orders", "crm./^(a|b)$/", "/^Log/i", "-/_test$/", "-crm./^b/");
    tow_error_t error;

    assert_true(tow_filter_takes(filter, "shop_eu", "orders"));
    assert_false(tow_filter_takes(filter, "shop_eu", "people"));
    assert_false(tow_filter_takes(filter, "shop_test", "orders"));
    assert_true(tow_filter_takes(filter, "logs", "any.thing"));
    assert_true(tow_filter_takes(filter, "crm", "a"));
    assert_false(tow_filter_takes(filter, "crm", "b"));
    assert_false(tow_filter_takes(filter, "crm", "aa"));
    assert_false(tow_filter_takes(filter, "admin", "log"));
    assert_true(tow_filter_takes_database(filter, "shop_eu"));
    assert_true(tow_filter_takes_database(filter, "crm"));
    assert_false(tow_filter_takes_database(filter, "shop_test"));
    assert_false(tow_filter_takes_database(filter, "other"));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(tow_filter_include(filter, bad[i], &error));
    tow_filter_destroy(filter);
    /* A collection's name may begin with a slash. */
    filter = MAKE("db./a");
    assert_true(tow_filter_takes(filter, "db", "/a"));
    tow_filter_destroy(filter);
}

static void test_text_is_stable(void **state)
{
    tow_filter_t *a = MAKE("b.y", "a.*", "b.x", "-z"), *b = MAKE("-z.*", "b.x", "b.y", "a", "a");
    tow_filter_t *c = MAKE("a", "b.x", "b.y");
    char *a_text = tow_filter_text(a), *b_text = tow_filter_text(b), *c_text = tow_filter_text(c);

    assert_string_equal(a_text, b_text);
    assert_string_equal(a_text,
                        "{ \"include\" : [ \"a\", \"b.x\", \"b.y\" ], \"exclude\" : [ \"z\" ] }");
    assert_string_not_equal(a_text, c_text);
    free(a_text);
    free(b_text);
    free(c_text);
    tow_filter_destroy(a);
    tow_filter_destroy(b);
    tow_filter_destroy(c);
}

/* Both internal names left out, on one side of an event. */
#define TAKES(side)                                                                                \
    "\"" side ".db\":{\"$nin\":[\"admin\",\"local\",\"config\"]},"                                 \
    "\"" side ".coll\":{\"$nin\":[\"system.profile\",\"system.views\"],"                           \
    "\"$not\":{\"$gte\":\"system.buckets.\",\"$lt\":\"system.buckets/\"}}"

static void expect_match(tow_filter_t *filter, const char *json)
{
    bson_t pipeline = BSON_INITIALIZER;
    bson_error_t error;
    bson_t *expected = bson_new_from_json((const uint8_t *)json, -1, &error);
    char *found;

    if (!expected)
        fail_msg("%s", error.message);
    tow_filter_match(filter, &pipeline, "0");
    if (!bson_equal(&pipeline, expected)) {
        found = bson_as_canonical_extended_json(&pipeline, NULL);
        fail_msg("%s", found);
    }
    bson_destroy(expected);
    bson_destroy(&pipeline);
    tow_filter_destroy(filter);
}

static void test_match_stage(void **state)
{
    expect_match(tow_filter_new(),
                 "{\"0\":{\"$match\":{\"$or\":[{" TAKES(
                     "ns") "},{\"operationType\":\"rename\"," TAKES("to") "}]}}}");
    /* Names stand as they are: a dot or a plus means itself. */
    expect_match(MAKE("a+b.c.d", "-x"),
                 "{\"0\":{\"$match\":{\"$or\":[{" TAKES(
                     "ns") ",\"$or\":[{\"ns.db\":\"a+b\",\"ns.coll\":\"c.d\"}],\"$nor\":[{\"ns."
                           "db\":\"x\"}]},"
                           "{\"operationType\":\"rename\"," TAKES(
                               "to") ",\"$or\":[{\"to.db\":\"a+b\",\"to.coll\":\"c.d\"}],\"$nor\":["
                                     "{\"to.db\":\"x\"}]},"
                                     "{\"operationType\":\"dropDatabase\",\"ns.db\":{\"$in\":[\"a+"
                                     "b\"]}}]}}}");
}

/* An expression is left to tow_filter_takes: the server may deliver too much, never too little. */
static void test_match_stage_of_expressions(void **state)
{
    expect_match(MAKE("/^a/.b", "-/x/"),
                 "{\"0\":{\"$match\":{\"$or\":[{" TAKES(
                     "ns") "},{\"operationType\":\"rename\"," TAKES("to") "}]}}}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_internal_namespaces_are_never_taken),
        cmocka_unit_test(test_include_and_exclude),
        cmocka_unit_test(test_malformed_patterns),
        cmocka_unit_test(test_regular_expressions),
        cmocka_unit_test(test_text_is_stable),
        cmocka_unit_test(test_match_stage),
        cmocka_unit_test(test_match_stage_of_expressions),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
