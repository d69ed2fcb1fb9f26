/* SPDX-License-Identifier: Apache-2.0 */
/* rollover.c: what happens when the source's oplog no longer reaches back to the job's position.
 *
 * The job does not fail: a new stream is opened, and what changed in between is found by comparing
 * both sides by ranges and repaired, which reads digests and what differs instead of copying all.
 * That it is necessary stands in the job's document before anything goes on, so that a restart does
 * it as well. */
#include <stdlib.h>

#include "engine/job/internal.h"
#include "engine/link/codes.h"

enum {
    TRIES = 5,
    UNSEEN_SECONDS = 60 /* of the oplog that one look reads */
};

bool tow_job_lost(void *data, bool opened, tow_error_t *error)
{
    tow_job_t *job = data;
    bool ok;

    if (!opened) {
        pthread_mutex_lock(&job->journal.lock);
        job->journal.losses++;
        atomic_store(&job->flow.rollover, TOW_ROLLOVER_LOST);
        ok = tow_journal_set_flag(&job->journal, TOW_FLAG_ROLLOVER, true, error);
        pthread_mutex_unlock(&job->journal.lock);
        tow_emit(&job->sides.sink, TOW_LEVEL_WARNING, "rollover",
                 "the source's oplog no longer reaches back to the job's position: a new stream is "
                 "opened, and both sides are compared by ranges and repaired");
        return ok;
    }
    /* What was compared before the new stream began says nothing any more. */
    tow_track_reset(job->comparer.track);
    atomic_store(&job->flow.rollover, TOW_ROLLOVER_OPENED);
    return true;
}

/* Since when the oplog is to be looked at. A process before this one looked until shortly before
 * its last checkpoint. */
static tow_optime_t unseen_since(tow_job_t *job)
{
    enum { MARGIN_SECONDS = 120 };
    const tow_optime_t margin = (tow_optime_t)MARGIN_SECONDS << 32;
    tow_optime_t since;

    pthread_mutex_lock(&job->control.lock);
    since = job->journal.checkpoint_time > margin ? job->journal.checkpoint_time - margin : 0;
    if (since < job->journal.start_time)
        since = job->journal.start_time -
                1; /* a new stream's token has the time of the entry that comes next */
    if (since < job->journal.unseen_time)
        since = job->journal.unseen_time;
    pthread_mutex_unlock(&job->control.lock);
    return since;
}

/* A stream that is lost at this moment tells what it has to by itself. */
static bool tell_unseen(tow_job_t *job, tow_error_t *error)
{
    int none = TOW_ROLLOVER_NONE;
    bool ok;

    pthread_mutex_lock(&job->journal.lock);
    job->journal.losses++;
    ok = tow_journal_set_flag(&job->journal, TOW_FLAG_ROLLOVER, true, error);
    tow_track_reset(job->comparer.track);
    atomic_compare_exchange_strong(&job->flow.rollover, &none, TOW_ROLLOVER_OPENED);
    pthread_mutex_unlock(&job->journal.lock);
    tow_emit(&job->sides.sink, TOW_LEVEL_WARNING, "rollover",
             "the source was written to by applyOps, as mongorestore --oplogReplay does, which no "
             "change "
             "stream shows: both sides are compared by ranges and repaired");
    return ok;
}

bool tow_job_look_for_unseen(tow_job_t *job, tow_conn_t *source, bool retry, tow_optime_t until,
                             bool *out_all, tow_error_t *error)
{
    const tow_optime_t most = (tow_optime_t)UNSEEN_SECONDS << 32;
    tow_optime_t since = unseen_since(job);
    bool found = false;

    *out_all = until <= since + most;
    if (until <= since)
        return true;
    if (!*out_all)
        until = since + most;
    if (!tow_oplog_unseen(source, retry, since, until, &found, error)) {
        *out_all = error->server_code == TOW_CODE_UNAUTHORIZED; /* not everybody may read it */
        return *out_all;
    }
    if (found && !tell_unseen(job, error))
        return false;
    pthread_mutex_lock(&job->control.lock);
    if (job->journal.unseen_time < until)
        job->journal.unseen_time = until;
    pthread_mutex_unlock(&job->control.lock);
    return true;
}

static bool is_stopped(tow_job_t *job)
{
    return tow_stop_requested(job->sides.stop);
}

/* A tow_settle_fn, also while a cutover finalizes, when the verifier has ended. */
static bool settle(void *data, tow_error_t *error)
{
    return tow_job_settle_until(data, is_stopped, error);
}

/* Everything that is different is repaired, and equal when this returns true. */
static bool repair_ranges(tow_job_t *job, uint64_t *out_repaired, tow_error_t *error)
{
    tow_verify_options_t options;
    bool equal = false;

    *out_repaired = 0;
    tow_job_verify_options(job, NULL, &options);
    options.settle = settle;
    options.repair = tow_job_repair;
    options.documents_only = true;
    for (int attempt = 0; !equal && attempt < TRIES; attempt++) {
        tow_verify_report_t *report;

        if (!tow_verify_run(&options, &report, error))
            return false;
        /* What changed as often as it was looked at changes since the new stream began, which tells
         * of it: a document that is written all the time must not keep the job from going on. */
        equal = report->differences_total == report->repaired_total;
        *out_repaired += report->repaired_total;
        tow_verify_report_destroy(report);
    }
    return equal ? true
                 : tow_fail(error, TOW_ERROR_VERIFY,
                            "both sides could not be made equal after the source's oplog rolled "
                            "over; make sure that nothing else writes to the destination, and run "
                            "the same command again");
}

static uint32_t count_losses(tow_job_t *job)
{
    uint32_t losses;

    pthread_mutex_lock(&job->journal.lock);
    losses = job->journal.losses;
    pthread_mutex_unlock(&job->journal.lock);
    return losses;
}

/* *out_settled false: the stream was lost once more meanwhile, and everything is to
 * be done again. */
static bool settle_rollover(tow_job_t *job, uint32_t losses, bool *out_settled, tow_error_t *error)
{
    bool ok = true;

    pthread_mutex_lock(&job->journal.lock);
    *out_settled = job->journal.losses == losses;
    if (*out_settled && (ok = tow_journal_set_flag(&job->journal, TOW_FLAG_ROLLOVER, false, error)))
        atomic_store(&job->flow.rollover, TOW_ROLLOVER_NONE);
    pthread_mutex_unlock(&job->journal.lock);
    return ok;
}

bool tow_job_resync(tow_job_t *job, tow_error_t *error)
{
    uint32_t losses = count_losses(job);
    uint64_t repaired;
    bool settled;

    /* Collections may have come, gone or become others. */
    if (!tow_copy_drop_gone(job->flow.copy, error) ||
        !tow_copy_reconcile(job->flow.copy, NULL, NULL, TOW_RECONCILE_ALONG, error))
        return tow_fail_context(error, "after a rollover");
    if (!tow_copy_finished(job->flow.copy))
        return true; /* again, when what was missing is copied */
    if (!repair_ranges(job, &repaired, error) || !settle_rollover(job, losses, &settled, error))
        return tow_fail_context(error, "after a rollover");
    if (settled)
        tow_emit(&job->sides.sink, TOW_LEVEL_INFO, "rollover",
                 "both sides are equal again: %llu documents were repaired",
                 (unsigned long long)repaired);
    return true;
}
