/* Only what is exact becomes a statement. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "oplog/translate.h"

static void expect(const char *json, tow_statement_t kind)
{
    bson_error_t problem;
    bson_t *event = bson_new_from_json((const uint8_t *)json, -1, &problem), document;

    if (!event)
        fail_msg("%s", problem.message);
    assert_int_equal(tow_translate(event, &document, false), kind);
    if (kind == TOW_STATEMENT_REPLACE)
        assert_true(bson_has_field(&document, "_id"));
    bson_destroy(event);
}

static void exact_ones(void **state)
{
    expect("{\"operationType\":\"insert\",\"fullDocument\":{\"_id\":1,\"a\":{\"$x\":1}}}",
           TOW_STATEMENT_REPLACE);
    expect("{\"operationType\":\"replace\",\"fullDocument\":{\"_id\":1}}", TOW_STATEMENT_REPLACE);
    expect("{\"operationType\":\"delete\"}", TOW_STATEMENT_DELETE);
}

/* Invariant: the destination is byte for byte the source. An update event does not tell whether a field
 * kept its place: a pipeline that unsets and sets a field gives the same event as a plain $set. */
static void doubtful_ones(void **state)
{
    expect("{\"operationType\":\"update\",\"updateDescription\":{\"updatedFields\":{\"mid\":2},"
           "\"removedFields\":[]}}",
           TOW_STATEMENT_REFETCH);
    expect("{\"operationType\":\"update\",\"updateDescription\":{\"updatedFields\":{},"
           "\"removedFields\":[]}}",
           TOW_STATEMENT_REFETCH);
    expect("{\"operationType\":\"insert\"}", TOW_STATEMENT_REFETCH);
    expect("{\"operationType\":\"replace\",\"fullDocument\":null}", TOW_STATEMENT_REFETCH);
    expect("{\"operationType\":\"insert\",\"fullDocument\":{\"_id\":1,\"$a\":1}}",
           TOW_STATEMENT_REFETCH);
    expect("{\"operationType\":\"insert\",\"fullDocument\":{\"_id\":1,\"t\":{\"$timestamp\":"
           "{\"t\":0,\"i\":0}}}}",
           TOW_STATEMENT_REFETCH);
    expect("{\"operationType\":\"newerThanUs\"}", TOW_STATEMENT_REFETCH);
}

/* Invariant: what the source has stays. A document that moves between shards is deleted and inserted, and the
 * merged stream may tell of the insert first. */
static void a_delete_of_several_shards(void **state)
{
    bson_t *event = BCON_NEW("operationType", BCON_UTF8("delete")), document;

    assert_int_equal(tow_translate(event, &document, true), TOW_STATEMENT_REFETCH);
    bson_destroy(event);
    event = BCON_NEW("operationType", BCON_UTF8("insert"), "fullDocument", "{", "_id", BCON_INT32(1), "}");
    assert_int_equal(tow_translate(event, &document, true), TOW_STATEMENT_REPLACE);
    bson_destroy(event);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(exact_ones),
                                       cmocka_unit_test(doubtful_ones),
                                       cmocka_unit_test(a_delete_of_several_shards)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
