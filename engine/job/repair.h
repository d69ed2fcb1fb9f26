/* SPDX-License-Identifier: Apache-2.0 */
/* repair.h: makes a destination what its source is without a job: the catalog by reconciling,
 * documents by refetching the keys that a comparison names. Its state on the destination (lease,
 * sessions, operations: engine/README.md) goes with its end; nothing else is kept but the result.
 */
#ifndef TOW_JOB_REPAIR_H
#define TOW_JOB_REPAIR_H

#include "copy/copy.h"
#include "engine/state/filter.h"
#include "oplog/replay.h"

typedef struct {
    tow_link_t *source, *destination;
    const tow_filter_t *filter;
    tow_stop_t *stop;
    tow_sink_t sink;
    uint32_t workers; /* threads that copy what is missing whole, and as many lanes */
    int64_t retry_window_ms;
    bool drop_extra; /* collections that the source does not have are dropped */
} tow_repair_options_t;

typedef struct tow_repair tow_repair_t;

/* Takes a lease of its own, then starts its threads. TOW_ERROR_LEASE: another repair has that, or a
 * job has one. NULL with *error. */
tow_repair_t *tow_repair_new(const tow_repair_options_t *options, tow_error_t *error);
/* Joins them, and gives the lease back; the stop must have been requested. Takes NULL. */
void tow_repair_destroy(tow_repair_t *repair);
/* Options, indexes and views as at the source; collections that are missing or cannot be changed in
 * place are copied. An index that the destination refuses is left out. */
bool tow_repair_catalog(tow_repair_t *repair, tow_error_t *error) TOW_CHECK;
/* What refetches documents: of a job, or of a repair without one. */
typedef struct {
    tow_namespaces_t *namespaces;
    tow_copy_t *copy;
    tow_replay_t *replay;
    tow_stop_t *stop;
} tow_repairing_t;
/* Makes the keys of one collection what the source has, and waits for it; `anew`: deleted and
 * inserted instead of replaced. */
bool tow_repair_with(const tow_repairing_t *with, const char *database, const char *collection,
                     const tow_value_t *ids, uint32_t count, bool anew,
                     tow_error_t *error) TOW_CHECK;
/* A tow_repair_fn of verify; `data` is the repair. */
bool tow_repair_documents(void *data, const char *database, const char *collection,
                          const tow_value_t *ids, uint32_t count, bool anew,
                          tow_error_t *error) TOW_CHECK;

#endif
