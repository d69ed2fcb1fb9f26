/* SPDX-License-Identifier: Apache-2.0 */
/* The floor passes a block when all before it is settled, and an idle token never passes an
 * unsettled event. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "oplog/ledger.h"

static bson_t *token(void)
{
    return BCON_NEW("_data", "t");
}

static tow_block_t *append(tow_ledger_t *ledger, tow_optime_t time, uint32_t events)
{
    tow_block_t *block = tow_alloc(sizeof *block);
    bson_t *position = token();

    block->time = time;
    block->events = events;
    bson_copy_to(position, &block->token);
    bson_destroy(position);
    tow_ledger_append(ledger, block);
    return block;
}

static void idle(tow_ledger_t *ledger, tow_optime_t time)
{
    bson_t *position = token();

    tow_ledger_idle(ledger, position, time);
    bson_destroy(position);
}

static tow_block_t *dispatch(tow_ledger_t *ledger)
{
    tow_block_t *block = tow_ledger_take(ledger, 0);

    assert_non_null(block);
    tow_ledger_dispatched(ledger, block);
    return block;
}

static tow_ledger_t *begin(tow_stop_t **out_stop)
{
    bson_t *position = token();
    tow_ledger_t *ledger;

    *out_stop = tow_stop_new();
    ledger = tow_ledger_new(*out_stop, 1000);
    tow_ledger_begin(ledger, position, 5);
    bson_destroy(position);
    return ledger;
}

static void the_floor_waits_for_the_oldest(void **state)
{
    tow_stop_t *stop;
    tow_ledger_t *ledger = begin(&stop);
    tow_block_t *first = append(ledger, 10, 2), *second = append(ledger, 20, 1);

    assert_int_equal(tow_ledger_backlog(ledger), 3);
    dispatch(ledger);
    dispatch(ledger);
    tow_ledger_settle(ledger, second, 1);
    assert_int_equal(tow_ledger_floor_time(ledger), 5);
    tow_ledger_settle(ledger, first, 1);
    assert_int_equal(tow_ledger_floor_time(ledger), 5);
    tow_ledger_settle(ledger, first, 1);
    assert_int_equal(tow_ledger_floor_time(ledger), 20);
    assert_int_equal(tow_ledger_backlog(ledger), 0);
    tow_ledger_destroy(ledger);
    tow_stop_destroy(stop);
}

static void an_idle_token_does_not_overtake(void **state)
{
    tow_stop_t *stop;
    tow_ledger_t *ledger = begin(&stop);
    tow_block_t *block;

    idle(ledger, 7);
    assert_int_equal(tow_ledger_floor_time(ledger), 7);
    block = append(ledger, 10, 1);
    idle(ledger, 30);
    idle(ledger, 40);
    assert_int_equal(tow_ledger_floor_time(ledger), 7);
    dispatch(ledger);
    dispatch(ledger); /* both idle tokens are one block */
    assert_null(tow_ledger_take(ledger, 0));
    assert_int_equal(tow_ledger_floor_time(ledger), 7);
    tow_ledger_settle(ledger, block, 1);
    assert_int_equal(tow_ledger_floor_time(ledger), 40);
    tow_ledger_destroy(ledger);
    tow_stop_destroy(stop);
}

static void a_held_event_holds_the_floor(void **state)
{
    tow_stop_t *stop;
    tow_ledger_t *ledger = begin(&stop);
    tow_block_t *block = append(ledger, 10, 1);

    assert_ptr_equal(tow_ledger_take(ledger, 0), block);
    tow_ledger_hold(ledger, block);
    tow_ledger_dispatched(ledger, block);
    tow_ledger_settle(ledger, block, 1);
    assert_int_equal(tow_ledger_floor_time(ledger), 5);
    tow_ledger_settle(ledger, block, 1);
    assert_int_equal(tow_ledger_floor_time(ledger), 10);
    tow_ledger_destroy(ledger);
    tow_stop_destroy(stop);
}

/* Invariant: what is read is in the ledger in order. Whoever breaks it is stopped there and then:
 * by the next checkpoint a block that came too late would be lost. */
static void what_is_older_than_the_end_is_refused(void **state)
{
    tow_stop_t *stop;
    tow_ledger_t *ledger = begin(&stop);
    int status;
    pid_t child;

    append(ledger, 10, 1);
    append(ledger, 10, 1); /* of the same time may follow */
    fflush(NULL);
    child = fork();
    if (!child) {
        struct rlimit none = {0};

        setrlimit(RLIMIT_CORE, &none);
        signal(SIGABRT, SIG_DFL);
        append(ledger, 9, 1);
        _exit(0);
    }
    assert_true(waitpid(child, &status, 0) == child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    tow_ledger_destroy(ledger);
    tow_stop_destroy(stop);
}

/* The events of a repair: not of the stream, and yet the floor waits for them. */
static void what_is_inserted_stands_where_the_stream_is(void **state)
{
    tow_stop_t *stop;
    tow_ledger_t *ledger = begin(&stop);
    tow_block_t *first = append(ledger, 10, 1), *repair = tow_alloc(sizeof *repair);
    uint64_t number;

    repair->events = 1;
    number = tow_ledger_insert(ledger, repair);
    assert_int_equal(number, 2);
    assert_int_equal(repair->time, 10);
    dispatch(ledger);
    dispatch(ledger);
    tow_ledger_settle(ledger, repair, 1);
    assert_false(tow_ledger_wait_block(ledger, number, 0));
    tow_ledger_settle(ledger, first, 1);
    assert_true(tow_ledger_wait_block(ledger, number, 0));
    assert_int_equal(tow_ledger_floor_time(ledger), 10);
    repair = tow_alloc(sizeof *repair);
    repair->events = 1;
    tow_ledger_insert(ledger, repair);
    assert_int_equal(repair->time, 10); /* of the floor, where nothing is before it */
    tow_ledger_destroy(ledger);
    tow_stop_destroy(stop);
}

static void a_block_that_is_not_dispatched_holds_the_floor(void **state)
{
    tow_stop_t *stop;
    tow_ledger_t *ledger = begin(&stop);
    tow_block_t *first = append(ledger, 10, 1);

    append(ledger, 20, 0);
    assert_ptr_equal(tow_ledger_take(ledger, 0), first);
    tow_ledger_settle(ledger, first, 1);
    assert_int_equal(tow_ledger_floor_time(ledger), 5);
    tow_ledger_dispatched(ledger, first);
    assert_int_equal(tow_ledger_floor_time(ledger), 10);
    dispatch(ledger);
    assert_int_equal(tow_ledger_floor_time(ledger), 20);
    tow_ledger_destroy(ledger);
    tow_stop_destroy(stop);
}

/* A lane that reads an event's bytes keeps its block although the event is settled. */
static void a_payload_in_use_keeps_its_block(void **state)
{
    tow_stop_t *stop;
    tow_ledger_t *ledger = begin(&stop);
    tow_block_t *block = append(ledger, 10, 1);

    assert_ptr_equal(tow_ledger_take(ledger, 0), block);
    atomic_fetch_add(&block->payload_users, 1);
    tow_ledger_dispatched(ledger, block);
    tow_ledger_settle(ledger, block, 1);
    assert_int_equal(tow_ledger_floor_time(ledger), 5);
    assert_true(block->loaded);
    tow_ledger_payload_done(ledger, block);
    assert_int_equal(tow_ledger_floor_time(ledger), 10);
    tow_ledger_destroy(ledger);
    tow_stop_destroy(stop);
}

static tow_block_t *append_at(tow_ledger_t *ledger, tow_optime_t time, uint32_t segment)
{
    tow_block_t *block = tow_alloc(sizeof *block);
    bson_t *position = token();

    block->time = time;
    block->events = 1;
    block->spooled = true;
    block->place = (tow_spool_place_t){segment, 0};
    bson_copy_to(position, &block->token);
    bson_destroy(position);
    tow_ledger_append(ledger, block);
    return block;
}

static uint32_t kept(tow_ledger_t *ledger)
{
    tow_floor_t floor;

    tow_ledger_floor(ledger, &floor);
    bson_destroy(&floor.token);
    return floor.has_keep ? floor.keep.segment : 0;
}

/* What is before the floor's block is settled; all from there on a restart reads again. */
static void the_spool_is_kept_from_the_oldest_unsettled_block_on(void **state)
{
    tow_stop_t *stop;
    tow_ledger_t *ledger = begin(&stop);
    tow_block_t *blocks[3];

    assert_int_equal(kept(ledger), 0);
    for (uint32_t i = 0; i < 3; i++)
        blocks[i] = append_at(ledger, 10 + i, i + 1);
    assert_int_equal(kept(ledger), 1);
    dispatch(ledger);
    dispatch(ledger);
    assert_int_equal(kept(ledger), 1);
    tow_ledger_settle(ledger, blocks[1], 1);
    assert_int_equal(kept(ledger), 1);
    tow_ledger_settle(ledger, blocks[0], 1);
    assert_int_equal(kept(ledger), 3);
    dispatch(ledger);
    tow_ledger_settle(ledger, blocks[2], 1);
    assert_int_equal(kept(ledger), 3);
    tow_ledger_destroy(ledger);
    tow_stop_destroy(stop);
}

static void the_floor_never_goes_back(void **state)
{
    tow_stop_t *stop;
    tow_ledger_t *ledger = begin(&stop);

    idle(ledger, 50);
    idle(ledger, 40);
    assert_int_equal(tow_ledger_floor_time(ledger), 50);
    assert_true(tow_ledger_wait_floor(ledger, 50, 0));
    assert_false(tow_ledger_wait_floor(ledger, 51, 0));
    tow_ledger_destroy(ledger);
    tow_stop_destroy(stop);
}

/* Whoever waits for a block of its own reads what it wrote. */
static void a_wait_for_a_block_ends_when_it_is_settled(void **state)
{
    tow_stop_t *stop;
    tow_ledger_t *ledger = begin(&stop);
    tow_block_t *first = append(ledger, 10, 1), *own = tow_alloc(sizeof *own);
    uint64_t number;

    own->events = 1;
    number = tow_ledger_insert(ledger, own);
    dispatch(ledger);
    dispatch(ledger);
    tow_ledger_settle(ledger, first, 1);
    assert_false(tow_ledger_wait_block(ledger, number, 0));
    tow_ledger_settle(ledger, own, 1);
    assert_true(tow_ledger_wait_block(ledger, number, 0));
    tow_ledger_destroy(ledger);
    tow_stop_destroy(stop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_floor_waits_for_the_oldest),
        cmocka_unit_test(an_idle_token_does_not_overtake),
        cmocka_unit_test(a_held_event_holds_the_floor),
        cmocka_unit_test(what_is_older_than_the_end_is_refused),
        cmocka_unit_test(what_is_inserted_stands_where_the_stream_is),
        cmocka_unit_test(a_block_that_is_not_dispatched_holds_the_floor),
        cmocka_unit_test(a_payload_in_use_keeps_its_block),
        cmocka_unit_test(the_spool_is_kept_from_the_oldest_unsettled_block_on),
        cmocka_unit_test(the_floor_never_goes_back),
        cmocka_unit_test(a_wait_for_a_block_ends_when_it_is_settled),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
