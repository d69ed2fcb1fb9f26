/* SPDX-License-Identifier: Apache-2.0 */
/* journal.h: what a restart finds: the job's state on the destination.
 *
 * Threads: `lock` guards the order of checkpoints, and what says so; the rest is the supervisor's,
 * who shows `store`, `claims` and the marked fields to others under the control's lock. Lock order:
 * this lock before the control's. */
#ifndef TOW_JOB_JOURNAL_H
#define TOW_JOB_JOURNAL_H

#include <pthread.h>

#include "engine/base/stop.h"
#include "engine/job/summary.h"
#include "engine/state/claims.h"
#include "engine/state/store.h"

/* Whether an earlier process began the job, which may have copied something. */
typedef enum { TOW_BEFORE_UNKNOWN, TOW_BEFORE_NONE, TOW_BEFORE_BEGUN } tow_before_t;

typedef struct {
    pthread_mutex_t lock;
    bool state_removed;    /* `lock`: there is no database any more to keep a checkpoint in */
    bson_t ddl_token;      /* `lock`: of the last DDL event carried out; empty: none */
    tow_optime_t ddl_time; /* `lock` */
    uint32_t losses;       /* `lock`: of the stream's position in this process */
    tow_stop_t *late_stop; /* of what is done when the job has stopped */
    bool begun;            /* the job's state says so: it is kept for the next process */
    bool ttl_restored; /* by a cutover, this one or a killed one; and it is not held off again */
    /* Shown under the control's lock. */
    tow_store_t *store;
    tow_claims_t *claims; /* what the job made on the destination */
    tow_before_t before;
    bool writes_blocked; /* by us, or they may be */
    uint32_t restarts;
    tow_optime_t start_time, checkpoint_time;
    tow_optime_t unseen_time; /* until when the oplog was looked at for what no stream shows */
} tow_journal_t;

void tow_journal_init(tow_journal_t *journal);
void tow_journal_clear(tow_journal_t *journal);
tow_store_options_t tow_job_store_options(tow_job_t *job);
/* Opens the state of an earlier process where there is any; `blocked`: only when that process left
 * the source's writes blocked. False: there is, and it cannot be opened. */
bool tow_job_open_state(tow_job_t *job, bool blocked);

/* Flags of the job's document, which say what a process that is killed leaves undone. */
typedef enum {
    TOW_FLAG_PREPARED,       /* the copy's plan is stored: a restart goes on with it */
    TOW_FLAG_ROLLOVER,       /* both sides are to be compared by ranges, and repaired */
    TOW_FLAG_WRITES_BLOCKED, /* at the source, by a cutover */
    TOW_FLAG_TTL_RESTORED,   /* the destination expires documents by itself */
    TOW_FLAGS
} tow_flag_t;

bool tow_journal_set_flag(tow_journal_t *journal, tow_flag_t flag, bool value,
                          tow_error_t *error) TOW_CHECK;
/* The last cutover that was called off. */
bool tow_journal_set_attempt(tow_journal_t *journal, const tow_attempt_t *attempt,
                             tow_error_t *error) TOW_CHECK;
bool tow_journal_set_time(tow_journal_t *journal, const char *name, tow_optime_t time,
                          tow_error_t *error) TOW_CHECK;

/* What the job's document says at a restart. */
typedef struct {
    bool flags[TOW_FLAGS];
    tow_optime_t start;
    char series[64]; /* of the spool */
    uint32_t restarts;
    tow_attempt_t attempt; /* the last cutover that was called off */
} tow_remembered_t;

/* Whether each flag is true or false, and none is missing in a document that has them all. */
bool tow_journal_is_whole(const bson_t *document);
/* Reads it, and counts the restart. */
bool tow_job_remember(tow_job_t *job, tow_remembered_t *out, tow_error_t *error) TOW_CHECK;

/* checkpoint.c */
bool tow_job_checkpoint(tow_job_t *job, tow_error_t *error) TOW_CHECK;
/* The DDL event of that token was carried out. */
bool tow_job_save_ddl(tow_job_t *job, const bson_t *token, tow_optime_t time,
                      tow_error_t *error) TOW_CHECK;
void tow_job_restore_ddl(tow_job_t *job, const bson_t *token, tow_optime_t time); /* at a restart */
bool tow_job_start_checkpointer(tow_job_t *job, tow_error_t *error) TOW_CHECK;

#endif
