/* The floor passes a block when all before it is settled, and an idle token never passes an unsettled
 * event. */
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

/* Invariant: what is read is in the ledger in order. Whoever breaks it is stopped there and then: by the next
 * checkpoint a block that came too late would be lost. */
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_floor_waits_for_the_oldest),
        cmocka_unit_test(an_idle_token_does_not_overtake),
        cmocka_unit_test(a_held_event_holds_the_floor),
        cmocka_unit_test(what_is_older_than_the_end_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
