/* SPDX-License-Identifier: Apache-2.0 */
/* privileges.h: whether the user of a URI may do what a job does. */
#ifndef TOW_CHECK_PRIVILEGES_H
#define TOW_CHECK_PRIVILEGES_H

#include "engine/check/findings.h"
#include "engine/link/link.h"

/* The databases that the job writes; none: any. Borrowed. */
typedef struct {
    const char *const *databases;
    size_t database_count;
    bool block_writes;         /* --block-writes: of the source's user */
    bool remove_user;          /* --remove-user: of the destination's */
    const char *sharded_state; /* the job's database on a sharded destination; else NULL */
} tow_privilege_scope_t;

/* One finding, `name`, about the user of a connection. `side`: "source" | "destination". */
void tow_check_privileges(tow_conn_t *conn, const char *side, const char *name,
                          const tow_privilege_scope_t *scope, tow_findings_t *findings);

/* The same about the answer to connectionStatus; false: it names no user, and nothing was found. */
bool tow_judge_privileges(const bson_t *reply, const char *side, const char *name,
                          const tow_privilege_scope_t *scope, tow_findings_t *findings);

#endif
