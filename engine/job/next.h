/* SPDX-License-Identifier: Apache-2.0 */
/* next.h: what whoever looks at a job may want to do next.
 *
 * Facts in, text out: no clock, no lock, no I/O. */
#ifndef TOW_JOB_NEXT_H
#define TOW_JOB_NEXT_H

#include "engine/towline.h"

typedef struct {
    tow_phase_t phase;
    bool can_commit;
    bool by_itself;   /* the cutover comes without being asked for */
    bool called_off;  /* the last cutover was, */
    bool late_writes; /* because of writes after the confirmation, or with some */
    bool wished;      /* the cutover; false while finalizing: it is being called off */
    bool committed;   /* it has passed its point of no return */
    bool silent;      /* a side does not answer */
    int exit_status;  /* of a job that has ended */
} tow_next_facts_t;

const char *tow_next_step(const tow_next_facts_t *facts);

#endif
