/* SPDX-License-Identifier: Apache-2.0 */
/* told.c: the job's state goes when its good end was told to whom it concerns, and no sooner: until
 * then the same command finds on the destination that all is done. */
#include "engine/job/internal.h"

static void remove_ended(tow_job_t *job)
{
    tow_error_t error;

    if (!job->outcome.state_waits)
        return;
    if (!tow_job_drop_database(job, &error))
        tow_emit(&job->sides.sink, TOW_LEVEL_WARNING, "state_kept",
                 "the job is done, and its database towline_%s could not be removed: %s",
                 job->config.name, error.message);
    tow_store_destroy(job->journal.store);
    job->journal.store = NULL;
    job->outcome.state_waits = false;
}

void tow_job_await_told(tow_job_t *job)
{
    bool done;

    pthread_mutex_lock(&job->control.lock);
    while (!job->outcome.told)
        pthread_cond_wait(&job->control.changed, &job->control.lock);
    done = job->outcome.ok;
    pthread_mutex_unlock(&job->control.lock);
    if (done) {
        remove_ended(job);
        tow_job_forget_done(job);
    }
    pthread_mutex_lock(&job->control.lock);
    job->outcome.settled = true;
    pthread_cond_broadcast(&job->control.changed);
    pthread_mutex_unlock(&job->control.lock);
}

void tow_job_told(tow_job_t *job)
{
    pthread_mutex_lock(&job->control.lock);
    job->outcome.told = true;
    pthread_cond_broadcast(&job->control.changed);
    pthread_mutex_unlock(&job->control.lock);
}

void tow_job_settled(tow_job_t *job)
{
    tow_job_told(job);
    pthread_mutex_lock(&job->control.lock);
    while (!job->outcome.settled)
        pthread_cond_wait(&job->control.changed, &job->control.lock);
    pthread_mutex_unlock(&job->control.lock);
}
