/* SPDX-License-Identifier: Apache-2.0 */
/* duration.c: see duration.h. */
#include "engine/base/duration.h"

#include <ctype.h>
#include <stddef.h>
#include <stdio.h>

#define SECOND INT64_C(1000)
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)
#define DURATION_MOST (3650 * DAY)

bool tow_duration_parse(const char *text, int64_t *out_ms)
{
    static const struct {
        char name;
        int64_t ms;
    } units[] = {{'d', DAY}, {'h', HOUR}, {'m', MINUTE}, {'s', SECOND}};
    int64_t sum = 0;

    if (!*text)
        return false;
    while (*text) {
        int64_t number = 0, unit = 0;

        if (!isdigit((unsigned char)*text))
            return false;
        for (; isdigit((unsigned char)*text); text++) {
            number = number * 10 + (*text - '0');
            if (number > DURATION_MOST / SECOND)
                return false;
        }
        for (size_t i = 0; i < sizeof units / sizeof *units; i++)
            if (units[i].name == *text)
                unit = units[i].ms;
        if (!unit || number > DURATION_MOST / unit)
            return false;
        sum += number * unit;
        text++;
    }
    if (sum < SECOND || sum > DURATION_MOST)
        return false;
    *out_ms = sum;
    return true;
}

const char *tow_duration_text(double seconds, char out[32])
{
    long long left = (long long)(seconds + 0.5);

    if (left < 120)
        snprintf(out, 32, "%lld s", left);
    else if (left < 2 * 3600)
        snprintf(out, 32, "%lld min", left / 60);
    else if (left < 48 * 3600)
        snprintf(out, 32, "%lld h %lld min", left / 3600, left / 60 % 60);
    else
        snprintf(out, 32, "%lld d %lld h", left / 86400, left / 3600 % 24);
    return out;
}
