/* SPDX-License-Identifier: Apache-2.0 */
/* path.c: names the first field in which two documents differ. */
#include <string.h>

#include "verify/internal.h"

static void append_step(tow_buffer_t *path, const char *name)
{
    if (path->length)
        tow_buffer_append(path, ".", 1);
    tow_buffer_append(path, name, strlen(name));
}

static bool same_bytes(tow_value_t a, tow_value_t b)
{
    return a.type == b.type && a.length == b.length &&
           (a.length == 0 || memcmp(a.data, b.data, a.length) == 0);
}

static bool is_number(tow_value_t value)
{
    return value.type == BSON_TYPE_INT32 || value.type == BSON_TYPE_INT64 ||
           value.type == BSON_TYPE_DOUBLE || value.type == BSON_TYPE_DECIMAL128;
}

/* Appends the rest of the path; false: nothing differs, and nothing was appended. Where one
 * document has a field that the other has not at this place, that field is the difference, also
 * when it stands elsewhere: order counts. */
static bool walk(bool by_value, tow_value_t source, tow_value_t destination, unsigned depth,
                 tow_buffer_t *path)
{
    bson_iter_t left, right;
    size_t length;

    if (!bson_iter_init_from_data(&left, source.data, source.length) ||
        !bson_iter_init_from_data(&right, destination.data, destination.length))
        return false;
    for (;;) {
        bool more_left = bson_iter_next(&left), more_right = bson_iter_next(&right);
        tow_value_t a, b;

        if (!more_left && !more_right)
            return false;
        if (!more_left || !more_right) {
            append_step(path, bson_iter_key(more_left ? &left : &right));
            return true;
        }
        if (strcmp(bson_iter_key(&left), bson_iter_key(&right)) != 0) {
            append_step(path, bson_iter_key(&left));
            return true;
        }
        a = tow_value_of(&left);
        b = tow_value_of(&right);
        if (same_bytes(a, b) ||
            (by_value && is_number(a) && is_number(b) && tow_value_compare(a, b) == 0))
            continue;
        length = path->length;
        append_step(path, bson_iter_key(&left));
        if (a.type != b.type || !tow_value_is_nest(a, depth) ||
            walk(by_value, a, b, depth + 1, path) || !by_value)
            return true;
        path->length = length; /* all that differs in it are types of numbers */
    }
}

char *tow_verify_path(tow_verify_mode_t mode, const bson_t *source, const bson_t *destination)
{
    tow_value_t a = {BSON_TYPE_DOCUMENT, source->len, bson_get_data(source)};
    tow_value_t b = {BSON_TYPE_DOCUMENT, destination->len, bson_get_data(destination)};
    tow_buffer_t path = {0}, left = {0}, right = {0};

    if (mode == TOW_VERIFY_FIELD_ORDER && tow_verify_normalize(mode, source, &left) &&
        tow_verify_normalize(mode, destination, &right)) {
        a = (tow_value_t){BSON_TYPE_DOCUMENT, (uint32_t)left.length, left.data};
        b = (tow_value_t){BSON_TYPE_DOCUMENT, (uint32_t)right.length, right.data};
    }
    if (same_bytes(a, b) || !walk(mode == TOW_VERIFY_NUMERIC_TYPE, a, b, 0, &path))
        tow_buffer_free(&path);
    else
        tow_buffer_append(&path, "", 1);
    tow_buffer_free(&left);
    tow_buffer_free(&right);
    return (char *)path.data;
}
