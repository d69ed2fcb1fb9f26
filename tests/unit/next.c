/* SPDX-License-Identifier: Apache-2.0 */
/* What is said to be done next: true of every state, and each verb that is named exists. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine/job/next.h"

static const struct {
    tow_next_facts_t facts;
    const char *says;
} rows[] = {
    {{.phase = TOW_PHASE_COPYING}, "in sync"},
    {{.phase = TOW_PHASE_CATCHING_UP, .by_itself = true}, "by itself"},
    {{.phase = TOW_PHASE_IN_SYNC}, "until the cutover is possible"},
    {{.phase = TOW_PHASE_IN_SYNC, .can_commit = true},
     "stop the writes to the source, then: towline cutover --wait"},
    {{.phase = TOW_PHASE_IN_SYNC, .can_commit = true, .called_off = true},
     "stop the writes to the source, then"},
    {{.phase = TOW_PHASE_IN_SYNC, .can_commit = true, .called_off = true, .late_writes = true},
     "find what still"},
    {{.phase = TOW_PHASE_IN_SYNC, .can_commit = true, .wished = true}, "about to begin"},
    {{.phase = TOW_PHASE_IN_SYNC, .can_commit = true, .by_itself = true}, "nothing"},
    {{.phase = TOW_PHASE_IN_SYNC, .can_commit = true, .by_itself = true, .called_off = true},
     "stop the writes"},
    {{.phase = TOW_PHASE_IN_SYNC, .silent = true}, "does not answer"},
    {{.phase = TOW_PHASE_FINALIZING, .wished = true}, "towline cutover --abort"},
    {{.phase = TOW_PHASE_FINALIZING}, "being called off"},
    {{.phase = TOW_PHASE_FINALIZING, .wished = true, .committed = true}, "about to end"},
    {{.phase = TOW_PHASE_PAUSED}, "towline resume"},
    {{.phase = TOW_PHASE_DONE}, "point the application"},
    {{.phase = TOW_PHASE_FAILED, .exit_status = TOW_ERROR_INTERRUPTED}, "checkpoint"},
    {{.phase = TOW_PHASE_FAILED, .exit_status = TOW_ERROR_VERIFY}, "reason"},
    {{.phase = TOW_PHASE_EXPIRED}, "--extend"},
    {{.phase = TOW_PHASE_CANCELLED}, "new job"},
};

static void each_state_says_what_is_next(void **state)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (!strstr(tow_next_step(&rows[i].facts), rows[i].says))
            fail_msg("row %zu says '%s' instead of '%s'", i, tow_next_step(&rows[i].facts),
                     rows[i].says);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_state_says_what_is_next),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
