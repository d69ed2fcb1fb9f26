/* The table of phases, and the lag by our own clock. */
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
    assert_int_equal(tow_lag_of(points, TOW_OPTIME(100, 9), true, 12000), 2000); /* stalled: grows */
    assert_int_equal(tow_lag_of(points, TOW_OPTIME(100, 9), true, 15000), 5000);
    assert_int_equal(tow_lag_of(points, TOW_OPTIME(101, 1), true, 11050), 50);
    assert_int_equal(tow_lag_of(points, TOW_OPTIME(101, 1), false, 11050), 0); /* finer than we look */
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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(moves), cmocka_unit_test(lag),
                                       cmocka_unit_test(behind_since_before_we_looked)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
