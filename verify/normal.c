/* SPDX-License-Identifier: Apache-2.0 */
/* normal.c: documents without what a mode of comparison ignores.
 *
 * Ignoring the order of fields, a document's normal form is the same document with its fields
 * sorted by name, at every depth; fields of one name keep their order. Ignoring numeric types, it
 * is a stream like BSON in which every number is written as its length (4 bytes) and the canonical
 * bytes of its value, so that two streams are the same exactly when nothing but types of equal
 * numbers differs.
 *
 * In either, what is nested deeper than any server stores keeps its bytes (tow_value_is_nest). */
#include <stdlib.h>
#include <string.h>

#include "verify/internal.h"

typedef struct {
    const char *name;
    tow_value_t value;
    size_t place;
} field_t;

static bool is_number(tow_value_t value)
{
    return value.type == BSON_TYPE_INT32 || value.type == BSON_TYPE_INT64 ||
           value.type == BSON_TYPE_DOUBLE || value.type == BSON_TYPE_DECIMAL128;
}

static int by_name(const void *left, const void *right)
{
    const field_t *a = left, *b = right;
    int order = strcmp(a->name, b->name);

    return order ? order : (a->place > b->place) - (a->place < b->place);
}

/* The fields in the order of the normal form; freed by the caller. False: malformed. */
static bool list_fields(tow_verify_mode_t mode, tow_value_t document, field_t **out,
                        size_t *out_count)
{
    field_t *fields = NULL;
    size_t count = 0;
    bson_iter_t iter;

    if (!bson_iter_init_from_data(&iter, document.data, document.length))
        return false;
    while (bson_iter_next(&iter)) {
        if ((count & (count - 1)) == 0)
            fields = tow_realloc(fields, (count ? count * 2 : 1) * sizeof *fields);
        fields[count] = (field_t){bson_iter_key(&iter), tow_value_of(&iter), count};
        count++;
    }
    if (iter.err_off) {
        free(fields);
        return false;
    }
    if (mode == TOW_VERIFY_FIELD_ORDER && document.type == BSON_TYPE_DOCUMENT && count > 1)
        qsort(fields, count, sizeof *fields, by_name);
    *out = fields;
    *out_count = count;
    return true;
}

static void put_length(tow_buffer_t *out, size_t at, size_t length)
{
    uint32_t bytes = BSON_UINT32_TO_LE((uint32_t)length);

    memcpy(out->data + at, &bytes, sizeof bytes);
}

static bool put_document(tow_verify_mode_t mode, tow_value_t document, unsigned depth,
                         tow_buffer_t *out);

static bool put_value(tow_verify_mode_t mode, tow_value_t value, unsigned depth, tow_buffer_t *out)
{
    size_t at;

    if (tow_value_is_nest(value, depth))
        return put_document(mode, value, depth + 1, out);
    if (mode != TOW_VERIFY_NUMERIC_TYPE || !is_number(value)) {
        tow_buffer_append(out, value.data, value.length);
        return true;
    }
    at = out->length;
    tow_buffer_extend(out, sizeof(uint32_t));
    tow_value_canonical(value, out);
    put_length(out, at, out->length - at);
    return true;
}

static bool put_document(tow_verify_mode_t mode, tow_value_t document, unsigned depth,
                         tow_buffer_t *out)
{
    field_t *fields;
    size_t count, at = out->length;
    bool ok = true;

    if (!list_fields(mode, document, &fields, &count))
        return false;
    tow_buffer_extend(out, sizeof(uint32_t));
    for (size_t i = 0; ok && i < count; i++) {
        uint8_t type = fields[i].value.type;

        if (mode == TOW_VERIFY_NUMERIC_TYPE && is_number(fields[i].value))
            type = BSON_TYPE_DOUBLE;
        tow_buffer_append(out, &type, 1);
        tow_buffer_append(out, fields[i].name, strlen(fields[i].name) + 1);
        ok = put_value(mode, fields[i].value, depth, out);
    }
    tow_buffer_append(out, "", 1);
    put_length(out, at, out->length - at);
    free(fields);
    return ok;
}

bool tow_verify_normalize(tow_verify_mode_t mode, const bson_t *document, tow_buffer_t *out)
{
    tow_value_t whole = {BSON_TYPE_DOCUMENT, document->len, bson_get_data(document)};
    size_t length = out->length;

    if (mode == TOW_VERIFY_BYTES) {
        tow_buffer_append(out, whole.data, whole.length);
        return true;
    }
    if (put_document(mode, whole, 0, out))
        return true;
    out->length = length;
    return false;
}

tow_hash_t tow_verify_hash(tow_verify_mode_t mode, uint64_t seed, const bson_t *document,
                           tow_buffer_t *scratch)
{
    tow_buffer_clear(scratch);
    /* What cannot be taken apart is compared by its bytes. */
    if (mode == TOW_VERIFY_BYTES || !tow_verify_normalize(mode, document, scratch))
        return tow_digest_hash(bson_get_data(document), document->len, seed);
    return tow_digest_hash(scratch->data, scratch->length, seed);
}
