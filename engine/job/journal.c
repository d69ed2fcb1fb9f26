/* journal.c: the job's state on the destination: how it is opened. */
#include "engine/job/internal.h"

tow_store_options_t tow_job_store_options(tow_job_t *job)
{
    return (tow_store_options_t){
        .destination = job->sides.destination,
        .job = job->config.name,
        .settings = {job->sides.source ? tow_link_facts(job->sides.source)->identity : "",
                     tow_link_facts(job->sides.destination)->identity, job->sides.filter_text},
        .lease_ms = job->config.lease_ms,
        .wait = true,
        .sink = job->sides.sink,
        .stop = job->sides.stop};
}

/* The job has stopped, or is about to: what is left to do has a stop of its own. */
bool tow_job_open_state(tow_job_t *job, bool blocked)
{
    tow_store_view_t view = {0};
    tow_store_options_t options;
    tow_error_t ignored;
    tow_store_t *store;
    bool resumed;

    if (!job->sides.source || !job->sides.destination)
        return true;
    options = tow_job_store_options(job);
    options.stop = job->late_stop;
    if (!tow_store_peek(job->sides.destination, job->config.name, &options.settings, &view,
                        &ignored))
        return true;
    pthread_mutex_lock(&job->lock);
    job->before = view.exists ? TOW_BEFORE_BEGUN : TOW_BEFORE_NONE;
    pthread_mutex_unlock(&job->lock);
    if (!view.exists || (blocked && !view.writes_blocked))
        return true;
    store = tow_store_open(&options, &resumed, &ignored);
    job->begun = true;
    pthread_mutex_lock(&job->lock);
    job->store = store;
    job->writes_blocked = store && view.writes_blocked;
    pthread_mutex_unlock(&job->lock);
    return store != NULL;
}
