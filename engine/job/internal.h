/* SPDX-License-Identifier: Apache-2.0 */
/* internal.h: the job: its parts, and what the files of the job share.
 *
 * A job has six parts, each with its own header that says who may touch what: control (what is
 * asked, what comes next), journal (what a restart finds), flow (copy, stream and replay), comparer
 * (the verification), outcome (how it ended), and the two sides. README.md says how they work
 * together.
 *
 * Threads: the supervisor runs the phases; the monitor polls the source's time, chooses the mode
 * and keeps the lag; the checkpointer stores the floor; the pinger asks the destination; the
 * verifier compares while the job is in sync. "The lock" is the control's. */
#ifndef TOW_JOB_INTERNAL_H
#define TOW_JOB_INTERNAL_H

#include "engine/base/thread.h"
#include "engine/check/validate.h"
#include "engine/job/comparer.h"
#include "engine/job/control.h"
#include "engine/job/flow.h"
#include "engine/job/journal.h"
#include "engine/job/outcome.h"
#include "engine/notice/notices.h"
#include "engine/options/options.h"
#include "engine/options/settings.h"
#include "engine/state/sides.h"

enum {
    TOW_SILENT_MS = 3000 /* a side that is asked at least once a second and has not answered for so
                            long does not answer */
};

struct tow_job {
    tow_config_t config; /* constant */
    tow_sides_t sides;
    struct {
        pthread_mutex_t lock; /* one event at a time */
        struct {
            tow_event_fn fn;
            void *data;
        } items[4]; /* constant once started */
    } listeners;
    tow_notices_t *notices; /* NULL: nobody wants any */
    tow_checked_t checked;  /* from the validation to the preparation; the supervisor's own */
    tow_control_t control;
    tow_journal_t journal;
    tow_flow_t flow;
    tow_comparer_t comparer;
    tow_job_outcome_t outcome;
    struct {
        tow_thread_t supervisor, monitor, pinger, checkpointer;
    } threads; /* the supervisor's own */
};

/* silence.c; the lock is held for the first four */
/* Since when a side has not answered, in ms; 0: it answers, or is not asked. */
int64_t tow_job_silent_ms(const tow_job_t *job, const tow_link_t *link);
/* "the source has not answered for 7 s", or "the destination …"; false: both answer. */
bool tow_job_tell_silence(const tow_job_t *job, char *out, size_t size);
/* Sets lag_ms as it is now. The lag of a source that does not answer is at least that long. */
void tow_job_measure_lag(tow_job_t *job);
/* Looks whether floor or copy have moved, once a second at most. Both threads that ask a side call
 * it: a silent side holds up only one of them. */
void tow_job_note_moves(tow_job_t *job);
/* Waits up to five seconds for an answer of each side that is newer than the call. */
bool tow_job_await_answers(tow_job_t *job, tow_error_t *error);
bool tow_job_start_pinger(tow_job_t *job, tow_error_t *error);

/* life.c */
void tow_job_move(tow_job_t *job, tow_phase_t phase); /* checked against the table */
tow_phase_t tow_job_phase(tow_job_t *job);
/* Its end is decided, whatever the phase still says: what is asked for now would not be done. The
 * lock is held. */
bool tow_job_is_over(const tow_job_t *job);
const char *tow_job_state_name(const tow_job_t *job); /* for a refusal, likewise */

/* setup.c: validate, prepare or resume; leaves all components running. */
bool tow_job_validate(tow_job_t *job, tow_error_t *error) TOW_CHECK;
/* *out_done: an earlier process came to a good end. */
bool tow_job_prepare(tow_job_t *job, bool *out_done, tow_error_t *error) TOW_CHECK;
void tow_job_teardown(tow_job_t *job);

/* claim.c: drops what is in the way of a new job where that was asked for, and begins it. Under the
 * lease. */
bool tow_job_claim(tow_job_t *job, tow_error_t *error) TOW_CHECK;

/* expiry.c. begin does nothing once it was begun; warn warns when little is left. expired fills
 * TOW_ERROR_EXPIRED, as does restore when the window is over, and is false. save stores what
 * changed. */
void tow_job_begin_window(tow_job_t *job);
void tow_job_warn_of_window(tow_job_t *job);
bool tow_job_expired(tow_job_t *job, tow_error_t *error);
bool tow_job_save_window(tow_job_t *job, tow_error_t *error) TOW_CHECK;
bool tow_job_restore_window(tow_job_t *job, const bson_t *document, tow_error_t *error) TOW_CHECK;

/* Sends a notice where one is wanted; the lock is not held. */
void tow_job_notify(tow_job_t *job, const char *event, const char *title, const char *message);
/* The last notice: how the job ended. Returns with all sent or given up, after seconds at most. */
void tow_job_notify_end(tow_job_t *job);

/* monitor.c */
bool tow_job_start_monitor(tow_job_t *job, tow_error_t *error) TOW_CHECK;

/* cutover.c */
typedef enum {
    TOW_FINALIZE_DONE,
    TOW_FINALIZE_CALLED_OFF, /* it was told why; the job is catching up, as before the cutover */
    TOW_FINALIZE_FAILED      /* *error is filled */
} tow_finalized_t;
tow_finalized_t tow_job_finalize(tow_job_t *job, tow_error_t *error) TOW_CHECK;
/* A cutover that was confirmed was called off before it began. */
void tow_job_forget_cutover(tow_job_t *job);
/* gaps.c: CALLED_OFF where only an operator can say what is right. */
tow_finalized_t tow_job_check_gaps(tow_job_t *job, tow_error_t *error) TOW_CHECK;
/* What a cutover restored, which did not come to its end: documents are the source's to expire. */
bool tow_job_hold_off_ttl(tow_job_t *job, tow_error_t *error) TOW_CHECK;

/* blocking.c: writes at the source, blocked by the supervisor. unblock does nothing where they are
 * not; a failure is told, and stands in the job's document for the next process. */
bool tow_job_block_writes(tow_job_t *job, tow_error_t *error) TOW_CHECK;
void tow_job_unblock_writes(tow_job_t *job);
void tow_job_leave_block(tow_job_t *job); /* it stays, and the next process does not lift it */

/* ending.c: by the supervisor, once nothing is applied any more. */
/* What this process has under way comes to its end; index builds are not waited for. Idempotent. */
void tow_job_end_writers(tow_job_t *job);
/* Leaves the job's state as its end demands: removed, or with a last checkpoint and without a
 * lease. The job fails by it when it turns out to be another process's by now. */
void tow_job_settle_state(tow_job_t *job);
/* Removes the state, once no checkpoint is being written. */
bool tow_job_drop_database(tow_job_t *job, tow_error_t *error) TOW_CHECK;

/* done.c: the record of a good end, from before the job's state is removed until the end was told:
 * in the spool's folder, and in the state as long as that is there. */
/* Room for the file. */
bool tow_job_reserve_done(tow_job_t *job, tow_error_t *error) TOW_CHECK;
/* Marks the state as ended, which proves that it is ours, and writes the file. *out_recorded false:
 * the file could not be written, and the state has to stay. */
bool tow_job_record_done(tow_job_t *job, bool *out_recorded, tow_error_t *error) TOW_CHECK;
/* Whether an earlier process left a file for this source, destination and filter, and the
 * destination still holds what it speaks of: then its summary is this job's. TOW_ERROR_CONFLICT: it
 * holds some of that. */
bool tow_job_done_before(tow_job_t *job, bool *out_done, tow_error_t *error) TOW_CHECK;
/* The same by the job's state, of which this process has the lease. */
bool tow_job_ended_before(tow_job_t *job, bool *out_ended, bool *out_done,
                          tow_error_t *error) TOW_CHECK;
void tow_job_unreserve_done(tow_job_t *job); /* the job came to no good end */
void tow_job_forget_done(tow_job_t *job);    /* its good end was told */
/* told.c. By the supervisor, once the job has stopped: waits until its end was told, then removes
 * the state and the file. */
void tow_job_await_told(tow_job_t *job);

/* ended.c: how the job ended, for whoever asks when its process is gone. */
void tow_job_leave_end(tow_job_t *job);
void tow_job_remove_end(tow_job_t *job); /* an earlier run's */

/* late.c: the namespaces that drops and renames may still hit, or have hit late, as a filter, which
 * is the caller's; NULL: none, or with *out_all any. */
bool tow_job_find_late(tow_job_t *job, tow_filter_t **out, bool *out_all,
                       tow_error_t *error) TOW_CHECK;

/* rollover.c */
bool tow_job_lost(void *data, bool opened,
                  tow_error_t *error) TOW_CHECK; /* of the tail's options */
/* Looks at the next minute of the source's oplog for writes that no stream shows, which are
 * repaired as after a rollover. `until`: a time up to which every write can be read. *out_all: it
 * was reached. */
bool tow_job_look_for_unseen(tow_job_t *job, tow_conn_t *source, bool retry, tow_optime_t until,
                             bool *out_all, tow_error_t *error) TOW_CHECK;
/* Makes the destination equal again, after which the stream is as good as it was. By the
 * supervisor, while nothing is copied. */
bool tow_job_resync(tow_job_t *job, tow_error_t *error) TOW_CHECK;

/* progress.c */
void tow_job_begin_effort(tow_job_t *job, tow_effort_t kind);
/* Seconds that finalizing still takes; -1: not known. The lock is held. */
double tow_job_finalize_seconds(const tow_job_t *job, const tow_progress_t *progress);
/* Seconds that `left` takes at the pace of `done` in `seconds`; -1: not known. */
double tow_effort_seconds(uint64_t left, uint64_t done, double seconds);
bool tow_job_can_commit(tow_job_t *job, char reason[REASON_SIZE]); /* the lock is held */
void tow_job_collect(tow_job_t *job, tow_progress_t *out);         /* likewise */

#endif
