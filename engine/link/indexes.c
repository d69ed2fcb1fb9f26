/* SPDX-License-Identifier: Apache-2.0 */
/* indexes.c: reads what indexes a collection has; see catalog.h. */
#include <stdlib.h>
#include <string.h>

#include "engine/base/memory.h"
#include "engine/link/catalog.h"
#include "engine/link/codes.h"
#include "engine/link/internal.h"
#include "engine/link/reply.h"

static bool is_id_index(const bson_t *specification)
{
    bson_iter_t iter, key;

    if (bson_iter_init_find(&iter, specification, "clustered") && bson_iter_as_bool(&iter))
        return true;
    if (!bson_iter_init_find(&iter, specification, "key") || !BSON_ITER_HOLDS_DOCUMENT(&iter) ||
        !bson_iter_recurse(&iter, &key) || !bson_iter_next(&key))
        return false;
    return !strcmp(bson_iter_key(&key), "_id") && BSON_ITER_HOLDS_NUMBER(&key) &&
           !bson_iter_next(&key);
}

static bool is_hashed(const bson_t *specification)
{
    const char *kind;
    bool hashed = false;
    bson_iter_t key;
    bson_t keys;

    if (tow_field_document(specification, "key", &keys) && bson_iter_init(&key, &keys))
        while (!hashed && bson_iter_next(&key))
            hashed = tow_iter_text(&key, &kind) && !strcmp(kind, "hashed");
    return hashed;
}

bool tow_index_is_shown(const tow_link_t *link, const bson_t *specification)
{
    return link->options.indexes == TOW_INDEXES_ALL ||
           (link->options.indexes == TOW_INDEXES_NOT_HASHED && !is_hashed(specification));
}

static bool is_index(const bson_t *specification)
{
    const char *name;
    bson_t key;

    return tow_field_text(specification, "name", &name) &&
           tow_field_document(specification, "key", &key) && !bson_empty(&key);
}

typedef struct {
    const tow_link_t *link;
    tow_indexes_t *out;
    bool has_id; /* or there is nothing to have one */
} listing_t;

static void take_index(void *data, const bson_t *specification)
{
    listing_t *listing = data;
    tow_indexes_t *indexes = listing->out;
    bson_t *items;

    if (is_id_index(specification)) {
        listing->has_id = true;
        return;
    }
    if (!tow_index_is_shown(listing->link, specification))
        return;
    items = tow_alloc((indexes->count + 1) * sizeof *items);
    for (size_t i = 0; i < indexes->count; i++)
        bson_steal(&items[i], &indexes->items[i]);
    free(indexes->items);
    indexes->items = items;
    bson_init(&items[indexes->count]);
    bson_copy_to_excluding_noinit(specification, &items[indexes->count], "ns", NULL);
    indexes->count++;
}

static bool list_indexes(tow_conn_t *conn, const char *database, const char *collection,
                         listing_t *listing, tow_error_t *error)
{
    bson_t command = BSON_INITIALIZER;
    bool ok;

    *listing->out = (tow_indexes_t){0};
    bson_append_utf8(&command, "listIndexes", -1, collection, -1);
    ok = tow_cursor_each(conn, database, &command, is_index, take_index, listing, error);
    bson_destroy(&command);
    /* A view took its name, which has none either. */
    if (!ok && (error->server_code == TOW_CODE_NAMESPACE_NOT_FOUND ||
                error->server_code == TOW_CODE_COMMAND_NOT_SUPPORTED_ON_VIEW))
        ok = listing->has_id = true;
    return ok;
}

/* Every collection has an index on _id, or is clustered by it: a listing without is damaged, and
 * not the answer that there are no indexes. */
bool tow_indexes_read(tow_conn_t *conn, const char *database, const char *collection,
                      tow_indexes_t *out, tow_error_t *error)
{
    tow_retrying_t retrying = tow_retrying_begin(conn->link, conn->link->options.retry_window_ms);
    listing_t listing = {.link = tow_conn_link(conn), .out = out};
    unsigned unreadable = 0;
    bool ok;

    while ((ok = list_indexes(conn, database, collection, &listing, error)) && !listing.has_id) {
        ok = tow_fail_reply(error, conn->link->side,
                            "its answer to listIndexes has no index on _id");
        if (!tow_retrying_reply(&retrying, &unreadable, error))
            break;
        tow_indexes_clear(out);
    }
    tow_retrying_end(&retrying);
    if (!ok) {
        tow_indexes_clear(out);
        tow_fail_context(error, "list the indexes of %s.%s", database, collection);
    }
    return ok;
}

void tow_indexes_clear(tow_indexes_t *indexes)
{
    for (size_t i = 0; i < indexes->count; i++)
        bson_destroy(&indexes->items[i]);
    free(indexes->items);
    *indexes = (tow_indexes_t){0};
}

const char *tow_index_name(const bson_t *specification)
{
    const char *name = "?";

    tow_field_text(specification, "name", &name);
    return name;
}

const bson_t *tow_index_find(const tow_indexes_t *indexes, const char *name)
{
    for (size_t i = 0; i < indexes->count; i++)
        if (!strcmp(tow_index_name(&indexes->items[i]), name))
            return &indexes->items[i];
    return NULL;
}
