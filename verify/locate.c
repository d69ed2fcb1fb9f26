/* SPDX-License-Identifier: Apache-2.0 */
/* locate.c: turns the differences between two maps into reported ones, and has them repaired.
 *
 * Every suspect, some at a time, is looked at again on both sides: only the documents themselves
 * tell in which field they differ, and writes may go on while we compare. Where changes are
 * replayed meanwhile, a difference counts only when the source's document stood still from before
 * the replay had caught up until after the destination's was read. With `repair` what counts is
 * repaired and looked at again. */
#include <stdlib.h>
#include <string.h>

#include "engine/link/reader.h"
#include "engine/state/selection.h"
#include "verify/internal.h"

enum {
    FETCH_DOCUMENTS = 500,
    FETCH_BYTES = 8 << 20, /* of both sides together, unless a single document is larger */
    KEYS_AT_ONCE = 100,
    LOOKS_MOST = 6
};
/* Documents may have grown since; but not a hundred of them to 16 MB. */
#define FETCH_MOST (UINT64_C(2) << 30)

/* A document as it was last read. */
typedef struct {
    bool there;
    tow_hash_t hash;
    uint32_t length;
} look_t;

typedef struct {
    tow_value_t id; /* borrowed from the maps */
    look_t looks[2];
    tow_difference_kind_t kind;
    char *path;          /* when it was found to differ */
    uint32_t lengths[2]; /* then */
    bool different, counts, done;
    bool duplicate; /* one side has more documents of this _id than the other */
} suspect_t;

typedef struct {
    tow_verify_pair_t *pair;
    tow_verify_unit_t *unit;
    tow_map_t *maps;
    tow_digest_t *digests;
    tow_buffer_t scratch;
    suspect_t *suspects;
    size_t count, capacity;
    uint64_t unnamed;   /* differences for which the list has no room */
    const bson_t *keys; /* of a track, when these are compared; NULL: who wrote is not known */
} locate_t;

typedef struct {
    bson_t *document;
    bool taken;
} fetched_t;

/* The documents that one side has for some keys. */
typedef struct {
    tow_verify_unit_t *unit;
    const suspect_t *suspects; /* asked for, those that are not done */
    size_t suspect_count;
    const bson_t *filter;
    fetched_t *items; /* once read: sorted by _id */
    size_t count;
    bool stranger; /* a document came that was not asked for */
} fetch_t;

static bool may_repair(const locate_t *locate)
{
    /* What the source does not have as a collection is not ours to empty. */
    return locate->pair->run->options->repair && locate->unit->item->source;
}

static void take_difference(void *data, tow_difference_kind_t kind, const tow_map_entry_t *source,
                            const tow_map_entry_t *destination)
{
    locate_t *locate = data;
    const tow_map_entry_t *entries[2] = {source, destination};
    suspect_t suspect = {.kind = kind};

    /* No more than could be listed: the rest is only counted, unless it is to be repaired. */
    if (!may_repair(locate) && (tow_verify_list_full(locate->pair->run) ||
                                locate->count == locate->pair->run->options->max_differences)) {
        locate->unnamed++;
        return;
    }
    suspect.id = tow_map_id(&locate->maps[source ? TOW_SOURCE : TOW_DESTINATION],
                            source ? source : destination);
    for (int which = TOW_SOURCE; which <= TOW_DESTINATION; which++)
        if (entries[which])
            suspect.looks[which] = (look_t){true, entries[which]->hash, entries[which]->length};
    if (locate->count == locate->capacity) {
        locate->capacity = locate->capacity ? locate->capacity * 2 : 16;
        locate->suspects =
            tow_realloc(locate->suspects, locate->capacity * sizeof *locate->suspects);
    }
    locate->suspects[locate->count++] = suspect;
}

/* Reading ---------------------------------------------------------------------------------------*/

static void reset_fetch(void *data)
{
    fetch_t *fetch = data;

    for (size_t i = 0; i < fetch->count; i++)
        bson_destroy(fetch->items[i].document);
    fetch->count = 0;
    fetch->stranger = false;
}

/* A collation takes other spellings, and $in: [null] undefined. */
static bool is_asked(const fetch_t *fetch, tow_value_t id)
{
    const tow_verify_item_t *item = fetch->unit->item;

    if (id.type == BSON_TYPE_UNDEFINED || (item->source && item->source->collated) ||
        (item->destination && item->destination->collated))
        return true;
    for (size_t i = 0; i < fetch->suspect_count; i++)
        if (tow_value_compare(fetch->suspects[i].id, id) == 0)
            return true;
    return false;
}

static bool is_whole(const void *data)
{
    return !((const fetch_t *)data)->stranger;
}

static tow_value_t id_of(const bson_t *document)
{
    tow_value_t id = {0};

    tow_value_id(document, &id);
    return id;
}

static void take_document(void *data, const bson_t *document)
{
    fetch_t *fetch = data;

    fetch->stranger = fetch->stranger || !is_asked(fetch, id_of(document));
    /* The room grows by powers of two, so the count alone says when it is used up. */
    if ((fetch->count & (fetch->count - 1)) == 0)
        fetch->items =
            tow_realloc(fetch->items, (fetch->count ? fetch->count * 2 : 1) * sizeof *fetch->items);
    fetch->items[fetch->count++] = (fetched_t){bson_copy(document), false};
}

static int by_id(const void *left, const void *right)
{
    const fetched_t *a = left, *b = right;

    return tow_value_compare(id_of(a->document), id_of(b->document));
}

static bool fetch_side(tow_verify_side_t *side, void *data, tow_error_t *error)
{
    fetch_t *fetch = data;
    const tow_verify_item_t *item = fetch->unit->item;
    tow_read_t what = {.database = item->database,
                       .collection = item->name,
                       .filter = fetch->filter,
                       .kept_most = FETCH_MOST};
    tow_visitor_t visitor = {reset_fetch, take_document, fetch, is_whole};

    if (!tow_side_read(side, &what, &visitor, error))
        return false;
    if (fetch->count)
        qsort(fetch->items, fetch->count, sizeof *fetch->items, by_id);
    return true;
}

/* The first document of that _id, or where it would be. */
static size_t find_fetched(const fetch_t *fetch, tow_value_t id)
{
    size_t low = 0, high = fetch->count;

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (tow_value_compare(id_of(fetch->items[middle].document), id) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* A document of that _id, each only once; borrowed; NULL when there is none. *out_count: how many
 * there are of it. */
static const bson_t *take_fetched(fetch_t *fetch, tow_value_t id, size_t *out_count)
{
    const bson_t *taken = NULL;

    *out_count = 0;
    for (size_t i = find_fetched(fetch, id);
         i < fetch->count && tow_value_compare(id_of(fetch->items[i].document), id) == 0; i++) {
        ++*out_count;
        if (taken || fetch->items[i].taken)
            continue;
        fetch->items[i].taken = true;
        taken = fetch->items[i].document;
    }
    return taken;
}

/* Those that are not done. */
static void build_filter(const suspect_t *suspects, size_t count, bson_t *out)
{
    tow_selection_t selection;

    tow_selection_begin(&selection);
    for (size_t i = 0; i < count; i++)
        if (!suspects[i].done)
            tow_selection_add(&selection, suspects[i].id);
    tow_selection_end(&selection, out);
}

/* Looking ---------------------------------------------------------------------------------------*/

/* The old reading of a document leaves the digest and the new one, if any, comes in. True: it is
 * not what it was. */
static bool look(locate_t *locate, suspect_t *suspect, int which, const bson_t *document)
{
    const tow_verify_run_t *run = locate->pair->run;
    look_t old = suspect->looks[which], now = {.there = document != NULL};

    if (document)
        now = (look_t){true,
                       tow_verify_hash(run->options->mode, run->seed, document, &locate->scratch),
                       document->len};
    if (old.there)
        tow_digest_remove(&locate->digests[which], old.hash, old.length);
    if (now.there)
        tow_digest_add(&locate->digests[which], now.hash, now.length);
    suspect->looks[which] = now;
    return old.there != now.there || (now.there && old.hash != now.hash);
}

static void note_facts(locate_t *locate, suspect_t *suspect, const bson_t *documents[2])
{
    const look_t *looks = suspect->looks;

    suspect->kind = suspect->duplicate              ? TOW_DIFFERENCE_DUPLICATE
                    : !looks[TOW_SOURCE].there      ? TOW_DIFFERENCE_EXTRA
                    : !looks[TOW_DESTINATION].there ? TOW_DIFFERENCE_MISSING
                                                    : TOW_DIFFERENCE_DIFFERENT;
    for (int which = TOW_SOURCE; which <= TOW_DESTINATION; which++)
        suspect->lengths[which] = looks[which].there ? looks[which].length : 0;
    free(suspect->path);
    suspect->path = documents[TOW_SOURCE] && documents[TOW_DESTINATION]
                        ? tow_verify_path(locate->pair->run->options->mode, documents[TOW_SOURCE],
                                          documents[TOW_DESTINATION])
                        : NULL;
}

/* A difference counts when neither side has changed since the look before: a document that is
 * deleted and inserted all the time may be gone at the source each time, and still on its way at
 * the destination. */
static void judge(locate_t *locate, suspect_t *suspect, const bson_t *documents[2])
{
    const tow_verify_options_t *options = locate->pair->run->options;
    const look_t *looks = suspect->looks;
    bool moved = look(locate, suspect, TOW_SOURCE, documents[TOW_SOURCE]);

    moved |= look(locate, suspect, TOW_DESTINATION, documents[TOW_DESTINATION]);
    suspect->different =
        suspect->duplicate || looks[TOW_SOURCE].there != looks[TOW_DESTINATION].there ||
        (looks[TOW_SOURCE].there && looks[TOW_SOURCE].hash != looks[TOW_DESTINATION].hash);
    if (!suspect->different) {
        suspect->done = true;
    } else if (!options->settle || !moved) {
        if (!suspect->counts)
            note_facts(locate, suspect, documents);
        suspect->counts = true;
        suspect->done = suspect->duplicate || !may_repair(locate);
    }
}

/* Reads what is not done once more on both sides and judges it. */
static bool look_again(locate_t *locate, suspect_t *suspects, size_t count, tow_error_t *error)
{
    tow_verify_run_t *run = locate->pair->run;
    fetch_t fetches[2];
    bson_t filter;
    bool ok = !run->options->settle || run->options->settle(run->options->data, error);

    if (!ok)
        return false;
    build_filter(suspects, count, &filter);
    for (int which = TOW_SOURCE; which <= TOW_DESTINATION; which++)
        fetches[which] = (fetch_t){
            .unit = locate->unit, .suspects = suspects, .suspect_count = count, .filter = &filter};
    ok = tow_pair_run(locate->pair, fetch_side, &fetches[TOW_SOURCE], &fetches[TOW_DESTINATION],
                      error);
    for (size_t i = 0; ok && i < count; i++) {
        const bson_t *documents[2];
        size_t counts[2];

        if (suspects[i].done)
            continue;
        for (int which = TOW_SOURCE; which <= TOW_DESTINATION; which++)
            documents[which] = take_fetched(&fetches[which], suspects[i].id, &counts[which]);
        /* Shards hold an _id each where it is not their key, and a set can hold but one of them. */
        suspects[i].duplicate = counts[TOW_SOURCE] != counts[TOW_DESTINATION] &&
                                documents[TOW_SOURCE] && documents[TOW_DESTINATION];
        judge(locate, &suspects[i], documents);
    }
    for (int which = TOW_SOURCE; which <= TOW_DESTINATION; which++) {
        reset_fetch(&fetches[which]);
        free(fetches[which].items);
    }
    bson_destroy(&filter);
    return ok;
}

/* *tried: it was done before and did not help, so that now all is deleted and inserted. */
static bool repair(locate_t *locate, const suspect_t *suspects, size_t count, bool *tried,
                   tow_error_t *error)
{
    const tow_verify_options_t *options = locate->pair->run->options;
    const tow_verify_item_t *item = locate->unit->item;
    tow_value_t *ids = tow_alloc((count + 1) * sizeof *ids);
    uint32_t wanted = 0;
    bool ok;

    for (size_t i = 0; i < count; i++)
        if (!suspects[i].done && suspects[i].counts)
            ids[wanted++] = suspects[i].id;
    ok = !wanted ||
         options->repair(options->data, item->database, item->name, ids, wanted, *tried, error);
    *tried = *tried || wanted;
    free(ids);
    return ok ? true : tow_fail_context(error, "repair");
}

/* Reporting -------------------------------------------------------------------------------------*/

/* The range was equal, and since then only the destination told of a write to the document. */
static bool is_outside(const locate_t *locate, tow_value_t id)
{
    bson_iter_t iter;

    if (!locate->keys || !bson_iter_init(&iter, locate->keys))
        return false;
    while (bson_iter_next(&iter))
        if (*bson_iter_key(&iter) == TOW_TRACK_SOURCE &&
            tow_value_compare(tow_value_of(&iter), id) == 0)
            return false;
    return true;
}

static void report(locate_t *locate, suspect_t *suspect)
{
    tow_verify_run_t *run = locate->pair->run;
    tow_verify_unit_t *unit = locate->unit;
    tow_finding_t finding = {.kind = suspect->kind,
                             .id = &suspect->id,
                             .path = suspect->path,
                             .unit = locate->unit,
                             .lengths = {suspect->lengths[0], suspect->lengths[1]},
                             .repaired = !suspect->different};

    unit->unequal = unit->unequal || suspect->different;
    finding.outside = suspect->counts && is_outside(locate, suspect->id);
    if (suspect->counts)
        tow_verify_add(run, locate->unit->item, &finding);
    else if (suspect->different)
        tow_verify_unsettled(run, 1);
    free(suspect->path);
    suspect->path = NULL;
}

/* Those that are not reported in the end, because of an error, have their paths freed
 * all the same. */
static bool handle_batch(locate_t *locate, suspect_t *suspects, size_t count, tow_error_t *error)
{
    bool ok = true, open = true, tried = false;

    for (int looks = 0; ok && open && looks < LOOKS_MOST; looks++) {
        ok = (!looks || repair(locate, suspects, count, &tried, error)) &&
             look_again(locate, suspects, count, error);
        open = false;
        for (size_t i = 0; i < count; i++)
            open = open || !suspects[i].done;
    }
    for (size_t i = 0; i < count; i++) {
        if (ok)
            report(locate, &suspects[i]);
        free(suspects[i].path);
    }
    return ok;
}

/* A document without an _id cannot be asked for: it is reported as it was mapped. */
static bool report_unreadable(locate_t *locate, suspect_t *suspect)
{
    if (suspect->id.type != BSON_TYPE_EOD)
        return false;
    suspect->different = suspect->counts = true;
    for (int which = TOW_SOURCE; which <= TOW_DESTINATION; which++)
        suspect->lengths[which] = suspect->looks[which].length;
    report(locate, suspect);
    return true;
}

bool tow_verify_locate(tow_verify_pair_t *pair, tow_verify_unit_t *unit, tow_map_t maps[2],
                       tow_digest_t digests[2], tow_error_t *error)
{
    locate_t locate = {.pair = pair, .unit = unit, .maps = maps, .digests = digests};
    bool ok = true;

    tow_map_compare(&maps[TOW_SOURCE], &maps[TOW_DESTINATION], take_difference, &locate);
    for (size_t i = 0, end; ok && i < locate.count; i = end) {
        uint64_t bytes = 0;

        end = i + 1;
        if (report_unreadable(&locate, &locate.suspects[i]))
            continue;
        for (end = i; end < locate.count && end - i < FETCH_DOCUMENTS; end++) {
            const suspect_t *suspect = &locate.suspects[end];

            bytes += (uint64_t)suspect->looks[0].length + suspect->looks[1].length;
            if (end > i && (bytes > FETCH_BYTES || suspect->id.type == BSON_TYPE_EOD))
                break;
        }
        ok = handle_batch(&locate, locate.suspects + i, end - i, error);
    }
    if (ok && locate.unnamed) {
        tow_verify_count(pair->run, unit->item, locate.unnamed);
        unit->unequal = true;
    }
    tow_buffer_free(&locate.scratch);
    free(locate.suspects);
    return ok;
}

/* The key stands in the list before: each is compared once. */
static bool is_twin(const bson_t *keys, const bson_iter_t *key)
{
    tow_value_t id = tow_value_of(key);
    bson_iter_t iter;

    if (!bson_iter_init(&iter, keys))
        return false;
    while (bson_iter_next(&iter) && strcmp(bson_iter_key(&iter), bson_iter_key(key)) != 0)
        if (tow_value_compare(tow_value_of(&iter), id) == 0)
            return true;
    return false;
}

bool tow_verify_locate_keys(tow_verify_pair_t *pair, tow_verify_unit_t *unit, const bson_t *keys,
                            uint64_t document_bytes, tow_error_t *error)
{
    tow_digest_t ignored[2] = {{0}, {0}};
    locate_t locate = {.pair = pair, .unit = unit, .digests = ignored, .keys = keys};
    suspect_t suspects[KEYS_AT_ONCE];
    uint64_t most = FETCH_BYTES / 2 / (document_bytes + 1) + 1;
    bson_iter_t iter;
    bool ok = bson_iter_init(&iter, keys), more = ok && bson_iter_next(&iter);

    while (ok && more) {
        tow_bounds_t bounds =
            tow_bounds(KEYS_AT_ONCE < most ? KEYS_AT_ONCE : (uint32_t)most, FETCH_BYTES);
        size_t count = 0;

        for (; more && tow_bounds_take(&bounds, tow_value_of(&iter).length);
             more = bson_iter_next(&iter))
            if (!is_twin(keys, &iter))
                suspects[count++] = (suspect_t){.id = tow_value_of(&iter)};
        ok = !count || handle_batch(&locate, suspects, count, error);
    }
    tow_buffer_free(&locate.scratch);
    return ok;
}
