/* SPDX-License-Identifier: Apache-2.0 */
/* What a server says is taken or refused; nothing that cannot be read counts as not there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine/link/identity.h"
#include "engine/link/reply.h"

static bson_t *json(const char *text)
{
    bson_error_t error;
    bson_t *document = bson_new_from_json((const uint8_t *)text, -1, &error);

    if (!document)
        fail_msg("%s: %s", text, error.message);
    return document;
}

static void a_value_of_another_type_is_refused(void **state)
{
    bson_t *reply = json("{\"n\": 1, \"d\": 2.5, \"inf\": {\"$numberDouble\": \"Infinity\"}, "
                         "\"t\": \"x\", \"nul\": \"a\\u0000b\","
                         " \"o\": {}, \"l\": [1], \"z\": null}");
    const char *text = "kept";
    bson_iter_t list;
    bson_t document;
    int64_t number = 7;

    assert_true(tow_field_number(reply, "d", &number));
    assert_int_equal(number, 2);
    assert_false(tow_field_number(reply, "inf", &number));
    assert_false(tow_field_number(reply, "t", &number));
    assert_false(tow_field_number(reply, "none", &number));
    assert_int_equal(number, 2);
    assert_false(tow_field_text(reply, "n", &text));
    assert_false(tow_field_text(reply, "nul", &text));
    assert_string_equal(text, "kept");
    assert_false(tow_field_document(reply, "l", &document));
    assert_false(tow_field_document(reply, "z", &document));
    assert_true(tow_field_document(reply, "o", &document));
    assert_false(tow_field_list(reply, "o", &list));
    assert_true(tow_field_list(reply, "l", &list));
    bson_destroy(reply);
}

/* bson_init_static(NULL) ended the process. */
static void an_entry_that_is_no_document_breaks_its_batch(void **state)
{
    static const char *const batches[] = {"[1, 2, 3]", "[\"x\"]", "[{}, null]", "[[]]"};

    for (size_t i = 0; i < sizeof batches / sizeof *batches; i++) {
        char text[128];
        tow_reply_cursor_t cursor;
        bson_t *reply, document;
        bool broken = false;

        snprintf(text, sizeof text, "{\"cursor\": {\"id\": 5, \"nextBatch\": %s}}", batches[i]);
        reply = json(text);
        assert_true(tow_reply_cursor(reply, &cursor));
        assert_int_equal(cursor.id, 5);
        while (tow_batch_document(&cursor.batch, &document, &broken))
            continue;
        assert_true(broken);
        bson_destroy(reply);
    }
}

static void a_cursor_has_an_id_and_a_batch(void **state)
{
    static const char *const bad[] = {"{}",
                                      "{\"cursor\": 1}",
                                      "{\"cursor\": {\"id\": 0}}",
                                      "{\"cursor\": {\"nextBatch\": []}}",
                                      "{\"cursor\": {\"id\": \"x\", \"nextBatch\": []}}",
                                      "{\"cursor\": {\"id\": 0, \"nextBatch\": 5}}",
                                      "{\"cursor\": {\"id\": 0, \"nextBatch\": {}}}"};

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        bson_t *reply = json(bad[i]);
        tow_reply_cursor_t cursor;

        assert_false(tow_reply_cursor(reply, &cursor));
        bson_destroy(reply);
    }
}

#define HEAD                                                                                       \
    "\"_id\": {\"_data\": \"82\"}, \"clusterTime\": {\"$timestamp\": {\"t\": 1, \"i\": 1}}, "
#define NS "\"ns\": {\"db\": \"d\", \"coll\": \"c\"}"

static void an_event_has_what_its_kind_needs(void **state)
{
    static const struct {
        bool good;
        const char *text;
    } rows[] = {
        {true, "{" HEAD "\"operationType\": \"insert\", " NS ", \"documentKey\": {\"_id\": 1}}"},
        {true, "{" HEAD "\"operationType\": \"drop\", " NS "}"},
        {true, "{" HEAD "\"operationType\": \"dropDatabase\", \"ns\": {\"db\": \"d\"}}"},
        {true, "{" HEAD "\"operationType\": \"rename\", " NS
               ", \"to\": {\"db\": \"d\", \"coll\": \"e\"}}"},
        {true, "{" HEAD "\"operationType\": \"invalidate\"}"},
        {true, "{" HEAD "\"operationType\": \"of a later version\"}"},
        {false, "{" HEAD NS ", \"documentKey\": {\"_id\": 1}}"},
        {false, "{" HEAD "\"operationType\": 1}"},
        {false, "{" HEAD "\"operationType\": \"insert\", " NS "}"},
        {false, "{" HEAD "\"operationType\": \"insert\", " NS ", \"documentKey\": {}}"},
        {false,
         "{" HEAD "\"operationType\": \"insert\", \"ns\": [], \"documentKey\": {\"_id\": 1}}"},
        {false,
         "{" HEAD
         "\"operationType\": \"update\", \"ns\": {\"db\": \"d\"}, \"documentKey\": {\"_id\": 1}}"},
        {false, "{" HEAD "\"operationType\": \"rename\", " NS "}"},
        {false, "{" HEAD "\"operationType\": \"dropDatabase\"}"},
        {false, "{\"_id\": {}, \"clusterTime\": {\"$timestamp\": {\"t\": 1, \"i\": 1}}, "
                "\"operationType\": \"drop\", " NS "}"},
        {false,
         "{\"_id\": {\"_data\": \"82\"}, \"clusterTime\": 3, \"operationType\": \"drop\", " NS
         "}"}};

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bson_t *event = json(rows[i].text);

        if (tow_reply_is_event(event) != rows[i].good)
            fail_msg("%s", rows[i].text);
        bson_destroy(event);
    }
}

/* What is passed over there counts as written. */
static void a_refusal_is_about_a_statement(void **state)
{
    static const struct {
        bool good;
        const char *text;
    } rows[] = {{true, "{\"n\": 2}"},
                {true, "{\"n\": 1, \"writeErrors\": [{\"index\": 1, \"code\": 11000}]}"},
                {false, "{}"},
                {false, "{\"n\": \"2\"}"},
                {false, "{\"n\": 1, \"writeErrors\": 5}"},
                {false, "{\"n\": 1, \"writeErrors\": [5]}"},
                {false, "{\"n\": 1, \"writeErrors\": [{\"code\": 11000}]}"},
                {false, "{\"n\": 1, \"writeErrors\": [{\"index\": 2, \"code\": 11000}]}"},
                {false, "{\"n\": 1, \"writeConcernError\": 5}"}};
    bson_t *command = json("{\"update\": \"c\", \"updates\": [{}, {}]}");

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bson_t *reply = json(rows[i].text);

        if (tow_reply_is_write(command, reply) != rows[i].good)
            fail_msg("%s", rows[i].text);
        bson_destroy(reply);
    }
    bson_destroy(command);
}

#define ID "65f1c0ffee65f1c0ffee65f1"
#define OTHER "75f1c0ffee65f1c0ffee65f1"

static void an_identity_is_exact_or_open(void **state)
{
    static const struct {
        tow_relation_t expected;
        const char *a, *b;
    } rows[] = {
        {TOW_IDENTITY_SAME, "set id=" ID " hosts=a:1 name=rs", "set id=" ID " hosts=b:1 name=rs"},
        {TOW_IDENTITY_DIFFERENT, "set id=" ID " hosts=a:1 name=rs",
         "set id=" OTHER " hosts=a:1 name=rs"},
        /* The id is readable on one side only, which the documented roles make the usual case. */
        {TOW_IDENTITY_SAME, "set id=" ID " hosts=a:1,b:1 name=rs",
         "set id=- hosts=b:1,c:1 name=rs"},
        {TOW_IDENTITY_SAME, "set id=- hosts=A.example:1 name=rs",
         "set id=- hosts=a.example:1 name=rs"},
        {TOW_IDENTITY_OPEN, "set id=" ID " hosts=a:1 name=rs", "set id=- hosts=b:1 name=rs"},
        {TOW_IDENTITY_OPEN, "set id=- hosts=a:1 name=rs", "set id=- hosts=a:11 name=rs"},
        {TOW_IDENTITY_DIFFERENT, "set id=- hosts=a:1 name=rs", "set id=- hosts=a:1 name=other"},
        /* A shard and the cluster's mongos. */
        {TOW_IDENTITY_OPEN, "set id=" ID " hosts=a:1 name=rs",
         "cluster id=" OTHER " hosts=a:1 name="},
        {TOW_IDENTITY_SAME,
         "cluster id=- hosts=m:1,n:1 name=", "cluster id=" ID " hosts=n:1 name="},
        {TOW_IDENTITY_OPEN, "", ""},
        {TOW_IDENTITY_SAME, "of an older version", "of an older version"}};

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(tow_identity_compare(rows[i].a, rows[i].b), rows[i].expected);
        assert_int_equal(tow_identity_compare(rows[i].b, rows[i].a), rows[i].expected);
    }
}

static void an_identity_keeps_whole_hosts(void **state)
{
    char out[120], hosts[120], id[25];

    tow_identity_write("set", ID, "first.example:27017,second.example:27017", "rs 0", out,
                       sizeof out);
    tow_identity_hosts(out, hosts, sizeof hosts);
    assert_string_equal(hosts, "first.example:27017,second.example:27017");
    tow_identity_id(out, id);
    assert_string_equal(id, ID);
    tow_identity_write("set", "", "first.example:27017,second.example:27017",
                       "a name that takes much room", out, sizeof out);
    tow_identity_hosts(out, hosts, sizeof hosts);
    assert_string_equal(hosts, "first.example:27017");
    tow_identity_id(out, id);
    assert_string_equal(id, "");
}

/* What cannot be read is not the answer that there is none. */
static void a_batch_holds_documents_or_is_no_answer(void **state)
{
    static const struct {
        const char *json;
        bool whole;
    } replies[] = {
        {"{\"cursor\": {\"id\": {\"$numberLong\": \"0\"}, \"firstBatch\": []}}", true},
        {"{\"cursor\": {\"id\": {\"$numberLong\": \"0\"}, \"firstBatch\": [{\"_id\": 1}, {}]}}",
         true},
        {"{\"cursor\": {\"id\": {\"$numberLong\": \"0\"}, \"firstBatch\": [1]}}", false},
        {"{\"cursor\": {\"id\": {\"$numberLong\": \"0\"}, \"firstBatch\": [{\"_id\": 1}, \"x\"]}}",
         false},
        {"{\"cursor\": {\"id\": {\"$numberLong\": \"0\"}}}", false},
        {"{\"ok\": 1}", false}};

    for (size_t i = 0; i < sizeof replies / sizeof *replies; i++) {
        bson_t *reply = bson_new_from_json((const uint8_t *)replies[i].json, -1, NULL);

        assert_non_null(reply);
        assert_int_equal(tow_reply_holds_documents(reply), replies[i].whole);
        bson_destroy(reply);
    }
}

/* As servers take it; what is there and off is not set. */
static void a_flag_is_set_by_its_value(void **state)
{
    bson_t *document = BCON_NEW("on", BCON_BOOL(true), "off", BCON_BOOL(false), "one",
                                BCON_INT32(1), "zero", BCON_INT64(0), "half", BCON_DOUBLE(0.5),
                                "null", BCON_NULL, "inner", "{", "on", BCON_BOOL(true), "}");

    assert_true(tow_field_is_set(document, "on"));
    assert_true(tow_field_is_set(document, "one"));
    assert_true(tow_field_is_set(document, "half"));
    assert_true(tow_field_is_set(document, "inner.on"));
    assert_false(tow_field_is_set(document, "off"));
    assert_false(tow_field_is_set(document, "zero"));
    assert_false(tow_field_is_set(document, "null"));
    assert_false(tow_field_is_set(document, "missing"));
    bson_destroy(document);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_value_of_another_type_is_refused),
        cmocka_unit_test(an_entry_that_is_no_document_breaks_its_batch),
        cmocka_unit_test(a_cursor_has_an_id_and_a_batch),
        cmocka_unit_test(an_event_has_what_its_kind_needs),
        cmocka_unit_test(a_refusal_is_about_a_statement),
        cmocka_unit_test(an_identity_is_exact_or_open),
        cmocka_unit_test(an_identity_keeps_whole_hosts),
        cmocka_unit_test(a_flag_is_set_by_its_value),
        cmocka_unit_test(a_batch_holds_documents_or_is_no_answer)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
