/* SPDX-License-Identifier: Apache-2.0 */
/* selection.c: filters by _id, also for those that begin with a dollar. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/state/selection.h"

/* The filter for the _ids of these documents, as JSON. */
static void expect_filter(const char *const *documents, size_t count, const char *wanted)
{
    tow_selection_t selection;
    bson_t filter;
    char *text;

    tow_selection_begin(&selection);
    for (size_t i = 0; i < count; i++) {
        bson_t *document = bson_new_from_json((const uint8_t *)documents[i], -1, NULL);
        tow_value_t id;

        assert_true(tow_value_id(document, &id));
        tow_selection_add(&selection, id);
        bson_destroy(document);
    }
    tow_selection_end(&selection, &filter);
    text = bson_as_relaxed_extended_json(&filter, NULL);
    assert_string_equal(text, wanted);
    bson_free(text);
    bson_destroy(&filter);
}

static void test_plain(void **state)
{
    const char *documents[] = {"{\"_id\": 1}", "{\"_id\": {\"a\": 1}}", "{\"_id\": {}}"};

    expect_filter(documents, 0, "{ \"_id\" : { \"$in\" : [  ] } }");
    expect_filter(documents, 3, "{ \"_id\" : { \"$in\" : [ 1, { \"a\" : 1 }, {  } ] } }");
}

static void test_dollar(void **state)
{
    const char *documents[] = {"{\"_id\": 1}", "{\"_id\": {\"$ref\": \"c\", \"$id\": 2}}"};

    expect_filter(documents, 2,
                  "{ \"$or\" : [ { \"_id\" : { \"$eq\" : { \"$ref\" : \"c\", \"$id\" : 2 } } }, "
                  "{ \"_id\" : { \"$in\" : [ 1 ] } } ] }");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_dollar),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
