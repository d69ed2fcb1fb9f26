/* SPDX-License-Identifier: Apache-2.0 */
/* filling.c: see filling.h. */
#include "oplog/filling.h"

#include <stdlib.h>

#include "engine/base/clock.h"

enum {
    BLOCK_BYTES = 256 * 1024, /* keys of one block */
    BLOCK_AGE_MS = 100        /* and how long it is filled at most */
};

void tow_filling_init(tow_filling_t *filling)
{
    *filling = (tow_filling_t){0};
    bson_init(&filling->token);
}

void tow_filling_clear(tow_filling_t *filling)
{
    bson_destroy(&filling->token);
    tow_buffer_free(&filling->records);
}

void tow_filling_add(tow_filling_t *filling, const tow_stream_t *stream, const bson_t *event,
                     const tow_event_t *parts)
{
    tow_record_t record = {.kind = TOW_RECORD_CHANGE,
                           .database = parts->database,
                           .collection = parts->collection,
                           .id = parts->id,
                           .time = parts->time};

    if (!filling->count) {
        tow_record_begin(&filling->records, tow_stream_token(stream), tow_stream_time(stream));
        filling->since_ms = tow_now_ms();
    }
    if (!parts->change || !parts->has_id) {
        record.kind = TOW_RECORD_EVENT;
        record.database = record.collection = "";
        record.id = (tow_value_t){0, event->len, bson_get_data(event)};
    } else if (parts->kind == TOW_OPERATION_INSERT) {
        record.kind = TOW_RECORD_INSERT;
    }
    tow_record_append(&filling->records, &record);
    filling->count++;
}

void tow_filling_reached(tow_filling_t *filling, const tow_stream_t *stream)
{
    bson_destroy(&filling->token);
    bson_copy_to(tow_stream_token(stream), &filling->token);
    filling->time = tow_stream_time(stream);
}

bool tow_filling_is_due(const tow_filling_t *filling)
{
    return filling->count && (filling->records.length >= BLOCK_BYTES ||
                              tow_now_ms() - filling->since_ms >= BLOCK_AGE_MS);
}

bool tow_filling_seal(tow_filling_t *filling, tow_spool_t *spool, tow_block_t **out,
                      tow_error_t *error)
{
    tow_spool_frame_t frame = {filling->count, filling->time, &filling->token};
    tow_block_t *block;

    *out = NULL;
    if (!filling->count)
        return true;
    block = tow_alloc(sizeof *block);
    if (!tow_spool_append(spool, filling->records.data, filling->records.length, &frame,
                          &block->place, error)) {
        free(block);
        return false;
    }
    block->time = filling->time;
    block->events = filling->count;
    block->spooled = true;
    block->payload_bytes = filling->records.capacity;
    block->records = filling->records;
    bson_copy_to(&filling->token, &block->token);
    filling->records = (tow_buffer_t){0};
    filling->count = 0;
    *out = block;
    return true;
}
