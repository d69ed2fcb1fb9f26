/* SPDX-License-Identifier: Apache-2.0 */
/* values.c: see values.h. */
#include "engine/options/values.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/duration.h"
#include "engine/state/filter.h"

static bool check_integer(const tow_option_t *option, const char *value, tow_error_t *error)
{
    long long least, most, number;
    char *end;

    sscanf(option->range, "%lld..%lld", &least, &most);
    errno = 0;
    number = strtoll(value, &end, 10);
    if (errno || end == value || *end || number < least || number > most)
        return tow_fail(error, TOW_ERROR_OPTION, "--%s: '%s' is no number of %s%s%s", option->name,
                        value, option->range, *option->unit ? " " : "", option->unit);
    return true;
}

static bool check_duration(const tow_option_t *option, const char *value, tow_error_t *error)
{
    int64_t ms, least = 0, most = INT64_MAX;
    char first[16], last[16];

    if (sscanf(option->range, "%15[^.]..%15s", first, last) == 2) {
        tow_duration_parse(first, &least);
        tow_duration_parse(last, &most);
    }
    if (tow_duration_parse(value, &ms) && (ms < least || ms > most))
        return tow_fail(error, TOW_ERROR_OPTION, "--%s: '%s' is not within %s", option->name, value,
                        option->range);
    return tow_duration_parse(value, &ms)
               ? true
               : tow_fail(
                     error, TOW_ERROR_OPTION,
                     "--%s: '%s' is no duration; expected days, hours, minutes and seconds from "
                     "1s to 3650d, such as 120h, 1d12h or 90m",
                     option->name, value);
}

static bool check_choice(const tow_option_t *option, const char *value, tow_error_t *error)
{
    size_t length = strlen(value);

    for (const char *at = option->range; at; at = strchr(at, '|')) {
        if (*at == '|')
            at++;
        if (length && !strncmp(at, value, length) && (at[length] == '|' || !at[length]))
            return true;
    }
    return tow_fail(error, TOW_ERROR_OPTION, "--%s: '%s' is none of %s", option->name, value,
                    option->range);
}

static bool check_listen(const char *value, tow_error_t *error)
{
    const char *colon = strrchr(value, ':');
    char *end;
    long port;

    if (!strcmp(value, "none"))
        return true;
    port = colon ? strtol(colon + 1, &end, 10) : -1;
    if (!colon || colon == value || end == colon + 1 || *end || port < 0 || port > 65535)
        return tow_fail(error, TOW_ERROR_OPTION,
                        "--listen: '%s' is no address; expected HOST:PORT, such as "
                        "127.0.0.1:27182, or none",
                        value);
    return true;
}

static bool check_job(const char *value, tow_error_t *error)
{
    size_t length = strlen(value);
    bool good = length >= 1 && length <= 40;

    for (const char *at = value; good && *at; at++)
        good =
            islower((unsigned char)*at) || isdigit((unsigned char)*at) || *at == '_' || *at == '-';
    return good ? true
                : tow_fail(error, TOW_ERROR_OPTION,
                           "--job: '%s' is no name; expected 1 to 40 of a-z, 0-9, _ and -", value);
}

/* Addresses become lines of a mail's head, and the schemes are those that are spoken. */
static bool check_notify(const tow_option_t *option, const char *value, tow_error_t *error)
{
    static const char *const schemes[][3] = {{"notify-webhook", "https://", "http://"},
                                             {"notify-smtp", "smtp://", "smtps://"}};

    for (const char *at = value; *at; at++)
        if ((unsigned char)*at < 0x20)
            return tow_fail(error, TOW_ERROR_OPTION, "--%s: the value holds a control character",
                            option->name);
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++)
        if (!strcmp(option->name, schemes[i][0]) &&
            strncmp(value, schemes[i][1], strlen(schemes[i][1])) != 0 &&
            strncmp(value, schemes[i][2], strlen(schemes[i][2])) != 0)
            return tow_fail(error, TOW_ERROR_OPTION,
                            "--%s: expected an address that begins with %s or %s", option->name,
                            schemes[i][1], schemes[i][2]);
    return true;
}

static bool check_namespace(const tow_option_t *option, const char *value, tow_error_t *error)
{
    tow_filter_t *filter = tow_filter_new();
    bool ok = tow_filter_include(filter, value, error);

    tow_filter_destroy(filter);
    return ok ? true : tow_fail_context(error, "--%s", option->name);
}

bool tow_option_check(const tow_option_t *option, const char *value, tow_error_t *error)
{
    switch (option->type) {
    case TOW_OPTION_INTEGER:
        return check_integer(option, value, error);
    case TOW_OPTION_CHOICE:
        return check_choice(option, value, error);
    case TOW_OPTION_FLAG:
        return !strcmp(value, "true") || !strcmp(value, "false")
                   ? true
                   : tow_fail(error, TOW_ERROR_OPTION, "--%s: '%s' is neither true nor false",
                              option->name, value);
    case TOW_OPTION_DURATION:
        return check_duration(option, value, error);
    case TOW_OPTION_LIST:
        return check_namespace(option, value, error);
    default:
        if (!*value)
            return tow_fail(error, TOW_ERROR_OPTION, "--%s: the value is empty", option->name);
        if (!strcmp(option->name, "listen"))
            return check_listen(value, error);
        if (!strcmp(option->name, "job"))
            return check_job(value, error);
        if (!strncmp(option->name, "notify-", 7))
            return check_notify(option, value, error);
        return true;
    }
}
