/* SPDX-License-Identifier: Apache-2.0 */
/* memory.h: allocation that ends the process when memory runs out, and a growing byte buffer. */
#ifndef TOW_BASE_MEMORY_H
#define TOW_BASE_MEMORY_H

#include <stddef.h>
#include <stdint.h>

/* Memory ran out. It aborts, as libbson does, unless the program has given something better to do;
 * that must not return, nor allocate. */
void tow_out_of_memory(void) __attribute__((noreturn));
void tow_when_out_of_memory(void (*end)(void)); /* before the first thread */

void *tow_alloc(size_t bytes); /* zeroed */
void *tow_realloc(void *memory, size_t bytes);
char *tow_strdup(const char *text);
char *tow_format(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Bytes that grow; {0} is empty. */
typedef struct {
    uint8_t *data;
    size_t length, capacity;
} tow_buffer_t;

void tow_buffer_append(tow_buffer_t *buffer, const void *data, size_t length);
uint8_t *tow_buffer_extend(tow_buffer_t *buffer,
                           size_t length);   /* room at the end, length counted */
void tow_buffer_clear(tow_buffer_t *buffer); /* keeps the room */
void tow_buffer_free(tow_buffer_t *buffer);  /* back to {0} */

#endif
