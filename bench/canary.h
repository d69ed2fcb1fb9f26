/* SPDX-License-Identifier: Apache-2.0 */
/* canary.h: measures the time from a write on the source to its being readable
 * on the destination. */
#ifndef TOW_BENCH_CANARY_H
#define TOW_BENCH_CANARY_H

#include "bench/bench.h"

typedef struct tow_bench_canary tow_bench_canary_t;

/* Writes `total` canaries into the collection `canary` of the bench's database. */
tow_bench_canary_t *tow_bench_canary_start(const tow_bench_options_t *options, int64_t interval_ms,
                                           int64_t total);
/* Waits until all have arrived; frees it. Appends the lag of each, and what the source's own write
 * took of it; *out_last is the operation time of the last one. */
bool tow_bench_canary_finish(tow_bench_canary_t *canary, tow_bench_samples_t *out_lag_ms,
                             tow_bench_samples_t *out_write_ms, tow_timestamp_t *out_last,
                             tow_error_t *error);

#endif
