/* SPDX-License-Identifier: Apache-2.0 */
/* sharding.c: see sharding.h. */
#include "engine/link/sharding.h"

#include <stdlib.h>
#include <string.h>

#include "engine/base/memory.h"
#include "engine/link/reader.h"
#include "engine/link/reply.h"

/* Servers before 5.0 keep the entries of dropped collections; newer ones also know collections that
 * are not sharded and live on a shard of their own choice (`unsplittable`). */
static bool take_entry(tow_shard_keys_t *keys, const bson_t *entry)
{
    tow_shard_key_t *item;
    const char *ns;
    bson_t pattern;

    if (tow_field_is_set(entry, "dropped") || tow_field_is_set(entry, "unsplittable"))
        return true;
    if (!tow_field_text(entry, "_id", &ns) || !tow_field_document(entry, "key", &pattern))
        return false;
    item = tow_alloc(sizeof *item);
    item->ns = tow_strdup(ns);
    item->unique = tow_field_is_set(entry, "unique");
    bson_copy_to(&pattern, &item->key);
    HASH_ADD_KEYPTR(hh, *keys, item->ns, strlen(item->ns), item);
    return true;
}

static bool read_entries(tow_conn_t *conn, tow_shard_keys_t *out, tow_error_t *error)
{
    tow_read_t what = {
        .database = "config", .collection = "collections", .kept_most = TOW_KEPT_BYTES_MOST};
    tow_reader_t *reader = tow_reader_open(conn, &what, error);
    bool ok = reader != NULL, more = true;
    bson_t entry;

    while (ok && more) {
        while (ok && tow_reader_next(reader, &entry))
            ok = take_entry(out, &entry) ||
                 tow_fail(error, TOW_ERROR_SERVER, "an entry of config.collections cannot be read");
        ok = ok && tow_reader_next_batch(reader, &more, error);
    }
    tow_reader_close(reader);
    return ok;
}

bool tow_shard_keys_read(tow_conn_t *conn, tow_shard_keys_t *out, tow_error_t *error)
{
    *out = NULL;
    if (!tow_link_facts(tow_conn_link(conn))->sharded || read_entries(conn, out, error))
        return true;
    tow_shard_keys_clear(out);
    return tow_fail_context(error, "shard keys");
}

const tow_shard_key_t *tow_shard_keys_find(tow_shard_keys_t keys, const char *ns)
{
    tow_shard_key_t *found;

    HASH_FIND_STR(keys, ns, found);
    return found;
}

void tow_shard_keys_clear(tow_shard_keys_t *keys)
{
    tow_shard_key_t *item, *next;

    HASH_ITER(hh, *keys, item, next) {
        HASH_DEL(*keys, item);
        free(item->ns);
        bson_destroy(&item->key);
        free(item);
    }
}
