/* SPDX-License-Identifier: Apache-2.0 */
/* What a probe is told of a job, and that it learns nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/http/readiness.h"

static void says(const tow_progress_t *now, bool ready, const char *text)
{
    bool is_ready;
    char *line = tow_readiness(now, &is_ready);

    assert_string_equal(line, text);
    assert_int_equal(is_ready, ready);
    free(line);
}

static void ready_while_both_sides_answer(void **state)
{
    tow_progress_t now = {.phase = TOW_PHASE_COPYING};

    says(&now, true, "ready: the job is copying\n");
    now.source_silent_ms = 7400;
    says(&now, false, "not ready: the source has not answered for 7 s\n");
    now.destination_silent_ms = 9100;
    says(&now, false, "not ready: the source and the destination have not answered for 9 s\n");
    now.source_silent_ms = 0;
    says(&now, false, "not ready: the destination has not answered for 9 s\n");
    now.phase = TOW_PHASE_DONE; /* neither is asked any more */
    says(&now, true, "ready: the job is done\n");
}

static void not_ready_without_a_job_that_works(void **state)
{
    tow_progress_t now = {.phase = TOW_PHASE_VALIDATING, .reason = "old-1:27017 is away"};

    says(NULL, false, "not ready: no job was started yet\n");
    says(&now, false, "not ready: the job is validating\n");
    now.phase = TOW_PHASE_FAILED;
    says(&now, false, "not ready: the job has ended: failed\n");
    now.phase = TOW_PHASE_EXPIRED;
    says(&now, false, "not ready: the job has ended: expired\n");
    now.phase = TOW_PHASE_CANCELLED;
    says(&now, false, "not ready: the job has ended: cancelled\n");
    now.phase = TOW_PHASE_PAUSED;
    says(&now, true, "ready: the job is paused\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ready_while_both_sides_answer),
        cmocka_unit_test(not_ready_without_a_job_that_works),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
