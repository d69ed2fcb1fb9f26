/* SPDX-License-Identifier: Apache-2.0 */
/* memory.c: see memory.h. */
#include "engine/base/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/towline.h"

enum { BSON_ALIGNMENT = 128 };

static void (*end_process)(void); /* set once, before the first thread */

void tow_when_out_of_memory(void (*end)(void))
{
    end_process = end;
}

void tow_out_of_memory(void)
{
    if (end_process)
        end_process();
    fputs("towline: out of memory\n", stderr);
    abort();
}

static void *must(void *memory)
{
    if (!memory)
        tow_out_of_memory();
    return memory;
}

void *tow_alloc(size_t bytes)
{
    void *memory = NULL;

    /* A structure that holds a bson_t wants the alignment of one, and has a size to match. */
    if (bytes && bytes % BSON_ALIGNMENT == 0) {
        if (posix_memalign(&memory, BSON_ALIGNMENT, bytes))
            memory = NULL;
        return memset(must(memory), 0, bytes);
    }
    return must(calloc(1, bytes ? bytes : 1));
}

void *tow_realloc(void *memory, size_t bytes)
{
    return must(realloc(memory, bytes ? bytes : 1));
}

char *tow_strdup(const char *text)
{
    return must(strdup(text));
}

char *tow_format(const char *format, ...)
{
    va_list arguments;
    char *text = NULL;

    va_start(arguments, format);
    if (vasprintf(&text, format, arguments) < 0)
        text = NULL;
    va_end(arguments);
    return must(text);
}

void tow_free(void *memory)
{
    free(memory);
}

uint8_t *tow_buffer_extend(tow_buffer_t *buffer, size_t length)
{
    uint8_t *room;

    if (buffer->capacity - buffer->length < length) {
        size_t capacity = buffer->capacity ? buffer->capacity * 2 : 256;

        while (capacity < buffer->length + length)
            capacity *= 2;
        buffer->data = tow_realloc(buffer->data, capacity);
        buffer->capacity = capacity;
    }
    room = buffer->data + buffer->length;
    buffer->length += length;
    return room;
}

void tow_buffer_append(tow_buffer_t *buffer, const void *data, size_t length)
{
    if (length)
        memcpy(tow_buffer_extend(buffer, length), data, length);
}

void tow_buffer_clear(tow_buffer_t *buffer)
{
    buffer->length = 0;
}

void tow_buffer_free(tow_buffer_t *buffer)
{
    free(buffer->data);
    *buffer = (tow_buffer_t){0};
}
