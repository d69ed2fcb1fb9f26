/* SPDX-License-Identifier: Apache-2.0 */
/* claims.h: what this job made on the destination. Nothing else there is dropped, replaced or
 * renamed over, however long the job has run: that the source does not have something says nothing
 * about whose it is.
 *
 * A claim is recorded before the create is sent (meant), and with the identity that the destination
 * gave once it is there (made). So a process that was killed in between still knows that it may be
 * its own; and what somebody else made under a name that was ours has another identity. Kept in the
 * collection `made` of the job's database:
 *   {_id: ns, uuid?: BinData, moved?: true}
 * Documents are written when the identity is recorded: what was only meant and has some is somebody
 * else's, unless a rename brought them (moved).
 *
 * Threads: all functions may be called from any thread. */
#ifndef TOW_STATE_CLAIMS_H
#define TOW_STATE_CLAIMS_H

#include "engine/state/store.h"

typedef struct tow_claims tow_claims_t;

tow_claims_t *tow_claims_new(tow_store_t *store); /* borrowed */
void tow_claims_destroy(tow_claims_t *claims);    /* takes NULL */
/* What earlier processes of the job recorded. */
bool tow_claims_load(tow_claims_t *claims, tow_error_t *error) TOW_CHECK;

/* Records that these are about to be created; what is claimed already stays as it is. */
bool tow_claims_mean(tow_claims_t *claims, const char *const *ns, size_t count,
                     tow_error_t *error) TOW_CHECK;
/* A rename is about to give it another identity, and documents; what was there is
 * dropped with it. */
bool tow_claims_move(tow_claims_t *claims, const char *ns, tow_error_t *error) TOW_CHECK;
/* It is there, with that identity (zeros where there is none, as of views). */
bool tow_claims_make(tow_claims_t *claims, const char *ns, const uint8_t uuid[16],
                     tow_error_t *error) TOW_CHECK;
/* It is there no more. */
bool tow_claims_end(tow_claims_t *claims, const char *ns, tow_error_t *error) TOW_CHECK;

/* A create that was sent more than once, or was never answered, may arrive after what it made was
 * dropped: what is then there may be the job's own. Those of earlier processes are known by the
 * job's document (`late`). */
void tow_claims_doubt(tow_claims_t *claims, const char *ns);
/* An index build is sent, and its end: a build that reaches the server after its collection was
 * dropped makes the collection again, under an identity that nobody has recorded. `made_it`: this
 * one did, or may have. */
void tow_claims_build_begins(tow_claims_t *claims, const char *ns);
bool tow_claims_build_ended(tow_claims_t *claims, const char *ns, bool made_it,
                            tow_error_t *error) TOW_CHECK;

typedef enum {
    TOW_CLAIM_NONE,  /* somebody else's */
    TOW_CLAIM_MEANT, /* this process is creating it: what is there already is somebody else's */
    TOW_CLAIM_MAYBE, /* an earlier process was creating it, or a late command of ours may have made
                        it: ours while nothing is in it */
    TOW_CLAIM_MADE   /* ours */
} tow_claim_t;
/* Whose the namespace is that the destination lists under that name with that identity. */
tow_claim_t tow_claims_of(tow_claims_t *claims, const char *ns, const uint8_t uuid[16]);
/* Whether what an earlier process meant there may have documents. */
bool tow_claims_is_moved(tow_claims_t *claims, const char *ns);
/* Whether something was made under that name, and not dropped since. */
bool tow_claims_has(tow_claims_t *claims, const char *ns);
bool tow_claims_any(tow_claims_t *claims);
/* Whether this process ever made, knew or dropped something of the job's in that database. */
bool tow_claims_had(tow_claims_t *claims, const char *database);
void tow_claims_note_cleared(tow_claims_t *claims,
                             const char *ns); /* it was dropped by --clear-destination */
/* True for the first call with that name: what is said of it is said once. */
bool tow_claims_first_told(tow_claims_t *claims, const char *ns);

/* Whether a database of the destination holds the state of a job, this one's or another's: it is
 * nobody's to copy over or to clear. */
bool tow_is_job_state(tow_conn_t *conn, const char *database, bool *out,
                      tow_error_t *error) TOW_CHECK;

#endif
