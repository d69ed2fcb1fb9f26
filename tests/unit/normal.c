/* SPDX-License-Identifier: Apache-2.0 */
/* normal.c: what each mode of the verification takes for equal, by hash and by path. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/link/reply.h"
#include "nest.h"
#include "verify/internal.h"

static bson_t *parse(const char *json)
{
    bson_error_t error;
    bson_t *document = bson_new_from_json((const uint8_t *)json, -1, &error);

    if (!document)
        fail_msg("%s: %s", json, error.message);
    return document;
}

/* `expected` is the path of the first difference; NULL: the mode takes both for equal. */
static void expect(tow_verify_mode_t mode, const char *a_json, const char *b_json,
                   const char *expected)
{
    bson_t *a = parse(a_json), *b = parse(b_json);
    tow_buffer_t scratch = {0};
    bool equal = tow_verify_hash(mode, 5, a, &scratch) == tow_verify_hash(mode, 5, b, &scratch);
    char *path = tow_verify_path(mode, a, b);

    if (equal != (expected == NULL))
        fail_msg("mode %d: %s and %s are %s", mode, a_json, b_json, equal ? "equal" : "different");
    if (expected)
        assert_string_equal(path, expected);
    else
        assert_null(path);
    tow_buffer_free(&scratch);
    free(path);
    bson_destroy(a);
    bson_destroy(b);
}

static void test_bytes(void **state)
{
    expect(TOW_VERIFY_BYTES, "{\"a\":1,\"b\":{\"c\":1}}", "{\"a\":1,\"b\":{\"c\":1}}", NULL);
    expect(TOW_VERIFY_BYTES, "{\"a\":1,\"b\":2}", "{\"b\":2,\"a\":1}", "a");
    expect(TOW_VERIFY_BYTES, "{\"a\":{\"b\":1}}", "{\"a\":{\"b\":{\"$numberLong\":\"1\"}}}", "a.b");
}

static void test_field_order(void **state)
{
    expect(TOW_VERIFY_FIELD_ORDER, "{\"a\":1,\"b\":{\"c\":1,\"d\":[{\"x\":1,\"y\":2}]}}",
           "{\"b\":{\"d\":[{\"y\":2,\"x\":1}],\"c\":1},\"a\":1}", NULL);
    expect(TOW_VERIFY_FIELD_ORDER, "{\"a\":[1,2]}", "{\"a\":[2,1]}", "a.0");
    expect(TOW_VERIFY_FIELD_ORDER, "{\"a\":1,\"z\":{\"q\":1,\"p\":2}}",
           "{\"z\":{\"p\":2,\"q\":3},\"a\":1}", "z.q");
    expect(TOW_VERIFY_FIELD_ORDER, "{\"a\":1}", "{\"a\":1.0}", "a");
    expect(TOW_VERIFY_FIELD_ORDER, "{\"a\":{\"b\":1}}", "{\"a\":{},\"b\":1}", "a.b");
    /* Eleven items: their names do not sort as their places do. */
    expect(TOW_VERIFY_FIELD_ORDER, "{\"a\":[0,1,2,3,4,5,6,7,8,9,10]}",
           "{\"a\":[0,1,10,2,3,4,5,6,7,8,9]}", "a.2");
}

static void test_numeric_type(void **state)
{
    expect(TOW_VERIFY_NUMERIC_TYPE, "{\"a\":1,\"b\":[1,{\"c\":2}]}",
           "{\"a\":1.0,\"b\":[{\"$numberLong\":\"1\"},{\"c\":{\"$numberDecimal\":\"2.00\"}}]}",
           NULL);
    expect(TOW_VERIFY_NUMERIC_TYPE, "{\"a\":{\"b\":1},\"c\":3}", "{\"a\":{\"b\":1.0},\"c\":4}",
           "c");
    expect(TOW_VERIFY_NUMERIC_TYPE, "{\"a\":1}", "{\"a\":1.5}", "a");
    expect(TOW_VERIFY_NUMERIC_TYPE, "{\"a\":1}", "{\"a\":\"1\"}", "a");
    expect(TOW_VERIFY_NUMERIC_TYPE, "{\"a\":1}", "{\"a\":true}", "a");
    expect(TOW_VERIFY_NUMERIC_TYPE, "{\"a\":1,\"b\":2}", "{\"b\":2,\"a\":1}", "a");
    expect(TOW_VERIFY_NUMERIC_TYPE, "{\"a\":null}", "{\"a\":{\"$undefined\":true}}", "a");
    /* 2^53 + 1 is no double: it must not be taken for its neighbour. */
    expect(TOW_VERIFY_NUMERIC_TYPE, "{\"a\":{\"$numberLong\":\"9007199254740993\"}}",
           "{\"a\":9007199254740992.0}", "a");
}

static void test_nested_is_not_flat(void **state)
{
    for (int mode = TOW_VERIFY_BYTES; mode <= TOW_VERIFY_NUMERIC_TYPE; mode++) {
        expect((tow_verify_mode_t)mode, "{\"a\":{\"b\":1}}", "{\"a.b\":1}", "a");
        expect((tow_verify_mode_t)mode, "{\"a\":{\"b\":1},\"c\":2}", "{\"a\":{\"b\":1,\"c\":2}}",
               "a.c");
        expect((tow_verify_mode_t)mode, "{\"a\":[1]}", "{\"a\":{\"0\":1}}", "a");
        expect((tow_verify_mode_t)mode, "{\"a\":[]}", "{\"a\":[[]]}", "a.0");
    }
}

/* Two fields of one name: which comes first counts, in every mode. */
static void test_duplicate_names(void **state)
{
    for (int mode = TOW_VERIFY_BYTES; mode <= TOW_VERIFY_NUMERIC_TYPE; mode++) {
        bson_t a = BSON_INITIALIZER, b = BSON_INITIALIZER;
        tow_buffer_t scratch = {0};

        bson_append_int32(&a, "x", 1, 1);
        bson_append_int32(&a, "x", 1, 2);
        bson_append_int32(&b, "x", 1, 2);
        bson_append_int32(&b, "x", 1, 1);
        assert_true(tow_verify_hash((tow_verify_mode_t)mode, 1, &a, &scratch) !=
                    tow_verify_hash((tow_verify_mode_t)mode, 1, &b, &scratch));
        tow_buffer_free(&scratch);
        bson_destroy(&a);
        bson_destroy(&b);
    }
}

/* The normal form without order is BSON of the same length. */
static void test_normal_form_is_bson(void **state)
{
    bson_t *document = parse("{\"z\":1,\"a\":{\"y\":[1,{\"q\":1,\"p\":\"text\"}],\"b\":null}}"),
           normal;
    tow_buffer_t out = {0};
    char *json;

    assert_true(tow_verify_normalize(TOW_VERIFY_FIELD_ORDER, document, &out));
    assert_int_equal(out.length, document->len);
    assert_true(bson_init_static(&normal, out.data, out.length));
    assert_true(bson_validate(&normal, BSON_VALIDATE_NONE, NULL));
    json = bson_as_relaxed_extended_json(&normal, NULL);
    assert_string_equal(json,
                        "{ \"a\" : { \"b\" : null, \"y\" : [ 1, { \"p\" : \"text\", \"q\" : 1 } ] "
                        "}, \"z\" : 1 }");
    bson_free(json);
    tow_buffer_free(&out);
    bson_destroy(document);
}

/* Below what servers nest the bytes decide; the path names the deepest field that was gone into. */
static void test_nesting_has_an_end(void **state)
{
    bson_t *a = nest_new(NEST_LEVELS, BSON_TYPE_DOCUMENT, 1);
    bson_t *b = nest_new(NEST_LEVELS, BSON_TYPE_DOCUMENT, 2);

    for (int mode = TOW_VERIFY_BYTES; mode <= TOW_VERIFY_NUMERIC_TYPE; mode++) {
        tow_buffer_t scratch = {0};
        tow_hash_t left = tow_verify_hash((tow_verify_mode_t)mode, 5, a, &scratch);
        tow_hash_t right = tow_verify_hash((tow_verify_mode_t)mode, 5, b, &scratch);
        char *path = tow_verify_path((tow_verify_mode_t)mode, a, b);

        assert_true(left != right);
        assert_true(left == tow_verify_hash((tow_verify_mode_t)mode, 5, a, &scratch));
        assert_non_null(path);
        assert_int_equal(strlen(path), strlen("_id") + TOW_NESTING_MOST * strlen(".a"));
        free(path);
        tow_buffer_free(&scratch);
    }
    bson_destroy(a);
    bson_destroy(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_field_order),
        cmocka_unit_test(test_numeric_type),
        cmocka_unit_test(test_nested_is_not_flat),
        cmocka_unit_test(test_duplicate_names),
        cmocka_unit_test(test_normal_form_is_bson),
        cmocka_unit_test(test_nesting_has_an_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
