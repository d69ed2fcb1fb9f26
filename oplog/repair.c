/* SPDX-License-Identifier: Apache-2.0 */
/* repair.c: keys that are refetched without an event of the stream, because a comparison found them
 * different. They take the way of all keys: through the ledger, so that the floor stays before
 * them, and into the lane that alone writes them. */
#include "oplog/replay_internal.h"

enum { WAIT_MS = 1000 };

static tow_block_t *make_block(const char *database, const char *collection, const tow_value_t *ids,
                               uint32_t count, bool anew, tow_optime_t time)
{
    tow_block_t *block = tow_alloc(sizeof *block);
    bson_t none = BSON_INITIALIZER;

    tow_record_begin(&block->records, &none, 0);
    for (uint32_t i = 0; i < count; i++) {
        tow_record_t record = {anew ? TOW_RECORD_ANEW : TOW_RECORD_REFETCH, database, collection,
                               ids[i], time};

        tow_record_append(&block->records, &record);
    }
    block->events = count;
    block->payload_bytes = block->records.length;
    return block;
}

bool tow_replay_repair(tow_replay_t *replay, const char *database, const char *collection,
                       const tow_value_t *ids, uint32_t count, bool anew, tow_error_t *error)
{
    const tow_replay_options_t *options = &replay->options;
    uint64_t number;

    if (!count)
        return true;
    number = tow_ledger_insert(options->ledger, make_block(database, collection, ids, count, anew,
                                                           tow_link_read_time(options->source)));
    while (!tow_ledger_wait_block(options->ledger, number, WAIT_MS))
        if (tow_stop_requested(options->stop))
            return tow_stop_error(options->stop, error)
                       ? false
                       : tow_fail(error, TOW_ERROR_INTERRUPTED, "the repair was stopped");
    return true;
}
