/* SPDX-License-Identifier: Apache-2.0 */
/* metrics.c: progress as text for Prometheus: base units, counters end with _total. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/decimal.h"
#include "engine/base/json.h"
#include "engine/http/internal.h"

typedef struct {
    tow_buffer_t text;
    char *job; /* the label's value, quoted */
} metrics_t;

static void put(metrics_t *metrics, const char *name, const char *type, const char *help,
                double value)
{
    locale_t locale = tow_locale_plain();
    char *line =
        tow_format("# HELP towline_%s %s\n# TYPE towline_%s %s\ntowline_%s{job=%s} %.15g\n", name,
                   help, name, type, name, metrics->job, value);

    tow_locale_back(locale);
    tow_buffer_append(&metrics->text, line, strlen(line));
    free(line);
}

static void put_phases(metrics_t *metrics, tow_phase_t now)
{
    char *line = tow_strdup("# HELP towline_phase 1 for the phase that the job is in.\n"
                            "# TYPE towline_phase gauge\n");

    tow_buffer_append(&metrics->text, line, strlen(line));
    free(line);
    for (int phase = TOW_PHASE_NEW; phase <= TOW_PHASE_CANCELLED; phase++) {
        line = tow_format("towline_phase{job=%s,phase=\"%s\"} %d\n", metrics->job,
                          tow_phase_name((tow_phase_t)phase), phase == (int)now);
        tow_buffer_append(&metrics->text, line, strlen(line));
        free(line);
    }
}

static void put_copy(metrics_t *metrics, const tow_progress_t *now)
{
    put(metrics, "copy_estimated_bytes", "gauge", "Size of the initial copy.",
        (double)now->estimated_bytes);
    put(metrics, "copy_bytes_total", "counter", "Bytes copied.", (double)now->copied_bytes);
    put(metrics, "copy_estimated_documents", "gauge", "Documents of the initial copy.",
        (double)now->estimated_documents);
    put(metrics, "copy_documents_total", "counter", "Documents copied.",
        (double)now->copied_documents);
    put(metrics, "collections", "gauge", "Collections of the job.", now->collections_total);
    put(metrics, "collections_copied", "gauge", "Collections whose copy is complete.",
        now->collections_copied);
    put(metrics, "ranges", "gauge", "Ranges of the copy.", now->ranges_total);
    put(metrics, "ranges_copied", "gauge", "Ranges that are copied.", now->ranges_copied);
    put(metrics, "indexes", "gauge", "Indexes to build.", now->indexes_total);
    put(metrics, "indexes_built", "gauge", "Indexes that are built.", now->indexes_built);
}

static void put_replay(metrics_t *metrics, const tow_progress_t *now)
{
    put(metrics, "events_seen_total", "counter", "Events read from the change stream.",
        (double)now->events_seen);
    put(metrics, "events_skipped_total", "counter", "Events that the copy had seen already.",
        (double)now->events_skipped);
    put(metrics, "events_applied_total", "counter",
        "Events applied, directly or as a refetched key.", (double)now->events_applied);
    put(metrics, "keys_refetched_total", "counter", "Documents read again from the source.",
        (double)now->keys_refetched);
    put(metrics, "statements_applied_total", "counter", "Statements sent to the destination.",
        (double)now->statements_applied);
    put(metrics, "dirty_keys", "gauge", "Keys that wait to be refetched.", (double)now->keys_dirty);
    put(metrics, "dirty_bytes", "gauge", "Memory of keys that wait.", (double)now->dirty_bytes);
    put(metrics, "backlog_events", "gauge", "Events read and not applied yet.",
        (double)now->backlog_events);
    put(metrics, "spool_bytes", "gauge", "Size of the spool.", (double)now->spool_bytes);
    put(metrics, "verified_documents_total", "counter", "Documents compared.",
        (double)now->verified_documents);
    put(metrics, "verified_bytes_total", "counter", "Bytes compared.", (double)now->verified_bytes);
}

static void put_progress(metrics_t *metrics, const tow_progress_t *now)
{
    put_phases(metrics, now->phase);
    put(metrics, "can_commit", "gauge", "Whether a cutover would be accepted.", now->can_commit);
    put(metrics, "elapsed_seconds", "gauge", "Time since the job began in this process.",
        now->elapsed_seconds);
    if (now->lag_ms >= 0)
        put(metrics, "lag_seconds", "gauge", "How far the destination is behind the source.",
            (double)now->lag_ms / 1000);
    put_copy(metrics, now);
    put_replay(metrics, now);
    put(metrics, "retries_total", "counter", "Calls to servers that were sent again.",
        (double)now->retries);
    put(metrics, "source_up", "gauge", "Whether the source answers.", !now->source_silent_ms);
    put(metrics, "destination_up", "gauge", "Whether the destination answers.",
        !now->destination_silent_ms);
    if (now->oplog_headroom_seconds >= 0)
        put(metrics, "source_oplog_headroom_seconds", "gauge",
            "How far the source's oplog reaches back before the job's position.",
            now->oplog_headroom_seconds);
    if (now->moved_ms)
        put(metrics, "last_progress_timestamp", "gauge",
            "When the job's floor or its copy last moved, in seconds since 1970.",
            (double)now->moved_ms / 1000);
    put(metrics, "source_ping_seconds", "gauge", "Round trip to the source.",
        now->source_ping_ms / 1000);
    put(metrics, "destination_ping_seconds", "gauge", "Round trip to the destination.",
        now->destination_ping_ms / 1000);
    if (now->window_left_ms >= 0)
        put(metrics, "window_left_seconds", "gauge", "Time until the sync stops.",
            (double)now->window_left_ms / 1000);
}

char *tow_metrics(tow_server_t *server)
{
    metrics_t metrics = {0};
    tow_progress_t progress;
    bool any;

    pthread_rwlock_rdlock(&server->lock);
    any = server->job != NULL;
    if (any) {
        tow_job_progress(server->job, &progress);
        metrics.job = tow_json_text(tow_job_name(server->job));
    }
    pthread_rwlock_unlock(&server->lock);
    if (!metrics.job)
        metrics.job = tow_json_text("");
    put(&metrics, "up", "gauge", "Whether a job was started.", any);
    if (any)
        put_progress(&metrics, &progress);
    free(metrics.job);
    tow_buffer_append(&metrics.text, "", 1);
    return (char *)metrics.text.data;
}
