/* SPDX-License-Identifier: Apache-2.0 */
/* knot.c: what belongs to a knot: the refused documents, and those that hold their values. */
#include "oplog/knot.h"

#include <stdlib.h>
#include <string.h>

#include "engine/link/reader.h"
#include "engine/link/reply.h"
#include "engine/state/selection.h"
#include "engine/state/spec.h"
#include "oplog/holders.h"

void tow_knot_add(tow_knot_t *knot, tow_value_t id)
{
    tow_buffer_t identity = {0};
    tow_member_t *member;

    tow_value_canonical(id, &identity);
    HASH_FIND(hh, knot->members, identity.data, identity.length, member);
    if (!member) {
        member = tow_alloc(sizeof *member);
        bson_init(&member->id);
        tow_value_append(&member->id, "_id", 3, id);
        member->identity = identity;
        member->round = knot->round + 1;
        HASH_ADD_KEYPTR(hh, knot->members, member->identity.data, member->identity.length, member);
        knot->grew = true;
        return;
    }
    tow_buffer_free(&identity);
    if (member->round > knot->round || member->refused || member->reopened)
        return;
    member->reopened = knot->grew = true;
    member->round = knot->round + 1;
}

static void add_dirty(void *data, tow_value_t id)
{
    tow_knot_t *knot = data;
    tow_buffer_t identity = {0};
    tow_member_t *member;

    tow_value_canonical(id, &identity);
    HASH_FIND(hh, knot->members, identity.data, identity.length, member);
    tow_buffer_free(&identity);
    if (!member)
        tow_knot_add(knot, id);
}

void tow_knot_add_all(tow_knot_t *knot)
{
    tow_replay_t *replay = knot->lane->replay;

    for (uint32_t i = 0; i < replay->lane_count; i++)
        tow_dirty_each(replay->lanes[i].dirty, knot->collection, add_dirty, knot);
    knot->all = true;
}

static bool read_indexes(tow_knot_t *knot)
{
    tow_error_t *error = &knot->failure;

    if (!knot->has_indexes)
        knot->has_indexes = tow_indexes_read(knot->lane->destination, knot->collection->database,
                                             knot->collection->name, &knot->indexes, error);
    knot->failed = knot->failed || !knot->has_indexes;
    return knot->has_indexes;
}

bool tow_knot_add_found(tow_knot_t *knot, const bson_t *filter, const bson_t *collation, bool scan,
                        bool *out_held)
{
    tow_read_t what = {.database = knot->collection->database,
                       .collection = knot->collection->name,
                       .filter = filter,
                       .collation = bson_empty(collation) ? NULL : collation,
                       .natural = scan,
                       .after = tow_link_time(knot->lane->replay->options.destination)};
    bson_t projection = BSON_INITIALIZER, document;
    tow_reader_t *reader;
    bool ok, more = true;

    bson_append_int32(&projection, "_id", 3, 1);
    what.projection = &projection;
    reader = tow_reader_open(knot->lane->destination, &what, &knot->failure);
    ok = reader != NULL;
    while (ok && more) {
        tow_value_t id;

        while (tow_reader_next(reader, &document))
            if (tow_value_id(&document, &id)) {
                *out_held = true;
                tow_knot_add(knot, id);
            }
        ok = tow_reader_next_batch(reader, &more, &knot->failure);
    }
    tow_reader_close(reader);
    bson_destroy(&projection);
    knot->failed = knot->failed || !ok;
    return ok;
}

void tow_knot_forget_suspect(tow_knot_t *knot)
{
    if (knot->suspect)
        bson_destroy(&knot->suspect_filter);
    free(knot->suspect);
    knot->suspect = NULL;
}

static void note_suspect(tow_knot_t *knot, const bson_t *index, const bson_t *filter)
{
    const char *name;

    if (knot->suspect || !tow_index_is_plain(index) || !tow_field_text(index, "name", &name))
        return;
    knot->suspect = tow_strdup(name);
    bson_copy_to(filter, &knot->suspect_filter);
}

/* Those that hold for one index what the document has. */
static bool add_holders_of(tow_knot_t *knot, const bson_t *index, const bson_t *document,
                           bool *out_held)
{
    bson_t filter, collation;
    bool ok, held = false;

    if (!tow_holders_filter(index, document, &filter))
        return true;
    tow_holders_collation(index, knot->collection->collated, &collation);
    ok = tow_knot_add_found(knot, &filter, &collation, false, &held);
    if (ok && !held)
        note_suspect(knot, index, &filter);
    *out_held = *out_held || held;
    bson_destroy(&filter);
    bson_destroy(&collation);
    return ok;
}

/* The index on _id, which a listing of indexes leaves out, has the collection's collation. */
static bool add_holders_of_id(tow_knot_t *knot, const tow_member_t *member, bool *out_held)
{
    bson_t filter, none = BSON_INITIALIZER;
    tow_selection_t selection;
    bool ok;

    tow_selection_begin(&selection);
    tow_selection_add(&selection, tow_member_id(member));
    tow_selection_end(&selection, &filter);
    ok = tow_knot_add_found(knot, &filter, &none, false, out_held);
    bson_destroy(&filter);
    return ok;
}

static bool is_id_key(const bson_t *key)
{
    bson_iter_t field;

    return bson_iter_init(&field, key) && bson_iter_next(&field) &&
           !strcmp(bson_iter_key(&field), "_id") && !bson_iter_next(&field);
}

static bool pattern_of(const tow_write_error_t *refusal, bson_t *out)
{
    return refusal->key_pattern.raw && tow_iter_document(&refusal->key_pattern, out);
}

void tow_knot_forget_pattern(tow_knot_t *knot)
{
    if (knot->has_pattern)
        bson_destroy(&knot->pattern);
    knot->has_pattern = false;
}

void tow_knot_add_holders(tow_knot_t *knot, const tow_member_t *member,
                          const tow_write_error_t *refusal)
{
    bool held = false, known, ok = true, asked = false;
    bson_t key;

    known = pattern_of(refusal, &key);
    tow_knot_forget_pattern(knot);
    if (known)
        bson_copy_to(&key, &knot->pattern);
    knot->has_pattern = known;
    if (!known || is_id_key(&key)) {
        ok = add_holders_of_id(knot, member, &held);
        knot->id_refused = knot->id_refused || (ok && known && !held);
        if (!ok || known)
            return;
    }
    if (!read_indexes(knot))
        return;
    for (int any = 0; ok && any < 2 && !asked; any++)
        for (size_t i = 0; ok && i < knot->indexes.count; i++)
            if (any ? tow_index_is_unique(&knot->indexes.items[i])
                    : known && tow_index_has_key(&knot->indexes.items[i], &key)) {
                asked = true;
                ok = add_holders_of(knot, &knot->indexes.items[i], member->document, &held);
            }
    /* A duplicate of several indexes is told of one; of which, is not known: none is to blame. */
    if (held || !known)
        tow_knot_forget_suspect(knot);
}

/* Before a drop or a rename is replayed, the name means another collection at
 * the source already. */
static bool is_same_collection(const tow_namespace_t *known, const tow_collection_info_t *info)
{
    static const uint8_t none[16];

    return info->type == TOW_COLLECTION && (!memcmp(known->uuid, none, sizeof none) ||
                                            !memcmp(known->uuid, info->uuid, sizeof none));
}

static bool find_at_source(tow_knot_t *knot, bool *out_same, tow_error_t *error)
{
    tow_collection_info_t info;
    bool found;

    *out_same = false;
    if (!tow_catalog_find(knot->lane->source, knot->collection->database, knot->collection->name,
                          &info, &found, error))
        return false;
    if (!found)
        return true;
    *out_same = is_same_collection(knot->collection, &info);
    tow_collection_info_clear(&info);
    return true;
}

static bool may_have_refused(const tow_knot_t *knot, const bson_t *index)
{
    return knot->has_pattern ? tow_index_has_key(index, &knot->pattern)
                             : tow_index_is_unique(index);
}

static bool is_listed(const bson_t *index, const tow_indexes_t *source, const tow_takes_t *takes)
{
    const char *name, *other;

    if (!tow_field_text(index, "name", &name))
        return false;
    for (size_t i = 0; i < source->count; i++) {
        bson_t wanted;
        char *difference;

        if (!tow_field_text(&source->items[i], "name", &other) || strcmp(name, other) != 0)
            continue;
        tow_index_spec(&source->items[i], takes, true, &wanted);
        difference = tow_index_difference(&wanted, index, true);
        bson_destroy(&wanted);
        free(difference);
        return !difference;
    }
    return false;
}

static bool is_at_source(tow_knot_t *knot, bool *out, tow_error_t *error)
{
    tow_takes_t takes = tow_takes(knot->lane->replay->options.destination);
    tow_indexes_t source, there;
    size_t asked = 0, listed = 0;

    if (!tow_indexes_read(knot->lane->source, knot->collection->database, knot->collection->name,
                          &source, error))
        return false;
    if (!tow_indexes_read(knot->lane->destination, knot->collection->database,
                          knot->collection->name, &there, error)) {
        tow_indexes_clear(&source);
        return false;
    }
    for (size_t i = 0; i < there.count; i++)
        if (may_have_refused(knot, &there.items[i])) {
            asked++;
            listed += is_listed(&there.items[i], &source, &takes);
        }
    /* Of indexes that are not looked at nothing can be said. */
    *out = asked ? listed == asked
                 : !tow_index_is_shown(knot->lane->replay->options.destination,
                                       &(bson_t)BSON_INITIALIZER);
    tow_indexes_clear(&source);
    tow_indexes_clear(&there);
    return true;
}

bool tow_knot_is_final(tow_knot_t *knot, bool *out, tow_error_t *error)
{
    if (!find_at_source(knot, out, error))
        return false;
    return !*out || knot->id_refused || is_at_source(knot, out, error);
}
