/* SPDX-License-Identifier: Apache-2.0 */
/* phases.h: the states of a job and the moves between them.
 *
 *   new → validating → preparing → copying → catching-up → in-sync → finalizing → done
 *             any of validating … finalizing → failed, expired, cancelled, new (stopped; resumable)
 *             copying, catching-up, in-sync ⇄ paused
 *             in-sync → catching-up (fell behind, or a collection is copied again)
 *             finalizing → catching-up (the cutover was called off)
 *             validating, preparing → done (an earlier process did it all, and ended before it said
 * so) new → copying, catching-up … only through validating and preparing                    */
#ifndef TOW_JOB_PHASES_H
#define TOW_JOB_PHASES_H

#include "engine/towline.h"

/* Whether the table allows the move. Staying is allowed. */
bool tow_phase_may_move(tow_phase_t from, tow_phase_t to);

#endif
