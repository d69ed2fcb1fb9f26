/* SPDX-License-Identifier: Apache-2.0 */
/* bounds.h: how much one request holds, and how much it may hold, in number and in bytes.
 *
 * A server takes a command of 16 MB and a message of 48 MB, and answers a larger one with an error
 * that comes again each time, or not at all. So whatever collects statements, documents or _ids for
 * a request asks here before it adds one. A single one always fits: servers take what they can
 * store. */
#ifndef TOW_BASE_BOUNDS_H
#define TOW_BASE_BOUNDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    TOW_REQUEST_BYTES = 12 * 1024 * 1024, /* of what is collected, overhead included */
    TOW_ENTRY_OVERHEAD = 64               /* the most that an entry adds to its own bytes */
};

typedef struct {
    uint32_t count, count_most;
    size_t bytes, bytes_most;
} tow_bounds_t;

static inline tow_bounds_t tow_bounds(uint32_t count_most, size_t bytes_most)
{
    return (tow_bounds_t){.count_most = count_most, .bytes_most = bytes_most};
}

/* Whether one more of so many bytes has room. */
static inline bool tow_bounds_fit(const tow_bounds_t *bounds, size_t bytes)
{
    return bounds->count == 0 || (bounds->count < bounds->count_most &&
                                  bounds->bytes + bytes + TOW_ENTRY_OVERHEAD <= bounds->bytes_most);
}

/* Counts one more in, when it has room. */
static inline bool tow_bounds_take(tow_bounds_t *bounds, size_t bytes)
{
    if (!tow_bounds_fit(bounds, bytes))
        return false;
    bounds->count++;
    bounds->bytes += bytes + TOW_ENTRY_OVERHEAD;
    return true;
}

static inline void tow_bounds_reset(tow_bounds_t *bounds)
{
    bounds->count = 0;
    bounds->bytes = 0;
}

#endif
