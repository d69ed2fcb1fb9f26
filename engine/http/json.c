/* json.c: see json.h. */
#include "engine/http/json.h"

#include <bson/bson.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/memory.h"

/* Bytes that are not UTF-8, as of a message that was cut where its room ended, are shown as \ufffd. */
char *tow_json_text(const char *text)
{
    tow_buffer_t out = {0};

    tow_buffer_append(&out, "\"", 1);
    while (*text) {
        uint8_t c = (uint8_t)*text;
        size_t length = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
        char code[8];

        if (c < 0x20 || c == '"' || c == '\\') {
            tow_buffer_append(&out, code, (size_t)snprintf(code, sizeof code, "\\u%04x", c));
        } else if (strnlen(text, length) == length && bson_utf8_validate(text, length, false)) {
            tow_buffer_append(&out, text, length);
        } else {
            tow_buffer_append(&out, "\\ufffd", 6);
            length = 1;
        }
        text += length;
    }
    tow_buffer_append(&out, "\"", 2);
    return (char *)out.data;
}
