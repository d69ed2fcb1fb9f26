/* SPDX-License-Identifier: Apache-2.0 */
/* pace.c: see pace.h. */
#include "engine/job/pace.h"

enum { SIDES = 2, ADJUST_MS = 1000, SLOWEST_PART = 16 };

static const double SLOW_FACTOR = 3, SLOW_MS = 5, SLOWER = 0.5, FASTER = 1.25;

tow_pace_t tow_pace_new(uint64_t bytes_per_second)
{
    return (tow_pace_t){.most = (double)bytes_per_second, .rate = (double)bytes_per_second};
}

static void adjust(tow_pace_t *pace, double latency_ms, int64_t now_ms)
{
    if (now_ms - pace->adjusted_ms < ADJUST_MS)
        return;
    pace->adjusted_ms = now_ms;
    if (latency_ms > 0 && (pace->least_ms <= 0 || latency_ms < pace->least_ms))
        pace->least_ms = latency_ms;
    pace->rate *= latency_ms > pace->least_ms * SLOW_FACTOR + SLOW_MS ? SLOWER : FASTER;
    if (pace->rate > pace->most)
        pace->rate = pace->most;
    if (pace->rate < pace->most / SLOWEST_PART)
        pace->rate = pace->most / SLOWEST_PART;
}

int64_t tow_pace_take(tow_pace_t *pace, uint64_t bytes, double latency_ms, int64_t now_ms)
{
    adjust(pace, latency_ms, now_ms);
    if (pace->free_ms < (double)now_ms)
        pace->free_ms = (double)now_ms;
    /* Bytes of both sides come here, the rate is that of one. */
    pace->free_ms += (double)bytes * 1000 / (pace->rate * SIDES);
    return (int64_t)pace->free_ms;
}
