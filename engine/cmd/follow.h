/* SPDX-License-Identifier: Apache-2.0 */
/* follow.h: the progress of a running job as it comes, from its server's events. */
#ifndef TOW_CMD_FOLLOW_H
#define TOW_CMD_FOLLOW_H

#include <bson/bson.h>

#include "engine/towline.h"

/* Is given each progress: {"progress": {…}} as an answer of the API has it, and the object itself
 * as JSON. True: it has seen enough. */
typedef bool (*cmd_progress_fn)(void *data, const bson_t *document, const char *progress);
typedef enum {
    CMD_FOLLOW_ENOUGH,
    CMD_FOLLOW_TIMEOUT, /* until_ms (tow_now_ms; 0: never) came first */
    CMD_FOLLOW_GONE,    /* nothing answers any more; nothing is printed */
    CMD_FOLLOW_FAILED   /* the error is printed, and *out_status is the exit status */
} cmd_followed_t;
cmd_followed_t cmd_follow(const tow_options_t *options, int64_t until_ms, cmd_progress_fn take,
                          void *data, int *out_status);

#endif
