/* text.c: see text.h. */
#include "engine/base/text.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "engine/base/memory.h"

/* The length of the character that begins here and its code; 0: that is no UTF-8. */
static size_t decode(const unsigned char *at, uint32_t *out)
{
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

static bool is_plain(uint32_t code)
{
    if (code < 0x20 || (code >= 0x7f && code < 0xa0))
        return false;
    return code != 0x61c && code != 0x200e && code != 0x200f &&
           !(code >= 0x2028 && code <= 0x202e) && !(code >= 0x2066 && code <= 0x2069);
}

char *tow_printable(const char *text)
{
    const unsigned char *at = (const unsigned char *)text;
    tow_buffer_t out = {0};

    while (*at) {
        uint32_t code = 0;
        size_t length = decode(at, &code);

        if (length && is_plain(code)) {
            tow_buffer_append(&out, at, length);
            at += length;
            continue;
        }
        for (size_t left = length ? length : 1; left; left--, at++) {
            char shown[8];

            tow_buffer_append(&out, shown, (size_t)snprintf(shown, sizeof shown, "\\x%02x", *at));
        }
    }
    tow_buffer_append(&out, "", 1);
    return (char *)out.data;
}

/* JSON ------------------------------------------------------------------------------------------*/

/* The character at `at` as it stands in a JSON string; returns where the next one begins. */
static const unsigned char *append_json(tow_buffer_t *out, const unsigned char *at)
{
    uint32_t code = 0xfffd;
    size_t length = decode(at, &code);
    char shown[8];

    if (length && is_plain(code))
        tow_buffer_append(out, at, length);
    else
        tow_buffer_append(out, shown,
                          (size_t)snprintf(shown, sizeof shown, "\\u%04x", length ? code : 0xfffd));
    return at + (length ? length : 1);
}

char *tow_json_text(const char *text)
{
    const unsigned char *at = (const unsigned char *)text;
    tow_buffer_t out = {0};

    tow_buffer_append(&out, "\"", 1);
    while (*at) {
        if (*at == '"' || *at == '\\')
            tow_buffer_append(&out, "\\", 1);
        at = append_json(&out, at);
    }
    tow_buffer_append(&out, "\"", 2);
    return (char *)out.data;
}

/* What is not plain stands in strings; white space between them is. */
char *tow_json_printable(const char *json)
{
    const unsigned char *at = (const unsigned char *)json;
    tow_buffer_t out = {0};

    while (*at)
        if (*at == '\n' || *at == '\t' || *at == '\r')
            tow_buffer_append(&out, at++, 1);
        else
            at = append_json(&out, at);
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
