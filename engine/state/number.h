/* SPDX-License-Identifier: Apache-2.0 */
/* number.h: BSON numbers of any type, equal and in order as a server sees them.
 *
 * A number is brought to one of three reduced forms before anything else happens: an integer of 64
 * bits, a double that is no such integer, or a decimal that is neither. The forms do not overlap,
 * so equal numbers have equal forms whatever their types were, and no number needs to be expanded
 * into digits to be encoded. Only the order of a double and a decimal needs long arithmetic. */
#ifndef TOW_STATE_NUMBER_H
#define TOW_STATE_NUMBER_H

#include <string.h>

#include "engine/state/key.h"

enum { TOW_NUMBER_BYTES = 23 }; /* of the longest canonical form */

typedef unsigned __int128 tow_wide_t;

typedef enum {
    TOW_RANK_NAN,
    TOW_RANK_MINUS_INFINITY,
    TOW_RANK_FINITE,
    TOW_RANK_INFINITY
} tow_rank_t;
typedef enum { TOW_FORM_INTEGER, TOW_FORM_DOUBLE, TOW_FORM_DECIMAL } tow_form_t;

typedef struct {
    tow_rank_t rank;
    tow_form_t form;        /* of TOW_RANK_FINITE */
    int64_t integer;        /* TOW_FORM_INTEGER */
    double binary;          /* TOW_FORM_DOUBLE: not integral, or beyond 64 bits */
    bool negative;          /* TOW_FORM_DECIMAL */
    tow_wide_t coefficient; /* TOW_FORM_DECIMAL: not a multiple of ten */
    int exponent;
} tow_number_t;

/* Of an int32, int64, double or Decimal128. */
tow_number_t tow_number_of(tow_value_t value);
/* <0, 0, >0; all NaNs are equal, and less than anything else. */
int tow_number_compare(const tow_number_t *a, const tow_number_t *b);
/* The canonical form, equal for equal numbers; returns its length. */
size_t tow_number_encode(const tow_number_t *number, uint8_t out[TOW_NUMBER_BYTES]);

/* As they stand in BSON, aligned or not. */
static inline uint32_t tow_read_u32(const uint8_t *data)
{
    uint32_t value;

    memcpy(&value, data, sizeof value);
    return BSON_UINT32_FROM_LE(value);
}

static inline uint64_t tow_read_u64(const uint8_t *data)
{
    uint64_t value;

    memcpy(&value, data, sizeof value);
    return BSON_UINT64_FROM_LE(value);
}

#endif
