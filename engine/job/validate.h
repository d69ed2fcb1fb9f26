/* validate.h: the checks that stand before a start, and the parts of them that need no server. */
#ifndef TOW_JOB_VALIDATE_H
#define TOW_JOB_VALIDATE_H

#include "engine/job/findings.h"
#include "engine/job/survey.h"

/* What the checks before a start found, and read meanwhile. */
typedef struct {
    tow_findings_t findings;
    tow_survey_t survey;        /* valid when `surveyed` */
    bool surveyed, exists;      /* exists: the job was begun before */
    tow_catalog_t in_the_way;   /* the destination's, where the job was not begun */
    double window_seconds, full_window_seconds; /* of the source's oplog; -1: not known */
} tow_checked_t;

/* validate.c: connects both sides of the job (job->source, job->destination; NULL after a failure) and
 * runs all checks. `starting`: a start follows, which waits for a lease and takes it. */
struct tow_job;
void tow_job_check(struct tow_job *job, bool starting, tow_checked_t *out);
void tow_checked_clear(tow_checked_t *checked);

enum { TOW_UNAUTHORIZED = 13 }; /* the server's error number */

/* The databases that the job writes; none: any. Borrowed. */
typedef struct {
    const char *const *databases;
    size_t database_count;
    bool block_writes; /* --block-writes: of the source's user */
    bool remove_user;  /* --remove-user: of the destination's */
    const char *sharded_state; /* the job's database on a sharded destination; else NULL */
} tow_privilege_scope_t;

/* privileges.c: one finding, `name`, about the user of a connection. `side`: "source" | "destination". */
void tow_check_privileges(tow_conn_t *conn, const char *side, const char *name,
                          const tow_privilege_scope_t *scope, tow_findings_t *findings);

/* The same about the answer to connectionStatus; false: it names no user, and nothing was found. */
bool tow_judge_privileges(const bson_t *reply, const char *side, const char *name,
                          const tow_privilege_scope_t *scope, tow_findings_t *findings);

/* limits.c: judgements of figures. Each adds one finding. */
void tow_judge_spool(tow_findings_t *findings, const char *folder, uint64_t free_bytes);
/* `total_bytes` 0: the server does not tell. */
void tow_judge_destination(tow_findings_t *findings, uint64_t copy_bytes, double used_bytes,
                           double total_bytes);
/* `full_seconds`: what the window grows to once the oplog is as large as it may be; at least
 * `window_seconds`. */
void tow_judge_window(tow_findings_t *findings, double window_seconds, double full_seconds,
                      double copy_seconds);
/* How far each side's clock is ahead of this machine's, in seconds. */
void tow_judge_clocks(tow_findings_t *findings, double source_seconds, double destination_seconds);
void tow_judge_files(tow_findings_t *findings, uint64_t limit, uint64_t needed);
const char *tow_bytes_text(double bytes, char out[32]);

#endif
