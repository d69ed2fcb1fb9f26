/* SPDX-License-Identifier: Apache-2.0 */
/* json.c: see json.h. */
#include "engine/cmd/json.h"

#include <stdlib.h>

#include "engine/base/text.h"

static void copy_printable(bson_iter_t *from, bson_t *to)
{
    while (bson_iter_next(from)) {
        char *key = tow_printable(bson_iter_key(from));
        bson_iter_t inner;
        bson_t part;

        if (BSON_ITER_HOLDS_UTF8(from)) {
            char *text = tow_printable(bson_iter_utf8(from, NULL));

            bson_append_utf8(to, key, -1, text, -1);
            free(text);
        } else if (BSON_ITER_HOLDS_DOCUMENT(from) && bson_iter_recurse(from, &inner)) {
            bson_append_document_begin(to, key, -1, &part);
            copy_printable(&inner, &part);
            bson_append_document_end(to, &part);
        } else if (BSON_ITER_HOLDS_ARRAY(from) && bson_iter_recurse(from, &inner)) {
            bson_append_array_begin(to, key, -1, &part);
            copy_printable(&inner, &part);
            bson_append_array_end(to, &part);
        } else {
            bson_append_iter(to, key, -1, from);
        }
        free(key);
    }
}

bson_t *cmd_document(const char *json)
{
    bson_t *document = bson_new_from_json((const uint8_t *)json, -1, NULL), *copy;
    bson_iter_t iter;

    if (!document)
        return NULL;
    copy = bson_new();
    if (bson_iter_init(&iter, document))
        copy_printable(&iter, copy);
    bson_destroy(document);
    return copy;
}

static bool find(const bson_t *document, const char *path, bson_iter_t *out)
{
    bson_iter_t iter;

    return bson_iter_init(&iter, document) && bson_iter_find_descendant(&iter, path, out);
}

double cmd_number_of(const bson_t *document, const char *path)
{
    bson_iter_t found;

    return find(document, path, &found) && BSON_ITER_HOLDS_NUMBER(&found)
               ? bson_iter_as_double(&found)
               : -1;
}

const char *cmd_text_of(const bson_t *document, const char *path)
{
    bson_iter_t found;

    return find(document, path, &found) && BSON_ITER_HOLDS_UTF8(&found)
               ? bson_iter_utf8(&found, NULL)
               : "";
}

bool cmd_flag_of(const bson_t *document, const char *path)
{
    bson_iter_t found;

    return find(document, path, &found) && bson_iter_as_bool(&found);
}

void cmd_each(const bson_t *document, const char *path, void (*take)(void *, const bson_t *),
              void *data)
{
    bson_iter_t found, list;

    if (!find(document, path, &found) || !BSON_ITER_HOLDS_ARRAY(&found) ||
        !bson_iter_recurse(&found, &list))
        return;
    while (bson_iter_next(&list)) {
        const uint8_t *bytes;
        uint32_t length;
        bson_t item;

        if (!BSON_ITER_HOLDS_DOCUMENT(&list))
            continue;
        bson_iter_document(&list, &length, &bytes);
        if (bson_init_static(&item, bytes, length))
            take(data, &item);
    }
}

typedef struct {
    void (*print)(const bson_t *);
} printing_t;

static void print_one(void *data, const bson_t *item)
{
    ((printing_t *)data)->print(item);
}

void cmd_for_each(const bson_t *document, const char *path, void (*print)(const bson_t *))
{
    printing_t printing = {print};

    cmd_each(document, path, print_one, &printing);
}
