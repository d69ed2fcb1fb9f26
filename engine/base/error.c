/* SPDX-License-Identifier: Apache-2.0 */
/* error.c: see error.h. */
#include "engine/base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/text.h"

static void fill(tow_error_t *error, tow_error_code_t code, const char *format, va_list arguments)
{
    error->code = code;
    error->retry = TOW_RETRY_NEVER;
    error->server_code = 0;
    vsnprintf(error->message, sizeof error->message, format, arguments);
    tow_hide_credentials(error->message);
}

bool tow_fail(tow_error_t *error, tow_error_code_t code, const char *format, ...)
{
    va_list arguments;

    if (error) {
        va_start(arguments, format);
        fill(error, code, format, arguments);
        va_end(arguments);
    }
    return false;
}

bool tow_fail_context(tow_error_t *error, const char *format, ...)
{
    char old[sizeof error->message];
    va_list arguments;
    int length;

    if (!error)
        return false;
    memcpy(old, error->message, sizeof old);
    va_start(arguments, format);
    length = vsnprintf(error->message, sizeof error->message, format, arguments);
    va_end(arguments);
    if (length >= 0 && (size_t)length < sizeof error->message)
        snprintf(error->message + length, sizeof error->message - (size_t)length, ": %.*s",
                 (int)(sizeof error->message - 3 - (size_t)length), old);
    tow_hide_credentials(error->message);
    return false;
}

bool tow_fail_errno(tow_error_t *error, tow_error_code_t code, const char *format, ...)
{
    int number = errno;
    size_t length;
    va_list arguments;

    if (!error)
        return false;
    va_start(arguments, format);
    fill(error, code, format, arguments);
    va_end(arguments);
    length = strlen(error->message);
    snprintf(error->message + length, sizeof error->message - length, ": %s", strerror(number));
    return false;
}
