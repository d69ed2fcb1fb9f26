/* job.c: the public job: its life, its phases, and what may be asked of it. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/check/validate.h"
#include "engine/job/internal.h"
#include "engine/link/versions.h"

enum {
    IN_SYNC_LAG_MS = 2000,
    TICK_MS = 20,
    QUIET_MS = 1000 /* of the source, before a cutover that was called off is tried again */
};

const char *tow_version(void)
{
    return TOW_VERSION;
}

/* Events from any thread, one at a time. */
static void forward_event(void *data, tow_level_t level, const char *name, const char *message)
{
    tow_job_t *job = data;

    pthread_mutex_lock(&job->event_lock);
    if ((!strcmp(name, "reconciled") || !strcmp(name, "rollover") ||
         !strcmp(name, "foreign") || !strcmp(name, "left_out") ||
         !strcmp(name, "cutover_called_off")) &&
        job->note_count < sizeof job->notes / sizeof *job->notes)
        job->notes[job->note_count++] = tow_strdup(message);
    for (size_t i = 0; i < sizeof job->listeners / sizeof *job->listeners; i++)
        if (job->listeners[i].fn)
            job->listeners[i].fn(job->listeners[i].data, level, name, message);
    pthread_mutex_unlock(&job->event_lock);
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
    job->window = tow_window_new(job->config.window_ms);
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

    make_event_lock(&job->event_lock);
    pthread_mutex_init(&job->checkpoint_lock, NULL);
    pthread_mutex_init(&job->lock, NULL);
    tow_condition_init(&job->changed);
    job->sides.sink = (tow_sink_t){forward_event, job};
    job->sides.stop = tow_stop_new();
    job->late_stop = tow_stop_new();
    job->done_file = -1;
    bson_init(&job->ddl_token);
    job->sides.filter = tow_filter_new();
    job->lag_ms = -1;
    job->oplog_headroom = -1;
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
    if (job->supervisor.started) {
        tow_stop_request(job->sides.stop, NULL);
        tow_thread_join(&job->supervisor);
        tow_job_told(job);
    }
    tow_notices_destroy(job->notices);
    tow_survey_clear(&job->survey);
    tow_catalog_clear(&job->in_the_way);
    tow_link_destroy(job->sides.source); /* takes the driver up to half a second: not before the end is told */
    tow_link_destroy(job->sides.destination);
    for (uint32_t i = 0; i < job->note_count; i++)
        free(job->notes[i]);
    tow_verify_report_destroy(job->report);
    tow_verify_report_destroy(job->online);
    free(job->summary_json);
    tow_config_clear(&job->config);
    for (uint32_t i = 0; i < job->remains_count; i++)
        free(job->remains[i]);
    free(job->user_removed);
    free(job->sides.filter_text);
    tow_filter_destroy(job->sides.filter);
    tow_stop_destroy(job->sides.stop);
    tow_stop_destroy(job->late_stop);
    bson_destroy(&job->ddl_token);
    tow_namespaces_states_free(job->last_states, job->last_state_count);
    pthread_cond_destroy(&job->changed);
    pthread_mutex_destroy(&job->lock);
    pthread_mutex_destroy(&job->checkpoint_lock);
    pthread_mutex_destroy(&job->event_lock);
    free(job);
}

void tow_job_on_event(tow_job_t *job, tow_event_fn fn, void *data)
{
    size_t i = 0;

    pthread_mutex_lock(&job->event_lock);
    while (i + 1 < sizeof job->listeners / sizeof *job->listeners && job->listeners[i].fn)
        i++;
    job->listeners[i].fn = fn;
    job->listeners[i].data = data;
    pthread_mutex_unlock(&job->event_lock);
}

const char *tow_job_name(const tow_job_t *job)
{
    return job->config.name;
}

/* Waits a tick, or until something is asked; enters and leaves a pause. False: the job stops. */
static bool tick(tow_job_t *job)
{
    bool pause, paused;

    pthread_mutex_lock(&job->lock);
    tow_condition_wait(&job->changed, &job->lock, tow_now_ms() + TICK_MS);
    pause = job->pause_wished;
    paused = job->phase == TOW_PHASE_PAUSED;
    pthread_mutex_unlock(&job->lock);
    if (pause && !paused) {
        pthread_mutex_lock(&job->lock);
        job->paused_from = job->phase;
        pthread_mutex_unlock(&job->lock);
        tow_replay_pause(job->replay, true);
        tow_copy_pause(job->copy, true);
        tow_job_move(job, TOW_PHASE_PAUSED);
    } else if (!pause && paused) {
        tow_copy_pause(job->copy, false);
        tow_replay_pause(job->replay, false);
        /* Having been away, it has to catch up first. */
        tow_job_move(job, job->paused_from == TOW_PHASE_COPYING ? TOW_PHASE_COPYING
                                                                : TOW_PHASE_CATCHING_UP);
    }
    return !tow_stop_requested(job->sides.stop);
}

static bool is_close(tow_job_t *job)
{
    int64_t lag_ms;

    pthread_mutex_lock(&job->lock);
    tow_job_measure_lag(job);
    lag_ms = job->lag_ms;
    pthread_mutex_unlock(&job->lock);
    return !atomic_load(&job->rollover) && tow_tail_close(job->tail) && lag_ms >= 0 &&
           lag_ms <= IN_SYNC_LAG_MS;
}

/* Unique indexes, once the destination is a state that the source was in. */
static bool build_unique(tow_job_t *job, tow_error_t *error)
{
    tow_optime_t consistent = tow_namespaces_consistent(job->namespaces);

    pthread_mutex_lock(&job->lock);
    job->consistent_time = consistent;
    pthread_mutex_unlock(&job->lock);
    if (tow_ledger_floor_time(job->ledger) < consistent || !tow_copy_indexes_idle(job->copy))
        return true; /* not yet */
    if (!tow_copy_build_unique(job->copy, error))
        return false;
    atomic_store(&job->synced_once, true);
    return true;
}

/* A job that cuts over by itself tries again only when nothing was written for a while. */
static bool is_quiet(tow_job_t *job)
{
    uint64_t events = tow_tail_events(job->tail);

    if (events != job->quiet_events) {
        job->quiet_events = events;
        job->quiet_since_ms = tow_now_ms();
    }
    return !job->called_off || tow_now_ms() - job->quiet_since_ms >= QUIET_MS;
}

/* Before 6.0 no event tells of indexes and options; and once in any case, for what an earlier
 * process left. */
static void follow_catalog(tow_job_t *job)
{
    if (job->looked && tow_server_can(tow_link_facts(job->sides.source), TOW_EXPANDED_EVENTS))
        return;
    job->looked = true;
    tow_copy_look(job->copy);
}

/* From the copy to the point where the cutover begins. False: stopped, or *error. */
static bool reach_cutover(tow_job_t *job, tow_error_t *error)
{
    while (tick(job)) {
        tow_phase_t phase = tow_job_phase(job);
        bool finished = tow_copy_finished(job->copy), quiet, wished, forgotten;

        if (phase == TOW_PHASE_COPYING && finished) {
            tow_job_move(job, TOW_PHASE_CATCHING_UP);
            tow_tail_hurry(job->tail, true);
        } else if (phase == TOW_PHASE_CATCHING_UP && !finished)
            tow_job_move(job, TOW_PHASE_COPYING);
        else if (phase == TOW_PHASE_IN_SYNC && (!finished || !is_close(job)))
            tow_job_move(job, TOW_PHASE_CATCHING_UP);
        if (phase == TOW_PHASE_CATCHING_UP && finished &&
            atomic_load(&job->rollover) == TOW_ROLLOVER_OPENED && !tow_job_resync(job, error))
            return false;
        if (phase == TOW_PHASE_CATCHING_UP && finished && job->ttl_restored &&
            !tow_job_hold_off_ttl(job, error))
            return false;
        if (phase == TOW_PHASE_CATCHING_UP && finished && !atomic_load(&job->synced_once) &&
            !build_unique(job, error))
            return false;
        if (phase == TOW_PHASE_CATCHING_UP && finished && atomic_load(&job->synced_once) &&
            is_close(job)) {
            tow_job_move(job, TOW_PHASE_IN_SYNC);
            tow_job_begin_window(job);
            tow_tail_hurry(job->tail, false);
        }
        if (tow_job_phase(job) == TOW_PHASE_IN_SYNC)
            follow_catalog(job);
        quiet = !job->config.manual && is_quiet(job) && tow_copy_indexes_idle(job->copy);
        pthread_mutex_lock(&job->lock);
        /* Decided under the lock: a pause comes before it, and holds the cutover up, or is refused. */
        wished = job->phase == TOW_PHASE_IN_SYNC && !job->pause_wished &&
                 (job->cutover_wished || (quiet && !job->waits_for_word));
        if (wished)
            job->cutover_wished = true;
        forgotten = job->cutover == TOW_CUTOVER_CONFIRMED && !job->cutover_wished;
        pthread_mutex_unlock(&job->lock);
        if (wished)
            return true;
        if (forgotten)
            tow_job_forget_cutover(job);
        if (!tow_job_watch_window(job, error))
            return false;
    }
    if (!tow_stop_error(job->sides.stop, error))
        tow_fail(error, TOW_ERROR_INTERRUPTED, "stopped");
    return false;
}

static bool run_phases(tow_job_t *job, tow_error_t *error)
{
    tow_finalized_t result;
    bool done;

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
        if (!reach_cutover(job, error))
            return false;
        tow_job_move(job, TOW_PHASE_FINALIZING);
        result = tow_job_finalize(job, error);
    } while (result == TOW_FINALIZE_CALLED_OFF);
    return result == TOW_FINALIZE_DONE;
}

/* How the job ends is decided: a cancel came before it, or is refused. */
static bool close_job(tow_job_t *job, bool ok)
{
    pthread_mutex_lock(&job->lock);
    job->closed = true;
    ok = ok && !job->cancelled;
    if (job->cutover == TOW_CUTOVER_FINALIZING)
        job->late_writes = tow_tail_late(job->tail);
    job->cutover = ok ? TOW_CUTOVER_DONE : TOW_CUTOVER_NONE;
    pthread_mutex_unlock(&job->lock);
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
    if (job->cancelled && error->code != TOW_ERROR_LEASE) {
        if (!job->store)
            tow_job_open_state(job, false); /* it knows of an earlier process, which may have copied something */
        remains = tow_job_remains(job);
        tow_fail(error, TOW_ERROR_CANCELLED, "cancelled; the source is untouched; %s", remains);
    } else if (error->code == TOW_OK || error->code == TOW_ERROR_INTERRUPTED) {
        /* Whatever it was at just then. */
        tow_fail(error, TOW_ERROR_INTERRUPTED, "stopped, resumable: run the same command again to go on");
    }
    free(remains);
}

static tow_phase_t final_phase(const tow_job_t *job, bool ok)
{
    if (ok)
        return TOW_PHASE_DONE;
    return job->error.code == TOW_ERROR_CANCELLED ? TOW_PHASE_CANCELLED
           : job->error.code == TOW_ERROR_EXPIRED ? TOW_PHASE_EXPIRED
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
    pthread_mutex_lock(&job->lock);
    job->error = error;
    job->ok = ok;
    job->ended_ms = tow_now_ms();
    if (!ok)
        snprintf(job->reason, sizeof job->reason, "%.*s", REASON_SIZE - 1, error.message);
    pthread_mutex_unlock(&job->lock);
    tow_job_settle_state(job);
    tow_job_move(job, final_phase(job, job->ok));
    pthread_mutex_lock(&job->lock);
    if (!job->told_before)
        tow_job_make_summary(job, job->phase);
    pthread_mutex_unlock(&job->lock);
    tow_job_leave_end(job);
    tow_job_teardown(job);
    tow_job_notify_end(job);
    pthread_mutex_lock(&job->lock);
    job->stopped = true;
    pthread_cond_broadcast(&job->changed);
    pthread_mutex_unlock(&job->lock);
    tow_job_tell_late(job);
    return NULL;
}

bool tow_job_start(tow_job_t *job, tow_error_t *error)
{
    pthread_mutex_lock(&job->lock);
    if (job->started) {
        pthread_mutex_unlock(&job->lock);
        return tow_fail(error, TOW_ERROR_STATE, "the job was started before");
    }
    job->started = true;
    pthread_mutex_unlock(&job->lock);
    if (!tow_options_try_uri(job->config.source_uri, "source", job->config.source_option, &job->sides.sink,
                             error) ||
        !tow_options_try_uri(job->config.destination_uri, "destination", job->config.destination_option,
                             &job->sides.sink, error))
        return false;
    pthread_mutex_lock(&job->lock);
    job->started_ms = job->phase_since_ms = tow_now_ms();
    pthread_mutex_unlock(&job->lock);
    return tow_thread_start(&job->supervisor, "supervisor", supervise, job, error);
}

bool tow_job_ended(tow_job_t *job, int wait_ms)
{
    int64_t until_ms = tow_now_ms() + wait_ms;
    bool stopped;

    pthread_mutex_lock(&job->lock);
    while (!job->stopped)
        if (!tow_condition_wait(&job->changed, &job->lock, until_ms))
            break;
    stopped = job->stopped;
    pthread_mutex_unlock(&job->lock);
    return stopped;
}

bool tow_job_wait(tow_job_t *job, tow_error_t *error)
{
    bool ok;

    pthread_mutex_lock(&job->lock);
    while (!job->stopped)
        pthread_cond_wait(&job->changed, &job->lock);
    ok = job->ok;
    if (!ok && error)
        *error = job->error;
    pthread_mutex_unlock(&job->lock);
    return ok;
}

bool tow_job_run(tow_job_t *job, tow_error_t *error)
{
    return tow_job_start(job, error) && tow_job_wait(job, error);
}

/* Answers a request that fits only some phases: the lock is held and given up. */
static bool refuse(tow_job_t *job, const char *what, tow_error_t *error)
{
    const char *state = tow_job_state_name(job);

    pthread_mutex_unlock(&job->lock);
    return tow_fail(error, TOW_ERROR_STATE, "cannot %s a job that is %s", what, state);
}

static bool accept(tow_job_t *job)
{
    pthread_cond_broadcast(&job->changed);
    pthread_mutex_unlock(&job->lock);
    return true;
}

bool tow_job_pause(tow_job_t *job, tow_error_t *error)
{
    pthread_mutex_lock(&job->lock);
    if (tow_job_is_over(job) || job->cutover_wished ||
        (job->phase != TOW_PHASE_COPYING && job->phase != TOW_PHASE_CATCHING_UP &&
         job->phase != TOW_PHASE_IN_SYNC))
        return refuse(job, "pause", error);
    job->pause_wished = true;
    return accept(job);
}

bool tow_job_resume(tow_job_t *job, tow_error_t *error)
{
    pthread_mutex_lock(&job->lock);
    if (tow_job_is_over(job) || !job->pause_wished)
        return refuse(job, "resume", error);
    job->pause_wished = false;
    return accept(job);
}

static bool cut_over(tow_job_t *job, bool blocking, tow_error_t *error)
{
    char reason[REASON_SIZE];

    pthread_mutex_lock(&job->lock);
    tow_job_measure_lag(job);
    if (tow_job_is_over(job) || job->cutover_wished || job->phase == TOW_PHASE_FINALIZING)
        return refuse(job, "cut over", error);
    if (job->pause_wished || !tow_job_can_commit(job, reason)) {
        pthread_mutex_unlock(&job->lock);
        return tow_fail(error, TOW_ERROR_NOT_IN_SYNC,
                        "the cutover is refused: %s; wait until `towline status` says that it can "
                        "be committed",
                        job->pause_wished ? "the job is paused" : reason);
    }
    if (blocking && !tow_may_block_writes(job->sides.source, error)) {
        pthread_mutex_unlock(&job->lock);
        return false;
    }
    job->cutover_wished = true;
    job->waits_for_word = false;
    job->block_wished = blocking;
    job->cutover = TOW_CUTOVER_CONFIRMED;
    job->confirmed_ms = tow_now_ms();
    job->confirmed_wall_ms = tow_wall_ms();
    job->late_writes = 0;
    return accept(job);
}

bool tow_job_cutover(tow_job_t *job, tow_error_t *error)
{
    return cut_over(job, job->config.block_writes, error);
}

bool tow_job_cutover_blocking(tow_job_t *job, tow_error_t *error)
{
    return cut_over(job, true, error);
}

bool tow_job_call_off(tow_job_t *job, tow_error_t *error)
{
    pthread_mutex_lock(&job->lock);
    if (tow_job_is_over(job))
        return refuse(job, "call off the cutover of", error);
    if (job->committed || (!job->cutover_wished && job->phase != TOW_PHASE_FINALIZING)) {
        const char *state = tow_job_state_name(job);
        bool committed = job->committed;

        pthread_mutex_unlock(&job->lock);
        return committed ? tow_fail(error, TOW_ERROR_STATE,
                                    "the cutover has passed its point of no return: everything is on the "
                                    "destination, and the job is about to end")
                         : tow_fail(error, TOW_ERROR_STATE,
                                    "there is no cutover to call off: the job is %s", state);
    }
    job->cutover_wished = false;
    job->waits_for_word = true;
    return accept(job);
}

bool tow_job_cancel(tow_job_t *job, tow_error_t *error)
{
    pthread_mutex_lock(&job->lock);
    if (!job->started || tow_phase_is_final(job->phase))
        return refuse(job, "cancel", error);
    if (job->closed) {
        pthread_mutex_unlock(&job->lock);
        return tow_fail(error, TOW_ERROR_STATE, "cannot cancel a job that is about to end");
    }
    job->cancelled = true;
    pthread_mutex_unlock(&job->lock);
    tow_stop_request(job->sides.stop, NULL);
    return true;
}

void tow_job_stop(tow_job_t *job)
{
    tow_stop_request(job->sides.stop, NULL);
}
