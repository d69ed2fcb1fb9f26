/* SPDX-License-Identifier: Apache-2.0 */
/* error.h: fills and decorates tow_error_t. */
#ifndef TOW_BASE_ERROR_H
#define TOW_BASE_ERROR_H

#include "engine/towline.h"

/* Fills *error (which may be NULL) and returns false, so that `return tow_fail(…)` reads well. */
bool tow_fail(tow_error_t *error, tow_error_code_t code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "context: " before the message of an error that travels up; returns false. */
bool tow_fail_context(tow_error_t *error, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The same for an errno: "context: No such file or directory". */
bool tow_fail_errno(tow_error_t *error, tow_error_code_t code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#define TOW_CHECK __attribute__((warn_unused_result))
/* A parameter that a callback is given and has no use for. */
#define TOW_UNUSED __attribute__((unused))

#endif
