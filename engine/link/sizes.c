/* SPDX-License-Identifier: Apache-2.0 */
/* sizes.c: reads how many documents and bytes a collection has; see catalog.h. */
#include <string.h>

#include "engine/base/memory.h"
#include "engine/link/catalog.h"
#include "engine/link/codes.h"
#include "engine/link/internal.h"
#include "engine/link/reply.h"

static bool read_stats(const bson_t *reply, const char *documents_path, const char *bytes_path,
                       tow_collection_stats_t *out)
{
    int64_t documents, bytes;

    if (!tow_field_number(reply, documents_path, &documents) || documents < 0 ||
        !tow_field_number(reply, bytes_path, &bytes) || bytes < 0)
        return false;
    out->documents += (uint64_t)documents;
    out->bytes += (uint64_t)bytes;
    return true;
}

static bool is_shard_stats(const bson_t *entry)
{
    return read_stats(entry, "storageStats.count", "storageStats.size",
                      &(tow_collection_stats_t){0});
}

/* On a sharded collection one document a shard. */
static void take_stats(void *data, const bson_t *entry)
{
    read_stats(entry, "storageStats.count", "storageStats.size", data);
}

static bool is_size(const bson_t *reply)
{
    return read_stats(reply, "numObjects", "size", &(tow_collection_stats_t){0});
}

/* A mongos has several of everything. */
static bool ask_shards(tow_conn_t *conn, const char *database, const char *collection,
                       tow_collection_stats_t *out, tow_error_t *error)
{
    bson_t command = BSON_INITIALIZER, stages, stage, stats, empty = BSON_INITIALIZER;
    bool ok;

    bson_append_utf8(&command, "aggregate", -1, collection, -1);
    bson_append_array_begin(&command, "pipeline", -1, &stages);
    bson_append_document_begin(&stages, "0", -1, &stage);
    bson_append_document_begin(&stage, "$collStats", -1, &stats);
    bson_append_document(&stats, "storageStats", -1, &empty);
    bson_append_document_end(&stage, &stats);
    bson_append_document_end(&stages, &stage);
    bson_append_array_end(&command, &stages);
    bson_append_document(&command, "cursor", -1, &empty);
    ok = tow_cursor_each(conn, database, &command, is_shard_stats, take_stats, out, error);
    bson_destroy(&command);
    bson_destroy(&empty);
    return ok;
}

/* Answered from the server's own counters, and needs no more than the right to read. */
static bool ask_size(tow_conn_t *conn, const char *database, const char *collection,
                     tow_collection_stats_t *out, tow_error_t *error)
{
    char *ns = tow_format("%s.%s", database, collection);
    bson_t command = BSON_INITIALIZER, reply;
    bool ok;

    bson_append_utf8(&command, "dataSize", -1, ns, -1);
    bson_append_bool(&command, "estimate", -1, true);
    ok = tow_conn_ask(conn, database, &command, 0, is_size, "dataSize", &reply, error) &&
         read_stats(&reply, "numObjects", "size", out);
    bson_destroy(&command);
    bson_destroy(&reply);
    free(ns);
    return ok;
}

bool tow_collection_stats(tow_conn_t *conn, const char *database, const char *collection,
                          tow_collection_stats_t *out, tow_error_t *error)
{
    bool ok;

    *out = (tow_collection_stats_t){0};
    ok = tow_link_facts(tow_conn_link(conn))->sharded
             ? ask_shards(conn, database, collection, out, error)
             : ask_size(conn, database, collection, out, error);
    if (!ok && (error->server_code == TOW_CODE_NAMESPACE_NOT_FOUND ||
                error->server_code == TOW_CODE_COMMAND_NOT_SUPPORTED_ON_VIEW ||
                error->server_code == TOW_CODE_NO_STORAGE_STATS))
        ok = true;
    if (out->documents)
        out->average_bytes = out->bytes / out->documents;
    return ok ? true : tow_fail_context(error, "size of %s.%s", database, collection);
}
