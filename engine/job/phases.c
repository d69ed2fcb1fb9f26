/* SPDX-License-Identifier: Apache-2.0 */
/* phases.c: see phases.h. */
#include "engine/job/phases.h"

#define BIT(phase) (1u << TOW_PHASE_##phase)
#define ENDS (BIT(FAILED) | BIT(EXPIRED) | BIT(CANCELLED))

static const struct {
    const char *name;
    unsigned next;
} phases[] = {
    [TOW_PHASE_NEW] = {"new", BIT(VALIDATING) | ENDS},
    [TOW_PHASE_VALIDATING] = {"validating", BIT(PREPARING) | BIT(DONE) | ENDS},
    [TOW_PHASE_PREPARING] = {"preparing", BIT(COPYING) | BIT(DONE) | ENDS},
    [TOW_PHASE_COPYING] = {"copying", BIT(CATCHING_UP) | BIT(PAUSED) | ENDS},
    [TOW_PHASE_CATCHING_UP] = {"catching-up", BIT(IN_SYNC) | BIT(COPYING) | BIT(PAUSED) | ENDS},
    [TOW_PHASE_IN_SYNC] = {"in-sync", BIT(FINALIZING) | BIT(CATCHING_UP) | BIT(PAUSED) | ENDS},
    [TOW_PHASE_FINALIZING] = {"finalizing", BIT(DONE) | BIT(CATCHING_UP) | ENDS},
    [TOW_PHASE_DONE] = {"done", 0},
    [TOW_PHASE_PAUSED] = {"paused", BIT(COPYING) | BIT(CATCHING_UP) | BIT(IN_SYNC) | ENDS},
    [TOW_PHASE_FAILED] = {"failed", 0},
    [TOW_PHASE_EXPIRED] = {"expired", 0},
    [TOW_PHASE_CANCELLED] = {"cancelled", 0},
};

const char *tow_phase_name(tow_phase_t phase)
{
    return (unsigned)phase < sizeof phases / sizeof *phases ? phases[phase].name : "unknown";
}

const char *tow_cutover_step_name(tow_cutover_step_t step)
{
    static const char *const names[] = {"none", "confirmed", "finalizing", "done"};

    return (unsigned)step < sizeof names / sizeof *names ? names[step] : "unknown";
}

bool tow_phase_may_move(tow_phase_t from, tow_phase_t to)
{
    return from == to || (phases[from].next >> to & 1);
}

bool tow_phase_is_final(tow_phase_t phase)
{
    return phases[phase].next == 0;
}
