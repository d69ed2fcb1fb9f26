/* SPDX-License-Identifier: Apache-2.0 */
/* bench.h: a replay with its own threads between two servers in memory (double.h), and the stream
 * that it follows, which the test writes. */
#ifndef TOW_UNIT_BENCH_H
#define TOW_UNIT_BENCH_H

#include "double.h"
#include "oplog/replay.h"

#define NS "d.a"

enum { BENCH_HISTORY = 4000, BENCH_WAIT_MS = 20000 };

/* One event of the stream. */
typedef struct {
    const char *operation;
    char collection[40], to[8]; /* to: of a rename */
    int32_t id;
    tow_optime_t time;
    bson_t *document; /* of an insert or a replacement */
} told_t;

typedef struct {
    tow_stop_t *stop;
    double_server_t *source, *destination;
    tow_namespaces_t *table;
    tow_namespace_t *collection;
    tow_filter_t *filter;
    tow_ledger_t *ledger;
    tow_replay_t *replay;
    atomic_bool copying;
    told_t history[BENCH_HISTORY];
    uint32_t told, delivered; /* of the history */
    uint64_t random;
    int32_t unique; /* the last value that was given out */
    atomic_uint copied_again;
    bson_t ddl_token; /* as the replay saved it last */
    tow_optime_t ddl_time;
    atomic_uint ddl_saved, placeholders;
    uint32_t lanes;
    bool opaque; /* tokens of events tell no time: {_data: the event's id} */
    int64_t retry_window_ms;
    atomic_uint touched;          /* keys that the comparison was told of */
    char forgotten[64], held[64]; /* names of collections, each with a space behind it */
    uint32_t knot_large;          /* as of the replay's options */
    atomic_uint alike;            /* how often it was asked for */
    uint32_t drops_at; /* the time it drops the destination's unique index; 0: it does not */
    atomic_bool target_free, target_foreign; /* what has the new name of a rename; else the job's */
} bench_t;

bench_t *bench_begin(uint64_t seed); /* without a replay: bench_start_replay */
/* Documents 0 … count - 1 on both sides, which are copied, with a unique index
 * on the destination. */
void bench_fill(bench_t *bench, int32_t count);
bench_t *bench_filled(void);  /* the same, with documents 0 … 5 on both sides */
bench_t *bench_in_sync(void); /* the same, and with a replay */
tow_replay_progress_t bench_progress(bench_t *bench);
/* Waits until a number is reached; fails when it is not. */
void bench_await(atomic_uint *counter, uint32_t count);
void bench_end(bench_t *bench);
void bench_start_ledger(bench_t *bench, tow_optime_t time);
/* As a process that goes on where the one before saved its last DDL event. */
void bench_start_replay(bench_t *bench, tow_optime_t horizon);
/* A crash, and what a restart does: a new ledger at the floor, every event up to now
 * a dirty key. */
void bench_restart(bench_t *bench);
tow_namespace_t *bench_add_collection(bench_t *bench, const char *name);
/* The _id of an event. */
void bench_append_token(const bench_t *bench, bson_t *event, const told_t *told);
void bench_end_replay(bench_t *bench); /* and its ledger */

static inline tow_value_t value_of(const int32_t *id)
{
    return (tow_value_t){BSON_TYPE_INT32, sizeof *id, (const uint8_t *)id};
}

int32_t bench_field_of(const bson_t *document, const char *name); /* 0: none */

/* The source is written to; its stream tells of it with the next bench_deliver. */
void bench_put(bench_t *bench, const char *operation, int32_t id, int32_t u, int32_t n);
void bench_take_away(bench_t *bench, int32_t id);
/* Two documents exchange their values of the unique field. */
void bench_swap(bench_t *bench, int32_t one, int32_t two);
/* An event without a write. */
told_t *bench_tell(bench_t *bench, const char *operation, int32_t id, tow_optime_t time);
/* Everything that was written since the last time comes with the stream: whole events, or keys
 * alone. */
void bench_deliver(bench_t *bench, bool direct);
/* Delivers, lets it work, and waits for the floor at the source's time. */
void bench_catch_up(bench_t *bench);
void bench_expect_equal(bench_t *bench);

#endif
