/* ending.c: what a job leaves behind: its state, what a person should know of, the summary. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/job/internal.h"

/* Remains ---------------------------------------------------------------------------------------*/

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
        [TOW_BEFORE_UNKNOWN] = "this process copied nothing; what an earlier one of this job copied, if there "
                               "was one, remains on the destination",
        [TOW_BEFORE_NONE] = "nothing was copied, so nothing remains on the destination",
        [TOW_BEFORE_BEGUN] = "what an earlier process of this job copied remains on the destination; a new job "
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

/* The destination's user ------------------------------------------------------------------------*/

/* Who this connection is logged in as; both are copied. */
static bool find_user(tow_conn_t *conn, char user[256], char database[256], tow_error_t *error)
{
    tow_send_options_t send = {0};
    bson_t command = BSON_INITIALIZER, reply;
    bson_iter_t iter, found;
    bool ok;

    bson_append_int32(&command, "connectionStatus", -1, 1);
    ok = tow_conn_command(conn, "admin", &command, &send, &reply, error);
    user[0] = database[0] = '\0';
    if (ok && bson_iter_init(&iter, &reply) &&
        bson_iter_find_descendant(&iter, "authInfo.authenticatedUsers.0.user", &found) &&
        BSON_ITER_HOLDS_UTF8(&found))
        snprintf(user, 256, "%s", bson_iter_utf8(&found, NULL));
    if (ok && bson_iter_init(&iter, &reply) &&
        bson_iter_find_descendant(&iter, "authInfo.authenticatedUsers.0.db", &found) &&
        BSON_ITER_HOLDS_UTF8(&found))
        snprintf(database, 256, "%s", bson_iter_utf8(&found, NULL));
    bson_destroy(&reply);
    bson_destroy(&command);
    if (ok && !user[0])
        return tow_fail(error, TOW_ERROR_UNSUITABLE, "the destination names no user");
    return ok;
}

static bool drop_user(tow_conn_t *conn, const char *user, const char *database, tow_error_t *error)
{
    tow_send_options_t send = {.flags = TOW_SEND_WRITE};
    bson_t command = BSON_INITIALIZER, reply;
    bool ok;

    bson_append_utf8(&command, "dropUser", -1, user, -1);
    ok = tow_conn_command(conn, database, &command, &send, &reply, error);
    bson_destroy(&reply);
    bson_destroy(&command);
    return ok;
}

/* The last that is asked of the destination: from here on it may refuse us everything. */
static void remove_user(tow_job_t *job)
{
    char user[256] = "", database[256] = "";
    tow_error_t error;
    tow_conn_t *conn = tow_conn_open(job->sides.destination, &error);

    if (conn)
        tow_conn_unguarded(conn); /* the lease proved who we are, and is gone with the state */
    if (conn && find_user(conn, user, database, &error) &&
        drop_user(conn, user, database, &error)) {
        pthread_mutex_lock(&job->lock);
        job->user_removed = tow_format("%s@%s", user, database);
        pthread_mutex_unlock(&job->lock);
        tow_emit(&job->sides.sink, TOW_LEVEL_INFO, "user_removed",
                 "removed user %s@%s of the destination", user, database);
    } else {
        tow_emit(&job->sides.sink, TOW_LEVEL_WARNING, "user_kept",
                 "the destination's user could not be removed: %s", error.message);
        tow_job_remains_add(job,
                            "the destination's user%s%s; remove it there with "
                            "db.getSiblingDB(\"%s\").dropUser(\"%s\")",
                            *user ? " " : "", user, *database ? database : "DATABASE",
                            *user ? user : "USER");
    }
    tow_conn_close(conn);
}

/* State -----------------------------------------------------------------------------------------*/

void tow_job_end_writers(tow_job_t *job)
{
    tow_job_end_verifier(job);
    if (job->replay)
        tow_replay_end(job->replay);
    if (job->copy)
        tow_copy_end(job->copy);
}

/* The job turns out to be another process's, whatever this one believed. */
static void lose(tow_job_t *job, const tow_error_t *error)
{
    pthread_mutex_lock(&job->lock);
    job->ok = false;
    job->error = *error;
    job->cutover = TOW_CUTOVER_NONE;
    snprintf(job->reason, sizeof job->reason, "%.*s", REASON_SIZE - 1, error->message);
    pthread_mutex_unlock(&job->lock);
}

/* A checkpoint that is being written comes before the drop: after it, it would make the database
 * again. */
static bool drop_database(tow_job_t *job, tow_error_t *error)
{
    bool ok;

    pthread_mutex_lock(&job->checkpoint_lock);
    ok = tow_store_drop(job->store, error);
    job->state_removed = ok;
    pthread_mutex_unlock(&job->checkpoint_lock);
    return ok;
}

/* Nothing of this process is under way before the job's state goes: a write of it after a newer one
 * of the next process would put old content over new, and a range that is recorded would make a
 * database again that was removed. An index that is being built does neither. */
static void drop_state(tow_job_t *job)
{
    tow_error_t error;

    tow_job_end_writers(job);
    if (job->store && !drop_database(job, &error)) {
        if (error.code == TOW_ERROR_LEASE) {
            lose(job, &error);
            return;
        }
        tow_emit(&job->sides.sink, TOW_LEVEL_WARNING, "state_kept",
                 "the job's database could not be removed: %s", error.message);
        tow_job_remains_add(job,
                            "the job's database; remove it on the destination with "
                            "db.getSiblingDB(\"towline_%s\").dropDatabase()",
                            job->config.name);
    }
    if (job->spool && !tow_spool_clear(job->spool, &error))
        tow_emit(&job->sides.sink, TOW_LEVEL_WARNING, "spool_kept", "%s", error.message);
}

static void keep_state(tow_job_t *job)
{
    tow_error_t error;

    tow_job_end_writers(job);
    if ((job->monitor_started && !tow_job_checkpoint(job, &error)) ||
        !tow_job_save_window(job, &error) || !tow_store_release(job->store, &error))
        tow_emit(&job->sides.sink, TOW_LEVEL_WARNING, "checkpoint_failed", "%s", error.message);
    if (!job->ok)
        tow_job_remains_add(job,
                            "the job's state, in the destination's database towline_%s: the same "
                            "command goes on from there",
                            job->config.name);
}

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
    options.stop = job->late_stop;
    if (!tow_store_peek(job->sides.destination, job->config.name, &options.settings, &view, &ignored))
        return true;
    pthread_mutex_lock(&job->lock);
    job->before = view.exists ? TOW_BEFORE_BEGUN : TOW_BEFORE_NONE;
    pthread_mutex_unlock(&job->lock);
    if (!view.exists || (blocked && !view.writes_blocked))
        return true;
    store = tow_store_open(&options, &resumed, &ignored);
    job->begun = true;
    pthread_mutex_lock(&job->lock);
    job->store = store;
    job->writes_blocked = store && view.writes_blocked;
    pthread_mutex_unlock(&job->lock);
    return store != NULL;
}

/* What proves the end comes before the state goes, and only whose the job is removes it. */
static void remove_done(tow_job_t *job)
{
    tow_error_t error;
    bool recorded = job->end_recorded;

    if (!job->told_before) {
        pthread_mutex_lock(&job->lock);
        tow_job_make_summary(job, TOW_PHASE_DONE);
        pthread_mutex_unlock(&job->lock);
    }
    tow_job_end_writers(job);
    if (job->store && !job->told_before && !tow_job_record_done(job, &recorded, &error)) {
        if (error.code == TOW_ERROR_LEASE) {
            lose(job, &error);
            return;
        }
        tow_emit(&job->sides.sink, TOW_LEVEL_WARNING, "end_not_recorded", "%s", error.message);
    }
    if (recorded || !job->store) {
        drop_state(job);
        return;
    }
    keep_state(job);
    tow_job_remains_add(
        job,
        "the job's state, marked as ended, in the destination's database towline_%s: the "
        "same command removes it once the spool's folder can be written",
        job->config.name);
}

static void settle_done(tow_job_t *job)
{
    if (job->writes_blocked)
        tow_job_remains_add(job, "writes to the source stay blocked; lift it there with "
                                 "db.adminCommand({setUserWriteBlockMode: 1, global: false})");
    if (job->config.keep_state && job->store) {
        tow_job_leave_block(job);
        keep_state(job);
    } else {
        remove_done(job);
    }
    if (job->ok && job->config.remove_user && job->sides.destination)
        remove_user(job);
}

static void settle_cancelled(tow_job_t *job)
{
    char *text = tow_job_remains(job);

    tow_job_remains_add(job, "%s", text);
    free(text);
    if (!job->store && !tow_job_open_state(job, false))
        tow_job_remains_add(job, "the job's database towline_%s, which another process holds",
                            job->config.name);
    if (job->store)
        tow_job_unblock_writes(job);
    drop_state(job);
}

static void settle_failed(tow_job_t *job)
{
    if (!job->store && (!tow_job_open_state(job, true) || !job->store))
        return;
    tow_job_unblock_writes(job);
    if (job->begun)
        keep_state(job);
    else
        drop_state(job); /* nothing was written yet but that this process looked */
}

void tow_job_settle_state(tow_job_t *job)
{
    if (job->ok)
        settle_done(job);
    else if (job->error.code == TOW_ERROR_CANCELLED)
        settle_cancelled(job);
    else if (job->error.code !=
             TOW_ERROR_LEASE) /* else it is another process's, and so is a block */
        settle_failed(job);
    tow_job_unreserve_done(job);
}

/* Summary ---------------------------------------------------------------------------------------*/

void tow_job_make_summary(tow_job_t *job, tow_phase_t phase)
{
    tow_summary_t summary = {.job = job->config.name,
                             .state = tow_phase_name(phase),
                             .error = job->ok ? "" : job->error.message,
                             .address = job->config.destination_address,
                             .user_removed = job->user_removed,
                             .source = job->sides.source ? tow_link_hosts(job->sides.source) : "",
                             .destination =
                                 job->sides.destination ? tow_link_hosts(job->sides.destination) : "",
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
