/* SPDX-License-Identifier: Apache-2.0 */
/* flow.c: when everything that the source had is on the destination. */
#include "engine/base/clock.h"
#include "engine/job/internal.h"

enum { SETTLE_MS = 20 };

void tow_flow_init(tow_flow_t *flow)
{
    flow->lag_ms = -1;
    flow->oplog_headroom = -1;
}

static bool is_called_off(tow_job_t *job)
{
    bool called_off;

    pthread_mutex_lock(&job->control.lock);
    called_off = job->control.phase == TOW_PHASE_FINALIZING && !job->control.cutover_wished;
    pthread_mutex_unlock(&job->control.lock);
    return called_off;
}

bool tow_job_interrupted(tow_job_t *job)
{
    return tow_stop_requested(job->sides.stop) || is_called_off(job);
}

bool tow_job_stopped(tow_job_t *job, tow_error_t *error)
{
    if (tow_stop_error(job->sides.stop, error))
        return false;
    if (!tow_stop_requested(job->sides.stop) && is_called_off(job))
        return tow_fail(error, TOW_ERROR_CALLED_OFF,
                        "it was asked for; the job goes on as before the cutover");
    return tow_fail(error, TOW_ERROR_INTERRUPTED, "stopped");
}

bool tow_job_source_time(tow_job_t *job, tow_optime_t *out, tow_error_t *error)
{
    tow_conn_t *source = tow_conn_open(job->sides.source);
    bool ok = tow_link_barrier_time(source, out, error);

    tow_conn_close(source);
    return ok;
}

/* A floor beyond `time` says that nothing up to it is still on its way, if that floor is no guess.
 * A replica set that is not written to has nothing later: there two empty replies say the same,
 * since a mongod answers so only at the end of its oplog. A mongos answers so whenever its time is
 * over. */
static bool is_settled(tow_job_t *job, tow_optime_t time, uint64_t idle)
{
    bool passed = tow_ledger_floor_time(job->flow.ledger) > time &&
                  tow_tail_certain_time(job->flow.tail) > time;
    bool reached = !tow_link_facts(job->sides.source)->sharded &&
                   tow_ledger_floor_time(job->flow.ledger) >= time &&
                   tow_tail_idle_replies(job->flow.tail) >= idle + 2;

    return (passed || reached) && tow_copy_finished(job->flow.copy) &&
           (passed || tow_replay_settled(job->flow.replay));
}

bool tow_job_wait_settled(tow_job_t *job, tow_optime_t time, bool (*ended)(tow_job_t *))
{
    uint64_t idle = tow_tail_idle_replies(job->flow.tail);
    bool settled = false;

    atomic_fetch_add(&job->flow.settling, 1);
    while (!ended(job) && !(settled = is_settled(job, time, idle)))
        tow_ledger_wait_floor(job->flow.ledger, time + 1, SETTLE_MS);
    atomic_fetch_sub(&job->flow.settling, 1);
    return settled;
}

bool tow_job_settle_until(tow_job_t *job, bool (*ended)(tow_job_t *), tow_error_t *error)
{
    tow_optime_t now;

    if (!tow_job_source_time(job, &now, error))
        return false;
    return tow_job_wait_settled(job, now, ended) ||
           tow_fail(error, TOW_ERROR_INTERRUPTED, "the comparison was ended");
}

bool tow_job_drain(tow_job_t *job, tow_error_t *error)
{
    tow_optime_t now;

    if (!tow_job_source_time(job, &now, error))
        return false;
    tow_tail_hurry(job->flow.tail, true);
    pthread_mutex_lock(&job->control.lock);
    job->flow.stop_time = now;
    pthread_mutex_unlock(&job->control.lock);
    return tow_job_wait_settled(job, now, tow_job_interrupted) || tow_job_stopped(job, error);
}

static bool is_copied(tow_job_t *job, bool ranges)
{
    return (!ranges || tow_copy_finished(job->flow.copy)) && tow_copy_indexes_idle(job->flow.copy);
}

bool tow_job_await_copy(tow_job_t *job, bool ranges, tow_error_t *error)
{
    while (!is_copied(job, ranges)) {
        if (tow_job_interrupted(job))
            return tow_job_stopped(job, error);
        pthread_mutex_lock(&job->control.lock);
        tow_condition_wait(&job->control.changed, &job->control.lock, tow_now_ms() + SETTLE_MS);
        pthread_mutex_unlock(&job->control.lock);
    }
    return true;
}
