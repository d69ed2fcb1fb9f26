/* SPDX-License-Identifier: Apache-2.0 */
/* bench.h: what the files of towline-bench share.
 *
 * The bench is a program of its own: it starts the engine as a child and sees it only through the
 * command line, the control API and the figures of the kernel. It links engine/base and nothing
 * else of the engine, so that no measurement depends on the code that is measured.
 */
#ifndef TOW_BENCH_H
#define TOW_BENCH_H

#include <mongoc/mongoc.h>
#include <stdio.h>

#include "engine/base/error.h"

/* Options, one for each row of the table in main.c; NULL or 0 where none was given nor has a
 * default. */
typedef struct {
    char *uri, *source, *destination;
    char *database, *collection, *kind, *engine, *json, *work, *commit, *server;
    int64_t documents, bytes, rate, seconds, count, keys, threads, rounds, events, timeout;
    int64_t source_pid, destination_pid;
} tow_bench_options_t;

typedef bool (*tow_bench_verb_fn)(const tow_bench_options_t *options, tow_error_t *error);

bool tow_bench_fill(const tow_bench_options_t *options, tow_error_t *error);
bool tow_bench_plain_copy(const tow_bench_options_t *options, tow_error_t *error);
bool tow_bench_load(const tow_bench_options_t *options, tow_error_t *error);
bool tow_bench_copy(const tow_bench_options_t *options, tow_error_t *error);
bool tow_bench_lag(const tow_bench_options_t *options, tow_error_t *error);
bool tow_bench_drain(const tow_bench_options_t *options, tow_error_t *error);
bool tow_bench_verify(const tow_bench_options_t *options, tow_error_t *error);

/* Data: data.c ----------------------------------------------------------------------------------*/

/* A client of `uri`, checked by a ping. */
mongoc_client_t *tow_bench_connect(const char *uri, tow_error_t *error);
bool tow_bench_mongo(tow_error_t *error, const bson_error_t *reason, const char *what); /* false */
uint64_t tow_bench_random(uint64_t *state);
/* The `_id` of document `index`: known without asking the server, so that updates
 * can address it. */
void tow_bench_key(int64_t index, bson_oid_t *out);
/* Initialises *out with an order of about `bytes` bytes; NULL `id` makes a new random one. */
void tow_bench_document(bson_t *out, const bson_oid_t *id, int64_t bytes, uint64_t *random);
/* Drops the bench's database on the destination, and what a job of ours that was cut off left. */
bool tow_bench_clear(const tow_bench_options_t *options, tow_error_t *error);

/* What a collection holds, whatever its order: a sum of hashes, so that two pairs do not cancel. */
typedef struct {
    uint64_t documents, bytes, sum;
} tow_bench_digest_t;
bool tow_bench_digest(const char *uri, const char *database, const char *collection,
                      tow_bench_digest_t *out, tow_error_t *error);
/* Fails with TOW_ERROR_VERIFY unless source and destination hold the same documents. */
bool tow_bench_compare(const tow_bench_options_t *options, tow_bench_digest_t *out,
                       tow_error_t *error);

/* Load: load.c ----------------------------------------------------------------------------------*/

typedef enum { TOW_BENCH_UPDATE, TOW_BENCH_HOT, TOW_BENCH_INSERT } tow_bench_kind_t;

typedef struct {
    const char *uri, *database, *collection;
    tow_bench_kind_t kind;
    int64_t keys;  /* updates choose among the first `keys` documents */
    int64_t bytes; /* size of inserted documents */
    int64_t rate;  /* operations a second, one message each; 0: as fast as it goes, in bulks */
    int64_t count; /* operations in all; 0: until tow_bench_load_finish */
    int threads;
} tow_bench_load_spec_t;

typedef struct {
    int64_t operations;
    double seconds;
    tow_timestamp_t last; /* operation time of the last write, as the server gave it */
} tow_bench_load_result_t;

bool tow_bench_kind(const char *name, tow_bench_kind_t *out, tow_error_t *error);
typedef struct tow_bench_load tow_bench_load_t;
/* Borrows the strings of *spec until finished. */
tow_bench_load_t *tow_bench_load_start(const tow_bench_load_spec_t *spec);
/* Waits for the end of the load, at once when `stop`; frees it. */
bool tow_bench_load_finish(tow_bench_load_t *load, bool stop, tow_bench_load_result_t *out,
                           tow_error_t *error);

/* Child processes: process.c --------------------------------------------------------------------*/

typedef struct {
    pid_t pid;      /* 0: none, or reaped */
    int descriptor; /* of the process: becomes readable at its end */
    int64_t started_us;
    const char *log;
    uint64_t peak_bytes; /* as last seen */
} tow_bench_child_t;

typedef struct {
    double wall_seconds, cpu_seconds, peak_mb;
} tow_bench_usage_t;

/* Starts argv[0] with stdout and stderr in `log`; `environment` is NAME,
 * value, …, NULL. */
bool tow_bench_spawn(const char *const *argv, const char *const *environment, const char *log,
                     tow_bench_child_t *out, tow_error_t *error);
/* Waits for exit status 0. Anything else is an error with the last lines of the log. */
bool tow_bench_reap(tow_bench_child_t *child, int64_t timeout_s, tow_bench_usage_t *out,
                    tow_error_t *error);
bool tow_bench_alive(tow_bench_child_t *child);
bool tow_bench_outlives(tow_bench_child_t *child, int64_t wait_ms); /* false as soon as it ends */
void tow_bench_kill(
    tow_bench_child_t *child); /* SIGTERM, SIGKILL after 10 s; fine on a reaped one */
/* User and system seconds of a running process; -1 for pid 0 and for one that is gone. */
double tow_bench_cpu(int64_t pid);

/* The engine: engine.c --------------------------------------------------------------------------*/

typedef struct {
    char phase[24];
    bool can_commit;
    int64_t lag_ms, events_seen, dirty_keys, statements;
    tow_timestamp_t floor;
} tow_bench_progress_t;

typedef struct {
    tow_bench_child_t child;
    void *http; /* CURL * */
    int port;
    int64_t deadline_ms;
    char *log;
    const tow_bench_options_t *options;
} tow_bench_engine_t;

/* Runs a whole job, cut over at once; no control server, no progress, no verification. */
bool tow_bench_engine_whole(const tow_bench_options_t *options, const char *log,
                            tow_bench_usage_t *out, tow_error_t *error);
/* Starts a job with manual cutover and waits until it is in sync. */
bool tow_bench_engine_start(const tow_bench_options_t *options, tow_bench_engine_t *out,
                            tow_error_t *error);
bool tow_bench_engine_progress(tow_bench_engine_t *engine, tow_bench_progress_t *out,
                               tow_error_t *error);
bool tow_bench_engine_post(tow_bench_engine_t *engine, const char *verb, tow_error_t *error);
/* The waits look every 5 ms and fail at the deadline or when the engine has ended. */
bool tow_bench_engine_wait_phase(tow_bench_engine_t *engine, const char *phase, tow_error_t *error);
bool tow_bench_engine_wait_events(tow_bench_engine_t *engine, int64_t events, tow_error_t *error);
bool tow_bench_engine_wait_floor(tow_bench_engine_t *engine, tow_timestamp_t time,
                                 tow_error_t *error);
/* Commits and waits for exit status 0. */
bool tow_bench_engine_commit(tow_bench_engine_t *engine, tow_bench_usage_t *out,
                             tow_error_t *error);
void tow_bench_engine_destroy(tow_bench_engine_t *engine); /* kills what still runs */

/* Report: report.c ------------------------------------------------------------------------------*/

/* Values of which only quantiles are wanted; {0} is empty. */
typedef struct {
    double *values;
    size_t count;
} tow_bench_samples_t;

void tow_bench_samples_add(tow_bench_samples_t *samples, double value);
double tow_bench_samples_quantile(tow_bench_samples_t *samples, double quantile); /* sorts them */
double tow_bench_samples_median(tow_bench_samples_t *samples); /* mean of both in the middle */
void tow_bench_samples_free(tow_bench_samples_t *samples);

/* Fills *out with machine, servers and options, and prints the same as one paragraph. */
bool tow_bench_facts(const tow_bench_options_t *options, const char *scenario, bson_t *out,
                     tow_error_t *error);
/* Appends the report as one line of JSON to --json, where given. */
bool tow_bench_report(const tow_bench_options_t *options, const bson_t *report, tow_error_t *error);

#endif
