/* SPDX-License-Identifier: Apache-2.0 */
/* rehearse.c: tries what the end of a job, or a restart, needs with the very commands, before
 * anything is begun: privileges and settings that refuse them must not be found out in the
 * downtime. Nothing is written. */
#include <stdlib.h>

#include "engine/base/memory.h"
#include "engine/check/checks.h"
#include "engine/link/codes.h"
#include "oplog/tail.h"

/* `what` was tried. */
static void tell(tow_check_run_t *run, const char *name, const char *what, const tow_error_t *error)
{
    /* Without the command, which the server repeats. */
    if (error->server_code == TOW_CODE_UNAUTHORIZED)
        tow_find_failure(run->findings, name, TOW_ERROR_UNREACHABLE,
                         tow_format("grant its user the roles that the README names"),
                         "a privilege is missing: the user may not %s", what);
    else if (error->server_code == TOW_CODE_READ_CONCERN_MAJORITY_NOT_ENABLED)
        tow_find_failure(
            run->findings, name, TOW_ERROR_UNSUITABLE,
            tow_format("set replication.enableMajorityReadConcern to true, its default, in the "
                       "configuration of every member, and restart them one after another"),
            "%s", error->message);
    else
        tow_find_error(run->findings, name, error);
}

/* The barrier: by which a cutover and a restart know what the source had. */
static void check_source_time(tow_check_run_t *run)
{
    tow_optime_t time;
    tow_error_t error;

    if (tow_skip_without(run, "source_reads", true, false))
        return;
    if (tow_link_barrier_time(run->source, &time, &error))
        tow_find_pass(run->findings, "source_reads",
                      "majority reads answer, with the source's time");
    else
        tell(run, "source_reads", "read from a database", &error);
}

static void check_source_stream(tow_check_run_t *run)
{
    tow_error_t error;

    if (tow_skip_without(run, "source_stream", true, false))
        return;
    if (tow_link_facts(run->sides->source)->standalone)
        tow_find_skipped(run->findings, "source_stream",
                         "a standalone server has no change stream");
    else if (tow_tail_try(run->sides->source, run->sides->filter, &error))
        tow_find_pass(run->findings, "source_stream", "a change stream can be opened");
    else
        tell(run, "source_stream", "open a change stream of the whole deployment", &error);
}

static void check_destination_reads(tow_check_run_t *run)
{
    char *own = tow_format("towline_%s", run->config->name);
    tow_optime_t time;
    tow_error_t error;

    if (!tow_skip_without(run, "destination_reads", false, true)) {
        if (tow_link_majority_time(run->destination, own, &time, &error))
            tow_find_pass(run->findings, "destination_reads", "majority reads answer");
        else
            tell(run, "destination_reads", "read the database of the job", &error);
    }
    free(own);
}

void tow_check_rehearsal(tow_check_run_t *run)
{
    check_source_time(run);
    check_source_stream(run);
    check_destination_reads(run);
}
