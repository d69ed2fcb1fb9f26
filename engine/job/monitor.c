/* monitor.c: two watchers: one polls the source's time and chooses the mode, one stores checkpoints. */
#include <stdlib.h>

#include "engine/base/clock.h"
#include "engine/job/internal.h"

enum {
    POLL_MS = 100,             /* of the source's time: bounds how fast the floor passes a no-op */
    POLL_CLOSE_MS = 20,        /* when next to nothing is left until the job is in sync */
    PUSH_MS = 500,             /* between two pushes of shards that hold back the stream */
    REFUSED_MS = 5000,         /* how long the source may refuse to tell its time */
    CHECKPOINT_MS = 1000,
    RENEW_MS = 3000,
    CLOSE_EVENTS = 2000,       /* backlog at which direct mode begins … */
    FAR_EVENTS = 20000,        /* … and ends */
    FAR_BYTES = 32 * 1024 * 1024,
    CLOSE_MS = 3000            /* lag of the reader up to which direct mode may begin */
};

/* Direct mode when close, refetch mode when behind, with hysteresis. */
static void choose_mode(tow_job_t *job, tow_optime_t source_time)
{
    uint64_t backlog = tow_ledger_backlog(job->ledger);
    tow_optime_t read = tow_tail_read_time(job->tail);
    int64_t behind_s = (int64_t)(source_time >> 32) - (int64_t)(read >> 32);
    tow_phase_t phase = tow_job_phase(job);
    bool applying = phase == TOW_PHASE_CATCHING_UP || phase == TOW_PHASE_IN_SYNC ||
                    phase == TOW_PHASE_FINALIZING;

    /* What an update changes may be missing after a rollover: keys are read whole. */
    if (!applying || atomic_load(&job->rollover) || !tow_copy_finished(job->copy) || backlog > FAR_EVENTS ||
        tow_ledger_direct_bytes(job->ledger) > FAR_BYTES)
        tow_tail_wish_direct(job->tail, false);
    else if (backlog < CLOSE_EVENTS && behind_s * 1000 <= CLOSE_MS)
        tow_tail_wish_direct(job->tail, true);
}

static int poll_ms(tow_job_t *job)
{
    return tow_job_phase(job) == TOW_PHASE_CATCHING_UP && !tow_ledger_backlog(job->ledger) &&
                   !tow_link_facts(job->source)->sharded
               ? POLL_CLOSE_MS
               : POLL_MS;
}

/* What the monitor knows of the source. */
typedef struct {
    tow_conn_t *conn;
    tow_lag_t *lag;
    int64_t pushed_ms, refused_ms; /* 0: it does not refuse */
    uint64_t idle;                 /* replies without events at the last push */
} source_t;

/* A stream that is behind and has nothing to deliver is held back by shards that nobody writes to. */
static bool must_push(tow_job_t *job, const source_t *source)
{
    if (!tow_link_facts(job->source)->sharded)
        return false;
    return atomic_load(&job->settling) ||
           (tow_now_ms() - source->pushed_ms >= PUSH_MS &&
            tow_tail_idle_replies(job->tail) > source->idle &&
            tow_tail_read_time(job->tail) < tow_link_time(job->source));
}

/* Asks for the source's time. That it cannot be reached is the tail's to report, and the lag grows meanwhile;
 * that it will not answer nobody else notices, and the job would wait for ever. */
static void poll_source(tow_job_t *job, source_t *source)
{
    tow_optime_t time;
    tow_error_t error;
    bool push = must_push(job, source);

    if (push) {
        source->idle = tow_tail_idle_replies(job->tail);
        source->pushed_ms = tow_now_ms();
    }
    if (push ? tow_link_push_shards(source->conn, &time, &error)
             : tow_link_poll_time(source->conn, &time, &error)) {
        tow_lag_saw(source->lag, time, tow_now_ms());
        source->refused_ms = 0;
    } else if (error.retry != TOW_RETRY_NEVER) {
        source->refused_ms = 0;
    } else if (!source->refused_ms) {
        source->refused_ms = tow_now_ms();
    } else if (tow_now_ms() - source->refused_ms > REFUSED_MS) {
        tow_fail_context(&error, "ask the source for its time");
        tow_stop_request(job->stop, &error);
    }
}

static void *monitor(void *data)
{
    tow_job_t *job = data;
    tow_lag_t *lag = tow_alloc(sizeof *lag);
    tow_error_t error;
    source_t source = {.conn = tow_conn_open(job->source, &error), .lag = lag};
    tow_conn_t *destination = tow_conn_open(job->destination, &error);
    int64_t pinged_ms = 0;

    while (source.conn && destination && !tow_stop_wait(job->stop, poll_ms(job))) {
        tow_optime_t ignored;
        int64_t now;

        poll_source(job, &source);
        now = tow_now_ms();
        if (now - pinged_ms > 2000) {
            pinged_ms = now;
            if (!tow_link_poll_time(destination, &ignored, &error))
                pinged_ms = now - 1000;
        }
        pthread_mutex_lock(&job->lock);
        job->source_time = tow_link_time(job->source);
        job->lag_ms = tow_lag_of(lag, tow_ledger_floor_time(job->ledger),
                                 tow_ledger_backlog(job->ledger) > 0, tow_now_ms());
        pthread_cond_broadcast(&job->changed);
        pthread_mutex_unlock(&job->lock);
        choose_mode(job, tow_link_time(job->source));
    }
    tow_conn_close(source.conn);
    tow_conn_close(destination);
    free(lag);
    return NULL;
}

/* Stores the floor; what the spool holds before it is released. The checkpoint lock is held. */
static bool store_floor(tow_job_t *job, tow_error_t *error)
{
    tow_floor_t floor;
    tow_checkpoint_t checkpoint;
    bool ok;

    if (job->state_removed)
        return true;
    tow_ledger_floor(job->ledger, &floor);
    checkpoint.token = floor.token;
    checkpoint.time = floor.time;
    checkpoint.ddl_time = job->ddl_time;
    ok = tow_job_save_track(job, error) &&
         tow_store_save_checkpoint(job->store, &checkpoint, error);
    if (ok && floor.has_keep)
        ok = tow_spool_release(job->spool, floor.keep, error);
    bson_destroy(&floor.token);
    if (ok) {
        pthread_mutex_lock(&job->lock);
        job->checkpoint_time = floor.time;
        pthread_mutex_unlock(&job->lock);
    }
    return ok;
}

bool tow_job_checkpoint(tow_job_t *job, tow_error_t *error)
{
    bool ok;

    pthread_mutex_lock(&job->checkpoint_lock);
    ok = store_floor(job, error);
    pthread_mutex_unlock(&job->checkpoint_lock);
    return ok;
}

bool tow_job_save_ddl_time(tow_job_t *job, tow_optime_t time, tow_error_t *error)
{
    bool ok;

    pthread_mutex_lock(&job->checkpoint_lock);
    if (time > job->ddl_time)
        job->ddl_time = time;
    ok = store_floor(job, error);
    pthread_mutex_unlock(&job->checkpoint_lock);
    return ok;
}

static void *checkpointer(void *data)
{
    tow_job_t *job = data;
    tow_optime_t stored = 0;
    int64_t renewed_ms = tow_now_ms() - RENEW_MS; /* preparing may have taken long */
    tow_error_t error;

    tow_store_guard(job->store, true);
    while (!tow_stop_wait(job->stop, CHECKPOINT_MS)) {
        bool ok = true;

        if (tow_ledger_floor_time(job->ledger) != stored) {
            ok = tow_job_checkpoint(job, &error);
            stored = ok ? tow_ledger_floor_time(job->ledger) : 0;
        }
        ok = ok && tow_job_save_window(job, &error);
        if (ok && tow_now_ms() - renewed_ms >= RENEW_MS) {
            ok = tow_store_renew(job->store, &error);
            if (ok)
                renewed_ms = tow_now_ms();
        }
        if (ok || tow_stop_requested(job->stop))
            continue;
        if (error.code == TOW_ERROR_LEASE || error.retry == TOW_RETRY_NEVER) {
            tow_stop_request(job->stop, &error);
        } else {
            tow_emit(&job->sink, TOW_LEVEL_WARNING, "checkpoint_failed", "%s", error.message);
        }
    }
    return NULL;
}

bool tow_job_start_monitor(tow_job_t *job, tow_error_t *error)
{
    if (pthread_create(&job->monitor, NULL, monitor, job))
        return tow_fail(error, TOW_ERROR_INTERNAL, "cannot start a thread");
    job->monitor_started = true;
    return true;
}

bool tow_job_start_checkpointer(tow_job_t *job, tow_error_t *error)
{
    if (pthread_create(&job->checkpointer, NULL, checkpointer, job))
        return tow_fail(error, TOW_ERROR_INTERNAL, "cannot start a thread");
    job->checkpointer_started = true;
    return true;
}
