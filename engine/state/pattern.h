/* SPDX-License-Identifier: Apache-2.0 */
/* pattern.h: one pattern of a filter: db, db.*, db.collection, with regular expressions between
 * slashes in the place of a name; and the databases that no pattern takes. */
#ifndef TOW_STATE_PATTERN_H
#define TOW_STATE_PATTERN_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "engine/base/error.h"

extern const char *const tow_internal_databases[]; /* NULL at the end */
/* `own`: the job's own database, or NULL. */
bool tow_pattern_is_internal(const char *database, const char *own);

/* A name, or a regular expression for names; neither: every name. */
typedef struct {
    char *name;
    pcre2_code *regex;
} tow_pattern_name_t;

typedef struct {
    char *text; /* "db", "db.collection", "/regex/i./regex/" … */
    tow_pattern_name_t database, collection;
} tow_pattern_t;

/* *out is the caller's when true. TOW_ERROR_OPTION: empty, "$" in the name, an internal database,
 * or an expression that is not valid. */
bool tow_pattern_parse(const char *own, const char *text, tow_pattern_t *out, tow_error_t *error);
void tow_pattern_clear(tow_pattern_t *pattern);
bool tow_pattern_is_any(const tow_pattern_name_t *name);
bool tow_pattern_matches(const tow_pattern_name_t *name, const char *text);

#endif
