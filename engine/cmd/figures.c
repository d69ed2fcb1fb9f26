/* SPDX-License-Identifier: Apache-2.0 */
/* figures.c: counts and times for people. */
#include <stdio.h>
#include <string.h>

#include "engine/base/duration.h"
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

const char *cmd_duration(double seconds, char out[32])
{
    return tow_duration_text(seconds > 0 ? seconds : 0, out);
}
