/* SPDX-License-Identifier: Apache-2.0 */
/* continuation.h: where a log goes on: which of the source's newest documents the destination
 * lacks.
 *
 * A capped collection is a log: documents are added at its new end and drop off at its old one. So
 * the destination's newest document, found among the source's, tells what is new; and if the source
 * has it no longer, nothing that the destination has can be newer than what the source has. */
#ifndef TOW_OPLOG_CONTINUATION_H
#define TOW_OPLOG_CONTINUATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The newest documents of a side, newest first, each as the hash of its _id. */
typedef struct {
    const uint64_t *hashes;
    size_t count;
    bool whole; /* the side has no older ones */
} tow_log_end_t;

typedef enum {
    TOW_LOG_GOES_ON, /* *out_new: so many of the source's newest are to be added; 0: none */
    TOW_LOG_UNKNOWN, /* older ones of the source have to be read first */
    TOW_LOG_APART    /* the two are not one log: the order differs */
} tow_continuation_t;

tow_continuation_t tow_log_continuation(const tow_log_end_t *source,
                                        const tow_log_end_t *destination, size_t *out_new);

#endif
