/* SPDX-License-Identifier: Apache-2.0 */
/* key.c: order, equality and canonical form of _id values, over a corpus of every type. */
#include <float.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <xxhash.h>

#include "engine/link/reply.h"
#include "engine/state/key.h"
#include "nest.h"

typedef struct {
    bson_t *document; /* {_id: value} */
    tow_value_t value;
    tow_buffer_t canonical;
} sample_t;

typedef struct {
    sample_t *items;
    size_t count;
} corpus_t;

static bson_t *new_document(corpus_t *corpus)
{
    corpus->items = tow_realloc(corpus->items, (corpus->count + 1) * sizeof *corpus->items);
    corpus->items[corpus->count] = (sample_t){.document = bson_new()};
    return corpus->items[corpus->count++].document;
}

static void finish_corpus(corpus_t *corpus)
{
    for (size_t i = 0; i < corpus->count; i++) {
        sample_t *sample = &corpus->items[i];

        assert_true(tow_value_id(sample->document, &sample->value));
        tow_value_canonical(sample->value, &sample->canonical);
    }
}

static void free_corpus(corpus_t *corpus)
{
    for (size_t i = 0; i < corpus->count; i++) {
        bson_destroy(corpus->items[i].document);
        tow_buffer_free(&corpus->items[i].canonical);
    }
    free(corpus->items);
}

static void add_decimal(corpus_t *corpus, const char *text)
{
    bson_decimal128_t decimal;

    assert_true(bson_decimal128_from_string(text, &decimal));
    BSON_APPEND_DECIMAL128(new_document(corpus), "_id", &decimal);
}

static void add_double(corpus_t *corpus, double value)
{
    BSON_APPEND_DOUBLE(new_document(corpus), "_id", value);
}

/* An integer in every type that holds it. */
static void add_integer(corpus_t *corpus, int64_t value)
{
    char text[32];

    if (value >= INT32_MIN && value <= INT32_MAX)
        BSON_APPEND_INT32(new_document(corpus), "_id", (int32_t)value);
    BSON_APPEND_INT64(new_document(corpus), "_id", value);
    add_double(corpus, (double)value);
    snprintf(text, sizeof text, "%lld", (long long)value);
    add_decimal(corpus, text);
    snprintf(text, sizeof text, "%lld.00", (long long)value);
    add_decimal(corpus, text);
}

static void add_json(corpus_t *corpus, const char *json)
{
    bson_error_t error;
    bson_t *parsed = bson_new_from_json((const uint8_t *)json, -1, &error);

    if (!parsed)
        fail_msg("%s: %s", json, error.message);
    bson_concat(new_document(corpus), parsed);
    bson_destroy(parsed);
}

static void add_numbers(corpus_t *corpus)
{
    static const int64_t integers[] = {0,
                                       1,
                                       2,
                                       10,
                                       255,
                                       1000000,
                                       INT32_MAX,
                                       INT32_MAX + 1ll,
                                       (1ll << 53) - 1,
                                       1ll << 53,
                                       (1ll << 53) + 1,
                                       1ll << 62,
                                       INT64_MAX - 1,
                                       INT64_MAX};
    static const double doubles[] = {0.1,          0.5,     1.5,     2.5,     1e15,      1e16,
                                     1e17,         1e18,    1e19,    1e22,    1e23,      0x1p63,
                                     0x1p64,       0x1p113, 0x1p200, 1e300,   DBL_MAX,   DBL_MIN,
                                     DBL_TRUE_MIN, 1e-300,  0x1p-48, 0x1p-49, 0x1p-1074, INFINITY};
    static const char *const decimals[] = {"0E+3",
                                           "0.000",
                                           "0E-6176",
                                           "0E+6111",
                                           "1E0",
                                           "10E-1",
                                           "1.00",
                                           "100E-2",
                                           "0.1",
                                           "0.10",
                                           "0.1000000000000000055511151231257827",
                                           "0.1000000000000000055511151231257828",
                                           "0.5",
                                           "0.50000",
                                           "1.5",
                                           "2.5",
                                           "15E-1",
                                           "1E+15",
                                           "1E+16",
                                           "1E+18",
                                           "1E+19",
                                           "1E+22",
                                           "1E+23",
                                           "9223372036854775807",
                                           "9223372036854775808",
                                           "9223372036854775807.5",
                                           "9007199254740993",
                                           "9007199254740992.5",
                                           "9007199254740991.999999999999999999",
                                           "18446744073709551616",
                                           "5192296858534827628530496329220096",
                                           "1E+308",
                                           "1E+309",
                                           "1.797693134862315708145274237317043E+308",
                                           "1.797693134862315708145274237317044E+308",
                                           "9.999999999999999999999999999999999E+6144",
                                           "1E+6111",
                                           "1E-6176",
                                           "1E-324",
                                           "5E-324",
                                           "4.940656458412465441765687928682213E-324",
                                           "4.940656458412465441765687928682214E-324",
                                           "1E-323",
                                           "3.552713678800501E-15",
                                           "3.552713678800500929355621337890625E-15",
                                           "1234567890123456789012345678901234",
                                           "1.234567890123456789012345678901234",
                                           "Infinity"};

    for (size_t i = 0; i < sizeof integers / sizeof *integers; i++) {
        add_integer(corpus, integers[i]);
        add_integer(corpus, -integers[i]);
    }
    add_integer(corpus, INT64_MIN);
    add_double(corpus, -0.0);
    add_decimal(corpus, "-0");
    add_double(corpus, NAN);
    add_double(corpus, -NAN);
    add_decimal(corpus, "NaN");
    for (size_t i = 0; i < sizeof doubles / sizeof *doubles; i++) {
        add_double(corpus, doubles[i]);
        add_double(corpus, -doubles[i]);
        add_double(corpus, nextafter(doubles[i], 0));
    }
    for (size_t i = 0; i < sizeof decimals / sizeof *decimals; i++) {
        char negative[64];

        add_decimal(corpus, decimals[i]);
        snprintf(negative, sizeof negative, "-%s", decimals[i]);
        add_decimal(corpus, negative);
    }
}

static void add_random_numbers(corpus_t *corpus)
{
    unsigned seed = (unsigned)time(NULL);

    print_message("seed %u\n", seed);
    for (int i = 0; i < 150; i++) {
        char text[64];
        int exponent = rand_r(&seed) % 40 - 25;
        int64_t coefficient = ((int64_t)rand_r(&seed) << 31 | rand_r(&seed)) >> rand_r(&seed) % 60;

        snprintf(text, sizeof text, "%lldE%d", (long long)coefficient, exponent);
        add_decimal(corpus, text);
        /* Near the decimal, seldom equal to it; powers of two are exact in both. */
        add_double(corpus, strtod(text, NULL));
        add_double(corpus, ldexp((double)(coefficient & 0xfffff), exponent));
        snprintf(text, sizeof text, "%.17g", ldexp((double)(coefficient & 0xff), exponent / 4));
        add_decimal(corpus, text);
    }
}

static void add_others(corpus_t *corpus)
{
    static const char *const texts[] = {
        "{\"_id\":{\"$minKey\":1}}",
        "{\"_id\":{\"$maxKey\":1}}",
        "{\"_id\":null}",
        "{\"_id\":{\"$undefined\":true}}",
        "{\"_id\":true}",
        "{\"_id\":false}",
        "{\"_id\":\"\"}",
        "{\"_id\":\"a\"}",
        "{\"_id\":\"ab\"}",
        "{\"_id\":\"b\"}",
        "{\"_id\":\"A\"}",
        "{\"_id\":\"a\\u0000b\"}",
        "{\"_id\":\"\\u00e4\"}",
        "{\"_id\":{\"$symbol\":\"a\"}}",
        "{\"_id\":{\"$code\":\"a\"}}",
        "{\"_id\":{\"$code\":\"b\"}}",
        "{\"_id\":{\"$code\":\"a\",\"$scope\":{}}}",
        "{\"_id\":{\"$code\":\"a\",\"$scope\":{\"x\":1}}}",
        "{\"_id\":{\"$code\":\"a\",\"$scope\":{\"x\":{\"$numberDouble\":\"1.0\"}}}}",
        "{\"_id\":{\"$oid\":\"000000000000000000000000\"}}",
        "{\"_id\":{\"$oid\":\"ffffffffffffffffffffffff\"}}",
        "{\"_id\":{\"$oid\":\"5f5f5f5f5f5f5f5f5f5f5f5f\"}}",
        "{\"_id\":{\"$binary\":{\"base64\":\"\",\"subType\":\"00\"}}}",
        "{\"_id\":{\"$binary\":{\"base64\":\"AQ==\",\"subType\":\"00\"}}}",
        "{\"_id\":{\"$binary\":{\"base64\":\"AQ==\",\"subType\":\"05\"}}}",
        "{\"_id\":{\"$binary\":{\"base64\":\"AQ==\",\"subType\":\"02\"}}}",
        "{\"_id\":{\"$binary\":{\"base64\":\"/w==\",\"subType\":\"00\"}}}",
        "{\"_id\":{\"$binary\":{\"base64\":\"AAA=\",\"subType\":\"00\"}}}",
        "{\"_id\":{\"$date\":{\"$numberLong\":\"-5\"}}}",
        "{\"_id\":{\"$date\":{\"$numberLong\":\"0\"}}}",
        "{\"_id\":{\"$date\":{\"$numberLong\":\"1700000000000\"}}}",
        "{\"_id\":{\"$timestamp\":{\"t\":0,\"i\":1}}}",
        "{\"_id\":{\"$timestamp\":{\"t\":1,\"i\":0}}}",
        "{\"_id\":{\"$timestamp\":{\"t\":4294967295,\"i\":7}}}",
        "{\"_id\":{\"$regularExpression\":{\"pattern\":\"a\",\"options\":\"\"}}}",
        "{\"_id\":{\"$regularExpression\":{\"pattern\":\"a\",\"options\":\"i\"}}}",
        "{\"_id\":{\"$regularExpression\":{\"pattern\":\"ai\",\"options\":\"\"}}}",
        "{\"_id\":{\"$dbPointer\":{\"$ref\":\"d.c\",\"$id\":{\"$oid\":\"5f5f5f5f5f5f5f5f5f5f5f5f\"}"
        "}}}",
        "{\"_id\":{}}",
        "{\"_id\":{\"a\":1}}",
        "{\"_id\":{\"a\":{\"$numberDouble\":\"1.0\"}}}",
        "{\"_id\":{\"a\":{\"$numberDecimal\":\"1.00\"}}}",
        "{\"_id\":{\"b\":1}}",
        "{\"_id\":{\"a\":1,\"b\":2}}",
        "{\"_id\":{\"b\":2,\"a\":1}}",
        "{\"_id\":{\"a\":\"x\"}}",
        "{\"_id\":{\"ab\":1}}",
        "{\"_id\":{\"a\":{\"b\":1}}}",
        "{\"_id\":{\"a\":null}}",
        "{\"_id\":{\"a\":{\"$undefined\":true}}}",
        "{\"_id\":[]}",
        "{\"_id\":[1]}",
        "{\"_id\":[{\"$numberLong\":\"1\"}]}",
        "{\"_id\":[1,2]}",
        "{\"_id\":[[1]]}",
        "{\"_id\":[{}]}",
        "{\"_id\":[[],[]]}",
        "{\"_id\":{\"a\":[]}}",
        "{\"_id\":{\"a\":[1,2]}}",
        "{\"_id\":[{\"a\":{\"$numberDouble\":\"-0.0\"}}]}",
        "{\"_id\":[{\"a\":0}]}"};

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        add_json(corpus, texts[i]);
}

static int sign(int value)
{
    return (value > 0) - (value < 0);
}

static int by_order(const void *a, const void *b)
{
    return tow_value_compare(((const sample_t *)a)->value, ((const sample_t *)b)->value);
}

static bool same_canonical(const sample_t *a, const sample_t *b)
{
    return a->canonical.length == b->canonical.length &&
           memcmp(a->canonical.data, b->canonical.data, a->canonical.length) == 0;
}

/* Every pair of the sorted corpus: with the order kept by all of them it is transitive as well. */
static void test_order_is_total(void **state)
{
    corpus_t corpus = {0};
    size_t equal_pairs = 0;

    add_numbers(&corpus);
    add_random_numbers(&corpus);
    add_others(&corpus);
    finish_corpus(&corpus);
    qsort(corpus.items, corpus.count, sizeof *corpus.items, by_order);
    for (size_t i = 0; i < corpus.count; i++) {
        for (size_t j = i; j < corpus.count; j++) {
            const sample_t *a = &corpus.items[i], *b = &corpus.items[j];
            int order = tow_value_compare(a->value, b->value);

            assert_true(order <= 0);
            assert_int_equal(sign(order), -sign(tow_value_compare(b->value, a->value)));
            assert_int_equal(order == 0, same_canonical(a, b));
            assert_int_equal(order == 0, tow_value_hash(a->value) == tow_value_hash(b->value));
            equal_pairs += order == 0 && i != j;
        }
    }
    assert_true(equal_pairs > 200); /* the corpus does hold numbers in several types */
    free_corpus(&corpus);
}

static void test_hash_is_that_of_the_canonical_form(void **state)
{
    corpus_t corpus = {0};
    char text[4000];

    add_numbers(&corpus);
    add_others(&corpus);
    for (size_t length = 1; length < sizeof text; length *= 2) { /* on and off the stack */
        memset(text, 'x', length);
        bson_append_utf8(new_document(&corpus), "_id", -1, text, (int)length);
        bson_append_binary(new_document(&corpus), "_id", -1, BSON_SUBTYPE_USER,
                           (const uint8_t *)text, (uint32_t)length);
    }
    finish_corpus(&corpus);
    for (size_t i = 0; i < corpus.count; i++) {
        const tow_buffer_t *canonical = &corpus.items[i].canonical;

        assert_true(tow_value_hash(corpus.items[i].value) ==
                    XXH3_64bits(canonical->data, canonical->length));
    }
    free_corpus(&corpus);
}

/* The order of a server; every value is strictly before the next one. */
static void test_known_order(void **state)
{
    static const char *const ascending[] = {
        "{\"$minKey\":1}", "{\"$undefined\":true}", "null", "{\"$numberDouble\":\"NaN\"}",
        "{\"$numberDecimal\":\"-Infinity\"}", "{\"$numberDecimal\":\"-1E+400\"}",
        "{\"$numberDouble\":\"-1.7976931348623157e308\"}",
        "{\"$numberLong\":\"-9223372036854775808\"}", "-1", "{\"$numberDecimal\":\"-1E-6176\"}",
        "{\"$numberDouble\":\"-0.0\"}", "{\"$numberDecimal\":\"1E-6176\"}",
        "{\"$numberDouble\":\"5e-324\"}", "{\"$numberDecimal\":\"0.1\"}",
        /* The double 0.1 is 0.1000000000000000055511151231257827…021 */
        "{\"$numberDecimal\":\"0.1000000000000000055511151231257827\"}",
        "{\"$numberDouble\":\"0.1\"}",
        "{\"$numberDecimal\":\"0.1000000000000000055511151231257828\"}", "1",
        "{\"$numberDecimal\":\"1.000000000000000000000000000000001\"}",
        "{\"$numberLong\":\"9007199254740992\"}", "{\"$numberDecimal\":\"9007199254740992.5\"}",
        "{\"$numberLong\":\"9007199254740993\"}", "{\"$numberDouble\":\"9007199254740994\"}",
        "{\"$numberLong\":\"9223372036854775807\"}",
        "{\"$numberDecimal\":\"9223372036854775807.5\"}",
        "{\"$numberDouble\":\"9223372036854775808\"}",
        /* The double 1e23 is 99999999999999991611392. */
        "{\"$numberDecimal\":\"99999999999999991611391.9\"}", "{\"$numberDouble\":\"1e23\"}",
        "{\"$numberDecimal\":\"99999999999999991611392.1\"}", "{\"$numberDecimal\":\"1E+23\"}",
        "{\"$numberDouble\":\"1.7976931348623157e308\"}", "{\"$numberDecimal\":\"1E+309\"}",
        "{\"$numberDouble\":\"Infinity\"}", "\"\"", "\"A\"", "\"a\"", "{\"$symbol\":\"b\"}", "{}",
        "{\"a\":1}", "{\"a\":2}", "{\"a\":2,\"b\":0}", "{\"b\":0}", "{\"a\":\"x\"}", "[]", "[1]",
        "[1,1]", "[\"a\"]", "{\"$binary\":{\"base64\":\"\",\"subType\":\"05\"}}",
        "{\"$binary\":{\"base64\":\"/w==\",\"subType\":\"00\"}}",
        "{\"$binary\":{\"base64\":\"AA==\",\"subType\":\"05\"}}",
        "{\"$binary\":{\"base64\":\"AAA=\",\"subType\":\"00\"}}",
        "{\"$oid\":\"000000000000000000000001\"}", "false", "true",
        "{\"$date\":{\"$numberLong\":\"-1\"}}", "{\"$date\":{\"$numberLong\":\"1\"}}",
        "{\"$timestamp\":{\"t\":1,\"i\":2}}", "{\"$timestamp\":{\"t\":2,\"i\":1}}",
        "{\"$regularExpression\":{\"pattern\":\"a\",\"options\":\"i\"}}",
        "{\"$regularExpression\":{\"pattern\":\"b\",\"options\":\"\"}}",
        "{\"$dbPointer\":{\"$ref\":\"d.c\",\"$id\":{\"$oid\":\"5f5f5f5f5f5f5f5f5f5f5f5f\"}}}",
        "{\"$code\":\"z\"}", "{\"$code\":\"a\",\"$scope\":{}}", "{\"$maxKey\":1}"};
    corpus_t corpus = {0};

    for (size_t i = 0; i < sizeof ascending / sizeof *ascending; i++) {
        char json[256];

        snprintf(json, sizeof json, "{\"_id\":%s}", ascending[i]);
        add_json(&corpus, json);
    }
    finish_corpus(&corpus);
    for (size_t i = 1; i < corpus.count; i++)
        if (tow_value_compare(corpus.items[i - 1].value, corpus.items[i].value) >= 0)
            fail_msg("%s is not before %s", ascending[i - 1], ascending[i]);
    free_corpus(&corpus);
}

static void test_equal_numbers(void **state)
{
    corpus_t corpus = {0};

    add_integer(&corpus, 1);
    add_decimal(&corpus, "10E-1");
    add_decimal(&corpus, "1.000000000000000000000000000000000");
    finish_corpus(&corpus);
    for (size_t i = 1; i < corpus.count; i++)
        assert_int_equal(tow_value_compare(corpus.items[0].value, corpus.items[i].value), 0);
    free_corpus(&corpus);
}

/* Coefficients of more than 34 digits are not canonical and stand for zero, in both layouts. */
static void test_decimals_out_of_range_are_zero(void **state)
{
    static const bson_decimal128_t odd[] = {
        {.low = UINT64_MAX, .high = 0x3040000000000000ull | 0x1ffffffffffffull},
        {.low = 1, .high = 0x6c10000000000000ull}};
    bson_t zero = BSON_INITIALIZER;
    tow_value_t a, b;

    BSON_APPEND_INT32(&zero, "_id", 0);
    assert_true(tow_value_id(&zero, &a));
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        bson_t document = BSON_INITIALIZER;

        BSON_APPEND_DECIMAL128(&document, "_id", &odd[i]);
        assert_true(tow_value_id(&document, &b));
        assert_int_equal(tow_value_compare(a, b), 0);
        assert_true(tow_value_hash(a) == tow_value_hash(b));
        bson_destroy(&document);
    }
    bson_destroy(&zero);
}

static void test_value_goes_through_unchanged(void **state)
{
    corpus_t corpus = {0};

    add_numbers(&corpus);
    add_others(&corpus);
    finish_corpus(&corpus);
    for (size_t i = 0; i < corpus.count; i++) {
        bson_t again = BSON_INITIALIZER;
        bson_value_t copy;

        tow_value_append(&again, "_id_and_more", 3, corpus.items[i].value);
        assert_true(bson_equal(&again, corpus.items[i].document));
        bson_reinit(&again);
        tow_value_to_bson(corpus.items[i].value, &copy);
        bson_append_value(&again, "_id", -1, &copy);
        assert_true(bson_equal(&again, corpus.items[i].document));
        assert_int_equal(tow_bson_value_compare(&copy, &copy), 0);
        bson_value_destroy(&copy);
        bson_destroy(&again);
    }
    free_corpus(&corpus);
}

static void test_id_is_found_anywhere(void **state)
{
    bson_t document = BSON_INITIALIZER;
    tow_value_t value;

    BSON_APPEND_INT32(&document, "_idx", 1);
    BSON_APPEND_INT32(&document, "_i", 1);
    assert_false(tow_value_id(&document, &value));
    BSON_APPEND_UTF8(&document, "_id", "here");
    assert_true(tow_value_id(&document, &value));
    assert_int_equal(value.type, BSON_TYPE_UTF8);
    assert_int_equal(value.length, 9);
    bson_destroy(&document);
}

static void expect_text(const char *json, size_t size, const char *expected)
{
    char text[64];
    corpus_t corpus = {0};

    add_json(&corpus, json);
    finish_corpus(&corpus);
    tow_value_text(corpus.items[0].value, text, size);
    assert_string_equal(text, expected);
    free_corpus(&corpus);
}

static void test_text(void **state)
{
    expect_text("{\"_id\":5}", 64, "5");
    expect_text("{\"_id\":\"x\\\"y\"}", 64, "\"x\\\"y\"");
    expect_text("{\"_id\":{\"$oid\":\"5f5f5f5f5f5f5f5f5f5f5f5f\"}}", 64,
                "{ \"$oid\" : \"5f5f5f5f5f5f5f5f5f5f5f5f\" }");
    expect_text("{\"_id\":{\"a\":1}}", 64, "{ \"a\" : 1 }");
    expect_text("{\"_id\":\"abcdefgh\"}", 8, "\"abc...");
    expect_text("{\"_id\":\"ab\\u00e4\\u00e4\\u00e4\"}", 8, "\"ab...");
}

/* Two values that differ at the innermost level only: different, in one order, each like itself. */
static void expect_deep(uint32_t levels, bson_type_t type)
{
    bson_t *one = nest_new(levels, type, 1), *two = nest_new(levels, type, 2);
    tow_buffer_t left = {0}, right = {0};
    tow_value_t a, b;

    assert_true(tow_value_id(one, &a) && tow_value_id(two, &b));
    assert_true(tow_value_compare(a, b) < 0 && tow_value_compare(b, a) > 0);
    assert_int_equal(tow_value_compare(a, a), 0);
    assert_true(tow_value_hash(a) != tow_value_hash(b));
    tow_value_canonical(a, &left);
    tow_value_canonical(b, &right);
    assert_int_equal(left.length, right.length);
    assert_memory_not_equal(left.data, right.data, left.length);
    tow_buffer_free(&left);
    tow_buffer_free(&right);
    bson_destroy(one);
    bson_destroy(two);
}

/* The threads of a job have 1 MB of stack. */
static void *compare_deep(void *unused)
{
    for (uint32_t levels = TOW_NESTING_MOST - 2; levels < TOW_NESTING_MOST + 3; levels++)
        expect_deep(levels, BSON_TYPE_DOCUMENT);
    expect_deep(NEST_LEVELS, BSON_TYPE_DOCUMENT);
    expect_deep(NEST_LEVELS, BSON_TYPE_ARRAY);
    return unused;
}

static void test_nesting_has_an_end(void **state)
{
    pthread_attr_t attributes;
    pthread_t thread;

    assert_int_equal(pthread_attr_init(&attributes), 0);
    assert_int_equal(pthread_attr_setstacksize(&attributes, 1024 * 1024), 0);
    assert_int_equal(pthread_create(&thread, &attributes, compare_deep, NULL), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    pthread_attr_destroy(&attributes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_is_total),
        cmocka_unit_test(test_hash_is_that_of_the_canonical_form),
        cmocka_unit_test(test_known_order),
        cmocka_unit_test(test_equal_numbers),
        cmocka_unit_test(test_decimals_out_of_range_are_zero),
        cmocka_unit_test(test_value_goes_through_unchanged),
        cmocka_unit_test(test_id_is_found_anywhere),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_nesting_has_an_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
