/* SPDX-License-Identifier: Apache-2.0 */
/* figures.c: counts and times for people. */
#include <stdio.h>
#include <string.h>

#include "engine/cmd/cmd.h"

char *cmd_count(double count, char out[32])
{
    char digits[32];
    size_t length, used = 0;

    snprintf(digits, sizeof digits, "%.0f", count);
    length = strlen(digits);
    for (size_t i = 0; i < length && used + 2 < 32; i++) {
        if (i && (length - i) % 3 == 0)
            out[used++] = ',';
        out[used++] = digits[i];
    }
    out[used] = '\0';
    return out;
}

char *cmd_duration(double seconds, char out[32])
{
    long long left = seconds > 0 ? (long long)(seconds + 0.5) : 0;

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
