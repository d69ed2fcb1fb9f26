/* SPDX-License-Identifier: Apache-2.0 */
/* internal.h: what the files of the copy share.
 *
 * Threads: `workers` read ranges, as many inserters write what they read, `index_workers` build
 * indexes and follow the source's catalog; all wait on one condition. */
#ifndef TOW_COPY_INTERNAL_H
#define TOW_COPY_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "copy/copy.h"
#include "engine/base/guarded.h"
#include "engine/base/thread.h"
#include "engine/link/reader.h"
#include "engine/state/spec.h"

TOW_GUARD(tow_copy);

/* A range to copy. */
typedef struct tow_task {
    struct tow_task *prev, *next;
    tow_namespace_t *collection;
    uint32_t range;
} tow_task_t;

typedef enum {
    TOW_BUILD_COPIED, /* the non-unique indexes of a collection whose copy has ended */
    TOW_BUILD_UNIQUE, /* all its unique ones */
    TOW_BUILD_ALIKE,  /* options and indexes as the source lists them */
    TOW_BUILD_LOOK    /* compares both catalogs, and queues what differs */
} tow_build_kind_t;

/* What the index workers are to do. */
typedef struct tow_build {
    struct tow_build *prev, *next;
    tow_build_kind_t kind;
    char *database, *name;
    tow_namespace_t *collection; /* NULL: not known (any more) */
} tow_build_t;

/* A createIndexes that the destination has not answered; borrowed from who sent it. */
typedef struct tow_running {
    struct tow_running *prev, *next;
    const char *database, *name;
    const bson_t *items;
    uint32_t count;
} tow_running_t;

typedef struct {
    tow_copy_t *copy;
    tow_thread_t thread;
    tow_conn_t *source, *destination;
    tow_namespace_t *current TOW_GUARDED_BY(tow_copy);
    tow_build_t *build TOW_GUARDED_BY(tow_copy); /* what an index worker is at */
} tow_worker_t;

typedef enum {
    TOW_PASS_DONE,
    TOW_PASS_GIVEN_UP, /* stopped, or the collection is stale */
    TOW_PASS_AGAIN,    /* an error that reading the range again may cure */
    TOW_PASS_FAILED
} tow_outcome_t;

/* A worker's way through one range, in as many attempts as it takes. */
typedef struct {
    tow_worker_t *worker;
    tow_namespace_t *collection;
    tow_range_t range;  /* bounds borrowed from the collection */
    bool again;         /* an attempt before may have left documents */
    uint32_t refusals;  /* how often a document could not be written; guarded by the copy's lock,
                           as is what follows, all of it about the current attempt */
    uint32_t in_flight; /* batches that were submitted and are not done with */
    uint64_t documents, bytes; /* written */
    bool advanced;             /* something was written */
    tow_outcome_t outcome;     /* of the inserts so far */
    tow_error_t error;         /* of the first that went wrong */
} tow_pass_t;

/* A batch on its way from the worker that read it to an inserter. */
typedef struct tow_load {
    tow_batch_t batch;
    tow_pass_t *pass;
    uint64_t bytes;
    struct tow_load *prev, *next;
} tow_load_t;

struct tow_copy {
    tow_copy_options_t options;
    tow_worker_t *workers, *inserters, *index_workers;
    bool started;
    atomic_bool ended;        /* destroyed: the workers end, stop or not */
    atomic_bool look_ended;   /* it is to end early */
    atomic_bool unique_built; /* unique ones were asked for: later collections have theirs too */
    _Atomic uint64_t documents, bytes;
    atomic_uint unfinished; /* ranges not done, and 1 for every collection being planned again */
    atomic_uint indexes, indexes_built;
    pthread_mutex_t again; /* held by who copies a collection again: one at a time; before `lock` */
    pthread_mutex_t claiming; /* held from a look at a name to the record of what became of it */
    pthread_mutex_t lock;     /* guards what follows */
    pthread_cond_t changed;
    tow_task_t *tasks TOW_GUARDED_BY(tow_copy);
    tow_load_t *loads TOW_GUARDED_BY(tow_copy);
    uint64_t load_bytes
        TOW_GUARDED_BY(tow_copy); /* of all batches that were submitted and are not done with */
    tow_build_t *builds TOW_GUARDED_BY(tow_copy);
    tow_running_t *running TOW_GUARDED_BY(tow_copy);
    struct tow_hold *holds TOW_GUARDED_BY(tow_copy);
    bool looking TOW_GUARDED_BY(tow_copy);              /* a look is queued or under way … */
    bool look_whole TOW_GUARDED_BY(tow_copy);           /* … at all collections */
    int64_t look_ms TOW_GUARDED_BY(tow_copy);           /* when the next may begin */
    tow_questions_t questions TOW_GUARDED_BY(tow_copy); /* of the last */
    char **ttl; /* database and name of each collection whose TTL is held off, as the last */
    uint32_t ttl_count;                         /* reconciliation found it; of its caller alone */
    uint32_t building TOW_GUARDED_BY(tow_copy); /* index builds under way */
    uint32_t unique_left
        TOW_GUARDED_BY(tow_copy); /* builds of unique ones that are queued or under way */
    bool paused TOW_GUARDED_BY(tow_copy);
    tow_index_failure_t *failures TOW_GUARDED_BY(tow_copy);
    uint32_t failure_count TOW_GUARDED_BY(tow_copy);
};
TOW_LOCK(tow_copy, tow_copy_t, lock)

/* queue.c */
void tow_copy_queue(tow_copy_t *copy, tow_namespace_t *collection, uint32_t range);
/* Waits on the condition, which the stop wakes, too. */
void tow_copy_wait_changed(tow_copy_t *copy) TOW_REQUIRES(tow_copy);
void tow_copy_fail(tow_copy_t *copy, const tow_error_t *error);
bool tow_copy_ended(const tow_copy_t *copy); /* workers leave what they do and end */
void tow_copy_queue_indexes(tow_copy_t *copy, tow_namespace_t *collection);
/* `name` NULL: any of the database. */
bool tow_build_is_of(const tow_build_t *build, const char *database, const char *name);
void tow_build_free(tow_build_t *build);

/* hold.c */
bool tow_copy_is_held(const tow_copy_t *copy, const tow_build_t *build) TOW_REQUIRES(tow_copy);
/* An index worker is at it, or waits for an index of it. */
bool tow_copy_is_busy(const tow_copy_t *copy, const char *database, const char *name)
    TOW_REQUIRES(tow_copy);

/* begin.c */
typedef struct {
    tow_conn_t *source, *destination;
} tow_copy_conns_t;
void tow_copy_connect(const tow_copy_t *copy, tow_copy_conns_t *out);
void tow_copy_disconnect(tow_copy_conns_t *conns);
bool tow_copy_begin(tow_copy_t *copy, tow_conn_t *source, tow_conn_t *destination,
                    const tow_collection_info_t *info, tow_optime_t read_time,
                    const tow_collection_stats_t *stats, tow_error_t *error);

/* plan.c: ranges for a collection (takes none of *info). The array is the caller's. */
bool tow_copy_plan(tow_copy_t *copy, tow_conn_t *source, const tow_collection_info_t *info,
                   const tow_collection_stats_t *stats, tow_range_t **out_ranges,
                   uint32_t *out_count, tow_error_t *error);

/* create.c */
bool tow_copy_drop(tow_conn_t *destination, const char *database, const char *name,
                   tow_error_t *error);

/* claim.c */
typedef enum {
    TOW_WHOSE_NONE,
    TOW_WHOSE_OURS,
    TOW_WHOSE_FOREIGN
} tow_whose_t; /* NONE: it is not there */
bool tow_copy_whose(tow_copy_t *copy, tow_conn_t *destination, const char *database,
                    const char *name, tow_whose_t *out, tow_error_t *error);
/* Takes the databases out of the list that are the state of a job on the destination: nobody's to
 * drop, to replace or to copy over, with claims or without. */
bool tow_copy_leave_out_states(tow_conn_t *destination, tow_catalog_t *catalog, tow_error_t *error);
/* whose.c. By its identity; what was only meant is settled by the others, which look into it. */
bool tow_copy_is_ours(tow_copy_t *copy, const tow_collection_info_t *there);
/* Whether it is that very collection of the source, as far as anybody can tell. */
bool tow_copy_may_be(const tow_namespace_t *known, const tow_collection_info_t *info);
bool tow_copy_whose_to_drop(tow_copy_t *copy, tow_conn_t *destination, const char *database,
                            const char *name, tow_whose_t *out, tow_error_t *error);
/* Drops what is ours and ends its claim; what is foreign stays. */
bool tow_copy_unmake(tow_copy_t *copy, tow_conn_t *destination, const char *database,
                     const char *name, tow_whose_t *out, tow_error_t *error);
/* Drops what is ours; its claim stays. */
bool tow_copy_drop_claimed(tow_copy_t *copy, tow_conn_t *destination, const char *database,
                           const char *name, tow_error_t *error);
/* Drops what is ours, and ends its claim if it is gone then. The lock of claims is held. */
bool tow_copy_drop_ours(tow_copy_t *copy, tow_conn_t *destination, const char *database,
                        const char *name, bool for_good, tow_error_t *error);
bool tow_copy_fail_foreign(const char *ns, tow_error_t *error);
void tow_copy_tell_foreign(tow_copy_t *copy, const char *ns);

/* remade.c: whether one that is not ours by its identity was made again by writes of ours. Reads
 * all of it. */
bool tow_copy_is_remade(tow_copy_t *copy, const tow_collection_info_t *there, bool *out,
                        tow_error_t *error);

/* spelling.c */
/* The name of another case in a server's message, the caller's; NULL: none. */
char *tow_other_spelling(const char *message, const char *database);
/* A create was refused with *error, since a database of another spelling is known: true when that
 * one is dropped, and the create is to be sent again. Else *error says why not. */
bool tow_copy_free_spelling(tow_copy_t *copy, tow_conn_t *destination,
                            const tow_collection_info_t *info, tow_error_t *error);

/* Drops the database where that emptied collection is all that it has. */
bool tow_copy_drop_emptied(tow_conn_t *destination, const char *database, const char *name,
                           tow_error_t *error);

/* gaps.c: what an earlier process recorded or made before it had prepared the job, and the source
 * has no more. The stream that reports its drop was that process's; nothing had been copied into
 * it. */
bool tow_copy_forget_gone(tow_copy_t *copy, tow_conn_t *destination, const tow_catalog_t *source,
                          tow_error_t *error) TOW_CHECK;

/* worker.c */
void *tow_copy_worker(void *data);

/* pass.c */
enum { TOW_PASS_RETRY_MS = 600000 }; /* how long a range may fail without getting any further */
bool tow_pass_given_up(const tow_pass_t *pass);
/* Returns when nothing of what the connection has written can arrive any more, or the copy ends. */
void tow_copy_settle(tow_copy_t *copy, tow_conn_t *destination);
tow_outcome_t tow_pass_judge(const tow_pass_t *pass, const tow_error_t *error);

/* Hands the reader's current batch over as soon as there is room for it. False: the attempt is to
 * end. */
bool tow_pass_submit(tow_pass_t *pass, tow_reader_t *reader);
/* Waits until nothing of the attempt is on its way; how its inserts went, with *error. */
tow_outcome_t tow_pass_settle(tow_pass_t *pass, tow_error_t *error);
/* A tow_write_error_fn that counts into the uint32_t of its data. */
void tow_pass_count_refusal(void *data, void *tag, const tow_write_error_t *error);

/* insert.c */
enum { TOW_BATCH_DOCUMENTS = 5000 };
void *tow_copy_inserter(void *data);

/* index.c */
/* The non-unique indexes of a collection that is empty yet. They are counted when its copy has
 * ended and they are built once more, together with those that came since. */
bool tow_copy_build_early(tow_copy_t *copy, tow_conn_t *source, tow_conn_t *destination,
                          const tow_collection_info_t *info, tow_error_t *error);
/* Builds the given indexes (tow_index_spec); what the destination refuses is recorded. *out_built:
 * how many it has now. False: stopped or *error. */
bool tow_copy_build(tow_copy_t *copy, tow_conn_t *destination, const char *database,
                    const char *name, const bson_t *specifications, uint32_t count, bool final,
                    uint32_t *out_built, tow_error_t *error);
/* Those of a collection that are unique, or not, as the source lists them now; TTL held off.
 * Counted. */
bool tow_copy_build_kind(tow_worker_t *worker, const tow_build_t *build, bool unique,
                         tow_error_t *error);

/* builds.c */
void *tow_copy_index_worker(void *data);

/* A way through one or all collections of both catalogs. */
typedef struct {
    tow_copy_t *copy;
    tow_conn_t *source, *destination;
    tow_takes_t takes; /* of the destination */
    tow_reconcile_t how;
} tow_reconciling_t;

/* questions.c: adds to *out what both catalogs, read in this order, leave open. */
void tow_copy_ask(tow_copy_t *copy, const tow_catalog_t *ours, const tow_catalog_t *theirs,
                  tow_questions_t *out);
/* For tow_copy_take_questions, in the place of older ones; takes them. */
void tow_copy_keep_questions(tow_copy_t *copy, tow_questions_t *questions);

/* views.c: makes and changes what differs. `refused`: gets those that the destination refuses;
 * *error says why, of the last. NULL: then it fails. */
bool tow_reconcile_views(tow_reconciling_t *task, const tow_catalog_t *ours,
                         const tow_catalog_t *theirs, tow_names_t *refused, tow_error_t *error);
/* Those that the destination lacks, or has otherwise; nothing is dropped that is not a view. */
bool tow_copy_make_views(tow_copy_t *copy, tow_conn_t *source, tow_conn_t *destination,
                         const tow_catalog_t *ours, tow_error_t *error);

/* reconciling.c */
bool tow_reconcile_run(const tow_reconciling_t *task, const char *database, const bson_t *command,
                       tow_error_t *error);
bool tow_reconcile_alike(const tow_reconciling_t *task, const bson_t *ours, const bson_t *theirs,
                         const char *const *except);
void tow_reconcile_tell(const tow_reconciling_t *task, const char *ns, const char *what);
void tow_reconcile_note_ttl(tow_reconciling_t *task, const tow_collection_info_t *info);
void tow_copy_forget_ttl(tow_copy_t *copy);
/* Its indexes are read when its copy ends. Built before, a unique one would refuse what ranges hold
 * that were read at another time, and the copy could never end. */
bool tow_reconcile_is_copied(const tow_reconciling_t *task, const tow_collection_info_t *info);

/* options.c */
/* An option of that name. */
bool tow_reconcile_same_option(const tow_reconciling_t *task, const bson_t *a, const bson_t *b,
                               const char *name);
bool tow_reconcile_modify(tow_reconciling_t *task, const tow_collection_info_t *ours,
                          const tow_collection_info_t *theirs, tow_error_t *error);
/* What collMod cannot change is alike, or is made so. *out_alike false: only a new copy helps. */
bool tow_reconcile_options(tow_reconciling_t *task, const tow_collection_info_t *ours,
                           const tow_collection_info_t *theirs, bool *out_alike,
                           tow_error_t *error);
bool tow_reconcile_options_differ(const tow_reconciling_t *task, const tow_collection_info_t *ours,
                                  const tow_collection_info_t *theirs);

/* reindex.c */
bool tow_reconcile_indexes(tow_reconciling_t *task, const tow_collection_info_t *info,
                           tow_error_t *error);
/* `wanted`: what would be sent; `there`: what is listed. */
bool tow_index_is_same(const bson_t *wanted, const bson_t *there, tow_reconcile_t how);

/* alike.c */
/* The source's name still means the collection that the job knows. */
bool tow_reconcile_is_known(const tow_copy_t *copy, const tow_collection_info_t *info);
/* What the source lists, where both sides have it; *out_again: only a new copy makes it alike. */
bool tow_reconcile_found(tow_reconciling_t *task, const tow_collection_info_t *ours,
                         bool *out_again, tow_error_t *error);
/* For the index workers. *out_again: only a new copy makes the collection alike. */
bool tow_copy_alike(tow_worker_t *worker, const char *database, const char *name, bool *out_again,
                    tow_error_t *error);
/* `whole`: at all collections, else at views. */
bool tow_copy_look_around(tow_worker_t *worker, bool whole, tow_error_t *error);

#endif
