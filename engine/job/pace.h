/* SPDX-License-Identifier: Apache-2.0 */
/* pace.h: how fast the verification reads while the job is in sync: no faster than --verify-rate,
 * and slower while the source answers slowly.
 *
 * No clock inside: every function is told what time it is and what the source's latency is. Belongs
 * to whoever holds it; not thread-safe. */
#ifndef TOW_JOB_PACE_H
#define TOW_JOB_PACE_H

#include <stdint.h>

typedef struct {
    double most, rate;   /* bytes a second of either side: at most, and now */
    double free_ms;      /* when the bytes so far are paid for */
    double least_ms;     /* the least latency seen; 0: none yet */
    int64_t adjusted_ms; /* when the rate was last looked at */
} tow_pace_t;

tow_pace_t tow_pace_new(uint64_t bytes_per_second);
/* So many bytes were read, of either side. `latency_ms`: a round trip to the source, 0 when
 * unknown. Once a second the rate halves while that is more than three times its least plus 5 ms,
 * down to a sixteenth, and grows by a quarter otherwise. Returns when the next bytes
 * may be read. */
int64_t tow_pace_take(tow_pace_t *pace, uint64_t bytes, double latency_ms, int64_t now_ms);

#endif
