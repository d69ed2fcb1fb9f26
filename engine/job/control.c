/* SPDX-License-Identifier: Apache-2.0 */
/* control.c: see control.h. */
#include "engine/job/control.h"

#include "engine/base/clock.h"

enum { QUIET_MS = 1000 /* of the source, before a cutover that was called off is tried again */ };

void tow_control_init(tow_control_t *control)
{
    pthread_mutex_init(&control->lock, NULL);
    tow_condition_init(&control->changed);
}

void tow_control_clear(tow_control_t *control)
{
    pthread_cond_destroy(&control->changed);
    pthread_mutex_destroy(&control->lock);
}

/* The decision ----------------------------------------------------------------------------------*/

static tow_action_t do_it(tow_action_kind_t kind)
{
    return (tow_action_t){.kind = kind};
}

static tow_action_t move_to(tow_phase_t phase)
{
    return (tow_action_t){TOW_DO_MOVE, phase};
}

/* Having been away, a job has to catch up first. */
static tow_action_t resume(const tow_decider_t *decider)
{
    return (tow_action_t){TOW_DO_RESUME, decider->paused_from == TOW_PHASE_COPYING
                                             ? TOW_PHASE_COPYING
                                             : TOW_PHASE_CATCHING_UP};
}

/* A job that cuts over by itself tries again only when nothing was written for a while. */
static bool is_quiet(tow_decider_t *decider, const tow_facts_now_t *facts)
{
    if (facts->events != decider->quiet_events) {
        decider->quiet_events = facts->events;
        decider->quiet_since_ms = facts->now_ms;
    }
    return !facts->called_off || facts->now_ms - decider->quiet_since_ms >= QUIET_MS;
}

/* On the way to be in sync, each step rests on the one before: what a gap of the stream hid is
 * repaired, the destination expires nothing by itself, and its documents are a state that the
 * source was in, before unique indexes are built, without which no cutover is possible. */
static tow_action_t catch_up(const tow_facts_now_t *facts)
{
    if (!facts->copied)
        return move_to(TOW_PHASE_COPYING);
    if (facts->rolled_over)
        return do_it(TOW_DO_RESYNC);
    if (facts->ttl_restored)
        return do_it(TOW_DO_HOLD_TTL);
    if (!facts->unique_built)
        return do_it(facts->consistent ? TOW_DO_BUILD_UNIQUE : TOW_DO_WAIT);
    return facts->close ? move_to(TOW_PHASE_IN_SYNC) : do_it(TOW_DO_WAIT);
}

static tow_action_t advance(const tow_facts_now_t *facts)
{
    switch (facts->phase) {
    case TOW_PHASE_COPYING:
        return facts->copied ? move_to(TOW_PHASE_CATCHING_UP) : do_it(TOW_DO_WAIT);
    case TOW_PHASE_CATCHING_UP:
        return catch_up(facts);
    case TOW_PHASE_IN_SYNC:
        return facts->copied && facts->close ? do_it(TOW_DO_WAIT) : move_to(TOW_PHASE_CATCHING_UP);
    default:
        return do_it(TOW_DO_WAIT);
    }
}

tow_action_t tow_control_step(tow_decider_t *decider, const tow_facts_now_t *facts)
{
    bool quiet = is_quiet(decider, facts);
    tow_action_t action;

    if (facts->stop)
        return do_it(TOW_DO_STOP);
    if (facts->pause && facts->phase != TOW_PHASE_PAUSED) {
        decider->paused_from = facts->phase;
        return do_it(TOW_DO_PAUSE);
    }
    if (!facts->pause && facts->phase == TOW_PHASE_PAUSED)
        return resume(decider);
    action = advance(facts);
    if (action.kind != TOW_DO_WAIT)
        return action;
    if (facts->phase == TOW_PHASE_IN_SYNC &&
        (facts->cutover || (facts->by_itself && quiet && facts->indexes_idle)))
        return do_it(TOW_DO_CUT_OVER);
    if (facts->forgotten)
        return do_it(TOW_DO_FORGET);
    /* A cutover that was asked for in time comes to its end. */
    return do_it(facts->window_over && !facts->cutover ? TOW_DO_EXPIRE : TOW_DO_WAIT);
}
