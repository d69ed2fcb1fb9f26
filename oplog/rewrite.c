/* SPDX-License-Identifier: Apache-2.0 */
/* rewrite.c: one round of untangling: makes the members of a knot dirty keys, deletes them at the
 * destination, and inserts them as the source has them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/link/codes.h"
#include "engine/link/reader.h"
#include "engine/link/reply.h"
#include "engine/state/selection.h"
#include "oplog/knot.h"

void tow_member_release(tow_member_t *member)
{
    if (member->document)
        bson_destroy(member->document);
    member->document = NULL;
}

tow_dirty_key_t *tow_member_key(const tow_knot_t *knot, const tow_member_t *member,
                                tow_lane_t **out_lane)
{
    tow_value_t id = tow_member_id(member);
    unsigned hash = tow_item_hash(knot->collection, id);
    tow_lane_t *lane = tow_lane_of(knot->lane->replay, knot->collection, hash);

    *out_lane = lane;
    return tow_dirty_find(lane->dirty, knot->collection, id, hash);
}

/* Makes all that are due dirty keys, each in its own lane. */
static void mark_members(tow_knot_t *knot)
{
    tow_ledger_t *ledger = knot->lane->replay->options.ledger;
    tow_member_t *member, *next;

    HASH_ITER(hh, knot->members, member, next) {
        tow_lane_t *lane;
        tow_value_t id = tow_member_id(member);

        if (member->round != knot->round || tow_member_key(knot, member, &lane))
            continue;
        tow_ledger_hold(ledger, knot->block);
        tow_dirty_mark(lane->dirty, knot->collection, id, tow_item_hash(knot->collection, id), 0,
                       knot->block, false);
    }
}

static void refused(void *data, void *tag, const tow_write_error_t *refusal)
{
    tow_knot_t *knot = data;
    tow_member_t *member = tag;
    char id[200];

    knot->errors++;
    member->refused = true;
    member->round = knot->round + 1;
    tow_value_text(tow_member_id(member), id, sizeof id);
    if (*refusal->message) /* after a megabyte of them a server leaves it empty */
        snprintf(knot->message, sizeof knot->message, "document with _id %s: %s", id,
                 refusal->message);
    else
        snprintf(knot->message, sizeof knot->message, "document with _id %s: error %d", id,
                 refusal->code);
    if (refusal->code == TOW_CODE_DUPLICATE_KEY && member->document && !knot->failed)
        tow_knot_add_holders(knot, member, refusal);
}

static bool send(tow_knot_t *knot, tow_write_t *write, tow_error_t *error)
{
    uint32_t matched;

    atomic_fetch_add(&knot->lane->replay->statements, write->count);
    if (!tow_write_send(write, knot->lane->destination, refused, knot, &matched, error))
        return false;
    if (knot->failed)
        *error = knot->failure;
    return !knot->failed;
}

static bool delete_members(tow_knot_t *knot, tow_error_t *error)
{
    tow_write_t write = {0};
    tow_member_t *member, *next;
    bool ok = true;

    tow_write_begin(&write, TOW_WRITE_DELETE, knot->collection);
    HASH_ITER(hh, knot->members, member, next) {
        tow_value_t id = tow_member_id(member);

        if (member->round != knot->round)
            continue;
        member->written = member->refused = false;
        if (!tow_write_fits(&write, id.length)) {
            if (!(ok = send(knot, &write, error)))
                break;
            tow_write_begin(&write, TOW_WRITE_DELETE, knot->collection);
        }
        tow_write_delete(&write, id, member);
    }
    ok = ok && send(knot, &write, error);
    tow_write_clear(&write);
    return ok;
}

/* The inserts of one chunk, and the empty timestamps that they lose. */
typedef struct {
    tow_knot_t *knot;
    tow_write_t inserts, timestamps;
    tow_member_t **waiting; /* whose documents are in the message */
    size_t count;
} inserting_t;

static bool flush(inserting_t *inserting, tow_error_t *error)
{
    tow_knot_t *knot = inserting->knot;
    bool ok = send(knot, &inserting->inserts, error) && send(knot, &inserting->timestamps, error);

    for (size_t i = 0; i < inserting->count; i++)
        tow_member_release(inserting->waiting[i]);
    inserting->count = 0;
    tow_write_begin(&inserting->inserts, TOW_WRITE_INSERT, knot->collection);
    inserting->inserts.strict = true;
    tow_write_begin(&inserting->timestamps, TOW_WRITE_UPDATE, knot->collection);
    return ok;
}

static bool insert_document(inserting_t *inserting, tow_member_t *member, const bson_t *document,
                            tow_error_t *error)
{
    const tow_facts_t *facts = tow_link_facts(inserting->knot->lane->replay->options.destination);
    bool empty = !facts->bypass_empty_ts && tow_has_empty_timestamp(document);
    size_t bytes = document->len + member->id.len;

    if ((inserting->count == TOW_SELECTION_MOST || !tow_write_fits(&inserting->inserts, bytes) ||
         (empty && !tow_write_fits(&inserting->timestamps, bytes))) &&
        !flush(inserting, error))
        return false;
    member->document = bson_copy(document);
    inserting->waiting[inserting->count++] = member;
    tow_write_insert(&inserting->inserts, member->document, member);
    if (empty)
        tow_write_timestamps(&inserting->timestamps, tow_member_id(member), member->document,
                             member);
    return true;
}

static tow_member_t *find_member(tow_knot_t *knot, tow_value_t id)
{
    tow_buffer_t identity = {0};
    tow_member_t *member;

    tow_value_canonical(id, &identity);
    HASH_FIND(hh, knot->members, identity.data, identity.length, member);
    tow_buffer_free(&identity);
    return member;
}

/* Another spelling of a key that was asked for is taken in, where the collection takes both for
 * one. */
static bool take_document(inserting_t *inserting, const bson_t *document, tow_error_t *error)
{
    tow_knot_t *knot = inserting->knot;
    tow_value_t id = {0};
    tow_member_t *member;

    tow_value_id(document, &id);
    member = find_member(knot, id);
    if (!member && !tow_is_taken_too(id, knot->collection->collated))
        return tow_lane_explain(knot->lane, knot->collection, error);
    if (!member && knot->collection->collated) {
        tow_knot_add(knot, id);
        member = find_member(knot, id);
    }
    return !member || member->document || insert_document(inserting, member, document, error);
}

/* One that was refused is due in the next round, and was read in this one. */
static bool is_read(const tow_member_t *member, unsigned round)
{
    return member->round == round || (member->refused && member->round == round + 1);
}

/* Reads members `from` …, as many as one request names, from the source and inserts them; *from
 * moves on. */
static bool write_chunk(inserting_t *inserting, tow_member_t **from, tow_error_t *error)
{
    tow_knot_t *knot = inserting->knot;
    tow_optime_t lo = tow_link_read_time(knot->lane->replay->options.source);
    tow_read_t what = {
        .database = knot->collection->database, .collection = knot->collection->name, .after = lo};
    tow_member_t *first = *from, *member = first;
    tow_selection_t selection;
    bson_t filter, document;
    tow_reader_t *reader;
    uint32_t asked = 0;
    bool ok, more = true;

    tow_selection_begin(&selection);
    for (; member; member = member->hh.next) {
        if (member->round != knot->round)
            continue;
        if (!tow_selection_fits(&selection, tow_member_id(member)))
            break;
        tow_selection_add(&selection, tow_member_id(member));
        asked++;
    }
    tow_selection_end(&selection, &filter);
    if (!asked) {
        *from = NULL;
        bson_destroy(&filter);
        return true;
    }
    what.filter = &filter;
    *from = member;
    reader = tow_reader_open(knot->lane->source, &what, error);
    ok = reader != NULL;
    while (ok && more) {
        while (ok && tow_reader_next(reader, &document))
            ok = take_document(inserting, &document, error);
        ok = ok && tow_reader_next_batch(reader, &more, error);
    }
    ok = ok && flush(inserting, error);
    for (; ok && first != member; first = first->hh.next) {
        if (!is_read(first, knot->round))
            continue;
        first->lo = lo;
        first->hi = tow_reader_time(reader);
        first->written = true;
    }
    tow_reader_close(reader);
    bson_destroy(&filter);
    return ok;
}

static bool insert_members(tow_knot_t *knot, tow_error_t *error)
{
    inserting_t inserting = {.knot = knot};
    tow_member_t *at = knot->members;
    bool ok = true;

    inserting.waiting = tow_alloc(TOW_SELECTION_MOST * sizeof *inserting.waiting);
    ok = flush(&inserting, error);
    while (ok && at)
        ok = write_chunk(&inserting, &at, error);
    tow_write_clear(&inserting.inserts);
    tow_write_clear(&inserting.timestamps);
    free(inserting.waiting);
    return ok;
}

bool tow_knot_rewrite(tow_knot_t *knot, tow_error_t *error)
{
    knot->round++;
    knot->grew = knot->id_refused = false;
    knot->errors = 0;
    tow_knot_forget_suspect(knot);
    mark_members(knot);
    return delete_members(knot, error) && insert_members(knot, error);
}
