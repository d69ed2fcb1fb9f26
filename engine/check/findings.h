/* SPDX-License-Identifier: Apache-2.0 */
/* findings.h: what the checks before a start found: one entry each, with its facts and what to do.
 *
 * A list belongs to one thread. Texts that come from servers are kept as they are but for bytes
 * that are no UTF-8, so that every list has its JSON. */
#ifndef TOW_CHECK_FINDINGS_H
#define TOW_CHECK_FINDINGS_H

#include <bson/bson.h>

#include "engine/base/error.h"

typedef enum {
    TOW_FINDING_PASS,
    TOW_FINDING_WARNING,
    TOW_FINDING_FAILURE,
    TOW_FINDING_SKIPPED /* it could not be checked, for the reason that the facts give */
} tow_finding_result_t;

typedef struct {
    const char *name; /* stable: "source_login"; constant */
    tow_finding_result_t result;
    tow_error_code_t code; /* of a failure */
    char *facts, *advice;  /* owned; the advice is "" where there is nothing to do */
} tow_finding_t;

enum { TOW_FINDINGS_MOST = 48 };

typedef struct {
    tow_finding_t items[TOW_FINDINGS_MOST];
    size_t count;
} tow_findings_t; /* {0} is empty */

void tow_findings_clear(tow_findings_t *findings);

/* Each adds one. `advice` is taken (tow_format), NULL: none. */
void tow_find_pass(tow_findings_t *findings, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void tow_find_skipped(tow_findings_t *findings, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void tow_find_warning(tow_findings_t *findings, const char *name, char *advice, const char *format,
                      ...) __attribute__((format(printf, 4, 5)));
void tow_find_failure(tow_findings_t *findings, const char *name, tow_error_code_t code,
                      char *advice, const char *format, ...) __attribute__((format(printf, 5, 6)));
/* A failure as an error tells it: what follows the last "; " of its message is the advice. */
void tow_find_error(tow_findings_t *findings, const char *name, const tow_error_t *error);

uint32_t tow_findings_count(const tow_findings_t *findings, tow_finding_result_t result);
/* The first failure as an error; false when there is one. */
bool tow_findings_judge(const tow_findings_t *findings, tow_error_t *error);

/* Appends "checks": [{name, result, facts, advice, exitStatus}]. */
void tow_findings_append(const tow_findings_t *findings, bson_t *out);

#endif
