/* waiting.h: waits until a job is where it is to be, or has ended. */
#ifndef TOW_CMD_WAITING_H
#define TOW_CMD_WAITING_H

#include "engine/towline.h"

/* Whether --wait and --timeout fit the verb; prints the error otherwise. */
bool cmd_wait_fits(const tow_options_t *options);
/* Waits for the end of the job whose cutover has begun; an exit status. */
int cmd_wait_for_cutover(const tow_options_t *options);

#endif
