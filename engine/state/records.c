/* SPDX-License-Identifier: Apache-2.0 */
/* records.c: the job's records: lists them, and deletes them one by one. */
#include <stdlib.h>

#include "engine/link/reply.h"
#include "engine/state/store_internal.h"

enum { RECORDS_A_MESSAGE = 1000 };

void tow_store_append_packed(bson_t *out, const char *name, const bson_t *document)
{
    bson_append_binary(out, name, -1, BSON_SUBTYPE_BINARY, bson_get_data(document), document->len);
}

bool tow_store_read_packed(const bson_iter_t *iter, bson_t *out)
{
    return tow_iter_packed(iter, out);
}

void tow_records_free(tow_records_t *documents)
{
    for (size_t i = 0; i < documents->count; i++)
        bson_destroy(documents->items[i]);
    free(documents->items);
    *documents = (tow_records_t){0};
}

static void take_document(void *data, const bson_t *document)
{
    tow_records_t *documents = data;

    documents->items =
        tow_realloc(documents->items, (documents->count + 1) * sizeof *documents->items);
    documents->items[documents->count++] = bson_copy(document);
}

/* As of all that the destination is known to have done: a majority read alone may see less after an
 * election. */
void tow_store_append_concern(const tow_store_t *store, bson_t *command)
{
    tow_optime_t after = tow_link_time(store->options.destination);
    bson_t part;

    bson_append_document_begin(command, "readConcern", -1, &part);
    bson_append_utf8(&part, "level", -1, "majority", -1);
    if (after && !tow_link_facts(store->options.destination)->standalone)
        bson_append_timestamp(&part, "afterClusterTime", -1, (uint32_t)(after >> 32),
                              (uint32_t)after);
    bson_append_document_end(command, &part);
}

bool tow_records_read(tow_store_t *store, const char *collection, const bson_t *filter,
                      tow_records_t *out, tow_error_t *error)
{
    bson_t command = BSON_INITIALIZER;
    bool ok;

    *out = (tow_records_t){0};
    bson_append_utf8(&command, "find", -1, collection, -1);
    if (filter)
        bson_append_document(&command, "filter", -1, filter);
    tow_store_append_concern(store, &command);
    ok = tow_cursor_each(store->conn, store->database, &command, NULL, take_document, out, error);
    bson_destroy(&command);
    return ok ? true : tow_fail_context(error, "the job's state (%s)", store->database);
}

bool tow_records_check(const tow_store_t *store, const bson_t *reply, tow_error_t *error)
{
    tow_write_error_t failure;
    uint32_t position = 0;

    return !tow_reply_write_error(reply, &position, &failure) ||
           tow_fail(error, TOW_ERROR_SERVER, "the job's state (%s): %s", store->database,
                    failure.message);
}

bool tow_records_delete(tow_store_t *store, const char *collection, bson_t *const *documents,
                        size_t count, tow_error_t *error)
{
    bool ok = true;

    for (size_t from = 0; ok && from < count; from += RECORDS_A_MESSAGE) {
        bson_t command = BSON_INITIALIZER, list, statement, filter, reply;

        bson_append_utf8(&command, "delete", -1, collection, -1);
        bson_append_array_begin(&command, "deletes", -1, &list);
        for (size_t i = from; i < count && i < from + RECORDS_A_MESSAGE; i++) {
            char buffer[16];
            const char *key;
            bson_iter_t id;

            if (!bson_iter_init_find(&id, documents[i], "_id"))
                continue;
            bson_uint32_to_string((uint32_t)(i - from), &key, buffer, sizeof buffer);
            bson_append_document_begin(&list, key, -1, &statement);
            bson_append_document_begin(&statement, "q", -1, &filter);
            bson_append_iter(&filter, "_id", 3, &id);
            bson_append_document_end(&statement, &filter);
            bson_append_int32(&statement, "limit", -1, 1);
            bson_append_document_end(&list, &statement);
        }
        bson_append_array_end(&command, &list);
        ok = tow_store_run(store, &command, TOW_SEND_WRITE | TOW_SEND_ONCE, &reply, error) &&
             tow_records_check(store, &reply, error);
        bson_destroy(&reply);
        bson_destroy(&command);
    }
    return ok;
}

bool tow_records_delete_all(tow_store_t *store, const char *collection, const bson_t *filter,
                            tow_error_t *error)
{
    tow_records_t documents;
    bool ok = tow_records_read(store, collection, filter, &documents, error) &&
              tow_records_delete(store, collection, documents.items, documents.count, error);

    tow_records_free(&documents);
    return ok;
}

bool tow_store_delete_by(tow_store_t *store, const char *collection, const char *field,
                         const char *value, tow_error_t *error)
{
    bson_t filter = BSON_INITIALIZER;
    bool ok;

    bson_append_utf8(&filter, field, -1, value, -1);
    ok = tow_records_delete_all(store, collection, &filter, error);
    bson_destroy(&filter);
    return ok;
}
