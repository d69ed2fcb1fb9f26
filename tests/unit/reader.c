/* SPDX-License-Identifier: Apache-2.0 */
/* What a read asks for, and what it says of its time: hi of the as-of interval. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <mongoc/mongoc.h>

#include "double.h"
#include "engine/base/memory.h"
#include "engine/link/catalog.h"
#include "engine/link/internal.h"
#include "engine/link/reader.h"

/* An answer's operationTime may be earlier than the newest that its server has done. */
enum { OPERATION = 10, CLUSTER = 12 };

/* Answers a find with so many documents; with -1 that there is no such collection. */
static bool answer(void *data, const char *database, const bson_t *command, bson_t *reply,
                   bson_error_t *error)
{
    const int *documents = data;
    bson_t part, list;

    if (!bson_has_field(command, "find"))
        return false;
    bson_init(reply);
    if (*documents >= 0) {
        bson_append_document_begin(reply, "cursor", -1, &part);
        bson_append_int64(&part, "id", -1, 0);
        bson_append_utf8(&part, "ns", -1, "d.c", -1);
        bson_append_array_begin(&part, "firstBatch", -1, &list);
        if (*documents)
            BCON_APPEND(&list, "0", "{", "_id", BCON_INT32(1), "}");
        bson_append_array_end(&part, &list);
        bson_append_document_end(reply, &part);
        bson_append_double(reply, "ok", -1, 1);
    } else {
        bson_append_double(reply, "ok", -1, 0);
        bson_append_int32(reply, "code", -1, 26);
        bson_append_utf8(reply, "errmsg", -1, "ns does not exist", -1);
        bson_set_error(error, MONGOC_ERROR_SERVER, 26, "ns does not exist");
    }
    bson_append_timestamp(reply, "operationTime", -1, 0, OPERATION);
    bson_append_document_begin(reply, "$clusterTime", -1, &part);
    bson_append_timestamp(&part, "clusterTime", -1, 0, CLUSTER);
    bson_append_document_end(reply, &part);
    return true;
}

static tow_optime_t read_time(int documents)
{
    double_server_t *server = double_new("source", false);
    tow_read_t what = {.database = "d", .collection = "c"};
    tow_optime_t time = 0;
    tow_reader_t *reader;
    tow_error_t error;
    tow_conn_t *conn;

    double_hook(server, answer, &documents);
    conn = tow_conn_open(double_link(server));
    reader = tow_reader_open(conn, &what, &error);
    assert_non_null(reader);
    time = tow_reader_time(reader);
    tow_reader_close(reader);
    tow_conn_close(conn);
    double_free(server);
    return time;
}

static void documents_are_of_the_operation_time(void **state)
{
    assert_int_equal(read_time(1), OPERATION);
}

/* The collection may have been renamed after its operationTime. */
static void nothing_is_of_the_newest_time(void **state)
{
    assert_int_equal(read_time(0), CLUSTER);
}

static void no_collection_is_of_the_newest_time(void **state)
{
    assert_int_equal(read_time(-1), CLUSTER);
}

/* What a server that knows no end answers: `bytes` in one document each time; 0: none. */
typedef struct {
    size_t bytes;
    unsigned asked;
} endless_t;

static bool go_on(void *data, const char *database, const bson_t *command, bson_t *reply,
                  bson_error_t *error)
{
    endless_t *endless = data;
    bson_t cursor, list, document;

    endless->asked++;
    bson_append_document_begin(reply, "cursor", -1, &cursor);
    bson_append_int64(&cursor, "id", -1, 77);
    bson_append_utf8(&cursor, "ns", -1, "d.c", -1);
    bson_append_array_begin(&cursor, bson_has_field(command, "find") ? "firstBatch" : "nextBatch",
                            -1, &list);
    if (endless->bytes) {
        uint8_t *pad = tow_alloc(endless->bytes);

        bson_append_document_begin(&list, "0", -1, &document);
        bson_append_binary(&document, "_id", -1, BSON_SUBTYPE_BINARY, pad,
                           (uint32_t)endless->bytes);
        bson_append_document_end(&list, &document);
        free(pad);
    }
    bson_append_array_end(&cursor, &list);
    bson_append_document_end(reply, &cursor);
    bson_append_timestamp(reply, "operationTime", -1, 0, OPERATION);
    bson_append_double(reply, "ok", -1, 1);
    return true;
}

/* The number of batches that were read; an error ends a read that has no end. */
static unsigned read_endless(size_t bytes, uint64_t kept_most, unsigned batches_most,
                             bool *out_ended)
{
    double_server_t *server = double_new("source", false);
    tow_read_t what = {.database = "d", .collection = "c", .kept_most = kept_most};
    endless_t endless = {.bytes = bytes};
    bool more = true, ok = true;
    unsigned batches = 1;
    tow_reader_t *reader;
    tow_error_t error;
    tow_conn_t *conn;

    double_hook(server, go_on, &endless);
    conn = tow_conn_open(double_link(server));
    reader = tow_reader_open(conn, &what, &error);
    assert_non_null(reader);
    for (; ok && more && batches < batches_most; batches++)
        ok = tow_reader_next_batch(reader, &more, &error);
    *out_ended = !ok;
    if (!ok) {
        assert_int_equal(error.code, TOW_ERROR_SERVER);
        assert_int_equal(error.retry, TOW_RETRY_NEVER);
        assert_non_null(strstr(error.message, "does not end"));
    }
    tow_reader_close(reader);
    tow_conn_close(conn);
    double_free(server);
    return batches;
}

static void what_is_kept_has_an_end(void **state)
{
    bool ended;

    assert_in_range(read_endless(1 << 20, 8 << 20, 100, &ended), 8, 9);
    assert_true(ended);
    assert_int_equal(read_endless(1 << 20, 0, 100, &ended), 100); /* a large collection */
    assert_false(ended);
}

static void empty_batches_have_an_end(void **state)
{
    bool ended;

    assert_in_range(read_endless(0, 0, 2 * TOW_EMPTY_BATCHES_MOST, &ended), TOW_EMPTY_BATCHES_MOST,
                    TOW_EMPTY_BATCHES_MOST + 2);
    assert_true(ended);
}

/* Bounds ----------------------------------------------------------------------------------------*/

static bool keep_find(void *data, const char *database, const bson_t *command, bson_t *reply,
                      bson_error_t *error)
{
    char *json = bson_as_relaxed_extended_json(command, NULL);

    snprintf(data, 400, "%s", json);
    bson_free(json);
    return answer(&(int){0}, database, command, reply, error);
}

static void expect_find(const bson_value_t *min, const bson_value_t *max, const char *part)
{
    double_server_t *server = double_new("source", false);
    tow_read_t what = {.database = "d", .collection = "c", .min = min, .max = max};
    char command[400] = "";
    tow_error_t error;
    tow_conn_t *conn;

    double_hook(server, keep_find, command);
    conn = tow_conn_open(double_link(server));
    tow_reader_close(tow_reader_open(conn, &what, &error));
    tow_conn_close(conn);
    double_free(server);
    if (!strstr(command, part))
        fail_msg("no %s in %s", part, command);
}

/* Only between two values of one class does a comparison find all that stands between them in the
 * index. */
static void bounds_are_compared_within_one_class_alone(void **state)
{
    const bson_value_t one = {.value_type = BSON_TYPE_INT32, .value.v_int32 = 1},
                       five = {.value_type = BSON_TYPE_INT64, .value.v_int64 = 5},
                       nan = {.value_type = BSON_TYPE_DOUBLE, .value.v_double = NAN},
                       text = {.value_type = BSON_TYPE_UTF8,
                               .value.v_utf8 = {.str = "a", .len = 1}};

    expect_find(&one, &five, "\"filter\" : { \"_id\" : { \"$gte\" : 1, \"$lt\" : 5 } }");
    expect_find(&one, &text, "\"min\" : { \"_id\" : 1 }, \"max\" : { \"_id\" : \"a\" }");
    expect_find(&nan, &five, "\"max\" : { \"_id\" : 5 }");
    expect_find(NULL, &five, "\"max\" : { \"_id\" : 5 }");
    expect_find(&one, NULL, "\"min\" : { \"_id\" : 1 }");
}

/* More than one reply ---------------------------------------------------------------------------*/

/* What the second reply of a read has. */
typedef enum { WHOLE, NO_DOCUMENT, NO_ID, NO_TIME } second_t;

/* The second reply is of an earlier time, or holds what is no document. */
static bool answer_twice(void *data, const char *database, const bson_t *command, bson_t *reply,
                         bson_error_t *error)
{
    second_t second = *(second_t *)data;
    bool first = bson_has_field(command, "find");
    bson_t part, list;

    bson_append_document_begin(reply, "cursor", -1, &part);
    bson_append_int64(&part, "id", -1, first ? 7 : 0);
    bson_append_utf8(&part, "ns", -1, "d.c", -1);
    bson_append_array_begin(&part, first ? "firstBatch" : "nextBatch", -1, &list);
    if (!first && second == NO_DOCUMENT)
        bson_append_int32(&list, "0", -1, 1);
    else if (!first && second == NO_ID)
        BCON_APPEND(&list, "0", "{", "n", BCON_INT32(1), "}");
    else
        BCON_APPEND(&list, "0", "{", "_id", BCON_INT32(1), "}");
    bson_append_array_end(&part, &list);
    bson_append_document_end(reply, &part);
    if (first || second != NO_TIME)
        bson_append_timestamp(reply, "operationTime", -1, 0, first ? OPERATION : OPERATION - 5);
    bson_append_double(reply, "ok", -1, 1);
    return true;
}

static void a_read_of_two_replies(second_t second)
{
    double_server_t *server = double_new("source", false);
    tow_read_t what = {.database = "d", .collection = "c"};
    tow_reader_t *reader;
    bool more = true, ok = true;
    bson_t document;
    tow_error_t error;
    tow_conn_t *conn;

    double_hook(server, answer_twice, &second);
    conn = tow_conn_open(double_link(server));
    reader = tow_reader_open(conn, &what, &error);
    while (ok && more) {
        while (tow_reader_next(reader, &document))
            continue;
        ok = tow_reader_next_batch(reader, &more, &error);
    }
    assert_int_equal(ok, second == WHOLE);
    assert_int_equal(tow_reader_time(reader), OPERATION);
    tow_reader_close(reader);
    tow_conn_close(conn);
    double_free(server);
}

static void the_end_of_a_read_never_goes_back(void **state)
{
    a_read_of_two_replies(WHOLE);
}

static void what_is_no_document_is_not_the_end_of_a_batch(void **state)
{
    a_read_of_two_replies(NO_DOCUMENT);
}

static void a_reply_without_a_time_is_malformed(void **state)
{
    a_read_of_two_replies(NO_TIME);
}

static void a_document_without_an_id_is_not_passed_over(void **state)
{
    a_read_of_two_replies(NO_ID);
}

/* Writes that no change stream shows: entries of applyOps that belong to no transaction. */
static bool hold_entry(void *data, const char *database, const bson_t *command, bson_t *reply,
                       bson_error_t *error)
{
    bson_iter_t iter, lsid;
    int documents = 1;

    assert_string_equal(database, "local");
    assert_true(bson_iter_init(&iter, command));
    assert_true(bson_iter_find_descendant(&iter, "filter.lsid.$exists", &lsid));
    assert_false(bson_iter_bool(&lsid));
    ++*(int *)data;
    return answer(&documents, database, command, reply, error);
}

static bool look(uint32_t major, int *out_asked)
{
    double_server_t *server = double_new("source", false);
    tow_error_t error;
    tow_conn_t *conn;
    bool found;

    *out_asked = 0;
    double_link(server)->facts.major = major;
    double_hook(server, hold_entry, out_asked);
    conn = tow_conn_open(double_link(server));
    assert_true(tow_oplog_unseen(conn, false, 1, 2, &found, &error));
    tow_conn_close(conn);
    double_free(server);
    return found;
}

static void unseen_writes_are_looked_for_where_there_are_any(void **state)
{
    int asked;

    assert_true(look(4, &asked));
    assert_int_equal(asked, 1);
    assert_false(look(6, &asked));
    assert_int_equal(asked, 0);
}

/* The first answers have no index at all, or another one alone. */
static bool list_indexes(void *data, const char *database, const bson_t *command, bson_t *reply,
                         bson_error_t *error)
{
    int *damaged = data;

    if (!bson_has_field(command, "listIndexes") || !*damaged)
        return false;
    if (--*damaged % 2)
        BCON_APPEND(reply, "cursor", "{", "id", BCON_INT64(0), "ns", "d.c", "firstBatch", "[", "]",
                    "}", "ok", BCON_DOUBLE(1));
    else
        BCON_APPEND(reply, "cursor", "{", "id", BCON_INT64(0), "ns", "d.c", "firstBatch", "[", "{",
                    "name", "a_1", "key", "{", "a", BCON_INT32(1), "}", "}", "]", "}", "ok",
                    BCON_DOUBLE(1));
    return true;
}

static void a_listing_without_an_index_on_id_is_read_again(void **state)
{
    for (int always = 0; always < 2; always++) {
        double_server_t *server = double_new("destination", false);
        int damaged = always ? 1000 : 2;
        tow_indexes_t indexes;
        tow_error_t error;
        tow_conn_t *conn;

        double_unique(server, "u");
        double_hook(server, list_indexes, &damaged);
        conn = tow_conn_open(double_link(server));
        assert_int_equal(tow_indexes_read(conn, "d", "c", &indexes, &error), !always);
        if (!always) {
            assert_int_equal(damaged, 0);
            assert_int_equal(indexes.count, 1);
            tow_indexes_clear(&indexes);
        }
        tow_conn_close(conn);
        double_free(server);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(documents_are_of_the_operation_time),
        cmocka_unit_test(nothing_is_of_the_newest_time),
        cmocka_unit_test(no_collection_is_of_the_newest_time),
        cmocka_unit_test(what_is_kept_has_an_end),
        cmocka_unit_test(empty_batches_have_an_end),
        cmocka_unit_test(bounds_are_compared_within_one_class_alone),
        cmocka_unit_test(the_end_of_a_read_never_goes_back),
        cmocka_unit_test(what_is_no_document_is_not_the_end_of_a_batch),
        cmocka_unit_test(a_reply_without_a_time_is_malformed),
        cmocka_unit_test(a_document_without_an_id_is_not_passed_over),
        cmocka_unit_test(unseen_writes_are_looked_for_where_there_are_any),
        cmocka_unit_test(a_listing_without_an_index_on_id_is_read_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
