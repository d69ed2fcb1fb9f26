/* SPDX-License-Identifier: Apache-2.0 */
/* What a unique index refuses is looked for exactly as that index decides. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "oplog/holders.h"

static bson_t *parse(const char *json)
{
    bson_error_t problem;
    bson_t *document = bson_new_from_json((const uint8_t *)json, -1, &problem);

    if (!document)
        fail_msg("%s: %s", json, problem.message);
    return document;
}

static void strip_spaces(char *text)
{
    char *to = text;

    for (; *text; text++)
        if (*text != ' ')
            *to++ = *text;
    *to = '\0';
}

/* As text: {"$type": 6} would be read as the type of a binary. NULL: the index does not
 * take it in. */
static void expect(const char *index_json, const char *document_json, const char *filter_text)
{
    bson_t *index = parse(index_json), *document = parse(document_json), filter;
    bool taken = tow_holders_filter(index, document, &filter);

    assert_int_equal(taken, filter_text != NULL);
    if (taken) {
        char *found = bson_as_relaxed_extended_json(&filter, NULL);

        strip_spaces(found);
        assert_string_equal(found, filter_text);
        bson_free(found);
        bson_destroy(&filter);
    }
    bson_destroy(index);
    bson_destroy(document);
}

static void by_the_documents_own_values(void **state)
{
    expect("{\"key\":{\"e\":1},\"unique\":true}", "{\"_id\":1,\"e\":\"x@y\"}",
           "{\"$and\":[{\"e\":{\"$eq\":\"x@y\"}}]}");
    expect("{\"key\":{\"a.b\":1,\"c\":-1}}", "{\"a\":{\"b\":2},\"c\":{\"d\":1}}",
           "{\"$and\":[{\"a.b\":{\"$eq\":2}},{\"c\":{\"$eq\":{\"d\":1}}}]}");
    expect("{\"key\":{\"e\":1}}", "{\"_id\":1}", "{\"$and\":[{\"e\":{\"$eq\":null}}]}");
    /* The part that is no plain value only narrows. */
    expect("{\"key\":{\"p\":\"2dsphere\",\"e\":1}}", "{\"p\":[1,2],\"e\":3}",
           "{\"$and\":[{\"e\":{\"$eq\":3}}]}");
}

static void arrays_by_their_elements(void **state)
{
    expect("{\"key\":{\"e\":1}}", "{\"e\":[1,[2],{\"f\":3}]}",
           "{\"$and\":[{\"e\":{\"$in\":[1,[2],{\"f\":3}]}}]}");
    expect("{\"key\":{\"e.f\":1}}", "{\"e\":[{\"f\":1},{\"f\":[2,3]}]}",
           "{\"$and\":[{\"e.f\":{\"$in\":[1,2,3]}}]}");
    expect("{\"key\":{\"e.1\":1}}", "{\"e\":[4,5]}",
           "{\"$and\":[{\"e.1\":{\"$in\":[null,5,null]}}]}");
    expect("{\"key\":{\"e.f\":1}}", "{\"e\":[7]}", "{\"$and\":[{\"e.f\":{\"$eq\":null}}]}");
}

/* Invariant: no find is sent that a server refuses, which would end the job. */
static void never_equal_to_undefined(void **state)
{
    const char *filter = "{\"$and\":[{\"$or\":[{\"e\":{\"$eq\":[]}},{\"e\":{\"$type\":6}}]}]}";

    expect("{\"key\":{\"e\":1}}", "{\"e\":[]}", filter);
    expect("{\"key\":{\"e\":1}}", "{\"e\":{\"$undefined\":true}}", filter);
    expect("{\"key\":{\"e\":1}}", "{\"e\":[{\"$undefined\":true}]}", filter);
}

static void patterns_and_dollars_by_equality(void **state)
{
    expect("{\"key\":{\"e\":1}}",
           "{\"e\":[{\"$regularExpression\":{\"pattern\":\"a\",\"options\":\"\"}},1]}",
           "{\"$and\":[{\"$or\":[{\"e\":{\"$eq\":{\"$regularExpression\":{\"pattern\":\"a\","
           "\"options\":"
           "\"\"}}}},{\"e\":{\"$eq\":1}}]}]}");
}

static void with_its_filter_and_sparseness(void **state)
{
    expect("{\"key\":{\"e\":1},\"partialFilterExpression\":{\"active\":true}}",
           "{\"e\":1,\"active\":true}", "{\"$and\":[{\"e\":{\"$eq\":1}},{\"active\":true}]}");
    expect("{\"key\":{\"e\":1},\"sparse\":true}", "{\"_id\":1}", NULL);
    expect("{\"key\":{\"e\":1},\"sparse\":true}", "{\"e\":null}",
           "{\"$and\":[{\"e\":{\"$eq\":null}},{\"e\":{\"$exists\":true}}]}");
    expect("{\"key\":{\"e\":1,\"f\":1},\"sparse\":true}", "{\"f\":2}",
           "{\"$and\":[{\"e\":{\"$eq\":null}},{\"f\":{\"$eq\":2}},{\"$or\":[{\"e\":{\"$exists\":"
           "true}},"
           "{\"f\":{\"$exists\":true}}]}]}");
}

static void with_its_collation(void **state)
{
    static const struct {
        const char *index, *wanted;
        bool collated;
    } cases[] = {{"{\"key\":{\"e\":1},\"collation\":{\"locale\":\"en\",\"strength\":2}}",
                  "{\"locale\":\"en\",\"strength\":2}", true},
                 {"{\"key\":{\"e\":1}}", "{\"locale\":\"simple\"}", true},
                 {"{\"key\":{\"e\":1}}", "{}", false}};

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bson_t *index = parse(cases[i].index), *wanted = parse(cases[i].wanted), found;

        tow_holders_collation(index, cases[i].collated, &found);
        assert_true(bson_equal(&found, wanted));
        bson_destroy(&found);
        bson_destroy(wanted);
        bson_destroy(index);
    }
}

static void known_by_its_key(void **state)
{
    bson_t *index = parse("{\"key\":{\"a\":1,\"b\":-1}}");
    static const struct {
        const char *key;
        bool same;
    } cases[] = {{"{\"a\":1,\"b\":-1}", true},  {"{\"a\":1.0,\"b\":-1.0}", true},
                 {"{\"a\":1}", false},          {"{\"a\":1,\"b\":1}", false},
                 {"{\"b\":-1,\"a\":1}", false}, {"{\"a\":1,\"b\":-1,\"c\":1}", false}};

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bson_t *key = parse(cases[i].key);

        if (tow_index_has_key(index, key) != cases[i].same)
            fail_msg("%s", cases[i].key);
        bson_destroy(key);
    }
    bson_destroy(index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(by_the_documents_own_values),
                                       cmocka_unit_test(arrays_by_their_elements),
                                       cmocka_unit_test(never_equal_to_undefined),
                                       cmocka_unit_test(patterns_and_dollars_by_equality),
                                       cmocka_unit_test(with_its_filter_and_sparseness),
                                       cmocka_unit_test(with_its_collation),
                                       cmocka_unit_test(known_by_its_key)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
