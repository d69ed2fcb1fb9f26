/* SPDX-License-Identifier: Apache-2.0 */
/* requests.c: what may be asked of a job, and when. What is answered with success is done. */
#include "engine/base/clock.h"
#include "engine/check/validate.h"
#include "engine/job/internal.h"

/* Answers a request that fits only some phases: the lock is held and given up. */
static bool refuse(tow_job_t *job, const char *what, tow_error_t *error)
{
    const char *state = tow_job_state_name(job);

    pthread_mutex_unlock(&job->control.lock);
    return tow_fail(error, TOW_ERROR_STATE, "cannot %s a job that is %s", what, state);
}

static bool accept(tow_job_t *job)
{
    pthread_cond_broadcast(&job->control.changed);
    pthread_mutex_unlock(&job->control.lock);
    return true;
}

bool tow_job_pause(tow_job_t *job, tow_error_t *error)
{
    pthread_mutex_lock(&job->control.lock);
    if (tow_job_is_over(job) || job->control.cutover_wished ||
        (job->control.phase != TOW_PHASE_COPYING && job->control.phase != TOW_PHASE_CATCHING_UP &&
         job->control.phase != TOW_PHASE_IN_SYNC))
        return refuse(job, "pause", error);
    job->control.pause_wished = true;
    return accept(job);
}

bool tow_job_resume(tow_job_t *job, tow_error_t *error)
{
    pthread_mutex_lock(&job->control.lock);
    if (tow_job_is_over(job) || !job->control.pause_wished)
        return refuse(job, "resume", error);
    job->control.pause_wished = false;
    return accept(job);
}

static bool cut_over(tow_job_t *job, bool blocking, tow_error_t *error)
{
    char reason[REASON_SIZE];

    pthread_mutex_lock(&job->control.lock);
    tow_job_measure_lag(job);
    if (tow_job_is_over(job) || job->control.cutover_wished ||
        job->control.phase == TOW_PHASE_FINALIZING)
        return refuse(job, "cut over", error);
    if (job->control.pause_wished || !tow_job_can_commit(job, reason)) {
        pthread_mutex_unlock(&job->control.lock);
        return tow_fail(error, TOW_ERROR_NOT_IN_SYNC,
                        "the cutover is refused: %s; wait until `towline status` says that it can "
                        "be committed",
                        job->control.pause_wished ? "the job is paused" : reason);
    }
    if (blocking && !tow_may_block_writes(job->sides.source, error)) {
        pthread_mutex_unlock(&job->control.lock);
        return false;
    }
    job->control.cutover_wished = true;
    job->control.waits_for_word = false;
    job->control.block_wished = blocking;
    job->control.step = TOW_CUTOVER_CONFIRMED;
    job->control.confirmed_ms = tow_now_ms();
    job->control.confirmed_wall_ms = tow_wall_ms();
    job->control.late_writes = 0;
    return accept(job);
}

bool tow_job_cutover(tow_job_t *job, tow_error_t *error)
{
    return cut_over(job, job->config.block_writes, error);
}

bool tow_job_cutover_blocking(tow_job_t *job, tow_error_t *error)
{
    return cut_over(job, true, error);
}

bool tow_job_call_off(tow_job_t *job, tow_error_t *error)
{
    pthread_mutex_lock(&job->control.lock);
    if (tow_job_is_over(job))
        return refuse(job, "call off the cutover of", error);
    if (job->control.committed ||
        (!job->control.cutover_wished && job->control.phase != TOW_PHASE_FINALIZING)) {
        const char *state = tow_job_state_name(job);
        bool committed = job->control.committed;

        pthread_mutex_unlock(&job->control.lock);
        return committed
                   ? tow_fail(error, TOW_ERROR_STATE,
                              "the cutover has passed its point of no return: everything is on the "
                              "destination, and the job is about to end")
                   : tow_fail(error, TOW_ERROR_STATE,
                              "there is no cutover to call off: the job is %s", state);
    }
    job->control.cutover_wished = false;
    job->control.waits_for_word = true;
    return accept(job);
}

bool tow_job_cancel(tow_job_t *job, tow_error_t *error)
{
    pthread_mutex_lock(&job->control.lock);
    if (!job->control.started || tow_phase_is_final(job->control.phase))
        return refuse(job, "cancel", error);
    if (job->control.closed) {
        pthread_mutex_unlock(&job->control.lock);
        return tow_fail(error, TOW_ERROR_STATE, "cannot cancel a job that is about to end");
    }
    job->control.cancelled = true;
    pthread_mutex_unlock(&job->control.lock);
    tow_stop_request(job->sides.stop, NULL);
    return true;
}

void tow_job_stop(tow_job_t *job)
{
    tow_stop_request(job->sides.stop, NULL);
}
