/* SPDX-License-Identifier: Apache-2.0 */
/* ending.c: what becomes of the job's state and of the destination's user at the end. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/job/internal.h"
#include "engine/link/reply.h"

/* The destination's user ------------------------------------------------------------------------*/

/* Who this connection is logged in as; both are copied. */
static bool find_user(tow_conn_t *conn, char user[256], char database[256], tow_error_t *error)
{
    tow_send_options_t send = {0};
    bson_t command = BSON_INITIALIZER, reply;
    bson_iter_t iter, found;
    const char *text;
    bool ok;

    bson_append_int32(&command, "connectionStatus", -1, 1);
    ok = tow_conn_command(conn, "admin", &command, &send, &reply, error);
    user[0] = database[0] = '\0';
    if (ok && bson_iter_init(&iter, &reply) &&
        bson_iter_find_descendant(&iter, "authInfo.authenticatedUsers.0.user", &found) &&
        tow_iter_text(&found, &text))
        snprintf(user, 256, "%s", text);
    if (ok && bson_iter_init(&iter, &reply) &&
        bson_iter_find_descendant(&iter, "authInfo.authenticatedUsers.0.db", &found) &&
        tow_iter_text(&found, &text))
        snprintf(database, 256, "%s", text);
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
    tow_conn_t *conn = tow_conn_open(job->sides.destination);

    tow_conn_unguarded(conn); /* the lease proved who we are, and is gone with the state */
    if (find_user(conn, user, database, &error) && drop_user(conn, user, database, &error)) {
        pthread_mutex_lock(&job->outcome.lock);
        job->outcome.user_removed = tow_format("%s@%s", user, database);
        pthread_mutex_unlock(&job->outcome.lock);
        tow_emit(&job->sides.sink, TOW_LEVEL_INFO, "user_removed",
                 "removed user %s@%s of the destination", user, database);
    } else {
        tow_emit(&job->sides.sink, TOW_LEVEL_WARNING, "user_kept",
                 "the destination's user could not be removed: %s", error.message);
        tow_outcome_remains(&job->outcome,
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
    if (job->flow.replay)
        tow_replay_end(job->flow.replay);
    if (job->flow.copy)
        tow_copy_end(job->flow.copy);
}

/* The job turns out to be another process's, whatever this one believed. */
static void lose(tow_job_t *job, const tow_error_t *error)
{
    pthread_mutex_lock(&job->control.lock);
    job->outcome.ok = false;
    job->outcome.error = *error;
    job->control.step = TOW_CUTOVER_NONE;
    snprintf(job->outcome.reason, sizeof job->outcome.reason, "%.*s", REASON_SIZE - 1,
             error->message);
    pthread_mutex_unlock(&job->control.lock);
}

/* A checkpoint that is being written comes before the drop: after it, it would make the database
 * again. */
bool tow_job_drop_database(tow_job_t *job, tow_error_t *error)
{
    bool ok;

    pthread_mutex_lock(&job->journal.lock);
    ok = tow_store_drop(job->journal.store, error);
    job->journal.state_removed = ok;
    pthread_mutex_unlock(&job->journal.lock);
    return ok;
}

static void clear_spool(tow_job_t *job)
{
    tow_error_t error;

    if (job->flow.spool && !tow_spool_clear(job->flow.spool, &error))
        tow_emit(&job->sides.sink, TOW_LEVEL_WARNING, "spool_kept", "%s", error.message);
}

/* Nothing of this process is under way before the job's state goes: a write of it after a newer one
 * of the next process would put old content over new, and a range that is recorded would make a
 * database again that was removed. An index that is being built does neither. */
static void drop_state(tow_job_t *job)
{
    tow_error_t error;

    tow_job_end_writers(job);
    if (job->journal.store && !tow_job_drop_database(job, &error)) {
        if (error.code == TOW_ERROR_LEASE) {
            lose(job, &error);
            return;
        }
        tow_emit(&job->sides.sink, TOW_LEVEL_WARNING, "state_kept",
                 "the job's database could not be removed: %s", error.message);
        tow_outcome_remains(&job->outcome,
                            "the job's database; remove it on the destination with "
                            "db.getSiblingDB(\"towline_%s\").dropDatabase()",
                            job->config.name);
    }
    clear_spool(job);
}

static void keep_state(tow_job_t *job)
{
    tow_error_t error;

    tow_job_end_writers(job);
    if ((job->threads.monitor.started && !tow_job_checkpoint(job, &error)) ||
        !tow_job_save_window(job, &error) || !tow_store_release(job->journal.store, &error))
        tow_emit(&job->sides.sink, TOW_LEVEL_WARNING, "checkpoint_failed", "%s", error.message);
    if (!job->outcome.ok)
        tow_outcome_remains(&job->outcome,
                            "the job's state, in the destination's database towline_%s: the same "
                            "command goes on from there",
                            job->config.name);
}

/* What proves the end comes before the state goes, and only whose the job is removes it. With
 * --remove-user it goes at once: the same command cannot log in any more. */
static void remove_done(tow_job_t *job)
{
    tow_error_t error;
    bool recorded = job->outcome.end_recorded;

    if (!job->outcome.told_before) {
        pthread_mutex_lock(&job->control.lock);
        tow_job_make_summary(job, TOW_PHASE_DONE);
        pthread_mutex_unlock(&job->control.lock);
    }
    tow_job_end_writers(job);
    if (job->journal.store && !job->outcome.told_before &&
        !tow_job_record_done(job, &recorded, &error)) {
        if (error.code == TOW_ERROR_LEASE) {
            lose(job, &error);
            return;
        }
        tow_emit(&job->sides.sink, TOW_LEVEL_WARNING, "end_not_recorded", "%s", error.message);
    }
    if (recorded && job->journal.store && !job->config.remove_user) {
        job->outcome.state_waits = true; /* until the end was told: told.c */
        clear_spool(job);
        return;
    }
    if (recorded || !job->journal.store) {
        drop_state(job);
        return;
    }
    keep_state(job);
    tow_outcome_remains(
        &job->outcome,
        "the job's state, marked as ended, in the destination's database towline_%s: the "
        "same command removes it once the spool's folder can be written",
        job->config.name);
}

static void settle_done(tow_job_t *job)
{
    if (job->journal.writes_blocked)
        tow_outcome_remains(&job->outcome,
                            "writes to the source stay blocked; lift it there with "
                            "db.adminCommand({setUserWriteBlockMode: 1, global: false})");
    if (job->config.keep_state && job->journal.store) {
        tow_job_leave_block(job);
        keep_state(job);
    } else {
        remove_done(job);
    }
    if (!job->outcome.ok || !job->config.remove_user || !job->sides.destination)
        return;
    if (!job->journal.store || job->journal.state_removed)
        remove_user(job);
    else
        tow_outcome_remains(&job->outcome,
                            "the destination's user, which may still remove the job's state");
}

static void settle_cancelled(tow_job_t *job)
{
    char *text = tow_job_remains(job);

    tow_outcome_remains(&job->outcome, "%s", text);
    free(text);
    if (!job->journal.store && !tow_job_open_state(job, false))
        tow_outcome_remains(&job->outcome,
                            "the job's database towline_%s, which another process holds",
                            job->config.name);
    if (job->journal.store)
        tow_job_unblock_writes(job);
    drop_state(job);
}

static void settle_failed(tow_job_t *job)
{
    if (!job->journal.store && (!tow_job_open_state(job, true) || !job->journal.store))
        return;
    tow_job_unblock_writes(job);
    if (job->journal.begun)
        keep_state(job);
    else
        drop_state(job); /* nothing was written yet but that this process looked */
}

void tow_job_settle_state(tow_job_t *job)
{
    if (job->outcome.ok)
        settle_done(job);
    else if (job->outcome.error.code == TOW_ERROR_CANCELLED)
        settle_cancelled(job);
    else if (job->outcome.error.code !=
             TOW_ERROR_LEASE) /* else it is another process's, and so is a block */
        settle_failed(job);
    tow_job_unreserve_done(job);
}
