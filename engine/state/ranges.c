/* ranges.c: which collections and ranges a job copies, and how far each is. */
#include "engine/state/store_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

void tow_store_append_packed(bson_t *out, const char *name, const bson_t *document)
{
    bson_append_binary(out, name, -1, BSON_SUBTYPE_BINARY, bson_get_data(document), document->len);
}

bool tow_store_read_packed(const bson_iter_t *iter, bson_t *out)
{
    const uint8_t *data;
    uint32_t length;

    if (!BSON_ITER_HOLDS_BINARY(iter))
        return false;
    bson_iter_binary(iter, NULL, &length, &data);
    return bson_init_static(out, data, length) && bson_validate(out, BSON_VALIDATE_NONE, NULL);
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

static bool delete_all(tow_store_t *store, const char *collection, const bson_t *filter,
                       tow_error_t *error)
{
    bson_t command = BSON_INITIALIZER, list, statement, reply;
    tow_write_error_t failure;
    uint32_t position = 0;
    bool ok;

    bson_append_utf8(&command, "delete", -1, collection, -1);
    bson_append_array_begin(&command, "deletes", -1, &list);
    bson_append_document_begin(&list, "0", -1, &statement);
    bson_append_document(&statement, "q", -1, filter);
    bson_append_int32(&statement, "limit", -1, 0);
    bson_append_document_end(&list, &statement);
    bson_append_array_end(&command, &list);
    ok = tow_store_run(store, &command, TOW_SEND_WRITE, &reply, error);
    if (ok && tow_reply_write_error(&reply, &position, &failure))
        ok = tow_fail(error, TOW_ERROR_SERVER, "the job's state (%s): %s", store->database,
                      failure.message);
    bson_destroy(&reply);
    bson_destroy(&command);
    return ok;
}

static bool delete_ranges(tow_store_t *store, const char *ns, tow_error_t *error)
{
    bson_t filter = BSON_INITIALIZER;
    bool ok;

    append_ranges_of(&filter, ns);
    ok = delete_all(store, "ranges", &filter, error);
    bson_destroy(&filter);
    return ok;
}

static bool remove_collection(tow_store_t *store, const char *ns, tow_error_t *error)
{
    bson_t filter = BSON_INITIALIZER;
    bool ok;

    bson_append_utf8(&filter, "_id", -1, ns, -1);
    /* The collection first: ranges without one mean nothing. */
    ok = delete_all(store, "collections", &filter, error) && delete_ranges(store, ns, error);
    bson_destroy(&filter);
    return ok;
}

static bool insert_ranges(tow_store_t *store, const char *ns, const tow_range_t *ranges,
                          uint32_t count, tow_error_t *error)
{
    for (uint32_t from = 0, next; from < count; from = next) {
        bson_t command = BSON_INITIALIZER, list, document, reply;
        tow_write_error_t failure;
        uint32_t position = 0;
        bool ok;

        bson_append_utf8(&command, "insert", -1, "ranges", -1);
        bson_append_array_begin(&command, "documents", -1, &list);
        for (next = from;
             next < count && next < from + RANGES_A_MESSAGE && list.len < BYTES_A_MESSAGE; next++) {
            char buffer[16];
            const char *key;

            bson_uint32_to_string(next - from, &key, buffer, sizeof buffer);
            bson_append_document_begin(&list, key, -1, &document);
            append_range(&document, ns, &ranges[next]);
            bson_append_document_end(&list, &document);
        }
        bson_append_array_end(&command, &list);
        bson_append_bool(&command, "ordered", -1, false);
        ok = tow_store_run(store, &command, TOW_SEND_WRITE, &reply, error);
        while (ok && tow_reply_write_error(&reply, &position, &failure))
            if (failure.code != TOW_DUPLICATE_KEY) /* a retried insert finds its own work */
                ok = tow_fail(error, TOW_ERROR_SERVER, "the job's state (%s): %s", store->database,
                              failure.message);
        bson_destroy(&reply);
        bson_destroy(&command);
        if (!ok)
            return false;
    }
    return true;
}

static bool replace(tow_store_t *store, const char *collection, const bson_t *document,
                    tow_error_t *error)
{
    bson_t filter = BSON_INITIALIZER;
    bson_iter_t iter;
    int64_t matched;
    int code;
    bool ok;

    if (bson_iter_init_find(&iter, document, "_id"))
        bson_append_iter(&filter, "_id", 3, &iter);
    ok = tow_store_update_one(store, collection, &filter, document, true, &matched, &code, error);
    bson_destroy(&filter);
    return ok;
}

/* A collection's document; one that names no ranges is copied again by a restart. */
static bool record(tow_store_t *store, const tow_collection_info_t *info, tow_optime_t read_at,
                   uint32_t ranges, tow_error_t *error)
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
    pthread_mutex_lock(&store->lock);
    ok = tow_store_keep(store, error) && record(store, info, 0, 0, error) &&
         delete_ranges(store, info->ns, error) &&
         insert_ranges(store, info->ns, ranges, count, error) &&
         (!count || record(store, info, read_at, count, error));
    pthread_mutex_unlock(&store->lock);
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
    pthread_mutex_lock(&store->lock);
    ok = tow_store_keep(store, error) && replace(store, "ranges", &document, error);
    pthread_mutex_unlock(&store->lock);
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
    pthread_mutex_lock(&store->lock);
    ok =
        tow_store_update_one(store, "collections", &filter, &update, false, &matched, &code, error);
    pthread_mutex_unlock(&store->lock);
    bson_destroy(&filter);
    bson_destroy(&update);
    return ok;
}

bool tow_store_remove_collection(tow_store_t *store, const char *ns, tow_error_t *error)
{
    bool ok;

    if (!store)
        return true;
    pthread_mutex_lock(&store->lock);
    ok = remove_collection(store, ns, error);
    pthread_mutex_unlock(&store->lock);
    return ok;
}

/* Restart ---------------------------------------------------------------------------------------*/

typedef struct {
    bson_t **items;
    size_t count;
} documents_t;

static void free_documents(documents_t *documents)
{
    for (size_t i = 0; i < documents->count; i++)
        bson_destroy(documents->items[i]);
    free(documents->items);
    *documents = (documents_t){0};
}

static void take_document(void *data, const bson_t *document)
{
    documents_t *documents = data;

    documents->items =
        tow_realloc(documents->items, (documents->count + 1) * sizeof *documents->items);
    documents->items[documents->count++] = bson_copy(document);
}

/* All documents of a collection that match, or all with NULL. */
static bool read_all(tow_store_t *store, const char *collection, const bson_t *filter,
                     documents_t *out, tow_error_t *error)
{
    bson_t command = BSON_INITIALIZER, part;
    bool ok;

    *out = (documents_t){0};
    bson_append_utf8(&command, "find", -1, collection, -1);
    if (filter)
        bson_append_document(&command, "filter", -1, filter);
    bson_append_document_begin(&command, "readConcern", -1, &part);
    bson_append_utf8(&part, "level", -1, "majority", -1);
    bson_append_document_end(&command, &part);
    ok = tow_cursor_each(store->conn, store->database, &command, take_document, out, error);
    bson_destroy(&command);
    return ok ? true : tow_fail_context(error, "the job's state (%s)", store->database);
}

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

static bool parse_range(const bson_t *document, tow_range_t *out)
{
    bson_iter_t iter, child;
    bool bounded = false;

    *out = (tow_range_t){0};
    if (!bson_iter_init(&iter, document))
        return false;
    while (bson_iter_next(&iter)) {
        const char *name = bson_iter_key(&iter);

        if (!strcmp(name, "_id") && bson_iter_recurse(&iter, &child) &&
            bson_iter_find(&child, "n")) {
            out->number = (uint32_t)bson_iter_as_int64(&child);
        } else if (!strcmp(name, "bounds")) {
            bounded = parse_bounds(&iter, out);
        } else if (!strcmp(name, "state") && BSON_ITER_HOLDS_UTF8(&iter)) {
            const char *state = bson_iter_utf8(&iter, NULL);

            out->state = !strcmp(state, "done")      ? TOW_RANGE_DONE
                         : !strcmp(state, "started") ? TOW_RANGE_STARTED
                                                     : TOW_RANGE_OPEN;
        } else if (!strcmp(name, "lo")) {
            out->lo = tow_store_read_time(&iter);
        } else if (!strcmp(name, "hi")) {
            out->hi = tow_store_read_time(&iter);
        } else if (!strcmp(name, "documents")) {
            out->documents = (uint64_t)bson_iter_as_int64(&iter);
        } else if (!strcmp(name, "bytes")) {
            out->bytes = (uint64_t)bson_iter_as_int64(&iter);
        }
    }
    return bounded;
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
    documents_t documents;
    tow_range_t *ranges;
    bson_iter_t iter;
    uint32_t count = 0, expected = 0;
    bool ok;

    if (bson_iter_init_find(&iter, collection, "ranges"))
        expected = (uint32_t)bson_iter_as_int64(&iter);
    bson_iter_init_find(&iter, collection, "_id");
    append_ranges_of(&filter, bson_iter_utf8(&iter, NULL));
    pthread_mutex_lock(&store->lock);
    ok = tow_store_keep(store, error) && read_all(store, "ranges", &filter, &documents, error);
    pthread_mutex_unlock(&store->lock);
    bson_destroy(&filter);
    if (!ok)
        return false;
    ranges = tow_alloc((documents.count + 1) * sizeof *ranges);
    for (size_t i = 0; i < documents.count; i++)
        count += parse_range(documents.items[i], &ranges[count]);
    free_documents(&documents);
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
    documents_t collections;
    bool ok;

    pthread_mutex_lock(&store->lock);
    ok = read_all(store, "collections", NULL, &collections, error);
    pthread_mutex_unlock(&store->lock);
    for (size_t i = 0; ok && i < collections.count; i++)
        ok = hand_over(store, collections.items[i], each, data, error);
    free_documents(&collections);
    return ok;
}
