/* report.c: progress and summary as JSON. Numbers are plain JSON numbers, so it is written by hand. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/base/decimal.h"
#include "engine/base/memory.h"
#include "engine/job/summary.h"

static void put(tow_buffer_t *out, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void put(tow_buffer_t *out, const char *format, ...)
{
    char small[512];
    va_list arguments;
    int length;

    va_start(arguments, format);
    length = vsnprintf(small, sizeof small, format, arguments);
    va_end(arguments);
    if (length < (int)sizeof small) {
        tow_buffer_append(out, small, (size_t)length);
        return;
    }
    va_start(arguments, format);
    vsnprintf((char *)tow_buffer_extend(out, (size_t)length + 1), (size_t)length + 1, format,
              arguments);
    va_end(arguments);
    out->length--; /* without the zero */
}

/* A message is cut where its room ends, and a name need not be UTF-8; JSON must be: bytes that are not are
 * shown as \ufffd. */
static void put_string(tow_buffer_t *out, const char *text)
{
    tow_buffer_append(out, "\"", 1);
    while (*text) {
        uint8_t c = (uint8_t)*text;
        size_t length = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;

        if (c < 0x20 || c == '"' || c == '\\') {
            put(out, c < 0x20 ? "\\u%04x" : "\\%c", c);
        } else if (strnlen(text, length) == length && bson_utf8_validate(text, length, false)) {
            tow_buffer_append(out, text, length);
        } else {
            put(out, "\\ufffd");
            length = 1;
        }
        text += length;
    }
    tow_buffer_append(out, "\"", 1);
}

static void put_field(tow_buffer_t *out, const char *name, const char *text)
{
    put(out, ",\"%s\":", name);
    put_string(out, text);
}

static void put_count(tow_buffer_t *out, const char *name, uint64_t value)
{
    put(out, ",\"%s\":%" PRIu64, name, value);
}

static void put_flag(tow_buffer_t *out, const char *name, bool value)
{
    put(out, ",\"%s\":%s", name, value ? "true" : "false");
}

static void put_position(tow_buffer_t *out, const char *name, tow_timestamp_t time, bool first)
{
    put(out, "%s\"%s\":", first ? "" : ",", name);
    if (time.t || time.i)
        put(out, "{\"t\":%u,\"i\":%u}", time.t, time.i);
    else
        put(out, "null");
}

static char *finish(tow_buffer_t *out)
{
    tow_buffer_append(out, "", 1);
    return (char *)out->data;
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

static void put_lag(tow_buffer_t *out, const tow_progress_t *progress)
{
    char seconds[24] = "null", ms[24] = "null";

    if (progress->lag_ms >= 0) {
        snprintf(seconds, sizeof seconds, "%" PRId64, progress->lag_ms / 1000);
        snprintf(ms, sizeof ms, "%" PRId64, progress->lag_ms);
    }
    /* One stream brings both, in one order. */
    put(out,
        ",\"lag\":{\"overallLagSeconds\":%s,\"crudLagSeconds\":%s,\"ddlLagSeconds\":%s}"
        ",\"lagTimeSeconds\":%s,\"lagMs\":%s",
        seconds, seconds, seconds, seconds, ms);
}

/* As mongosync writes it, "2h30m0s", and as a number. */
static void put_headroom(tow_buffer_t *out, const tow_progress_t *progress)
{
    long long seconds = (long long)progress->oplog_headroom_seconds;

    if (progress->oplog_headroom_seconds < 0)
        put(out, ",\"estimatedOplogTimeRemaining\":null,\"oplogHeadroomSeconds\":null");
    else
        put(out,
            ",\"estimatedOplogTimeRemaining\":\"%lldh%lldm%llds\",\"oplogHeadroomSeconds\":%lld",
            seconds / 3600, seconds / 60 % 60, seconds % 60, seconds);
}

static void put_side(tow_buffer_t *out, const char *name, double ping_ms, int64_t silent_ms)
{
    put(out, ",\"%s\":{\"pingLatencyMs\":%.3f,\"silentMs\":%" PRId64 "}", name, ping_ms, silent_ms);
}

/* What else mongosync tells. */
static void put_mongosync(tow_buffer_t *out, const tow_progress_t *progress,
                          const tow_identity_t *identity)
{
    double applied = (double)progress->events_applied;

    if (progress->phase == TOW_PHASE_IN_SYNC)
        put(out, ",\"estimatedSecondsToCEACatchup\":0");
    else if (progress->phase == TOW_PHASE_CATCHING_UP && applied > 0)
        put(out, ",\"estimatedSecondsToCEACatchup\":%.0f",
            (double)progress->backlog_events * progress->elapsed_seconds / applied);
    else
        put(out, ",\"estimatedSecondsToCEACatchup\":null");
    put_headroom(out, progress);
    put(out, ",\"directionMapping\":{\"Source\":");
    put_string(out, identity->source);
    put_field(out, "Destination", identity->destination);
    put(out, "}");
    put_field(out, "mongosyncID", identity->job);
    put_field(out, "coordinatorID", identity->job);
    put(out, ",\"warnings\":[");
    if (*progress->retrying)
        put_string(out, progress->retrying);
    put(out, "]");
}

/* The two sides are always read together. */
static void put_verification(tow_buffer_t *out, const tow_progress_t *progress)
{
    static const char *const sides[] = {"source", "destination"};
    bool verified = progress->verified.t > 0;

    put(out,
        ",\"verification\":{\"hashedDocumentCount\":%" PRIu64 ",\"hashedBytes\":%" PRIu64
        ",\"estimatedDocumentCount\":%" PRIu64,
        progress->verified_documents, progress->verified_bytes, progress->verify_total_documents);
    for (size_t i = 0; i < sizeof sides / sizeof *sides; i++) {
        put(out,
            ",\"%s\":{\"phase\":\"%s\",\"estimatedDocumentCount\":%" PRIu64
            ",\"hashedDocumentCount\":%" PRIu64
            ",\"scannedCollectionCount\":%u,\"totalCollectionCount\":%u,\"lagTimeSeconds\":",
            sides[i],
            verified                       ? "stream hashing"
            : progress->verified_documents ? "initial hashing"
                                           : "idle",
            progress->verify_total_documents, progress->verified_documents,
            verified ? progress->collections_total : 0, progress->collections_total);
        if (verified && progress->source_time.t >= progress->verified.t)
            put(out, "%u}", progress->source_time.t - progress->verified.t);
        else
            put(out, "null}");
    }
    put(out, "}");
}

static void put_cutover_step(tow_buffer_t *out, const tow_progress_t *progress)
{
    put(out, ",\"cutover\":{\"step\":\"%s\",\"estimatedSeconds\":%.1f",
        tow_cutover_step_name(progress->cutover), progress->cutover_seconds);
    put_flag(out, "writesBlocked", progress->writes_blocked);
    put_count(out, "lateWrites", progress->late_writes);
    put(out, "}");
}

static void put_positions(tow_buffer_t *out, const tow_progress_t *progress)
{
    put(out, ",\"positions\":{");
    put_position(out, "start", progress->start, true);
    put_position(out, "read", progress->read, false);
    put_position(out, "spooled", progress->spooled, false);
    put_position(out, "floor", progress->floor, false);
    put_position(out, "checkpoint", progress->checkpoint, false);
    put_position(out, "consistent", progress->consistent, false);
    put_position(out, "stop", progress->stop, false);
    put_position(out, "verified", progress->verified, false);
    put(out, "},");
    put_position(out, "sourceTime", progress->source_time, true);
}

static void put_window(tow_buffer_t *out, const tow_progress_t *progress)
{
    char end[32];

    put(out, ",\"window\":{\"lengthSeconds\":%" PRId64, progress->window_length_ms / 1000);
    if (!progress->window_end_ms) {
        put(out, ",\"endsAt\":null,\"leftSeconds\":null}");
        return;
    }
    tow_wall_text(progress->window_end_ms, end);
    put(out, ",\"endsAt\":\"%s\",\"leftSeconds\":%.3f}", end,
        (double)progress->window_left_ms / 1000);
}

char *tow_progress_to_json(const tow_progress_t *progress, const tow_identity_t *identity)
{
    locale_t locale = tow_locale_plain();
    tow_buffer_t out = {0};

    put(&out, "{\"state\":\"%s\",\"phase\":\"%s\"", words[progress->phase].state,
        tow_phase_name(progress->phase));
    put_field(&out, "job", identity->job);
    put_field(&out, "info", words[progress->phase].info);
    put_flag(&out, "canCommit", progress->can_commit);
    put_flag(&out, "canWrite", progress->phase == TOW_PHASE_DONE);
    put_field(&out, "reason", progress->reason);
    put_cutover_step(&out, progress);
    put(&out, ",\"elapsedSeconds\":%.3f", progress->elapsed_seconds);
    put_lag(&out, progress);
    put_mongosync(&out, progress, identity);
    put_count(&out, "totalEventsApplied", progress->events_applied);
    put(&out,
        ",\"collectionCopy\":{\"estimatedTotalBytes\":%" PRIu64 ",\"estimatedCopiedBytes\":%" PRIu64
        ",\"estimatedTotalDocuments\":%" PRIu64 ",\"copiedDocuments\":%" PRIu64
        ",\"collectionsTotal\":%u,\"collectionsCopied\":%u,\"rangesTotal\":%u,\"rangesCopied\":%u}",
        progress->estimated_bytes, progress->copied_bytes, progress->estimated_documents,
        progress->copied_documents, progress->collections_total, progress->collections_copied,
        progress->ranges_total, progress->ranges_copied);
    put(&out,
        ",\"indexBuilding\":{\"indexesBuilt\":%u,\"totalIndexesToBuild\":%u"
        ",\"collectionsFinished\":%u,\"collectionsTotal\":%u}",
        progress->indexes_built, progress->indexes_total,
        progress->indexes_built == progress->indexes_total ? progress->collections_copied : 0,
        progress->collections_total);
    put_side(&out, "source", progress->source_ping_ms, progress->source_silent_ms);
    put_side(&out, "destination", progress->destination_ping_ms, progress->destination_silent_ms);
    put_verification(&out, progress);
    put_window(&out, progress);
    put_positions(&out, progress);
    put_field(&out, "mode", progress->direct_mode ? "direct" : "refetch");
    put_count(&out, "eventsSeen", progress->events_seen);
    put_count(&out, "eventsSkipped", progress->events_skipped);
    put_count(&out, "eventsApplied", progress->events_applied);
    put_count(&out, "backlogEvents", progress->backlog_events);
    put_count(&out, "dirtyKeys", progress->keys_dirty);
    put_count(&out, "dirtyBytes", progress->dirty_bytes);
    put_count(&out, "spoolBytes", progress->spool_bytes);
    put_count(&out, "keysRefetched", progress->keys_refetched);
    put_count(&out, "statementsApplied", progress->statements_applied);
    put_count(&out, "retries", progress->retries);
    put_field(&out, "retrying", progress->retrying);
    put(&out, "}");
    tow_locale_back(locale);
    return finish(&out);
}

/* Collections -----------------------------------------------------------------------------------*/

char *tow_collections_to_json(const tow_namespace_state_t *states, uint32_t count, uint32_t limit)
{
    tow_buffer_t out = {0};

    put(&out, "{\"total\":%u,\"collections\":[", count);
    for (uint32_t i = 0; i < count && i < limit; i++) {
        const tow_namespace_state_t *state = &states[i];

        put(&out, "%s{\"ns\":", i ? "," : "");
        put_string(&out, state->ns);
        put_field(&out, "state",
                  state->copied    ? "copied"
                  : state->started ? "copying"
                                   : "waiting");
        put_count(&out, "estimatedDocuments", state->estimated_documents);
        put_count(&out, "estimatedBytes", state->estimated_bytes);
        put(&out, ",\"rangesTotal\":%u,\"rangesCopied\":%u}", state->ranges, state->ranges_done);
    }
    put(&out, "]}");
    return finish(&out);
}

/* Summary ---------------------------------------------------------------------------------------*/

static void put_phases(tow_buffer_t *out, const tow_summary_t *summary)
{
    bool first = true;

    put(out, ",\"phaseSeconds\":{");
    for (int i = 0; i <= TOW_PHASE_CANCELLED; i++) {
        if (summary->phase_seconds[i] <= 0)
            continue;
        put(out, "%s\"%s\":%.3f", first ? "" : ",", tow_phase_name((tow_phase_t)i),
            summary->phase_seconds[i]);
        first = false;
    }
    put(out, "}");
}

static void put_cutover(tow_buffer_t *out, const tow_summary_t *summary)
{
    char confirmed[32];

    put(out, ",\"syncedChanges\":{\"complete\":%s,\"seen\":%" PRIu64 ",\"left\":%" PRIu64 ",",
        !strcmp(summary->state, "done") ? "true" : "false", summary->events_seen,
        summary->events_left);
    put_position(out, "upTo", summary->stop, true);
    put(out, "},\"cutover\":");
    if (summary->confirmed_ms) {
        tow_wall_text(summary->confirmed_ms, confirmed);
        put(out, "{\"confirmedAt\":\"%s\"", confirmed);
    } else {
        put(out, "{\"confirmedAt\":null");
    }
    put_count(out, "lateWrites", summary->late_writes);
    put_flag(out, "writesBlocked", summary->writes_blocked);
    put_count(out, "calledOff", summary->called_off);
    if (summary->user_removed)
        put_field(out, "userRemoved", summary->user_removed);
    else
        put(out, ",\"userRemoved\":null");
    put(out, "}");
}

static void put_texts(tow_buffer_t *out, const char *name, const char *const *texts, uint32_t count)
{
    put(out, ",\"%s\":[", name);
    for (uint32_t i = 0; i < count; i++) {
        put(out, "%s", i ? "," : "");
        put_string(out, texts[i]);
    }
    put(out, "]");
}

static void put_failures(tow_buffer_t *out, const tow_summary_t *summary)
{
    put(out, ",\"indexFailures\":[");
    for (uint32_t i = 0; i < summary->index_failure_count; i++) {
        put(out, "%s{\"ns\":", i ? "," : "");
        put_string(out, summary->index_failures[i].ns);
        put_field(out, "name", summary->index_failures[i].name);
        put_field(out, "message", summary->index_failures[i].message);
        put(out, "}");
    }
    put(out, "]");
    put_texts(out, "notes", summary->notes, summary->note_count);
    put_texts(out, "remains", summary->remains, summary->remains_count);
}

char *tow_summary_to_json(const tow_summary_t *summary)
{
    locale_t locale = tow_locale_plain();
    tow_buffer_t out = {0};

    put(&out, "{\"state\":");
    put_string(&out, summary->state);
    put_field(&out, "job", summary->job);
    put_field(&out, "error", summary->error);
    put_field(&out, "source", summary->source);
    put_field(&out, "destination", summary->destination);
    put_field(&out, "destinationAddress", summary->address);
    put(&out, ",\"durationSeconds\":%.3f", summary->duration_seconds);
    if (summary->downtime_seconds < 0)
        put(&out, ",\"downtimeSeconds\":null");
    else
        put(&out, ",\"downtimeSeconds\":%.3f", summary->downtime_seconds);
    put_cutover(&out, summary);
    put_phases(&out, summary);
    if (summary->window_end_ms) {
        char start[32], end[32];

        tow_wall_text(summary->window_start_ms, start);
        tow_wall_text(summary->window_end_ms, end);
        put(&out, ",\"window\":{\"beganAt\":\"%s\",\"endsAt\":\"%s\"}", start, end);
    } else {
        put(&out, ",\"window\":null");
    }
    put_count(&out, "restarts", summary->restarts);
    put_count(&out, "initialDocuments", summary->initial_documents);
    put_count(&out, "initialBytes", summary->initial_bytes);
    put_count(&out, "collections", summary->collections);
    put_count(&out, "indexes", summary->indexes);
    put_count(&out, "eventsSeen", summary->events_seen);
    put_count(&out, "eventsSkipped", summary->events_skipped);
    put_count(&out, "keysRefetched", summary->keys_refetched);
    put_count(&out, "statementsApplied", summary->statements_applied);
    put(&out, ",\"cpuSeconds\":%.3f", summary->cpu_seconds);
    put_count(&out, "peakMemoryBytes", summary->peak_memory_bytes);
    put_failures(&out, summary);
    if (summary->verification) {
        char *report = tow_verify_report_json(summary->verification);

        put(&out, ",\"verification\":");
        tow_buffer_append(&out, report, strlen(report));
        free(report);
    } else {
        put(&out, ",\"verification\":null");
    }
    put(&out, "}");
    tow_locale_back(locale);
    return finish(&out);
}
