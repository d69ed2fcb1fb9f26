/* SPDX-License-Identifier: Apache-2.0 */
/* waiting.c: waits until a job is where it is to be, or has ended. */
#include "engine/cmd/waiting.h"

#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/base/duration.h"
#include "engine/cmd/cmd.h"
#include "engine/cmd/ended.h"
#include "engine/cmd/follow.h"
#include "engine/cmd/json.h"

typedef struct {
    const char *goal;
    cmd_show_fn show; /* NULL: nothing is shown */
    int status;       /* the exit status, once it is known */
    bool decided;
    char text[1200], job[48], phase[32]; /* what to say; which job it is, and where it was last */
} waiting_t;

static void decide(waiting_t *waiting, int status, const char *text)
{
    waiting->decided = true;
    waiting->status = status;
    snprintf(waiting->text, sizeof waiting->text, "%s", text);
}

/* A job that has ended; false: it has not. */
static bool take_end(waiting_t *waiting, const bson_t *document)
{
    double status = cmd_number_of(document, "progress.exitStatus");
    const char *reason = cmd_text_of(document, "progress.reason");

    snprintf(waiting->job, sizeof waiting->job, "%s", cmd_text_of(document, "progress.job"));
    snprintf(waiting->phase, sizeof waiting->phase, "%s", cmd_text_of(document, "progress.phase"));
    if (status >= 0)
        decide(waiting, (int)status,
               status > 0 && !*reason ? "the job did not end well; see its log" : reason);
    return waiting->decided;
}

/* A cutover that was called off leaves a job that goes on without one; while it is being finalized,
 * or ends, the step says nothing. */
static bool take_cutover(void *data, const bson_t *document, const char *progress TOW_UNUSED)
{
    waiting_t *waiting = data;

    if (take_end(waiting, document))
        return true;
    if (!strcmp(cmd_text_of(document, "progress.cutover.step"), "none") &&
        strcmp(waiting->phase, "finalizing") != 0)
        decide(waiting, TOW_ERROR_CALLED_OFF,
               "the cutover was called off, and nothing is lost: the job goes on as before; "
               "`towline status` "
               "says why");
    return waiting->decided;
}

/* Whether a job that goes on is where it is to be. What is being finalized was in sync. */
static bool has_reached(const waiting_t *waiting, const bson_t *document)
{
    bool finalizing = !strcmp(waiting->phase, "finalizing");

    if (!strcmp(waiting->goal, "done"))
        return false;
    if (!strcmp(waiting->goal, "in-sync"))
        return finalizing || cmd_flag_of(document, "progress.canCommit");
    return (finalizing || !strcmp(waiting->phase, "in-sync")) &&
           cmd_number_of(document, "progress.positions.verified.t") > 0;
}

static bool take_status(void *data, const bson_t *document, const char *progress)
{
    waiting_t *waiting = data;

    if (take_end(waiting, document)) {
        if (!waiting->status && !strcmp(waiting->goal, "verified") &&
            cmd_number_of(document, "progress.positions.verified.t") <= 0)
            decide(waiting, TOW_ERROR_STATE, "the job is done, and was not verified (--no-verify)");
    } else if (has_reached(waiting, document)) {
        decide(waiting, 0, "");
    }
    if (waiting->show)
        waiting->show(document, progress, waiting->decided);
    return waiting->decided;
}

/* The process is gone before it said how the job ended: it may have left it beside the spool. */
static bool take_left(const tow_options_t *options, waiting_t *waiting, const char *since)
{
    cmd_ended_t ended;

    if (!cmd_ended_read(options, waiting->job, since, &ended))
        return false;
    decide(waiting, (int)cmd_number_of(ended.document, "exitStatus"),
           cmd_text_of(ended.document, "summary.error"));
    if (waiting->status)
        cmd_say("%s", waiting->text);
    cmd_ended_clear(&ended);
    return true;
}

/* `waiting->status`, or that of a wait that came to nothing, which is printed. */
static int follow(const tow_options_t *options, waiting_t *waiting, cmd_progress_fn take,
                  const char *what)
{
    const char *timeout = tow_options_get(options, "timeout", 0);
    int64_t timeout_ms = 0;
    char since[32];
    int status = 0;

    tow_wall_text(tow_wall_ms(), since);

    if (timeout)
        tow_duration_parse(timeout, &timeout_ms);
    switch (cmd_follow(options, timeout ? tow_now_ms() + timeout_ms : 0, take, waiting, &status)) {
    case CMD_FOLLOW_ENOUGH:
        if (waiting->status)
            cmd_say("%s", waiting->text);
        return waiting->status;
    case CMD_FOLLOW_TIMEOUT:
        cmd_say("%s within %s: the job is %s, and goes on; wait again, or see `towline status`",
                what, timeout, *waiting->phase ? waiting->phase : "silent");
        return TOW_ERROR_TIMEOUT;
    case CMD_FOLLOW_GONE:
        if (take_left(options, waiting, since))
            return waiting->status;
        cmd_say("the job's process on %s is gone, and did not say how the job ended; see its log",
                tow_options_get(options, "listen", 0));
        return TOW_ERROR_CONTROL;
    default:
        return status;
    }
}

bool cmd_wait_fits(const tow_options_t *options, const char *only)
{
    const char *goal = tow_options_get(options, "wait", 0);

    if (tow_options_get(options, "timeout", 0) && !goal) {
        cmd_say("--timeout is for --wait only; give both, or neither");
        return false;
    }
    if (only && goal && strcmp(goal, only) != 0) {
        cmd_say("--wait: '%s' is nothing to wait for here; expected --wait alone, or --wait %s",
                goal, only);
        return false;
    }
    return true;
}

int cmd_wait_for_cutover(const tow_options_t *options)
{
    waiting_t waiting = {0};
    int status = follow(options, &waiting, take_cutover, "the cutover has not ended");

    if (!status)
        puts("done: the destination is what the source was; `towline run` has printed the summary");
    return status;
}

int cmd_wait_for(const tow_options_t *options, const char *goal, cmd_show_fn show)
{
    waiting_t waiting = {.goal = goal, .show = show};
    char what[64];

    snprintf(what, sizeof what, "the job was not %s", goal);
    return follow(options, &waiting, take_status, what);
}
