/* outcome.c: how a job ended: what it leaves behind, and its summary. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/job/internal.h"

void tow_job_remains_add(tow_job_t *job, const char *format, ...)
{
    char text[600];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    pthread_mutex_lock(&job->lock);
    if (job->remains_count < sizeof job->remains / sizeof *job->remains)
        job->remains[job->remains_count++] = tow_strdup(text);
    pthread_mutex_unlock(&job->lock);
}

char *tow_job_remains(tow_job_t *job)
{
    static const char *const nothing[] = {
        [TOW_BEFORE_UNKNOWN] =
            "this process copied nothing; what an earlier one of this job copied, if there "
            "was one, remains on the destination",
        [TOW_BEFORE_NONE] = "nothing was copied, so nothing remains on the destination",
        [TOW_BEFORE_BEGUN] =
            "what an earlier process of this job copied remains on the destination; a new job "
            "begins from the start: towline run --clear-destination drops it first"};
    tow_progress_t progress;
    tow_before_t before;

    tow_job_progress(job, &progress);
    pthread_mutex_lock(&job->lock);
    before = job->before;
    pthread_mutex_unlock(&job->lock);
    if (!progress.collections_total)
        return tow_strdup(nothing[before]);
    return tow_format(
        "%llu document%s in %u collection%s remain on the destination; the job's state "
        "does not, so a new job begins from the start: towline run --clear-destination "
        "drops them first",
        (unsigned long long)progress.copied_documents, progress.copied_documents == 1 ? "" : "s",
        progress.collections_total, progress.collections_total == 1 ? "" : "s");
}

void tow_job_make_summary(tow_job_t *job, tow_phase_t phase)
{
    tow_summary_t summary = {
        .job = job->config.name,
        .state = tow_phase_name(phase),
        .error = job->ok ? "" : job->error.message,
        .address = job->config.destination_address,
        .user_removed = job->user_removed,
        .source = job->sides.source ? tow_link_hosts(job->sides.source) : "",
        .destination = job->sides.destination ? tow_link_hosts(job->sides.destination) : "",
        .downtime_seconds = -1,
        .restarts = job->restarts,
        .cpu_seconds = tow_cpu_seconds(),
        .verification = job->report,
        .confirmed_ms = job->confirmed_wall_ms,
        .writes_blocked = job->writes_blocked,
        .called_off = job->called_off,
        .notes = (const char *const *)job->notes,
        .note_count = job->note_count,
        .remains = (const char *const *)job->remains,
        .remains_count = job->remains_count};
    tow_summary_index_failure_t *failures = NULL;
    tow_index_failure_t *list = NULL;
    tow_progress_t progress;
    int64_t now = tow_now_ms();

    tow_job_collect(job, &progress);
    summary.late_writes = progress.late_writes;
    summary.peak_memory_bytes = tow_peak_bytes(getpid());
    summary.duration_seconds = (double)(now - job->started_ms) / 1000;
    if (job->confirmed_ms)
        summary.downtime_seconds = (double)(now - job->confirmed_ms) / 1000;
    memcpy(summary.phase_seconds, job->phase_seconds, sizeof summary.phase_seconds);
    if (!tow_phase_is_final(job->phase))
        summary.phase_seconds[job->phase] += (double)(now - job->phase_since_ms) / 1000;
    summary.window_start_ms = job->window.start_ms;
    summary.window_end_ms = tow_window_end_ms(&job->window);
    summary.initial_documents = progress.copied_documents;
    summary.initial_bytes = progress.copied_bytes;
    summary.collections = progress.collections_total;
    summary.indexes = progress.indexes_built;
    summary.events_seen = progress.events_seen;
    summary.events_left = progress.backlog_events;
    summary.stop = progress.stop;
    summary.events_skipped = progress.events_skipped;
    summary.keys_refetched = progress.keys_refetched;
    summary.statements_applied = progress.statements_applied;
    if (job->copy) {
        list = tow_copy_index_failures(job->copy, &summary.index_failure_count);
        failures = tow_alloc((summary.index_failure_count + 1) * sizeof *failures);
        for (uint32_t i = 0; i < summary.index_failure_count; i++)
            failures[i] = (tow_summary_index_failure_t){list[i].ns, list[i].name, list[i].message};
        summary.index_failures = failures;
    }
    free(job->summary_json);
    job->summary_json = tow_summary_to_json(&summary);
    tow_copy_index_failures_free(list, summary.index_failure_count);
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
