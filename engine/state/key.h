/* SPDX-License-Identifier: Apache-2.0 */
/* key.h: `_id` values as the server sees them: order, equality across numeric types, hash.
 *
 * Canonical form: a byte string equal for two `_id`s exactly when a server's _id index with simple
 * collation holds them for the same key (1, 1.0, NumberLong(1), Decimal 1.00; -0.0 and 0; all NaNs;
 * also nested in documents and arrays, where field names and order count). What is nested deeper
 * than any server stores (TOW_NESTING_MOST), and what cannot be read, counts by its bytes. */
#ifndef TOW_STATE_KEY_H
#define TOW_STATE_KEY_H

#include "engine/base/memory.h"
#include "engine/state/value.h"

/* Server order with simple collation over all BSON types (MinKey, null/undefined, numbers, string/
 * symbol, object, array, binary, ObjectId, bool, date, timestamp, regex, dbpointer, code, code with
 * scope, MaxKey). Total: <0, 0, >0; 0 exactly when the canonical forms are equal. */
int tow_value_compare(tow_value_t a, tow_value_t b);
int tow_bson_value_compare(const bson_value_t *a, const bson_value_t *b);

/* Appends the canonical form. */
void tow_value_canonical(tow_value_t value, tow_buffer_t *out);
/* 64-bit hash of the canonical form (XXH3). No allocation for ObjectId, ints, strings, binary. */
uint64_t tow_value_hash(tow_value_t value);

#endif
