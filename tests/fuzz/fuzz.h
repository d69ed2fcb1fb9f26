/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz.h: what the fuzz targets share. Each target is one file with one LLVMFuzzerTestOneInput; a
 * property that does not hold ends it with abort, which the fuzzer keeps as a finding. */
#ifndef TOW_FUZZ_H
#define TOW_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bson/bson.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Not assert: it must hold also where NDEBUG is set, and say what it is about. */
#define HOLDS(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition);         \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* The bytes of an input, taken one after another; zeros behind their end. */
typedef struct {
    const uint8_t *data;
    size_t left;
} fuzz_bytes_t;

static inline uint8_t fuzz_byte(fuzz_bytes_t *bytes)
{
    if (!bytes->left)
        return 0;
    bytes->left--;
    return *bytes->data++;
}

static inline uint64_t fuzz_number(fuzz_bytes_t *bytes, unsigned length)
{
    uint64_t number = 0;

    while (length--)
        number = number << 8 | fuzz_byte(bytes);
    return number;
}

/* At most `most` bytes, by the length that stands before them. */
static inline size_t fuzz_part(fuzz_bytes_t *bytes, size_t most, const uint8_t **out)
{
    size_t length = fuzz_byte(bytes);

    if (length > most)
        length = most;
    if (length > bytes->left)
        length = bytes->left;
    *out = bytes->data;
    bytes->data += length;
    bytes->left -= length;
    return length;
}

#endif
