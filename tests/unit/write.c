/* SPDX-License-Identifier: Apache-2.0 */
/* Write statements: the exact command that is sent, when a message is full, and what becomes of
 * refusals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "double.h"
#include "engine/state/write.h"

enum { KEPT = 10 };

typedef struct {
    double_server_t *server;
    tow_conn_t *conn;
    tow_namespace_t collection;
    tow_write_t write;
    char *sent[KEPT]; /* commands as text */
    uint32_t count;
    const char *whole; /* the first command fails as a whole with this error */
    uint32_t refused[KEPT], refusals;
    int codes[KEPT];
    uint32_t matched;
} bench_t;

static bool keep(void *data, const char *database, const bson_t *command, bson_t *reply,
                 bson_error_t *error)
{
    bench_t *bench = data;

    assert_string_equal(database, "d");
    assert_true(bench->count < KEPT);
    bench->sent[bench->count++] = bson_as_relaxed_extended_json(command, NULL);
    if (!bench->whole || bench->count > 1)
        return false;
    BCON_APPEND(reply, "ok", BCON_DOUBLE(0), "code", BCON_INT32(11000), "errmsg", bench->whole);
    bson_set_error(error, 17 /* MONGOC_ERROR_SERVER */, 11000, "%s", bench->whole);
    return true;
}

static void begin(bench_t *bench, tow_write_kind_t kind)
{

    *bench = (bench_t){.server = double_new("destination", false)};
    bench->collection =
        (tow_namespace_t){.database = (char *)"d", .name = (char *)"a", .ns = (char *)"d.a"};
    bench->conn = tow_conn_open(double_link(bench->server));
    double_hook(bench->server, keep, bench);
    tow_write_begin(&bench->write, kind, &bench->collection);
}

static void end(bench_t *bench)
{
    for (uint32_t i = 0; i < bench->count; i++)
        bson_free(bench->sent[i]);
    tow_write_clear(&bench->write);
    tow_conn_close(bench->conn);
    double_free(bench->server);
}

static void refused(void *data, void *tag, const tow_write_error_t *failure)
{
    bench_t *bench = data;

    bench->codes[bench->refusals] = failure->code;
    bench->refused[bench->refusals++] = (uint32_t)(uintptr_t)tag;
}

static void send(bench_t *bench)
{
    tow_error_t error;

    if (!tow_write_send(&bench->write, bench->conn, refused, bench, &bench->matched, &error))
        fail_msg("%s", error.message);
}

static tow_value_t id_of(const bson_t *document)
{
    tow_value_t id = {0};

    assert_true(tow_value_id(document, &id));
    return id;
}

/* Adds a statement whose tag is the number, and lets go of the document. */
static void add(bench_t *bench, uint32_t number, bson_t *document)
{
    void *tag = (void *)(uintptr_t)number;

    if (bench->write.kind == TOW_WRITE_UPDATE)
        tow_write_replace(&bench->write, id_of(document), document, tag);
    else if (bench->write.kind == TOW_WRITE_DELETE)
        tow_write_delete(&bench->write, id_of(document), tag);
    else
        tow_write_insert(&bench->write, document, tag);
    bson_destroy(document);
}

static void replacements_insert_what_is_not_there(void **state)
{
    bench_t bench;

    begin(&bench, TOW_WRITE_UPDATE);
    add(&bench, 0, BCON_NEW("_id", BCON_INT32(1), "b", "x", "a", BCON_INT32(2)));
    add(&bench, 1, BCON_NEW("_id", "{", "$ref", "c", "}", "n", BCON_INT32(3)));
    send(&bench);
    assert_string_equal(
        bench.sent[0],
        "{ \"update\" : \"a\", \"ordered\" : false, \"updates\" : [ "
        "{ \"q\" : { \"_id\" : 1 }, \"u\" : { \"_id\" : 1, \"b\" : \"x\", \"a\" : 2 }, \"upsert\" "
        ": true }, "
        "{ \"q\" : { \"_id\" : { \"$eq\" : { \"$ref\" : \"c\" } } }, "
        "\"u\" : { \"_id\" : { \"$ref\" : \"c\" }, \"n\" : 3 }, \"upsert\" : true } ], "
        "\"bypassDocumentValidation\" : true, \"bypassEmptyTsReplacement\" : true, "
        "\"writeConcern\" : { \"w\" : \"majority\" }, \"txnNumber\" : 1 }");
    assert_int_equal(bench.matched, 2);
    assert_int_equal(bench.refusals, 0);
    end(&bench);
}

static void a_literal_replaces_only_what_is_there(void **state)
{
    bench_t bench;
    bson_t *document = BCON_NEW("_id", BCON_INT32(1), "t", BCON_TIMESTAMP(0, 0));

    begin(&bench, TOW_WRITE_UPDATE);
    tow_write_literal(&bench.write, id_of(document), document, NULL);
    send(&bench);
    assert_string_equal(
        bench.sent[0],
        "{ \"update\" : \"a\", \"ordered\" : false, \"updates\" : [ { \"q\" : { \"_id\" : 1 }, "
        "\"u\" : [ { \"$replaceWith\" : { \"$literal\" : { \"_id\" : 1, "
        "\"t\" : { \"$timestamp\" : { \"t\" : 0, \"i\" : 0 } } } } } ] } ], "
        "\"bypassDocumentValidation\" : true, \"bypassEmptyTsReplacement\" : true, "
        "\"writeConcern\" : { \"w\" : \"majority\" }, \"txnNumber\" : 1 }");
    assert_int_equal(bench.matched, 0);
    bson_destroy(document);
    end(&bench);
}

static void deletes_are_of_one_document_each(void **state)
{
    bench_t bench;

    begin(&bench, TOW_WRITE_DELETE);
    add(&bench, 0, BCON_NEW("_id", "k"));
    send(&bench);
    assert_string_equal(bench.sent[0],
                        "{ \"delete\" : \"a\", \"ordered\" : false, \"deletes\" : [ "
                        "{ \"q\" : { \"_id\" : \"k\" }, \"limit\" : 1 } ], "
                        "\"writeConcern\" : { \"w\" : \"majority\" }, \"txnNumber\" : 1 }");
    end(&bench);
}

static void inserts_bypass_validation_and_are_numbered(void **state)
{
    bench_t bench;

    begin(&bench, TOW_WRITE_INSERT);
    for (int number = 1; number < 3; number++) {
        char wanted[300];

        add(&bench, 0, BCON_NEW("_id", BCON_INT32(number)));
        send(&bench);
        snprintf(wanted, sizeof wanted,
                 "{ \"insert\" : \"a\", \"ordered\" : false, \"documents\" : [ { \"_id\" : %d } ], "
                 "\"bypassDocumentValidation\" : true, \"bypassEmptyTsReplacement\" : true, "
                 "\"writeConcern\" : { \"w\" : \"majority\" }, \"txnNumber\" : %d }",
                 number, number);
        assert_string_equal(bench.sent[number - 1], wanted);
        tow_write_begin(&bench.write, TOW_WRITE_INSERT, &bench.collection);
    }
    end(&bench);
}

/* With the same number, so that the server does it once; and never done after a later one. */
static void what_is_sent_again_has_its_number(void **state)
{
    bench_t bench;

    begin(&bench, TOW_WRITE_INSERT);
    add(&bench, 0, BCON_NEW("_id", BCON_INT32(1)));
    double_lose_answer(bench.server, "insert");
    send(&bench);
    assert_int_equal(bench.count, 2);
    assert_string_equal(bench.sent[0], bench.sent[1]);
    assert_non_null(strstr(bench.sent[0], "\"txnNumber\" : 1 "));
    assert_int_equal(bench.matched, 1);
    assert_int_equal(bench.refusals, 0);
    end(&bench);
}

static bool note_session(void *data, const bson_t *session, tow_error_t *error)
{
    return true;
}

static bool outnumber(void *data, tow_conn_t *conn, tow_error_t *error)
{
    int *calls = data;

    return ++*calls > 1 || tow_fail(error, TOW_ERROR_UNREACHABLE, "no answer");
}

/* Its first sending may still arrive, and do what the second found no reason to. */
static void what_was_sent_twice_is_ended_before_it_is_believed(void **state)
{
    static const tow_write_guard_t guard = {.session = note_session, .outnumber = outnumber};
    tow_error_t error;
    bench_t bench;
    int calls = 0;

    begin(&bench, TOW_WRITE_INSERT);
    tow_link_guard(tow_conn_link(bench.conn), &guard, &calls);
    add(&bench, 0, BCON_NEW("_id", BCON_INT32(1)));
    send(&bench);
    assert_true(tow_conn_settle(bench.conn, &error));
    assert_int_equal(calls, 0); /* it was answered the first time */
    tow_write_begin(&bench.write, TOW_WRITE_INSERT, &bench.collection);
    add(&bench, 0, BCON_NEW("_id", BCON_INT32(2)));
    double_lose_answer(bench.server, "insert");
    send(&bench);
    assert_false(tow_conn_settle(bench.conn, &error));
    assert_true(tow_conn_settle(bench.conn, &error));
    assert_true(tow_conn_settle(bench.conn, &error));
    assert_int_equal(calls, 2);
    tow_link_guard(tow_conn_link(bench.conn), NULL, NULL);
    end(&bench);
}

static void an_empty_message_is_not_sent(void **state)
{
    bench_t bench;

    begin(&bench, TOW_WRITE_UPDATE);
    send(&bench);
    assert_int_equal(bench.count, 0);
    end(&bench);
}

static void a_message_is_full_by_number_or_by_bytes(void **state)
{
    bench_t bench;
    static uint8_t bytes[4000000];
    bson_t *large =
        BCON_NEW("_id", BCON_INT32(1), "b", BCON_BIN(BSON_SUBTYPE_BINARY, bytes, sizeof bytes));

    begin(&bench, TOW_WRITE_INSERT);
    for (uint32_t i = 0; i < TOW_WRITE_MOST; i++) {
        assert_true(tow_write_fits(&bench.write, 100));
        add(&bench, i, BCON_NEW("_id", BCON_INT32((int32_t)i)));
    }
    assert_false(tow_write_fits(&bench.write, 100));
    tow_write_begin(&bench.write, TOW_WRITE_INSERT, &bench.collection);
    assert_true(tow_write_fits(&bench.write, 16 * 1024 * 1024)); /* alone it must do */
    for (int i = 0; i < 3; i++) {
        assert_true(tow_write_fits(&bench.write, large->len));
        add(&bench, 0, bson_copy(large));
    }
    assert_false(tow_write_fits(&bench.write, large->len));
    assert_true(tow_write_fits(&bench.write, 100));
    bson_destroy(large);
    end(&bench);
}

static void each_refusal_finds_its_statement(void **state)
{
    bench_t bench;

    begin(&bench, TOW_WRITE_INSERT);
    add(&bench, 0, BCON_NEW("_id", BCON_INT32(5)));
    send(&bench);
    tow_write_begin(&bench.write, TOW_WRITE_INSERT, &bench.collection);
    for (int32_t i = 3; i < 8; i++)
        add(&bench, (uint32_t)i, BCON_NEW("_id", BCON_INT32(i)));
    send(&bench);
    assert_int_equal(bench.refusals, 1);
    assert_int_equal(bench.refused[0], 5);
    assert_int_equal(bench.codes[0], 11000);
    assert_int_equal(bench.matched, 4);
    end(&bench);
}

/* A duplicate key may fail a message as a whole, and nobody knows what of it was done. */
static void a_message_that_fails_as_a_whole_is_sent_one_by_one(void **state)
{
    for (int strict = 0; strict < 2; strict++) {
        bench_t bench;
        bson_t *there = BCON_NEW("_id", BCON_INT32(4));

        begin(&bench, TOW_WRITE_INSERT);
        bench.write.strict = strict;
        bench.whole = "E11000 duplicate key error";
        double_put(bench.server, "d.a", there);
        for (int32_t i = 3; i < 6; i++)
            add(&bench, (uint32_t)i, BCON_NEW("_id", BCON_INT32(i)));
        send(&bench);
        assert_int_equal(bench.count, 4);
        assert_non_null(strstr(bench.sent[1], "[ { \"_id\" : 3 } ]"));
        assert_non_null(strstr(bench.sent[2], "[ { \"_id\" : 4 } ]"));
        assert_non_null(strstr(bench.sent[3], "[ { \"_id\" : 5 } ]"));
        assert_non_null(strstr(bench.sent[3], "\"txnNumber\" : 4 "));
        assert_int_equal(bench.matched, 2);
        assert_int_equal(bench.refusals, 1); /* of a statement: the caller judges it */
        assert_int_equal(bench.refused[0], 4);
        bson_destroy(there);
        end(&bench);
    }
}

static void what_an_update_cannot_write_is_known(void **state)
{
    static const struct {
        bool updatable, empty;
    } wanted[] = {{true, false}, {true, false}, {false, false},
                  {false, true}, {true, false}, {true, false}};
    bson_t *documents[] = {
        BCON_NEW("_id", BCON_INT32(1), "a", BCON_INT32(1)),
        BCON_NEW("_id", BCON_TIMESTAMP(0, 0)), /* an _id is not filled in */
        BCON_NEW("_id", BCON_INT32(1), "$a", BCON_INT32(1)),
        BCON_NEW("_id", BCON_INT32(1), "t", BCON_TIMESTAMP(0, 0)),
        BCON_NEW("_id", BCON_INT32(1), "t", BCON_TIMESTAMP(0, 1)),
        BCON_NEW("_id", BCON_INT32(1), "a", "{", "$b", BCON_INT32(1), "t", BCON_TIMESTAMP(0, 0),
                 "}"),
    };

    for (size_t i = 0; i < sizeof documents / sizeof *documents; i++) {
        assert_int_equal(tow_is_updatable(documents[i]), wanted[i].updatable);
        assert_int_equal(tow_has_empty_timestamp(documents[i]), wanted[i].empty);
        bson_destroy(documents[i]);
    }
}

/* What a majority has not acknowledged, or what cannot be read, is not known to be written. */
static bool answer_with(void *data, const char *database, const bson_t *command, bson_t *reply,
                        bson_error_t *error)
{
    bson_t *parsed = bson_new_from_json(data, -1, NULL);

    bson_concat(reply, parsed);
    bson_destroy(parsed);
    return true;
}

static void an_answer_that_says_too_little_is_no_success(void **state)
{
    static const char *const answers[] = {
        "{\"ok\": 1, \"n\": 1, \"writeConcernError\": {\"code\": 64, \"errmsg\": \"timed out\"}}",
        "{\"ok\": 1}", "{\"ok\": 1, \"n\": 1, \"writeErrors\": [{\"index\": 5, \"code\": 1}]}",
        "{\"ok\": 1, \"n\": 1, \"writeErrors\": 1}"};

    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        bson_t *document = BCON_NEW("_id", BCON_INT32(1));
        const int32_t id = 1;
        tow_error_t error;
        bench_t bench;

        begin(&bench, TOW_WRITE_UPDATE);
        double_impatient(bench.server);
        double_hook(bench.server, answer_with, (void *)(uintptr_t)answers[i]);
        tow_write_replace(&bench.write, (tow_value_t){BSON_TYPE_INT32, 4, (const uint8_t *)&id},
                          document, NULL);
        assert_false(
            tow_write_send(&bench.write, bench.conn, refused, &bench, &bench.matched, &error));
        bson_destroy(document);
        end(&bench);
    }
}

static void an_insert_that_does_not_count_every_document_is_no_success(void **state)
{
    bson_t *document = BCON_NEW("_id", BCON_INT32(1)), reply;
    const bson_t *documents[] = {document};
    tow_error_t error;
    bench_t bench;

    begin(&bench, TOW_WRITE_INSERT);
    double_impatient(bench.server);
    double_hook(bench.server, answer_with, (void *)(uintptr_t) "{\"ok\": 1, \"n\": 0}");
    assert_false(tow_conn_insert(bench.conn, "d", "a", documents, 1, false, &reply, &error));
    bson_destroy(&reply);
    bson_destroy(document);
    end(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replacements_insert_what_is_not_there),
        cmocka_unit_test(a_literal_replaces_only_what_is_there),
        cmocka_unit_test(deletes_are_of_one_document_each),
        cmocka_unit_test(inserts_bypass_validation_and_are_numbered),
        cmocka_unit_test(what_is_sent_again_has_its_number),
        cmocka_unit_test(what_was_sent_twice_is_ended_before_it_is_believed),
        cmocka_unit_test(an_empty_message_is_not_sent),
        cmocka_unit_test(a_message_is_full_by_number_or_by_bytes),
        cmocka_unit_test(each_refusal_finds_its_statement),
        cmocka_unit_test(a_message_that_fails_as_a_whole_is_sent_one_by_one),
        cmocka_unit_test(what_an_update_cannot_write_is_known),
        cmocka_unit_test(an_answer_that_says_too_little_is_no_success),
        cmocka_unit_test(an_insert_that_does_not_count_every_document_is_no_success),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
