/* SPDX-License-Identifier: Apache-2.0 */
/* background.c: the verification that goes on while the job is in sync.
 *
 * One thread compares what the track says is not equal, a few ranges at a time and no faster than
 * --verify-rate, and rests while the job is not in sync. The source's stream and a watch on the
 * destination tell the track what is written, so that at the cutover only that is left to read. */
#include <stdlib.h>

#include "engine/base/clock.h"
#include "engine/job/internal.h"

enum {
    ROUND_MS = 1000, /* between two comparisons … */
    ROUND_FACTOR =
        4,        /* … and at least so many times what the last one took: it reads the catalogs */
    REST_MS = 100 /* how often a resting comparison looks whether it may go on */
};

static bool is_ended(tow_job_t *job)
{
    return atomic_load(&job->comparer.quit) || tow_stop_requested(job->sides.stop);
}

/* Pace ------------------------------------------------------------------------------------------*/

/* A tow_pace_fn: waits while the bytes so far are not paid for, and while the job is
 * not in sync. */
static bool pace(void *data, uint64_t bytes)
{
    tow_job_t *job = data;
    int64_t now = tow_now_ms(), free_ms;

    pthread_mutex_lock(&job->control.lock);
    free_ms = tow_pace_take(&job->comparer.pace, bytes, tow_link_ping_ms(job->sides.source), now);
    while (!is_ended(job) &&
           (job->control.phase != TOW_PHASE_IN_SYNC || free_ms > (now = tow_now_ms())))
        tow_condition_wait(&job->control.changed, &job->control.lock,
                           job->control.phase == TOW_PHASE_IN_SYNC && free_ms < now + REST_MS
                               ? free_ms
                               : tow_now_ms() + REST_MS);
    pthread_mutex_unlock(&job->control.lock);
    return !is_ended(job);
}

/* Waits until the floor has passed what the source had. */
bool tow_job_settle(void *data, tow_error_t *error)
{
    return tow_job_settle_until(data, is_ended, error);
}

/* The destination's watch -----------------------------------------------------------------------*/

static void written(void *data, const char *database, const char *collection, tow_value_t id)
{
    tow_track_touch(((tow_job_t *)data)->comparer.track, database, collection, id,
                    TOW_TRACK_DESTINATION);
}

static void gone(void *data, const char *database, const char *collection)
{
    tow_track_gone(((tow_job_t *)data)->comparer.track, database, collection);
}

static void gap(void *data, const char *why)
{
    tow_job_t *job = data;

    tow_track_reset(job->comparer.track);
    tow_emit(&job->sides.sink, TOW_LEVEL_INFO, "verify_reset",
             "everything is compared again: the destination's stream of changes says '%s'", why);
}

/* Without a watch nothing may count as compared before the cutover; the comparison is still worth
 * it. */
static void open_watch(tow_job_t *job)
{
    tow_watch_options_t options = {.link = job->sides.destination,
                                   .filter = job->sides.filter,
                                   .stop = job->sides.stop,
                                   .data = job,
                                   .key = written,
                                   .gone = gone,
                                   .gap = gap};
    tow_watch_t *watch;
    tow_error_t error;

    if (atomic_load(&job->comparer.watch))
        return;
    watch = tow_watch_new(&options, job->comparer.watch_token, &error);
    atomic_store(&job->comparer.watch, watch);
    if (!watch)
        tow_emit(
            &job->sides.sink, TOW_LEVEL_WARNING, "watch_failed",
            "writes to the destination cannot be watched, so the cutover compares everything: %s",
            error.message);
}

tow_track_t *tow_job_watched_track(tow_job_t *job)
{
    enum { WAIT_MS = 10000 };

    if (!job->comparer.watch || !tow_watch_wait(job->comparer.watch, WAIT_MS))
        return NULL;
    return job->comparer.track;
}

bool tow_job_verify_again(tow_job_t *job, tow_error_t *error)
{
    bool runs;

    pthread_mutex_lock(&job->control.lock);
    runs = job->comparer.started && job->comparer.track && !tow_phase_is_final(job->control.phase);
    if (runs)
        tow_track_reset(job->comparer.track);
    pthread_mutex_unlock(&job->control.lock);
    return runs ? true
                : tow_fail(
                      error, TOW_ERROR_STATE,
                      "no verification runs in the background: it does while a job with a manual "
                      "cutover and a --verify-rate above 0 is in sync");
}

/* Rounds ----------------------------------------------------------------------------------------*/

static void take_report(tow_job_t *job, tow_verify_report_t *report, tow_optime_t floor)
{
    tow_track_totals_t totals;

    tow_track_totals(job->comparer.track, &totals);
    tow_job_tell_differences(job, report);
    pthread_mutex_lock(&job->control.lock);
    if (report->equal && !totals.open && floor > job->comparer.verified_time)
        job->comparer.verified_time = floor;
    if (job->comparer.online)
        tow_verify_report_merge(job->comparer.online, report, job->config.max_differences);
    else
        job->comparer.online = report;
    if (job->comparer.online != report)
        tow_verify_report_destroy(report);
    pthread_mutex_unlock(&job->control.lock);
}

static bool compare_once(tow_job_t *job, tow_error_t *error)
{
    tow_verify_options_t options;
    tow_verify_report_t *report;
    tow_optime_t floor = tow_ledger_floor_time(job->flow.ledger);

    tow_job_verify_options(job, job->comparer.track, &options);
    options.workers = 1;
    options.settle = tow_job_settle;
    options.pace = pace;
    options.documents_only = true;
    tow_comparer_begin(&job->comparer);
    if (!tow_verify_run(&options, &report, error))
        return false;
    take_report(job, report, floor);
    return true;
}

static void *verifier(void *data)
{
    tow_job_t *job = data;
    int64_t wait_ms = 0;

    while (!is_ended(job)) {
        int64_t began = tow_now_ms();
        tow_error_t error;

        pthread_mutex_lock(&job->control.lock);
        while (!is_ended(job) &&
               (job->control.phase != TOW_PHASE_IN_SYNC || tow_now_ms() < began + wait_ms))
            tow_condition_wait(&job->control.changed, &job->control.lock, tow_now_ms() + REST_MS);
        pthread_mutex_unlock(&job->control.lock);
        if (is_ended(job))
            break;
        open_watch(job);
        began = tow_now_ms();
        /* A failure is not the job's: what matters is compared at the cutover. */
        if (!compare_once(job, &error) && !is_ended(job))
            tow_emit(&job->sides.sink, TOW_LEVEL_WARNING, "verify_interrupted",
                     "the comparison in the background begins again: %s", error.message);
        wait_ms = (tow_now_ms() - began) * ROUND_FACTOR;
        if (wait_ms < ROUND_MS)
            wait_ms = ROUND_MS;
    }
    return NULL;
}

/* A job that cuts over by itself is compared there at once. */
bool tow_job_verifies_online(const tow_job_t *job)
{
    return job->config.verify && job->config.manual && job->config.verify_rate;
}

bool tow_job_start_verifier(tow_job_t *job, tow_error_t *error)
{
    /* A cutover that is called off early has not ended it. */
    if (!tow_job_verifies_online(job) || job->comparer.thread.started)
        return true;
    job->comparer.pace = tow_pace_new(job->config.verify_rate);
    if (!tow_thread_start(&job->comparer.thread, "verifier", verifier, job, error))
        return false;
    pthread_mutex_lock(&job->control.lock);
    job->comparer.started = true;
    pthread_mutex_unlock(&job->control.lock);
    return true;
}

void tow_job_end_verifier(tow_job_t *job)
{
    bool started;

    pthread_mutex_lock(&job->control.lock);
    started = job->comparer.started;
    job->comparer.started = false; /* nobody asks it for anything any more */
    if (started)
        atomic_store(&job->comparer.quit, true);
    pthread_cond_broadcast(&job->control.changed);
    pthread_mutex_unlock(&job->control.lock);
    tow_thread_join(&job->comparer.thread);
}
