/* text.c: see text.h. */
#include "engine/base/text.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "engine/base/memory.h"

enum { NAME_MOST = 48 };

size_t tow_text_decode(const char *text, uint32_t *out)
{
    const unsigned char *at = (const unsigned char *)text;
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t length = at[0] < 0x80   ? 1
                    : at[0] < 0xc2 ? 0
                    : at[0] < 0xe0 ? 2
                    : at[0] < 0xf0 ? 3
                    : at[0] < 0xf5 ? 4
                                   : 0;
    uint32_t code = length == 1 ? at[0] : length ? at[0] & (0x7fu >> length) : 0;

    for (size_t i = 1; i < length; i++) {
        if ((at[i] & 0xc0) != 0x80) /* a zero, too: nothing beyond the end is read */
            return 0;
        code = code << 6 | (at[i] & 0x3f);
    }
    *out = code;
    return code < least[length] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000) ? 0
                                                                                        : length;
}

bool tow_text_is_plain(uint32_t code)
{
    if (code < 0x20 || (code >= 0x7f && code < 0xa0))
        return false;
    return code != 0x61c && code != 0x200e && code != 0x200f &&
           !(code >= 0x2028 && code <= 0x202e) && !(code >= 0x2066 && code <= 0x2069);
}

char *tow_printable(const char *text)
{
    tow_buffer_t out = {0};

    while (*text) {
        uint32_t code = 0;
        size_t length = tow_text_decode(text, &code);

        if (length && tow_text_is_plain(code)) {
            tow_buffer_append(&out, text, length);
            text += length;
            continue;
        }
        for (size_t left = length ? length : 1; left; left--, text++) {
            char shown[8];

            tow_buffer_append(&out, shown,
                              (size_t)snprintf(shown, sizeof shown, "\\x%02x", (uint8_t)*text));
        }
    }
    tow_buffer_append(&out, "", 1);
    return (char *)out.data;
}

/* Credentials -----------------------------------------------------------------------------------*/

/* The last @ of an address; NULL: it has none. A password of a connection string may hold a slash
 * that is not encoded; in other addresses (of documents, of pages) what follows the first slash is
 * no secret. */
static char *credentials_end(const char *text, char *address)
{
    static const char *const schemes[] = {"mongodb", "mongodb+srv", "smtp", "smtps"};
    const char *stop = " \t\r\n\"/?#";
    char *end = NULL;

    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        size_t length = strlen(schemes[i]) + 3;

        if ((size_t)(address - text) >= length &&
            !strncasecmp(address - length, schemes[i], length - 3))
            stop = " \t\r\n\"";
    }
    for (char *at = address; *at && !strchr(stop, *at) && strncmp(at, "://", 3) != 0; at++)
        if (*at == '@')
            end = at;
    return end;
}

void tow_hide_credentials(char *text)
{
    for (char *at = text; (at = strstr(at, "://"));) {
        char *end = credentials_end(text, at += 3);

        if (!end)
            continue;
        for (size_t i = 0; at + i < end; i++)
            at[i] = '*';
        if (end - at > 3)
            memmove(at + 3, end, strlen(end) + 1);
    }
}

char *tow_bytes_text(double bytes, char out[32])
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
    size_t unit = 0;

    while (bytes >= 1000 && unit + 1 < sizeof units / sizeof *units) {
        bytes /= 1000;
        unit++;
    }
    snprintf(out, 32, unit ? "%.1f %s" : "%.0f %s", bytes, units[unit]);
    return out;
}

size_t tow_text_distance(const char *a, const char *b)
{
    size_t rows[3][NAME_MOST + 1], width = strlen(b), height = strlen(a);

    if (width > NAME_MOST)
        return NAME_MOST;
    for (size_t j = 0; j <= width; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= height; i++) {
        size_t *row = rows[i % 3], *above = rows[(i + 2) % 3], *before = rows[(i + 1) % 3];

        row[0] = i;
        for (size_t j = 1; j <= width; j++) {
            row[j] = above[j - 1] +
                     (tolower((unsigned char)a[i - 1]) != tolower((unsigned char)b[j - 1]));
            if (above[j] + 1 < row[j])
                row[j] = above[j] + 1;
            if (row[j - 1] + 1 < row[j])
                row[j] = row[j - 1] + 1;
            if (i > 1 && j > 1 &&
                tolower((unsigned char)a[i - 1]) == tolower((unsigned char)b[j - 2]) &&
                tolower((unsigned char)a[i - 2]) == tolower((unsigned char)b[j - 1]) &&
                before[j - 2] + 1 < row[j])
                row[j] = before[j - 2] + 1;
        }
    }
    return rows[height % 3][width];
}
