/* time.c: what time it is at a side. */
#include "engine/base/clock.h"
#include "engine/link/internal.h"
#include "engine/link/reply.h"
#include "engine/link/versions.h"

/* A majority read of nothing, whose reply carries the operation time. */
static bool majority_read(tow_conn_t *conn, tow_optime_t after, tow_optime_t *out,
                          tow_error_t *error)
{
    tow_send_options_t send = {.flags = TOW_SEND_READ | TOW_SEND_RETRY, .after = after};
    bson_t command = BSON_INITIALIZER, reply;
    bool ok;

    bson_append_utf8(&command, "find", -1, "system.version", -1);
    bson_append_int32(&command, "limit", -1, 1);
    bson_append_bool(&command, "singleBatch", -1, true);
    ok = tow_conn_command(conn, "admin", &command, &send, &reply, error);
    *out = tow_reply_time(&reply);
    bson_destroy(&reply);
    bson_destroy(&command);
    return ok;
}

/* The newest time of all shards: they are all asked for their databases, and the reply carries the newest of
 * their times. A find asks those alone that hold the collection, which for `admin` are the config servers: their
 * time may be ten seconds behind. */
static bool ask_shards(tow_conn_t *conn, tow_optime_t *out, tow_error_t *error)
{
    tow_send_options_t send = {.flags = TOW_SEND_RETRY};
    bson_t command = BSON_INITIALIZER, filter, reply;
    bool ok;

    bson_append_int32(&command, "listDatabases", -1, 1);
    bson_append_bool(&command, "nameOnly", -1, true);
    bson_append_document_begin(&command, "filter", -1, &filter);
    bson_append_utf8(&filter, "name", -1, "admin", -1);
    bson_append_document_end(&command, &filter);
    ok = tow_conn_command(conn, "admin", &command, &send, &reply, error);
    *out = ok ? tow_reply_time(&reply) : 0;
    bson_destroy(&reply);
    bson_destroy(&command);
    return ok && !*out ? tow_fail(error, TOW_ERROR_SERVER, "the %s does not tell its time", conn->link->side)
                       : ok;
}

/* A time of hello's lastWrite: "opTime" or "majorityOpTime"; 0 when the server does not tell. */
static bool ask_last_write(tow_conn_t *conn, const char *path, int flags, tow_optime_t *out,
                           tow_error_t *error)
{
    tow_send_options_t send = {.flags = flags};
    bson_t command = BSON_INITIALIZER, reply;
    bson_iter_t iter, time;
    bool ok;

    *out = 0;
    bson_append_int32(&command, tow_server_can(&conn->link->facts, TOW_HELLO) ? "hello" : "isMaster", -1, 1);
    ok = tow_conn_command(conn, "admin", &command, &send, &reply, error);
    if (ok && bson_iter_init(&iter, &reply) && bson_iter_find_descendant(&iter, path, &time))
        tow_iter_time(&time, out);
    bson_destroy(&reply);
    bson_destroy(&command);
    return ok;
}

bool tow_link_poll_time(tow_conn_t *conn, tow_optime_t *out, tow_error_t *error)
{
    tow_link_t *link = conn->link;
    int64_t began_us = tow_now_us();
    bool ok = true;

    *out = 0;
    if (!link->facts.sharded)
        ok = ask_last_write(conn, "lastWrite.majorityOpTime.ts", 0, out, error);
    if (ok && !*out) {
        began_us = tow_now_us();
        ok = majority_read(conn, 0, out, error);
    }
    if (ok) {
        atomic_store(&link->ping_us, (uint64_t)(tow_now_us() - began_us));
        tow_link_note_time(link, *out);
    }
    return ok;
}

/* The reply's operation time is the note's own, or on a mongos the newest of all shards'. */
static bool append_note(tow_conn_t *conn, tow_optime_t *out, tow_error_t *error)
{
    tow_send_options_t send = {.flags = TOW_SEND_RETRY};
    bson_t command = BSON_INITIALIZER, data, reply;
    bool ok;

    bson_append_int32(&command, "appendOplogNote", -1, 1);
    bson_append_document_begin(&command, "data", -1, &data);
    bson_append_utf8(&data, "msg", -1, "towline", -1);
    bson_append_document_end(&command, &data);
    ok = tow_conn_command(conn, "admin", &command, &send, &reply, error);
    *out = ok ? tow_reply_time(&reply) : 0;
    bson_destroy(&reply);
    bson_destroy(&command);
    return ok;
}

bool tow_link_barrier_time(tow_conn_t *conn, tow_optime_t *out, tow_error_t *error)
{
    tow_link_t *link = conn->link;
    tow_optime_t last = 0;

    *out = 0;
    if (!atomic_load(&link->note_refused)) {
        bool sent = append_note(conn, out, error);

        if (sent && *out)
            return true;
        /* Only a refusal is for good; where nobody answered, a read would fare no better. */
        if (!sent && (!error->server_code || error->retry != TOW_RETRY_NEVER))
            return false;
        atomic_store(&link->note_refused, 1);
    }
    if (link->facts.sharded)
        return ask_shards(conn, out, error);
    /* A majority read alone may see a little less than the last write: it waits for that one. */
    return ask_last_write(conn, "lastWrite.opTime.ts", TOW_SEND_RETRY, &last, error) &&
           majority_read(conn, last, out, error);
}

bool tow_link_barrier_is_shared(const tow_link_t *link)
{
    return link->facts.sharded && atomic_load(&link->note_refused);
}
