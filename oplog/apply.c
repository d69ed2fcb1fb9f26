/* SPDX-License-Identifier: Apache-2.0 */
/* apply.c: a lane takes events in: those it may apply become statements, all others dirty keys.
 *
 * A batch is sent as one message of updates and one of deletes. That keeps the order of the events
 * of each key as long as no key stands in both: then both are sent first. A statement whose outcome
 * is not exactly as expected makes its key dirty; nothing is sent twice. */
#include <stdlib.h>
#include <string.h>

#include "oplog/replay_internal.h"
#include "oplog/translate.h"

enum { SEEN_BITS = 1 << 14 };

/* Which keys stand in a message, by a few bits of their hash: false alarms only cost a send. */
typedef struct {
    uint64_t words[SEEN_BITS / 64];
} seen_t;

typedef struct {
    tow_lane_t *lane;
    tow_namespace_t *collection; /* of both messages */
    tow_items_t sent[2];         /* the items of each: updates, deletes */
    seen_t seen[2];
    bool *failed; /* while sending: by index of the item */
} batch_t;

static void finish_item(tow_replay_t *replay, const tow_item_t *item)
{
    tow_ledger_payload_done(replay->options.ledger, item->block);
}

/* The event becomes a dirty key, unless a read saw it already. */
static void make_dirty(tow_lane_t *lane, const tow_item_t *item)
{
    tow_replay_t *replay = lane->replay;
    tow_recent_t recent = tow_recent_find(lane->dirty, item->collection, item->id, item->hash);

    if (recent.known && item->time <= recent.lo && !item->repair) {
        atomic_fetch_add(&replay->skipped, 1);
        tow_ledger_settle(replay->options.ledger, item->block, 1);
    } else {
        tow_dirty_mark(lane->dirty, item->collection, item->id, item->hash, item->time, item->block,
                       item->fresh);
        if (item->anew)
            tow_dirty_find(lane->dirty, item->collection, item->id, item->hash)->anew = true;
    }
    finish_item(replay, item);
}

static bool must_refetch(tow_lane_t *lane, const tow_item_t *item)
{
    tow_recent_t recent;

    if (!item->event || tow_dirty_find(lane->dirty, item->collection, item->id, item->hash))
        return true;
    recent = tow_recent_find(lane->dirty, item->collection, item->id, item->hash);
    if (recent.known)
        return item->time <= recent.hi;
    return item->time <= tow_dirty_horizon(lane->dirty);
}

typedef struct {
    batch_t *batch;
    int which;
    uint32_t errors;
} sending_t;

static void note_failure(void *data, void *tag, const tow_write_error_t *failure)
{
    sending_t *sending = data;
    uint32_t index = (uint32_t)(uintptr_t)tag;

    (void)failure; /* whatever it is: the key is read again, and what is refused then looked into */
    sending->errors++;
    sending->batch->failed[index] = true;
}

/* Sends one of the two messages and settles its items, or makes them dirty. */
static void send_one(batch_t *batch, int which)
{
    tow_lane_t *lane = batch->lane;
    tow_replay_t *replay = lane->replay;
    tow_write_t *write = which ? &lane->deletes : &lane->updates;
    tow_items_t *items = &batch->sent[which];
    sending_t sending = {batch, which, 0};
    uint32_t matched;
    tow_error_t error;
    bool ok, exact;

    if (!items->count)
        return;
    batch->failed = tow_alloc(items->count);
    ok = tow_write_send(write, lane->destination, note_failure, &sending, &matched, &error);
    /* A document that was not there, or was there twice over, means that we did not know the
     * destination's state: read all of them again. A delete may come to nothing. */
    exact = which || matched + sending.errors == items->count;
    for (uint32_t i = 0; i < items->count; i++) {
        const tow_item_t *item = &items->items[i];

        if (!ok || !exact || batch->failed[i]) {
            make_dirty(lane, item);
        } else {
            atomic_fetch_add(&replay->applied, 1);
            tow_ledger_settle(replay->options.ledger, item->block, 1);
            finish_item(replay, item);
        }
    }
    atomic_fetch_add(&replay->statements, items->count);
    free(batch->failed);
    items->count = 0;
    memset(&batch->seen[which], 0, sizeof batch->seen[which]);
    if (ok)
        tow_lane_succeeded(lane);
    else
        tow_lane_failed(lane, &error);
}

/* Deletes go first: they may free what a unique index holds. */
static void send_both(batch_t *batch)
{
    send_one(batch, 1);
    send_one(batch, 0);
}

static void add(batch_t *batch, const tow_item_t *item, tow_statement_t kind,
                const bson_t *document)
{
    tow_lane_t *lane = batch->lane;
    int which = kind == TOW_STATEMENT_DELETE;
    tow_write_t *write = which ? &lane->deletes : &lane->updates;
    unsigned bit = item->hash % SEEN_BITS;
    void *tag;

    if ((batch->seen[!which].words[bit / 64] >> (bit % 64)) & 1 ||
        batch->collection != item->collection ||
        (batch->sent[which].count &&
         !tow_write_fits(write, item->id.length + (which ? 0 : document->len))))
        send_both(batch);
    batch->collection = item->collection;
    if (!batch->sent[which].count)
        tow_write_begin(write, which ? TOW_WRITE_DELETE : TOW_WRITE_UPDATE, item->collection);
    tag = (void *)(uintptr_t)batch->sent[which].count;
    batch->seen[which].words[bit / 64] |= UINT64_C(1) << (bit % 64);
    tow_items_add(&batch->sent[which], item);
    if (which)
        tow_write_delete(write, item->id, tag);
    else
        tow_write_replace(write, item->id, document, tag);
}

static void apply(batch_t *batch, const tow_item_t *item)
{
    bson_t event, document;
    tow_statement_t kind = TOW_STATEMENT_REFETCH;

    if (bson_init_static(&event, item->event, item->event_length))
        kind = tow_translate(&event, &document, batch->lane->replay->merged);
    if (kind == TOW_STATEMENT_REPLACE &&
        !tow_is_replaceable(&document, tow_link_facts(batch->lane->replay->options.destination)))
        kind = TOW_STATEMENT_REFETCH;
    if (kind != TOW_STATEMENT_REFETCH && !item->collection->capped && !item->collection->collated) {
        add(batch, item, kind, &document);
        return;
    }
    make_dirty(batch->lane, item); /* it is read when all of the batch was sent */
}

void tow_lane_absorb(tow_lane_t *lane, const tow_items_t *items)
{
    batch_t *batch;
    bool held = tow_replay_holding(lane->replay);

    if (!items->count)
        return;
    batch = tow_alloc(sizeof *batch);
    batch->lane = lane;
    for (uint32_t i = 0; i < items->count; i++) {
        const tow_item_t *item = &items->items[i];

        if (held || must_refetch(lane, item))
            make_dirty(lane, item);
        else
            apply(batch, item);
    }
    send_both(batch);
    free(batch->sent[0].items);
    free(batch->sent[1].items);
    free(batch);
}
