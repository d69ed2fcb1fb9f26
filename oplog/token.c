/* SPDX-License-Identifier: Apache-2.0 */
/* token.c: see token.h. */
#include "oplog/token.h"

#include <string.h>
#include <strings.h>

enum {
    HEAD_DIGITS = 18,             /* type byte, seconds, increment */
    EARLIEST_SECONDS = 1000000000 /* a token of before change streams is none */
};

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

bool tow_token_time(const bson_t *token, tow_optime_t *out)
{
    bson_iter_t iter;
    const char *text;
    uint32_t length;
    tow_optime_t time = 0;

    if (!bson_iter_init_find(&iter, token, "_data") || !BSON_ITER_HOLDS_UTF8(&iter))
        return false;
    text = bson_iter_utf8(&iter, &length);
    /* A KeyString goes on behind the time, in whole bytes; what does not is
     * somebody else's token. */
    if (length <= HEAD_DIGITS || length % 2 || strncmp(text, "82", 2) != 0)
        return false;
    for (uint32_t i = 2; i < length; i++) {
        int digit = hex_digit(text[i]);

        if (digit < 0)
            return false;
        if (i < HEAD_DIGITS)
            time = time << 4 | (tow_optime_t)digit;
    }
    if (time >> 32 < EARLIEST_SECONDS)
        return false;
    *out = time;
    return true;
}

static int nibble(char digit)
{
    return digit <= '9' ? digit - '0' : (digit & ~0x20) - 'A' + 10;
}

bool tow_token_embedded_time(const bson_t *token, tow_optime_t *out)
{
    uint8_t bytes[4096];
    bson_iter_t iter;
    const char *text;
    uint32_t length;
    bson_t document;

    if (!bson_iter_init_find(&iter, token, "_data") || !BSON_ITER_HOLDS_UTF8(&iter))
        return false;
    text = bson_iter_utf8(&iter, &length);
    if (length % 2 || length / 2 > sizeof bytes || strspn(text, "0123456789abcdefABCDEF") != length)
        return false;
    for (uint32_t i = 0; i < length / 2; i++)
        bytes[i] = (uint8_t)(nibble(text[2 * i]) << 4 | nibble(text[2 * i + 1]));
    if (!bson_init_static(&document, bytes, length / 2) ||
        !bson_validate(&document, BSON_VALIDATE_NONE, NULL) || !bson_iter_init(&iter, &document))
        return false;
    while (bson_iter_next(&iter))
        if (BSON_ITER_HOLDS_TIMESTAMP(&iter)) {
            uint32_t seconds, increment;

            bson_iter_timestamp(&iter, &seconds, &increment);
            *out = TOW_OPTIME(seconds, increment);
            return seconds != 0;
        }
    return false;
}

bool tow_token_reached(const bson_t *a, const bson_t *b, bool *out_known)
{
    tow_optime_t time;
    bson_iter_t x, y;

    *out_known = tow_token_time(a, &time) && tow_token_time(b, &time);
    /* Hex digits compare as what they stand for does, and that is made to compare
     * as events follow. */
    return *out_known && bson_iter_init_find(&x, a, "_data") &&
           bson_iter_init_find(&y, b, "_data") &&
           strcasecmp(bson_iter_utf8(&x, NULL), bson_iter_utf8(&y, NULL)) <= 0;
}
