/* SPDX-License-Identifier: Apache-2.0 */
/* classify.c: what may be done after each error, its words, what a write's reply says, and that
 * waits between two attempts end in time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/clock.h"
#include "engine/link/internal.h"

static tow_error_t classify(uint32_t domain, uint32_t number, const char *message,
                            const char *label)
{
    bson_error_t driver = {.domain = domain, .code = number};
    bson_t reply = BSON_INITIALIZER, labels;
    tow_error_t error;

    snprintf(driver.message, sizeof driver.message, "%s", message);
    if (label) {
        BSON_APPEND_ARRAY_BEGIN(&reply, "errorLabels", &labels);
        BSON_APPEND_UTF8(&labels, "0", "SomethingElse");
        BSON_APPEND_UTF8(&labels, "1", label);
        bson_append_array_end(&reply, &labels);
    }
    /* What an earlier error left must not show through. */
    memset(&error, 0x5a, sizeof error);
    tow_classify(&driver, &reply, "source", &error);
    bson_destroy(&reply);
    return error;
}

static tow_error_t server_error(int number)
{
    return classify(MONGOC_ERROR_SERVER, (uint32_t)number, "words of the server", NULL);
}

static void expect_class(int number, tow_retry_t retry)
{
    tow_error_t error = server_error(number);

    assert_int_equal(error.code, TOW_ERROR_SERVER);
    assert_int_equal(error.server_code, number);
    if (error.retry != retry)
        fail_msg("error %d is of class %d, expected %d", number, error.retry, retry);
    assert_string_equal(error.message, "source: words of the server");
}

static void test_server_errors(void **state)
{
    static const int reconnect[] = {6,     7,     89,    91,    189,   262,   317,  9001,
                                    10107, 11600, 11602, 13435, 13436, 17405, 91331};
    static const int same[] = {24,    43,  50,  63,  64,  112,   117,     133,   134,
                               217,   150, 175, 234, 237, 246,   251,     285,   365,
                               11601, 433, 449, 358, 202, 12586, 12587,   13388, 211,
                               355,   412, 453, 471, 485, 488,   10045600};
    static const int never[] = {1, 2, 9, 20, 26, 48, 59, 66, 67, 85, 86, 121, 10334, 40415, 51173};

    for (size_t i = 0; i < sizeof reconnect / sizeof *reconnect; i++)
        expect_class(reconnect[i], TOW_RETRY_RECONNECT);
    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        expect_class(same[i], TOW_RETRY_SAME);
    for (size_t i = 0; i < sizeof never / sizeof *never; i++)
        expect_class(never[i], TOW_RETRY_NEVER);
    expect_class(11000, TOW_RETRY_REFETCH);
}

static void test_lost_history_is_for_good(void **state)
{
    static const int lost[] = {286, 136, 280, 260, 326};

    for (size_t i = 0; i < sizeof lost / sizeof *lost; i++) {
        /* Not even a server's label makes it worth another try. */
        tow_error_t error =
            classify(MONGOC_ERROR_SERVER, (uint32_t)lost[i], "gone", "RetryableWriteError");

        assert_int_equal(error.code, TOW_ERROR_HISTORY_LOST);
        assert_int_equal(error.retry, TOW_RETRY_NEVER);
        assert_true(tow_error_history_lost(&error));
        assert_false(tow_error_stream_resumable(&error, NULL));
    }
}

static void test_labels(void **state)
{
    assert_int_equal(classify(MONGOC_ERROR_SERVER, 4711, "new", NULL).retry, TOW_RETRY_NEVER);
    assert_int_equal(classify(MONGOC_ERROR_SERVER, 4711, "new", "RetryableWriteError").retry,
                     TOW_RETRY_RECONNECT);
    assert_int_equal(classify(MONGOC_ERROR_SERVER, 4711, "new", "TransientTransactionError").retry,
                     TOW_RETRY_SAME);
    assert_int_equal(classify(MONGOC_ERROR_SERVER, 4711, "new", "RetryableError").retry,
                     TOW_RETRY_SAME);
    /* The table is more exact than a label. */
    assert_int_equal(classify(MONGOC_ERROR_SERVER, 50, "slow", "RetryableWriteError").retry,
                     TOW_RETRY_SAME);
}

static void expect_unreachable(const tow_error_t *error, tow_retry_t retry, const char *hint)
{
    assert_int_equal(error->code, TOW_ERROR_UNREACHABLE);
    assert_int_equal(error->retry, retry);
    assert_non_null(strstr(error->message, "source"));
    if (!strstr(error->message, hint))
        fail_msg("\"%s\" does not say \"%s\"", error->message, hint);
}

static void test_connections(void **state)
{
    tow_error_t error;

    error = classify(MONGOC_ERROR_STREAM, MONGOC_ERROR_STREAM_SOCKET,
                     "Failed to read 4 bytes: socket error or timeout", NULL);
    expect_unreachable(&error, TOW_RETRY_RECONNECT, "check that it runs");
    error = classify(MONGOC_ERROR_SERVER_SELECTION, MONGOC_ERROR_SERVER_SELECTION_FAILURE,
                     "No suitable servers found: `serverSelectionTimeoutMS` expired: [Failed to "
                     "resolve 'nowhere']",
                     NULL);
    expect_unreachable(&error, TOW_RETRY_RECONNECT, "check the host name");
    error = classify(MONGOC_ERROR_SERVER_SELECTION, MONGOC_ERROR_SERVER_SELECTION_FAILURE,
                     "No suitable servers found: [TLS handshake failed: certificate verify failed]",
                     NULL);
    expect_unreachable(&error, TOW_RETRY_RECONNECT, "tlsCAFile");
    error = classify(MONGOC_ERROR_PROTOCOL, MONGOC_ERROR_PROTOCOL_INVALID_REPLY, "garbage", NULL);
    expect_unreachable(&error, TOW_RETRY_RECONNECT, "garbage");
}

static void test_logins(void **state)
{
    tow_error_t error;

    error = classify(MONGOC_ERROR_CLIENT, MONGOC_ERROR_CLIENT_AUTHENTICATE,
                     "Authentication failed.", NULL);
    expect_unreachable(&error, TOW_RETRY_NEVER, "check user, password and authSource");
    error = classify(MONGOC_ERROR_SCRAM, MONGOC_ERROR_SCRAM_PROTOCOL_ERROR, "SCRAM Failure", NULL);
    expect_unreachable(&error, TOW_RETRY_NEVER, "check user, password and authSource");
    error = server_error(18);
    expect_unreachable(&error, TOW_RETRY_NEVER, "check user, password and authSource");
    error = server_error(13);
    expect_unreachable(&error, TOW_RETRY_NEVER, "a privilege is missing");
    assert_int_equal(error.server_code, 13);
    /* A server that goes away while the driver logs in has not refused the login. */
    error = classify(MONGOC_ERROR_CLIENT, MONGOC_ERROR_CLIENT_AUTHENTICATE,
                     "Failed to send \"saslStart\" command with database \"admin\": Failed to read "
                     "4 bytes: socket error or timeout",
                     NULL);
    expect_unreachable(&error, TOW_RETRY_RECONNECT, "cannot be reached");
}

static void test_requests_that_the_driver_refuses(void **state)
{
    tow_error_t error = classify(MONGOC_ERROR_BSON, MONGOC_ERROR_BSON_INVALID,
                                 "Document 0 is too large for the cluster", NULL);

    assert_int_equal(error.retry, TOW_RETRY_NEVER);
    assert_int_equal(error.code, TOW_ERROR_INTERNAL);
    error =
        classify(MONGOC_ERROR_PROTOCOL, MONGOC_ERROR_PROTOCOL_BAD_WIRE_VERSION, "too old", NULL);
    assert_int_equal(error.retry, TOW_RETRY_NEVER);
    assert_int_equal(error.code, TOW_ERROR_UNSUITABLE);
}

static void test_streams(void **state)
{
    static const int resumable[] = {6,   7,   43,   63,    89,    91,    133,   150,   189,
                                    234, 262, 9001, 10107, 11600, 11602, 13388, 13435, 13436};
    bson_t reply = BSON_INITIALIZER, labels;
    tow_error_t error;

    for (size_t i = 0; i < sizeof resumable / sizeof *resumable; i++) {
        error = server_error(resumable[i]);
        assert_true(tow_error_stream_resumable(&error, NULL));
        assert_false(tow_error_history_lost(&error));
    }
    error = classify(MONGOC_ERROR_STREAM, MONGOC_ERROR_STREAM_SOCKET, "cut", NULL);
    assert_true(tow_error_stream_resumable(&error, NULL));
    error = server_error(10334); /* an event over 16 MB fails again at every resume */
    assert_false(tow_error_stream_resumable(&error, NULL));
    error = server_error(4711);
    assert_false(tow_error_stream_resumable(&error, &reply));
    BSON_APPEND_ARRAY_BEGIN(&reply, "errorLabels", &labels);
    BSON_APPEND_UTF8(&labels, "0", "ResumableChangeStreamError");
    bson_append_array_end(&reply, &labels);
    assert_true(tow_error_stream_resumable(&error, &reply));
    error = server_error(286);
    assert_false(tow_error_stream_resumable(&error, &reply));
    bson_destroy(&reply);
}

/* Replies ---------------------------------------------------------------------------------------*/

/* What a mongos says of statements when it does not reach their shard fails the command; what is
 * said of documents does not. */
static void test_passing_write_errors(void **state)
{
    bson_t *about_documents = bson_new_from_json(
        (const uint8_t
             *)"{\"ok\": 1, \"writeErrors\": [{\"index\": 0, \"code\": 11000, \"errmsg\": \"d\"}, "
               "{\"index\": 1, \"code\": 121, \"errmsg\": \"v\"}]}",
        -1, NULL);
    bson_t *about_shards = bson_new_from_json(
        (const uint8_t
             *)"{\"ok\": 1, \"writeErrors\": [{\"index\": 0, \"code\": 11000, \"errmsg\": \"d\"}, "
               "{\"index\": 1, \"code\": 189, \"errmsg\": \"no primary\"}]}",
        -1, NULL);
    tow_error_t error;

    assert_non_null(about_documents);
    assert_non_null(about_shards);
    assert_false(tow_fail_passing("destination", about_documents, &error));
    assert_true(tow_fail_passing("destination", about_shards, &error));
    assert_int_equal(error.code, TOW_ERROR_SERVER);
    assert_int_equal(error.server_code, 189);
    assert_int_equal(error.retry, TOW_RETRY_RECONNECT);
    assert_string_equal(error.message, "destination: no primary");
    bson_destroy(about_documents);
    bson_destroy(about_shards);
}

static void test_write_errors(void **state)
{
    bson_error_t ignored;
    bson_t *reply = bson_new_from_json(
        (const uint8_t *)"{\"ok\": 1, \"n\": 1, \"writeErrors\": ["
                         "{\"index\": 3, \"code\": 11000, \"errmsg\": \"dup\", \"keyPattern\": "
                         "{\"a\": 1}, \"keyValue\": {\"a\": 7}},"
                         "{\"index\": {\"$numberLong\": \"5\"}, \"code\": 121.0}]}",
        -1, &ignored);
    tow_write_error_t refusal;
    bson_iter_t field;
    uint32_t position = 0;

    assert_true(tow_reply_write_error(reply, &position, &refusal));
    assert_int_equal(refusal.index, 3);
    assert_int_equal(refusal.code, 11000);
    assert_string_equal(refusal.message, "dup");
    assert_true(refusal.has_key_value);
    assert_true(bson_iter_recurse(&refusal.key_value, &field) && bson_iter_find(&field, "a"));
    assert_int_equal(bson_iter_as_int64(&field), 7);
    assert_true(tow_reply_write_error(reply, &position, &refusal));
    assert_int_equal(refusal.index, 5);
    assert_int_equal(refusal.code, 121);
    assert_string_equal(refusal.message, "");
    assert_false(refusal.has_key_value);
    assert_false(tow_reply_write_error(reply, &position, &refusal));
    bson_destroy(reply);
}

static void test_reply_time(void **state)
{
    bson_t reply = BSON_INITIALIZER;

    assert_true(tow_reply_time(&reply) == 0);
    BSON_APPEND_TIMESTAMP(&reply, "operationTime", 1700000000, 9);
    assert_true(tow_reply_time(&reply) == TOW_OPTIME(1700000000, 9));
    bson_destroy(&reply);
}

static tow_error_t write_concern_error(int number)
{
    tow_link_t link = {.side = "destination"};
    bson_t reply = BSON_INITIALIZER, part;
    tow_error_t error;
    bson_iter_t iter;

    BSON_APPEND_DOCUMENT_BEGIN(&reply, "writeConcernError", &part);
    BSON_APPEND_INT32(&part, "code", number);
    BSON_APPEND_UTF8(&part, "errmsg", "waiting for replication timed out");
    bson_append_document_end(&reply, &part);
    assert_true(bson_iter_init_find(&iter, &reply, "writeConcernError"));
    assert_false(tow_fail_write_concern(&link, &iter, &error));
    bson_destroy(&reply);
    return error;
}

static void test_write_concern(void **state)
{
    /* Written, but perhaps rolled back later: only sending it again makes it sure. */
    assert_int_equal(write_concern_error(64).retry, TOW_RETRY_RECONNECT);
    assert_int_equal(write_concern_error(91).retry, TOW_RETRY_RECONNECT);
    assert_int_equal(write_concern_error(100).retry, TOW_RETRY_NEVER);
    assert_int_equal(write_concern_error(64).server_code, 64);
    assert_non_null(strstr(write_concern_error(64).message, "timed out"));
}

/* Waiting ---------------------------------------------------------------------------------------*/

typedef struct {
    unsigned warnings;
} heard_t;

static void hear(void *data, tow_level_t level, const char *name, const char *message)
{
    heard_t *heard = data;

    assert_int_equal(level, TOW_LEVEL_WARNING);
    assert_string_equal(name, "retry");
    heard->warnings++;
}

static tow_link_t make_link(tow_stop_t *stop, heard_t *heard)
{
    return (tow_link_t){.side = "source",
                        .options = {.side = "source", .stop = stop, .sink = {hear, heard}},
                        .lock = PTHREAD_MUTEX_INITIALIZER,
                        .warned_ms = INT64_MIN / 2};
}

static void test_retrying_shows_and_counts(void **state)
{
    heard_t heard = {0};
    tow_link_t link = make_link(NULL, &heard);
    tow_retrying_t first = tow_retrying_begin(&link, 60000);
    tow_retrying_t second = tow_retrying_begin(&link, 60000);
    tow_error_t error = server_error(10107);
    char text[192];

    assert_true(tow_retrying_wait(&first, &error));
    assert_true(tow_retrying_wait(&first, &error));
    assert_true(tow_retrying_wait(&second, &error));
    assert_int_equal(tow_link_retries(&link), 3);
    assert_int_equal(heard.warnings, 1); /* not more than one a second */
    tow_retrying_end(&first);
    tow_link_retrying(&link, text, sizeof text);
    assert_string_equal(text, error.message); /* the other still waits */
    tow_retrying_end(&second);
    tow_link_retrying(&link, text, sizeof text);
    assert_string_equal(text, "");
}

static void test_retrying_ends(void **state)
{
    heard_t heard = {0};
    tow_stop_t *stop = tow_stop_new();
    tow_link_t link = make_link(stop, &heard);
    tow_retrying_t retrying = tow_retrying_begin(&link, 60000);
    tow_error_t error = server_error(2), cause = error;
    int64_t began_ms;

    assert_false(tow_retrying_wait(&retrying, &error)); /* not of a class that is tried again */
    assert_string_equal(error.message, cause.message);
    assert_int_equal(heard.warnings, 0);
    tow_retrying_end(&retrying);

    retrying = tow_retrying_begin(&link, 0); /* the window is over: the failure itself is told */
    error = server_error(10107);
    assert_false(tow_retrying_wait(&retrying, &error));
    assert_int_equal(error.server_code, 10107);
    tow_retrying_end(&retrying);
    assert_int_equal(tow_link_retries(&link), 0);

    tow_stop_request(stop, NULL);
    retrying = tow_retrying_begin(&link, 60000);
    retrying.attempt = 6; /* a wait of up to 3 seconds, but for the stop */
    error = server_error(10107);
    began_ms = tow_now_ms();
    assert_false(tow_retrying_wait(&retrying, &error));
    assert_true(tow_now_ms() - began_ms < 1000);
    assert_int_equal(error.code, TOW_ERROR_INTERRUPTED);
    tow_stop_destroy(stop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_server_errors),
        cmocka_unit_test(test_lost_history_is_for_good),
        cmocka_unit_test(test_labels),
        cmocka_unit_test(test_connections),
        cmocka_unit_test(test_logins),
        cmocka_unit_test(test_requests_that_the_driver_refuses),
        cmocka_unit_test(test_streams),
        cmocka_unit_test(test_write_errors),
        cmocka_unit_test(test_passing_write_errors),
        cmocka_unit_test(test_reply_time),
        cmocka_unit_test(test_write_concern),
        cmocka_unit_test(test_retrying_shows_and_counts),
        cmocka_unit_test(test_retrying_ends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
