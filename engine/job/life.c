/* life.c: the phase of a job, and whether its end is decided. */
#include <stdlib.h>

#include "engine/base/clock.h"
#include "engine/job/internal.h"

tow_phase_t tow_job_phase(tow_job_t *job)
{
    tow_phase_t phase;

    pthread_mutex_lock(&job->lock);
    phase = job->phase;
    pthread_mutex_unlock(&job->lock);
    return phase;
}

void tow_job_move(tow_job_t *job, tow_phase_t phase)
{
    int64_t now = tow_now_ms();
    tow_phase_t old;
    bool stopped;

    pthread_mutex_lock(&job->lock);
    old = job->phase;
    stopped = phase == TOW_PHASE_FAILED && job->error.code == TOW_ERROR_INTERRUPTED;
    if (!tow_phase_may_move(old, phase))
        abort(); /* a bug of ours: the table is the truth */
    job->phase_seconds[old] += (double)(now - job->phase_since_ms) / 1000;
    job->phase_since_ms = now;
    job->phase = phase;
    pthread_cond_broadcast(&job->changed);
    pthread_mutex_unlock(&job->lock);
    if (old != phase)
        tow_emit(&job->sides.sink, TOW_LEVEL_INFO, "phase", "%s",
                 stopped ? "stopped, resumable" : tow_phase_name(phase));
}

bool tow_job_is_over(const tow_job_t *job)
{
    return job->closed || job->expired || tow_stop_requested(job->sides.stop) ||
           tow_phase_is_final(job->phase);
}

const char *tow_job_state_name(const tow_job_t *job)
{
    return tow_job_is_over(job) && !tow_phase_is_final(job->phase) ? "about to end"
                                                                   : tow_phase_name(job->phase);
}
