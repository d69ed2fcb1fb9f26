/* SPDX-License-Identifier: Apache-2.0 */
/* marks.c: a write on every shard of a sharded destination.
 *
 * Each shard keeps the numbers of retryable writes by itself, and a mongos sends a write only to
 * the shards that hold its documents. The marks are the documents of a collection of the job's own
 * that is sharded by a hashed key: servers spread the chunks of an empty one over all shards
 * (v4.2, 4.4 and v5.0: db/s/config/initial_split_policy.cpp). An update of every mark in a session
 * makes every shard store that session's number (config.transactions), so that it outlives an
 * election, too.
 *
 * A transaction that reads everywhere would need no collection, but its number is in the memory of
 * each primary alone (4.4 db/transaction_participant.cpp), and only on shards which hold the
 * collection at that moment. A chunk that moves takes along only the numbers of writes to its own
 * collection (4.4 db/s/session_catalog_migration_source.cpp). */
#include "engine/state/store_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/link/catalog.h"
#include "engine/link/reply.h"

enum { MARKS_FIRST = 64, MARKS_MOST = 16384 };

/* Both commands may be sent again: what is done already is fine. */
static TOW_REQUIRES(tow_store) bool run_admin(tow_store_t *store, const bson_t *command,
                                              tow_error_t *error)
{
    tow_send_options_t send = {.flags = TOW_SEND_RETRY};
    bson_t reply;
    bool ok = tow_conn_command(store->conn, "admin", command, &send, &reply, error);

    bson_destroy(&reply);
    return ok;
}

static TOW_REQUIRES(tow_store) bool make_collection(tow_store_t *store, const tow_marks_t *marks,
                                                    tow_error_t *error)
{
    bson_t enable = BSON_INITIALIZER, shard = BSON_INITIALIZER, key;
    char *ns = tow_format("%s.%s", store->database, marks->collection);
    bool ok;

    bson_append_utf8(&enable, "enableSharding", -1, store->database, -1);
    bson_append_utf8(&shard, "shardCollection", -1, ns, -1);
    bson_append_document_begin(&shard, "key", -1, &key);
    bson_append_utf8(&key, "_id", -1, "hashed", -1);
    bson_append_document_end(&shard, &key);
    ok = run_admin(store, &enable, error) && run_admin(store, &shard, error);
    bson_destroy(&enable);
    bson_destroy(&shard);
    free(ns);
    return ok;
}

/* The mark's insert, or an update that changes it: one that changes nothing leaves no number. */
static void append_statement(bson_t *list, uint32_t place, uint32_t mark, bool insert)
{
    bson_t statement, part, fields;
    char buffer[16];
    const char *key;

    bson_uint32_to_string(place, &key, buffer, sizeof buffer);
    bson_append_document_begin(list, key, -1, &statement);
    if (insert) {
        bson_append_int32(&statement, "_id", -1, (int32_t)mark);
    } else {
        bson_append_document_begin(&statement, "q", -1, &part);
        bson_append_int32(&part, "_id", -1, (int32_t)mark);
        bson_append_document_end(&statement, &part);
        bson_append_document_begin(&statement, "u", -1, &part);
        bson_append_document_begin(&part, "$inc", -1, &fields);
        bson_append_int32(&fields, "sessions", -1, 1);
        bson_append_document_end(&part, &fields);
        bson_append_document_end(&statement, &part);
    }
    bson_append_document_end(list, &statement);
}

/* Inserts or changes the marks from `from` on; every one must have been there, or be new. */
static bool write_marks(tow_store_t *store, tow_conn_t *conn, const tow_marks_t *marks,
                        uint32_t from, bool insert, tow_error_t *error)
{
    tow_send_options_t send = {.flags = TOW_SEND_WRITE | TOW_SEND_ONCE | TOW_SEND_RETRY};
    bson_t command = BSON_INITIALIZER, list, reply;
    int64_t done = 0;
    bool ok;

    bson_append_utf8(&command, insert ? "insert" : "update", -1, marks->collection, -1);
    bson_append_bool(&command, "ordered", -1, false);
    bson_append_array_begin(&command, insert ? "documents" : "updates", -1, &list);
    for (uint32_t i = from; i < marks->count; i++)
        append_statement(&list, i - from, i, insert);
    bson_append_array_end(&command, &list);
    ok = tow_conn_command(conn, store->database, &command, &send, &reply, error);
    if (ok && (!tow_field_number(&reply, "n", &done) || done != marks->count - from))
        ok = tow_fail(error, TOW_ERROR_SERVER,
                      "the destination wrote %" PRId64 " of %u documents of %s.%s", done,
                      marks->count - from, store->database, marks->collection);
    bson_destroy(&reply);
    bson_destroy(&command);
    return ok;
}

/* How many shards the collection is on, and how many of them have no mark. */
typedef struct {
    uint32_t shards, empty;
} spread_t;

static bool has_count(const bson_t *document)
{
    int64_t count;

    return tow_field_number(document, "count", &count);
}

static void count_shard(void *data, const bson_t *document)
{
    spread_t *spread = data;
    int64_t count = 0;

    spread->shards++;
    spread->empty += tow_field_number(document, "count", &count) && !count;
}

/* A mongos answers with one document for each shard. */
static TOW_REQUIRES(tow_store) bool look_at_shards(tow_store_t *store, const tow_marks_t *marks,
                                                   spread_t *out, tow_error_t *error)
{
    bson_t command = BSON_INITIALIZER, list, stage, part, cursor;
    bool ok;

    *out = (spread_t){0};
    bson_append_utf8(&command, "aggregate", -1, marks->collection, -1);
    bson_append_array_begin(&command, "pipeline", -1, &list);
    bson_append_document_begin(&list, "0", -1, &stage);
    bson_append_document_begin(&stage, "$collStats", -1, &part);
    bson_append_document_begin(&part, "count", -1, &cursor);
    bson_append_document_end(&part, &cursor);
    bson_append_document_end(&stage, &part);
    bson_append_document_end(&list, &stage);
    bson_append_array_end(&command, &list);
    bson_append_document_begin(&command, "cursor", -1, &cursor);
    bson_append_document_end(&command, &cursor);
    ok =
        tow_cursor_each(store->conn, store->database, &command, has_count, count_shard, out, error);
    bson_destroy(&command);
    return ok;
}

static bool has_id(const bson_t *document)
{
    const char *id;

    return tow_field_text(document, "_id", &id);
}

/* One that is being drained gets no chunks on every version. */
static void count_listed(void *data, const bson_t *document)
{
    *(uint32_t *)data += !tow_field_is_set(document, "draining");
}

/* How many shards the cluster has; 1 where its list may not be read. */
static TOW_REQUIRES(tow_store) bool count_shards(tow_store_t *store, uint32_t *out,
                                                 tow_error_t *error)
{
    bson_t command = BSON_INITIALIZER;
    bool ok;

    *out = 0;
    bson_append_utf8(&command, "find", -1, "shards", -1);
    ok = tow_cursor_each(store->conn, "config", &command, has_id, count_listed, out, error);
    bson_destroy(&command);
    if (!ok && (!error->server_code || error->retry != TOW_RETRY_NEVER))
        return false;
    if (!*out)
        *out = 1;
    return true;
}

/* More of them until every shard has one: where a mark goes is for its hash to say. */
static TOW_REQUIRES(tow_store) bool insert_marks(tow_store_t *store, tow_marks_t *marks,
                                                 tow_error_t *error)
{
    spread_t spread = {.empty = 1};
    uint32_t shards;

    while (spread.empty && marks->count < MARKS_MOST) {
        uint32_t from = marks->count;

        marks->count = from ? 2 * from : MARKS_FIRST;
        if (!write_marks(store, store->conn, marks, from, true, error) ||
            !look_at_shards(store, marks, &spread, error))
            return false;
    }
    if (spread.empty)
        return tow_fail(error, TOW_ERROR_SERVER, "%u of %u shards take no document of %s.%s",
                        spread.empty, spread.shards, store->database, marks->collection);
    if (!count_shards(store, &shards, error))
        return false;
    return spread.shards >= shards ||
           tow_fail(error, TOW_ERROR_SERVER, "%s.%s is on %u of %u shards", store->database,
                    marks->collection, spread.shards, shards);
}

/* Whoever lost the job finds out before anything is made. */
static bool name_collection(tow_store_t *store, const tow_marks_t *marks, tow_error_t *error)
{
    bson_t fields = BSON_INITIALIZER;
    bool ok;

    bson_append_utf8(&fields, "marks", -1, marks->collection, -1);
    ok = tow_store_set(store, &fields, error);
    bson_destroy(&fields);
    return ok;
}

bool tow_marks_spread(tow_store_t *store, tow_marks_t *out, tow_error_t *error)
{
    char id[25];

    *out = (tow_marks_t){0};
    tow_new_id(id);
    snprintf(out->collection, sizeof out->collection, "fence_%s", id);
    return name_collection(store, out, error) &&
           ((make_collection(store, out, error) && insert_marks(store, out, error)) ||
            tow_fail_context(error, "write to every shard (%s.%s)", store->database,
                             out->collection));
}

bool tow_marks_write(tow_store_t *store, tow_conn_t *conn, const tow_marks_t *marks,
                     tow_error_t *error)
{
    return write_marks(store, conn, marks, 0, false, error);
}

void tow_marks_remove(tow_store_t *store, const tow_marks_t *marks)
{
    tow_error_t ignored; /* what is left goes with the job's state */

    (void)!tow_collection_drop(store->conn, store->database, marks->collection, &ignored);
}
