/* SPDX-License-Identifier: Apache-2.0 */
/* others.h: what the records of the other jobs on a destination claim. While a job holds its lease,
 * or was killed and nobody knows, that is nobody else's to clear. What a job made that was stopped
 * (its lease was given back) may be cleared, once its state says so: it does not go on then. */
#ifndef TOW_STATE_OTHERS_H
#define TOW_STATE_OTHERS_H

#include "engine/link/catalog.h"

typedef struct tow_others tow_others_t;

/* *there: the destination's catalog, read before; what a job made is claimed before it shows there.
 * `own`: the database of the state that does not count. A state that is about to be removed claims
 * nothing. NULL: *error. */
tow_others_t *tow_others_read(tow_conn_t *conn, const tow_catalog_t *there, const char *own,
                              tow_error_t *error);
void tow_others_destroy(tow_others_t *others); /* takes NULL */
/* The database of the state that claims it while its lease was not given back, borrowed; NULL: that
 * of no job. */
const char *tow_others_hold(const tow_others_t *others, const char *ns);
/* Before it is dropped: TOW_ERROR_CONFLICT when its job holds a lease, or does by now; that of a
 * job which does not is marked as cleared by `own`. */
bool tow_others_take(tow_others_t *others, tow_conn_t *conn, const char *ns, const char *own,
                     tow_error_t *error) TOW_CHECK;

#endif
