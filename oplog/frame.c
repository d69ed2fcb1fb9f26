/* SPDX-License-Identifier: Apache-2.0 */
/* frame.c: see frame.h. A frame on disk, little-endian:
 *
 *   offset  bytes  meaning
 *   0       4      magic "TwF1"
 *   4       4      length of the token's BSON
 *   8       4      length of the compressed records
 *   12      4      length of the records
 *   16      4      count of records
 *   20      4      zero
 *   24      8      cluster time of the last event
 *   32      8      XXH64 of bytes 0–31, token and compressed records
 *   40      …      token, compressed records (one zstd frame) */
#include "oplog/frame.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

enum { SUMMED_BYTES = 32, LENGTH_MOST = 256 * 1024 * 1024 };

static const char magic[4] = {'T', 'w', 'F', '1'};

static void put32(uint8_t *at, uint32_t value)
{
    value = BSON_UINT32_TO_LE(value);
    memcpy(at, &value, sizeof value);
}

static void put64(uint8_t *at, uint64_t value)
{
    value = BSON_UINT64_TO_LE(value);
    memcpy(at, &value, sizeof value);
}

static uint32_t get32(const uint8_t *at)
{
    uint32_t value;

    memcpy(&value, at, sizeof value);
    return BSON_UINT32_FROM_LE(value);
}

static uint64_t get64(const uint8_t *at)
{
    uint64_t value;

    memcpy(&value, at, sizeof value);
    return BSON_UINT64_FROM_LE(value);
}

static bool read_fully(int file, void *out, size_t length, uint64_t offset)
{
    uint8_t *at = out;

    while (length) {
        ssize_t got = pread(file, at, length, (off_t)offset);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        at += got;
        offset += (uint64_t)got;
        length -= (size_t)got;
    }
    return true;
}

static bool parse_head(const uint8_t bytes[TOW_FRAME_HEAD_BYTES], tow_frame_head_t *out)
{
    if (memcmp(bytes, magic, sizeof magic) != 0)
        return false;
    out->token_bytes = get32(bytes + 4);
    out->compressed_bytes = get32(bytes + 8);
    out->raw_bytes = get32(bytes + 12);
    out->records = get32(bytes + 16);
    out->time = get64(bytes + 24);
    out->sum = get64(bytes + 32);
    return out->token_bytes >= 5 && out->token_bytes < LENGTH_MOST &&
           out->compressed_bytes < LENGTH_MOST && out->raw_bytes < LENGTH_MOST;
}

bool tow_frame_read(int file, uint64_t offset, tow_frame_head_t *out_head, tow_buffer_t *out_body)
{
    uint8_t bytes[TOW_FRAME_HEAD_BYTES];
    XXH64_state_t *state;
    bool good;

    if (!read_fully(file, bytes, sizeof bytes, offset) || !parse_head(bytes, out_head))
        return false;
    tow_buffer_clear(out_body);
    tow_buffer_extend(out_body, (size_t)out_head->token_bytes + out_head->compressed_bytes);
    if (!read_fully(file, out_body->data, out_body->length, offset + TOW_FRAME_HEAD_BYTES))
        return false;
    state = XXH64_createState();
    XXH64_reset(state, 0);
    XXH64_update(state, bytes, SUMMED_BYTES);
    XXH64_update(state, out_body->data, out_body->length);
    good = XXH64_digest(state) == out_head->sum;
    XXH64_freeState(state);
    return good;
}

bool tow_frame_unpack(const tow_frame_head_t *head, const tow_buffer_t *body, tow_buffer_t *out)
{
    size_t length;

    tow_buffer_clear(out);
    tow_buffer_extend(out, head->raw_bytes);
    length = ZSTD_decompress(out->data, head->raw_bytes, body->data + head->token_bytes,
                             head->compressed_bytes);
    return !ZSTD_isError(length) && length == head->raw_bytes;
}

bool tow_frame_follows(int file, uint64_t offset, uint64_t size, tow_buffer_t *body)
{
    for (uint64_t at = offset + 1; at + TOW_FRAME_HEAD_BYTES <= size; at++) {
        char found[sizeof magic];
        tow_frame_head_t head;

        if (read_fully(file, found, sizeof found, at) && !memcmp(found, magic, sizeof magic) &&
            tow_frame_read(file, at, &head, body))
            return true;
    }
    return false;
}

bool tow_frame_build(tow_buffer_t *out, ZSTD_CCtx *compressor, const void *data, size_t length,
                     const tow_spool_frame_t *frame, tow_error_t *error)
{
    size_t bound = ZSTD_compressBound(length), compressed;
    XXH64_state_t *state;
    uint8_t *at;

    tow_buffer_clear(out);
    tow_buffer_extend(out, TOW_FRAME_HEAD_BYTES + frame->token->len + bound);
    at = out->data;
    memcpy(at + TOW_FRAME_HEAD_BYTES, bson_get_data(frame->token), frame->token->len);
    compressed = ZSTD_compressCCtx(compressor, at + TOW_FRAME_HEAD_BYTES + frame->token->len, bound,
                                   data, length, 1);
    if (ZSTD_isError(compressed))
        return tow_fail(error, TOW_ERROR_SPOOL, "zstd: %s", ZSTD_getErrorName(compressed));
    out->length = TOW_FRAME_HEAD_BYTES + frame->token->len + compressed;
    memset(at, 0, TOW_FRAME_HEAD_BYTES);
    memcpy(at, magic, sizeof magic);
    put32(at + 4, frame->token->len);
    put32(at + 8, (uint32_t)compressed);
    put32(at + 12, (uint32_t)length);
    put32(at + 16, frame->records);
    put64(at + 24, frame->time);
    state = XXH64_createState();
    XXH64_reset(state, 0);
    XXH64_update(state, at, SUMMED_BYTES);
    XXH64_update(state, at + TOW_FRAME_HEAD_BYTES, out->length - TOW_FRAME_HEAD_BYTES);
    put64(at + 32, XXH64_digest(state));
    XXH64_freeState(state);
    return true;
}
