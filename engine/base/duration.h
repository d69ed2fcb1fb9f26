/* SPDX-License-Identifier: Apache-2.0 */
/* duration.h: durations as people write them: "120h", "1d12h", "90m", "45s". */
#ifndef TOW_BASE_DURATION_H
#define TOW_BASE_DURATION_H

#include <stdbool.h>
#include <stdint.h>

/* 1 s to 3650 d, in milliseconds. False: no duration, and *out_ms is untouched. */
bool tow_duration_parse(const char *text, int64_t *out_ms);
/* "3 h 20 min": the two largest units. Returns `out`. */
const char *tow_duration_text(double seconds, char out[32]);

#endif
