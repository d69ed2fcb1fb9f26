/* token.c: see token.h. */
#include "oplog/token.h"

#include <string.h>

enum { HEAD_DIGITS = 18 }; /* type byte, seconds, increment */

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
    /* A KeyString goes on behind the time, in whole bytes; what does not is somebody else's token.
     */
    if (length <= HEAD_DIGITS || length % 2 || strncmp(text, "82", 2) != 0)
        return false;
    for (uint32_t i = 2; i < length; i++) {
        int digit = hex_digit(text[i]);

        if (digit < 0)
            return false;
        if (i < HEAD_DIGITS)
            time = time << 4 | (tow_optime_t)digit;
    }
    if (time >> 32 == 0)
        return false;
    *out = time;
    return true;
}
