/* SPDX-License-Identifier: Apache-2.0 */
/* plain.c: the baseline that everything is compared with: the copy that a careful person writes in
 * an afternoon. One thread, one cursor, unordered bulk inserts of 10,000, raw documents passed
 * through; it follows nothing, restarts nothing and checks nothing. */
#include "bench/bench.h"

enum { PLAIN_BATCH = 10000 };

static bool flush(mongoc_bulk_operation_t **bulk, tow_error_t *error)
{
    bson_error_t reason;
    bool ok = mongoc_bulk_operation_execute(*bulk, NULL, &reason) != 0;
    mongoc_bulk_operation_destroy(*bulk);
    *bulk = NULL;
    return ok || tow_bench_mongo(error, &reason, "bulk insert");
}

static bool copy(mongoc_collection_t *source, mongoc_collection_t *destination, tow_error_t *error)
{
    bson_t everything = BSON_INITIALIZER, unordered = BSON_INITIALIZER;
    BSON_APPEND_BOOL(&unordered, "ordered", false);
    mongoc_cursor_t *cursor = mongoc_collection_find_with_opts(source, &everything, NULL, NULL);
    mongoc_bulk_operation_t *bulk = NULL;
    const bson_t *document;
    bson_error_t reason;
    bool ok = true;
    int waiting = 0;
    while (ok && mongoc_cursor_next(cursor, &document)) {
        if (!bulk) {
            bulk = mongoc_collection_create_bulk_operation_with_opts(destination, &unordered);
            waiting = 0;
        }
        mongoc_bulk_operation_insert(bulk, document);
        if (++waiting == PLAIN_BATCH)
            ok = flush(&bulk, error);
    }
    if (ok && mongoc_cursor_error(cursor, &reason))
        ok = tow_bench_mongo(error, &reason, "find");
    if (ok && bulk)
        ok = flush(&bulk, error);
    if (bulk)
        mongoc_bulk_operation_destroy(bulk);
    mongoc_cursor_destroy(cursor);
    bson_destroy(&everything);
    bson_destroy(&unordered);
    return ok;
}

bool tow_bench_plain_copy(const tow_bench_options_t *options, tow_error_t *error)
{
    mongoc_client_t *source = tow_bench_connect(options->source, error);
    mongoc_client_t *destination = source ? tow_bench_connect(options->destination, error) : NULL;
    bool ok = false;
    if (destination) {
        mongoc_collection_t *from =
            mongoc_client_get_collection(source, options->database, options->collection);
        mongoc_collection_t *to =
            mongoc_client_get_collection(destination, options->database, options->collection);
        ok = copy(from, to, error);
        mongoc_collection_destroy(from);
        mongoc_collection_destroy(to);
        mongoc_client_destroy(destination);
    }
    if (source)
        mongoc_client_destroy(source);
    return ok;
}
