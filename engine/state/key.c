/* SPDX-License-Identifier: Apache-2.0 */
/* key.c: the order and the equality of _ids, and their hash; see key.h. */
#include "engine/state/key.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The state of a streamed hash is only complete, and so fit for the stack, with this. */
#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

#include "engine/link/reply.h"
#include "engine/state/number.h"

enum { SMALL_BYTES = 256 }; /* what is built on the stack */

/* In the server's order. `undefined` and null are neighbours but two different keys. */
enum {
    CLASS_NONE = 1, /* no value at all: a document without an _id */
    CLASS_MIN_KEY,
    CLASS_UNDEFINED,
    CLASS_NULL,
    CLASS_NUMBER,
    CLASS_STRING,
    CLASS_OBJECT,
    CLASS_ARRAY,
    CLASS_BINARY,
    CLASS_OBJECT_ID,
    CLASS_BOOL,
    CLASS_DATE,
    CLASS_TIMESTAMP,
    CLASS_REGEX,
    CLASS_DBPOINTER,
    CLASS_CODE,
    CLASS_CODE_WITH_SCOPE,
    CLASS_UNKNOWN, /* a type that BSON does not have yet: by its raw bytes */
    CLASS_MAX_KEY
};

static int class_of(uint8_t type)
{
    switch (type) {
    case BSON_TYPE_EOD:
        return CLASS_NONE;
    case BSON_TYPE_MINKEY:
        return CLASS_MIN_KEY;
    case BSON_TYPE_UNDEFINED:
        return CLASS_UNDEFINED;
    case BSON_TYPE_NULL:
        return CLASS_NULL;
    case BSON_TYPE_INT32:
    case BSON_TYPE_INT64:
    case BSON_TYPE_DOUBLE:
    case BSON_TYPE_DECIMAL128:
        return CLASS_NUMBER;
    case BSON_TYPE_UTF8:
    case BSON_TYPE_SYMBOL:
        return CLASS_STRING;
    case BSON_TYPE_DOCUMENT:
        return CLASS_OBJECT;
    case BSON_TYPE_ARRAY:
        return CLASS_ARRAY;
    case BSON_TYPE_BINARY:
        return CLASS_BINARY;
    case BSON_TYPE_OID:
        return CLASS_OBJECT_ID;
    case BSON_TYPE_BOOL:
        return CLASS_BOOL;
    case BSON_TYPE_DATE_TIME:
        return CLASS_DATE;
    case BSON_TYPE_TIMESTAMP:
        return CLASS_TIMESTAMP;
    case BSON_TYPE_REGEX:
        return CLASS_REGEX;
    case BSON_TYPE_DBPOINTER:
        return CLASS_DBPOINTER;
    case BSON_TYPE_CODE:
        return CLASS_CODE;
    case BSON_TYPE_CODEWSCOPE:
        return CLASS_CODE_WITH_SCOPE;
    case BSON_TYPE_MAXKEY:
        return CLASS_MAX_KEY;
    default:
        return CLASS_UNKNOWN;
    }
}

/* A string's bytes without its length and its final NUL. */
static const uint8_t *string_of(tow_value_t value, uint32_t *out_length)
{
    *out_length = value.length >= 5 ? value.length - 5 : 0;
    return value.data + 4;
}

static int compare_bytes(const uint8_t *a, uint32_t a_length, const uint8_t *b, uint32_t b_length)
{
    uint32_t common = a_length < b_length ? a_length : b_length;
    int order = common ? memcmp(a, b, common) : 0;

    return order ? order : (a_length > b_length) - (a_length < b_length);
}

static int compare_strings(tow_value_t a, tow_value_t b)
{
    uint32_t a_length, b_length;
    const uint8_t *a_bytes = string_of(a, &a_length), *b_bytes = string_of(b, &b_length);

    return compare_bytes(a_bytes, a_length, b_bytes, b_length);
}

/* Length first, then the bytes: binary data (whose subtype stands before the bytes), DBPointers. */
static int compare_sized(tow_value_t a, tow_value_t b)
{
    if (a.length != b.length)
        return a.length < b.length ? -1 : 1;
    return memcmp(a.data, b.data, a.length);
}

static bool enter(tow_value_t value, unsigned depth, bson_iter_t *out)
{
    return tow_value_is_nest(value, depth) &&
           bson_iter_init_from_data(out, value.data, value.length);
}

static int compare_values(tow_value_t a, tow_value_t b, unsigned depth);

/* Field by field: class of the value, then name, then value; the shorter document comes first. The
 * names of an array's elements are their positions and do not count. One that is not gone into
 * comes before those that are. */
static int compare_documents(tow_value_t a, tow_value_t b, bool names, unsigned depth)
{
    bson_iter_t left, right;
    bool a_open = enter(a, depth, &left), b_open = enter(b, depth, &right);

    if (!a_open || !b_open)
        return a_open == b_open ? compare_sized(a, b) : (int)a_open - (int)b_open;
    for (;;) {
        bool more_a = bson_iter_next(&left), more_b = bson_iter_next(&right);
        tow_value_t x, y;
        int order;

        if (!more_a || !more_b)
            return (int)more_a - (int)more_b;
        x = tow_value_of(&left);
        y = tow_value_of(&right);
        if (class_of(x.type) != class_of(y.type))
            return class_of(x.type) < class_of(y.type) ? -1 : 1;
        if (names && (order = strcmp(bson_iter_key(&left), bson_iter_key(&right))) != 0)
            return order;
        if ((order = compare_values(x, y, depth + 1)) != 0)
            return order;
    }
}

/* Code with scope: total length, string, document. */
static void split_code(tow_value_t value, tow_value_t *out_code, tow_value_t *out_scope)
{
    uint32_t code_bytes = 4 + tow_read_u32(value.data + 4);

    *out_code = (tow_value_t){BSON_TYPE_CODE, code_bytes, value.data + 4};
    *out_scope = (tow_value_t){BSON_TYPE_DOCUMENT, value.length - 4 - code_bytes,
                               value.data + 4 + code_bytes};
}

static int compare_code_with_scope(tow_value_t a, tow_value_t b, unsigned depth)
{
    tow_value_t a_code, a_scope, b_code, b_scope;
    int order;

    split_code(a, &a_code, &a_scope);
    split_code(b, &b_code, &b_scope);
    order = compare_strings(a_code, b_code);
    return order ? order : compare_documents(a_scope, b_scope, true, depth);
}

static int compare_regexes(tow_value_t a, tow_value_t b)
{
    const char *left = (const char *)a.data, *right = (const char *)b.data;
    int order = strcmp(left, right);

    return order ? order : strcmp(left + strlen(left) + 1, right + strlen(right) + 1);
}

static int compare_values(tow_value_t a, tow_value_t b, unsigned depth)
{
    int class = class_of(a.type), other = class_of(b.type);

    if (class != other)
        return class < other ? -1 : 1;
    switch (class) {
    case CLASS_NONE:
    case CLASS_MIN_KEY:
    case CLASS_UNDEFINED:
    case CLASS_NULL:
    case CLASS_MAX_KEY:
        return 0;
    case CLASS_NUMBER: {
        tow_number_t left = tow_number_of(a), right = tow_number_of(b);

        return tow_number_compare(&left, &right);
    }
    case CLASS_STRING:
    case CLASS_CODE:
        return compare_strings(a, b);
    case CLASS_OBJECT:
        return compare_documents(a, b, true, depth);
    case CLASS_ARRAY:
        return compare_documents(a, b, false, depth);
    case CLASS_OBJECT_ID:
        return memcmp(a.data, b.data, 12);
    case CLASS_BOOL:
        return (int)a.data[0] - (int)b.data[0];
    case CLASS_DATE: {
        int64_t left = (int64_t)tow_read_u64(a.data), right = (int64_t)tow_read_u64(b.data);

        return (left > right) - (left < right);
    }
    case CLASS_TIMESTAMP: {
        uint64_t left = tow_read_u64(a.data), right = tow_read_u64(b.data);

        return (left > right) - (left < right);
    }
    case CLASS_REGEX:
        return compare_regexes(a, b);
    case CLASS_CODE_WITH_SCOPE:
        return compare_code_with_scope(a, b, depth);
    case CLASS_UNKNOWN:
        if (a.type != b.type)
            return a.type < b.type ? -1 : 1;
        return compare_sized(a, b);
    default: /* CLASS_BINARY, CLASS_DBPOINTER */
        return compare_sized(a, b);
    }
}

int tow_value_compare(tow_value_t a, tow_value_t b)
{
    return compare_values(a, b, 0);
}

int tow_bson_value_compare(const bson_value_t *a, const bson_value_t *b)
{
    bson_t left = BSON_INITIALIZER, right = BSON_INITIALIZER;
    tow_value_t x = {0}, y = {0};
    bson_iter_t iter;
    int order;

    if (bson_append_value(&left, "", 0, a) && bson_iter_init(&iter, &left) && bson_iter_next(&iter))
        x = tow_value_of(&iter);
    if (bson_append_value(&right, "", 0, b) && bson_iter_init(&iter, &right) &&
        bson_iter_next(&iter))
        y = tow_value_of(&iter);
    order = tow_value_compare(x, y);
    bson_destroy(&left);
    bson_destroy(&right);
    return order;
}

/* Canonical form --------------------------------------------------------------------------------*/

static size_t encode_number(tow_value_t value, uint8_t out[1 + TOW_NUMBER_BYTES])
{
    tow_number_t number = tow_number_of(value);

    out[0] = CLASS_NUMBER;
    return 1 + tow_number_encode(&number, out + 1);
}

/* What stands before a value's own bytes, and which of them count. Classes whose form is no more
 * than that are encoded and hashed without a copy. False: number, object, array,
 * code with scope. */
static bool encode_head(tow_value_t value, uint8_t head[5], size_t *out_head,
                        const uint8_t **out_body, uint32_t *out_length)
{
    int class = class_of(value.type);
    uint32_t length;

    head[0] = (uint8_t) class;
    *out_head = 1;
    switch (class) {
    case CLASS_NUMBER:
    case CLASS_OBJECT:
    case CLASS_ARRAY:
    case CLASS_CODE_WITH_SCOPE:
        return false;
    case CLASS_STRING:
    case CLASS_CODE:
        *out_body = string_of(value, out_length);
        length = BSON_UINT32_TO_LE(*out_length);
        memcpy(head + 1, &length, 4);
        *out_head = 5;
        return true;
    case CLASS_NONE:
    case CLASS_MIN_KEY:
    case CLASS_UNDEFINED:
    case CLASS_NULL:
    case CLASS_MAX_KEY:
        *out_body = NULL;
        *out_length = 0;
        return true;
    case CLASS_UNKNOWN:
        head[1] = value.type;
        *out_head = 2;
        *out_body = value.data;
        *out_length = value.length;
        return true;
    default:
        *out_body = value.data;
        *out_length = value.length;
        return true;
    }
}

static void encode_value(tow_value_t value, unsigned depth, tow_buffer_t *out);

static void encode_document(tow_value_t value, bool names, unsigned depth, tow_buffer_t *out)
{
    static const uint8_t end = 0, more = 1, closed = 2;
    uint32_t length = BSON_UINT32_TO_LE(value.length);
    bson_iter_t iter;

    if (!enter(value, depth, &iter)) {
        tow_buffer_append(out, &closed, 1);
        tow_buffer_append(out, &length, sizeof length);
        tow_buffer_append(out, value.data, value.length);
        return;
    }
    while (bson_iter_next(&iter)) {
        tow_buffer_append(out, &more, 1);
        if (names)
            tow_buffer_append(out, bson_iter_key(&iter), strlen(bson_iter_key(&iter)) + 1);
        encode_value(tow_value_of(&iter), depth + 1, out);
    }
    tow_buffer_append(out, &end, 1);
}

static void encode_value(tow_value_t value, unsigned depth, tow_buffer_t *out)
{
    uint8_t head[5], number[1 + TOW_NUMBER_BYTES];
    size_t head_length;
    const uint8_t *body;
    uint32_t length;
    tow_value_t code, scope;

    if (encode_head(value, head, &head_length, &body, &length)) {
        tow_buffer_append(out, head, head_length);
        tow_buffer_append(out, body, length);
    } else if (head[0] == CLASS_NUMBER) {
        tow_buffer_append(out, number, encode_number(value, number));
    } else {
        tow_buffer_append(out, head, 1);
        if (head[0] == CLASS_CODE_WITH_SCOPE) {
            split_code(value, &code, &scope);
            encode_value(code, depth, out);
            encode_document(scope, true, depth, out);
        } else {
            encode_document(value, head[0] == CLASS_OBJECT, depth, out);
        }
    }
}

void tow_value_canonical(tow_value_t value, tow_buffer_t *out)
{
    encode_value(value, 0, out);
}

uint64_t tow_value_hash(tow_value_t value)
{
    uint8_t room[SMALL_BYTES];
    size_t head_length;
    const uint8_t *body;
    uint32_t length;
    uint64_t hash;

    if (encode_head(value, room, &head_length, &body, &length)) {
        XXH3_state_t state;

        if (head_length + length <= sizeof room) {
            if (length)
                memcpy(room + head_length, body, length);
            return XXH3_64bits(room, head_length + length);
        }
        XXH3_64bits_reset(&state);
        XXH3_64bits_update(&state, room, head_length);
        XXH3_64bits_update(&state, body, length);
        hash = XXH3_64bits_digest(&state);
    } else if (room[0] == CLASS_NUMBER) {
        hash = XXH3_64bits(room, encode_number(value, room));
    } else {
        tow_buffer_t buffer = {0};

        tow_value_canonical(value, &buffer);
        hash = XXH3_64bits(buffer.data, buffer.length);
        tow_buffer_free(&buffer);
    }
    return hash;
}
