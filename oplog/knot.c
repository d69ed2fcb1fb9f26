/* knot.c: what belongs to a knot: the refused documents, and those that hold their values. */
#include "oplog/knot.h"

#include <stdlib.h>
#include <string.h>

#include "engine/link/reader.h"
#include "engine/link/reply.h"
#include "engine/state/selection.h"
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
        HASH_ADD_KEYPTR(hh, knot->members, member->identity.data, member->identity.length, member);
        knot->grew = true;
    } else {
        tow_buffer_free(&identity);
    }
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
                if (HASH_COUNT(knot->members) <= TOW_KNOT_MOST)
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

void tow_knot_add_holders(tow_knot_t *knot, const tow_member_t *member,
                          const tow_write_error_t *refusal)
{
    bool held = false, known, ok = true, asked = false;
    bson_t key;

    known = pattern_of(refusal, &key);
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
            if (any ? tow_index_is_unique_one(&knot->indexes.items[i])
                    : known && tow_index_has_key(&knot->indexes.items[i], &key)) {
                asked = true;
                ok = add_holders_of(knot, &knot->indexes.items[i], member->document, &held);
            }
    /* A duplicate of several indexes is told of one; of which, is not known: none is to blame. */
    if (held || !known)
        tow_knot_forget_suspect(knot);
}
