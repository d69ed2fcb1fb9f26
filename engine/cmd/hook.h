/* SPDX-License-Identifier: Apache-2.0 */
/* hook.h: runs the command of --on-phase at each phase of a job.
 *
 * Threads: one of its own runs the commands, one after the other; the job never waits for it. */
#ifndef TOW_CMD_HOOK_H
#define TOW_CMD_HOOK_H

#include "engine/cmd/cmd.h"

typedef struct cmd_hook cmd_hook_t;

/* Before the job is started. *out is NULL without a command. A command that cannot be started, or
 * that does not end with status 0, is a warning in the log. */
bool cmd_hook_begin(const char *command, tow_job_t *job, cmd_log_t *log, cmd_hook_t **out,
                    tow_error_t *error);
/* The job has ended with that exit status: runs the last one, and waits for all. Takes NULL. */
void cmd_hook_end(cmd_hook_t *hook, int status);
/* The process ends now: so does the command that runs, with all that it has started. */
void cmd_hook_kill(void);

#endif
