/* SPDX-License-Identifier: Apache-2.0 */
/* internal.h: what the files of verify/ share: one run, its collections, its pairs of threads.
 *
 * Threads: each worker is a pair, one thread reading the source and one reading the destination, so
 * that both servers work at once. The source's thread leads: it takes tasks and compares. Lock
 * order: a pair's lock, then the run's; neither is held while a server is talked to. */
#ifndef TOW_VERIFY_INTERNAL_H
#define TOW_VERIFY_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "engine/base/thread.h"
#include "engine/link/catalog.h"
#include "engine/link/reader.h"
#include "engine/link/sharding.h"
#include "verify/digest.h"
#include "verify/map.h"
#include "verify/sequence.h"
#include "verify/verify.h"

/* One collection that either side has. */
typedef struct {
    char *database, *name, *ns;
    const tow_collection_info_t *source, *destination; /* NULL: not there; borrowed from the run */
    bool data;        /* documents are compared: a collection on both sides, or on the only one */
    bool ordered;     /* the order of _id is shared; otherwise there is one range */
    bool capped;      /* on both sides: the natural order is compared too */
    bool unsupported; /* time series: not in the report */
    uint64_t documents, bytes; /* estimates, written before the item is split */
    /* Guarded by the run's lock. */
    tow_digest_t totals[2];
    uint64_t differences, repaired;
} tow_verify_item_t;

/* A range of a collection that is still to be compared. */
typedef struct tow_verify_unit {
    struct tow_verify_unit *next;
    tow_verify_item_t *item;
    bool has_min, has_max;
    bson_value_t min, max;
    uint64_t documents; /* estimate */
    uint32_t range;     /* its number, in the run's track */
    bool keys_only;     /* the range was equal: only keys touched since are read */
    bool unequal;       /* something in it is different, or could not be settled */
} tow_verify_unit_t;

typedef struct {
    const tow_verify_options_t *options; /* defaults filled in */
    uint64_t seed;
    tow_optime_t after; /* the source is read at or after this */
    tow_catalog_t source, destination;
    const char **states; /* databases of the destination with a job's state; borrowed */
    size_t state_count;
    tow_shard_keys_t shard_keys[2]; /* of source and destination; none unless both are sharded */
    bool sharded;                   /* both are: shard keys are compared */
    tow_verify_item_t *items;
    uint32_t item_count;
    atomic_bool ended; /* an error or a stop: threads give up at their next batch */

    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Guarded by lock. */
    bool failed;
    tow_error_t error;
    uint32_t next_prepare, prepared, next_split, busy;
    tow_verify_unit_t *units;
    tow_verify_report_t *report; /* differences and their counts */
} tow_verify_run_t;

enum { TOW_SOURCE, TOW_DESTINATION };

/* One thread's view of one side. */
typedef struct tow_verify_side {
    tow_verify_run_t *run;
    struct tow_verify_pair *pair;
    int which; /* TOW_SOURCE or TOW_DESTINATION */
    tow_link_t *link;
    tow_conn_t *conn;
} tow_verify_side_t;

typedef bool (*tow_pair_fn)(tow_verify_side_t *side, void *data, tow_error_t *error);

typedef struct tow_verify_pair {
    tow_verify_run_t *run;
    tow_verify_side_t sides[2];
    tow_thread_t partner;
    atomic_bool abandon; /* one side failed: the other need not finish */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Guarded by lock. */
    tow_pair_fn fn; /* NULL: nothing to do */
    void *data;
    bool quit, ok;
    tow_error_t error;
} tow_verify_pair_t;

/* pair.c */
bool tow_pair_init(tow_verify_pair_t *pair, tow_verify_run_t *run, tow_error_t *error) TOW_CHECK;
void tow_pair_clear(tow_verify_pair_t *pair);
/* Calls fn on both sides at once, each in its own thread; false with the first error. */
bool tow_pair_run(tow_verify_pair_t *pair, tow_pair_fn fn, void *source_data,
                  void *destination_data, tow_error_t *error) TOW_CHECK;
/* Reads documents, from the beginning again after a lost connection; `reset` comes before each try.
 * Sets what->after by itself. */
typedef struct {
    void (*reset)(void *data);
    void (*each)(void *data, const bson_t *document);
    void *data;
    bool (*is_whole)(const void *data); /* NULL: any answer is; what is not is read again */
    bool progress;                      /* counts in the options' documents and bytes */
} tow_visitor_t;
bool tow_side_read(tow_verify_side_t *side, const tow_read_t *what, const tow_visitor_t *visitor,
                   tow_error_t *error) TOW_CHECK;
/* Counts in the options' documents and bytes; may take back. */
void tow_verify_progress(tow_verify_run_t *run, uint64_t documents, uint64_t bytes);
/* False with an error when the run has ended or a stop was asked for. */
bool tow_side_goes_on(tow_verify_side_t *side, tow_error_t *error) TOW_CHECK;

/* compare.c */
bool tow_verify_split(tow_verify_pair_t *pair, tow_verify_item_t *item,
                      tow_verify_unit_t **out_units, tow_error_t *error) TOW_CHECK;
void tow_verify_unit_destroy(tow_verify_unit_t *unit);
/* Compares a range, or the keys of a range that were touched. */
bool tow_verify_unit_compare(tow_verify_pair_t *pair, tow_verify_unit_t *unit,
                             tow_error_t *error) TOW_CHECK;

/* One reading of a unit on one side. */
typedef struct {
    tow_verify_unit_t *unit;
    uint64_t seed;
    tow_verify_mode_t mode;
    bool first;              /* the reading that counts as progress */
    uint32_t bucket_count;   /* a power of two; 0: none */
    const uint8_t *selected; /* one for each bucket; NULL: all are */
    bool mapping;
    uint64_t map_most; /* entries; where there are more, `mapping` ends */
    /* Results, of selected documents only. */
    tow_digest_t digest;
    tow_digest_t *buckets;    /* NULL: none are kept, buckets only select */
    tow_map_t map;            /* while `mapping` */
    tow_sequence_t *sequence; /* NULL: the order does not count */
    tow_buffer_t scratch;
} tow_reading_t;

/* readings.c */
void tow_readings_prepare(tow_verify_pair_t *pair, tow_verify_unit_t *unit, tow_reading_t out[2]);
/* With buckets, and maps where the documents are few. */
void tow_readings_begin(tow_reading_t readings[2], uint64_t documents);
bool tow_readings_read(tow_verify_pair_t *pair, tow_reading_t readings[2],
                       tow_error_t *error) TOW_CHECK;
/* The readings differ: finds the documents, and has them repaired. *totals: of what
 * was read last. */
bool tow_readings_locate(tow_verify_pair_t *pair, tow_verify_unit_t *unit,
                         tow_reading_t readings[2], tow_digest_t totals[2],
                         tow_error_t *error) TOW_CHECK;
void tow_readings_free(tow_reading_t readings[2]);
void tow_verify_add_totals(tow_verify_pair_t *pair, tow_verify_item_t *item,
                           const tow_digest_t totals[2]);

/* compare_log.c: a capped collection, whose natural order is content. */
bool tow_verify_compare_log(tow_verify_pair_t *pair, tow_verify_unit_t *unit,
                            tow_error_t *error) TOW_CHECK;

/* locate.c: reports the differences between two maps of one unit, or has them repaired. The
 * documents are read once more on both sides; what is equal by then is no difference, and `digests`
 * (of source and destination) are put right. */
bool tow_verify_locate(tow_verify_pair_t *pair, tow_verify_unit_t *unit, tow_map_t maps[2],
                       tow_digest_t digests[2], tow_error_t *error) TOW_CHECK;

/* Compares the single documents of tow_track_take_keys, of about that size, as if they were
 * suspects. */
bool tow_verify_locate_keys(tow_verify_pair_t *pair, tow_verify_unit_t *unit, const bson_t *keys,
                            uint64_t document_bytes, tow_error_t *error) TOW_CHECK;

/* metadata.c: options, indexes, estimates; decides how the documents are compared. */
bool tow_verify_prepare(tow_verify_pair_t *pair, tow_verify_item_t *item,
                        tow_error_t *error) TOW_CHECK;
/* What differs between how a collection is sharded (NULL: not sharded), as a constant text; NULL
 * when nothing does. */
const char *tow_verify_sharding_difference(const tow_shard_key_t *source,
                                           const tow_shard_key_t *destination);

/* path.c: path of the first field that differs, in the caller's memory; NULL when none does. */
char *tow_verify_path(tow_verify_mode_t mode, const bson_t *source, const bson_t *destination);

/* normal.c: the hash of a document without what the mode ignores. `scratch` is kept from call to
 * call. */
tow_hash_t tow_verify_hash(tow_verify_mode_t mode, uint64_t seed, const bson_t *document,
                           tow_buffer_t *scratch);
/* Appends the normal form: equal for two documents exactly when the mode takes them for equal. For
 * TOW_VERIFY_FIELD_ORDER it is BSON. False: the document is malformed, and nothing was appended. */
bool tow_verify_normalize(tow_verify_mode_t mode, const bson_t *document, tow_buffer_t *out);

/* report.c */
typedef struct {
    tow_difference_kind_t kind;
    const tow_value_t *id;         /* NULL: of the collection as a whole */
    const char *path;              /* may be NULL */
    const tow_verify_unit_t *unit; /* NULL: of the collection as a whole */
    uint32_t lengths[2];
    bool repaired, outside;
} tow_finding_t;
void tow_verify_add(tow_verify_run_t *run, tow_verify_item_t *item, const tow_finding_t *finding);
/* Documents that could not be compared because they went on changing. */
void tow_verify_unsettled(tow_verify_run_t *run, uint64_t documents);
void tow_verify_count(tow_verify_run_t *run, tow_verify_item_t *item, uint64_t differences);
bool tow_verify_list_full(tow_verify_run_t *run);
/* Fills the collections in and sorts the differences. */
void tow_verify_report_finish(tow_verify_run_t *run);

#endif
