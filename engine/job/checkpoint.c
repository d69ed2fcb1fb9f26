/* SPDX-License-Identifier: Apache-2.0 */
/* checkpoint.c: stores the floor about once a second, and with each DDL event. */
#include "engine/base/clock.h"
#include "engine/job/internal.h"

enum { CHECKPOINT_MS = 1000 };

/* Stores the floor; what the spool holds before it is released. The checkpoint lock is held. */
static bool store_floor(tow_job_t *job, tow_error_t *error)
{
    tow_floor_t floor;
    tow_checkpoint_t checkpoint;
    bool ok;

    if (job->journal.state_removed)
        return true;
    tow_ledger_floor(job->flow.ledger, &floor);
    checkpoint.token = floor.token;
    checkpoint.time = floor.time;
    checkpoint.ddl_token = job->journal.ddl_token;
    checkpoint.ddl_time = job->journal.ddl_time;
    ok = tow_job_save_track(job, error) &&
         tow_store_save_checkpoint(job->journal.store, &checkpoint, error);
    if (ok && floor.has_keep)
        tow_spool_release(job->flow.spool, floor.keep);
    bson_destroy(&floor.token);
    if (ok) {
        pthread_mutex_lock(&job->control.lock);
        job->journal.checkpoint_time = floor.time;
        pthread_mutex_unlock(&job->control.lock);
    }
    return ok;
}

bool tow_job_checkpoint(tow_job_t *job, tow_error_t *error)
{
    bool ok;

    pthread_mutex_lock(&job->journal.lock);
    ok = store_floor(job, error);
    pthread_mutex_unlock(&job->journal.lock);
    return ok;
}

void tow_job_restore_ddl(tow_job_t *job, const bson_t *token, tow_optime_t time)
{
    pthread_mutex_lock(&job->journal.lock);
    bson_reinit(&job->journal.ddl_token);
    bson_concat(&job->journal.ddl_token, token);
    job->journal.ddl_time = time;
    pthread_mutex_unlock(&job->journal.lock);
}

bool tow_job_save_ddl(tow_job_t *job, const bson_t *token, tow_optime_t time, tow_error_t *error)
{
    bool ok;

    tow_job_restore_ddl(job, token, time);
    pthread_mutex_lock(&job->journal.lock);
    ok = store_floor(job, error);
    pthread_mutex_unlock(&job->journal.lock);
    return ok;
}

static void *checkpointer(void *data)
{
    tow_job_t *job = data;
    tow_optime_t stored = 0;
    tow_error_t error;

    while (!tow_stop_wait(job->sides.stop, CHECKPOINT_MS)) {
        bool ok = true;

        if (tow_ledger_floor_time(job->flow.ledger) != stored) {
            ok = tow_job_checkpoint(job, &error);
            stored = ok ? tow_ledger_floor_time(job->flow.ledger) : 0;
        }
        ok = ok && tow_job_save_window(job, &error);
        if (ok || tow_stop_requested(job->sides.stop))
            continue;
        if (error.code == TOW_ERROR_LEASE || error.retry == TOW_RETRY_NEVER) {
            tow_stop_request(job->sides.stop, &error);
        } else {
            tow_emit(&job->sides.sink, TOW_LEVEL_WARNING, "checkpoint_failed", "%s", error.message);
        }
    }
    return NULL;
}

bool tow_job_start_checkpointer(tow_job_t *job, tow_error_t *error)
{
    return tow_thread_start(&job->threads.checkpointer, "checkpoint", checkpointer, job, error);
}
