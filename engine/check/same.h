/* SPDX-License-Identifier: Apache-2.0 */
/* same.h: that source and destination are two deployments, before anything is dropped or written.
 *
 * Names prove nothing: one deployment has many (host names, addresses, horizons, each mongos), and
 * the roles that a destination's user needs do not let it read the deployment's id. So what can be
 * compared is compared, and then a mark with a random value is written to a database of ours on the
 * destination and looked for at the source. */
#ifndef TOW_CHECK_SAME_H
#define TOW_CHECK_SAME_H

#include "engine/link/link.h"

typedef enum {
    TOW_SIDES_DIFFERENT, /* by their ids, or by the names of their sets */
    TOW_SIDES_SAME,
    TOW_SIDES_SHARD, /* one of them is a shard of a cluster, and must not be, or nobody can tell of
                        which */
    TOW_SIDES_OPEN   /* only the mark decides */
} tow_sameness_t;

/* Compares what both sides say of themselves; nothing is written. *error is filled for SAME and
 * SHARD, with what to do. */
tow_sameness_t tow_sides_compare(tow_link_t *source, tow_link_t *destination, tow_error_t *error);

/* The same, and then the mark, in a collection `proof_…` of `database` that is this mark's alone,
 * and is removed again. The answer is exact: the mark is acknowledged by a majority, and read at
 * the source's primary in a way that sees every such write. A source that is not a primary is
 * waited for until it has seen the time of the mark, or refused. That it is not found counts while
 * the destination has it. A mongos does not show what was written to one of its shards directly: as
 * a source it is refused where its shards have that database, too. TOW_ERROR_UNSUITABLE: one
 * deployment, or nothing proves that they are two. */
bool tow_prove_different(tow_link_t *source, tow_link_t *destination, const char *database,
                         tow_error_t *error) TOW_CHECK;

#endif
