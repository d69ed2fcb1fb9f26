/* SPDX-License-Identifier: Apache-2.0 */
/* value.c: see value.h. */
#include "engine/state/value.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/memory.h"
#include "engine/link/reply.h"

enum { SMALL_BYTES = 256 }; /* what is built on the stack */

tow_value_t tow_value_of(const bson_iter_t *iter)
{
    const uint8_t *key = iter->raw + iter->key;
    const uint8_t *data = key + strlen((const char *)key) + 1;

    return (tow_value_t){.type = iter->raw[iter->type],
                         .length = (uint32_t)(iter->raw + iter->next_off - data),
                         .data = data};
}

bool tow_value_is_nest(tow_value_t value, unsigned depth)
{
    return (value.type == BSON_TYPE_DOCUMENT || value.type == BSON_TYPE_ARRAY) &&
           depth < TOW_NESTING_MOST;
}

bool tow_value_id(const bson_t *document, tow_value_t *out)
{
    bson_iter_t iter;

    if (!bson_iter_init_find_w_len(&iter, document, "_id", 3))
        return false;
    *out = tow_value_of(&iter);
    return true;
}

/* The value as the only field of a document, which is the way into libbson that changes no byte
 * (its own appenders sort the options of a regular expression, for one). Returns `room` or a block
 * of its own, which the caller frees when it is not `room`. */
static uint8_t *wrap(const char *key, size_t key_length, tow_value_t value, uint8_t *room,
                     size_t room_bytes, uint32_t *out_length)
{
    size_t length = 4 + 1 + key_length + 1 + value.length + 1;
    uint8_t *memory = length <= room_bytes ? room : tow_alloc(length), *at = memory;
    uint32_t little = BSON_UINT32_TO_LE((uint32_t)length);

    memcpy(at, &little, 4);
    at[4] = value.type;
    at += 5;
    memcpy(at, key, key_length);
    at += key_length;
    *at++ = 0;
    if (value.length)
        memcpy(at, value.data, value.length);
    at[value.length] = 0;
    *out_length = (uint32_t)length;
    return memory;
}

void tow_value_append(bson_t *document, const char *key, int key_length, tow_value_t value)
{
    uint8_t room[SMALL_BYTES], *memory;
    uint32_t length;
    bson_t wrapped;

    memory = wrap(key, key_length < 0 ? strlen(key) : (size_t)key_length, value, room, sizeof room,
                  &length);
    if (bson_init_static(&wrapped, memory, length))
        bson_concat(document, &wrapped);
    if (memory != room)
        free(memory);
}

void tow_value_to_bson(tow_value_t value, bson_value_t *out)
{
    uint8_t room[SMALL_BYTES], *memory;
    uint32_t length;
    bson_iter_t iter;

    memory = wrap("", 0, value, room, sizeof room, &length);
    if (value.type != BSON_TYPE_EOD && bson_iter_init_from_data(&iter, memory, length) &&
        bson_iter_next(&iter))
        bson_value_copy(bson_iter_value(&iter), out);
    else
        *out = (bson_value_t){.value_type = BSON_TYPE_EOD};
    if (memory != room)
        free(memory);
}

/* Cuts a text that does not fit, between two characters, and shows that it did. */
static void copy_cut(const char *text, size_t length, char *out, size_t size)
{
    if (length >= size) {
        length = size > 4 ? size - 4 : 0;
        while (length && ((uint8_t)text[length] & 0xc0) == 0x80)
            length--;
        snprintf(out, size, "%.*s...", (int)length, text);
        return;
    }
    memcpy(out, text, length);
    out[length] = 0;
}

void tow_value_text(tow_value_t value, char *out, size_t size)
{
    static const char prefix[] = "{ \"\" : ", suffix[] = " }";
    const size_t around = sizeof prefix - 1 + sizeof suffix - 1;
    uint8_t room[SMALL_BYTES], *memory;
    uint32_t wrapped_length;
    char *json = NULL;
    size_t length = 0;
    bson_t wrapped;

    if (size == 0)
        return;
    memory = wrap("", 0, value, room, sizeof room, &wrapped_length);
    if (value.type != BSON_TYPE_EOD && bson_init_static(&wrapped, memory, wrapped_length))
        json = bson_as_relaxed_extended_json(&wrapped, &length);
    if (json && length > around)
        copy_cut(json + sizeof prefix - 1, length - around, out, size);
    else
        snprintf(out, size, value.type == BSON_TYPE_EOD ? "(none)" : "(not printable)");
    bson_free(json);
    if (memory != room)
        free(memory);
}
