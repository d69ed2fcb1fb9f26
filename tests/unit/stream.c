/* SPDX-License-Identifier: Apache-2.0 */
/* The change stream's protocol with the replies of a real 4.4 (shared/recordings/streams.jsonl and
 * cluster.jsonl): where it is opened, where it goes on after an error, and what an error means. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <mongoc/mongoc.h>

#include "double.h"
#include "oplog/stream.h"

enum { SAID_MOST = 6 };

#define FIRST "826B08DF910000000D2B0229296E04"
#define INSERT                                                                                     \
    "826B08DF92000000012B022C0100296E5A1004B4AB5EF857054BA2A88984477D781AA5461E5F6964002B020004"
#define OPENED                                                                                     \
    "{\"cursor\": {\"firstBatch\": [], \"postBatchResumeToken\": {\"_data\": \"" FIRST             \
    "\"}, \"id\": {\"$numberLong\": \"1282446608620744900\"}, \"ns\": \"admin.$cmd.aggregate\"}, " \
    "\"ok\": 1.0, \"operationTime\": {\"$timestamp\": {\"t\": 1795743633, \"i\": 8}}}"
#define EMPTY                                                                                      \
    "{\"cursor\": {\"nextBatch\": [], \"postBatchResumeToken\": {\"_data\": \"" FIRST              \
    "\"}, \"id\": {\"$numberLong\": \"1282446608620744900\"}, \"ns\": \"admin.$cmd.aggregate\"}, " \
    "\"ok\": 1.0, \"operationTime\": {\"$timestamp\": {\"t\": 1795743633, \"i\": 12}}}"
#define EVENT(more)                                                                                \
    "{\"cursor\": {\"nextBatch\": [{\"_id\": {\"_data\": \"" INSERT                                \
    "\"}, \"operationType\": \"insert\", \"clusterTime\": {\"$timestamp\": {\"t\": 1795743634, "   \
    "\"i\": 1}}, \"ns\": {\"db\": \"s\", \"coll\": \"c\"}, \"documentKey\": {\"_id\": 1}}]" more   \
    ", \"id\": {\"$numberLong\": \"1282446608620744900\"}, \"ns\": \"admin.$cmd.aggregate\"}, "    \
    "\"ok\": 1.0, \"operationTime\": {\"$timestamp\": {\"t\": 1795743634, \"i\": 1}}}"

typedef struct {
    const char *reply; /* JSON */
    int code;          /* that of an error, 0: none */
    bool cut;          /* the connection broke instead */
} said_t;

typedef struct {
    double_server_t *server;
    tow_filter_t *filter;
    tow_stream_t *stream;
    said_t script[SAID_MOST];
    unsigned next;
    bson_t asked; /* the last command */
} bench_t;

static const char *const fields[] = {"operationType", "documentKey", NULL};

static bool serve(void *data, const char *database, const bson_t *command, bson_t *reply,
                  bson_error_t *error)
{
    bench_t *bench = data;
    const said_t *said = &bench->script[bench->next++];
    bson_error_t broken;
    bson_t *parsed;

    assert_string_equal(database, "admin");
    assert_true(bench->next <= SAID_MOST && said->reply);
    bson_reinit(&bench->asked);
    bson_concat(&bench->asked, command);
    if (said->cut) {
        bson_set_error(error, MONGOC_ERROR_STREAM, MONGOC_ERROR_STREAM_SOCKET, "closed");
        return true;
    }
    parsed = bson_new_from_json((const uint8_t *)said->reply, -1, &broken);
    if (!parsed)
        fail_msg("%s", broken.message);
    bson_concat(reply, parsed);
    bson_destroy(parsed);
    if (said->code)
        bson_set_error(error, MONGOC_ERROR_SERVER, (uint32_t)said->code, "said");
    return true;
}

static void begin(bench_t *bench, const said_t *script, unsigned length)
{
    *bench = (bench_t){.server = double_new("source", false), .filter = tow_filter_new()};
    memcpy(bench->script, script, length * sizeof *script);
    bson_init(&bench->asked);
    double_hook(bench->server, serve, bench);
    bench->stream = tow_stream_new(&(tow_stream_options_t){
        .link = double_link(bench->server), .filter = bench->filter, .expanded = true});
}

static void end(bench_t *bench)
{
    tow_stream_destroy(bench->stream);
    tow_filter_destroy(bench->filter);
    bson_destroy(&bench->asked);
    double_free(bench->server);
}

/* The text at a path of the last command; "": none. */
static const char *asked(const bench_t *bench, const char *path)
{
    bson_iter_t iter, found;

    if (!bson_iter_init(&iter, &bench->asked) || !bson_iter_find_descendant(&iter, path, &found))
        return "";
    return BSON_ITER_HOLDS_UTF8(&found) ? bson_iter_utf8(&found, NULL) : "there";
}

static const char *token_of(const bench_t *bench)
{
    bson_iter_t iter;

    return bson_iter_init_find(&iter, tow_stream_token(bench->stream), "_data")
               ? bson_iter_utf8(&iter, NULL)
               : "";
}

static void open_ok(bench_t *bench, tow_stream_start_t start, const char *const *wanted)
{
    tow_error_t error;

    if (!tow_stream_open(bench->stream, start, wanted, 0, &error))
        fail_msg("%s", error.message);
    assert_true(tow_stream_is_open(bench->stream));
}

/* Reads a batch to its end; the count of its events, -1: *error. */
static int read_batch(bench_t *bench, bool take, tow_error_t *error)
{
    tow_stream_batch_t batch;
    tow_event_t parts;
    bson_t reply, event;
    int count = -1;

    if (tow_stream_next(bench->stream, 100, 7, &reply, &batch, error)) {
        while (tow_stream_event(&batch, &event, &parts))
            assert_string_equal(parts.collection, "c");
        count = (int)batch.count;
        if (take)
            tow_stream_take(bench->stream, &batch);
    }
    bson_destroy(&reply);
    return count;
}

static void a_stream_from_now_begins_at_its_first_token(void **state)
{
    static const said_t script[] = {{OPENED}};
    bench_t bench;

    begin(&bench, script, 1);
    open_ok(&bench, TOW_STREAM_NOW, fields);
    assert_string_equal(asked(&bench, "pipeline.0.$changeStream.allChangesForCluster"), "there");
    assert_string_equal(asked(&bench, "pipeline.0.$changeStream.showExpandedEvents"), "there");
    assert_string_equal(asked(&bench, "pipeline.0.$changeStream.resumeAfter"), "");
    assert_string_equal(asked(&bench, "pipeline.2.$project.documentKey"), "there");
    assert_string_equal(token_of(&bench), FIRST);
    assert_int_equal(tow_stream_time(bench.stream), TOW_OPTIME(1795743633, 13));
    end(&bench);
}

/* The token that comes with the aggregate is no delivery: whether the server still has the position
 * shows later. */
static void a_stream_that_goes_on_keeps_its_position(void **state)
{
    static const said_t script[] = {{OPENED}};
    bson_t *token = BCON_NEW("_data", INSERT);
    bench_t bench;

    begin(&bench, script, 1);
    tow_stream_move(bench.stream, token, TOW_OPTIME(1795743634, 1));
    open_ok(&bench, TOW_STREAM_AFTER, NULL);
    assert_string_equal(asked(&bench, "pipeline.0.$changeStream.resumeAfter._data"), INSERT);
    assert_string_equal(asked(&bench, "pipeline.2"), "");
    assert_string_equal(token_of(&bench), INSERT);
    bson_destroy(token);
    end(&bench);
}

static void an_opaque_first_token_has_the_time_known_before(void **state)
{
    static const said_t script[] = {
        {"{\"cursor\": {\"firstBatch\": [], \"postBatchResumeToken\": {\"_data\": 1}, \"id\": 5}, "
         "\"ok\": 1.0, \"operationTime\": {\"$timestamp\": {\"t\": 90, \"i\": 1}}}"}};
    bench_t bench;

    begin(&bench, script, 1);
    tow_link_note_time(double_link(bench.server), TOW_OPTIME(80, 2));
    open_ok(&bench, TOW_STREAM_NOW, fields);
    assert_int_equal(tow_stream_time(bench.stream), TOW_OPTIME(80, 2));
    end(&bench);
}

static void what_cannot_be_gone_on_from_is_not_open(void **state)
{
    static const said_t script[] = {
        {"{\"cursor\": {\"firstBatch\": [], \"id\": 5}, \"ok\": 1.0}"}, /* no token: before 4.2 */
        {"{\"cursor\": {\"firstBatch\": [], \"id\": 0, "
         "\"postBatchResumeToken\": {\"_data\": \"" FIRST "\"}}, \"ok\": 1.0}"}};
    tow_error_t error;
    bench_t bench;

    begin(&bench, script, 2);
    assert_false(tow_stream_open(bench.stream, TOW_STREAM_NOW, fields, 0, &error));
    assert_int_equal(tow_stream_judge(bench.stream, &error), TOW_STREAM_FAILED);
    assert_false(tow_stream_is_open(bench.stream));
    assert_false(tow_stream_open(bench.stream, TOW_STREAM_NOW, fields, 0, &error));
    assert_int_equal(tow_stream_judge(bench.stream, &error), TOW_STREAM_AGAIN);
    assert_false(tow_stream_is_open(bench.stream));
    end(&bench);
}

static void a_batch_moves_the_position_when_it_is_taken(void **state)
{
    static const said_t script[] = {
        {OPENED}, {EMPTY}, {EVENT(", \"postBatchResumeToken\": {\"_data\": \"" INSERT "\"}")}};
    tow_error_t error;
    bench_t bench;

    begin(&bench, script, 3);
    open_ok(&bench, TOW_STREAM_NOW, fields);
    assert_int_equal(read_batch(&bench, true, &error), 0);
    assert_string_equal(asked(&bench, "maxTimeMS"), "there");
    assert_string_equal(token_of(&bench), FIRST);
    assert_int_equal(read_batch(&bench, true, &error), 1);
    assert_string_equal(token_of(&bench), INSERT);
    assert_int_equal(tow_stream_time(bench.stream), TOW_OPTIME(1795743634, 1));
    end(&bench);
}

static void without_a_token_of_the_batch_its_last_event_is_the_position(void **state)
{
    static const said_t script[] = {{OPENED}, {EVENT("")}};
    tow_error_t error;
    bench_t bench;

    begin(&bench, script, 2);
    open_ok(&bench, TOW_STREAM_NOW, fields);
    assert_int_equal(read_batch(&bench, true, &error), 1);
    assert_string_equal(token_of(&bench), INSERT);
    end(&bench);
}

/* What is older than the position comes from a server that lags, and takes nothing back. */
static void the_time_of_a_position_never_goes_back(void **state)
{
    static const said_t script[] = {{OPENED}, {EVENT("")}, {EMPTY}};
    tow_error_t error;
    tow_optime_t time;
    bench_t bench;

    begin(&bench, script, 3);
    open_ok(&bench, TOW_STREAM_NOW, fields);
    assert_int_equal(read_batch(&bench, true, &error), 1);
    time = tow_stream_time(bench.stream);
    assert_int_equal(read_batch(&bench, true, &error), 0);
    assert_string_equal(token_of(&bench), FIRST);
    assert_true(tow_stream_time(bench.stream) == time);
    end(&bench);
}

/* An opaque token of an empty batch says no more than what was known before the question. */
static void an_opaque_token_of_an_empty_batch_promises_nothing_new(void **state)
{
    static const said_t script[] = {
        {OPENED},
        {"{\"cursor\": {\"nextBatch\": [], \"postBatchResumeToken\": {\"_data\": 2}, \"id\": 5}, "
         "\"ok\": 1.0, \"operationTime\": {\"$timestamp\": {\"t\": 1795743700, \"i\": 1}}}"}};
    tow_stream_batch_t batch;
    tow_error_t error;
    bench_t bench;
    bson_t reply;

    begin(&bench, script, 2);
    open_ok(&bench, TOW_STREAM_NOW, fields);
    tow_link_note_time(double_link(bench.server), TOW_OPTIME(1795743650, 1));
    assert_true(tow_stream_next(bench.stream, 100, 7, &reply, &batch, &error));
    assert_true(tow_stream_is_opaque(&batch));
    tow_stream_take(bench.stream, &batch);
    assert_int_equal(tow_stream_time(bench.stream), TOW_OPTIME(1795743650, 1));
    bson_destroy(&reply);
    end(&bench);
}

/* Nor does that of an event: there the event says its time. */
static void an_opaque_token_of_events_has_the_time_of_the_newest(void **state)
{
    static const said_t script[] = {{OPENED},
                                    {EVENT(", \"postBatchResumeToken\": {\"_data\": \"opaque\"}")}};
    tow_error_t error;
    bench_t bench;

    begin(&bench, script, 2);
    open_ok(&bench, TOW_STREAM_NOW, fields);
    assert_int_equal(read_batch(&bench, true, &error), 1);
    assert_int_equal(tow_stream_time(bench.stream), TOW_OPTIME(1795743634, 1));
    end(&bench);
}

static void a_stream_goes_on_after_what_was_taken(void **state)
{
    static const said_t script[] = {
        {OPENED},
        {EVENT("")},
        {EVENT(", \"postBatchResumeToken\": {\"_data\": \"" INSERT "\"}")},
        {.reply = "", .cut = true},
        {OPENED}};
    bson_t *later = BCON_NEW("_data", "82FF");
    tow_error_t error;
    bench_t bench;

    begin(&bench, script, 5);
    open_ok(&bench, TOW_STREAM_NOW, fields);
    assert_int_equal(read_batch(&bench, true, &error), 1);
    tow_stream_move(bench.stream, later, 0); /* as if the second were another event */
    assert_int_equal(read_batch(&bench, false, &error), 1);
    assert_int_equal(read_batch(&bench, true, &error), -1);
    assert_int_equal(tow_stream_judge(bench.stream, &error), TOW_STREAM_AGAIN);
    assert_false(tow_stream_is_open(bench.stream));
    open_ok(&bench, TOW_STREAM_AFTER, fields);
    assert_string_equal(asked(&bench, "pipeline.0.$changeStream.resumeAfter._data"), "82FF");
    assert_int_equal(tow_stream_time(bench.stream), TOW_OPTIME(1795743634, 1));
    bson_destroy(later);
    end(&bench);
}

/* Of a reply that cannot be read as a whole nothing is given: it is read again. */
static void a_reply_that_cannot_be_read_is_an_error(void **state)
{
    static const char *const replies[] = {
        "{\"cursor\": {\"id\": 5}, \"ok\": 1.0}",
        "{\"cursor\": {\"nextBatch\": [], \"postBatchResumeToken\": {\"_data\": \"" INSERT
        "\"}}, \"ok\": 1.0}",
        "{\"cursor\": {\"nextBatch\": [], \"id\": 5}, \"ok\": 1.0}",
        "{\"cursor\": {\"nextBatch\": [{\"_id\": {\"_data\": \"82\"}}], \"id\": 5}, \"ok\": 1.0}"};

    for (size_t i = 0; i < sizeof replies / sizeof *replies; i++) {
        const said_t script[] = {{OPENED}, {replies[i]}};
        tow_error_t error;
        bench_t bench;

        begin(&bench, script, 2);
        open_ok(&bench, TOW_STREAM_NOW, fields);
        assert_int_equal(read_batch(&bench, true, &error), -1);
        assert_int_equal(tow_stream_judge(bench.stream, &error), TOW_STREAM_AGAIN);
        assert_false(tow_stream_is_open(bench.stream));
        assert_string_equal(token_of(&bench), FIRST);
        end(&bench);
    }
}

static void errors_are_judged(void **state)
{
#define NOT_RESUMABLE "{\"errorLabels\": [\"NonResumableChangeStreamError\"], \"ok\": 0.0}"
    static const struct {
        int code;
        const char *reply;
        bool whole;
        tow_stream_verdict_t verdict;
    } rows[] = {
        {43, "{\"ok\": 0.0}", true, TOW_STREAM_AGAIN}, /* CursorNotFound */
        {6, "{\"errorLabels\": [\"ResumableChangeStreamError\"], \"ok\": 0.0}", true,
         TOW_STREAM_AGAIN},
        {9876, "{\"errorLabels\": [\"ResumableChangeStreamError\"], \"ok\": 0.0}", false,
         TOW_STREAM_AGAIN},
        {9876, "{\"ok\": 0.0}", false, TOW_STREAM_FAILED},
        {10334, "{\"ok\": 0.0}", true, TOW_STREAM_TOO_LARGE},
        {10334, "{\"ok\": 0.0}", false, TOW_STREAM_LOST},
        {286, NOT_RESUMABLE, false, TOW_STREAM_LOST},
        {280, NOT_RESUMABLE, true, TOW_STREAM_LOST},
        {326, "{\"ok\": 0.0}", true, TOW_STREAM_LOST},
        {136, "{\"ok\": 0.0}", true, TOW_STREAM_LOST},
        {260, "{\"ok\": 0.0}", true, TOW_STREAM_LOST},
        {50795, "{\"ok\": 0.0}", true, TOW_STREAM_FAILED}, /* a token of another version */
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const said_t script[] = {{OPENED}, {rows[i].reply, rows[i].code}};
        tow_error_t error;
        bench_t bench;

        begin(&bench, script, 2);
        open_ok(&bench, TOW_STREAM_NOW, rows[i].whole ? NULL : fields);
        assert_int_equal(read_batch(&bench, true, &error), -1);
        if (tow_stream_judge(bench.stream, &error) != rows[i].verdict)
            fail_msg("%d is judged as %d", rows[i].code, tow_stream_judge(bench.stream, &error));
        end(&bench);
    }
}

static void a_stream_that_the_server_ended_is_not_open(void **state)
{
    static const said_t script[] = {
        {OPENED},
        {"{\"cursor\": {\"nextBatch\": [], \"postBatchResumeToken\": {\"_data\": \"" FIRST
         "\"}, \"id\": 0}, \"ok\": 1.0}"}};
    tow_error_t error;
    bench_t bench;

    begin(&bench, script, 2);
    open_ok(&bench, TOW_STREAM_NOW, fields);
    assert_int_equal(read_batch(&bench, true, &error), 0);
    assert_false(tow_stream_is_open(bench.stream));
    tow_stream_close(bench.stream); /* sends nothing */
    assert_int_equal(bench.next, 2);
    end(&bench);
}

static void closing_ends_the_cursor_on_the_server(void **state)
{
    static const said_t script[] = {{OPENED}, {"{\"ok\": 1.0}"}};
    bench_t bench;

    begin(&bench, script, 2);
    open_ok(&bench, TOW_STREAM_NOW, fields);
    tow_stream_close(bench.stream);
    assert_string_equal(asked(&bench, "killCursors"), "$cmd.aggregate");
    assert_false(tow_stream_is_open(bench.stream));
    end(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_from_now_begins_at_its_first_token),
        cmocka_unit_test(a_stream_that_goes_on_keeps_its_position),
        cmocka_unit_test(an_opaque_first_token_has_the_time_known_before),
        cmocka_unit_test(what_cannot_be_gone_on_from_is_not_open),
        cmocka_unit_test(a_batch_moves_the_position_when_it_is_taken),
        cmocka_unit_test(without_a_token_of_the_batch_its_last_event_is_the_position),
        cmocka_unit_test(the_time_of_a_position_never_goes_back),
        cmocka_unit_test(an_opaque_token_of_an_empty_batch_promises_nothing_new),
        cmocka_unit_test(an_opaque_token_of_events_has_the_time_of_the_newest),
        cmocka_unit_test(a_stream_goes_on_after_what_was_taken),
        cmocka_unit_test(a_reply_that_cannot_be_read_is_an_error),
        cmocka_unit_test(errors_are_judged),
        cmocka_unit_test(a_stream_that_the_server_ended_is_not_open),
        cmocka_unit_test(closing_ends_the_cursor_on_the_server),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
