/* SPDX-License-Identifier: Apache-2.0 */
/* text.c: see text.h. */
#include "engine/base/text.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "engine/base/memory.h"
#include "engine/base/uri.h"

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

/* Where the scheme before `address` begins, when addresses of that scheme hold passwords; NULL. */
static char *find_scheme(const char *text, char *address)
{
    static const char *const schemes[] = {"mongodb", "mongodb+srv", "smtp", "smtps"};

    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        size_t length = strlen(schemes[i]) + 3;

        if ((size_t)(address - text) >= length &&
            !strncasecmp(address - length, schemes[i], length - 3))
            return address - length;
    }
    return NULL;
}

/* Puts `with` there, or as many asterisks as fit where it is longer; returns the end of it. */
static char *replace(char *begin, char *end, const char *with)
{
    size_t room = (size_t)(end - begin), length = strlen(with);

    if (length > room) {
        with = "***";
        length = room < 3 ? room : 3;
    }
    memmove(begin + length, end, strlen(end) + 1);
    memcpy(begin, with, length);
    return begin + length;
}

/* The next address that may hold a password, or the end. */
static const char *find_next(const char *text, char *at)
{
    while ((at = strstr(at, "://"))) {
        char *scheme = find_scheme(text, at += 3);

        if (scheme)
            return scheme;
    }
    return strchr(text, '\0');
}

/* An @ after the word, with a colon before it: the word was not the whole, since the password has a
 * blank or a quote. */
static bool goes_on(const char *text, const char *address, char *stop, const char *last)
{
    const char *next = find_next(text, stop), *end = next < last ? next : last;
    const char *at = memrchr(stop, '@', (size_t)(end > stop ? end - stop : 0));

    for (const char *colon = address; at && colon < at; colon++)
        if (*colon == ':' && !strchr(" \t\r\n", colon[1]))
            return true;
    return false;
}

/* Our own hints, and what is hidden already. */
static bool is_placeholder(const char *word, size_t length)
{
    static const char *const placeholders[] = {"HOST[:PORT]", "HOST:587", "NAME/[", "…"};

    for (size_t i = 0; i < sizeof placeholders / sizeof *placeholders; i++)
        if (!strncmp(word, placeholders[i], strlen(placeholders[i])))
            return true;
    return length && strspn(word, "*") >= length;
}

/* A connection string within a text: as it may be shown, where it can be read. Where not, nobody
 * knows where its password ends, and all is hidden up to the quote that encloses it, or to the end.
 * Returns where the text goes on. */
static char *hide_connection(const char *text, char *scheme, char *address)
{
    char quote[2] = {scheme > text && strchr("'\"", scheme[-1]) ? scheme[-1] : '\0', '\0'};
    char *stop = address + strcspn(address, *quote == '\'' ? " \t\r\n\"'" : " \t\r\n\"");
    char *last = *quote ? strrchr(address, *quote) : NULL, *word, *shown;
    bool whole = !*quote || *stop == *quote;

    last = last ? last : strchr(address, '\0');
    while (stop > address && strchr(",.;:)", stop[-1]))
        stop--;
    if (is_placeholder(address, (size_t)(stop - address)) ||
        (stop == address && !goes_on(text, address, stop, last)))
        return stop;
    word = tow_format("%.*s", (int)(stop - scheme), scheme);
    shown = tow_uri_shown(word);
    if (!whole || goes_on(text, address, stop, last) || !strcmp(shown, "(hidden)") ||
        !strcmp(strstr(shown, "://") + 3, "***"))
        stop = replace(address, last, "***");
    else
        stop = replace(address, stop, strstr(shown, "://") + 3);
    free(shown);
    free(word);
    return stop;
}

/* Of other addresses (of documents, of pages) what follows the first slash is no secret. */
static char *hide_user(char *address)
{
    const char *stop = " \t\r\n\"/?#";
    char *end = NULL;

    for (char *at = address; *at && !strchr(stop, *at) && strncmp(at, "://", 3) != 0; at++)
        if (*at == '@')
            end = at;
    return end ? replace(address, end, "***") : address;
}

void tow_hide_credentials(char *text)
{
    for (char *at = text; (at = strstr(at, "://"));) {
        char *scheme = find_scheme(text, at += 3);

        at = scheme ? hide_connection(text, scheme, at) : hide_user(at);
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
