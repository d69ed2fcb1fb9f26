/* SPDX-License-Identifier: Apache-2.0 */
/* nest.h: documents nested deeper than any server stores, as foreign bytes may be. */
#ifndef TOW_UNIT_NEST_H
#define TOW_UNIT_NEST_H

#include <stdlib.h>
#include <string.h>

#include <bson/bson.h>

enum { NEST_LEVELS = 100000 };

/* {_id: {a: {a: … {a: last}}}}, by hand: libbson's own builders copy a level into the next. */
static inline bson_t *nest_new(uint32_t levels, bson_type_t type, int32_t last)
{
    enum { HEAD = 4 + 1 + 4, LEVEL = 4 + 1 + 2, VALUE = 4 };
    uint32_t length = HEAD + levels * LEVEL + VALUE + levels + 1, at = 0;
    uint8_t *bytes = malloc(length);
    bson_t *document;

    for (uint32_t level = 0; level <= levels; level++) {
        uint32_t rest = BSON_UINT32_TO_LE(length - at - level);
        const char *name = level ? "a" : "_id";

        memcpy(bytes + at, &rest, 4);
        bytes[at + 4] = level < levels ? (uint8_t)type : BSON_TYPE_INT32;
        memcpy(bytes + at + 5, name, strlen(name) + 1);
        at += 5 + (uint32_t)strlen(name) + 1;
    }
    last = (int32_t)BSON_UINT32_TO_LE((uint32_t)last);
    memcpy(bytes + at, &last, VALUE);
    memset(bytes + at + VALUE, 0, levels + 1);
    document = bson_new_from_data(bytes, length);
    free(bytes);
    return document;
}

#endif
