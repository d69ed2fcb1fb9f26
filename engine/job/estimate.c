/* estimate.c: how long finalizing still takes, by what this cutover has measured so far. */
#include "engine/base/clock.h"
#include "engine/job/internal.h"

double tow_effort_seconds(uint64_t left, uint64_t done, double seconds)
{
    if (!left)
        return 0;
    return done && seconds > 0 ? (double)left * seconds / (double)done : -1;
}

static uint64_t settled(const tow_progress_t *progress)
{
    return progress->events_seen > progress->backlog_events
               ? progress->events_seen - progress->backlog_events
               : 0;
}

void tow_job_begin_effort(tow_job_t *job, tow_effort_t kind)
{
    tow_progress_t progress;

    pthread_mutex_lock(&job->lock);
    tow_job_collect(job, &progress);
    job->effort.kind = kind;
    job->effort.since_ms = tow_now_ms();
    job->effort.settled = settled(&progress);
    job->effort.indexes = progress.indexes_built;
    pthread_mutex_unlock(&job->lock);
}

/* What the verification has left to read; before it begins that is known only where nothing is. */
static double verify_seconds(const tow_job_t *job, const tow_progress_t *progress, double seconds)
{
    tow_track_totals_t totals = {.open = 1};
    uint64_t done = progress->verified_documents, total = progress->verify_total_documents;

    if (!job->config.verify)
        return 0;
    if (job->effort.kind == TOW_EFFORT_VERIFY)
        return total ? tow_effort_seconds(total > done ? total - done : 0, done, seconds) : -1;
    if (job->watch)
        tow_track_totals(job->track, &totals);
    return totals.open || totals.keys ? -1 : 0;
}

double tow_job_finalize_seconds(const tow_job_t *job, const tow_progress_t *progress)
{
    double seconds = (double)(tow_now_ms() - job->effort.since_ms) / 1000;
    double events = tow_effort_seconds(progress->backlog_events,
                                       settled(progress) - job->effort.settled, seconds);
    double indexes =
        progress->indexes_total > progress->indexes_built
            ? tow_effort_seconds(progress->indexes_total - progress->indexes_built,
                                 progress->indexes_built - job->effort.indexes, seconds)
            : 0;
    double verification = verify_seconds(job, progress, seconds);

    return events < 0 || indexes < 0 || verification < 0 ? -1 : events + indexes + verification;
}
