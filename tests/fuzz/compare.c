/* SPDX-License-Identifier: Apache-2.0 */
/* compare.c: three values of any BSON types. Their order is total, antisymmetric and transitive;
 * what compares equal has one canonical form and one hash, and what does not has not. A document of
 * them is like itself in every mode of the verification. */
#include "engine/state/key.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/nest.h"
#include "verify/internal.h"

enum { DEPTH_MOST = 4 };

static void append_any(bson_t *document, const char *key, fuzz_bytes_t *bytes, unsigned depth);

static void append_nested(bson_t *document, const char *key, fuzz_bytes_t *bytes, unsigned depth,
                          bool array)
{
    unsigned count = fuzz_byte(bytes) % 4;
    bson_t child;

    if (array)
        bson_append_array_begin(document, key, -1, &child);
    else
        bson_append_document_begin(document, key, -1, &child);
    for (unsigned i = 0; depth < DEPTH_MOST && i < count; i++) {
        char name[8];

        if (array)
            snprintf(name, sizeof name, "%u", i);
        else
            snprintf(name, sizeof name, "%c", "aab_"[fuzz_byte(bytes) % 4]);
        append_any(&child, name, bytes, depth + 1);
    }
    if (array)
        bson_append_array_end(document, &child);
    else
        bson_append_document_end(document, &child);
}

static void append_number(bson_t *document, const char *key, fuzz_bytes_t *bytes)
{
    static const double doubles[] = {0.0,
                                     -0.0,
                                     1.0,
                                     0.5,
                                     1e300,
                                     -1e300,
                                     5e-324,
                                     9007199254740993.0,
                                     9223372036854775808.0,
                                     -9223372036854775808.0};
    static const char *const decimals[] = {"0",
                                           "-0",
                                           "1",
                                           "1.0",
                                           "1.00",
                                           "0.5",
                                           "NaN",
                                           "Infinity",
                                           "-Infinity",
                                           "1E+6000",
                                           "1E-6000",
                                           "9223372036854775808",
                                           "9007199254740993",
                                           "0.1",
                                           "-1E-6176"};
    uint64_t bits;
    double number;
    bson_decimal128_t decimal;

    switch (fuzz_byte(bytes) % 7) {
    case 0:
        bson_append_int32(document, key, -1, (int32_t)fuzz_number(bytes, 4));
        break;
    case 1:
        bson_append_int64(document, key, -1, (int64_t)fuzz_number(bytes, 8));
        break;
    case 2:
        bits = fuzz_number(bytes, 8);
        memcpy(&number, &bits, sizeof number);
        bson_append_double(document, key, -1, number);
        break;
    case 3:
        bson_append_double(document, key, -1, doubles[fuzz_byte(bytes) % 10]);
        break;
    case 4:
        decimal.low = fuzz_number(bytes, 8);
        decimal.high = fuzz_number(bytes, 8);
        bson_append_decimal128(document, key, -1, &decimal);
        break;
    case 5:
        bson_decimal128_from_string(decimals[fuzz_byte(bytes) % 15], &decimal);
        bson_append_decimal128(document, key, -1, &decimal);
        break;
    default:
        bson_append_int64(document, key, -1, (int8_t)fuzz_byte(bytes));
        break;
    }
}

static void append_text(bson_t *document, const char *key, fuzz_bytes_t *bytes)
{
    const uint8_t *part;
    size_t length = fuzz_part(bytes, 12, &part);
    bson_oid_t oid;

    switch (fuzz_byte(bytes) % 5) {
    case 0:
        bson_append_binary(document, key, -1, (bson_subtype_t)(fuzz_byte(bytes) % 8), part,
                           (uint32_t)length);
        break;
    case 1:
        memset(&oid, 0, sizeof oid);
        memcpy(oid.bytes, part, length);
        bson_append_oid(document, key, -1, &oid);
        break;
    case 2:
        bson_append_symbol(document, key, -1, (const char *)part, (int)length);
        break;
    default:
        bson_append_utf8(document, key, -1, length ? (const char *)part : "", (int)length);
        break;
    }
}

/* Deeper than any server stores. */
static void append_deep(bson_t *document, const char *key, fuzz_bytes_t *bytes)
{
    uint32_t levels = (uint32_t)fuzz_number(bytes, 2);
    bson_type_t type = fuzz_byte(bytes) & 1 ? BSON_TYPE_DOCUMENT : BSON_TYPE_ARRAY;
    bson_t *nest = nest_new(levels, type, (int8_t)fuzz_byte(bytes));
    tow_value_t value;

    HOLDS(tow_value_id(nest, &value));
    tow_value_append(document, key, -1, value);
    bson_destroy(nest);
}

static void append_any(bson_t *document, const char *key, fuzz_bytes_t *bytes, unsigned depth)
{
    uint8_t kind = fuzz_byte(bytes) % 17;

    if (kind < 5)
        append_number(document, key, bytes);
    else if (kind < 8)
        append_text(document, key, bytes);
    else if (kind < 10)
        append_nested(document, key, bytes, depth, kind == 9);
    else if (kind == 10)
        bson_append_bool(document, key, -1, fuzz_byte(bytes) & 1);
    else if (kind == 11)
        bson_append_date_time(document, key, -1, (int64_t)fuzz_number(bytes, 8));
    else if (kind == 12)
        bson_append_timestamp(document, key, -1, (uint32_t)fuzz_number(bytes, 4),
                              (uint32_t)fuzz_number(bytes, 4));
    else if (kind == 13)
        bson_append_null(document, key, -1);
    else if (kind == 16)
        append_deep(document, key, bytes);
    else if (kind == 14)
        bson_append_minkey(document, key, -1);
    else
        bson_append_maxkey(document, key, -1);
}

static int sign(int number)
{
    return (number > 0) - (number < 0);
}

static void check_pair(tow_value_t a, tow_value_t b)
{
    tow_buffer_t left = {0}, right = {0};
    int order = sign(tow_value_compare(a, b));
    bool same;

    HOLDS(order == -sign(tow_value_compare(b, a)));
    tow_value_canonical(a, &left);
    tow_value_canonical(b, &right);
    same = left.length == right.length && !memcmp(left.data, right.data, left.length);
    HOLDS((order == 0) == same);
    if (same)
        HOLDS(tow_value_hash(a) == tow_value_hash(b));
    tow_buffer_free(&left);
    tow_buffer_free(&right);
}

/* A document is like itself in every mode of the comparison. */
static void check_document(const bson_t *document)
{
    for (int mode = TOW_VERIFY_BYTES; mode <= TOW_VERIFY_NUMERIC_TYPE; mode++) {
        tow_buffer_t scratch = {0};
        tow_hash_t hash = tow_verify_hash((tow_verify_mode_t)mode, 1, document, &scratch);

        HOLDS(hash == tow_verify_hash((tow_verify_mode_t)mode, 1, document, &scratch));
        HOLDS(!tow_verify_path((tow_verify_mode_t)mode, document, document));
        tow_buffer_free(&scratch);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_bytes_t bytes = {data, size};
    bson_t document = BSON_INITIALIZER;
    tow_value_t values[3];
    bson_iter_t iter;
    char text[64];

    for (unsigned i = 0; i < 3; i++)
        append_any(&document, (const char *[]){"a", "b", "c"}[i], &bytes, 0);
    HOLDS(bson_iter_init(&iter, &document));
    for (unsigned i = 0; i < 3; i++) {
        HOLDS(bson_iter_next(&iter));
        values[i] = tow_value_of(&iter);
        HOLDS(tow_value_compare(values[i], values[i]) == 0);
        tow_value_text(values[i], text, sizeof text);
        HOLDS(memchr(text, 0, sizeof text));
    }
    for (unsigned i = 0; i < 3; i++)
        check_pair(values[i], values[(i + 1) % 3]);
    for (unsigned i = 0; i < 6; i++) {
        static const uint8_t orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                             {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
        tow_value_t a = values[orders[i][0]], b = values[orders[i][1]], c = values[orders[i][2]];
        int first = sign(tow_value_compare(a, b)), second = sign(tow_value_compare(b, c));

        if (first <= 0 && second <= 0)
            HOLDS(sign(tow_value_compare(a, c)) == (first < second ? first : second));
    }
    check_document(&document);
    bson_destroy(&document);
    return 0;
}
