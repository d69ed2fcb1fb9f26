/* SPDX-License-Identifier: Apache-2.0 */
/* token.c: the time in a real server's resume tokens, and no time in anything else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "oplog/token.h"

static bool read_time(const char *data, tow_optime_t *out)
{
    bson_t token = BSON_INITIALIZER;
    bool ok;

    BSON_APPEND_UTF8(&token, "_data", data);
    ok = tow_token_time(&token, out);
    bson_destroy(&token);
    return ok;
}

static void expect_time(const char *data, uint32_t seconds, uint32_t increment)
{
    tow_optime_t time = 0;

    assert_true(read_time(data, &time));
    assert_true(time == TOW_OPTIME(seconds, increment));
}

static void expect_opaque(const char *data)
{
    tow_optime_t time = 42;

    assert_false(read_time(data, &time));
    assert_true(time == 42);
}

static void test_real_tokens(void **state)
{
    /* An event, in the form of servers 4.2 and later. */
    expect_time("8263A1F2B4000000022B022C0100296E5A1004B5B1A2F3C4D5E6F708192A3B4C5D6E7F46645F696400"
                "6463A1F2B4AABBCCDDEEFF00110004",
                0x63a1f2b4, 2);
    /* A high-water mark. */
    expect_time("8263A1F2B5000000012B0429296E1404", 0x63a1f2b5, 1);
    expect_time("8263a1f2b5000000012b0429296e1404", 0x63a1f2b5, 1);
    expect_time("82FFFFFFFFFFFFFFFF29", 0xffffffff, 0xffffffff);
}

static void test_other_tokens_are_opaque(void **state)
{
    bson_t token = BSON_INITIALIZER;
    tow_optime_t time = 42;

    /* SecantusDB's: hex, but no KeyString. */
    expect_opaque(
        "3200000012730034F6040000000000117400AA0000003B9C036B026E0008000000612B622E632E6400");
    expect_opaque("");
    expect_opaque("82");
    expect_opaque("8263A1F2B500000001");                 /* nothing behind the time */
    expect_opaque("8263A1F2B5000000012");                /* half a byte */
    expect_opaque("8263A1F2G5000000012B04");             /* not hex in the time */
    expect_opaque("8263A1F2B5000000012B0Z");             /* nor behind it */
    expect_opaque("8200000000000000012B04");             /* no time at all */
    expect_opaque("820000001273002C900100000000001174"); /* another server's BSON of 0x82 bytes */
    expect_opaque("8363A1F2B5000000012B04");
    assert_false(tow_token_time(&token, &time));
    BSON_APPEND_INT32(&token, "_data", 82);
    assert_false(tow_token_time(&token, &time));
    assert_true(time == 42);
    bson_destroy(&token);
}

static void test_order_is_that_of_time(void **state)
{
    tow_optime_t earlier, later;

    assert_true(read_time("8263A1F2B5000000FF2B04", &earlier));
    assert_true(read_time("8263A1F2B6000000012B04", &later));
    assert_true(earlier < later);
}

static void test_tokens_of_one_time_are_ordered(void **state)
{
    static const char *const data[] = {"8263A1F2B5000000012B0429", "8263A1F2B5000000012B042C0100AA",
                                       "8263A1F2B5000000012B042C0100AB",
                                       "8263A1F2B5000000022B042C0100AA"};
    bson_t tokens[4], opaque = BSON_INITIALIZER;
    bool known;

    for (int i = 0; i < 4; i++) {
        bson_init(&tokens[i]);
        BSON_APPEND_UTF8(&tokens[i], "_data", data[i]);
    }
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) {
            assert_int_equal(tow_token_reached(&tokens[i], &tokens[j], &known), i <= j);
            assert_true(known);
        }
    assert_false(tow_token_reached(&tokens[0], &opaque, &known));
    assert_false(known);
    for (int i = 0; i < 4; i++)
        bson_destroy(&tokens[i]);
    bson_destroy(&opaque);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_real_tokens),
        cmocka_unit_test(test_other_tokens_are_opaque),
        cmocka_unit_test(test_order_is_that_of_time),
        cmocka_unit_test(test_tokens_of_one_time_are_ordered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
