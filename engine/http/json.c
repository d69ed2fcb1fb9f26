/* json.c: see json.h. */
#include "engine/http/json.h"

#include <stdio.h>

#include "engine/base/memory.h"

char *tow_json_text(const char *text)
{
    tow_buffer_t out = {0};

    tow_buffer_append(&out, "\"", 1);
    for (const char *at = text; *at; at++) {
        char code[8];

        if (*at == '"' || *at == '\\' || (unsigned char)*at < 0x20)
            tow_buffer_append(&out, code,
                              (size_t)snprintf(code, sizeof code, "\\u%04x", (unsigned char)*at));
        else
            tow_buffer_append(&out, at, 1);
    }
    tow_buffer_append(&out, "\"", 2);
    return (char *)out.data;
}
