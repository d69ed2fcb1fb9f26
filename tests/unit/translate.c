/* SPDX-License-Identifier: Apache-2.0 */
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

/* Invariant: the destination is byte for byte the source. An update event does not tell whether a
 * field kept its place: a pipeline that unsets and sets a field gives the same event as a plain
 * $set. */
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

static tow_statement_t translate_merged(const char *json)
{
    bson_t *event = bson_new_from_json((const uint8_t *)json, -1, NULL), document;
    tow_statement_t statement = tow_translate(event, &document, true);

    bson_destroy(event);
    return statement;
}

/* Invariant: what the source has stays. A document that moves between shards is deleted and
 * inserted, and the merged stream may report the insert first. Another shard may report the
 * replacement of an orphan: an update of many documents changes these as well. */
static void events_of_several_shards(void **state)
{
    assert_int_equal(translate_merged("{\"operationType\":\"delete\"}"), TOW_STATEMENT_REFETCH);
    assert_int_equal(
        translate_merged("{\"operationType\":\"replace\",\"fullDocument\":{\"_id\":1}}"),
        TOW_STATEMENT_REFETCH);
    assert_int_equal(
        translate_merged("{\"operationType\":\"insert\",\"fullDocument\":{\"_id\":1}}"),
        TOW_STATEMENT_REPLACE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(exact_ones),
                                       cmocka_unit_test(doubtful_ones),
                                       cmocka_unit_test(events_of_several_shards)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
