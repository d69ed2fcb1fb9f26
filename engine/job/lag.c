/* SPDX-License-Identifier: Apache-2.0 */
/* lag.c: the lag by our own clock. A cluster time counts in seconds; so that lag has milliseconds,
 * we remember when we first saw each time of the source and ask how long ago that was for the
 * oldest one that the floor has not reached. An idle source gives nothing newer than
 * the floor: 0. */
#include <string.h>

#include "engine/job/lag.h"

void tow_lag_saw(tow_lag_t *lag, tow_optime_t source_time, int64_t now_ms)
{
    if (!lag->first_time) {
        lag->first_time = source_time;
        lag->first_ms = now_ms;
    }
    if (lag->count && lag->points[lag->count - 1].time >= source_time)
        return;
    if (lag->count == LAG_POINTS) {
        /* Stalled for long: pairs become one, rather too old than too young. */
        for (uint32_t i = 0; i < LAG_POINTS / 2; i++)
            lag->points[i] =
                (tow_lag_point_t){lag->points[2 * i + 1].time, lag->points[2 * i].seen_ms};
        lag->count = LAG_POINTS / 2;
    }
    lag->points[lag->count++] = (tow_lag_point_t){source_time, now_ms};
}

int64_t tow_lag_of(tow_lag_t *lag, tow_optime_t floor, bool waiting, int64_t now_ms)
{
    uint32_t reached = 0;

    if (!lag->first_time || !floor)
        return -1;
    while (reached < lag->count && lag->points[reached].time <= floor)
        reached++;
    lag->count -= reached;
    memmove(lag->points, lag->points + reached, lag->count * sizeof *lag->points);
    if (!lag->count)
        return 0;
    if (floor < lag->first_time) /* behind since before we looked: the times themselves must do */
        return now_ms - lag->first_ms +
               ((int64_t)(lag->first_time >> 32) - (int64_t)(floor >> 32)) * 1000;
    /* A time that we saw a moment ago, and no event that waits: the stream has not had the time to
     * say that there is none. That is how finely we look, not a lag. */
    if (!waiting && now_ms - lag->points[0].seen_ms <= TOW_LAG_GRAIN_MS)
        return 0;
    return now_ms - lag->points[0].seen_ms;
}

void tow_moves_saw(tow_moves_t *moves, tow_optime_t floor, uint64_t copied, int64_t wall_ms)
{
    if (!moves->wall_ms || moves->floor != floor || moves->copied != copied)
        moves->wall_ms = wall_ms;
    moves->floor = floor;
    moves->copied = copied;
}
