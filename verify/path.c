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

/* Appends the rest of the path. Where one document has a field that the other has not at this
 * place, that field is the difference, also when it stands elsewhere: order counts. */
static bool walk(tow_value_t source, tow_value_t destination, tow_buffer_t *path)
{
    bson_iter_t left, right;

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
        if (same_bytes(a, b))
            continue;
        append_step(path, bson_iter_key(&left));
        if (a.type == b.type && (a.type == BSON_TYPE_DOCUMENT || a.type == BSON_TYPE_ARRAY))
            walk(a, b, path);
        return true;
    }
}

char *tow_verify_path(const bson_t *source, const bson_t *destination)
{
    tow_value_t a = {BSON_TYPE_DOCUMENT, source->len, bson_get_data(source)};
    tow_value_t b = {BSON_TYPE_DOCUMENT, destination->len, bson_get_data(destination)};
    tow_buffer_t path = {0};

    if (same_bytes(a, b) || !walk(a, b, &path)) {
        tow_buffer_free(&path);
        return NULL;
    }
    tow_buffer_append(&path, "", 1);
    return (char *)path.data;
}
