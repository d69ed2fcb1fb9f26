/* verify.h: compares both sides by digests of ranges and names what differs. */
#ifndef TOW_VERIFY_VERIFY_H
#define TOW_VERIFY_VERIFY_H

#include "engine/link/link.h"
#include "engine/state/filter.h"
#include "engine/state/key.h"

typedef enum { TOW_DIFFERENCE_MISSING, TOW_DIFFERENCE_EXTRA, TOW_DIFFERENCE_CONTENT,
               TOW_DIFFERENCE_OPTIONS, TOW_DIFFERENCE_INDEXES } tow_difference_kind_t;

typedef struct {
    tow_difference_kind_t kind;
    char *ns;
    char *id;        /* extended JSON of the _id; NULL for options, indexes */
    char *path;      /* first differing field path (CONTENT), or what differs; may be NULL */
    bson_value_t id_value;   /* for repair; BSON_TYPE_EOD when none */
    char *range;     /* text of the range's bounds: "[min, max)" */
} tow_difference_t;

typedef struct {
    char *ns;
    bool view, equal;
    uint64_t source_documents, destination_documents, source_bytes, destination_bytes;
    char source_hash[33], destination_hash[33]; /* sum of XXH3-128 mod 2^128, hex */
    uint64_t differences;
} tow_verify_collection_t;

typedef struct {
    bool equal;
    double seconds;
    uint64_t seed;
    tow_optime_t time;  /* the source was read at or after this */
    tow_verify_collection_t *collections;
    uint32_t collection_count;
    tow_difference_t *differences; /* at most max_differences listed … */
    uint32_t difference_count;
    uint64_t differences_total;    /* … and all counted */
} tow_verify_report_t;

typedef struct {
    tow_link_t *source, *destination;
    const tow_filter_t *filter;
    tow_stop_t *stop;
    tow_sink_t sink;
    uint32_t workers;              /* pairs of readers */
    uint64_t range_bytes;          /* about 16 MB; larger for huge collections: at most 8,192 ranges */
    uint32_t max_differences;      /* listed; default 1,000 */
    bool ttl_held_off;             /* ignore expireAfterSeconds of indexes */
    _Atomic uint64_t *documents, *bytes, *total_documents; /* progress, may be NULL */
} tow_verify_options_t;

/* Runs the comparison; *out is owned by the caller also when both sides differ (out->equal false,
 * returns true). False: it could not be done. */
bool tow_verify_run(const tow_verify_options_t *options, tow_verify_report_t **out,
                    tow_error_t *error) TOW_CHECK;
void tow_verify_report_destroy(tow_verify_report_t *report);
char *tow_verify_report_json(const tow_verify_report_t *report); /* documented in verify/README.md */

#endif
