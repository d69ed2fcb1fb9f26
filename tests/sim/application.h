/* SPDX-License-Identifier: Apache-2.0 */
/* application.h: who writes to the source, and what the others have on the destination. */
#ifndef TOW_SIM_APPLICATION_H
#define TOW_SIM_APPLICATION_H

#include "engine/link/link.h"
#include "plan.h"

void application_begin(const plan_t *plan);
void *application_write(void *data); /* a fiber of the world */
bool application_is_done(void);
void application_end(void); /* the job has cut over: it writes to the destination from now on */
/* Fails the run unless both sides are equal, and what is somebody else's is as it was. `stop`: the
 * time of the source that the job ended with. Who goes on writing after that, against his word, may
 * find it or not. */
void application_judge(tow_optime_t stop);

#endif
