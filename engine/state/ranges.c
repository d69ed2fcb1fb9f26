/* SPDX-License-Identifier: Apache-2.0 */
/* ranges.c: which collections and ranges a job copies, and how far each is. */
#include "engine/link/codes.h"
#include "engine/state/store_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/bounds.h"
#include "engine/link/reply.h"
#include "engine/state/key.h"

enum { RANGES_A_MESSAGE = 1000, BYTES_A_MESSAGE = 8 << 20 /* bounds may be large */ };

void tow_range_clear(tow_range_t *range)
{
    if (range->has_min)
        bson_value_destroy(&range->min);
    if (range->has_max)
        bson_value_destroy(&range->max);
    range->has_min = range->has_max = false;
}

static void append_range_id(bson_t *out, const char *name, const char *ns, uint32_t number)
{
    bson_t id;

    bson_append_document_begin(out, name, -1, &id);
    bson_append_utf8(&id, "ns", -1, ns, -1);
    bson_append_int32(&id, "n", -1, (int32_t)number);
    bson_append_document_end(out, &id);
}

static void append_range(bson_t *out, const char *ns, const tow_range_t *range)
{
    static const char *const states[] = {"open", "started", "done"};
    bson_t bounds;

    append_range_id(out, "_id", ns, range->number);
    bson_init(&bounds);
    if (range->has_min)
        bson_append_value(&bounds, "min", -1, &range->min);
    if (range->has_max)
        bson_append_value(&bounds, "max", -1, &range->max);
    tow_store_append_packed(out, "bounds", &bounds);
    bson_destroy(&bounds);
    bson_append_utf8(out, "state", -1, states[range->state], -1);
    tow_store_append_time(out, "lo", range->lo);
    tow_store_append_time(out, "hi", range->hi);
    bson_append_int64(out, "documents", -1, (int64_t)range->documents);
    bson_append_int64(out, "bytes", -1, (int64_t)range->bytes);
}

/* By their keys, which are the only index: there may be very many. */
static void append_ranges_of(bson_t *filter, const char *ns)
{
    bson_t bounds;

    bson_append_document_begin(filter, "_id", -1, &bounds);
    append_range_id(&bounds, "$gte", ns, 0);
    append_range_id(&bounds, "$lte", ns, INT32_MAX);
    bson_append_document_end(filter, &bounds);
}

static TOW_REQUIRES(tow_store) bool delete_ranges(tow_store_t *store, const char *ns,
                                                  tow_error_t *error)
{
    bson_t filter = BSON_INITIALIZER;
    bool ok;

    append_ranges_of(&filter, ns);
    ok = tow_records_delete_all(store, "ranges", &filter, error);
    bson_destroy(&filter);
    return ok;
}

static TOW_REQUIRES(tow_store) bool remove_collection(tow_store_t *store, const char *ns,
                                                      tow_error_t *error)
{
    bson_t filter = BSON_INITIALIZER;
    bool ok;

    bson_append_utf8(&filter, "_id", -1, ns, -1);
    /* The collection first: ranges without one mean nothing. */
    ok = tow_records_delete_all(store, "collections", &filter, error) &&
         delete_ranges(store, ns, error);
    bson_destroy(&filter);
    return ok;
}

/* Appends as many ranges as one message holds, from `from` on; returns where the
 * next one begins. */
static uint32_t append_ranges(bson_t *list, const char *ns, const tow_range_t *ranges,
                              uint32_t from, uint32_t count)
{
    tow_bounds_t bounds = tow_bounds(RANGES_A_MESSAGE, TOW_REQUEST_BYTES);
    uint32_t i = from;

    for (bool room = true; room && i < count; i += room) {
        bson_t document = BSON_INITIALIZER;
        char buffer[16];
        const char *key;

        append_range(&document, ns, &ranges[i]);
        room = tow_bounds_take(&bounds, document.len);
        bson_uint32_to_string(i - from, &key, buffer, sizeof buffer);
        if (room)
            bson_append_document(list, key, -1, &document);
        bson_destroy(&document);
    }
    return i;
}

/* Recording -------------------------------------------------------------------------------------*/

/* On a standalone, which knows no retryable writes, an insert that was sent again finds its own
 * work. */
static bool check_inserted(const tow_store_t *store, const bson_t *reply, tow_error_t *error)
{
    tow_write_error_t failure;
    uint32_t position = 0;

    while (tow_reply_write_error(reply, &position, &failure))
        if (failure.code != TOW_CODE_DUPLICATE_KEY ||
            !tow_link_facts(store->options.destination)->standalone)
            return tow_fail(error, TOW_ERROR_SERVER, "the job's state (%s): %s", store->database,
                            failure.message);
    return true;
}

static TOW_REQUIRES(tow_store) bool insert_ranges(tow_store_t *store, const char *ns,
                                                  const tow_range_t *ranges, uint32_t count,
                                                  tow_error_t *error)
{
    for (uint32_t from = 0; from < count;) {
        bson_t command = BSON_INITIALIZER, list, reply;
        bool ok;

        bson_append_utf8(&command, "insert", -1, "ranges", -1);
        bson_append_array_begin(&command, "documents", -1, &list);
        from = append_ranges(&list, ns, ranges, from, count);
        bson_append_array_end(&command, &list);
        bson_append_bool(&command, "ordered", -1, false);
        ok = tow_store_run(store, &command, TOW_SEND_WRITE | TOW_SEND_ONCE, &reply, error) &&
             check_inserted(store, &reply, error);
        bson_destroy(&reply);
        bson_destroy(&command);
        if (!ok)
            return false;
    }
    return true;
}

static TOW_REQUIRES(tow_store) bool replace(tow_store_t *store, const char *collection,
                                            const bson_t *document, tow_error_t *error)
{
    bson_t filter = BSON_INITIALIZER;
    bson_iter_t iter;
    int64_t matched;
    int code;
    bool ok;

    if (bson_iter_init_find(&iter, document, "_id"))
        bson_append_iter(&filter, "_id", 3, &iter);
    ok = tow_store_update_one(store, collection, &filter, document, false, true, &matched, &code,
                              error);
    bson_destroy(&filter);
    return ok;
}

/* A collection's document; one that names no ranges is copied again by a restart. */
static TOW_REQUIRES(tow_store) bool record(tow_store_t *store, const tow_collection_info_t *info,
                                           tow_optime_t read_at, uint32_t ranges,
                                           tow_error_t *error)
{
    bson_t document = BSON_INITIALIZER;
    bool ok;

    bson_append_utf8(&document, "_id", -1, info->ns, -1);
    bson_append_utf8(&document, "db", -1, info->database, -1);
    bson_append_utf8(&document, "name", -1, info->name, -1);
    bson_append_int32(&document, "type", -1, info->type);
    tow_store_append_packed(&document, "options", &info->options);
    bson_append_binary(&document, "uuid", -1, BSON_SUBTYPE_UUID, info->uuid, sizeof info->uuid);
    tow_store_append_time(&document, "readTime", read_at);
    bson_append_int32(&document, "ranges", -1, (int32_t)ranges);
    bson_append_bool(&document, "copied", -1, false);
    bson_append_bool(&document, "indexed", -1, false);
    ok = replace(store, "collections", &document, error);
    bson_destroy(&document);
    return ok;
}

/* The collection's document stands at every moment, since a restart takes a collection without one
 * for none of the copy's; and it names its ranges last: whoever reads it finds all of them, or
 * knows that some are missing. */
bool tow_store_put_collection(tow_store_t *store, const tow_collection_info_t *info,
                              tow_optime_t read_at, const tow_range_t *ranges, uint32_t count,
                              tow_error_t *error)
{
    bool ok;

    if (!store)
        return true;
    tow_store_lock(store);
    ok = record(store, info, 0, 0, error) && delete_ranges(store, info->ns, error) &&
         insert_ranges(store, info->ns, ranges, count, error) &&
         (!count || record(store, info, read_at, count, error));
    tow_store_unlock(store);
    return ok;
}

bool tow_store_put_range(tow_store_t *store, const char *ns, const tow_range_t *range,
                         tow_error_t *error)
{
    bson_t document = BSON_INITIALIZER;
    bool ok;

    if (!store)
        return true;
    append_range(&document, ns, range);
    tow_store_lock(store);
    ok = replace(store, "ranges", &document, error);
    tow_store_unlock(store);
    bson_destroy(&document);
    return ok;
}

bool tow_store_set_collection(tow_store_t *store, const char *ns, const bson_t *fields,
                              tow_error_t *error)
{
    bson_t filter = BSON_INITIALIZER, update = BSON_INITIALIZER;
    int64_t matched;
    int code;
    bool ok;

    if (!store)
        return true;
    bson_append_utf8(&filter, "_id", -1, ns, -1);
    bson_append_document(&update, "$set", -1, fields);
    tow_store_lock(store);
    ok = tow_store_update_one(store, "collections", &filter, &update, false, false, &matched, &code,
                              error);
    tow_store_unlock(store);
    bson_destroy(&filter);
    bson_destroy(&update);
    return ok;
}

bool tow_store_remove_collection(tow_store_t *store, const char *ns, tow_error_t *error)
{
    bool ok;

    if (!store)
        return true;
    tow_store_lock(store);
    ok = remove_collection(store, ns, error);
    tow_store_unlock(store);
    return ok;
}

/* Restart ---------------------------------------------------------------------------------------*/

static bool parse_bounds(const bson_iter_t *iter, tow_range_t *out)
{
    bson_iter_t bound;
    bson_t bounds;

    if (!tow_store_read_packed(iter, &bounds))
        return false;
    if (bson_iter_init_find(&bound, &bounds, "min")) {
        bson_value_copy(bson_iter_value(&bound), &out->min);
        out->has_min = true;
    }
    if (bson_iter_init_find(&bound, &bounds, "max")) {
        bson_value_copy(bson_iter_value(&bound), &out->max);
        out->has_max = true;
    }
    return true;
}

static bool parse_state(const bson_iter_t *iter, tow_range_t *out)
{
    const char *state;

    if (!tow_iter_text(iter, &state))
        return false;
    out->state = !strcmp(state, "done")      ? TOW_RANGE_DONE
                 : !strcmp(state, "started") ? TOW_RANGE_STARTED
                                             : TOW_RANGE_OPEN;
    return out->state != TOW_RANGE_OPEN || !strcmp(state, "open");
}

/* False: it cannot be read, and the collection is copied again. One that were taken for open would
 * be copied over what it holds, and one that is done without its hi would take every event for
 * newer. */
static bool parse_range(const bson_t *document, tow_range_t *out)
{
    bool bounded = false, numbered = false, known = false, readable = true;
    bson_iter_t iter, child;

    *out = (tow_range_t){0};
    if (!bson_iter_init(&iter, document))
        return false;
    while (bson_iter_next(&iter)) {
        const char *name = bson_iter_key(&iter);

        if (!strcmp(name, "_id") && bson_iter_recurse(&iter, &child) &&
            bson_iter_find(&child, "n")) {
            out->number = (uint32_t)bson_iter_as_int64(&child);
            numbered = BSON_ITER_HOLDS_NUMBER(&child);
        } else if (!strcmp(name, "bounds")) {
            bounded = parse_bounds(&iter, out);
        } else if (!strcmp(name, "state")) {
            known = parse_state(&iter, out);
        } else if (!strcmp(name, "lo")) {
            readable = tow_iter_time(&iter, &out->lo) && readable;
        } else if (!strcmp(name, "hi")) {
            readable = tow_iter_time(&iter, &out->hi) && readable;
        } else if (!strcmp(name, "documents")) {
            out->documents = (uint64_t)bson_iter_as_int64(&iter);
        } else if (!strcmp(name, "bytes")) {
            out->bytes = (uint64_t)bson_iter_as_int64(&iter);
        }
    }
    /* No lo is one that nobody knew when the read began: every event up to hi makes
     * its key dirty. */
    return bounded && numbered && known && readable && (out->state != TOW_RANGE_DONE || out->hi);
}

static int by_number(const void *left, const void *right)
{
    const tow_range_t *a = left, *b = right;

    return a->number < b->number ? -1 : a->number > b->number;
}

static bool hand_over(tow_store_t *store, const bson_t *collection, tow_store_each_fn each,
                      void *data, tow_error_t *error)
{
    bson_t filter = BSON_INITIALIZER;
    tow_records_t documents;
    tow_range_t *ranges;
    const char *ns;
    bson_iter_t iter;
    uint32_t count = 0, expected = 0;
    bool ok;

    if (bson_iter_init_find(&iter, collection, "ranges"))
        expected = (uint32_t)bson_iter_as_int64(&iter);
    if (!tow_field_text(collection, "_id", &ns))
        return tow_fail(error, TOW_ERROR_SERVER,
                        "the job's state (%s) has a collection without a name", store->database);
    append_ranges_of(&filter, ns);
    tow_store_lock(store);
    ok = tow_records_read(store, "ranges", &filter, &documents, error);
    tow_store_unlock(store);
    bson_destroy(&filter);
    if (!ok)
        return false;
    ranges = tow_alloc((documents.count + 1) * sizeof *ranges);
    for (size_t i = 0; i < documents.count; i++)
        count += parse_range(documents.items[i], &ranges[count]);
    tow_records_free(&documents);
    qsort(ranges, count, sizeof *ranges, by_number);
    if (count != expected) {
        for (uint32_t i = 0; i < count; i++)
            tow_range_clear(&ranges[i]);
        count = 0;
    }
    ok = each(data, collection, ranges, count, error); /* takes what the ranges hold */
    free(ranges);
    return ok;
}

bool tow_store_each_collection(tow_store_t *store, tow_store_each_fn each, void *data,
                               tow_error_t *error)
{
    tow_records_t collections;
    bool ok;

    tow_store_lock(store);
    ok = tow_records_read(store, "collections", NULL, &collections, error);
    tow_store_unlock(store);
    for (size_t i = 0; ok && i < collections.count; i++)
        ok = hand_over(store, collections.items[i], each, data, error);
    tow_records_free(&collections);
    return ok;
}

/* Cleared ---------------------------------------------------------------------------------------*/

bool tow_store_record_cleared(tow_store_t *store, const tow_collection_info_t *const *items,
                              size_t count, tow_error_t *error)
{
    bool ok = true;

    tow_store_lock(store);
    for (size_t i = 0; ok && i < count; i++) {
        bson_t document = BSON_INITIALIZER;

        bson_append_utf8(&document, "_id", -1, items[i]->ns, -1);
        bson_append_binary(&document, "uuid", -1, BSON_SUBTYPE_UUID, items[i]->uuid,
                           sizeof items[i]->uuid);
        ok = replace(store, "cleared", &document, error);
        bson_destroy(&document);
    }
    tow_store_unlock(store);
    return ok;
}
