/* SPDX-License-Identifier: Apache-2.0 */
/* read.c: find and getMore: which documents, as of which time, in which batches. */
#include <mongoc/mongoc.h>
#include <string.h>

#include "document.h"
#include "schedule.h"
#include "server.h"

enum { CURSOR_NOT_FOUND = 43 };

/* What a read sees: with a majority concern anything from afterClusterTime on that
 * a majority has. */
static tow_optime_t snapshot_of(sim_server_t *server, const bson_t *command)
{
    tow_optime_t after = 0, committed;
    uint32_t seconds, increment;
    bson_iter_t iter;

    if (sim_path(command, "readConcern.afterClusterTime", &iter)) {
        bson_iter_timestamp(&iter, &seconds, &increment);
        after = TOW_OPTIME(seconds, increment);
        if (after > server->now)
            server->now = after; /* a no-op is written behind it */
    }
    if (!sim_path(command, "readConcern.level", &iter))
        return server->now;
    if (strcmp(bson_iter_utf8(&iter, NULL), "linearizable") == 0)
        return server->now;
    committed = sim_commit(server, after);
    /* Another member may know of less. */
    if (after < committed && sim_one_in(SIM_SERVER, 3)) {
        uint64_t back = committed - after < 64 ? committed - after : 64;

        return committed - sim_below(SIM_SERVER, (uint32_t)back + 1);
    }
    return committed;
}

static tow_optime_t claimed(sim_server_t *server, tow_optime_t snapshot)
{
    return sim_below(SIM_SERVER, 2) ? server->now : snapshot;
}

static bool is_between(const bson_t *command, tow_value_t id)
{
    bson_iter_t bound;

    if (sim_path(command, "min._id", &bound) && tow_value_compare(id, tow_value_of(&bound)) < 0)
        return false;
    return !sim_path(command, "max._id", &bound) || tow_value_compare(id, tow_value_of(&bound)) < 0;
}

static void match(sim_collection_t *collection, const bson_t *command, tow_optime_t snapshot,
                  bson_t *out)
{
    int64_t limit = sim_number(command, "limit", 0);
    bson_iter_t iter;
    bson_t filter = BSON_INITIALIZER;
    uint32_t count = 0;

    if (bson_iter_init_find(&iter, command, "filter")) {
        const uint8_t *data;
        uint32_t length;

        bson_iter_document(&iter, &length, &data);
        bson_init_static(&filter, data, length);
    }
    for (uint32_t i = 0; i < collection->count && (!limit || count < limit); i++) {
        const bson_t *document = sim_document_at(&collection->entries[i], snapshot);

        if (document && is_between(command, sim_id(document)) && sim_matches(&filter, document))
            sim_append_index(out, count++, collection->entries[i].id);
    }
}

static bool is_projected(const bson_t *command)
{
    bson_iter_t iter;

    return sim_path(command, "projection._id", &iter);
}

/* One batch of a cursor's documents, as of its snapshot. */
static void give(sim_server_t *server, sim_cursor_t *cursor, int64_t most, const char *name,
                 bson_t *reply)
{
    sim_collection_t *collection = sim_find_collection(server, cursor->ns);
    bson_t child, batch, *rest = bson_new();
    bson_iter_t iter, id;
    uint32_t count = 0, left = 0;

    bson_append_document_begin(reply, "cursor", -1, &child);
    bson_append_array_begin(&child, name, -1, &batch);
    for (bson_iter_init(&iter, cursor->left); bson_iter_next(&iter);) {
        bson_t key = BSON_INITIALIZER;
        const bson_t *document;

        bson_iter_recurse(&iter, &id);
        bson_iter_next(&id);
        bson_append_iter(&key, "_id", -1, &id);
        document = collection ? sim_get(collection, sim_id(&key), cursor->snapshot) : NULL;
        if (count >= most)
            sim_append_index(rest, left++, &key);
        else if (document)
            sim_append_index(&batch, count++, cursor->whole ? document : &key);
        bson_destroy(&key);
    }
    bson_append_array_end(&child, &batch);
    cursor->open = left > 0;
    bson_append_int64(&child, "id", -1, left ? cursor->number : 0);
    bson_append_utf8(&child, "ns", -1, cursor->ns, -1);
    bson_append_document_end(reply, &child);
    bson_destroy(cursor->left);
    cursor->left = rest;
    sim_append_time(server, reply, claimed(server, cursor->snapshot));
}

sim_cursor_t *sim_new_cursor(sim_server_t *server)
{
    sim_cursor_t *cursor;

    server->cursors =
        tow_realloc(server->cursors, (server->cursor_count + 1) * sizeof *server->cursors);
    cursor = &server->cursors[server->cursor_count++];
    *cursor = (sim_cursor_t){.number = (int64_t)server->cursor_count + 1000, .open = true};
    return cursor;
}

static int64_t batch_of(const bson_t *command)
{
    int64_t size = sim_number(command, "batchSize", 0);

    if (!size)
        size = 101;
    return sim_below(SIM_SERVER, 2) ? size : 1 + sim_below(SIM_SERVER, 8);
}

void sim_find(sim_server_t *server, const char *database, const bson_t *command, bson_t *reply)
{
    tow_optime_t snapshot = snapshot_of(server, command);
    sim_collection_t *collection;
    sim_cursor_t *cursor = sim_new_cursor(server);
    int64_t most = sim_number(command, "singleBatch", 0) ? INT64_MAX : batch_of(command);

    snprintf(cursor->ns, SIM_NAME, "%s.%s", database, sim_text(command, "find"));
    cursor->snapshot = snapshot;
    cursor->whole = !is_projected(command);
    cursor->left = bson_new();
    collection = sim_find_collection(server, cursor->ns);
    if (collection)
        match(collection, command, snapshot, cursor->left);
    give(server, cursor, most, "firstBatch", reply);
}

static sim_cursor_t *find_cursor(sim_server_t *server, int64_t number)
{
    return number > 1000 && number <= server->cursor_count + 1000 ? &server->cursors[number - 1001]
                                                                  : NULL;
}

bool sim_get_more(sim_server_t *server, const bson_t *command, bson_t *reply, bson_error_t *error)
{
    sim_cursor_t *cursor = find_cursor(server, sim_number(command, "getMore", 0));

    if (!cursor || !cursor->open)
        return sim_refuse(reply, error, CURSOR_NOT_FOUND, "cursor not found");
    if (cursor->stream)
        sim_stream_more(server, cursor, reply);
    else
        give(server, cursor, batch_of(command), "nextBatch", reply);
    return true;
}

bool sim_would_wait(sim_server_t *server, const bson_t *command, int64_t *out_wait_us)
{
    sim_cursor_t *cursor = find_cursor(server, sim_number(command, "getMore", 0));

    *out_wait_us = sim_number(command, "maxTimeMS", 1000) * 1000;
    return cursor && cursor->open && cursor->stream && !sim_stream_has(server, cursor);
}

void sim_kill_cursors(sim_server_t *server, const bson_t *command, bson_t *reply)
{
    bson_iter_t iter, list;

    if (bson_iter_init_find(&iter, command, "cursors"))
        for (bson_iter_recurse(&iter, &list); bson_iter_next(&list);) {
            sim_cursor_t *cursor = find_cursor(server, bson_iter_as_int64(&list));

            if (cursor)
                cursor->open = false;
        }
    sim_append_time(server, reply, server->now);
}
