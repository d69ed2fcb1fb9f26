/* SPDX-License-Identifier: Apache-2.0 */
/* spool.h: an append-only file of dirty keys on disk: segments of zstd frames, each with its
 * lengths, record count, last token and an XXH64 of what it holds.
 *
 * A frame is found again by its place {segment, offset}. Frames are appended in order and released
 * from the front; a segment (64 MB) is deleted when all its frames are released. On opening, a torn
 * last frame is cut off; a broken frame in the middle is TOW_ERROR_SPOOL naming file and offset.
 *
 * Threads: one appender, one reader and one releaser may work at the same time. */
#ifndef TOW_OPLOG_SPOOL_H
#define TOW_OPLOG_SPOOL_H

#include <bson/bson.h>

#include "engine/base/memory.h"
#include "engine/link/link.h"

typedef struct tow_spool tow_spool_t;
typedef struct {
    uint32_t segment;
    uint64_t offset;
} tow_spool_place_t;

/* What stands in a frame's head besides lengths and checksum. */
typedef struct {
    uint32_t records;
    tow_optime_t time;   /* of the last event */
    const bson_t *token; /* resume token of the last event */
} tow_spool_frame_t;

/* Opens the folder `directory`/towline-<job> (made when missing, mode 0700), `id` marks the job's
 * run series: frames written under another id are discarded. TOW_ERROR_SPOOL: cannot be made,
 * another process uses it (flock), or broken. */
tow_spool_t *tow_spool_open(const char *directory, const char *job, const char *id,
                            tow_error_t *error);
/* Calls `each` for every frame on disk, oldest first (at most once, before the first append). */
typedef bool (*tow_spool_each_fn)(void *data, tow_spool_place_t place,
                                  const tow_spool_frame_t *frame, tow_error_t *error);
bool tow_spool_each(tow_spool_t *spool, tow_spool_each_fn each, void *data,
                    tow_error_t *error) TOW_CHECK;
/* Appends one frame of `length` raw bytes; buffered by the kernel until synced. A disk that is full
 * leaves no half frame behind. */
bool tow_spool_append(tow_spool_t *spool, const void *data, size_t length,
                      const tow_spool_frame_t *frame, tow_spool_place_t *out_place,
                      tow_error_t *error) TOW_CHECK;
bool tow_spool_sync(tow_spool_t *spool,
                    tow_error_t *error) TOW_CHECK; /* fdatasync; cheap if clean */
/* Reads a frame back; checks the checksum. `out` is cleared first. */
bool tow_spool_read(tow_spool_t *spool, tow_spool_place_t place, tow_buffer_t *out,
                    tow_error_t *error) TOW_CHECK;
/* Everything before `place` is needed no more. */
void tow_spool_release(tow_spool_t *spool, tow_spool_place_t place);
/* Throws all frames away (a new stream begins elsewhere). */
bool tow_spool_clear(tow_spool_t *spool, tow_error_t *error) TOW_CHECK;
uint64_t tow_spool_bytes(const tow_spool_t *spool); /* on disk */
void tow_spool_close(tow_spool_t *spool);           /* keeps the files; takes NULL */
bool tow_spool_remove(tow_spool_t *spool,
                      tow_error_t *error) TOW_CHECK; /* closes, deletes the folder */

#endif
