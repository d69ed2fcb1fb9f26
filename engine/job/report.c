/* SPDX-License-Identifier: Apache-2.0 */
/* report.c: progress and summary as JSON. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/base/json.h"
#include "engine/job/summary.h"

static void put_position(tow_json_t *out, const char *name, tow_timestamp_t time)
{
    if (!time.t && !time.i) {
        tow_json_put_null(out, name);
        return;
    }
    tow_json_begin(out, name);
    tow_json_put_count(out, "t", time.t);
    tow_json_put_count(out, "i", time.i);
    tow_json_end(out);
}

/* 0: null. */
static void put_time(tow_json_t *out, const char *name, int64_t wall_ms)
{
    char text[32];

    if (wall_ms)
        tow_wall_text(wall_ms, text);
    tow_json_put_text(out, name, wall_ms ? text : NULL);
}

/* Progress --------------------------------------------------------------------------------------*/

/* mongosync's states and its words for what goes on. */
static const struct {
    const char *state, *info;
} words[] = {
    [TOW_PHASE_NEW] = {"IDLE", ""},
    [TOW_PHASE_VALIDATING] = {"INITIALIZING", "validation"},
    [TOW_PHASE_PREPARING] = {"INITIALIZING", "preparation"},
    [TOW_PHASE_COPYING] = {"RUNNING", "collection copy"},
    [TOW_PHASE_CATCHING_UP] = {"RUNNING", "change event application"},
    [TOW_PHASE_IN_SYNC] = {"RUNNING", "change event application"},
    [TOW_PHASE_FINALIZING] = {"COMMITTING", "waiting for commit to complete"},
    [TOW_PHASE_DONE] = {"COMMITTED", "commit completed"},
    [TOW_PHASE_PAUSED] = {"PAUSED", "paused"},
    [TOW_PHASE_FAILED] = {"IDLE", "failed"},
    [TOW_PHASE_EXPIRED] = {"IDLE", "expired"},
    [TOW_PHASE_CANCELLED] = {"IDLE", "cancelled"},
};

/* -1: null. */
static void put_known(tow_json_t *out, const char *name, int64_t value)
{
    if (value >= 0)
        tow_json_put_integer(out, name, value);
    else
        tow_json_put_null(out, name);
}

/* One stream brings both kinds of change, in one order, so their lags are one. */
static void put_lag(tow_json_t *out, int64_t lag_ms)
{
    int64_t seconds = lag_ms >= 0 ? lag_ms / 1000 : -1;

    tow_json_begin(out, "lag");
    put_known(out, "overallLagSeconds", seconds);
    put_known(out, "crudLagSeconds", seconds);
    put_known(out, "ddlLagSeconds", seconds);
    tow_json_end(out);
    put_known(out, "lagTimeSeconds", seconds);
    put_known(out, "lagMs", lag_ms);
}

/* The time until everything that was read is applied; NaN: unknown. */
static double seconds_to_catch_up(const tow_progress_t *progress)
{
    double applied = (double)progress->events_applied;

    if (progress->phase == TOW_PHASE_IN_SYNC)
        return 0;
    if (progress->phase == TOW_PHASE_CATCHING_UP && applied > 0)
        return (double)progress->backlog_events * progress->elapsed_seconds / applied;
    return NAN;
}

/* As mongosync writes it, "2h30m0s", and as a number. */
static void put_headroom(tow_json_t *out, double headroom_seconds)
{
    long long seconds = headroom_seconds < 0 ? -1 : (long long)headroom_seconds;
    char text[64];

    snprintf(text, sizeof text, "%lldh%lldm%llds", seconds / 3600, seconds / 60 % 60, seconds % 60);
    tow_json_put_text(out, "estimatedOplogTimeRemaining", seconds < 0 ? NULL : text);
    put_known(out, "oplogHeadroomSeconds", seconds);
}

/* What else mongosync reports. */
static void put_mongosync(tow_json_t *out, const tow_progress_t *progress,
                          const tow_identity_t *identity)
{
    tow_json_put_number(out, "estimatedSecondsToCEACatchup", seconds_to_catch_up(progress), 0);
    put_headroom(out, progress->oplog_headroom_seconds);
    tow_json_begin(out, "directionMapping");
    tow_json_put_text(out, "Source", identity->source);
    tow_json_put_text(out, "Destination", identity->destination);
    tow_json_end(out);
    tow_json_put_text(out, "mongosyncID", identity->job);
    tow_json_put_text(out, "coordinatorID", identity->job);
    tow_json_begin_array(out, "warnings");
    if (*progress->retrying)
        tow_json_put_text(out, NULL, progress->retrying);
    tow_json_end_array(out);
}

static void put_verified_side(tow_json_t *out, const char *side, const tow_progress_t *progress)
{
    bool verified = progress->verified.t > 0;
    bool behind = verified && progress->source_time.t >= progress->verified.t;

    tow_json_begin(out, side);
    tow_json_put_text(out, "phase",
                      verified                       ? "stream hashing"
                      : progress->verified_documents ? "initial hashing"
                                                     : "idle");
    tow_json_put_count(out, "estimatedDocumentCount", progress->verify_total_documents);
    tow_json_put_count(out, "hashedDocumentCount", progress->verified_documents);
    tow_json_put_count(out, "scannedCollectionCount", verified ? progress->collections_total : 0);
    tow_json_put_count(out, "totalCollectionCount", progress->collections_total);
    put_known(out, "lagTimeSeconds",
              behind ? (int64_t)progress->source_time.t - progress->verified.t : -1);
    tow_json_end(out);
}

/* The two sides are always read together. */
static void put_verification(tow_json_t *out, const tow_progress_t *progress)
{
    tow_json_begin(out, "verification");
    tow_json_put_count(out, "hashedDocumentCount", progress->verified_documents);
    tow_json_put_count(out, "hashedBytes", progress->verified_bytes);
    tow_json_put_count(out, "estimatedDocumentCount", progress->verify_total_documents);
    put_verified_side(out, "source", progress);
    put_verified_side(out, "destination", progress);
    tow_json_end(out);
}

static void put_attempt(tow_json_t *out, const tow_attempt_t *attempt)
{
    if (!attempt->called_off_ms) {
        tow_json_put_null(out, "lastAttempt");
        return;
    }
    tow_json_begin(out, "lastAttempt");
    put_time(out, "confirmedAt", attempt->confirmed_ms);
    put_time(out, "calledOffAt", attempt->called_off_ms);
    tow_json_put_count(out, "lateWrites", attempt->late_writes);
    tow_json_put_text(out, "reason", attempt->reason);
    tow_json_end(out);
}

static void put_cutover_step(tow_json_t *out, const tow_progress_t *progress,
                             const tow_attempt_t *attempt)
{
    tow_json_begin(out, "cutover");
    tow_json_put_text(out, "step", tow_cutover_step_name(progress->cutover));
    tow_json_put_number(out, "estimatedSeconds", progress->cutover_seconds, 1);
    tow_json_put_flag(out, "writesBlocked", progress->writes_blocked);
    tow_json_put_count(out, "lateWrites", progress->late_writes);
    put_attempt(out, attempt);
    tow_json_end(out);
}

static void put_positions(tow_json_t *out, const tow_progress_t *progress)
{
    tow_json_begin(out, "positions");
    put_position(out, "start", progress->start);
    put_position(out, "read", progress->read);
    put_position(out, "spooled", progress->spooled);
    put_position(out, "floor", progress->floor);
    put_position(out, "checkpoint", progress->checkpoint);
    put_position(out, "consistent", progress->consistent);
    put_position(out, "stop", progress->stop);
    put_position(out, "verified", progress->verified);
    tow_json_end(out);
    put_position(out, "sourceTime", progress->source_time);
}

static void put_window(tow_json_t *out, const tow_progress_t *progress)
{
    if (!progress->window_length_ms) {
        tow_json_put_null(out, "window"); /* it has none */
        return;
    }
    tow_json_begin(out, "window");
    tow_json_put_integer(out, "lengthSeconds", progress->window_length_ms / 1000);
    put_time(out, "endsAt", progress->window_end_ms);
    tow_json_put_number(out, "leftSeconds",
                        progress->window_end_ms ? (double)progress->window_left_ms / 1000 : NAN, 3);
    tow_json_end(out);
}

static void put_copy(tow_json_t *out, const tow_progress_t *progress)
{
    bool built = progress->indexes_built == progress->indexes_total;

    tow_json_begin(out, "collectionCopy");
    tow_json_put_count(out, "estimatedTotalBytes", progress->estimated_bytes);
    tow_json_put_count(out, "estimatedCopiedBytes", progress->copied_bytes);
    tow_json_put_count(out, "estimatedTotalDocuments", progress->estimated_documents);
    tow_json_put_count(out, "copiedDocuments", progress->copied_documents);
    tow_json_put_count(out, "collectionsTotal", progress->collections_total);
    tow_json_put_count(out, "collectionsCopied", progress->collections_copied);
    tow_json_put_count(out, "rangesTotal", progress->ranges_total);
    tow_json_put_count(out, "rangesCopied", progress->ranges_copied);
    tow_json_end(out);
    tow_json_begin(out, "indexBuilding");
    tow_json_put_count(out, "indexesBuilt", progress->indexes_built);
    tow_json_put_count(out, "totalIndexesToBuild", progress->indexes_total);
    tow_json_put_count(out, "collectionsFinished", built ? progress->collections_copied : 0);
    tow_json_put_count(out, "collectionsTotal", progress->collections_total);
    tow_json_end(out);
}

static void put_side(tow_json_t *out, const char *side, double ping_ms, int64_t silent_ms)
{
    tow_json_begin(out, side);
    tow_json_put_number(out, "pingLatencyMs", ping_ms, 3);
    tow_json_put_integer(out, "silentMs", silent_ms);
    tow_json_end(out);
}

static void put_counts(tow_json_t *out, const tow_progress_t *progress)
{
    tow_json_put_count(out, "eventsSeen", progress->events_seen);
    tow_json_put_count(out, "eventsSkipped", progress->events_skipped);
    tow_json_put_count(out, "eventsApplied", progress->events_applied);
    tow_json_put_count(out, "backlogEvents", progress->backlog_events);
    tow_json_put_count(out, "dirtyKeys", progress->keys_dirty);
    tow_json_put_count(out, "dirtyBytes", progress->dirty_bytes);
    tow_json_put_count(out, "spoolBytes", progress->spool_bytes);
    tow_json_put_count(out, "keysRefetched", progress->keys_refetched);
    tow_json_put_count(out, "statementsApplied", progress->statements_applied);
    tow_json_put_count(out, "retries", progress->retries);
}

char *tow_progress_to_json(const tow_progress_t *progress, const tow_identity_t *identity)
{
    tow_json_t out = {0};

    tow_json_begin(&out, NULL);
    tow_json_put_text(&out, "state", words[progress->phase].state);
    tow_json_put_text(&out, "phase", tow_phase_name(progress->phase));
    tow_json_put_text(&out, "job", identity->job);
    tow_json_put_text(&out, "info", words[progress->phase].info);
    tow_json_put_flag(&out, "canCommit", progress->can_commit);
    tow_json_put_flag(&out, "canWrite", progress->phase == TOW_PHASE_DONE);
    tow_json_put_text(&out, "reason", progress->reason);
    put_known(&out, "exitStatus", identity->exit_status);
    tow_json_put_text(&out, "nextStep", identity->next);
    put_cutover_step(&out, progress, identity->attempt);
    tow_json_put_number(&out, "elapsedSeconds", progress->elapsed_seconds, 3);
    put_lag(&out, progress->lag_ms);
    put_mongosync(&out, progress, identity);
    tow_json_put_count(&out, "totalEventsApplied", progress->events_applied);
    put_copy(&out, progress);
    put_side(&out, "source", progress->source_ping_ms, progress->source_silent_ms);
    put_side(&out, "destination", progress->destination_ping_ms, progress->destination_silent_ms);
    put_verification(&out, progress);
    put_window(&out, progress);
    put_positions(&out, progress);
    tow_json_put_text(&out, "mode", progress->direct_mode ? "direct" : "refetch");
    put_counts(&out, progress);
    tow_json_put_text(&out, "retrying", progress->retrying);
    tow_json_end(&out);
    return tow_json_take(&out);
}

/* Collections -----------------------------------------------------------------------------------*/

char *tow_collections_to_json(const tow_namespace_state_t *states, uint32_t count, uint32_t limit)
{
    tow_json_t out = {0};

    tow_json_begin(&out, NULL);
    tow_json_put_count(&out, "total", count);
    tow_json_begin_array(&out, "collections");
    for (uint32_t i = 0; i < count && i < limit; i++) {
        const tow_namespace_state_t *state = &states[i];

        tow_json_begin(&out, NULL);
        tow_json_put_text(&out, "ns", state->ns);
        tow_json_put_text(&out, "state",
                          state->copied    ? "copied"
                          : state->started ? "copying"
                                           : "waiting");
        tow_json_put_count(&out, "estimatedDocuments", state->estimated_documents);
        tow_json_put_count(&out, "estimatedBytes", state->estimated_bytes);
        tow_json_put_count(&out, "rangesTotal", state->ranges);
        tow_json_put_count(&out, "rangesCopied", state->ranges_done);
        tow_json_end(&out);
    }
    tow_json_end_array(&out);
    tow_json_end(&out);
    return tow_json_take(&out);
}

/* Summary ---------------------------------------------------------------------------------------*/

static void put_phases(tow_json_t *out, const tow_summary_t *summary)
{
    tow_json_begin(out, "phaseSeconds");
    for (int i = 0; i <= TOW_PHASE_CANCELLED; i++)
        if (summary->phase_seconds[i] > 0)
            tow_json_put_number(out, tow_phase_name((tow_phase_t)i), summary->phase_seconds[i], 3);
    tow_json_end(out);
}

static void put_cutover(tow_json_t *out, const tow_summary_t *summary)
{
    tow_json_begin(out, "syncedChanges");
    tow_json_put_flag(out, "complete", !strcmp(summary->state, "done"));
    tow_json_put_count(out, "seen", summary->events_seen);
    tow_json_put_count(out, "left", summary->events_left);
    put_position(out, "upTo", summary->stop);
    tow_json_end(out);
    tow_json_begin(out, "cutover");
    put_time(out, "confirmedAt", summary->confirmed_ms);
    tow_json_put_count(out, "lateWrites", summary->late_writes);
    tow_json_put_flag(out, "writesBlocked", summary->writes_blocked);
    tow_json_put_count(out, "calledOff", summary->called_off);
    tow_json_put_text(out, "userRemoved", summary->user_removed);
    tow_json_end(out);
}

static void put_summary_window(tow_json_t *out, const tow_summary_t *summary)
{
    char start[32];

    if (!summary->window_end_ms) {
        tow_json_put_null(out, "window");
        return;
    }
    tow_json_begin(out, "window");
    tow_wall_text(summary->window_start_ms, start);
    tow_json_put_text(out, "beganAt", start);
    put_time(out, "endsAt", summary->window_end_ms);
    tow_json_end(out);
}

static void put_amounts(tow_json_t *out, const tow_summary_t *summary)
{
    tow_json_put_count(out, "restarts", summary->restarts);
    tow_json_put_count(out, "initialDocuments", summary->initial_documents);
    tow_json_put_count(out, "initialBytes", summary->initial_bytes);
    tow_json_put_count(out, "collections", summary->collections);
    tow_json_put_count(out, "indexes", summary->indexes);
    tow_json_put_count(out, "eventsSeen", summary->events_seen);
    tow_json_put_count(out, "eventsSkipped", summary->events_skipped);
    tow_json_put_count(out, "keysRefetched", summary->keys_refetched);
    tow_json_put_count(out, "statementsApplied", summary->statements_applied);
    tow_json_put_number(out, "cpuSeconds", summary->cpu_seconds, 3);
    tow_json_put_count(out, "peakMemoryBytes", summary->peak_memory_bytes);
}

static void put_texts(tow_json_t *out, const char *name, const char *const *texts, uint32_t count)
{
    tow_json_begin_array(out, name);
    for (uint32_t i = 0; i < count; i++)
        tow_json_put_text(out, NULL, texts[i]);
    tow_json_end_array(out);
}

static void put_failures(tow_json_t *out, const tow_summary_t *summary)
{
    tow_json_begin_array(out, "indexFailures");
    for (uint32_t i = 0; i < summary->index_failure_count; i++) {
        tow_json_begin(out, NULL);
        tow_json_put_text(out, "ns", summary->index_failures[i].ns);
        tow_json_put_text(out, "name", summary->index_failures[i].name);
        tow_json_put_text(out, "message", summary->index_failures[i].message);
        tow_json_end(out);
    }
    tow_json_end_array(out);
    put_texts(out, "notes", summary->notes, summary->note_count);
    put_texts(out, "remains", summary->remains, summary->remains_count);
}

char *tow_summary_to_json(const tow_summary_t *summary)
{
    char *report = summary->verification ? tow_verify_report_json(summary->verification) : NULL;
    tow_json_t out = {0};

    tow_json_begin(&out, NULL);
    tow_json_put_text(&out, "state", summary->state);
    tow_json_put_text(&out, "job", summary->job);
    tow_json_put_text(&out, "error", summary->error);
    tow_json_put_text(&out, "source", summary->source);
    tow_json_put_text(&out, "destination", summary->destination);
    tow_json_put_text(&out, "destinationAddress", summary->address);
    tow_json_put_number(&out, "durationSeconds", summary->duration_seconds, 3);
    tow_json_put_number(&out, "downtimeSeconds",
                        summary->downtime_seconds < 0 ? NAN : summary->downtime_seconds, 3);
    put_cutover(&out, summary);
    put_phases(&out, summary);
    put_summary_window(&out, summary);
    put_amounts(&out, summary);
    put_failures(&out, summary);
    tow_json_put_json(&out, "verification", report ? report : "null");
    tow_json_end(&out);
    free(report);
    return tow_json_take(&out);
}
