/* cutover.c: the end of a job: replay to `stop`, restore what was held off, verify, sum up. */
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "engine/base/clock.h"
#include "engine/job/internal.h"
#include "engine/job/repair.h"

enum { VERIFY_TRIES = 3, TRACKED_BYTES = 16 << 20 };

/* The error that stopped the job, or that it was asked to stop. */
static bool stopped(tow_job_t *job, tow_error_t *error)
{
    return tow_stop_error(job->stop, error)
               ? false
               : tow_fail(error, TOW_ERROR_INTERRUPTED, "stopped");
}

bool tow_job_source_time(tow_job_t *job, tow_optime_t *out, tow_error_t *error)
{
    tow_conn_t *source = tow_conn_open(job->source, error);
    bool ok = source && tow_link_barrier_time(source, out, error);

    tow_conn_close(source);
    return ok;
}

/* Times of one second's increments may be shared by events of a transaction: besides the floor, two
 * empty replies say that nothing up to `time` is still on its way. A source that is still written to
 * may give none; then the floor beyond `time` says the same, if it is no guess. */
bool tow_job_settled_at(tow_job_t *job, tow_optime_t time, uint64_t idle)
{
    bool passed = tow_ledger_floor_time(job->ledger) > time &&
                  tow_tail_certain_time(job->tail) > time;
    bool reached = tow_ledger_floor_time(job->ledger) >= time &&
                   tow_tail_idle_replies(job->tail) >= idle + 2;

    return (passed || reached) && tow_copy_finished(job->copy) &&
           (passed || tow_replay_settled(job->replay));
}

/* Waits until the stream has delivered everything up to now, and all of it is settled. */
bool tow_job_drain(tow_job_t *job, tow_error_t *error)
{
    tow_optime_t now;
    uint64_t idle;

    if (!tow_job_source_time(job, &now, error))
        return false;
    tow_tail_hurry(job->tail, true);
    idle = tow_tail_idle_replies(job->tail);
    pthread_mutex_lock(&job->lock);
    job->stop_time = now;
    pthread_mutex_unlock(&job->lock);
    while (!tow_stop_requested(job->stop)) {
        if (tow_job_settled_at(job, now, idle))
            return true;
        tow_ledger_wait_floor(job->ledger, now + 1, 20);
    }
    return stopped(job, error);
}

/* Everything that the source had is on the destination: what still differs does not come of delay. */
static bool settle(void *data, tow_error_t *error)
{
    return tow_job_drain(data, error);
}

bool tow_job_repair(void *data, const char *database, const char *collection,
                    const tow_value_t *ids, uint32_t count, bool anew, tow_error_t *error)
{
    tow_job_t *job = data;
    tow_repairing_t with = {job->namespaces, job->copy, job->replay, job->stop};

    return tow_repair_with(&with, database, collection, ids, count, anew, error);
}

/* Everything that the source had is settled: a difference is somebody else's write, or our bug. */
void tow_job_tell_differences(tow_job_t *job, const tow_verify_report_t *report)
{
    for (uint32_t i = 0; i < report->difference_count; i++) {
        const tow_difference_t *difference = &report->differences[i];

        tow_emit(&job->sink, TOW_LEVEL_ERROR, "difference",
                 "%s %s%s: %s%s%s, %u bytes at the source, %u at the destination, range %s: %s; %s",
                 difference->ns, difference->id ? "_id " : "", difference->id ? difference->id : "",
                 tow_difference_kind_name(difference->kind), difference->path ? " at " : "",
                 difference->path ? difference->path : "", difference->source_length,
                 difference->destination_length, difference->range ? difference->range : "-",
                 difference->repaired ? "repaired" : "not repaired",
                 difference->outside
                     ? "it was written at the destination, and not at the source, since it was equal: "
                       "something else writes to the destination"
                     : "unless something else wrote to the destination, this is a bug of Towline");
    }
}

static bool keep_report(tow_job_t *job, tow_verify_report_t *report, tow_error_t *error)
{
    uint64_t left = report->differences_total - report->repaired_total, repaired;
    const tow_difference_t *first = NULL;
    char message[160];

    tow_job_tell_differences(job, report);
    for (uint32_t i = 0; !first && i < report->difference_count; i++)
        if (!report->differences[i].repaired)
            first = &report->differences[i];
    pthread_mutex_lock(&job->lock);
    if (job->online)
        tow_verify_report_merge(report, job->online, job->config.max_differences);
    tow_verify_report_destroy(job->report);
    job->report = report;
    if (report->equal)
        job->verified_time = job->stop_time;
    repaired = report->equal ? report->repaired_total : 0;
    pthread_mutex_unlock(&job->lock);
    if (repaired) {
        snprintf(message, sizeof message,
                 "the verification found %llu difference%s and repaired %s; the summary names them",
                 (unsigned long long)repaired, repaired == 1 ? "" : "s",
                 repaired == 1 ? "it" : "them");
        tow_job_notify(job, "different", "differences were repaired", message);
    }
    if (report->equal)
        return true;
    if (!left)
        return tow_fail(error, TOW_ERROR_VERIFY,
                        "%llu document%s changed at the source as often as compared; stop the "
                        "writes and run the same command again",
                        (unsigned long long)report->unsettled, report->unsettled == 1 ? "" : "s");
    return tow_fail(error, TOW_ERROR_VERIFY,
                    "verification found %llu difference%s, first in %s (see the summary); make sure "
                    "that nothing else writes to the destination, and run the same command again",
                    (unsigned long long)left, left == 1 ? "" : "s", first ? first->ns : "?");
}

void tow_job_verify_options(tow_job_t *job, tow_track_t *track, tow_verify_options_t *out)
{
    uint64_t range_bytes = job->config.range_bytes;

    /* What is written in a range may make it to be read again. */
    if (track && range_bytes > TRACKED_BYTES)
        range_bytes = TRACKED_BYTES;
    *out = (tow_verify_options_t){.source = job->source,
                                  .destination = job->destination,
                                  .filter = job->filter,
                                  .stop = job->stop,
                                  .sink = job->sink,
                                  .workers = job->config.workers > 1 ? job->config.workers / 2 : 1,
                                  .range_bytes = range_bytes,
                                  .whole_bytes = track ? range_bytes : 0,
                                  .track = track,
                                  .max_differences = job->config.max_differences,
                                  .mode = job->config.verify_mode,
                                  .repair = job->config.verify_repair ? tow_job_repair : NULL,
                                  .settle = settle,
                                  .sharding_aside = true, /* the copy does not shard */
                                  .data = job,
                                  .documents = &job->verified_documents,
                                  .bytes = &job->verified_bytes,
                                  .total_documents = &job->verify_total};
}

static bool verify(tow_job_t *job, tow_error_t *error)
{
    tow_verify_options_t options;
    tow_verify_report_t *report = NULL;

    for (int attempt = 0; attempt < VERIFY_TRIES; attempt++) {
        uint64_t events = tow_tail_events(job->tail);

        tow_verify_report_destroy(report);
        report = NULL;
        atomic_store(&job->verified_documents, 0);
        atomic_store(&job->verified_bytes, 0);
        atomic_store(&job->verify_total, 0);
        tow_job_verify_options(job, tow_job_watched_track(job), &options);
        if (!tow_verify_run(&options, &report, error))
            return tow_fail_context(error, "verify");
        if (report->equal || tow_tail_events(job->tail) == events)
            break;
        /* Writes went on at the source while both sides were read: settle them, compare again. */
        tow_emit(&job->sink, TOW_LEVEL_WARNING, "verify_again",
                 "the source was written to during the verification: it is repeated");
        if (!tow_job_drain(job, error)) {
            tow_verify_report_destroy(report);
            return false;
        }
    }
    return keep_report(job, report, error);
}

bool tow_job_finalize(tow_job_t *job, tow_error_t *error)
{
    pthread_mutex_lock(&job->lock);
    job->cutover_ms = tow_now_ms();
    pthread_mutex_unlock(&job->lock);
    tow_job_end_verifier(job);
    if (!tow_job_drain(job, error) || !tow_copy_reconcile(job->copy, NULL, NULL, true, error))
        return false;
    if (!tow_copy_finished(job->copy)) {
        /* Reconciling found a collection that only a new copy makes equal. */
        if (!tow_copy_wait(job->copy))
            return stopped(job, error);
        if (!tow_job_drain(job, error) ||
            !tow_copy_reconcile(job->copy, NULL, NULL, true, error))
            return false;
    }
    if (!tow_copy_index_wait(job->copy))
        return stopped(job, error);
    return !job->config.verify || verify(job, error);
}

void tow_job_make_summary(tow_job_t *job)
{
    struct rusage usage;
    tow_summary_t summary = {.job = job->config.name,
                             .state = tow_phase_name(job->phase),
                             .error = job->ok ? "" : job->error.message,
                             .source = job->source ? tow_link_hosts(job->source) : "",
                             .destination = job->destination ? tow_link_hosts(job->destination) : "",
                             .downtime_seconds = -1,
                             .restarts = job->restarts,
                             .cpu_seconds = tow_cpu_seconds(),
                             .verification = job->report,
                             .notes = (const char *const *)job->notes,
                             .note_count = job->note_count};
    tow_summary_index_failure_t *failures = NULL;
    tow_progress_t progress;
    int64_t now = tow_now_ms();

    tow_job_collect(job, &progress);
    getrusage(RUSAGE_SELF, &usage);
    summary.peak_memory_bytes = (uint64_t)usage.ru_maxrss * 1024;
    summary.duration_seconds = (double)(now - job->started_ms) / 1000;
    if (job->cutover_ms)
        summary.downtime_seconds = (double)(now - job->cutover_ms) / 1000;
    memcpy(summary.phase_seconds, job->phase_seconds, sizeof summary.phase_seconds);
    summary.window_start_ms = job->window.start_ms;
    summary.window_end_ms = tow_window_end_ms(&job->window);
    summary.initial_documents = progress.copied_documents;
    summary.initial_bytes = progress.copied_bytes;
    summary.collections = progress.collections_total;
    summary.indexes = progress.indexes_built;
    summary.events_seen = progress.events_seen;
    summary.events_skipped = progress.events_skipped;
    summary.keys_refetched = progress.keys_refetched;
    summary.statements_applied = progress.statements_applied;
    if (job->copy) {
        const tow_index_failure_t *list =
            tow_copy_index_failures(job->copy, &summary.index_failure_count);

        failures = tow_alloc((summary.index_failure_count + 1) * sizeof *failures);
        for (uint32_t i = 0; i < summary.index_failure_count; i++)
            failures[i] =
                (tow_summary_index_failure_t){list[i].ns, list[i].name, list[i].message};
        summary.index_failures = failures;
    }
    free(job->summary_json);
    job->summary_json = tow_summary_to_json(&summary);
    free(failures);
}

char *tow_job_summary_json(tow_job_t *job)
{
    char *copy;

    pthread_mutex_lock(&job->lock);
    copy = job->summary_json ? tow_strdup(job->summary_json) : NULL;
    pthread_mutex_unlock(&job->lock);
    return copy;
}
