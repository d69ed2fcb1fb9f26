/* SPDX-License-Identifier: Apache-2.0 */
/* journal.c: the job's state on the destination: how it is opened, and the fields
 * of its document. */
#include <string.h>

#include "engine/job/internal.h"
#include "engine/link/reply.h"

void tow_journal_init(tow_journal_t *journal)
{
    pthread_mutex_init(&journal->lock, NULL);
    journal->late_stop = tow_stop_new();
    bson_init(&journal->ddl_token);
}

void tow_journal_clear(tow_journal_t *journal)
{
    tow_stop_destroy(journal->late_stop);
    bson_destroy(&journal->ddl_token);
    pthread_mutex_destroy(&journal->lock);
}

/* Opening ---------------------------------------------------------------------------------------*/

tow_store_options_t tow_job_store_options(tow_job_t *job)
{
    return (tow_store_options_t){
        .destination = job->sides.destination,
        .job = job->config.name,
        .settings = {job->sides.source ? tow_link_facts(job->sides.source)->identity : "",
                     tow_link_facts(job->sides.destination)->identity, job->sides.filter_text},
        .lease_ms = job->config.lease_ms,
        .wait = true,
        .sink = job->sides.sink,
        .stop = job->sides.stop};
}

/* The job has stopped, or is about to: what is left to do has a stop of its own. */
bool tow_job_open_state(tow_job_t *job, bool blocked)
{
    tow_store_view_t view = {0};
    tow_store_options_t options;
    tow_error_t ignored;
    tow_store_t *store;
    bool resumed;

    if (!job->sides.source || !job->sides.destination)
        return true;
    options = tow_job_store_options(job);
    options.stop = job->journal.late_stop;
    if (!tow_store_peek(job->sides.destination, job->config.name, &options.settings, &view,
                        &ignored))
        return true;
    pthread_mutex_lock(&job->control.lock);
    job->journal.before = view.exists ? TOW_BEFORE_BEGUN : TOW_BEFORE_NONE;
    pthread_mutex_unlock(&job->control.lock);
    if (!view.exists || (blocked && !view.writes_blocked))
        return true;
    store = tow_store_open(&options, &resumed, &ignored);
    job->journal.begun = true;
    pthread_mutex_lock(&job->control.lock);
    job->journal.store = store;
    job->journal.writes_blocked = store && view.writes_blocked;
    pthread_mutex_unlock(&job->control.lock);
    return store != NULL;
}

/* Fields ----------------------------------------------------------------------------------------*/

static const char *const flag_names[] = {[TOW_FLAG_PREPARED] = "prepared",
                                         [TOW_FLAG_ROLLOVER] = "rollover",
                                         [TOW_FLAG_WRITES_BLOCKED] = "writesBlocked",
                                         [TOW_FLAG_TTL_RESTORED] = "ttlRestored"};

#define ALL_FLAGS "allFlags" /* from then on a flag that is missing was lost on the way */

bool tow_journal_set_flag(tow_journal_t *journal, tow_flag_t flag, bool value, tow_error_t *error)
{
    bson_t fields = BSON_INITIALIZER;
    bool ok;

    bson_append_bool(&fields, flag_names[flag], -1, value);
    ok = tow_store_set(journal->store, &fields, error);
    bson_destroy(&fields);
    return ok;
}

bool tow_journal_set_time(tow_journal_t *journal, const char *name, tow_optime_t time,
                          tow_error_t *error)
{
    bson_t fields = BSON_INITIALIZER;
    bool ok;

    bson_append_timestamp(&fields, name, -1, (uint32_t)(time >> 32), (uint32_t)time);
    ok = tow_store_set(journal->store, &fields, error);
    bson_destroy(&fields);
    return ok;
}

bool tow_journal_set_attempt(tow_journal_t *journal, const tow_attempt_t *attempt,
                             tow_error_t *error)
{
    bson_t fields = BSON_INITIALIZER, child;
    bool ok;

    bson_append_document_begin(&fields, "lastAttempt", -1, &child);
    bson_append_date_time(&child, "confirmed", -1, attempt->confirmed_ms);
    bson_append_date_time(&child, "calledOff", -1, attempt->called_off_ms);
    bson_append_int64(&child, "lateWrites", -1, (int64_t)attempt->late_writes);
    bson_append_utf8(&child, "reason", -1, attempt->reason, -1);
    bson_append_document_end(&fields, &child);
    ok = tow_store_set(journal->store, &fields, error);
    bson_destroy(&fields);
    return ok;
}

static void take_attempt(const bson_iter_t *field, tow_attempt_t *out)
{
    const char *reason;
    bson_iter_t iter;
    bson_t attempt;
    int64_t late;

    if (!tow_iter_document(field, &attempt))
        return;
    if (bson_iter_init_find(&iter, &attempt, "confirmed"))
        tow_iter_wall_ms(&iter, &out->confirmed_ms);
    if (bson_iter_init_find(&iter, &attempt, "calledOff"))
        tow_iter_wall_ms(&iter, &out->called_off_ms);
    if (bson_iter_init_find(&iter, &attempt, "lateWrites") &&
        tow_iter_count(&iter, INT64_MAX, &late))
        out->late_writes = (uint64_t)late;
    if (tow_field_text(&attempt, "reason", &reason))
        snprintf(out->reason, sizeof out->reason, "%s", reason);
}

static void take_field(const bson_iter_t *field, tow_remembered_t *out)
{
    const char *name = bson_iter_key(field), *text;
    int64_t number;

    for (int flag = 0; flag < TOW_FLAGS; flag++)
        if (!strcmp(name, flag_names[flag]))
            out->flags[flag] = bson_iter_bool(field);
    if (!strcmp(name, "series") && tow_iter_text(field, &text))
        snprintf(out->series, sizeof out->series, "%s", text);
    else if (!strcmp(name, "restarts") && tow_iter_count(field, INT32_MAX - 1, &number))
        out->restarts = (uint32_t)number + 1;
    else if (!strcmp(name, "lastAttempt"))
        take_attempt(field, &out->attempt);
    else if (!strcmp(name, "startTime"))
        tow_iter_time(field, &out->start);
}

bool tow_journal_is_whole(const bson_t *document)
{
    bool all = bson_has_field(document, ALL_FLAGS);
    bson_iter_t iter;

    for (int flag = 0; flag < TOW_FLAGS; flag++)
        if (bson_iter_init_find(&iter, document, flag_names[flag]) ? !BSON_ITER_HOLDS_BOOL(&iter)
                                                                   : all)
            return false;
    return true;
}

/* A flag that cannot be read is not false: a job that was prepared would be prepared once more. */
static bool get_whole(tow_job_t *job, bson_t *out, tow_error_t *error)
{
    enum { ATTEMPTS = 3 };

    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        if (!tow_store_get(job->journal.store, out, error))
            return false;
        if (tow_journal_is_whole(out))
            return true;
        bson_destroy(out);
    }
    bson_init(out);
    return tow_fail_reply(error, "destination", "the flags of the job's document cannot be read");
}

bool tow_job_remember(tow_job_t *job, tow_remembered_t *out, tow_error_t *error)
{
    bson_t document, fields = BSON_INITIALIZER;
    bson_iter_t iter;
    bool ok = get_whole(job, &document, error);

    *out = (tow_remembered_t){0};
    if (bson_iter_init(&iter, &document))
        while (bson_iter_next(&iter))
            take_field(&iter, out);
    ok = ok && tow_job_restore_window(job, &document, error);
    bson_destroy(&document);
    if (ok && !out->series[0]) {
        tow_new_id(out->series);
        bson_append_utf8(&fields, "series", -1, out->series, -1);
    }
    bson_append_int32(&fields, "restarts", -1, (int32_t)out->restarts);
    for (int flag = 0; flag < TOW_FLAGS; flag++)
        bson_append_bool(&fields, flag_names[flag], -1, out->flags[flag]);
    bson_append_bool(&fields, ALL_FLAGS, -1, true);
    ok = ok && tow_store_set(job->journal.store, &fields, error);
    bson_destroy(&fields);
    return ok;
}
