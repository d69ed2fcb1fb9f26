/* SPDX-License-Identifier: Apache-2.0 */
/* process.h: the processes of one job: begun, killed, stopped for a while, begun again until one of
 * them has cut over. */
#ifndef TOW_SIM_PROCESS_H
#define TOW_SIM_PROCESS_H

#include <sys/types.h>

#include "network.h"
#include "plan.h"

void process_begin(const plan_t *plan);
void *process_supervise(void *data); /* a fiber of the world; it ends the run */
void process_judge(void);
void process_clean(pid_t pid); /* what a run's process left in the temporary folder */

#endif
