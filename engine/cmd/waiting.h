/* SPDX-License-Identifier: Apache-2.0 */
/* waiting.h: waits until a job is where it is to be, or has ended. */
#ifndef TOW_CMD_WAITING_H
#define TOW_CMD_WAITING_H

#include <bson/bson.h>

#include "engine/towline.h"

/* Whether --wait and --timeout fit each other, and the verb, which waits for nothing but `only`
 * (NULL: for anything); prints the error otherwise. */
bool cmd_wait_fits(const tow_options_t *options, const char *only);
/* Waits for the end of the job whose cutover has begun; an exit status. */
int cmd_wait_for_cutover(const tow_options_t *options);
/* A progress as it comes, as cmd_progress_fn has it; `last`: no other follows. */
typedef void (*cmd_show_fn)(const bson_t *document, const char *progress, bool last);
/* Waits until the job is "in-sync" (a cutover is possible), "verified" (both sides were found
 * equal) or "done", or has ended otherwise; an exit status. */
int cmd_wait_for(const tow_options_t *options, const char *goal, cmd_show_fn show);

#endif
