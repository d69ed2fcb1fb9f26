/* SPDX-License-Identifier: Apache-2.0 */
/* pattern.c: see pattern.h. */
#include "engine/state/pattern.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/memory.h"

const char *const tow_internal_databases[] = {"admin", "local", "config", NULL};

bool tow_pattern_is_internal(const char *database, const char *own)
{
    for (size_t i = 0; tow_internal_databases[i]; i++)
        if (!strcmp(database, tow_internal_databases[i]))
            return true;
    return own && !strcmp(own, database);
}

bool tow_pattern_is_any(const tow_pattern_name_t *name)
{
    return !name->name && !name->regex;
}

/* Reading compiled expressions is thread-safe; the match data are each call's own. */
bool tow_pattern_matches(const tow_pattern_name_t *name, const char *text)
{
    pcre2_match_data *data;
    int found;

    if (!name->regex)
        return !name->name || strcmp(name->name, text) == 0;
    data = pcre2_match_data_create(1, NULL);
    found = pcre2_match(name->regex, (PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED, 0, 0, data, NULL);
    pcre2_match_data_free(data);
    return found >= 0;
}

static void clear_name(tow_pattern_name_t *name)
{
    free(name->name);
    pcre2_code_free(name->regex);
}

void tow_pattern_clear(tow_pattern_t *pattern)
{
    free(pattern->text);
    clear_name(&pattern->database);
    clear_name(&pattern->collection);
}

/* "/expression/flags" up to a dot or the end; *at moves behind it. False: it is no such thing, or
 * *error
 * (*failed) tells what is wrong with it. */
static bool parse_regex(const char **at, tow_pattern_name_t *out, bool *failed, tow_error_t *error)
{
    static const struct {
        char flag;
        uint32_t option;
    } flags[] = {
        {'i', PCRE2_CASELESS}, {'m', PCRE2_MULTILINE}, {'s', PCRE2_DOTALL}, {'x', PCRE2_EXTENDED}};
    const char *begin = *at + 1, *end = begin;
    uint32_t options = PCRE2_UTF;
    PCRE2_SIZE offset;
    int code;

    *failed = false;
    if (**at != '/')
        return false;
    while (*end && *end != '/')
        end += *end == '\\' && end[1] ? 2 : 1;
    if (!*end)
        return false;
    for (*at = end + 1; **at && **at != '.'; (*at)++) {
        size_t i = 0;

        while (i < sizeof flags / sizeof *flags && flags[i].flag != **at)
            i++;
        if (i == sizeof flags / sizeof *flags) {
            *failed = true;
            return tow_fail(
                error, TOW_ERROR_OPTION,
                "the regular expression /%.*s/ has the option '%c'; known are i, m, s, x",
                (int)(end - begin), begin, **at);
        }
        options |= flags[i].option;
    }
    out->regex =
        pcre2_compile((PCRE2_SPTR)begin, (PCRE2_SIZE)(end - begin), options, &code, &offset, NULL);
    if (!out->regex) {
        PCRE2_UCHAR message[128];

        pcre2_get_error_message(code, message, sizeof message);
        *failed = true;
        return tow_fail(error, TOW_ERROR_OPTION, "the regular expression /%.*s/ is not valid: %s",
                        (int)(end - begin), begin, (const char *)message);
    }
    return true;
}

static bool parse_database(const char *own, const char **at, tow_pattern_name_t *out,
                           tow_error_t *error)
{
    bool failed;

    if (parse_regex(at, out, &failed, error))
        return true;
    if (failed)
        return false;
    out->name = tow_format("%.*s", (int)strcspn(*at, "."), *at);
    *at += strlen(out->name);
    if (tow_pattern_is_internal(out->name, own))
        return tow_fail(
            error, TOW_ERROR_OPTION,
            "'%s' is a server's or this job's own database, which is never synced; leave it out",
            out->name);
    return true;
}

static bool parse_collection(const char *at, tow_pattern_name_t *out, tow_error_t *error)
{
    const char *behind = at;
    bool failed;

    if (parse_regex(&behind, out, &failed, error) && !*behind)
        return true;
    if (failed)
        return false;
    clear_name(out); /* a name that looks like one */
    *out = (tow_pattern_name_t){.name = tow_strdup(at)};
    return true;
}

static bool has_dollar(const tow_pattern_name_t *name)
{
    return name->name && strchr(name->name, '$');
}

bool tow_pattern_parse(const char *own, const char *text, tow_pattern_t *out, tow_error_t *error)
{
    const char *at = text;
    bool ok;

    *out = (tow_pattern_t){0};
    ok = parse_database(own, &at, &out->database, error);
    if (ok && ((out->database.name && !*out->database.name) || (*at && !at[1])))
        ok = tow_fail(error, TOW_ERROR_OPTION,
                      "'%s' is not a namespace: expected db, db.* or db.collection, or regular "
                      "expressions between slashes in the place of either",
                      text);
    if (ok && *at && strcmp(at, ".*") != 0)
        ok = parse_collection(at + 1, &out->collection, error);
    if (ok && (has_dollar(&out->database) || has_dollar(&out->collection)))
        ok = tow_fail(error, TOW_ERROR_OPTION,
                      "'%s' is not a namespace: the name of a database or collection has no '$'",
                      text);
    if (ok)
        out->text = tow_format(
            "%.*s", (int)(tow_pattern_is_any(&out->collection) ? at - text : (long)strlen(text)),
            text);
    else
        tow_pattern_clear(out);
    return ok;
}
