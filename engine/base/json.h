/* SPDX-License-Identifier: Apache-2.0 */
/* json.h: the one way JSON is written: compact, in the order of the calls, with commas, quotes and
 * points in their places whatever the locale and whatever bytes a server put into a name. */
#ifndef TOW_BASE_JSON_H
#define TOW_BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/memory.h"

/* A text that grows. {0} is empty. The caller closes what it opened. */
typedef struct {
    tow_buffer_t text;
    bool comma; /* a value stands before the next one */
} tow_json_t;

/* In all of them `name` is the field's name, a literal; NULL: an element of an array,
 * or the whole. */
void tow_json_begin(tow_json_t *json, const char *name); /* an object */
void tow_json_end(tow_json_t *json);
void tow_json_begin_array(tow_json_t *json, const char *name);
void tow_json_end_array(tow_json_t *json);

void tow_json_put_text(tow_json_t *json, const char *name, const char *text); /* NULL: null */
void tow_json_put_flag(tow_json_t *json, const char *name, bool value);
void tow_json_put_count(tow_json_t *json, const char *name, uint64_t value); /* all 64 bits */
void tow_json_put_integer(tow_json_t *json, const char *name, int64_t value);
/* With so many decimals; null when it is not finite, since JSON has no NaN. */
void tow_json_put_number(tow_json_t *json, const char *name, double value, int decimals);
void tow_json_put_null(tow_json_t *json, const char *name);
void tow_json_put_json(tow_json_t *json, const char *name, const char *value);
void tow_json_put_fields(tow_json_t *json, const char *object); /* those of an object, into this */

/* The text, owned by the caller, and *json empty again; the second with a newline. */
char *tow_json_take(tow_json_t *json);
char *tow_json_take_line(tow_json_t *json);

/* A text as a JSON string with its quotes, and JSON as it is. Characters that could move a cursor
 * (see text.h) become \uNNNN, and bytes that are not UTF-8, as of a message that was cut where its
 * room ended, \ufffd. Owned by the caller. */
char *tow_json_text(const char *text);
char *tow_json_printable(const char *json);

#endif
