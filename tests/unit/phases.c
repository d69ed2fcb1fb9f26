/* SPDX-License-Identifier: Apache-2.0 */
/* The table of phases, the lag by our own clock, and how long a cutover still takes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/job/internal.h"

static void moves(void **state)
{
    assert_true(tow_phase_may_move(TOW_PHASE_COPYING, TOW_PHASE_PAUSED));
    assert_true(tow_phase_may_move(TOW_PHASE_IN_SYNC, TOW_PHASE_FINALIZING));
    assert_true(tow_phase_may_move(TOW_PHASE_FINALIZING, TOW_PHASE_CATCHING_UP)); /* called off */
    assert_true(
        tow_phase_may_move(TOW_PHASE_VALIDATING, TOW_PHASE_DONE)); /* done before, by a file */
    assert_true(
        tow_phase_may_move(TOW_PHASE_PREPARING, TOW_PHASE_DONE)); /* and by the job's state */
    assert_false(tow_phase_may_move(TOW_PHASE_COPYING, TOW_PHASE_DONE));
    assert_false(tow_phase_may_move(TOW_PHASE_FINALIZING, TOW_PHASE_IN_SYNC));
    assert_false(tow_phase_may_move(TOW_PHASE_COPYING, TOW_PHASE_FINALIZING));
    assert_false(tow_phase_may_move(TOW_PHASE_PAUSED, TOW_PHASE_FINALIZING));
    for (int i = 0; i <= TOW_PHASE_CANCELLED; i++) {
        assert_true(tow_phase_may_move(i, i));
        assert_false(i != TOW_PHASE_DONE && tow_phase_may_move(TOW_PHASE_DONE, i));
        assert_true(tow_phase_is_final(i) || tow_phase_may_move(i, TOW_PHASE_FAILED));
    }
}

static void lag(void **state)
{
    tow_lag_t *points = tow_alloc(sizeof *points);

    assert_int_equal(tow_lag_of(points, TOW_OPTIME(1, 0), false, 0), -1);
    tow_lag_saw(points, TOW_OPTIME(100, 1), 1000);
    assert_int_equal(tow_lag_of(points, TOW_OPTIME(100, 1), false, 9000), 0); /* idle */
    tow_lag_saw(points, TOW_OPTIME(101, 1), 10000);
    tow_lag_saw(points, TOW_OPTIME(102, 1), 11000);
    assert_int_equal(tow_lag_of(points, TOW_OPTIME(100, 9), true, 12000),
                     2000); /* stalled: grows */
    assert_int_equal(tow_lag_of(points, TOW_OPTIME(100, 9), true, 15000), 5000);
    assert_int_equal(tow_lag_of(points, TOW_OPTIME(101, 1), true, 11050), 50);
    assert_int_equal(tow_lag_of(points, TOW_OPTIME(101, 1), false, 11050),
                     0); /* finer than we look */
    for (uint32_t i = 0; i < 10 * LAG_POINTS; i++)
        tow_lag_saw(points, TOW_OPTIME(200, i + 1), 20000 + i);
    assert_in_range(tow_lag_of(points, TOW_OPTIME(150, 1), true, 70000), 49990, 59000);
    free(points);
}

static void behind_since_before_we_looked(void **state)
{
    tow_lag_t *points = tow_alloc(sizeof *points);

    tow_lag_saw(points, TOW_OPTIME(1000, 1), 50);
    assert_int_equal(tow_lag_of(points, TOW_OPTIME(400, 1), true, 60), 600010);
    free(points);
}

static void estimates(void **state)
{
    assert_true(tow_effort_seconds(0, 0, 0) == 0);   /* nothing is left */
    assert_true(tow_effort_seconds(10, 0, 5) == -1); /* nothing is measured yet */
    assert_true(tow_effort_seconds(10, 5, 0) == -1);
    assert_true(tow_effort_seconds(10, 5, 2) == 4);
    assert_true(tow_effort_seconds(UINT64_C(1) << 40, UINT64_C(1) << 40, 3) == 3);
}

/* A job that replays, builds and compares: each unknown part makes the whole unknown. */
static void estimate_of_a_cutover(void **state)
{
    tow_job_t *job = tow_alloc(sizeof *job);
    tow_progress_t progress = {.events_seen = 1000, .backlog_events = 0};

    job->control.effort.since_ms = 1; /* long ago */
    job->control.effort.kind = TOW_EFFORT_EVENTS;
    assert_true(tow_job_finalize_seconds(job, &progress) == 0); /* nothing is compared */
    progress.backlog_events = 100;
    job->control.effort.settled = 900; /* when it began, so none since */
    assert_true(tow_job_finalize_seconds(job, &progress) == -1);
    job->control.effort.settled = 800;
    assert_true(tow_job_finalize_seconds(job, &progress) > 0);
    progress.indexes_total = 2;
    progress.indexes_built = job->control.effort.indexes = 1;
    assert_true(tow_job_finalize_seconds(job, &progress) == -1);
    progress.indexes_total = 1;
    job->config.verify = true; /* and nothing was compared before */
    assert_true(tow_job_finalize_seconds(job, &progress) == -1);
    job->control.effort.kind = TOW_EFFORT_VERIFY;
    progress.verify_total_documents = 200;
    assert_true(tow_job_finalize_seconds(job, &progress) == -1);
    progress.verified_documents = 150;
    assert_true(tow_job_finalize_seconds(job, &progress) > 0);
    progress.backlog_events = 0;
    progress.verified_documents = 300; /* the total is an estimate */
    assert_true(tow_job_finalize_seconds(job, &progress) == 0);
    free(job);
}

/* What an alert on a stall looks at: standing still keeps the time, whichever of
 * both moved last. */
static void the_last_move_is_of_floor_or_copy(void **state)
{
    tow_moves_t moves = {0};

    tow_moves_saw(&moves, 0, 0, 1000);
    assert_int_equal(moves.wall_ms, 1000); /* from here on it could move */
    tow_moves_saw(&moves, 0, 0, 2000);
    assert_int_equal(moves.wall_ms, 1000);
    tow_moves_saw(&moves, 0, 7, 3000);
    assert_int_equal(moves.wall_ms, 3000);
    tow_moves_saw(&moves, TOW_OPTIME(5, 1), 7, 4000);
    assert_int_equal(moves.wall_ms, 4000);
    tow_moves_saw(&moves, TOW_OPTIME(5, 1), 7, 5000);
    assert_int_equal(moves.wall_ms, 4000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(moves),
                                       cmocka_unit_test(lag),
                                       cmocka_unit_test(behind_since_before_we_looked),
                                       cmocka_unit_test(estimates),
                                       cmocka_unit_test(the_last_move_is_of_floor_or_copy),
                                       cmocka_unit_test(estimate_of_a_cutover)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
