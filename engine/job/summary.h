/* SPDX-License-Identifier: Apache-2.0 */
/* summary.h: what a job tells about itself as JSON: progress while it runs, the summary
 * at its end. */
#ifndef TOW_JOB_SUMMARY_H
#define TOW_JOB_SUMMARY_H

#include "engine/state/namespaces.h"
#include "engine/towline.h"
#include "verify/verify.h"

typedef struct {
    const char *ns, *name, *message;
} tow_summary_index_failure_t;

/* Everything the summary shows; borrowed. */
typedef struct {
    const char *job, *state;          /* state: a phase name: "done", "failed" … */
    const char *error;                /* "" when none */
    const char *source, *destination; /* hosts, no credentials */
    const char *address;      /* of the destination, to connect to: a URI without credentials */
    const char *user_removed; /* "name@database"; NULL: none was */
    double duration_seconds;
    double downtime_seconds; /* from the confirmation to done; -1 when there was no cutover */
    double phase_seconds[TOW_PHASE_CANCELLED + 1]; /* time spent in each phase */
    int64_t window_start_ms, window_end_ms;        /* since 1970; 0: never in sync */
    uint32_t restarts;
    uint64_t initial_documents, initial_bytes;
    uint32_t collections, indexes;
    uint64_t events_seen, events_skipped, keys_refetched, statements_applied;
    uint64_t events_left; /* read, and not on the destination */
    tow_timestamp_t stop; /* up to which all of the source is there; {0, 0}: no cutover */
    int64_t confirmed_ms; /* since 1970; 0: no cutover */
    uint64_t late_writes;
    bool writes_blocked;
    uint32_t called_off;        /* cutovers */
    double cpu_seconds;         /* of this process */
    uint64_t peak_memory_bytes; /* of this process */
    const tow_summary_index_failure_t *index_failures;
    uint32_t index_failure_count;
    const tow_verify_report_t *verification; /* NULL when it was not done */
    const char *const *notes;                /* e.g. what reconciliation changed */
    uint32_t note_count;
    const char *const *remains; /* what a person may want to remove or lift, with the command */
    uint32_t remains_count;
} tow_summary_t;

/* The last cutover that was called off. */
typedef struct {
    int64_t called_off_ms, confirmed_ms; /* since 1970; 0: none was; nobody confirmed it */
    uint64_t late_writes;                /* changes of the source after the confirmation */
    char reason[1024];
} tow_attempt_t;

/* Whose progress it is, and what of it no snapshot has; borrowed. */
typedef struct {
    const char *job;
    const char *source, *destination; /* hosts, no credentials; "" when not connected yet */
    int exit_status;                  /* of a job that has ended; -1: it has not */
    const tow_attempt_t *attempt;
    const char *next; /* what to do next */
} tow_identity_t;

/* One line of JSON each, owned by the caller. Shapes are documented in engine/docs/progress.md;
 * progress has mongosync's field names where it has them. */
char *tow_progress_to_json(const tow_progress_t *progress, const tow_identity_t *identity);
char *tow_collections_to_json(const tow_namespace_state_t *states, uint32_t count, uint32_t limit);
char *tow_summary_to_json(const tow_summary_t *summary);

#endif
