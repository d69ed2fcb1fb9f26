/* SPDX-License-Identifier: Apache-2.0 */
/* outcome.c: how a job ended: what it leaves behind, and its summary. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/job/internal.h"

void tow_outcome_init(tow_job_outcome_t *outcome)
{
    pthread_mutex_init(&outcome->lock, NULL);
    outcome->done_draft.file = -1;
}

void tow_outcome_clear(tow_job_outcome_t *outcome)
{
    for (uint32_t i = 0; i < outcome->note_count; i++)
        free(outcome->notes[i]);
    for (uint32_t i = 0; i < outcome->remains_count; i++)
        free(outcome->remains[i]);
    free(outcome->user_removed);
    free(outcome->summary_json);
    tow_namespaces_states_free(outcome->last_states, outcome->last_state_count);
    pthread_mutex_destroy(&outcome->lock);
}

/* Adds to a list of limited length, and leaves out what does not fit. */
static void add(char **list, uint32_t *count, size_t most, const char *text)
{
    if (*count < most)
        list[(*count)++] = tow_strdup(text);
}

void tow_outcome_note(tow_job_outcome_t *outcome, const char *event, const char *message)
{
    static const char *const noted[] = {"reconciled", "rollover",     "foreign",
                                        "left_out",   "duplicate_id", "cutover_called_off"};

    for (size_t i = 0; i < sizeof noted / sizeof *noted; i++)
        if (!strcmp(event, noted[i])) {
            pthread_mutex_lock(&outcome->lock);
            add(outcome->notes, &outcome->note_count,
                sizeof outcome->notes / sizeof *outcome->notes, message);
            pthread_mutex_unlock(&outcome->lock);
        }
}

void tow_outcome_remains(tow_job_outcome_t *outcome, const char *format, ...)
{
    char text[600];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    pthread_mutex_lock(&outcome->lock);
    add(outcome->remains, &outcome->remains_count,
        sizeof outcome->remains / sizeof *outcome->remains, text);
    pthread_mutex_unlock(&outcome->lock);
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
    pthread_mutex_lock(&job->control.lock);
    before = job->journal.before;
    pthread_mutex_unlock(&job->control.lock);
    if (!progress.collections_total)
        return tow_strdup(nothing[before]);
    return tow_format(
        "%llu document%s in %u collection%s remain on the destination; the job's state "
        "does not, so a new job begins from the start: towline run --clear-destination "
        "drops them first",
        (unsigned long long)progress.copied_documents, progress.copied_documents == 1 ? "" : "s",
        progress.collections_total, progress.collections_total == 1 ? "" : "s");
}

/* What the progress says at the end. */
static void take_figures(tow_summary_t *summary, const tow_progress_t *progress)
{
    summary->late_writes = progress->late_writes;
    summary->initial_documents = progress->copied_documents;
    summary->initial_bytes = progress->copied_bytes;
    summary->collections = progress->collections_total;
    summary->indexes = progress->indexes_built;
    summary->events_seen = progress->events_seen;
    summary->events_left = progress->backlog_events;
    summary->stop = progress->stop;
    summary->events_skipped = progress->events_skipped;
    summary->keys_refetched = progress->keys_refetched;
    summary->statements_applied = progress->statements_applied;
}

void tow_job_make_summary(tow_job_t *job, tow_phase_t phase)
{
    tow_summary_t summary = {
        .job = job->config.name,
        .state = tow_phase_name(phase),
        .error = job->outcome.ok ? "" : job->outcome.error.message,
        .address = job->config.destination_address,
        .source = job->sides.source ? tow_link_hosts(job->sides.source) : "",
        .destination = job->sides.destination ? tow_link_hosts(job->sides.destination) : "",
        .downtime_seconds = -1,
        .restarts = job->journal.restarts,
        .cpu_seconds = tow_cpu_seconds(),
        .verification = job->comparer.report,
        .confirmed_ms = job->control.confirmed_wall_ms,
        .writes_blocked = job->journal.writes_blocked,
        .called_off = job->control.called_off,
        .notes = (const char *const *)job->outcome.notes,
        .remains = (const char *const *)job->outcome.remains};
    tow_summary_index_failure_t *failures = NULL;
    tow_index_failure_t *list = NULL;
    tow_progress_t progress;
    int64_t now = tow_now_ms();

    tow_job_collect(job, &progress);
    summary.peak_memory_bytes = tow_peak_bytes(getpid());
    summary.duration_seconds = (double)(now - job->control.started_ms) / 1000;
    if (job->control.confirmed_ms)
        summary.downtime_seconds = (double)(now - job->control.confirmed_ms) / 1000;
    memcpy(summary.phase_seconds, job->control.phase_seconds, sizeof summary.phase_seconds);
    if (!tow_phase_is_final(job->control.phase))
        summary.phase_seconds[job->control.phase] +=
            (double)(now - job->control.phase_since_ms) / 1000;
    summary.window_start_ms = job->control.window.start_ms;
    summary.window_end_ms = tow_window_end_ms(&job->control.window);
    take_figures(&summary, &progress);
    if (job->flow.copy) {
        list = tow_copy_index_failures(job->flow.copy, &summary.index_failure_count);
        failures = tow_alloc((summary.index_failure_count + 1) * sizeof *failures);
        for (uint32_t i = 0; i < summary.index_failure_count; i++)
            failures[i] = (tow_summary_index_failure_t){list[i].ns, list[i].name, list[i].message};
        summary.index_failures = failures;
    }
    pthread_mutex_lock(&job->outcome.lock);
    summary.user_removed = job->outcome.user_removed;
    summary.note_count = job->outcome.note_count;
    summary.remains_count = job->outcome.remains_count;
    free(job->outcome.summary_json);
    job->outcome.summary_json = tow_summary_to_json(&summary);
    pthread_mutex_unlock(&job->outcome.lock);
    tow_copy_index_failures_free(list, summary.index_failure_count);
    free(failures);
}

char *tow_job_summary_json(tow_job_t *job)
{
    char *copy;

    pthread_mutex_lock(&job->control.lock);
    copy = job->outcome.summary_json ? tow_strdup(job->outcome.summary_json) : NULL;
    pthread_mutex_unlock(&job->control.lock);
    return copy;
}
