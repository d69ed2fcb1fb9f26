/* key.h: `_id` values as the server sees them: order, equality across numeric types, hash.
 *
 * Canonical form: a byte string equal for two `_id`s exactly when a server's _id index with simple
 * collation holds them for the same key (1, 1.0, NumberLong(1), Decimal 1.00; -0.0 and 0; all NaNs;
 * also nested in documents and arrays, where field names and order count). What is nested deeper
 * than any server stores (TOW_NESTING_MOST), and what cannot be read, counts by its bytes. */
#ifndef TOW_STATE_KEY_H
#define TOW_STATE_KEY_H

#include <bson/bson.h>

#include "engine/base/memory.h"

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

/* Server order with simple collation over all BSON types (MinKey, null/undefined, numbers, string/
 * symbol, object, array, binary, ObjectId, bool, date, timestamp, regex, dbpointer, code, code with
 * scope, MaxKey). Total: <0, 0, >0; 0 exactly when the canonical forms are equal. */
int tow_value_compare(tow_value_t a, tow_value_t b);
int tow_bson_value_compare(const bson_value_t *a, const bson_value_t *b);

/* Appends the canonical form. */
void tow_value_canonical(tow_value_t value, tow_buffer_t *out);
/* 64-bit hash of the canonical form (XXH3). No allocation for ObjectId, ints, strings, binary. */
uint64_t tow_value_hash(tow_value_t value);

/* A short text of an `_id` for reports: relaxed extended JSON, cut to size. */
void tow_value_text(tow_value_t value, char *out, size_t size);

#endif
