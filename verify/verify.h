/* SPDX-License-Identifier: Apache-2.0 */
/* verify.h: compares both sides by digests of ranges, names what differs, and has it repaired. */
#ifndef TOW_VERIFY_VERIFY_H
#define TOW_VERIFY_VERIFY_H

#include "engine/link/link.h"
#include "engine/state/claims.h"
#include "engine/state/filter.h"
#include "engine/state/key.h"
#include "verify/track.h"

typedef enum {
    TOW_DIFFERENCE_MISSING,
    TOW_DIFFERENCE_EXTRA,
    TOW_DIFFERENCE_DIFFERENT,
    TOW_DIFFERENCE_OPTIONS,
    TOW_DIFFERENCE_INDEXES,
    TOW_DIFFERENCE_ORDER,    /* of a capped collection */
    TOW_DIFFERENCE_DUPLICATE /* a sharded side has several documents of one _id, the other fewer */
} tow_difference_kind_t;

/* What counts as a difference of two documents. */
typedef enum {
    TOW_VERIFY_BYTES,       /* every byte */
    TOW_VERIFY_FIELD_ORDER, /* fields may be in another order, at any depth; array items may not */
    TOW_VERIFY_NUMERIC_TYPE /* numbers of equal value are equal: 1, 1.0, NumberLong(1) */
} tow_verify_mode_t;

typedef struct {
    tow_difference_kind_t kind;
    char *ns;
    char *id;   /* extended JSON of the _id; NULL for options, indexes */
    char *path; /* first differing field path (DIFFERENT), or what differs; may be NULL */
    bson_value_t id_value;                      /* for repair; BSON_TYPE_EOD when none */
    char *range;                                /* text of the range's bounds: "[min, max)" */
    uint32_t source_length, destination_length; /* of the documents, in bytes; 0: not there */
    bool repaired;                              /* found, made equal, and compared again */
    bool outside; /* written at the destination, and not at the source, since it was last equal */
} tow_difference_t;

typedef struct {
    char *ns;
    bool view, equal;
    uint64_t source_documents, destination_documents, source_bytes, destination_bytes;
    char source_hash[33], destination_hash[33]; /* sum of XXH3-128 mod 2^128, hex */
    uint64_t differences, repaired;             /* found, and how many of them are equal by now */
} tow_verify_collection_t;

typedef struct {
    bool equal; /* nothing differs, or nothing does any more */
    tow_verify_mode_t mode;
    double seconds;
    uint64_t seed;
    tow_optime_t time; /* the source was read at or after this */
    tow_verify_collection_t *collections;
    uint32_t collection_count;
    tow_difference_t *differences; /* at most max_differences listed … */
    uint32_t difference_count;
    uint64_t differences_total;      /* … and all counted */
    uint64_t repaired_total;         /* of these, equal by now */
    uint64_t ranges_read, keys_read; /* ranges read whole, and single documents since written */
    uint64_t ranges_kept; /* found equal by an earlier comparison, and not read whole again */
    uint64_t unsettled;   /* documents that changed at the source as often as they were looked at */
} tow_verify_report_t;

/* Makes documents of the destination what they are at the source, and returns when that is done;
 * `anew`: by deleting and inserting them, since replacing did not help. Called from several threads
 * at once; the ids are borrowed. False: it could not be done, or was stopped. */
typedef bool (*tow_repair_fn)(void *data, const char *database, const char *collection,
                              const tow_value_t *ids, uint32_t count, bool anew,
                              tow_error_t *error);
/* Returns when the destination has everything that the source had when it was called. */
typedef bool (*tow_settle_fn)(void *data, tow_error_t *error);
/* So many bytes were read of one side: waits as long as the reading is too fast or has to rest.
 * False: the comparison is to end (TOW_ERROR_INTERRUPTED). */
typedef bool (*tow_pace_fn)(void *data, uint64_t bytes);

typedef struct {
    tow_link_t *source, *destination;
    const tow_filter_t *filter;
    const char *const *expected; /* namespaces that a job copied, sorted; what neither side lists of
                                    them is a difference: both lists may be short */
    size_t expected_count;
    tow_stop_t *stop;
    tow_sink_t sink;
    uint32_t workers;     /* pairs of readers */
    uint64_t range_bytes; /* default 256 MB; larger for huge collections: at most 8,192 ranges */
    uint64_t whole_bytes; /* a collection of no more is one range; default four ranges */
    uint32_t max_differences; /* listed; default 1,000 */
    bool ttl_held_off;        /* ignore expireAfterSeconds of indexes */
    tow_verify_mode_t mode;
    bool catalog_only;    /* options, indexes and views; no documents */
    tow_repair_fn repair; /* NULL: differences are only reported */
    tow_settle_fn settle; /* NULL: nothing replays the source's changes meanwhile */
    tow_pace_fn pace;     /* NULL: as fast as it goes */
    void *data;           /* of the three */
    tow_track_t *track;   /* NULL: everything is read. Otherwise only what it does not say is equal
                             is, and it learns what is; borrowed */
    bool documents_only;  /* collections that both sides have; the catalogs may differ yet */
    tow_claims_t *claims; /* of a job: what only the destination has and the job did not make is no
                             difference; NULL: it is one */
    bool sharding_aside;  /* shard keys that differ give an event, and no difference */
    _Atomic uint64_t *documents, *bytes, *total_documents; /* progress, may be NULL */
} tow_verify_options_t;

/* Runs the comparison; *out is owned by the caller also when both sides differ (out->equal false,
 * returns true). False: it could not be done. */
bool tow_verify_run(const tow_verify_options_t *options, tow_verify_report_t **out,
                    tow_error_t *error) TOW_CHECK;
/* Puts what comparing the catalogs found into the report of the documents: `before` and `after` are
 * reports of the catalog alone, before and after it was repaired. */
void tow_verify_report_catalog(tow_verify_report_t *report, const tow_verify_report_t *before,
                               const tow_verify_report_t *after);
/* Adds what an earlier report found and was repaired: its other differences are found again. */
void tow_verify_report_merge(tow_verify_report_t *report, const tow_verify_report_t *earlier,
                             uint32_t max_differences);
void tow_verify_report_destroy(tow_verify_report_t *report);
const char *tow_difference_kind_name(tow_difference_kind_t kind);
char *
tow_verify_report_json(const tow_verify_report_t *report); /* documented in verify/README.md */

#endif
