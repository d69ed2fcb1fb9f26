/* SPDX-License-Identifier: Apache-2.0 */
/* json.c: see json.h. */
#include "engine/base/json.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/decimal.h"
#include "engine/base/text.h"

enum { NUMBER_MOST = 512 }; /* a double has at most 309 digits before the point */

static void append(tow_json_t *json, const char *text)
{
    tow_buffer_append(&json->text, text, strlen(text));
}

/* Texts ---------------------------------------------------------------------------------------- */

/* The character at `at` as it stands in a JSON string; returns where the next one begins. */
static const char *append_character(tow_buffer_t *out, const char *at)
{
    uint32_t code = 0xfffd;
    size_t length = tow_text_decode(at, &code);
    char shown[8];

    if (length && tow_text_is_plain(code))
        tow_buffer_append(out, at, length);
    else
        tow_buffer_append(out, shown,
                          (size_t)snprintf(shown, sizeof shown, "\\u%04x", length ? code : 0xfffd));
    return at + (length ? length : 1);
}

static void append_quoted(tow_buffer_t *out, const char *text)
{
    tow_buffer_append(out, "\"", 1);
    while (*text) {
        if (*text == '"' || *text == '\\')
            tow_buffer_append(out, "\\", 1);
        text = append_character(out, text);
    }
    tow_buffer_append(out, "\"", 1);
}

char *tow_json_text(const char *text)
{
    tow_buffer_t out = {0};

    append_quoted(&out, text);
    tow_buffer_append(&out, "", 1);
    return (char *)out.data;
}

/* Characters that are not plain stand in strings; white space stands between them. */
char *tow_json_printable(const char *json)
{
    tow_buffer_t out = {0};

    while (*json)
        if (*json == '\n' || *json == '\t' || *json == '\r')
            tow_buffer_append(&out, json++, 1);
        else
            json = append_character(&out, json);
    tow_buffer_append(&out, "", 1);
    return (char *)out.data;
}

/* Values --------------------------------------------------------------------------------------- */

/* What stands before a value: a comma after another one, and its name. */
static void put_name(tow_json_t *json, const char *name)
{
    if (json->comma)
        append(json, ",");
    json->comma = true;
    if (!name)
        return;
    append_quoted(&json->text, name);
    append(json, ":");
}

static void open(tow_json_t *json, const char *name, const char *bracket)
{
    put_name(json, name);
    append(json, bracket);
    json->comma = false;
}

static void close(tow_json_t *json, const char *bracket)
{
    append(json, bracket);
    json->comma = true;
}

void tow_json_begin(tow_json_t *json, const char *name)
{
    open(json, name, "{");
}

void tow_json_end(tow_json_t *json)
{
    close(json, "}");
}

void tow_json_begin_array(tow_json_t *json, const char *name)
{
    open(json, name, "[");
}

void tow_json_end_array(tow_json_t *json)
{
    close(json, "]");
}

void tow_json_put_json(tow_json_t *json, const char *name, const char *value)
{
    put_name(json, name);
    append(json, value);
}

void tow_json_put_fields(tow_json_t *json, const char *object)
{
    size_t length = strlen(object);

    if (length > 2) { /* {} has none */
        put_name(json, NULL);
        tow_buffer_append(&json->text, object + 1, length - 2);
    }
}

void tow_json_put_text(tow_json_t *json, const char *name, const char *text)
{
    put_name(json, name);
    if (text)
        append_quoted(&json->text, text);
    else
        append(json, "null");
}

void tow_json_put_flag(tow_json_t *json, const char *name, bool value)
{
    tow_json_put_json(json, name, value ? "true" : "false");
}

void tow_json_put_null(tow_json_t *json, const char *name)
{
    tow_json_put_json(json, name, "null");
}

void tow_json_put_count(tow_json_t *json, const char *name, uint64_t value)
{
    char text[NUMBER_MOST];

    snprintf(text, sizeof text, "%" PRIu64, value);
    tow_json_put_json(json, name, text);
}

void tow_json_put_integer(tow_json_t *json, const char *name, int64_t value)
{
    char text[NUMBER_MOST];

    snprintf(text, sizeof text, "%" PRId64, value);
    tow_json_put_json(json, name, text);
}

void tow_json_put_number(tow_json_t *json, const char *name, double value, int decimals)
{
    locale_t locale = tow_locale_plain();
    char text[NUMBER_MOST];

    snprintf(text, sizeof text, "%.*f", decimals, value);
    tow_locale_back(locale);
    tow_json_put_json(json, name, isfinite(value) ? text : "null");
}

/* The end -------------------------------------------------------------------------------------- */

char *tow_json_take(tow_json_t *json)
{
    char *text;

    tow_buffer_append(&json->text, "", 1);
    text = (char *)json->text.data;
    *json = (tow_json_t){0};
    return text;
}

char *tow_json_take_line(tow_json_t *json)
{
    append(json, "\n");
    return tow_json_take(json);
}
