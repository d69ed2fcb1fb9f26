/* SPDX-License-Identifier: Apache-2.0 */
/* job.c: the public job: its life, its phases, and what may be asked of it. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/check/validate.h"
#include "engine/job/internal.h"
#include "engine/link/versions.h"

enum { IN_SYNC_LAG_MS = 2000, TICK_MS = 20 };

_Static_assert(sizeof TOW_VERSION == sizeof TOW_VERSION_STRING,
               "towline.h and meson.build have different versions");

const char *tow_version(void)
{
    return TOW_VERSION;
}

/* Events from any thread, one at a time. */
static void forward_event(void *data, tow_level_t level, const char *name, const char *message)
{
    tow_job_t *job = data;

    pthread_mutex_lock(&job->listeners.lock);
    tow_outcome_note(&job->outcome, name, message);
    for (size_t i = 0; i < sizeof job->listeners.items / sizeof *job->listeners.items; i++)
        if (job->listeners.items[i].fn)
            job->listeners.items[i].fn(job->listeners.items[i].data, level, name, message);
    pthread_mutex_unlock(&job->listeners.lock);
}

static bool read_options(tow_job_t *job, const tow_options_t *options, tow_error_t *error)
{
    char *own = tow_format("towline_%s", tow_options_get(options, "job", 0));

    tow_filter_set_own(job->sides.filter, own);
    free(own);
    if (!tow_config_read(options, &job->config, error) ||
        !tow_options_filter(options, job->sides.filter, error))
        return false;
    job->sides.filter_text = tow_filter_text(job->sides.filter);
    job->control.window = tow_window_new(job->config.window_ms);
    return tow_notices_new(options, &job->sides.sink, &job->notices, error);
}

/* A listener may ask the job for something that is an event, too. */
static void make_event_lock(pthread_mutex_t *lock)
{
    pthread_mutexattr_t attributes;

    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(lock, &attributes);
    pthread_mutexattr_destroy(&attributes);
}

tow_job_t *tow_job_new(const tow_options_t *options, tow_error_t *error)
{
    tow_job_t *job = tow_alloc(sizeof *job);

    make_event_lock(&job->listeners.lock);
    job->sides.sink = (tow_sink_t){forward_event, job};
    job->sides.stop = tow_stop_new();
    job->sides.filter = tow_filter_new();
    tow_control_init(&job->control);
    tow_journal_init(&job->journal);
    tow_flow_init(&job->flow);
    tow_outcome_init(&job->outcome);
    if (!read_options(job, options, error)) {
        tow_job_destroy(job);
        return NULL;
    }
    return job;
}

void tow_job_destroy(tow_job_t *job)
{
    if (!job)
        return;
    if (job->threads.supervisor.started) {
        tow_stop_request(job->sides.stop, NULL);
        tow_job_told(job);
        tow_thread_join(&job->threads.supervisor);
    }
    tow_notices_destroy(job->notices);
    tow_checked_clear(&job->checked);
    tow_link_destroy(
        job->sides.source); /* takes the driver up to half a second: not before the end is told */
    tow_link_destroy(job->sides.destination);
    tow_outcome_clear(&job->outcome);
    tow_comparer_clear(&job->comparer);
    tow_journal_clear(&job->journal);
    tow_control_clear(&job->control);
    tow_config_clear(&job->config);
    free(job->sides.filter_text);
    tow_filter_destroy(job->sides.filter);
    tow_stop_destroy(job->sides.stop);
    pthread_mutex_destroy(&job->listeners.lock);
    free(job);
}

bool tow_job_on_event(tow_job_t *job, tow_event_fn fn, void *data)
{
    bool room = false;

    pthread_mutex_lock(&job->listeners.lock);
    for (size_t i = 0; !room && i < sizeof job->listeners.items / sizeof *job->listeners.items; i++)
        if (!job->listeners.items[i].fn) {
            job->listeners.items[i].fn = fn;
            job->listeners.items[i].data = data;
            room = true;
        }
    pthread_mutex_unlock(&job->listeners.lock);
    return room;
}

const char *tow_job_name(const tow_job_t *job)
{
    return job->config.name;
}

/* Next to nothing is left to apply. */
static bool is_close(tow_job_t *job)
{
    int64_t lag_ms;

    pthread_mutex_lock(&job->control.lock);
    tow_job_measure_lag(job);
    lag_ms = job->flow.lag_ms;
    pthread_mutex_unlock(&job->control.lock);
    return !atomic_load(&job->flow.rollover) && tow_tail_close(job->flow.tail) && lag_ms >= 0 &&
           lag_ms <= IN_SYNC_LAG_MS;
}

/* The destination is a state that the source was in. */
static bool is_consistent(tow_job_t *job)
{
    tow_optime_t consistent = tow_namespaces_consistent(job->flow.namespaces);

    pthread_mutex_lock(&job->control.lock);
    job->flow.consistent_time = consistent;
    pthread_mutex_unlock(&job->control.lock);
    return tow_ledger_floor_time(job->flow.ledger) >= consistent &&
           tow_copy_indexes_idle(job->flow.copy);
}

/* What the parts say of themselves, each for itself. */
static void look(tow_job_t *job, tow_facts_now_t *out)
{
    *out = (tow_facts_now_t){.now_ms = tow_now_ms(),
                             .stop = tow_stop_requested(job->sides.stop),
                             .copied = tow_copy_finished(job->flow.copy),
                             .rolled_over = atomic_load(&job->flow.rollover) == TOW_ROLLOVER_OPENED,
                             .ttl_restored = job->journal.ttl_restored,
                             .unique_built = atomic_load(&job->flow.synced_once),
                             .indexes_idle = tow_copy_indexes_idle(job->flow.copy),
                             .events = tow_tail_events(job->flow.tail)};
    out->close = is_close(job);
    out->consistent = out->copied && !out->unique_built && is_consistent(job);
}

/* What comes next. What somebody may ask of the job meanwhile is decided here, under the lock: it
 * came before, and counts, or is refused. */
static tow_action_t decide(tow_job_t *job, tow_decider_t *decider)
{
    tow_control_t *control = &job->control;
    tow_facts_now_t facts;
    tow_action_t action;

    look(job, &facts);
    pthread_mutex_lock(&control->lock);
    facts.phase = control->phase;
    facts.pause = control->pause_wished;
    facts.cutover = control->cutover_wished;
    facts.forgotten = control->step == TOW_CUTOVER_CONFIRMED && !control->cutover_wished;
    facts.window_over = tow_window_over(&control->window, tow_wall_ms());
    facts.by_itself = !job->config.manual && !control->waits_for_word;
    facts.called_off = control->called_off > 0;
    action = tow_control_step(decider, &facts);
    if (action.kind == TOW_DO_CUT_OVER)
        control->cutover_wished = true;
    control->expired = action.kind == TOW_DO_EXPIRE;
    pthread_mutex_unlock(&control->lock);
    return action;
}

static void hold(tow_job_t *job, bool pause)
{
    if (pause) {
        tow_replay_pause(job->flow.replay, true);
        tow_copy_pause(job->flow.copy, true);
    } else {
        tow_copy_pause(job->flow.copy, false);
        tow_replay_pause(job->flow.replay, false);
    }
}

/* The stream is read in haste on the way to be in sync. */
static void move(tow_job_t *job, tow_phase_t phase)
{
    tow_phase_t from = tow_job_phase(job);

    tow_job_move(job, phase);
    if (phase == TOW_PHASE_IN_SYNC)
        tow_job_begin_window(job);
    if (from == TOW_PHASE_COPYING || phase == TOW_PHASE_IN_SYNC)
        tow_tail_hurry(job->flow.tail, phase != TOW_PHASE_IN_SYNC);
}

static bool build_unique(tow_job_t *job, tow_error_t *error)
{
    if (!tow_copy_build_unique(job->flow.copy, error))
        return false;
    atomic_store(&job->flow.synced_once, true);
    return true;
}

/* Before 6.0 no event tells of indexes and options, and of views none is followed on any version;
 * at all of them once in any case, for what an earlier process left. While the job catches up, too:
 * an index that the source dropped may be what holds it up. */
static void follow_catalog(tow_job_t *job, bool *looked)
{
    tow_phase_t phase = tow_job_phase(job);

    if (phase != TOW_PHASE_IN_SYNC &&
        (phase != TOW_PHASE_CATCHING_UP || !atomic_load(&job->flow.synced_once)))
        return;
    tow_copy_look(job->flow.copy, !*looked || !tow_server_can(tow_link_facts(job->sides.source),
                                                              TOW_EXPANDED_EVENTS));
    *looked = true;
}

/* The catalogs were found to differ in what no event had explained. */
static bool answer_questions(tow_job_t *job, tow_error_t *error)
{
    tow_questions_t *questions = &job->flow.questions;
    tow_phase_t phase = tow_job_phase(job);
    bool ok;

    if (phase != TOW_PHASE_IN_SYNC && phase != TOW_PHASE_CATCHING_UP)
        return true;
    if (!questions->count)
        tow_copy_take_questions(job->flow.copy, questions);
    if (!questions->count || !tow_job_carried_out(job, questions->time))
        return true;
    ok = tow_copy_answer(job->flow.copy, questions, error);
    tow_questions_clear(questions);
    /* The cutover asks. */
    if (!ok && error->code == TOW_ERROR_CONFLICT) {
        tow_emit(&job->sides.sink, TOW_LEVEL_WARNING, "reconcile_failed", "%s", error->message);
        return true;
    }
    return ok;
}

/* For a moment, or until something is asked of the job. */
static void wait_tick(tow_job_t *job, bool *looked)
{
    follow_catalog(job, looked);
    tow_job_warn_of_window(job);
    pthread_mutex_lock(&job->control.lock);
    tow_condition_wait(&job->control.changed, &job->control.lock, tow_now_ms() + TICK_MS);
    pthread_mutex_unlock(&job->control.lock);
}

/* False: the job ends, with *error. */
static bool act(tow_job_t *job, const tow_action_t *action, tow_error_t *error)
{
    switch (action->kind) {
    case TOW_DO_STOP:
        return tow_job_stopped(job, error);
    case TOW_DO_PAUSE:
        hold(job, true);
        tow_job_move(job, TOW_PHASE_PAUSED);
        return true;
    case TOW_DO_RESUME:
        hold(job, false);
        tow_job_move(job, action->phase);
        return true;
    case TOW_DO_MOVE:
        move(job, action->phase);
        return true;
    case TOW_DO_RESYNC:
        return tow_job_resync(job, error);
    case TOW_DO_HOLD_TTL:
        return tow_job_hold_off_ttl(job, error);
    case TOW_DO_BUILD_UNIQUE:
        return build_unique(job, error);
    case TOW_DO_FORGET:
        tow_job_forget_cutover(job);
        return true;
    case TOW_DO_EXPIRE:
        return tow_job_expired(job, error);
    case TOW_DO_WAIT:
    case TOW_DO_CUT_OVER:
        return true;
    }
    return true;
}

/* From the copy to the point where the cutover begins. False: stopped, or *error. */
static bool reach_cutover(tow_job_t *job, tow_decider_t *decider, bool *looked, tow_error_t *error)
{
    tow_action_t action;

    do {
        wait_tick(job, looked);
        action = decide(job, decider);
        if (action.kind == TOW_DO_WAIT && !answer_questions(job, error))
            return false;
        if (!act(job, &action, error))
            return false;
    } while (action.kind != TOW_DO_CUT_OVER);
    return true;
}

static bool run_phases(tow_job_t *job, tow_error_t *error)
{
    tow_decider_t decider = {0};
    tow_finalized_t result;
    bool done, looked = false;

    tow_job_move(job, TOW_PHASE_VALIDATING);
    if (!tow_job_done_before(job, &done, error))
        return false;
    if (done)
        return true;
    if (!tow_job_validate(job, error))
        return false;
    tow_job_move(job, TOW_PHASE_PREPARING);
    if (!tow_job_prepare(job, &done, error))
        return false;
    if (done)
        return true;
    tow_job_move(job, TOW_PHASE_COPYING);
    do {
        if (!reach_cutover(job, &decider, &looked, error))
            return false;
        tow_job_move(job, TOW_PHASE_FINALIZING);
        result = tow_job_finalize(job, error);
    } while (result == TOW_FINALIZE_CALLED_OFF);
    return result == TOW_FINALIZE_DONE;
}

/* How the job ends is decided: a cancel came before it, or is refused. */
static bool close_job(tow_job_t *job, bool ok)
{
    pthread_mutex_lock(&job->control.lock);
    job->control.closed = true;
    ok = ok && !job->control.cancelled;
    if (job->control.step == TOW_CUTOVER_FINALIZING)
        job->control.late_writes = tow_tail_late(job->flow.tail);
    job->control.step = ok ? TOW_CUTOVER_DONE : TOW_CUTOVER_NONE;
    pthread_mutex_unlock(&job->control.lock);
    return ok;
}

/* The error of a job that did not end well: the first that stopped it, or what was asked of it. */
static void choose_error(tow_job_t *job, tow_error_t *error)
{
    char *remains = NULL;

    if (!tow_stop_requested(job->sides.stop))
        tow_stop_request(job->sides.stop, error);
    else if (error->code == TOW_OK || error->code == TOW_ERROR_INTERRUPTED)
        tow_stop_error(job->sides.stop, error);
    if (job->control.cancelled && error->code != TOW_ERROR_LEASE) {
        if (!job->journal.store)
            tow_job_open_state(
                job, false); /* it knows of an earlier process, which may have copied something */
        remains = tow_job_remains(job);
        tow_fail(error, TOW_ERROR_CANCELLED, "cancelled; the source is untouched; %s", remains);
    } else if (error->code == TOW_OK || error->code == TOW_ERROR_INTERRUPTED) {
        /* Whatever it was at just then. */
        tow_fail(error, TOW_ERROR_INTERRUPTED,
                 "stopped, resumable: run the same command again to go on");
    }
    free(remains);
}

static tow_phase_t final_phase(const tow_job_t *job, bool ok)
{
    if (ok)
        return TOW_PHASE_DONE;
    return job->outcome.error.code == TOW_ERROR_CANCELLED ? TOW_PHASE_CANCELLED
           : job->outcome.error.code == TOW_ERROR_EXPIRED ? TOW_PHASE_EXPIRED
                                                          : TOW_PHASE_FAILED;
}

static void *supervise(void *data)
{
    tow_job_t *job = data;
    tow_error_t error = {0};
    bool ok;

    tow_job_remove_end(job);
    ok = close_job(job, run_phases(job, &error));
    if (ok)
        tow_stop_request(job->sides.stop, NULL);
    else
        choose_error(job, &error);
    pthread_mutex_lock(&job->control.lock);
    job->outcome.error = error;
    job->outcome.ok = ok;
    job->control.ended_ms = tow_now_ms();
    if (!ok)
        snprintf(job->outcome.reason, sizeof job->outcome.reason, "%.*s", REASON_SIZE - 1,
                 error.message);
    pthread_mutex_unlock(&job->control.lock);
    tow_job_settle_state(job);
    tow_job_move(job, final_phase(job, job->outcome.ok));
    pthread_mutex_lock(&job->control.lock);
    if (!job->outcome.told_before)
        tow_job_make_summary(job, job->control.phase);
    pthread_mutex_unlock(&job->control.lock);
    tow_job_leave_end(job);
    tow_job_teardown(job);
    tow_job_notify_end(job);
    pthread_mutex_lock(&job->control.lock);
    job->control.stopped = true;
    pthread_cond_broadcast(&job->control.changed);
    pthread_mutex_unlock(&job->control.lock);
    tow_job_await_told(job);
    return NULL;
}

bool tow_job_start(tow_job_t *job, tow_error_t *error)
{
    pthread_mutex_lock(&job->control.lock);
    if (job->control.started) {
        pthread_mutex_unlock(&job->control.lock);
        return tow_fail(error, TOW_ERROR_STATE, "the job was started before");
    }
    job->control.started = true;
    pthread_mutex_unlock(&job->control.lock);
    if (!tow_options_try_uri(job->config.source_uri, "source", job->config.source_option,
                             &job->sides.sink, error) ||
        !tow_options_try_uri(job->config.destination_uri, "destination",
                             job->config.destination_option, &job->sides.sink, error))
        return false;
    pthread_mutex_lock(&job->control.lock);
    job->control.started_ms = job->control.phase_since_ms = tow_now_ms();
    pthread_mutex_unlock(&job->control.lock);
    return tow_thread_start(&job->threads.supervisor, "supervisor", supervise, job, error);
}

bool tow_job_ended(tow_job_t *job, int wait_ms)
{
    int64_t until_ms = tow_now_ms() + wait_ms;
    bool stopped;

    pthread_mutex_lock(&job->control.lock);
    while (!job->control.stopped)
        if (!tow_condition_wait(&job->control.changed, &job->control.lock, until_ms))
            break;
    stopped = job->control.stopped;
    pthread_mutex_unlock(&job->control.lock);
    return stopped;
}

bool tow_job_wait(tow_job_t *job, tow_error_t *error)
{
    bool ok;

    pthread_mutex_lock(&job->control.lock);
    while (!job->control.stopped)
        pthread_cond_wait(&job->control.changed, &job->control.lock);
    ok = job->outcome.ok;
    if (!ok && error)
        *error = job->outcome.error;
    pthread_mutex_unlock(&job->control.lock);
    return ok;
}

bool tow_job_run(tow_job_t *job, tow_error_t *error)
{
    return tow_job_start(job, error) && tow_job_wait(job, error);
}
