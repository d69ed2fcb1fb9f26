/* SPDX-License-Identifier: Apache-2.0 */
/* life.c: the phase of a job, and whether its end is decided. */
#include <stdlib.h>

#include "engine/base/clock.h"
#include "engine/job/internal.h"

tow_phase_t tow_job_phase(tow_job_t *job)
{
    tow_phase_t phase;

    pthread_mutex_lock(&job->control.lock);
    phase = job->control.phase;
    pthread_mutex_unlock(&job->control.lock);
    return phase;
}

void tow_job_move(tow_job_t *job, tow_phase_t phase)
{
    int64_t now = tow_now_ms();
    tow_phase_t old;
    bool stopped;

    pthread_mutex_lock(&job->control.lock);
    old = job->control.phase;
    stopped = phase == TOW_PHASE_FAILED && job->outcome.error.code == TOW_ERROR_INTERRUPTED;
    if (!tow_phase_may_move(old, phase))
        abort(); /* a bug of ours: the table is the truth */
    job->control.phase_seconds[old] += (double)(now - job->control.phase_since_ms) / 1000;
    job->control.phase_since_ms = now;
    job->control.phase = phase;
    pthread_cond_broadcast(&job->control.changed);
    pthread_mutex_unlock(&job->control.lock);
    if (old != phase)
        tow_emit(&job->sides.sink, TOW_LEVEL_INFO, "phase", "%s",
                 stopped ? "stopped, resumable" : tow_phase_name(phase));
}

bool tow_job_is_over(const tow_job_t *job)
{
    return job->control.closed || job->control.expired || tow_stop_requested(job->sides.stop) ||
           tow_phase_is_final(job->control.phase);
}

const char *tow_job_state_name(const tow_job_t *job)
{
    return tow_job_is_over(job) && !tow_phase_is_final(job->control.phase)
               ? "about to end"
               : tow_phase_name(job->control.phase);
}
