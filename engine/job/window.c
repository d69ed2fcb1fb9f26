/* SPDX-License-Identifier: Apache-2.0 */
/* window.c: see window.h. */
#include "engine/job/window.h"

#define MINUTE INT64_C(60000)
#define HOUR (60 * MINUTE)

static const int64_t marks_ms[] = {24 * HOUR, 4 * HOUR, 1 * HOUR, 10 * MINUTE};

enum { MARKS = sizeof marks_ms / sizeof *marks_ms };

/* Marks that lie behind are not warned of: all that is known is that there is so much time. */
static void arm(tow_window_t *window, int64_t left_ms)
{
    window->warned_ms = INT64_MAX;
    for (int i = 0; i < MARKS; i++)
        if (left_ms <= marks_ms[i])
            window->warned_ms = marks_ms[i];
}

tow_window_t tow_window_new(int64_t length_ms)
{
    return (tow_window_t){.length_ms = length_ms, .warned_ms = INT64_MAX};
}

bool tow_window_begin(tow_window_t *window, int64_t now_ms)
{
    if (window->start_ms)
        return false;
    window->start_ms = now_ms;
    arm(window, tow_window_left_ms(window, now_ms));
    return true;
}

void tow_window_restore(tow_window_t *window, int64_t start_ms, int64_t extra_ms)
{
    window->start_ms = start_ms;
    window->extra_ms = extra_ms;
    window->warned_ms = INT64_MAX;
}

void tow_window_extend(tow_window_t *window, int64_t add_ms, int64_t now_ms)
{
    if (tow_window_over(window, now_ms))
        window->extra_ms = now_ms - window->start_ms - window->length_ms;
    window->extra_ms += add_ms;
    if (window->start_ms)
        arm(window, tow_window_left_ms(window, now_ms));
}

int64_t tow_window_end_ms(const tow_window_t *window)
{
    return window->start_ms && window->length_ms
               ? window->start_ms + window->length_ms + window->extra_ms
               : 0;
}

int64_t tow_window_left_ms(const tow_window_t *window, int64_t now_ms)
{
    int64_t left = tow_window_end_ms(window) - now_ms;

    if (!window->start_ms || !window->length_ms)
        return -1;
    return left > 0 ? left : 0;
}

bool tow_window_over(const tow_window_t *window, int64_t now_ms)
{
    return tow_window_left_ms(window, now_ms) == 0;
}

bool tow_window_warns(tow_window_t *window, int64_t now_ms)
{
    int64_t left = tow_window_left_ms(window, now_ms), mark = INT64_MAX;

    if (left <= 0)
        return false;
    for (int i = 0; i < MARKS; i++)
        if (left <= marks_ms[i])
            mark = marks_ms[i];
    if (mark >= window->warned_ms)
        return false;
    window->warned_ms = mark;
    return true;
}
