/* SPDX-License-Identifier: Apache-2.0 */
/* capped_heads.c: the oldest documents of a log, those that the source no longer has.
 *
 * Mostly they are nobody's business: what the source's cap has dropped, the destination's will
 * drop. But where the source has wrapped since, the destination did not see the documents in
 * between, and its cap, when it is one of bytes, may keep a few smaller ones that came before. */
#include "engine/state/selection.h"
#include "oplog/capped.h"

enum { HEADS_MOST = 1000 };

typedef struct {
    bool known;
    uint64_t hash;
    bool met;
    tow_log_each_fn each;
    void *data;
} walk_t;

static bool take_one(tow_continuing_t *log, const bson_t *document, void *data)
{
    walk_t *walk = data;
    tow_value_t id = {0};

    (void)log;
    tow_value_id(document, &id);
    walk->known = true;
    walk->hash = tow_value_hash(id);
    return false;
}

/* The source's oldest, or newest. */
static bool read_one(tow_continuing_t *log, bool newest, walk_t *walk, tow_error_t *error)
{
    tow_read_t what = {.natural = true, .newest_first = newest, .batch_documents = 2};
    bson_t projection;
    bool ok, end;

    tow_log_id_only(&projection);
    what.projection = &projection;
    ok = tow_log_read(log, log->lane->source, &what, take_one, walk, &end, error);
    bson_destroy(&projection);
    return ok;
}

static bool take_head(tow_continuing_t *log, const bson_t *document, void *data)
{
    walk_t *walk = data;
    tow_value_t id = {0};

    tow_value_id(document, &id);
    walk->met = walk->known && tow_value_hash(id) == walk->hash;
    return !walk->met && walk->each(log, document, walk->data);
}

bool tow_log_each_head(tow_continuing_t *log, tow_log_each_fn each, void *data, bool *out_met,
                       tow_error_t *error)
{
    walk_t walk = {.each = each, .data = data};
    tow_read_t what = {.natural = true};
    bson_t projection;
    bool ok, end;

    tow_log_id_only(&projection);
    what.projection = &projection;
    ok = read_one(log, false, &walk, error) &&
         tow_log_read(log, log->lane->destination, &what, take_head, &walk, &end, error);
    bson_destroy(&projection);
    *out_met = walk.met;
    return ok;
}

typedef struct {
    bson_t ids;
    uint32_t count;
} heads_t;

static bool keep_head(tow_continuing_t *log, const bson_t *document, void *data)
{
    heads_t *heads = data;
    tow_value_t id = {0};

    (void)log;
    if (tow_value_id(document, &id))
        tow_value_append(&heads->ids, "", 0, id);
    return ++heads->count <= HEADS_MOST;
}

static bool delete_heads(tow_continuing_t *log, const heads_t *heads, tow_error_t *error)
{
    tow_write_t write = {0};
    bson_iter_t iter;
    bool ok = bson_iter_init(&iter, &heads->ids);

    tow_write_begin(&write, TOW_WRITE_DELETE, log->collection);
    while (ok && bson_iter_next(&iter)) {
        tow_value_t id = tow_value_of(&iter);

        if (!tow_write_fits(&write, id.length)) {
            ok = tow_log_send(log, &write, error);
            tow_write_begin(&write, TOW_WRITE_DELETE, log->collection);
        }
        tow_write_delete(&write, id, NULL);
    }
    ok = ok && tow_log_send(log, &write, error);
    tow_write_clear(&write);
    return ok;
}

/* Whether the destination's oldest is at the source: then its own cap has dropped more, and all is
 * well. */
static bool is_shared(tow_continuing_t *log, const heads_t *heads, bool *out, tow_error_t *error)
{
    tow_selection_t selection;
    walk_t found = {0};
    bson_iter_t iter;
    bson_t filter;
    bool ok, end;

    tow_selection_begin(&selection);
    if (bson_iter_init(&iter, &heads->ids) && bson_iter_next(&iter))
        tow_selection_add(&selection, tow_value_of(&iter));
    tow_selection_end(&selection, &filter);
    ok = tow_log_read(log, log->lane->source, &(tow_read_t){.filter = &filter}, take_one, &found,
                      &end, error);
    bson_destroy(&filter);
    *out = found.known;
    return ok;
}

static bool remove_heads(tow_continuing_t *log, const heads_t *heads, bool met, tow_error_t *error)
{
    bool shared = false;

    if (!heads->count)
        return true;
    if (met && heads->count <= HEADS_MOST && tow_log_may_delete(tow_log_options(log)->destination))
        return delete_heads(log, heads, error);
    if (!met && !is_shared(log, heads, &shared, error))
        return false;
    if (!shared)
        tow_log_give_up(log, "documents that are older than the source's oldest are still there");
    return true;
}

/* Only while the source stands still: what is added to it drops the oldest on both sides, and
 * brings events that lead here again. Its oldest is read first, so that nothing was added in
 * between. */
bool tow_log_drop_heads(tow_continuing_t *log, tow_error_t *error)
{
    heads_t heads = {.ids = BSON_INITIALIZER};
    walk_t newest = {0};
    bool met, ok = tow_log_each_head(log, keep_head, &heads, &met, error) &&
                   read_one(log, true, &newest, error);

    if (ok && log->log->known && newest.known && newest.hash == log->log->newest) {
        log->log->has_heads = false;
        ok = remove_heads(log, &heads, met, error);
    }
    bson_destroy(&heads.ids);
    return ok;
}
