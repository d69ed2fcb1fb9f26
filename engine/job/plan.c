/* SPDX-License-Identifier: Apache-2.0 */
/* plan.c: the checks on their own, and what a job would copy; both as JSON. Nothing is written. */
#include <stdlib.h>

#include "engine/base/decimal.h"
#include "engine/check/validate.h"
#include "engine/job/internal.h"
#include "engine/link/reply.h"

enum { RETRY_MOST_MS = 30000 }; /* somebody waits for the answer */

static void append_outcome(const tow_job_t *job, const tow_checked_t *checked, bool ok,
                           const tow_error_t *error, bson_t *out)
{
    bson_append_bool(out, "ok", -1, ok);
    bson_append_int32(out, "exitStatus", -1, ok ? 0 : (int32_t)error->code);
    tow_append_text(out, "job", job->config.name);
    tow_append_text(out, "source", job->sides.source ? tow_link_hosts(job->sides.source) : "");
    tow_append_text(out, "destination",
                    job->sides.destination ? tow_link_hosts(job->sides.destination) : "");
    bson_append_int32(out, "passed", -1,
                      (int32_t)tow_findings_count(&checked->findings, TOW_FINDING_PASS));
    bson_append_int32(out, "warnings", -1,
                      (int32_t)tow_findings_count(&checked->findings, TOW_FINDING_WARNING));
    bson_append_int32(out, "failures", -1,
                      (int32_t)tow_findings_count(&checked->findings, TOW_FINDING_FAILURE));
    bson_append_int32(out, "skipped", -1,
                      (int32_t)tow_findings_count(&checked->findings, TOW_FINDING_SKIPPED));
    tow_findings_append(&checked->findings, out);
}

static void append_collection(bson_t *list, size_t index, const tow_surveyed_t *item)
{
    static const char *const types[] = {[TOW_COLLECTION] = "collection",
                                        [TOW_VIEW] = "view",
                                        [TOW_TIMESERIES] = "timeseries",
                                        [TOW_UNKNOWN_KIND] = "unknown"};
    char key[24];
    bson_t entry;

    snprintf(key, sizeof key, "%zu", index);
    bson_append_document_begin(list, key, -1, &entry);
    tow_append_text(&entry, "ns", item->info->ns);
    bson_append_utf8(&entry, "type", -1, types[item->info->type], -1);
    bson_append_bool(&entry, "measured", -1, item->measured);
    bson_append_int64(&entry, "documents", -1, (int64_t)item->size.documents);
    bson_append_int64(&entry, "bytes", -1, (int64_t)item->size.bytes);
    bson_append_int32(&entry, "indexes", -1, (int32_t)item->indexes);
    bson_append_int32(&entry, "ranges", -1, (int32_t)item->ranges);
    bson_append_document_end(list, &entry);
}

static void append_plan(const tow_checked_t *checked, bson_t *out)
{
    const tow_survey_t *survey = &checked->survey;
    bson_t list;

    bson_append_bool(out, "resumes", -1, checked->exists);
    if (!checked->surveyed)
        return;
    bson_append_int64(out, "collections", -1, (int64_t)survey->collections);
    bson_append_int64(out, "collectionsMeasured", -1, (int64_t)survey->measured);
    bson_append_int64(out, "views", -1, (int64_t)survey->views);
    bson_append_int64(out, "documents", -1, (int64_t)survey->documents);
    bson_append_int64(out, "bytes", -1, (int64_t)survey->bytes);
    bson_append_int64(out, "indexes", -1, survey->indexes);
    bson_append_int64(out, "ranges", -1, survey->ranges);
    bson_append_double(out, "estimatedSeconds", -1,
                       tow_estimate_copy_seconds(survey->bytes, survey->index_entries));
    bson_append_int32(out, "assumedMegabytesPerSecond", -1, TOW_COPY_MB_PER_S);
    bson_append_int32(out, "assumedIndexKeysPerSecond", -1, TOW_INDEX_KEYS_PER_S);
    if (checked->window_seconds >= 0)
        bson_append_double(out, "oplogWindowSeconds", -1, checked->window_seconds);
    bson_append_array_begin(out, "namespaces", -1, &list);
    for (size_t i = 0; i < survey->count; i++)
        append_collection(&list, i, &survey->items[i]);
    bson_append_array_end(out, &list);
}

static char *as_json(const bson_t *document)
{
    locale_t locale = tow_locale_plain();
    char *json = bson_as_relaxed_extended_json(document, NULL);
    char *copy = tow_strdup(json ? json : "{}");

    tow_locale_back(locale);
    bson_free(json);
    return copy;
}

static bool look(const tow_options_t *options, bool plan, char **out_json, tow_error_t *error)
{
    tow_job_t *job = tow_job_new(options, error);
    bson_t document = BSON_INITIALIZER;
    tow_checked_t checked;
    bool ok;

    *out_json = NULL;
    if (!job)
        return false;
    if (job->config.retry_window_ms > RETRY_MOST_MS)
        job->config.retry_window_ms = RETRY_MOST_MS;
    tow_checks_run(&job->sides, &job->config, false, &checked);
    ok = tow_findings_judge(&checked.findings, error);
    append_outcome(job, &checked, ok, error, &document);
    if (plan)
        append_plan(&checked, &document);
    *out_json = as_json(&document);
    bson_destroy(&document);
    tow_checked_clear(&checked);
    tow_job_destroy(job);
    return ok;
}

bool tow_check(const tow_options_t *options, char **out_json, tow_error_t *error)
{
    return look(options, false, out_json, error);
}

bool tow_plan(const tow_options_t *options, char **out_json, tow_error_t *error)
{
    return look(options, true, out_json, error);
}
