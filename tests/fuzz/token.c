/* SPDX-License-Identifier: Apache-2.0 */
/* token.c: any text as a resume token. The time of a KeyString is that of its hex digits, and the
 * order of two tokens' texts is that of their times. */
#include <ctype.h>

#include "oplog/token.h"
#include "tests/fuzz/fuzz.h"

static bool time_of(const char *text, size_t length, tow_optime_t *out)
{
    bson_t token = BSON_INITIALIZER;
    tow_optime_t embedded = 0;
    bool known;

    bson_append_utf8(&token, "_data", -1, text, (int)length);
    known = tow_token_time(&token, out);
    if (tow_token_embedded_time(&token, &embedded))
        HOLDS(embedded >> 32);
    bson_destroy(&token);
    return known;
}

static int compare_hex(const char *a, size_t a_length, const char *b, size_t b_length)
{
    for (size_t i = 0; i < a_length && i < b_length; i++) {
        int left = toupper((unsigned char)a[i]), right = toupper((unsigned char)b[i]);

        if (left != right)
            return left < right ? -1 : 1;
    }
    return (a_length > b_length) - (a_length < b_length);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data, *zero = memchr(data, '|', size);
    size_t first = zero ? (size_t)(zero - text) : size, second = zero ? size - first - 1 : 0;
    tow_optime_t a = 0, b = 0;
    bool has_a = time_of(text, first, &a);

    if (has_a) {
        char head[17] = "";

        HOLDS(first > 18);
        memcpy(head, text + 2, 16);
        HOLDS(a == strtoull(head, NULL, 16));
    }
    if (zero && time_of(zero + 1, second, &b) && has_a) {
        int order = compare_hex(text, first, zero + 1, second);

        HOLDS(order < 0 ? a <= b : order > 0 ? a >= b : a == b);
    }
    return 0;
}
