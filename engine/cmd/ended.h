/* SPDX-License-Identifier: Apache-2.0 */
/* ended.h: what a job that has ended left beside its spool (engine/job/ended.c), when no process
 * answers. */
#ifndef TOW_CMD_ENDED_H
#define TOW_CMD_ENDED_H

#include <bson/bson.h>

#include "engine/towline.h"

typedef struct {
    bson_t *document;     /* {job, listen, endedAt, exitStatus, summary {…}}, printable */
    char *json, *summary; /* the whole, and the summary in it, as they stand there */
} cmd_ended_t;

/* Of the job of that name in --spool, whose control server was at --listen and which did not end
 * before `since` (as JSON has times; "": whenever). False: there is none. */
bool cmd_ended_read(const tow_options_t *options, const char *job, const char *since,
                    cmd_ended_t *out);
void cmd_ended_clear(cmd_ended_t *ended);

#endif
