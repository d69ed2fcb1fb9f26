/* SPDX-License-Identifier: Apache-2.0 */
/* namespaces.h: the collections of a job, their ranges, and the gate that their as-of intervals
 * make.
 *
 * copy fills the ranges in, oplog asks the gate, verify and job read. A collection is found by its
 * namespace or held by pointer; it lives as long as the table, also after it was dropped (dropped
 * ones are found no more).
 *
 * Threads: all functions may be called from any thread. One lock guards the table
 * and all ranges. */
#ifndef TOW_STATE_NAMESPACES_H
#define TOW_STATE_NAMESPACES_H

#include <stdatomic.h>

#include "engine/link/catalog.h"
#include "engine/state/key.h"
#include "engine/state/store.h"

typedef struct tow_namespaces tow_namespaces_t;

typedef struct {
    /* Constant after it was added. */
    uint32_t id;
    char *database, *name, *ns;
    uint64_t name_hash; /* the same for whatever has that name */
    tow_collection_type_t type;
    bool capped, clustered, collated;
    bool placeholder; /* the source had none when its first event came: one that ended since */
    uint8_t uuid[16]; /* the source's identity for it; zeros: not known for certain */
    uint8_t renamed_uuid[16]; /* what the source had under this name when a rename brought it here;
                                 zeros: none did */
    bson_t options;
    /* Guarded by the table's lock; read by the functions below. */
    tow_optime_t read_time; /* when the catalog was read: DDL up to here is reflected already */
    tow_range_t *ranges;    /* sorted by bounds */
    uint32_t range_count, ranges_done;
    tow_optime_t lo_least, hi_most; /* over finished ranges */
    uint64_t estimated_documents, estimated_bytes;
    bool copied;  /* every range done */
    bool created; /* exists on the destination */
    bool dropped;
    /* Set by the tail when a DDL event made the copy moot; workers of it give up. */
    atomic_bool stale;
    atomic_bool duplicate_told;
} tow_namespace_t;

typedef enum {
    TOW_GATE_SKIP,  /* the read already saw it, or will see it */
    TOW_GATE_DIRTY, /* it may or may not have seen it: refetch */
    TOW_GATE_APPLY  /* later than the read */
} tow_gate_t;

tow_namespaces_t *tow_namespaces_new(void);
void tow_namespaces_destroy(tow_namespaces_t *table);
/* Adds a collection, or replaces the one of that name (which becomes dropped). Ranges are none. */
tow_namespace_t *tow_namespaces_add(tow_namespaces_t *table, const tow_collection_info_t *info,
                                    tow_optime_t read_time);
tow_namespace_t *tow_namespaces_find(tow_namespaces_t *table, const char *database,
                                     const char *name); /* NULL: unknown */
void tow_namespaces_drop(tow_namespaces_t *table, tow_namespace_t *collection);
/* Whether the source has another collection, a view or nothing under that name by now. */
bool tow_namespace_is_replaced(tow_conn_t *source, const tow_namespace_t *collection, bool *out,
                               tow_error_t *error) TOW_CHECK;
/* A snapshot of the pointers, sorted by ns; freed by the caller with free. */
tow_namespace_t **tow_namespaces_list(tow_namespaces_t *table, uint32_t *out_count);

/* Gives a collection its ranges (takes the array and what it holds). */
void tow_namespaces_set_ranges(tow_namespaces_t *table, tow_namespace_t *collection,
                               tow_range_t *ranges, uint32_t count);
void tow_namespaces_set_estimate(tow_namespaces_t *table, tow_namespace_t *collection,
                                 uint64_t documents, uint64_t bytes);
/* A snapshot of one range; its bounds are borrowed from the collection. */
tow_range_t tow_namespaces_range(tow_namespaces_t *table, tow_namespace_t *collection,
                                 uint32_t range);
/* A range is about to be read: lo is taken from `link` after the range was marked, so that every
 * event that the tail saw before is skipped and every later one is kept. Returns lo. */
tow_optime_t tow_namespaces_start_range(tow_namespaces_t *table, tow_namespace_t *collection,
                                        uint32_t range, const tow_link_t *link);
void tow_namespaces_finish_range(tow_namespaces_t *table, tow_namespace_t *collection,
                                 uint32_t range, tow_optime_t hi, uint64_t documents,
                                 uint64_t bytes);
void tow_namespaces_reopen_range(tow_namespaces_t *table, tow_namespace_t *collection,
                                 uint32_t range);
/* The gate for an event of `time` on `id`. A started range that is still being read answers DIRTY
 * for time > lo. Collections that are collated or capped have one answer for all keys. */
tow_gate_t tow_namespaces_gate(tow_namespaces_t *table, tow_namespace_t *collection, tow_value_t id,
                               tow_optime_t time);
/* The same for a DDL event on the collection: SKIP when the catalog was read after it, APPLY when
 * all its ranges were read before it, DIRTY: the collection must be copied again. */
tow_gate_t tow_namespaces_gate_ddl(tow_namespaces_t *table, tow_namespace_t *collection,
                                   tow_optime_t time);
bool tow_namespaces_copied(tow_namespaces_t *table, tow_namespace_t *collection);
tow_optime_t tow_namespaces_consistent(tow_namespaces_t *table); /* most hi of all */
typedef struct {
    char *ns;
    uint64_t estimated_documents, estimated_bytes;
    uint32_t ranges, ranges_done;
    bool started, copied;
} tow_namespace_state_t;
/* How far each collection's copy is, largest first. */
tow_namespace_state_t *tow_namespaces_states(tow_namespaces_t *table, uint32_t *out_count);
void tow_namespaces_states_free(tow_namespace_state_t *states, uint32_t count);
void tow_namespaces_progress(tow_namespaces_t *table, tow_progress_t *out);

#endif
