/* SPDX-License-Identifier: Apache-2.0 */
/* next.c: see next.h. */
#include "engine/job/next.h"

static const char *in_sync(const tow_next_facts_t *facts)
{
    if (facts->wished)
        return "wait: the cutover is about to begin";
    if (facts->by_itself)
        return facts->called_off ? "stop the writes to the source: the job cuts over by itself "
                                   "when none came for a second"
                                 : "nothing: the job cuts over by itself";
    if (!facts->can_commit)
        return "wait until the cutover is possible";
    return facts->called_off && facts->late_writes
               ? "find what still writes to the source and stop it, then: towline cutover --wait"
               : "stop the writes to the source, then: towline cutover --wait";
}

static const char *finalizing(const tow_next_facts_t *facts)
{
    if (facts->committed)
        return "wait: the job is about to end";
    return facts->wished ? "wait for the end; towline cutover --abort calls the cutover off"
                         : "wait: the cutover is being called off";
}

static const char *failed(const tow_next_facts_t *facts)
{
    return facts->exit_status == TOW_ERROR_INTERRUPTED
               ? "run the same command again: it goes on from its checkpoint"
               : "do what the reason asks for, then run the same command again";
}

const char *tow_next_step(const tow_next_facts_t *facts)
{
    if (facts->silent)
        return "see why that side does not answer; the job goes on by itself when it does";
    switch (facts->phase) {
    case TOW_PHASE_NEW:
    case TOW_PHASE_VALIDATING:
    case TOW_PHASE_PREPARING:
        return "wait: the copy begins by itself";
    case TOW_PHASE_COPYING:
    case TOW_PHASE_CATCHING_UP:
        return facts->by_itself ? "wait: the job cuts over by itself when it is in sync"
                                : "wait until the job is in sync";
    case TOW_PHASE_IN_SYNC:
        return in_sync(facts);
    case TOW_PHASE_FINALIZING:
        return finalizing(facts);
    case TOW_PHASE_PAUSED:
        return "towline resume, when changes may be applied again";
    case TOW_PHASE_DONE:
        return "point the application to the destination";
    case TOW_PHASE_EXPIRED:
        return "run the same command with --extend 24h, while the source's oplog reaches back";
    case TOW_PHASE_CANCELLED:
        return "nothing; a new job begins from the start";
    default:
        return failed(facts);
    }
}
