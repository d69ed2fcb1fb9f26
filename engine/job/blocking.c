/* SPDX-License-Identifier: Apache-2.0 */
/* blocking.c: blocks the writes at the source for the cutover, and lifts the block where it fails.
 *
 * The job's document says `writesBlocked` from before the block until it is lifted, so that the
 * next process knows of a block that a killed one left. It lifts it at once: the cutover has to be
 * asked for again, and until then the source is what the application works with. */
#include "engine/check/validate.h"
#include "engine/job/internal.h"
#include "engine/link/codes.h"
#include "engine/link/versions.h"

#define LIFT "db.adminCommand({setUserWriteBlockMode: 1, global: false})"

enum { ATTEMPTS = 3 };

static bool set_block(tow_job_t *job, bool on, tow_error_t *error)
{
    tow_send_options_t send = {.flags = TOW_SEND_RETRY};
    bson_t command = BSON_INITIALIZER, reply;
    tow_conn_t *source = tow_conn_open(job->sides.source);
    bool ok = false, again = true;

    bson_append_int32(&command, "setUserWriteBlockMode", -1, 1);
    bson_append_bool(&command, "global", -1, on);
    /* Once a stop was requested nothing is sent again by itself, but this is worth it. */
    for (int attempt = 0; again && attempt < ATTEMPTS; attempt++) {
        ok = tow_conn_command(source, "admin", &command, &send, &reply, error);
        again = !ok && error->retry != TOW_RETRY_NEVER;
        bson_destroy(&reply);
    }
    tow_conn_close(source);
    bson_destroy(&command);
    return ok;
}

static void note_block(tow_job_t *job, bool on)
{
    pthread_mutex_lock(&job->control.lock);
    job->journal.writes_blocked = on;
    pthread_mutex_unlock(&job->control.lock);
}

/* There is none. Where that cannot be stored the next process lifts it once more. */
static void forget_block(tow_job_t *job)
{
    tow_error_t error;

    note_block(job, false);
    if (!tow_journal_set_flag(&job->journal, TOW_FLAG_WRITES_BLOCKED, false, &error))
        tow_emit(&job->sides.sink, TOW_LEVEL_WARNING, "checkpoint_failed", "%s", error.message);
}

bool tow_job_block_writes(tow_job_t *job, tow_error_t *error)
{
    if (!tow_may_block_writes(job->sides.source, error) ||
        !tow_journal_set_flag(&job->journal, TOW_FLAG_WRITES_BLOCKED, true, error))
        return false;
    note_block(job, true);
    if (!set_block(job, true, error)) {
        /* Refused is refused; where the answer was lost there may be a block, which is lifted
         * later. */
        if (error->retry == TOW_RETRY_NEVER)
            forget_block(job);
        return tow_fail_context(error, "writes to the source cannot be blocked");
    }
    tow_emit(&job->sides.sink, TOW_LEVEL_INFO, "writes_blocked",
             "the source takes no writes; " LIFT " lifts it");
    return true;
}

void tow_job_leave_block(tow_job_t *job)
{
    tow_error_t error;

    if (job->journal.writes_blocked &&
        !tow_journal_set_flag(&job->journal, TOW_FLAG_WRITES_BLOCKED, false, &error))
        tow_emit(&job->sides.sink, TOW_LEVEL_WARNING, "checkpoint_failed", "%s", error.message);
}

void tow_job_unblock_writes(tow_job_t *job)
{
    tow_error_t error;
    bool blocked;

    pthread_mutex_lock(&job->control.lock);
    blocked = job->journal.writes_blocked;
    pthread_mutex_unlock(&job->control.lock);
    if (!blocked)
        return;
    if (!set_block(job, false, &error) && error.server_code != TOW_CODE_COMMAND_NOT_FOUND) {
        tow_emit(&job->sides.sink, TOW_LEVEL_ERROR, "writes_still_blocked",
                 "the source still takes no writes, and that could not be lifted: %s; run " LIFT
                 " there",
                 error.message);
        tow_outcome_remains(&job->outcome,
                            "writes to the source are still blocked; lift it there with " LIFT);
        return;
    }
    tow_emit(&job->sides.sink, TOW_LEVEL_INFO, "writes_unblocked", "the source takes writes again");
    forget_block(job);
}
