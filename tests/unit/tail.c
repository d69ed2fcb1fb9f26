/* SPDX-License-Identifier: Apache-2.0 */
/* The tail between a scripted stream and the ledger: nothing that it read is passed by the floor
 * before it is settled, and a broken stream goes on after the last position read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <mongoc/mongoc.h>

#include "double.h"
#include "engine/base/clock.h"
#include "oplog/record.h"
#include "oplog/tail.h"

enum { SAID_MOST = 8, OPENED_MOST = 4, WAIT_MS = 10000 };

/* One reply to a getMore of the stream. */
typedef struct {
    int64_t token;   /* opaque, of the end of the batch */
    uint32_t events; /* inserts of _id 1, 2, … at operation time - 1 */
    uint32_t time;   /* operationTime */
    int code;        /* an error instead */
} said_t;

typedef struct {
    char folder[64];
    tow_stop_t *stop;
    double_server_t *source;
    tow_filter_t *filter;
    tow_ledger_t *ledger;
    tow_spool_t *spool;
    tow_tail_t *tail;
    said_t script[SAID_MOST];
    atomic_uint next, length;
    int64_t resumed[OPENED_MOST]; /* tokens after which the stream was opened; 0: none */
    bool projected[OPENED_MOST];
    atomic_uint opened, asked; /* streams, getMores */
    atomic_bool endless;       /* what is not scripted is `always`, at once */
    said_t always;
    atomic_uint lost;
    unsigned
        opened_at[2]; /* streams when the loss was told, before and after the new one was opened */
    atomic_uint told_losses;
} bench_t;

static void append_event(bson_t *batch, uint32_t number, const said_t *said)
{
    char room[16];
    const char *key;
    bson_t event, child;

    bson_uint32_to_string(number, &key, room, sizeof room);
    bson_append_document_begin(batch, key, -1, &event);
    bson_append_document_begin(&event, "_id", -1, &child);
    bson_append_int64(&child, "_data", -1, said->token);
    bson_append_document_end(&event, &child);
    bson_append_utf8(&event, "operationType", -1, "insert", -1);
    bson_append_timestamp(&event, "clusterTime", -1, 0, said->time - 1);
    BCON_APPEND(&event, "ns", "{", "db", "d", "coll", "a", "}", "documentKey", "{", "_id",
                BCON_INT32((int32_t)number + 1), "}");
    bson_append_document_end(batch, &event);
}

static void say(const said_t *said, bson_t *reply)
{
    bson_t cursor, child;

    bson_append_document_begin(reply, "cursor", -1, &cursor);
    bson_append_int64(&cursor, "id", -1, 77);
    bson_append_array_begin(&cursor, "nextBatch", -1, &child);
    for (uint32_t i = 0; i < said->events; i++)
        append_event(&child, i, said);
    bson_append_array_end(&cursor, &child);
    bson_append_document_begin(&cursor, "postBatchResumeToken", -1, &child);
    bson_append_int64(&child, "_data", -1, said->token);
    bson_append_document_end(&cursor, &child);
    bson_append_document_end(reply, &cursor);
    bson_append_timestamp(reply, "operationTime", -1, 0, said->time);
    bson_append_double(reply, "ok", -1, 1);
}

static void open_stream(bench_t *bench, const bson_t *command, bson_t *reply)
{
    uint32_t number = atomic_load(&bench->opened);
    bson_iter_t iter, token;

    assert_true(number < OPENED_MOST || atomic_load(&bench->endless));
    if (number >= OPENED_MOST)
        number = OPENED_MOST - 1;
    if (bson_iter_init(&iter, command) &&
        bson_iter_find_descendant(&iter, "pipeline.0.$changeStream.resumeAfter._data", &token))
        bench->resumed[number] = bson_iter_int64(&token);
    bench->projected[number] = bson_iter_init(&iter, command) &&
                               bson_iter_find_descendant(&iter, "pipeline.2.$project", &token);
    BCON_APPEND(reply, "cursor", "{", "id", BCON_INT64(77), "firstBatch", "[", "]",
                "postBatchResumeToken", "{", "_data", BCON_INT64(1), "}", "}", "ok",
                BCON_DOUBLE(1));
    bson_append_timestamp(reply, "operationTime", -1, 0, 5);
    atomic_fetch_add(&bench->opened, 1); /* now the test may look */
}

/* What is not scripted is waited for. */
static bool serve(void *data, const char *database, const bson_t *command, bson_t *reply,
                  bson_error_t *error)
{
    bench_t *bench = data;
    const said_t *said;

    if (bson_has_field(command, "aggregate")) {
        open_stream(bench, command, reply);
        return true;
    }
    if (!bson_has_field(command, "getMore"))
        return false;
    atomic_fetch_add(&bench->asked, 1);
    while (atomic_load(&bench->next) == atomic_load(&bench->length) &&
           !atomic_load(&bench->endless))
        if (tow_stop_wait(bench->stop, 1)) {
            bson_set_error(error, MONGOC_ERROR_STREAM, MONGOC_ERROR_STREAM_SOCKET, "closed");
            return true;
        }
    said = atomic_load(&bench->endless) ? &bench->always
                                        : &bench->script[atomic_fetch_add(&bench->next, 1)];
    if (said->code)
        bson_set_error(error, MONGOC_ERROR_SERVER, (uint32_t)said->code, "scripted");
    else
        say(said, reply);
    return true;
}

static void script(bench_t *bench, said_t said)
{
    uint32_t length = atomic_load(&bench->length);

    assert_true(length < SAID_MOST);
    bench->script[length] = said;
    atomic_store(&bench->length, length + 1);
}

static bool lose(void *data, bool opened, tow_error_t *error)
{
    bench_t *bench = data;

    atomic_fetch_add(&bench->lost, opened);
    bench->opened_at[opened] = atomic_load(&bench->opened);
    atomic_fetch_add(&bench->told_losses, 1);
    return true;
}

static bench_t *begin(void)
{
    bench_t *bench = tow_alloc(sizeof *bench);
    tow_tail_options_t options;
    tow_error_t error;
    bson_t token;
    tow_optime_t time;

    strcpy(bench->folder, "/tmp/towline-tail-XXXXXX");
    assert_non_null(mkdtemp(bench->folder));
    bench->stop = tow_stop_new();
    bench->source = double_new("source", true);
    double_stop(bench->source, bench->stop);
    double_hook(bench->source, serve, bench);
    bench->filter = tow_filter_new();
    bench->ledger = tow_ledger_new(bench->stop, 1 << 20);
    bench->spool = tow_spool_open(bench->folder, "job", "id", &error);
    options = (tow_tail_options_t){.source = double_link(bench->source),
                                   .filter = bench->filter,
                                   .ledger = bench->ledger,
                                   .spool = bench->spool,
                                   .stop = bench->stop,
                                   .retry_window_ms = 5000,
                                   .lost = lose,
                                   .data = bench};
    bench->tail = tow_tail_new(&options);
    assert_true(tow_tail_open(bench->tail, NULL, 0, &token, &time, &error));
    tow_ledger_begin(bench->ledger, &token, time);
    bson_destroy(&token);
    assert_true(tow_tail_start(bench->tail, &error));
    return bench;
}

static void end(bench_t *bench)
{
    char command[128];

    tow_stop_request(bench->stop, NULL);
    tow_tail_destroy(bench->tail);
    tow_spool_close(bench->spool);
    tow_ledger_destroy(bench->ledger);
    tow_filter_destroy(bench->filter);
    double_free(bench->source);
    tow_stop_destroy(bench->stop);
    snprintf(command, sizeof command, "rm -rf %s", bench->folder);
    assert_int_equal(system(command), 0);
    free(bench);
}

static int64_t token_of(const bson_t *token)
{
    bson_iter_t iter;

    return bson_iter_init_find(&iter, token, "_data") ? bson_iter_as_int64(&iter) : 0;
}

static int64_t floor_token(bench_t *bench)
{
    tow_floor_t floor;
    int64_t token;

    tow_ledger_floor(bench->ledger, &floor);
    token = token_of(&floor.token);
    bson_destroy(&floor.token);
    return token;
}

static void wait_events(bench_t *bench, uint32_t count)
{
    int64_t until_ms = tow_now_ms() + WAIT_MS;

    while (tow_tail_events(bench->tail) < count && tow_now_ms() < until_ms)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    assert_int_equal(tow_tail_events(bench->tail), count);
}

static void wait_count(atomic_uint *counter, uint32_t count)
{
    int64_t until_ms = tow_now_ms() + WAIT_MS;

    while (atomic_load(counter) < count && tow_now_ms() < until_ms)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    assert_int_equal(*counter, count);
}

static void an_idle_token_comes_after_the_events_read_before(void **state)
{
    bench_t *bench = begin();
    tow_block_t *block;

    script(bench, (said_t){.token = 10, .events = 2, .time = 10});
    script(bench, (said_t){.token = 20, .time = 20});
    script(bench, (said_t){.token = 30, .time = 30});
    block = tow_ledger_take(bench->ledger, WAIT_MS);
    assert_int_equal(block->events, 2);
    assert_false(block->direct);
    assert_int_equal(token_of(&block->token), 10);
    assert_int_equal(floor_token(bench), 1);
    tow_ledger_dispatched(bench->ledger, block);
    assert_int_equal(floor_token(bench), 1);
    tow_ledger_settle(bench->ledger, block, 2);
    while ((block = tow_ledger_take(bench->ledger, 300)))
        tow_ledger_dispatched(bench->ledger, block);
    assert_int_equal(floor_token(bench), 30);
    /* The last reply says 30, and a request sent after it was known could bring no more. */
    assert_int_equal(tow_ledger_floor_time(bench->ledger), 20);
    end(bench);
}

static void keys_are_recorded_with_what_the_gate_needs(void **state)
{
    bench_t *bench = begin();
    size_t position = 0;
    tow_record_t record;
    tow_block_t *block;
    bson_t previous;
    tow_optime_t time;
    bool broken;

    script(bench, (said_t){.token = 10, .events = 1, .time = 10});
    script(bench, (said_t){.token = 20, .time = 20});
    block = tow_ledger_take(bench->ledger, WAIT_MS);
    assert_true(block->spooled);
    assert_true(tow_spool_bytes(bench->spool) > 0);
    assert_true(tow_record_previous(&block->records, &previous, &time));
    assert_int_equal(token_of(&previous), 1);
    assert_true(tow_record_next(&block->records, &position, &record, &broken));
    assert_int_equal(record.kind, TOW_RECORD_INSERT);
    assert_int_equal(record.time, 9);
    assert_string_equal(record.database, "d");
    assert_string_equal(record.collection, "a");
    assert_false(tow_record_next(&block->records, &position, &record, &broken));
    end(bench);
}

static void a_broken_stream_goes_on_after_what_was_read(void **state)
{
    bench_t *bench = begin();
    tow_block_t *block;

    script(bench, (said_t){.token = 10, .events = 1, .time = 10});
    script(bench, (said_t){.code = 43 /* CursorNotFound */});
    script(bench, (said_t){.token = 20, .time = 20});
    wait_count(&bench->opened, 2);
    assert_int_equal(bench->resumed[0], 0);
    assert_int_equal(bench->resumed[1], 10);
    block = tow_ledger_take(bench->ledger, WAIT_MS);
    assert_int_equal(block->events, 1); /* kept, and not told again */
    end(bench);
}

static void direct_mode_keeps_whole_events(void **state)
{
    bench_t *bench = begin();
    tow_block_t *block;

    assert_true(bench->projected[0]);
    wait_count(&bench->asked, 1);
    tow_tail_wish_direct(bench->tail, true);
    script(bench, (said_t){.token = 10, .events = 1, .time = 10});
    wait_count(&bench->opened, 2);
    assert_int_equal(bench->resumed[1], 10);
    assert_false(bench->projected[1]);
    script(bench, (said_t){.token = 20, .events = 3, .time = 20});
    block = tow_ledger_take(bench->ledger, WAIT_MS);
    assert_false(block->direct);
    block = tow_ledger_take(bench->ledger, WAIT_MS);
    assert_true(block->direct);
    assert_int_equal(block->events, 3);
    assert_int_equal(token_of(&block->token), 20);
    assert_int_equal(tow_tail_events(bench->tail), 4);
    end(bench);
}

/* That the position is lost is remembered before the new stream's is known, and what was read
 * before comes before it. */
static void a_lost_position_is_told_before_a_new_stream_goes_on(void **state)
{
    bench_t *bench = begin();
    tow_block_t *block;

    script(bench, (said_t){.token = 10, .events = 1, .time = 4});
    script(bench, (said_t){.code = 286 /* ChangeStreamHistoryLost */});
    wait_count(&bench->told_losses, 2);
    assert_int_equal(bench->opened, 2);
    assert_int_equal(bench->resumed[1], 0);
    assert_int_equal(bench->opened_at[false], 1);
    assert_int_equal(bench->opened_at[true], 2);
    block = tow_ledger_take(bench->ledger, WAIT_MS);
    assert_int_equal(block->events, 1);
    assert_int_equal(token_of(&block->token), 10);
    tow_ledger_dispatched(bench->ledger, block);
    tow_ledger_settle(bench->ledger, block, 1);
    block = tow_ledger_take(bench->ledger, WAIT_MS);
    assert_int_equal(block->events, 0);
    assert_int_equal(token_of(&block->token), 1); /* the new stream's */
    end(bench);
}

/* What direct mode asks for is too large, and what refetch mode asks for is not: for a while keys
 * are read. */
static void an_event_that_is_too_large_is_read_as_a_key(void **state)
{
    bench_t *bench = begin();

    wait_count(&bench->asked, 1);
    tow_tail_wish_direct(bench->tail, true);
    script(bench, (said_t){.token = 10, .events = 1, .time = 10});
    wait_count(&bench->opened, 2);
    assert_false(bench->projected[1]);
    script(bench, (said_t){.code = 10334 /* BSONObjectTooLarge */});
    wait_count(&bench->opened, 3);
    assert_int_equal(bench->resumed[2], 10);
    assert_true(bench->projected[2]);
    assert_false(tow_tail_direct(bench->tail));
    assert_true(tow_tail_close(bench->tail));
    end(bench);
}

/* An opaque token of an empty reply claims a time that its stream may not have come to. */
static void only_events_make_an_opaque_position_certain(void **state)
{
    bench_t *bench = begin();

    script(bench, (said_t){.token = 10, .time = 10});
    script(bench, (said_t){.token = 11, .time = 11});
    wait_count(&bench->asked, 3);
    assert_int_equal(tow_tail_idle_replies(bench->tail), 2);
    assert_int_equal(tow_tail_certain_time(bench->tail), 0);
    script(bench, (said_t){.token = 20, .events = 1, .time = 20});
    wait_events(bench, 1);
    assert_int_equal(tow_tail_certain_time(bench->tail), 19);
    end(bench);
}

static void late_events_are_counted(void **state)
{
    bench_t *bench = begin();

    script(bench, (said_t){.token = 10, .events = 2, .time = 10});
    wait_events(bench, 2);
    tow_tail_count_late(bench->tail, 9);
    assert_int_equal(tow_tail_late(bench->tail), 0);
    script(bench, (said_t){.token = 20, .events = 2, .time = 20});
    wait_events(bench, 4);
    assert_int_equal(tow_tail_late(bench->tail), 2);
    nanosleep(&(struct timespec){.tv_nsec = 30000000}, NULL);
    script(bench, (said_t){.token = 30, .events = 1, .time = 30});
    wait_events(bench, 5);
    assert_true(tow_tail_late_ms(bench->tail) >= 29); /* between the first and the last */
    tow_tail_count_late(bench->tail, 40);
    assert_int_equal(tow_tail_late_ms(bench->tail), 0);
    tow_tail_count_late(bench->tail, 28);
    assert_int_equal(tow_tail_late(bench->tail), 1); /* at least one was read already */
    end(bench);
}

/* A server that does not hold its empty replies is not asked as fast as it answers. */
static void empty_replies_at_once_are_paced(void **state)
{
    bench_t *bench = begin();

    bench->always = (said_t){.token = 10, .time = 10};
    atomic_store(&bench->endless, true);
    tow_stop_wait(bench->stop, 300);
    assert_in_range(atomic_load(&bench->asked), 2, 70);
    end(bench);
}

/* Each new stream is a write of the job's state and a warning. */
static void positions_lost_in_a_row_are_paced(void **state)
{
    bench_t *bench = begin();

    bench->always = (said_t){.code = 286 /* ChangeStreamHistoryLost */};
    atomic_store(&bench->endless, true);
    tow_stop_wait(bench->stop, 1000);
    assert_in_range(atomic_load(&bench->lost), 2, 25);
    end(bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_idle_token_comes_after_the_events_read_before),
        cmocka_unit_test(keys_are_recorded_with_what_the_gate_needs),
        cmocka_unit_test(a_broken_stream_goes_on_after_what_was_read),
        cmocka_unit_test(direct_mode_keeps_whole_events),
        cmocka_unit_test(a_lost_position_is_told_before_a_new_stream_goes_on),
        cmocka_unit_test(an_event_that_is_too_large_is_read_as_a_key),
        cmocka_unit_test(only_events_make_an_opaque_position_certain),
        cmocka_unit_test(late_events_are_counted),
        cmocka_unit_test(empty_replies_at_once_are_paced),
        cmocka_unit_test(positions_lost_in_a_row_are_paced),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
