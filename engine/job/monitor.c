/* SPDX-License-Identifier: Apache-2.0 */
/* monitor.c: polls the source's time, keeps the lag, and chooses how the stream is read. */
#include <stdlib.h>

#include "engine/base/clock.h"
#include "engine/job/internal.h"

enum {
    POLL_MS = 100,        /* of the source's time: bounds how fast the floor passes a no-op */
    POLL_CLOSE_MS = 20,   /* when next to nothing is left until the job is in sync */
    PUSH_MS = 500,        /* between two pushes of shards that hold back the stream */
    REFUSED_MS = 5000,    /* how long the source may refuse to tell its time */
    HEADROOM_MS = 10000,  /* between two looks at the oldest entry of the source's oplog */
    SETTLED_SECONDS = 10, /* after which every write of the source can be read */
    LOW_SECONDS = 3600,   /* headroom that is reported as low, as is less than twice the lag */
    CLOSE_EVENTS = 2000,  /* backlog at which direct mode begins … */
    FAR_EVENTS = 20000,   /* … and ends */
    FAR_BYTES = 32 * 1024 * 1024,
    CLOSE_MS = 3000 /* lag of the reader up to which direct mode may begin */
};

/* Direct mode when close, refetch mode when behind, with hysteresis. */
static void choose_mode(tow_job_t *job, tow_optime_t source_time)
{
    uint64_t backlog = tow_ledger_backlog(job->flow.ledger);
    tow_optime_t read = tow_tail_read_time(job->flow.tail);
    int64_t behind_s = (int64_t)(source_time >> 32) - (int64_t)(read >> 32);
    tow_phase_t phase = tow_job_phase(job);
    bool applying = phase == TOW_PHASE_CATCHING_UP || phase == TOW_PHASE_IN_SYNC ||
                    phase == TOW_PHASE_FINALIZING;

    /* What an update changes may be missing after a rollover: keys are read whole. */
    if (!applying || atomic_load(&job->flow.rollover) || !tow_copy_finished(job->flow.copy) ||
        backlog > FAR_EVENTS || tow_ledger_direct_bytes(job->flow.ledger) > FAR_BYTES)
        tow_tail_wish_direct(job->flow.tail, false);
    else if (backlog < CLOSE_EVENTS && behind_s * 1000 <= CLOSE_MS)
        tow_tail_wish_direct(job->flow.tail, true);
}

static int poll_ms(tow_job_t *job)
{
    return tow_job_phase(job) == TOW_PHASE_CATCHING_UP && !tow_ledger_backlog(job->flow.ledger) &&
                   !tow_link_facts(job->sides.source)->sharded
               ? POLL_CLOSE_MS
               : POLL_MS;
}

/* What the monitor knows of the source. */
typedef struct {
    tow_conn_t *conn;
    int64_t pushed_ms, looked_ms, refused_ms; /* 0: it does not refuse */
    tow_optime_t oldest;                      /* entry of its oplog, at the first look */
    bool low;                                 /* its oplog, which was reported */
    uint64_t idle;                            /* replies without events at the last push */
} source_t;

/* A stream that is behind and has nothing to deliver is held back by shards that
 * nobody writes to. */
static bool must_push(tow_job_t *job, const source_t *source)
{
    if (!tow_link_facts(job->sides.source)->sharded)
        return false;
    return atomic_load(&job->flow.settling) ||
           (tow_now_ms() - source->pushed_ms >= PUSH_MS &&
            tow_tail_idle_replies(job->flow.tail) > source->idle &&
            tow_tail_read_time(job->flow.tail) < tow_link_time(job->sides.source));
}

/* Asks for the source's time. That it does not answer is shown by silence.c, and the tail tries
 * again; that it refuses no one else notices, and the job would wait for ever. */
static void poll_source(tow_job_t *job, source_t *source)
{
    tow_optime_t time;
    tow_error_t error;
    bool push = must_push(job, source), answered;

    if (push) {
        source->idle = tow_tail_idle_replies(job->flow.tail);
        source->pushed_ms = tow_now_ms();
    }
    tow_link_watch(job->sides.source);
    answered = push ? tow_link_push_shards(source->conn, &time, &error)
                    : tow_link_poll_time(source->conn, &time, &error);
    tow_link_watched(job->sides.source, answered);
    if (answered) {
        pthread_mutex_lock(&job->control.lock);
        tow_lag_saw(&job->flow.lag, time, tow_now_ms());
        pthread_mutex_unlock(&job->control.lock);
        source->refused_ms = 0;
    } else if (error.retry != TOW_RETRY_NEVER) {
        source->refused_ms = 0;
    } else if (!source->refused_ms) {
        source->refused_ms = tow_now_ms();
    } else if (tow_now_ms() - source->refused_ms > REFUSED_MS) {
        tow_fail_context(&error, "ask the source for its time");
        tow_stop_request(job->sides.stop, &error);
    }
}

/* How much longer the source's oplog holds what the job would go on with after a restart. */
static void look_at_oplog(tow_job_t *job, source_t *source)
{
    tow_optime_t oldest, kept = tow_tail_spooled_time(job->flow.tail);
    tow_error_t ignored;
    double seconds, lag;
    const tow_optime_t settled = (tow_optime_t)SETTLED_SECONDS << 32;
    bool all;

    if (tow_link_facts(job->sides.source)->sharded ||
        tow_now_ms() - source->looked_ms < HEADROOM_MS)
        return;
    source->looked_ms = tow_now_ms();
    tow_link_watch(
        job->sides
            .source); /* a source that falls silent now holds up the polls; the next one ends it */
    if (!tow_job_look_for_unseen(job, source->conn, false,
                                 tow_link_time(job->sides.source) - settled, &all, &ignored))
        return; /* the next look begins where this one did */
    if (!tow_oplog_oldest(source->conn, false, &oldest, &ignored) || !oldest)
        return; /* not everybody may read it */
    pthread_mutex_lock(&job->control.lock);
    if (kept < job->journal.checkpoint_time)
        kept = job->journal.checkpoint_time;
    if (kept < job->journal.start_time)
        kept = job->journal.start_time;
    seconds = kept > oldest ? (double)(kept >> 32) - (double)(oldest >> 32) : 0;
    job->flow.oplog_headroom = seconds;
    lag = (double)job->flow.lag_ms / 1000;
    pthread_mutex_unlock(&job->control.lock);
    if (!source->oldest)
        source->oldest = oldest;
    /* An oplog that has never been cut holds all there was. */
    if (oldest == source->oldest || (seconds >= lag * 2 && seconds >= LOW_SECONDS)) {
        source->low = false;
    } else if (!source->low) {
        source->low = true;
        tow_emit(
            &job->sides.sink, TOW_LEVEL_WARNING, "oplog_low",
            "the source's oplog reaches back only %.0f s before this job's position, and the lag "
            "is "
            "%.0f s; should the oplog pass the position, both sides are compared by ranges and "
            "repaired; a larger oplog (replSetResizeOplog) prevents that",
            seconds, lag > 0 ? lag : 0);
    }
}

static void *monitor(void *data)
{
    tow_job_t *job = data;
    source_t source = {.conn = tow_conn_open(job->sides.source)};

    while (!tow_stop_wait(job->sides.stop, poll_ms(job))) {
        poll_source(job, &source);
        look_at_oplog(job, &source);
        pthread_mutex_lock(&job->control.lock);
        job->flow.source_time = tow_link_time(job->sides.source);
        job->flow.asking = true;
        tow_job_measure_lag(job);
        tow_job_note_moves(job);
        pthread_cond_broadcast(&job->control.changed);
        pthread_mutex_unlock(&job->control.lock);
        choose_mode(job, tow_link_time(job->sides.source));
    }
    tow_conn_close(source.conn);
    return NULL;
}

bool tow_job_start_monitor(tow_job_t *job, tow_error_t *error)
{
    return tow_thread_start(&job->threads.monitor, "monitor", monitor, job, error);
}
