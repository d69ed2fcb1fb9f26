/* SPDX-License-Identifier: Apache-2.0 */
/* time.c: what time it is at a side, and how the shards of a cluster come to it.
 *
 * Nothing here needs a role beyond those that reading data needs, and nothing writes to data: a
 * shard that is asked for something after a time that it has not reached writes a no-op into its
 * oplog by itself. */
#include "engine/base/clock.h"
#include "engine/link/driver.h"
#include "engine/link/internal.h"
#include "engine/link/reply.h"
#include "engine/link/versions.h"

#define LAST_WRITE "lastWrite.opTime.ts"
#define PROBE "towline_probe" /* a database that nobody has */

/* A position that an answer does not carry is not the position 0, which everything has reached. */
static bool has_operation_time(const bson_t *reply)
{
    return tow_reply_time(reply) != 0;
}

static bool has_cluster_time(const bson_t *reply)
{
    bson_t ignored;

    return tow_reply_cluster_time(reply, &ignored) != 0;
}

static tow_optime_t last_write(const bson_t *hello, const char *path)
{
    bson_iter_t iter, field;
    tow_optime_t time = 0;

    if (bson_iter_init(&iter, hello) && bson_iter_find_descendant(&iter, path, &field))
        tow_iter_time(&field, &time);
    return time;
}

static bool has_last_write(const bson_t *hello)
{
    return last_write(hello, LAST_WRITE) != 0;
}

static bool is_any(const bson_t *reply TOW_UNUSED)
{
    return true;
}

/* A majority read of nothing, whose reply carries the operation time. The collection need not
 * exist; it is an ordinary one, since `readAnyDatabase` covers no system collection. A standalone
 * has no time. */
static bool majority_read(tow_conn_t *conn, const char *database, tow_optime_t after,
                          tow_optime_t *out, tow_error_t *error)
{
    tow_is_whole_fn is_whole = conn->link->facts.standalone ? is_any : has_operation_time;
    bson_t command = BSON_INITIALIZER, reply;
    bool ok;

    bson_append_utf8(&command, "find", -1, "none", -1);
    bson_append_int32(&command, "limit", -1, 1);
    bson_append_bool(&command, "singleBatch", -1, true);
    ok = tow_conn_ask_after(conn, database, &command, TOW_SEND_READ, after, is_whole, "find",
                            &reply, error);
    *out = ok ? tow_reply_time(&reply) : 0;
    bson_destroy(&reply);
    bson_destroy(&command);
    return ok;
}

/* The newest time of a cluster. listDatabases is the one command that a mongos of every version
 * passes on to all shards and to the config servers, with its readConcern, and that every user may
 * send (4.2 to 8.x s/commands/cluster_list_databases_cmd.cpp). A find asks only those that hold the
 * collection, for `admin` the config servers, whose time says nothing about the shards. With
 * `after` whoever has not reached that time writes a no-op behind it (db/read_concern_mongod.cpp,
 * makeNoopWriteIfNeeded). `lasting`: asked again as long as errors of the moment last. */
static bool ask_shards(tow_conn_t *conn, tow_optime_t after, bool lasting, tow_optime_t *out,
                       tow_error_t *error)
{
    enum { ANSWER_MS = 5000 }; /* a shard that is down would be waited for much longer */
    tow_send_options_t send = {.after = after};
    bson_t command = BSON_INITIALIZER, part, reply;
    bool ok;

    bson_append_int32(&command, "listDatabases", -1, 1);
    bson_append_bool(&command, "nameOnly", -1, true);
    bson_append_document_begin(&command, "filter", -1, &part);
    bson_append_utf8(&part, "name", -1, "admin", -1);
    bson_append_document_end(&command, &part);
    bson_append_int32(&command, "maxTimeMS", -1, ANSWER_MS);
    if (after) {
        bson_append_document_begin(&command, "readConcern", -1, &part);
        bson_append_timestamp(&part, "afterClusterTime", -1, (uint32_t)(after >> 32),
                              (uint32_t)after);
        bson_append_document_end(&command, &part);
    }
    if (lasting)
        ok = tow_conn_ask_after(conn, "admin", &command, 0, after, has_cluster_time,
                                "listDatabases", &reply, error);
    else
        ok = tow_conn_command(conn, "admin", &command, &send, &reply, error) &&
             (has_cluster_time(&reply) ||
              tow_fail_reply(error, conn->link->side, "its answer does not tell the time"));
    *out = ok ? tow_reply_newest_time(&reply) : 0;
    bson_destroy(&reply);
    bson_destroy(&command);
    return ok;
}

static void begin_hello(tow_conn_t *conn, bson_t *out)
{
    bson_init(out);
    bson_append_int32(out, tow_server_can(&conn->link->facts, TOW_HELLO) ? "hello" : "isMaster", -1,
                      1);
}

/* hello's lastWrite.majorityOpTime; 0 when the server does not tell. */
static bool poll_last_write(tow_conn_t *conn, tow_optime_t *out, tow_error_t *error)
{
    tow_send_options_t send = {0};
    bson_t command, reply;
    bool ok;

    begin_hello(conn, &command);
    ok = tow_conn_command(conn, "admin", &command, &send, &reply, error);
    *out = ok ? last_write(&reply, "lastWrite.majorityOpTime.ts") : 0;
    bson_destroy(&reply);
    bson_destroy(&command);
    return ok;
}

/* hello's lastWrite.opTime; 0 of a server that never tells. */
static bool ask_last_write(tow_conn_t *conn, tow_optime_t *out, tow_error_t *error)
{
    tow_is_whole_fn is_whole = conn->link->facts.tells_last_write ? has_last_write : is_any;
    bson_t command, reply;
    bool ok;

    begin_hello(conn, &command);
    ok = tow_conn_ask(conn, "admin", &command, 0, is_whole, "hello", &reply, error);
    *out = ok ? last_write(&reply, LAST_WRITE) : 0;
    bson_destroy(&reply);
    bson_destroy(&command);
    return ok;
}

/* Which member answered just now: what is asked of another one for long need not be waited for. */
static void note_primary(tow_conn_t *conn)
{
    tow_link_t *link = conn->link;
    bson_error_t ignored;
    mongoc_server_description_t *server;

    if (link->facts.sharded || !conn->client)
        return;
    server = mongoc_client_select_server(conn->client, true, NULL, &ignored);
    if (!server)
        return;
    tow_link_lock(link);
    snprintf(link->primary, sizeof link->primary, "%s",
             mongoc_server_description_host(server)->host_and_port);
    link->primary_ms = tow_now_ms();
    tow_link_unlock(link);
    mongoc_server_description_destroy(server);
}

bool tow_link_poll_time(tow_conn_t *conn, tow_optime_t *out, tow_error_t *error)
{
    tow_link_t *link = conn->link;
    int64_t began_us = tow_now_us();
    bool ok;

    *out = 0;
    if (link->facts.sharded)
        ok = ask_shards(conn, 0, false, out, error);
    else
        ok = poll_last_write(conn, out, error);
    if (ok && !*out) {
        began_us = tow_now_us();
        ok = majority_read(conn, PROBE, 0, out, error);
    }
    if (ok) {
        atomic_store(&link->ping_us, (uint64_t)(tow_now_us() - began_us));
        note_primary(conn);
        tow_link_note_time(link, *out);
    }
    tow_driver_tell(&link->options.sink);
    return ok;
}

bool tow_link_majority_time(tow_conn_t *conn, const char *database, tow_optime_t *out,
                            tow_error_t *error)
{
    return majority_read(conn, database, 0, out, error);
}

bool tow_link_push_shards(tow_conn_t *conn, tow_optime_t *out, tow_error_t *error)
{
    tow_optime_t after = atomic_load(&conn->link->cluster_time);

    if (!conn->link->facts.sharded)
        return tow_link_poll_time(conn, out, error);
    if (!ask_shards(conn, after, false, out, error))
        return false;
    tow_link_note_time(conn->link, *out);
    return true;
}

/* After the first round every shard has reached the barrier, and those that had not are beyond it;
 * after the second those that stood at it are, too. */
static bool ask_and_push(tow_conn_t *conn, tow_optime_t *out, tow_error_t *error)
{
    enum { ROUNDS = 2 };
    tow_optime_t newest;

    if (!ask_shards(conn, 0, true, out, error))
        return false;
    newest = *out;
    for (int round = 0; round < ROUNDS; round++)
        if (!ask_shards(conn, newest, true, &newest, error))
            return false;
    tow_link_note_time(conn->link, newest);
    return true;
}

bool tow_link_barrier_time(tow_conn_t *conn, tow_optime_t *out, tow_error_t *error)
{
    tow_optime_t last = 0;

    *out = 0;
    if (conn->link->facts.sharded)
        return ask_and_push(conn, out, error);
    /* A majority read alone may see a little less than the last write: it waits for that one. */
    return ask_last_write(conn, &last, error) && majority_read(conn, PROBE, last, out, error);
}
