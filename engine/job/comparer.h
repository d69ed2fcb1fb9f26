/* SPDX-License-Identifier: Apache-2.0 */
/* comparer.h: the verification of a job: in the background while it is in sync, and at the cutover.
 *
 * Threads: the verifier compares in the background; the supervisor starts and ends it, and compares
 * at the cutover when it has ended. `track` locks itself. The control's lock guards the reports and
 * what says so. */
#ifndef TOW_JOB_COMPARER_H
#define TOW_JOB_COMPARER_H

#include <stdatomic.h>

#include "engine/base/thread.h"
#include "engine/job/pace.h"
#include "oplog/watch.h"
#include "verify/verify.h"

typedef struct {
    tow_thread_t thread;        /* the verifier */
    bool started;               /* it takes requests; the control's lock */
    atomic_bool quit;           /* the cutover begins */
    tow_track_t *track;         /* made with the flow */
    tow_watch_t *_Atomic watch; /* made by the verifier, once */
    bson_t *watch_token;        /* where the watch of an earlier process was; NULL: none */
    tow_conn_t *conn;           /* that stores the track; under the journal's lock */
    tow_pace_t pace;            /* in the background; the control's lock */
    tow_verify_report_t *report;
    tow_verify_report_t *online; /* what was found before the cutover; NULL: nothing yet */
    tow_optime_t verified_time;
    _Atomic uint64_t verified_documents, verified_bytes, verify_total;
} tow_comparer_t;

void tow_comparer_clear(tow_comparer_t *comparer);

/* comparing.c: what all comparisons of a job have in common. `track`: NULL when everything is to be
 * compared. */
void tow_job_verify_options(tow_job_t *job, tow_track_t *track, tow_verify_options_t *out);
void tow_job_tell_differences(tow_job_t *job, const tow_verify_report_t *report);
/* Nothing is read yet of a comparison that begins. */
void tow_comparer_begin(tow_comparer_t *comparer);
/* A tow_repair_fn. */
bool tow_job_repair(void *data, const char *database, const char *collection,
                    const tow_value_t *ids, uint32_t count, bool anew,
                    tow_error_t *error) TOW_CHECK;

/* background.c */
bool tow_job_verifies_online(const tow_job_t *job);
bool tow_job_start_verifier(tow_job_t *job, tow_error_t *error) TOW_CHECK;
void tow_job_end_verifier(tow_job_t *job); /* joins */
/* The track, once it has heard of every write before the call; NULL: it cannot be relied on. The
 * verifier must have ended. */
tow_track_t *tow_job_watched_track(tow_job_t *job);
bool tow_job_settle(void *data, tow_error_t *error) TOW_CHECK; /* a tow_settle_fn while in sync */

/* remember.c */
/* Stores what was compared since the last time; before a checkpoint, under its lock. */
bool tow_job_save_track(tow_job_t *job, tow_error_t *error) TOW_CHECK;
/* Before any event is replayed. */
bool tow_job_restore_track(tow_job_t *job, tow_error_t *error) TOW_CHECK;

#endif
