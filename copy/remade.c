/* SPDX-License-Identifier: Apache-2.0 */
/* remade.c: collections that writes of this job made again.
 *
 * Somebody drops a collection of ours, or a drop of an earlier process arrives late; the next
 * insert or upsert of a lane then makes one of that name, under an identity that no claim knows.
 * Not every version can be asked not to do so (collectionUUID: from 6.0 on). Such a collection is
 * the job's to drop and to copy again, where all of this holds:
 *   - the job's records claim a collection of that very name, under another identity;
 *   - it is what a write makes: a plain collection without options, and with no index but that of
 * _id;
 *   - it is not empty, and each of its documents is, byte for byte, one that the source has now.
 * Whose else could it be? A collection that was created for a purpose has options, indexes,
 * documents of somebody's own, or nothing in it yet: any of these and it stays. What passes can at
 * most be somebody's own copy of a part of the source's collection, and all of that is back when
 * the copy ends.
 *
 * A document that a lane has yet to bring up to the source's state differs. Then the answer is no,
 * which is safe; a cutover asks when all keys are settled. What somebody writes between this look
 * and the drop goes with it, as it does in any collection that the job claims. */
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "copy/internal.h"
#include "engine/link/reader.h"
#include "engine/state/selection.h"

/* One of the destination's documents, which its batch holds: the key is all of its bytes. */
typedef struct {
    UT_hash_handle hh;
} seen_t;

typedef struct {
    const tow_collection_info_t *there;
    tow_conn_t *source, *destination;
    tow_optime_t after; /* the source had by then what a lane has written */
    tow_selection_t selection;
    seen_t items[TOW_SELECTION_MOST];
    uint32_t count;
    seen_t *unmatched; /* of the selection: the source was not found to have them as they are */
    bool same;         /* the source has all that was compared */
} comparing_t;

/* Compares what was selected, and begins the next selection. */
static bool compare(comparing_t *comparing, tow_error_t *error)
{
    bson_t filter, document;
    tow_read_t what = {.database = comparing->there->database,
                       .collection = comparing->there->name,
                       .filter = &filter,
                       .after = comparing->after};
    tow_reader_t *reader;
    bool more = true, ok;
    seen_t *seen;

    tow_selection_end(&comparing->selection, &filter);
    reader = tow_reader_open(comparing->source, &what, error);
    ok = reader != NULL;
    while (ok && more) {
        while (tow_reader_next(reader, &document)) {
            HASH_FIND(hh, comparing->unmatched, bson_get_data(&document), document.len, seen);
            if (seen)
                HASH_DELETE(hh, comparing->unmatched, seen);
        }
        ok = tow_reader_next_batch(reader, &more, error);
    }
    tow_reader_close(reader);
    bson_destroy(&filter);
    comparing->same = !comparing->unmatched;
    HASH_CLEAR(hh, comparing->unmatched);
    tow_selection_begin(&comparing->selection);
    comparing->count = 0;
    return ok;
}

static bool add(comparing_t *comparing, const bson_t *document, tow_error_t *error)
{
    tow_value_t id;
    seen_t *seen;

    comparing->same = tow_value_id(document, &id);
    if (!comparing->same)
        return true;
    if (!tow_selection_fits(&comparing->selection, id) && !compare(comparing, error))
        return false;
    seen = &comparing->items[comparing->count++];
    tow_selection_add(&comparing->selection, id);
    HASH_ADD_KEYPTR(hh, comparing->unmatched, bson_get_data(document), document->len, seen);
    return true;
}

/* Whether there are documents, and the source has each of them as it is. */
static bool has_only_ours(comparing_t *comparing, bool *out, tow_error_t *error)
{
    tow_read_t what = {.database = comparing->there->database,
                       .collection = comparing->there->name};
    tow_reader_t *reader = tow_reader_open(comparing->destination, &what, error);
    bool more = true, any = false, ok = reader != NULL;
    bson_t document, rest;

    comparing->same = true;
    tow_selection_begin(&comparing->selection);
    while (ok && comparing->same && more) {
        while (ok && comparing->same && tow_reader_next(reader, &document)) {
            any = true;
            ok = add(comparing, &document, error);
        }
        if (ok && comparing->same && comparing->count)
            ok = compare(comparing, error);
        ok = ok && tow_reader_next_batch(reader, &more, error);
    }
    HASH_CLEAR(hh, comparing->unmatched);
    tow_selection_end(&comparing->selection, &rest);
    bson_destroy(&rest);
    tow_reader_close(reader);
    *out = ok && any && comparing->same;
    return ok;
}

bool tow_copy_is_remade(tow_copy_t *copy, const tow_collection_info_t *there, bool *out,
                        tow_error_t *error)
{
    comparing_t *comparing;
    tow_indexes_t indexes;
    bool ok;

    *out = false;
    if (there->type != TOW_COLLECTION || !bson_empty(&there->options) ||
        !tow_claims_has(copy->options.claims, there->ns))
        return true;
    comparing = tow_alloc(sizeof *comparing);
    comparing->there = there;
    comparing->after = tow_link_read_time(copy->options.source);
    comparing->source = tow_conn_open(copy->options.source);
    comparing->destination = tow_conn_open(copy->options.destination);
    ok = tow_indexes_read(comparing->destination, there->database, there->name, &indexes, error);
    if (ok) {
        if (!indexes.count)
            ok = has_only_ours(comparing, out, error);
        tow_indexes_clear(&indexes);
    }
    tow_conn_close(comparing->source);
    tow_conn_close(comparing->destination);
    free(comparing);
    return ok ? true : tow_fail_context(error, "see who made %s", there->ns);
}
