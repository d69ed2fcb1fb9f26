/* Only what is exact becomes a statement. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "oplog/translate.h"

static tow_statement_t translate(const char *json, char **out)
{
    bson_error_t problem;
    bson_t *event = bson_new_from_json((const uint8_t *)json, -1, &problem);
    bson_t update = BSON_INITIALIZER;
    tow_statement_t kind;

    if (!event)
        fail_msg("%s", problem.message);
    kind = tow_translate(event, &update);
    if (out)
        *out = bson_as_relaxed_extended_json(&update, NULL);
    bson_destroy(&update);
    bson_destroy(event);
    return kind;
}

#define UPDATE(description) "{\"operationType\":\"update\",\"updateDescription\":" description "}"

static void expect(const char *json, tow_statement_t kind)
{
    assert_int_equal(translate(json, NULL), kind);
}

static void exact_ones(void **state)
{
    char *text;

    expect(UPDATE("{\"updatedFields\":{},\"removedFields\":[]}"), TOW_STATEMENT_NONE);
    assert_int_equal(translate(UPDATE("{\"updatedFields\":{\"a\":1},\"removedFields\":[]}"), &text),
                     TOW_STATEMENT_UPDATE);
    assert_string_equal(text, "{ \"$set\" : { \"a\" : 1 } }");
    bson_free(text);
    assert_int_equal(translate(UPDATE("{\"updatedFields\":{\"a\":\"$b\",\"c\":2}}"), &text),
                     TOW_STATEMENT_PIPELINE);
    assert_string_equal(text, "{ \"0\" : { \"$set\" : { \"a\" : { \"$literal\" : \"$b\" } } }, "
                              "\"1\" : { \"$set\" : { \"c\" : { \"$literal\" : 2 } } } }");
    bson_free(text);
    expect(UPDATE("{\"updatedFields\":{\"a.b\":1},\"disambiguatedPaths\":{}}"),
           TOW_STATEMENT_UPDATE);
    expect(UPDATE("{\"removedFields\":[\"a\"]}"), TOW_STATEMENT_UPDATE);
    expect("{\"operationType\":\"insert\",\"fullDocument\":{\"_id\":1,\"a\":{\"$x\":1}}}",
           TOW_STATEMENT_REPLACE);
    expect("{\"operationType\":\"delete\"}", TOW_STATEMENT_DELETE);
}

static void doubtful_ones(void **state)
{
    expect(UPDATE("{\"updatedFields\":{\"a.b\":1}}"), TOW_STATEMENT_REFETCH);
    expect(UPDATE("{\"updatedFields\":{\"a.0\":1},\"disambiguatedPaths\":{}}"),
           TOW_STATEMENT_REFETCH);
    expect(UPDATE("{\"updatedFields\":{\"a.b\":1},\"disambiguatedPaths\":{\"a.b\":[\"a.b\"]}}"),
           TOW_STATEMENT_REFETCH);
    expect(UPDATE("{\"updatedFields\":{\"$a\":1}}"), TOW_STATEMENT_REFETCH);
    expect(UPDATE("{\"updatedFields\":{\"\":1}}"), TOW_STATEMENT_REFETCH);
    expect(UPDATE("{\"updatedFields\":{\"7\":1}}"), TOW_STATEMENT_REFETCH);
    expect(UPDATE("{\"updatedFields\":{\"b\":1,\"a\":2}}"), TOW_STATEMENT_REFETCH);
    expect(UPDATE("{\"updatedFields\":{\"a\":1},\"removedFields\":[\"b\"]}"),
           TOW_STATEMENT_REFETCH);
    expect(UPDATE("{\"updatedFields\":{},\"somethingNew\":{}}"), TOW_STATEMENT_REFETCH);
    expect(UPDATE("{\"truncatedArrays\":[{\"field\":\"a\",\"newSize\":0}]}"),
           TOW_STATEMENT_REFETCH);
    expect("{\"operationType\":\"insert\"}", TOW_STATEMENT_REFETCH);
    expect("{\"operationType\":\"replace\",\"fullDocument\":null}", TOW_STATEMENT_REFETCH);
    expect("{\"operationType\":\"insert\",\"fullDocument\":{\"_id\":1,\"$a\":1}}",
           TOW_STATEMENT_REFETCH);
    expect("{\"operationType\":\"insert\",\"fullDocument\":{\"_id\":1,\"t\":{\"$timestamp\":{\"t\":0,"
           "\"i\":0}}}}",
           TOW_STATEMENT_REFETCH);
    expect("{\"operationType\":\"newerThanUs\"}", TOW_STATEMENT_REFETCH);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(exact_ones),
                                       cmocka_unit_test(doubtful_ones)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
