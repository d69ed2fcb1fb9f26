/* SPDX-License-Identifier: Apache-2.0 */
/* flow.h: copy, stream and replay of a job while they run, and how far they have come.
 *
 * Threads: the parts are made by the supervisor while it alone runs, and constant until it takes
 * them away under the control's lock; that guards the rest, too, but for the atomics. Each part has
 * its own lock. */
#ifndef TOW_JOB_FLOW_H
#define TOW_JOB_FLOW_H

#include <stdatomic.h>

#include "copy/copy.h"
#include "engine/job/lag.h"
#include "oplog/replay.h"

/* The source no longer had what the stream was to go on with. */
typedef enum {
    TOW_ROLLOVER_NONE,
    TOW_ROLLOVER_LOST,  /* a new stream is not open yet */
    TOW_ROLLOVER_OPENED /* both sides are to be compared by ranges, and repaired */
} tow_rollover_t;

typedef struct {
    tow_namespaces_t *namespaces;
    tow_copy_t *copy;
    tow_spool_t *spool;
    tow_ledger_t *ledger;
    tow_tail_t *tail;
    tow_replay_t *replay;
    atomic_int rollover;     /* tow_rollover_t */
    atomic_int settling;     /* how many wait until the floor has passed a time of the source */
    atomic_bool synced_once; /* unique indexes are built: a cutover is possible */
    bool asking;             /* both sides are asked all the time: silence means something */
    tow_lag_t lag;
    int64_t lag_ms; /* as last measured: tow_job_measure_lag */
    tow_moves_t moves;
    double oplog_headroom; /* seconds; -1: not known */
    tow_optime_t source_time, consistent_time, stop_time;
} tow_flow_t;

void tow_flow_init(tow_flow_t *flow);

/* parts.c: makes all of it; nothing runs yet. `series` is the spool's. */
bool tow_job_make_parts(tow_job_t *job, const char *series, tow_error_t *error) TOW_CHECK;

/* resume.c: opens the stream: of a new job at the source's time, else after the spool where that
 * survived, or after the checkpoint. */
bool tow_job_begin_stream(tow_job_t *job, tow_error_t *error) TOW_CHECK;
bool tow_job_resume_stream(tow_job_t *job, const tow_checkpoint_t *checkpoint,
                           tow_error_t *error) TOW_CHECK;

/* flow.c */
/* A time of the source with all that was written before the call; false with *error. */
bool tow_job_source_time(tow_job_t *job, tow_optime_t *out, tow_error_t *error) TOW_CHECK;
/* It was asked to stop, or its cutover to be called off; the lock is not held. */
bool tow_job_interrupted(tow_job_t *job);
/* Waits until everything up to that time, which tow_job_source_time just gave, is settled. False:
 * `ended` said so. */
bool tow_job_wait_settled(tow_job_t *job, tow_optime_t time, bool (*ended)(tow_job_t *)) TOW_CHECK;
/* Takes a time of the source, and waits likewise; false with *error. */
bool tow_job_settle_until(tow_job_t *job, bool (*ended)(tow_job_t *), tow_error_t *error) TOW_CHECK;
/* Takes `stop` from the source, and waits until everything up to it is settled. */
bool tow_job_drain(tow_job_t *job, tow_error_t *error) TOW_CHECK;
/* Waits until all builds are done and, with `ranges`, all copies. False:
 * interrupted, with *error. */
bool tow_job_await_copy(tow_job_t *job, bool ranges, tow_error_t *error) TOW_CHECK;
/* Fills the error that stopped the job, or that it or its cutover was interrupted; false. */
bool tow_job_stopped(tow_job_t *job, tow_error_t *error);

#endif
