/* SPDX-License-Identifier: Apache-2.0 */
/* continuation.c: see continuation.h. */
#include "oplog/continuation.h"

static bool find(const tow_log_end_t *end, uint64_t hash, size_t *out_at)
{
    for (size_t i = 0; i < end->count; i++)
        if (end->hashes[i] == hash) {
            *out_at = i;
            return true;
        }
    return false;
}

/* None of the destination's is there any more: they have all dropped off. */
static tow_continuation_t after_all(const tow_log_end_t *source, const tow_log_end_t *destination,
                                    size_t *out_new)
{
    size_t at;

    for (size_t i = 1; i < destination->count; i++)
        if (find(source, destination->hashes[i], &at))
            return TOW_LOG_APART;
    if (!source->whole)
        return TOW_LOG_UNKNOWN;
    *out_new = source->count;
    return TOW_LOG_GOES_ON;
}

tow_continuation_t tow_log_continuation(const tow_log_end_t *source,
                                        const tow_log_end_t *destination, size_t *out_new)
{
    size_t at, shared;

    if (!destination->count || !find(source, destination->hashes[0], &at))
        return after_all(source, destination, out_new);
    shared = source->count - at < destination->count ? source->count - at : destination->count;
    for (size_t i = 0; i < shared; i++)
        if (source->hashes[at + i] != destination->hashes[i])
            return TOW_LOG_APART;
    if (shared < destination->count && !source->whole)
        return TOW_LOG_UNKNOWN;
    /* What the destination has more is older: the source's cap has dropped it. */
    for (size_t i = shared; i < destination->count; i++)
        if (find(source, destination->hashes[i], &(size_t){0}))
            return TOW_LOG_APART;
    *out_new = at;
    return TOW_LOG_GOES_ON;
}
