/* SPDX-License-Identifier: Apache-2.0 */
/* value.h: raw BSON values: taken out of documents, put into them, shown. */
#ifndef TOW_STATE_VALUE_H
#define TOW_STATE_VALUE_H

#include <bson/bson.h>

/* A raw BSON value: borrowed bytes as they stand in a document after the field's name. */
typedef struct {
    uint8_t type; /* BSON type byte */
    uint32_t length;
    const uint8_t *data;
} tow_value_t;

tow_value_t tow_value_of(const bson_iter_t *iter);
/* Whether a value at this depth (0: a field of the document) is a document or an array to go into.
 * Below TOW_NESTING_MOST levels, where no server stores anything, one counts by its bytes: what a
 * server sends must not run a thread out of stack. */
bool tow_value_is_nest(tow_value_t value, unsigned depth);
/* The `_id` of a document; false when it has none. Fast when it stands first. */
bool tow_value_id(const bson_t *document, tow_value_t *out);
/* Appends as field `key`. */
void tow_value_append(bson_t *document, const char *key, int key_length, tow_value_t value);
/* A copy as bson_value_t (destroy with bson_value_destroy); and back (borrowing from scratch). */
void tow_value_to_bson(tow_value_t value, bson_value_t *out);
/* A short text of an `_id` for reports: relaxed extended JSON, cut to size. */
void tow_value_text(tow_value_t value, char *out, size_t size);

#endif
