/* SPDX-License-Identifier: Apache-2.0 */
/* outcome.h: how a job ended, what it leaves behind, and what says so.
 *
 * Threads: `lock` guards the notes, what remains and the removed user; the rest is written by the
 * supervisor under the control's lock. */
#ifndef TOW_JOB_OUTCOME_H
#define TOW_JOB_OUTCOME_H

#include <pthread.h>

#include "engine/base/error.h"
#include "engine/base/file.h"
#include "engine/state/namespaces.h"
#include "engine/towline.h"

enum { REASON_SIZE = 256 };

typedef struct {
    pthread_mutex_t lock;
    char *notes[64]; /* `lock`: events that belong into the summary */
    uint32_t note_count;
    char *remains[8]; /* `lock`: what the job leaves behind that a person may want to remove */
    uint32_t remains_count;
    char *user_removed; /* `lock`: "name@database"; NULL: none was */
    bool ok;
    tow_error_t error;
    char reason[REASON_SIZE];
    bool ended;                         /* the parts are gone, and what follows is shown instead: */
    tow_progress_t last;                /* the final progress, */
    tow_namespace_state_t *last_states; /* and the collections */
    uint32_t last_state_count;
    char *summary_json;
    /* The record of a good end. */
    bool end_recorded;      /* by an earlier process, in a file */
    tow_draft_t done_draft; /* of the record, reserved; no file: it is not */
    bool told_before;       /* by a record: an earlier process did it all */
    bool told;              /* the end; the record goes when the job has stopped */
    bool state_waits;       /* for that: it is marked as ended, and the lease is kept */
    bool settled;           /* nothing is left to do, also after that */
} tow_job_outcome_t;

void tow_outcome_init(tow_job_outcome_t *outcome);
void tow_outcome_clear(tow_job_outcome_t *outcome);
/* An event that belongs into the summary: those beyond the 64th are left out. */
void tow_outcome_note(tow_job_outcome_t *outcome, const char *event, const char *message);
void tow_outcome_remains(tow_job_outcome_t *outcome, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* As of a job that ends in that phase; the control's lock is held. */
void tow_job_make_summary(tow_job_t *job, tow_phase_t phase);

#endif
