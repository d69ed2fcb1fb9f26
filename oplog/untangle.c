/* SPDX-License-Identifier: Apache-2.0 */
/* untangle.c: writes that a unique index goes on refusing, or that a replacement cannot express.
 *
 * A refused write is tried again first, while all lanes work: what stands in its way is mostly an
 * event that another lane has not settled yet. What is still refused comes here. The refused keys
 * and the documents that hold their values (holders.h) are deleted at the destination, read from
 * the source once more and inserted as it has them. At the source they fit together, so in the end
 * they do here: values swapped between documents, chains and rings of them alike. It runs alone: no
 * lane works meanwhile, so reading a key of another lane is as good as that lane reading it, and
 * its as-of interval is noted there.
 *
 * Every document is a dirty key before it is deleted, so that nothing is lost when that is all that
 * was done. Where nobody is found in the way the lanes go on, and it is tried again later. */
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/link/codes.h"
#include "engine/link/reader.h"
#include "engine/link/reply.h"
#include "engine/state/selection.h"
#include "oplog/knot.h"

enum {
    KNOT_LARGE =
        1000, /* keys; from then on looking for one after the other costs more than writing all */
    ATTEMPTS_ALONE = 4, /* of a refused write, before it is untangled: a third of a second */
    FIRST_WAIT_MS = 20,
    WAIT_MS = 500,    /* between two attempts to untangle */
    BEFORE_DROP = 12, /* refusals by an index whose value no document holds, before it is dropped */
    ALIKE_EVERY = 10, /* refusals: the collection's indexes are made those of the source again … */
    ALIKE_AT = 8,     /* … the first time about a second after the first attempt to untangle */
    REFUSALS_MOST = 120, /* about a minute */
    IDS_REFUSALS_MOST = 1200
};

void tow_lane_refused(tow_lane_t *lane, tow_dirty_key_t *key, const char *message)
{
    if (++key->refusals <= ATTEMPTS_ALONE)
        key->due_ms = tow_now_ms() + (FIRST_WAIT_MS << (key->refusals - 1));
    else
        tow_lane_conflict(lane, key->collection, tow_dirty_id(key), message);
}

/* Those that were read and written: notes that in the lane of each. */
static void settle_members(tow_knot_t *knot)
{
    tow_replay_t *replay = knot->lane->replay;
    tow_member_t *member, *next;

    HASH_ITER(hh, knot->members, member, next) {
        tow_value_t id = tow_member_id(member);
        tow_lane_t *lane;
        tow_dirty_key_t *key = tow_member_key(knot, member, &lane);

        if (!member->written || member->refused)
            continue;
        tow_recent_note(lane->dirty, knot->collection, id, tow_item_hash(knot->collection, id),
                        member->lo, member->hi);
        if (key && key->time <= member->lo) {
            tow_dirty_pick(lane->dirty, key);
            tow_dirty_settle(lane->dirty, key, member->lo);
            atomic_fetch_add(&replay->refetched, 1);
            atomic_fetch_add(&replay->applied, 1);
        }
    }
}

/* The refused ones wait; returns how often in a row the most refused of them was. */
static unsigned put_off(tow_knot_t *knot)
{
    tow_member_t *member, *next;
    unsigned most = 0;

    HASH_ITER(hh, knot->members, member, next) {
        tow_lane_t *lane;
        tow_dirty_key_t *key = tow_member_key(knot, member, &lane);

        if (!member->refused || !key)
            continue;
        if (key->refusals < UINT16_MAX)
            key->refusals++;
        key->due_ms = tow_now_ms() + WAIT_MS;
        if (key->refusals > most)
            most = key->refusals;
    }
    return most;
}

/* The refused ones are tried for another minute. */
static void begin_again(tow_knot_t *knot)
{
    tow_member_t *member, *next;

    HASH_ITER(hh, knot->members, member, next) {
        tow_lane_t *lane;
        tow_dirty_key_t *key = tow_member_key(knot, member, &lane);

        if (member->refused && key)
            key->refusals = ATTEMPTS_ALONE;
    }
}

static bool hopeless(const tow_knot_t *knot, tow_error_t *error)
{
    return knot->id_refused
               ? tow_fail(error, TOW_ERROR_SERVER,
                          "%s: the destination takes two different _ids for one and the same: %s; "
                          "delete one "
                          "of them at the source and run the same command again",
                          knot->collection->ns, knot->message)
               : tow_fail(error, TOW_ERROR_SERVER,
                          "%s: the destination refuses a document that the source has, also after "
                          "what stood in its way was removed: %s; remove the difference between "
                          "the two sides' indexes and run the same command again",
                          knot->collection->ns, knot->message);
}

/* An index of the destination that refuses a value which no document there holds is broken. That it
 * is so takes proof: the index sees what its values tell alone, and not even a scan of all
 * documents finds one. It goes, and the catalog's reconciliation at the cutover builds it again. */
static bool drop_broken(tow_knot_t *knot, tow_error_t *error)
{
    tow_send_options_t send = {.flags = TOW_SEND_WRITE};
    bson_t command = BSON_INITIALIZER, none = BSON_INITIALIZER, reply;
    bool ok, held = false;

    if (!tow_knot_add_found(knot, &knot->suspect_filter, &none, true, &held)) {
        *error = knot->failure;
        return false;
    }
    if (held)
        return true;
    tow_emit(
        &knot->lane->replay->options.sink, TOW_LEVEL_WARNING, "index_broken",
        "%s: the unique index %s of the destination refuses a value that no document there holds; "
        "it is dropped and built anew at the cutover (%s)",
        knot->collection->ns, knot->suspect, knot->message);
    bson_append_utf8(&command, "dropIndexes", -1, knot->collection->name, -1);
    bson_append_utf8(&command, "index", -1, knot->suspect, -1);
    ok = tow_conn_command(knot->lane->destination, knot->collection->database, &command, &send,
                          &reply, error);
    bson_destroy(&reply);
    bson_destroy(&command);
    return ok;
}

static unsigned refusals_most(const tow_knot_t *knot)
{
    unsigned most = knot->lane->replay->options.refusals_most;

    return most ? most : knot->id_refused ? IDS_REFUSALS_MOST : REFUSALS_MOST;
}

static unsigned knot_large(const tow_knot_t *knot)
{
    unsigned large = knot->lane->replay->options.knot_large;

    return large ? large : KNOT_LARGE;
}

/* What is refused may be right by an index that the source had, or of what had the name before: a
 * stream without events of indexes never says that it was dropped, and another's event may come
 * much later. It is hopeless only where the source, too, has the index on that collection now. */
static bool judge(tow_knot_t *knot, unsigned refusals, tow_error_t *error)
{
    const tow_replay_options_t *options = &knot->lane->replay->options;
    bool final;

    if (refusals % ALIKE_EVERY == ALIKE_AT)
        options->ddl.alike(options->ddl.data, knot->collection->database, knot->collection->name);
    if (refusals <= refusals_most(knot))
        return true;
    if (!tow_knot_is_final(knot, &final, error))
        return false;
    if (final)
        return hopeless(knot, error);
    tow_emit(&options->sink, TOW_LEVEL_WARNING, "index_differs",
             "%s: the destination goes on refusing a document by a unique index that the source "
             "does not have on "
             "this collection, and that is not dropped yet (%s); the changes after it wait. If "
             "this is repeated, "
             "drop that index on the destination",
             knot->collection->ns, knot->message);
    begin_again(knot);
    return true;
}

/* Rounds as long as they find more that is in the way. Each writes what the one before found, and
 * no more: a ring of any size costs as much as it has documents. True: all were written, or those
 * that were refused are tried again later. False: a server call failed (the keys are dirty), or it
 * is hopeless. */
static bool untangle(tow_knot_t *knot, tow_error_t *error)
{
    unsigned refusals;

    do {
        if (!tow_knot_rewrite(knot, error))
            return false;
        if (knot->errors)
            tow_emit(&knot->lane->replay->options.sink, TOW_LEVEL_DEBUG, "untangle",
                     "%s: %u keys, %u refused: %s", knot->collection->ns, HASH_COUNT(knot->members),
                     knot->errors, knot->message);
        if (knot->errors && !knot->all && HASH_COUNT(knot->members) > knot_large(knot))
            tow_knot_add_all(knot);
    } while (knot->errors && knot->grew && !tow_stop_requested(knot->lane->replay->options.stop));
    settle_members(knot);
    if (!knot->errors)
        return true;
    refusals = put_off(knot);
    if (!judge(knot, refusals, error))
        return false;
    return refusals < BEFORE_DROP || !knot->suspect || drop_broken(knot, error);
}

static void free_members(tow_knot_t *knot)
{
    tow_member_t *member, *next;

    tow_knot_forget_suspect(knot);
    tow_knot_forget_pattern(knot);
    if (knot->has_indexes)
        tow_indexes_clear(&knot->indexes);
    HASH_ITER(hh, knot->members, member, next) {
        HASH_DELETE(hh, knot->members, member);
        tow_member_release(member);
        bson_destroy(&member->id);
        tow_buffer_free(&member->identity);
        free(member);
    }
}

/* Moves the conflicts of one collection (that of the first) into the knot. A key that is dirty no
 * more was dropped with its collection, or written with another knot. */
static void take_conflicts(tow_knot_t *knot, tow_conflict_t **list)
{
    knot->collection = (*list)->collection;
    while (*list) {
        tow_conflict_t *conflict = *list;
        tow_dirty_key_t *key;
        tow_value_t id = {0};

        if (conflict->collection != knot->collection) {
            list = &conflict->next;
            continue;
        }
        key = tow_value_id(&conflict->id, &id)
                  ? tow_dirty_find(knot->lane->dirty, knot->collection, id,
                                   tow_item_hash(knot->collection, id))
                  : NULL;
        if (key) {
            knot->block = key->block;
            tow_knot_add(knot, id);
        }
        *list = conflict->next;
        bson_destroy(&conflict->id);
        free(conflict);
    }
}

void tow_lane_untangle(tow_lane_t *lane)
{
    tow_replay_t *replay = lane->replay;
    tow_error_t error;
    bool ok = true;

    pthread_rwlock_wrlock(&replay->exclusive);
    atomic_store(&lane->busy, true);
    while (lane->conflicts && !tow_replay_holding(replay)) { /* else they keep */
        tow_knot_t *knot = tow_alloc(sizeof *knot);

        knot->lane = lane;
        take_conflicts(knot, &lane->conflicts);
        if (ok && knot->members)
            ok = untangle(knot, &error);
        free_members(knot);
        free(knot);
    }
    tow_lane_settle(lane); /* what it wrote belongs to other lanes */
    atomic_store(&lane->busy, false);
    pthread_rwlock_unlock(&replay->exclusive);
    tow_replay_wake_lanes(replay);
    if (!ok)
        tow_lane_failed(lane, &error);
}
