/* SPDX-License-Identifier: Apache-2.0 */
/* number.c: see number.h. */
#include "engine/state/number.h"

#include <math.h>

enum {
    DECIMAL_BIAS = 6176,
    DECIMAL_DIGITS = 34,
    LIMBS = 96 /* of 32 bits; the longest product below has less than 2,300 bits */
};

typedef struct {
    uint32_t limb[LIMBS]; /* least first */
    int count;
} long_t;

static int sign_of(int64_t difference)
{
    return (difference > 0) - (difference < 0);
}

static int trailing_zero_bits(tow_wide_t value)
{
    return (uint64_t)value ? __builtin_ctzll((uint64_t)value)
                           : 64 + __builtin_ctzll((uint64_t)(value >> 64));
}

/* Whether coefficient * 10^exponent is exactly a double. The powers of two never matter: they stay
 * far inside a double's exponents once the powers of five have gone. */
static bool exact_double(tow_wide_t coefficient, int exponent, double *out)
{
    const tow_wide_t limit = (tow_wide_t)1 << 53;
    int shift;

    /* 5^49 has more bits than a coefficient, 5^23 more than a double. */
    if (exponent < -48 || exponent > 22)
        return false;
    for (int i = exponent; i < 0; i++) {
        if (coefficient % 5)
            return false;
        coefficient /= 5;
    }
    shift = trailing_zero_bits(coefficient);
    coefficient >>= shift;
    for (int i = 0; i < exponent && coefficient < limit; i++)
        coefficient *= 5;
    if (coefficient >= limit)
        return false;
    *out = ldexp((double)(uint64_t)coefficient, shift + exponent);
    return true;
}

static tow_number_t reduce_double(double value)
{
    tow_number_t number = {.rank = TOW_RANK_FINITE};

    if (isnan(value)) {
        number.rank = TOW_RANK_NAN;
    } else if (isinf(value)) {
        number.rank = value < 0 ? TOW_RANK_MINUS_INFINITY : TOW_RANK_INFINITY;
    } else if (value >= -0x1p63 && value < 0x1p63 && value == trunc(value)) {
        number.form = TOW_FORM_INTEGER;
        number.integer = (int64_t)value;
    } else {
        number.form = TOW_FORM_DOUBLE;
        number.binary = value;
    }
    return number;
}

static tow_wide_t power_of_ten(int exponent)
{
    tow_wide_t power = 1;

    while (exponent-- > 0)
        power *= 10;
    return power;
}

static tow_number_t reduce_decimal(uint64_t low, uint64_t high)
{
    tow_number_t number = {.rank = TOW_RANK_FINITE, .negative = high >> 63};
    tow_wide_t coefficient;
    int exponent;
    double binary;

    if ((high >> 58 & 0x1f) == 0x1f) {
        number.rank = TOW_RANK_NAN;
        return number;
    }
    if ((high >> 58 & 0x1f) == 0x1e) {
        number.rank = number.negative ? TOW_RANK_MINUS_INFINITY : TOW_RANK_INFINITY;
        return number;
    }
    /* Coefficients of more than 34 digits, which the second layout always has, stand for zero. */
    coefficient = (tow_wide_t)(high & 0x1ffffffffffffull) << 64 | low;
    if ((high >> 61 & 3) == 3 || coefficient >= power_of_ten(DECIMAL_DIGITS))
        coefficient = 0;
    number.form = TOW_FORM_INTEGER;
    if (coefficient == 0)
        return number;
    exponent = (int)(high >> 49 & 0x3fff) - DECIMAL_BIAS;
    for (; coefficient % 10 == 0; coefficient /= 10)
        exponent++;

    if (exponent >= 0 && exponent <= 18 && coefficient <= UINT64_MAX) {
        tow_wide_t magnitude = coefficient * power_of_ten(exponent);

        if (magnitude < (tow_wide_t)1 << 63 ||
            (number.negative && magnitude == (tow_wide_t)1 << 63)) {
            number.integer =
                (int64_t)(number.negative ? -(uint64_t)magnitude : (uint64_t)magnitude);
            return number;
        }
    }
    if (exact_double(coefficient, exponent, &binary)) {
        number.form = TOW_FORM_DOUBLE;
        number.binary = number.negative ? -binary : binary;
        return number;
    }
    number.form = TOW_FORM_DECIMAL;
    number.coefficient = coefficient;
    number.exponent = exponent;
    return number;
}

tow_number_t tow_number_of(tow_value_t value)
{
    tow_number_t number = {.rank = TOW_RANK_FINITE, .form = TOW_FORM_INTEGER};
    uint64_t bits;
    double binary;

    switch (value.type) {
    case BSON_TYPE_INT32:
        number.integer = (int32_t)tow_read_u32(value.data);
        return number;
    case BSON_TYPE_INT64:
        number.integer = (int64_t)tow_read_u64(value.data);
        return number;
    case BSON_TYPE_DOUBLE:
        bits = tow_read_u64(value.data);
        memcpy(&binary, &bits, sizeof binary);
        return reduce_double(binary);
    default:
        return reduce_decimal(tow_read_u64(value.data), tow_read_u64(value.data + 8));
    }
}

static int number_sign(const tow_number_t *number)
{
    switch (number->form) {
    case TOW_FORM_INTEGER:
        return sign_of(number->integer);
    case TOW_FORM_DOUBLE:
        return number->binary < 0 ? -1 : 1;
    default:
        return number->negative ? -1 : 1;
    }
}

static int count_digits(tow_wide_t value)
{
    int digits = 0;

    for (; value; value /= 10)
        digits++;
    return digits;
}

/* Both are not zero. With as many digits on both sides the coefficients compare as
 * the numbers do. */
static int compare_decimal_magnitudes(tow_wide_t a, int a_exponent, tow_wide_t b, int b_exponent)
{
    int a_digits = count_digits(a), b_digits = count_digits(b);

    if (a_exponent + a_digits != b_exponent + b_digits)
        return a_exponent + a_digits < b_exponent + b_digits ? -1 : 1;
    a *= power_of_ten(DECIMAL_DIGITS - a_digits);
    b *= power_of_ten(DECIMAL_DIGITS - b_digits);
    return (a > b) - (a < b);
}

static void long_set(long_t *number, tow_wide_t value)
{
    for (number->count = 0; value; value >>= 32)
        number->limb[number->count++] = (uint32_t)value;
}

static void long_multiply(long_t *number, uint32_t factor)
{
    uint64_t carry = 0;

    for (int i = 0; i < number->count; i++) {
        carry += (uint64_t)number->limb[i] * factor;
        number->limb[i] = (uint32_t)carry;
        carry >>= 32;
    }
    if (carry)
        number->limb[number->count++] = (uint32_t)carry;
}

static void long_scale(long_t *number, int fives, int twos)
{
    for (; fives >= 13; fives -= 13)
        long_multiply(number, 1220703125); /* 5^13 */
    for (; fives > 0; fives--)
        long_multiply(number, 5);
    for (; twos >= 31; twos -= 31)
        long_multiply(number, 1u << 31);
    long_multiply(number, 1u << twos);
}

static int long_compare(const long_t *a, const long_t *b)
{
    if (a->count != b->count)
        return a->count < b->count ? -1 : 1;
    for (int i = a->count - 1; i >= 0; i--)
        if (a->limb[i] != b->limb[i])
            return a->limb[i] < b->limb[i] ? -1 : 1;
    return 0;
}

/* mantissa * 2^e against coefficient * 10^x, with every negative power moved to the other side. */
static int compare_double_decimal(double binary, tow_wide_t coefficient, int exponent)
{
    int top = exponent + count_digits(coefficient), binary_exponent, twos;
    double mantissa = frexp(fabs(binary), &binary_exponent);
    long_t left, right;

    /* No double reaches 10^309, and none but zero lies below 10^-324. */
    if (top > 309)
        return -1;
    if (top <= -324)
        return 1;
    long_set(&left, (uint64_t)ldexp(mantissa, 53));
    long_set(&right, coefficient);
    twos = binary_exponent - 53 - exponent;
    long_scale(&left, exponent < 0 ? -exponent : 0, twos > 0 ? twos : 0);
    long_scale(&right, exponent > 0 ? exponent : 0, twos < 0 ? -twos : 0);
    return long_compare(&left, &right);
}

static int compare_integer_double(int64_t integer, double binary)
{
    int64_t whole;

    if (binary >= 0x1p63)
        return -1;
    if (binary < -0x1p63)
        return 1;
    whole = (int64_t)binary;
    if (integer != whole)
        return integer < whole ? -1 : 1;
    /* The double is not integral, or it would have become an integer: the fraction decides. */
    return binary > 0 ? -1 : 1;
}

static int compare_decimal_to(const tow_number_t *a, const tow_number_t *b)
{
    int sign = number_sign(a), order;
    tow_wide_t magnitude;

    if (b->form == TOW_FORM_DOUBLE) {
        order = -compare_double_decimal(b->binary, a->coefficient, a->exponent);
    } else if (b->form == TOW_FORM_DECIMAL) {
        order =
            compare_decimal_magnitudes(a->coefficient, a->exponent, b->coefficient, b->exponent);
    } else {
        magnitude = b->integer < 0 ? -(uint64_t)b->integer : (uint64_t)b->integer;
        order = compare_decimal_magnitudes(a->coefficient, a->exponent, magnitude, 0);
    }
    return sign * order;
}

int tow_number_compare(const tow_number_t *a, const tow_number_t *b)
{
    if (a->rank != b->rank)
        return a->rank < b->rank ? -1 : 1;
    if (a->rank != TOW_RANK_FINITE)
        return 0;
    if (a->form == TOW_FORM_INTEGER && b->form == TOW_FORM_INTEGER)
        return (a->integer > b->integer) - (a->integer < b->integer);
    if (number_sign(a) != number_sign(b))
        return number_sign(a) < number_sign(b) ? -1 : 1;
    if (a->form == TOW_FORM_DECIMAL)
        return compare_decimal_to(a, b);
    if (b->form == TOW_FORM_DECIMAL)
        return -compare_decimal_to(b, a);
    if (a->form == TOW_FORM_INTEGER)
        return compare_integer_double(a->integer, b->binary);
    if (b->form == TOW_FORM_INTEGER)
        return -compare_integer_double(b->integer, a->binary);
    return (a->binary > b->binary) - (a->binary < b->binary);
}

size_t tow_number_encode(const tow_number_t *number, uint8_t out[TOW_NUMBER_BYTES])
{
    uint64_t word;
    uint32_t exponent;

    out[0] = (uint8_t)number->rank;
    if (number->rank != TOW_RANK_FINITE)
        return 1;
    out[1] = (uint8_t)number->form;
    if (number->form == TOW_FORM_DECIMAL) {
        out[2] = number->negative;
        word = BSON_UINT64_TO_LE((uint64_t)number->coefficient);
        memcpy(out + 3, &word, 8);
        word = BSON_UINT64_TO_LE((uint64_t)(number->coefficient >> 64));
        memcpy(out + 11, &word, 8);
        exponent = BSON_UINT32_TO_LE((uint32_t)number->exponent);
        memcpy(out + 19, &exponent, 4);
        return 23;
    }
    if (number->form == TOW_FORM_DOUBLE)
        memcpy(&word, &number->binary, sizeof word);
    else
        word = (uint64_t)number->integer;
    word = BSON_UINT64_TO_LE(word);
    memcpy(out + 2, &word, 8);
    return 10;
}
