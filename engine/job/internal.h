/* internal.h: what the files of the job share.
 *
 * Threads: the supervisor runs the phases; the monitor polls the source's time, chooses the mode and
 * keeps the lag; the checkpointer stores the floor and renews the lease; the verifier compares while the
 * job is in sync. The components have theirs.
 * Lock order: `checkpoint_lock`, then `lock`. */
#ifndef TOW_JOB_INTERNAL_H
#define TOW_JOB_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "copy/copy.h"
#include "engine/base/thread.h"
#include "engine/check/survey.h"
#include "engine/job/pace.h"
#include "engine/job/phases.h"
#include "engine/job/summary.h"
#include "engine/job/window.h"
#include "engine/notice/notices.h"
#include "engine/options/options.h"
#include "engine/options/settings.h"
#include "engine/state/sides.h"
#include "oplog/record.h"
#include "oplog/replay.h"
#include "oplog/watch.h"
#include "verify/verify.h"

enum {
    LAG_POINTS = 4096,
    REASON_SIZE = 256,
    TOW_LAG_GRAIN_MS = 1500, /* a source whose clock ticks without writes says so once a second */
    TOW_SILENT_MS = 3000     /* a side that is asked at least once a second and has not answered for so long
                                does not answer */
};

/* A time of the source and when we first saw it. */
typedef struct {
    tow_optime_t time;
    int64_t seen_ms;
} tow_lag_point_t;

/* How long ago the source had something that the floor has not reached. */
typedef struct {
    tow_lag_point_t points[LAG_POINTS]; /* times ascending, all newer than the floor */
    uint32_t count;
    tow_optime_t first_time;            /* the first ever seen, */
    int64_t first_ms;                   /* and when */
} tow_lag_t;

void tow_lag_saw(tow_lag_t *lag, tow_optime_t source_time, int64_t now_ms);
/* Milliseconds that `floor` is behind; 0 when it has reached all that was seen; -1: nothing seen.
 * `waiting`: events were read that are not settled. */
int64_t tow_lag_of(tow_lag_t *lag, tow_optime_t floor, bool waiting, int64_t now_ms);

/* When the job last came closer to its end: silence and a stall look alike from outside, but for this. */
typedef struct {
    tow_optime_t floor;
    uint64_t copied;  /* documents and indexes */
    int64_t wall_ms;  /* since 1970: when either last moved; 0: not looked at yet */
    int64_t looked_ms;
} tow_moves_t;

void tow_moves_saw(tow_moves_t *moves, tow_optime_t floor, uint64_t copied, int64_t wall_ms);

/* What finalizing is at. */
typedef enum { TOW_EFFORT_EVENTS, TOW_EFFORT_INDEXES, TOW_EFFORT_VERIFY } tow_effort_t;

/* Whether an earlier process began the job, which may have copied something. */
typedef enum { TOW_BEFORE_UNKNOWN, TOW_BEFORE_NONE, TOW_BEFORE_BEGUN } tow_before_t;

struct tow_job {
    tow_config_t config;
    tow_sides_t sides;
    struct {
        tow_event_fn fn;
        void *data;
    } listeners[2];             /* constant once started */
    pthread_mutex_t event_lock; /* one event at a time */
    tow_notices_t *notices;     /* NULL: nobody wants any */
    tow_stop_t *late_stop;      /* of what is done when the job has stopped */
    /* From the validation to the preparation; the supervisor's own, as is what follows. */
    tow_survey_t survey;
    tow_catalog_t in_the_way;   /* what the destination held */
    bool begun;                 /* the job's state says so: it is kept for the next process */
    bool end_recorded;          /* by an earlier process, in a file */
    int done_file;              /* the record of a good end, reserved; -1: it is not */
    tow_thread_t supervisor, monitor, pinger, checkpointer, verifier;

    pthread_mutex_t checkpoint_lock; /* guards the order of checkpoints and what follows */
    bool state_removed;              /* there is no database any more to keep a checkpoint in */
    bson_t ddl_token;                /* of the last DDL event carried out; empty: none */
    tow_optime_t ddl_time;
    uint32_t losses;             /* of the stream's position in this process, likewise */

    pthread_mutex_t lock; /* guards everything below but atomics and what says otherwise */
    pthread_cond_t changed;
    tow_phase_t phase, paused_from;
    tow_window_t window;
    bool window_changed;         /* and not yet stored */
    bool expired;                /* decided: no extension helps this process any more */
    bool started, ended, pause_wished, cancelled, stopped;
    bool cutover_wished;         /* false while finalizing: it is called off */
    bool committed;              /* the cutover has passed its point of no return */
    bool waits_for_word;         /* somebody called a cutover off: the next one is asked for */
    char reason[REASON_SIZE];
    tow_error_t error;
    bool ok;
    tow_progress_t last;         /* once ended: the final progress, */
    tow_namespace_state_t *last_states; /* and the collections */
    uint32_t last_state_count;
    bool verifier_started;
    int64_t started_ms, ended_ms, phase_since_ms;
    tow_cutover_step_t cutover;
    bool block_wished;           /* by whoever asked for the cutover */
    bool writes_blocked;         /* by us, or they may be */
    bool ttl_restored; /* by a cutover, this one or a killed one; and it is not held off again */
    bool late_told;
    bool closed;                 /* how it ends is decided: too late to cancel */
    bool told_before;            /* by a record: an earlier process did it all */
    bool told;                   /* the end; the record goes when the job has stopped */
    tow_before_t before;
    int64_t confirmed_ms, confirmed_wall_ms; /* 0: no cutover was confirmed, or it was called off */
    uint64_t late_writes;        /* before the last cutover was called off */
    uint32_t called_off;
    tow_attempt_t attempt;       /* the last one that was */
    uint64_t quiet_events;       /* the supervisor's own: the source's, and since when so many */
    int64_t quiet_since_ms;
    bool looked; /* the supervisor's own: the catalogs were compared since it is in sync */
    struct {
        tow_effort_t kind;
        int64_t since_ms;
        uint64_t settled;        /* events, when it began */
        uint32_t indexes;        /* built, likewise */
    } effort;                    /* what finalizing is at */
    char *remains[8];            /* what the job leaves behind that a person may want to remove */
    uint32_t remains_count;
    char *user_removed;          /* "name@database"; NULL: none was */
    double phase_seconds[TOW_PHASE_CANCELLED + 1];
    bool asking;                 /* both sides are asked all the time: silence means something */
    tow_lag_t lag;
    int64_t lag_ms;              /* as last measured: tow_job_measure_lag */
    tow_moves_t moves;
    double oplog_headroom;       /* seconds; -1: not known */
    tow_optime_t source_time, start_time, checkpoint_time, consistent_time, stop_time,
        verified_time;
    uint32_t restarts;
    char *notes[64];
    uint32_t note_count;
    tow_verify_report_t *report;
    tow_verify_report_t *online; /* what was found before the cutover; NULL: nothing yet */
    tow_pace_t pace;             /* of the verification in the background */
    char *summary_json;

    /* Made by the supervisor while it alone runs, constant until it takes them away under the lock. */
    tow_store_t *store;
    tow_claims_t *claims;        /* what the job made on the destination */
    tow_namespaces_t *namespaces;
    tow_copy_t *copy;
    tow_spool_t *spool;
    tow_ledger_t *ledger;
    tow_tail_t *tail;
    tow_replay_t *replay;
    tow_track_t *track;
    tow_watch_t *_Atomic watch;  /* made by the verifier, once */
    bson_t *watch_token;         /* where the watch of an earlier process was; NULL: none */
    tow_conn_t *remember_conn;   /* under the checkpoint lock */
    atomic_int rollover;         /* tow_rollover_t */
    atomic_bool verifier_quit;   /* the cutover begins */
    atomic_int settling;         /* how many wait until the floor has passed a time of the source */
    atomic_bool synced_once;     /* unique indexes are built: a cutover is possible */
    _Atomic uint64_t verified_documents, verified_bytes, verify_total;
};

/* The source no longer had what the stream was to go on with. */
typedef enum {
    TOW_ROLLOVER_NONE,
    TOW_ROLLOVER_LOST,  /* a new stream is not open yet */
    TOW_ROLLOVER_OPENED /* both sides are to be compared by ranges, and repaired */
} tow_rollover_t;

/* silence.c; the lock is held for the first four */
/* Since when a side has not answered, in ms; 0: it answers, or is not asked. */
int64_t tow_job_silent_ms(const tow_job_t *job, const tow_link_t *link);
/* "the source has not answered for 7 s", or "the destination …"; false: both answer. */
bool tow_job_tell_silence(const tow_job_t *job, char *out, size_t size);
/* Sets lag_ms as it is now. The lag of a source that does not answer is at least that long. */
void tow_job_measure_lag(tow_job_t *job);
/* Looks whether floor or copy have moved, once a second at most. Both threads that ask a side call it: a
 * silent side holds up only one of them. */
void tow_job_note_moves(tow_job_t *job);
/* Waits up to five seconds for an answer of each side that is newer than the call. */
bool tow_job_await_answers(tow_job_t *job, tow_error_t *error);
bool tow_job_start_pinger(tow_job_t *job, tow_error_t *error);

/* life.c */
void tow_job_move(tow_job_t *job, tow_phase_t phase); /* checked against the table */
tow_phase_t tow_job_phase(tow_job_t *job);
/* Its end is decided, whatever the phase still says: what is asked for now would not be done. The lock is
 * held. */
bool tow_job_is_over(const tow_job_t *job);
const char *tow_job_state_name(const tow_job_t *job); /* for a refusal, likewise */

/* setup.c: validate, prepare or resume; leaves all components running. */
bool tow_job_validate(tow_job_t *job, tow_error_t *error) TOW_CHECK;
/* *out_done: an earlier process came to a good end. */
bool tow_job_prepare(tow_job_t *job, bool *out_done, tow_error_t *error) TOW_CHECK;
void tow_job_teardown(tow_job_t *job);

/* claim.c: drops what is in the way of a new job where that was asked for, and begins it. Under the lease. */
bool tow_job_claim(tow_job_t *job, tow_error_t *error) TOW_CHECK;

/* expiry.c. watch and restore: false with TOW_ERROR_EXPIRED when the window is over. save stores what
 * changed; begin does nothing once it was begun. */
void tow_job_begin_window(tow_job_t *job);
bool tow_job_watch_window(tow_job_t *job, tow_error_t *error) TOW_CHECK;
bool tow_job_save_window(tow_job_t *job, tow_error_t *error) TOW_CHECK;
bool tow_job_restore_window(tow_job_t *job, const bson_t *document, tow_error_t *error) TOW_CHECK;

/* Sends a notice where one is wanted; the lock is not held. */
void tow_job_notify(tow_job_t *job, const char *event, const char *title, const char *message);
/* The last notice: how the job ended. Returns with all sent or given up, after seconds at most. */
void tow_job_notify_end(tow_job_t *job);

/* monitor.c */
bool tow_job_start_monitor(tow_job_t *job, tow_error_t *error) TOW_CHECK;
bool tow_job_checkpoint(tow_job_t *job, tow_error_t *error) TOW_CHECK;
/* The DDL event of that token was carried out. */
bool tow_job_save_ddl(tow_job_t *job, const bson_t *token, tow_optime_t time, tow_error_t *error) TOW_CHECK;
void tow_job_restore_ddl(tow_job_t *job, const bson_t *token, tow_optime_t time); /* at a restart */
bool tow_job_start_checkpointer(tow_job_t *job, tow_error_t *error) TOW_CHECK;

/* flow.c */
/* A time of the source with all that was written before the call; false with *error. */
bool tow_job_source_time(tow_job_t *job, tow_optime_t *out, tow_error_t *error) TOW_CHECK;
/* It was asked to stop, or its cutover to be called off; the lock is not held. */
bool tow_job_interrupted(tow_job_t *job);
/* Waits until everything up to that time, which tow_job_source_time just gave, is settled. False: `ended`
 * said so. */
bool tow_job_wait_settled(tow_job_t *job, tow_optime_t time, bool (*ended)(tow_job_t *)) TOW_CHECK;
/* Takes `stop` from the source, and waits until everything up to it is settled. */
bool tow_job_drain(tow_job_t *job, tow_error_t *error) TOW_CHECK;
/* Waits until all builds are done and, with `ranges`, all copies. False: interrupted, with *error. */
bool tow_job_await_copy(tow_job_t *job, bool ranges, tow_error_t *error) TOW_CHECK;
/* Fills the error that stopped the job, or that it or its cutover was interrupted; false. */
bool tow_job_stopped(tow_job_t *job, tow_error_t *error);

/* comparing.c */
/* `track`: NULL when everything is to be compared. */
void tow_job_verify_options(tow_job_t *job, tow_track_t *track, tow_verify_options_t *out);
void tow_job_tell_differences(tow_job_t *job, const tow_verify_report_t *report);
/* A tow_repair_fn. */
bool tow_job_repair(void *data, const char *database, const char *collection,
                    const tow_value_t *ids, uint32_t count, bool anew,
                    tow_error_t *error) TOW_CHECK;

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

/* blocking.c: writes at the source, blocked by the supervisor. unblock does nothing where they are not;
 * a failure is told, and stands in the job's document for the next process. */
bool tow_job_block_writes(tow_job_t *job, tow_error_t *error) TOW_CHECK;
void tow_job_unblock_writes(tow_job_t *job);
void tow_job_leave_block(tow_job_t *job); /* it stays, and the next process does not lift it */

/* journal.c */
/* Opens the state of an earlier process where there is any; `blocked`: only when that process left the
 * source's writes blocked. False: there is, and it cannot be opened. */
bool tow_job_open_state(tow_job_t *job, bool blocked);
tow_store_options_t tow_job_store_options(tow_job_t *job);

/* outcome.c */
void tow_job_remains_add(tow_job_t *job, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* As of a job that ends in that phase; the lock is held. */
void tow_job_make_summary(tow_job_t *job, tow_phase_t phase);

/* ending.c: by the supervisor, once nothing is applied any more. */
/* What this process has under way comes to its end; index builds are not waited for. Idempotent. */
void tow_job_end_writers(tow_job_t *job);
/* Leaves the job's state as its end demands: removed, or with a last checkpoint and without a lease. The
 * job fails by it when it turns out to be another process's by now. */
void tow_job_settle_state(tow_job_t *job);

/* done.c: the record of a good end, from before the job's state is removed until the end was told: in the
 * spool's folder, and in the state as long as that is there. */
/* Room for the file. */
bool tow_job_reserve_done(tow_job_t *job, tow_error_t *error) TOW_CHECK;
/* Marks the state as ended, which proves that it is ours, and writes the file. *out_recorded false: the file
 * could not be written, and the state has to stay. */
bool tow_job_record_done(tow_job_t *job, bool *out_recorded, tow_error_t *error) TOW_CHECK;
/* Whether an earlier process left a file for this source, destination and filter, and the destination still
 * holds what it speaks of: then its summary is this job's. TOW_ERROR_CONFLICT: it holds some of that. */
bool tow_job_done_before(tow_job_t *job, bool *out_done, tow_error_t *error) TOW_CHECK;
/* The same by the job's state, of which this process has the lease. */
bool tow_job_ended_before(tow_job_t *job, bool *out_ended, bool *out_done, tow_error_t *error) TOW_CHECK;
void tow_job_unreserve_done(tow_job_t *job); /* the job came to no good end */
void tow_job_tell_late(tow_job_t *job);      /* once it has stopped: the end may have been told before */

/* ended.c: how the job ended, for whoever asks when its process is gone. */
void tow_job_leave_end(tow_job_t *job);
void tow_job_remove_end(tow_job_t *job); /* an earlier run's */

/* late.c: the namespaces that drops and renames may still hit, or have hit late, as a filter, which is the
 * caller's; NULL: none, or with *out_all any. */
bool tow_job_find_late(tow_job_t *job, tow_filter_t **out, bool *out_all, tow_error_t *error) TOW_CHECK;

/* background.c */
bool tow_job_verifies_online(const tow_job_t *job);
bool tow_job_start_verifier(tow_job_t *job, tow_error_t *error) TOW_CHECK;
void tow_job_end_verifier(tow_job_t *job); /* joins */
/* The track, once it has heard of every write before the call; NULL: it cannot be relied on. The
 * verifier must have ended. */
tow_track_t *tow_job_watched_track(tow_job_t *job);
bool tow_job_settle(void *data, tow_error_t *error) TOW_CHECK; /* a tow_settle_fn while in sync */

/* rollover.c */
bool tow_job_lost(void *data, bool opened, tow_error_t *error) TOW_CHECK; /* of the tail's options */
/* Makes the destination equal again, after which the stream is as good as it was. By the supervisor,
 * while nothing is copied. */
bool tow_job_resync(tow_job_t *job, tow_error_t *error) TOW_CHECK;

/* remember.c */
/* Stores what was compared since the last time; before a checkpoint, under its lock. */
bool tow_job_save_track(tow_job_t *job, tow_error_t *error) TOW_CHECK;
/* Before any event is replayed. */
bool tow_job_restore_track(tow_job_t *job, tow_error_t *error) TOW_CHECK;

/* progress.c */
void tow_job_begin_effort(tow_job_t *job, tow_effort_t kind);
/* Seconds that finalizing still takes; -1: not known. The lock is held. */
double tow_job_finalize_seconds(const tow_job_t *job, const tow_progress_t *progress);
/* Seconds that `left` takes at the pace of `done` in `seconds`; -1: not known. */
double tow_effort_seconds(uint64_t left, uint64_t done, double seconds);
bool tow_job_can_commit(tow_job_t *job, char reason[REASON_SIZE]); /* the lock is held */
void tow_job_collect(tow_job_t *job, tow_progress_t *out);         /* likewise */

#endif
