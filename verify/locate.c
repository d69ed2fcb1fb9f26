/* locate.c: turns the differences between two maps into reported ones.
 *
 * Missing and extra documents are reported as they are. Documents whose content differs are read
 * once more on both sides, some at a time, because only the documents themselves tell in which
 * field. */
#include <stdlib.h>

#include "verify/internal.h"

enum {
    FETCH_DOCUMENTS = 64,
    FETCH_BYTES = 8 << 20 /* of both sides together, unless a single document is larger */
};

typedef struct {
    const tow_map_entry_t *source, *destination;
} content_t;

typedef struct {
    tow_verify_pair_t *pair;
    tow_verify_unit_t *unit;
    tow_map_t *maps;
    content_t *content; /* to be read once more */
    size_t count, capacity;
    uint64_t unnamed; /* differences for which the list has no room */
} locate_t;

/* The documents that one side has for some keys. */
typedef struct {
    tow_verify_unit_t *unit;
    tow_optime_t after;
    const bson_t *filter;
    bson_t **documents;
    size_t count;
} fetch_t;

static void take_difference(void *data, tow_difference_kind_t kind, const tow_map_entry_t *source,
                            const tow_map_entry_t *destination)
{
    locate_t *locate = data;
    tow_verify_run_t *run = locate->pair->run;
    tow_value_t id;

    if (tow_verify_list_full(run)) {
        locate->unnamed++;
        return;
    }
    if (kind == TOW_DIFFERENCE_CONTENT) {
        /* No more than could be listed: the rest is only counted. */
        if (locate->count == run->options->max_differences) {
            locate->unnamed++;
            return;
        }
        if (locate->count == locate->capacity) {
            locate->capacity = locate->capacity ? locate->capacity * 2 : 16;
            locate->content =
                tow_realloc(locate->content, locate->capacity * sizeof *locate->content);
        }
        locate->content[locate->count++] = (content_t){source, destination};
        return;
    }
    id = source ? tow_map_id(&locate->maps[TOW_SOURCE], source)
                : tow_map_id(&locate->maps[TOW_DESTINATION], destination);
    tow_verify_add(run, locate->unit->item, kind, &id, NULL, locate->unit);
}

static void reset_fetch(void *data)
{
    fetch_t *fetch = data;

    for (size_t i = 0; i < fetch->count; i++)
        if (fetch->documents[i])
            bson_destroy(fetch->documents[i]);
    fetch->count = 0;
}

static void take_document(void *data, const bson_t *document)
{
    fetch_t *fetch = data;

    fetch->documents = tow_realloc(fetch->documents, (fetch->count + 1) * sizeof *fetch->documents);
    fetch->documents[fetch->count++] = bson_copy(document);
}

static bool fetch_side(tow_verify_side_t *side, void *data, tow_error_t *error)
{
    fetch_t *fetch = data;
    tow_read_t what = {.database = fetch->unit->item->database,
                       .collection = fetch->unit->item->name,
                       .filter = fetch->filter,
                       .after = side->which == TOW_SOURCE ? fetch->after : 0};
    tow_visitor_t visitor = {reset_fetch, take_document, fetch};

    return tow_side_read(side, &what, &visitor, error);
}

/* Takes the document of that _id out; NULL when there is none. */
static bson_t *take_fetched(fetch_t *fetch, tow_value_t id)
{
    for (size_t i = 0; i < fetch->count; i++) {
        tow_value_t other = {0};
        bson_t *document = fetch->documents[i];

        if (!document)
            continue;
        tow_value_id(document, &other);
        if (tow_value_compare(id, other) == 0) {
            fetch->documents[i] = NULL;
            return document;
        }
    }
    return NULL;
}

/* The old reading of a document leaves the digest and the new one, if any, comes in. */
static void replace_reading(tow_digest_t *digest, const tow_map_entry_t *old,
                            const bson_t *document, uint64_t seed)
{
    tow_digest_remove(digest, old->hash, old->length);
    if (document)
        tow_digest_add(digest, tow_digest_hash(bson_get_data(document), document->len, seed),
                       document->len);
}

static void report_content(locate_t *locate, const content_t *content, fetch_t fetched[2],
                           tow_digest_t digests[2])
{
    tow_verify_run_t *run = locate->pair->run;
    tow_value_t id = tow_map_id(&locate->maps[TOW_SOURCE], content->source);
    bson_t *source = take_fetched(&fetched[TOW_SOURCE], id);
    bson_t *destination = take_fetched(&fetched[TOW_DESTINATION], id);
    char *path = source && destination ? tow_verify_path(source, destination) : NULL;

    replace_reading(&digests[TOW_SOURCE], content->source, source, run->seed);
    replace_reading(&digests[TOW_DESTINATION], content->destination, destination, run->seed);
    /* Writes may go on while we compare: what became equal, or went on both sides, is no
     * difference. */
    if (source && !destination)
        tow_verify_add(run, locate->unit->item, TOW_DIFFERENCE_MISSING, &id, NULL, locate->unit);
    else if (!source && destination)
        tow_verify_add(run, locate->unit->item, TOW_DIFFERENCE_EXTRA, &id, NULL, locate->unit);
    else if (source && !bson_equal(source, destination))
        tow_verify_add(run, locate->unit->item, TOW_DIFFERENCE_CONTENT, &id, path, locate->unit);
    free(path);
    if (source)
        bson_destroy(source);
    if (destination)
        bson_destroy(destination);
}

static void append_id(bson_t *list, uint32_t index, tow_value_t id)
{
    char room[16];
    const char *key;

    bson_uint32_to_string(index, &key, room, sizeof room);
    tow_value_append(list, key, -1, id);
}

/* Documents start … end-1 of the content list, in one read of each side. */
static bool fetch_batch(locate_t *locate, size_t start, size_t end, tow_digest_t digests[2],
                        tow_error_t *error)
{
    bson_t filter = BSON_INITIALIZER, condition, list;
    fetch_t fetched[2];
    bool ok;

    bson_append_document_begin(&filter, "_id", -1, &condition);
    bson_append_array_begin(&condition, "$in", -1, &list);
    for (size_t i = start; i < end; i++)
        append_id(&list, (uint32_t)(i - start),
                  tow_map_id(&locate->maps[TOW_SOURCE], locate->content[i].source));
    bson_append_array_end(&condition, &list);
    bson_append_document_end(&filter, &condition);

    for (int which = TOW_SOURCE; which <= TOW_DESTINATION; which++)
        fetched[which] =
            (fetch_t){.unit = locate->unit, .after = locate->pair->run->after, .filter = &filter};
    ok = tow_pair_run(locate->pair, fetch_side, &fetched[TOW_SOURCE], &fetched[TOW_DESTINATION],
                      error);
    for (size_t i = start; ok && i < end; i++)
        report_content(locate, &locate->content[i], fetched, digests);
    for (int which = TOW_SOURCE; which <= TOW_DESTINATION; which++) {
        reset_fetch(&fetched[which]);
        free(fetched[which].documents);
    }
    bson_destroy(&filter);
    return ok;
}

/* A document without an _id cannot be asked for: it is reported without a path. */
static bool report_unreadable(locate_t *locate, const content_t *content)
{
    tow_value_t id = tow_map_id(&locate->maps[TOW_SOURCE], content->source);

    if (id.type != BSON_TYPE_EOD)
        return false;
    tow_verify_add(locate->pair->run, locate->unit->item, TOW_DIFFERENCE_CONTENT, &id, NULL,
                   locate->unit);
    return true;
}

bool tow_verify_locate(tow_verify_pair_t *pair, tow_verify_unit_t *unit, tow_map_t maps[2],
                       tow_digest_t digests[2], tow_error_t *error)
{
    locate_t locate = {.pair = pair, .unit = unit, .maps = maps};
    bool ok = true;

    tow_map_compare(&maps[TOW_SOURCE], &maps[TOW_DESTINATION], take_difference, &locate);
    for (size_t i = 0, end; ok && i < locate.count; i = end) {
        uint64_t bytes = 0;

        end = i + 1;
        if (report_unreadable(&locate, &locate.content[i]))
            continue;
        for (end = i; end < locate.count && end - i < FETCH_DOCUMENTS; end++) {
            const content_t *content = &locate.content[end];

            bytes += (uint64_t)content->source->length + content->destination->length;
            if (end > i && (bytes > FETCH_BYTES || content->source->id_type == BSON_TYPE_EOD))
                break;
        }
        ok = fetch_batch(&locate, i, end, digests, error);
    }
    if (ok && locate.unnamed)
        tow_verify_count(pair->run, unit->item, locate.unnamed);
    free(locate.content);
    return ok;
}
