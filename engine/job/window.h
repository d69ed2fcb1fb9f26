/* SPDX-License-Identifier: Apache-2.0 */
/* window.h: the time that a job may stay in sync before it must be cut over. It begins when the job
 * is first in sync, may be extended any number of times, and warns before it is over.
 *
 * No clock inside: every function is told what time it is, in milliseconds since 1970, so that days
 * pass in no time in the tests. Belongs to whoever holds it; not thread-safe. */
#ifndef TOW_JOB_WINDOW_H
#define TOW_JOB_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    int64_t length_ms; /* --window; 0: the job has none, and what follows has no end */
    int64_t extra_ms;  /* what was added; may be more than the length */
    int64_t start_ms;  /* 0: it has not begun */
    int64_t warned_ms; /* the least time left that was warned of */
} tow_window_t;

tow_window_t tow_window_new(int64_t length_ms);
/* In sync for the first time; does nothing later on. True: it begins now. */
bool tow_window_begin(tow_window_t *window, int64_t now_ms);
/* What a job's document remembers: warns at once when less than the next mark is left. */
void tow_window_restore(tow_window_t *window, int64_t start_ms, int64_t extra_ms);
/* Adds time to the end, or to now when the end has passed. */
void tow_window_extend(tow_window_t *window, int64_t add_ms, int64_t now_ms);
int64_t tow_window_end_ms(const tow_window_t *window); /* 0: it has not begun, or has no end */
/* At least 0; -1: it has not begun, or has no end. */
int64_t tow_window_left_ms(const tow_window_t *window, int64_t now_ms);
bool tow_window_over(const tow_window_t *window, int64_t now_ms);
/* Whether it is time for a warning (24 h, 4 h, 1 h, 10 min before the end); each is told once, and
 * again when the window was extended beyond it. */
bool tow_window_warns(tow_window_t *window, int64_t now_ms);

#endif
