/* SPDX-License-Identifier: Apache-2.0 */
/* lag.h: how far the floor is behind the source, and when the job last moved. No clock inside:
 * every function is told what time it is. */
#ifndef TOW_JOB_LAG_H
#define TOW_JOB_LAG_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/link/link.h"

enum {
    LAG_POINTS = 4096,
    TOW_LAG_GRAIN_MS = 1500 /* a source whose clock ticks without writes says so once a second */
};

/* A time of the source and when we first saw it. */
typedef struct {
    tow_optime_t time;
    int64_t seen_ms;
} tow_lag_point_t;

/* How long ago the source had something that the floor has not reached. */
typedef struct {
    tow_lag_point_t points[LAG_POINTS]; /* times ascending, all newer than the floor */
    uint32_t count;
    tow_optime_t first_time; /* the first ever seen, */
    int64_t first_ms;        /* and when */
} tow_lag_t;

void tow_lag_saw(tow_lag_t *lag, tow_optime_t source_time, int64_t now_ms);
/* Milliseconds that `floor` is behind; 0 when it has reached all that was seen; -1: nothing seen.
 * `waiting`: events were read that are not settled. */
int64_t tow_lag_of(tow_lag_t *lag, tow_optime_t floor, bool waiting, int64_t now_ms);

/* When the job last came closer to its end: silence and a stall look alike from outside, but for
 * this. */
typedef struct {
    tow_optime_t floor;
    uint64_t copied; /* documents and indexes */
    int64_t wall_ms; /* since 1970: when either last moved; 0: not looked at yet */
    int64_t looked_ms;
} tow_moves_t;

void tow_moves_saw(tow_moves_t *moves, tow_optime_t floor, uint64_t copied, int64_t wall_ms);

#endif
