/* SPDX-License-Identifier: Apache-2.0 */
/* JSON is JSON whatever a server put into a name, and whatever a figure came to. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <bson/bson.h>
#include <cmocka.h>

#include "engine/base/json.h"

/* Takes what was written. */
static void assert_written(tow_json_t *json, const char *expected)
{
    char *text = tow_json_take(json);

    assert_string_equal(text, expected);
    assert_null(json->text.data);
    assert_false(json->comma);
    free(text);
}

static void commas_stand_between_values(void **state)
{
    tow_json_t json = {0};
    char *line;

    tow_json_begin(&json, NULL);
    tow_json_begin(&json, "empty");
    tow_json_end(&json);
    tow_json_begin_array(&json, "list");
    tow_json_put_flag(&json, NULL, true);
    tow_json_begin(&json, NULL);
    tow_json_put_null(&json, "none");
    tow_json_put_text(&json, "text", NULL);
    tow_json_end(&json);
    tow_json_begin_array(&json, NULL);
    tow_json_end_array(&json);
    tow_json_put_flag(&json, NULL, false);
    tow_json_end_array(&json);
    tow_json_put_json(&json, "part", "{\"a\":1}");
    tow_json_end(&json);
    assert_written(&json, "{\"empty\":{},\"list\":[true,{\"none\":null,\"text\":null},[],false],"
                          "\"part\":{\"a\":1}}");
    tow_json_begin(&json, NULL);
    tow_json_end(&json);
    line = tow_json_take_line(&json);
    assert_string_equal(line, "{}\n");
    free(line);
}

static void fields_of_an_object_join_another(void **state)
{
    tow_json_t json = {0};

    tow_json_begin(&json, NULL);
    tow_json_put_fields(&json, "{}");
    tow_json_put_fields(&json, "{\"a\":1,\"b\":[2]}");
    tow_json_put_fields(&json, "{}");
    tow_json_put_count(&json, "c", 3);
    tow_json_end(&json);
    assert_written(&json, "{\"a\":1,\"b\":[2],\"c\":3}");
}

static void foreign_texts_are_quoted(void **state)
{
    static const char *const texts[][2] = {
        {"", "\"\""},
        {"Grüße, 東京 😀", "\"Grüße, 東京 😀\""},
        {"a\"b\\c/d", "\"a\\\"b\\\\c/d\""},
        {"\n\t\001\177", "\"\\u000a\\u0009\\u0001\\u007f\""},
        {"\302\233"
         "31m",
         "\"\\u009b31m\""}, /* a C1 control character */
        {"\342\200\256x", "\"\\u202ex\""},
        {"\377\376", "\"\\ufffd\\ufffd\""},
        {"cut \342\202", "\"cut \\ufffd\\ufffd\""},
        {"\300\200", "\"\\ufffd\\ufffd\""}, /* a zero, overlong */
        {"\355\240\200", "\"\\ufffd\\ufffd\\ufffd\""}};

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        tow_json_t json = {0};
        char *expected = tow_format("{%s:%s}", texts[i][1], texts[i][1]), *alone;

        tow_json_begin(&json, NULL);
        tow_json_put_text(&json, texts[i][0], texts[i][0]);
        tow_json_end(&json);
        assert_written(&json, expected);
        free(expected);
        alone = tow_json_text(texts[i][0]);
        assert_string_equal(alone, texts[i][1]);
        free(alone);
    }
}

/* Whatever the bytes are, a parser reads the text. */
static void every_pair_of_bytes_is_json(void **state)
{
    for (int first = 1; first < 256; first++)
        for (int second = 0; second < 256; second++) {
            const char text[] = {(char)first, (char)second, '\0'};
            bson_error_t reason;
            tow_json_t json = {0};
            bson_t document;
            char *written;

            tow_json_begin(&json, NULL);
            tow_json_put_text(&json, "a", text);
            tow_json_end(&json);
            written = tow_json_take(&json);
            assert_true(bson_init_from_json(&document, written, -1, &reason));
            assert_true(bson_has_field(&document, "a"));
            bson_destroy(&document);
            free(written);
        }
}

static void figures_keep_all_their_digits(void **state)
{
    tow_json_t json = {0};

    tow_json_begin_array(&json, NULL);
    tow_json_put_count(&json, NULL, 0);
    tow_json_put_count(&json, NULL, UINT64_MAX);
    tow_json_put_integer(&json, NULL, INT64_MIN);
    tow_json_put_integer(&json, NULL, INT64_MAX);
    tow_json_put_number(&json, NULL, 1.0 / 3, 3);
    tow_json_put_number(&json, NULL, -2.5, 0);
    tow_json_put_number(&json, NULL, 1e15, 1);
    tow_json_end_array(&json);
    assert_written(&json, "[0,18446744073709551615,-9223372036854775808,9223372036854775807,"
                          "0.333,-2,1000000000000000.0]");
}

static void what_is_no_number_is_null(void **state)
{
    tow_json_t json = {0};
    char *longest;

    tow_json_begin_array(&json, NULL);
    tow_json_put_number(&json, NULL, NAN, 3);
    tow_json_put_number(&json, NULL, INFINITY, 3);
    tow_json_put_number(&json, NULL, -INFINITY, 0);
    tow_json_end_array(&json);
    assert_written(&json, "[null,null,null]");
    tow_json_put_number(&json, NULL, -1.7976931348623157e308, 3);
    longest = tow_json_take(&json);
    assert_int_equal(strlen(longest), 314);
    assert_true(strtod(longest, NULL) < -1.79e308);
    free(longest);
}

static void white_space_between_values_stays(void **state)
{
    char *shown = tow_json_printable("{\n\t\"a\": \"\302\233\377\"\r\n}");

    assert_string_equal(shown, "{\n\t\"a\": \"\\u009b\\ufffd\"\r\n}");
    free(shown);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(commas_stand_between_values),
                                       cmocka_unit_test(fields_of_an_object_join_another),
                                       cmocka_unit_test(foreign_texts_are_quoted),
                                       cmocka_unit_test(every_pair_of_bytes_is_json),
                                       cmocka_unit_test(figures_keep_all_their_digits),
                                       cmocka_unit_test(what_is_no_number_is_null),
                                       cmocka_unit_test(white_space_between_values_stays)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
