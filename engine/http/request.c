/* SPDX-License-Identifier: Apache-2.0 */
/* request.c: the body of a request, as JSON. */
#include <string.h>

#include "engine/http/internal.h"

/* Also one that is written as \u0000, in a name or a value: it would end the text here, and for
 * nobody else. */
static bool holds_zero(const char *text, size_t length)
{
    if (strlen(text) < length)
        return true;
    for (; *text; text++)
        if (*text == '\\' && !strncmp(text + 1, "u0000", 5))
            return true;
        else if (*text == '\\' && text[1])
            text++;
    return false;
}

bool tow_request_parse(tow_request_t *request, tow_error_t *error)
{
    const uint8_t *data = request->text.data;

    if (request->text.length > TOW_BODY_MOST)
        return tow_fail(error, TOW_ERROR_OPTION, "the body is over 64 KB; send {}");
    if (!request->text.length)
        return true;
    if (holds_zero((const char *)data, request->text.length))
        return tow_fail(error, TOW_ERROR_OPTION,
                        "the body holds a zero byte, which no text may; remove it");
    if (data[strspn((const char *)data, " \t\r\n")] == '{')
        request->body = bson_new_from_json(data, (ssize_t)request->text.length, NULL);
    return request->body ? true
                         : tow_fail(error, TOW_ERROR_OPTION, "the body is no JSON object; send {}");
}
