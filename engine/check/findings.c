/* SPDX-License-Identifier: Apache-2.0 */
/* findings.c: see findings.h. */
#include "engine/check/findings.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/memory.h"
#include "engine/link/reply.h"

static const char *const result_names[] = {[TOW_FINDING_PASS] = "pass",
                                           [TOW_FINDING_WARNING] = "warning",
                                           [TOW_FINDING_FAILURE] = "failure",
                                           [TOW_FINDING_SKIPPED] = "skipped"};

void tow_findings_clear(tow_findings_t *findings)
{
    for (size_t i = 0; i < findings->count; i++) {
        free(findings->items[i].facts);
        free(findings->items[i].advice);
    }
    findings->count = 0;
}

static void add(tow_findings_t *findings, const char *name, tow_finding_result_t result,
                tow_error_code_t code, char *advice, const char *format, va_list arguments)
{
    char facts[2048];

    assert(findings->count < TOW_FINDINGS_MOST);
    vsnprintf(facts, sizeof facts, format, arguments);
    findings->items[findings->count++] =
        (tow_finding_t){name, result, code, tow_strdup(facts), advice ? advice : tow_strdup("")};
}

#define ADD(result, code, advice)                                                                  \
    do {                                                                                           \
        va_list arguments;                                                                         \
                                                                                                   \
        va_start(arguments, format);                                                               \
        add(findings, name, (result), (code), (advice), format, arguments);                        \
        va_end(arguments);                                                                         \
    } while (0)

void tow_find_pass(tow_findings_t *findings, const char *name, const char *format, ...)
{
    ADD(TOW_FINDING_PASS, TOW_OK, NULL);
}

void tow_find_skipped(tow_findings_t *findings, const char *name, const char *format, ...)
{
    ADD(TOW_FINDING_SKIPPED, TOW_OK, NULL);
}

void tow_find_warning(tow_findings_t *findings, const char *name, char *advice, const char *format,
                      ...)
{
    ADD(TOW_FINDING_WARNING, TOW_OK, advice);
}

void tow_find_failure(tow_findings_t *findings, const char *name, tow_error_code_t code,
                      char *advice, const char *format, ...)
{
    ADD(TOW_FINDING_FAILURE, code, advice);
}

void tow_find_error(tow_findings_t *findings, const char *name, const tow_error_t *error)
{
    const char *last = NULL;

    for (const char *at = error->message; (at = strstr(at, "; ")); at += 2)
        last = at;
    tow_find_failure(findings, name, error->code, last ? tow_strdup(last + 2) : NULL, "%.*s",
                     (int)(last ? (size_t)(last - error->message) : strlen(error->message)),
                     error->message);
}

uint32_t tow_findings_count(const tow_findings_t *findings, tow_finding_result_t result)
{
    uint32_t count = 0;

    for (size_t i = 0; i < findings->count; i++)
        count += findings->items[i].result == result;
    return count;
}

bool tow_findings_judge(const tow_findings_t *findings, tow_error_t *error)
{
    for (size_t i = 0; i < findings->count; i++) {
        const tow_finding_t *finding = &findings->items[i];

        if (finding->result == TOW_FINDING_FAILURE)
            return tow_fail(error, finding->code, "%s%s%s", finding->facts,
                            *finding->advice ? "; " : "", finding->advice);
    }
    return true;
}

void tow_findings_append(const tow_findings_t *findings, bson_t *out)
{
    bson_t list, item;

    bson_append_array_begin(out, "checks", -1, &list);
    for (size_t i = 0; i < findings->count; i++) {
        const tow_finding_t *finding = &findings->items[i];
        char key[24];

        snprintf(key, sizeof key, "%zu", i);
        bson_append_document_begin(&list, key, -1, &item);
        bson_append_utf8(&item, "name", -1, finding->name, -1);
        bson_append_utf8(&item, "result", -1, result_names[finding->result], -1);
        tow_append_text(&item, "facts", finding->facts);
        tow_append_text(&item, "advice", finding->advice);
        bson_append_int32(&item, "exitStatus", -1, (int32_t)finding->code);
        bson_append_document_end(&list, &item);
    }
    bson_append_array_end(out, &list);
}
