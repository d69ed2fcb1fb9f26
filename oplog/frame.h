/* SPDX-License-Identifier: Apache-2.0 */
/* frame.h: one block of records as it is on disk; spool.c knows in which file and where. */
#ifndef TOW_OPLOG_FRAME_H
#define TOW_OPLOG_FRAME_H

#include <zstd.h>

#include "oplog/spool.h"

enum { TOW_FRAME_HEAD_BYTES = 40 };

typedef struct {
    uint32_t token_bytes, compressed_bytes, raw_bytes, records;
    uint64_t time, sum;
} tow_frame_head_t;

/* Reads a frame's head and body, which is the token's BSON and the compressed records, and checks
 * the sum; false: short or broken. */
bool tow_frame_read(int file, uint64_t offset, tow_frame_head_t *out_head, tow_buffer_t *out_body);
/* The records of a body; false: broken. */
bool tow_frame_unpack(const tow_frame_head_t *head, const tow_buffer_t *body, tow_buffer_t *out);
/* Whether there is a whole frame anywhere after a bad one; `body` is scratch. */
bool tow_frame_follows(int file, uint64_t offset, uint64_t size, tow_buffer_t *body);
/* Makes a frame of records in *out, which is emptied first. */
bool tow_frame_build(tow_buffer_t *out, ZSTD_CCtx *compressor, const void *data, size_t length,
                     const tow_spool_frame_t *frame, tow_error_t *error) TOW_CHECK;

#endif
