/* facts.c: what a server says of itself, read once when the link is made. */
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/link/internal.h"
#include "engine/link/versions.h"

static bool ask(tow_conn_t *conn, const char *database, const char *name, bson_t *reply,
                tow_error_t *error)
{
    tow_send_options_t send = {.flags = TOW_SEND_RETRY};
    bson_t command = BSON_INITIALIZER;
    bool ok;

    bson_append_int32(&command, name, -1, 1);
    ok = tow_conn_command(conn, database, &command, &send, reply, error);
    bson_destroy(&command);
    return ok;
}

static void copy_text(const bson_t *reply, const char *name, char *out, size_t size)
{
    bson_iter_t iter;

    if (bson_iter_init_find(&iter, reply, name) && BSON_ITER_HOLDS_UTF8(&iter))
        snprintf(out, size, "%s", bson_iter_utf8(&iter, NULL));
}

static int by_text(const void *left, const void *right)
{
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

/* "set/h1:1,h2:2" with the members sorted: the same from whichever member it is read. */
static void name_members(const bson_t *hello, const char *set_name, char *out, size_t size)
{
    const char *members[64];
    size_t count = 0, used;
    bson_iter_t iter, list;

    if (bson_iter_init_find(&iter, hello, "hosts") && BSON_ITER_HOLDS_ARRAY(&iter) &&
        bson_iter_recurse(&iter, &list))
        while (count < 64 && bson_iter_next(&list))
            if (BSON_ITER_HOLDS_UTF8(&list))
                members[count++] = bson_iter_utf8(&list, NULL);
    qsort(members, count, sizeof *members, by_text);
    used = (size_t)snprintf(out, size, "%s/", set_name);
    for (size_t i = 0; i < count && used < size; i++)
        used += (size_t)snprintf(out + used, size - used, "%s%s", i ? "," : "", members[i]);
}

/* Whether a question failed because the server will not answer it, not because it could not. The
 * other way of naming a deployment is only for the former: a job must find it under one name. */
static bool is_refused(const tow_error_t *error)
{
    return error->server_code != 0 && error->retry == TOW_RETRY_NEVER;
}

static void name_by_id(const bson_t *reply, const char *path, const char *kind, char *out,
                       size_t size)
{
    bson_iter_t iter, id;
    char text[25];

    if (!bson_iter_init(&iter, reply) || !bson_iter_find_descendant(&iter, path, &id) ||
        !BSON_ITER_HOLDS_OID(&id))
        return;
    bson_oid_to_string(bson_iter_oid(&id), text);
    snprintf(out, size, "%s %s", kind, text);
}

/* The replica set's own id, which members and names may change around; leaves `out` where the
 * server does not tell. */
static bool read_set_id(tow_conn_t *conn, char *out, size_t size, tow_error_t *error)
{
    bson_t reply;
    bool ok = ask(conn, "admin", "replSetGetConfig", &reply, error);

    if (ok)
        name_by_id(&reply, "config.settings.replicaSetId", "replica set", out, size);
    bson_destroy(&reply);
    return ok || is_refused(error);
}

/* A cluster's id: config.version. */
static bool read_cluster_id(tow_conn_t *conn, char *out, size_t size, tow_error_t *error)
{
    tow_send_options_t send = {.flags = TOW_SEND_RETRY};
    bson_t command = BSON_INITIALIZER, reply;
    bool ok;

    bson_append_utf8(&command, "find", -1, "version", -1);
    bson_append_int32(&command, "limit", -1, 1);
    ok = tow_conn_command(conn, "config", &command, &send, &reply, error);
    if (ok)
        name_by_id(&reply, "cursor.firstBatch.0.clusterId", "cluster", out, size);
    bson_destroy(&reply);
    bson_destroy(&command);
    return ok || is_refused(error);
}

static bool name_deployment(tow_link_t *link, tow_conn_t *conn, const bson_t *hello,
                            tow_error_t *error)
{
    tow_facts_t *facts = &link->facts;
    char *out = facts->identity;
    size_t size = sizeof facts->identity;
    bson_iter_t iter;

    if (facts->standalone) {
        snprintf(out, size, "standalone %s", link->hosts);
        return true;
    }
    if (facts->sharded) {
        if (!read_cluster_id(conn, out, size, error))
            return false;
        if (!out[0])
            snprintf(out, size, "mongos/%s", link->hosts);
        return true;
    }
    /* Only a member that is up answers; one in its initial sync has no hosts to tell. */
    if (!read_set_id(conn, out, size, error))
        return false;
    if (!out[0] && !bson_iter_init_find(&iter, hello, "hosts"))
        return tow_fail(error, TOW_ERROR_UNREACHABLE,
                        "the %s names no members of its replica set; wait until it is started",
                        link->side);
    if (!out[0])
        name_members(hello, facts->set_name, out, size);
    return true;
}

/* Sends an update that can match nothing: an option that the server does not know is refused. A
 * mongos makes a missing database even for that, so there it goes to one that always exists. */
static bool probe_bypass_empty_ts(tow_link_t *link, tow_conn_t *conn, tow_error_t *error)
{
    tow_send_options_t send = {.flags = TOW_SEND_RETRY};
    bson_t command = BSON_INITIALIZER, list, statement, part, reply;
    bson_oid_t never;
    bool known;

    bson_oid_init(&never, NULL);
    bson_append_utf8(&command, "update", -1, link->facts.sharded ? "towline_probe" : "probe", -1);
    bson_append_array_begin(&command, "updates", -1, &list);
    bson_append_document_begin(&list, "0", -1, &statement);
    bson_append_document_begin(&statement, "q", -1, &part);
    bson_append_oid(&part, "_id", -1, &never);
    bson_append_document_end(&statement, &part);
    bson_append_document_begin(&statement, "u", -1, &part);
    bson_append_int32(&part, "probe", -1, 1);
    bson_append_document_end(&statement, &part);
    bson_append_bool(&statement, "upsert", -1, false);
    bson_append_document_end(&list, &statement);
    bson_append_array_end(&command, &list);
    bson_append_bool(&command, "bypassEmptyTsReplacement", -1, true);
    known = tow_conn_command(conn, link->facts.sharded ? "admin" : "towline_probe", &command, &send,
                             &reply, error);
    bson_destroy(&reply);
    bson_destroy(&command);
    link->facts.bypass_empty_ts = known;
    return known || is_refused(error);
}

/* The first command opens the first connection. While nobody answers it is sent again until the
 * time for connecting is over; the driver gives up sooner, so that a stop is noticed. */
static bool connect_first(tow_link_t *link, tow_conn_t *conn, bson_t *reply, tow_error_t *error)
{
    tow_send_options_t send = {0};
    int64_t deadline_ms = tow_now_ms() + link->connect_ms;
    bson_t command = BSON_INITIALIZER;
    unsigned attempt = 0;
    bool ok;

    bson_append_int32(&command, "buildInfo", -1, 1);
    while (!(ok = tow_conn_command(conn, "admin", &command, &send, reply, error))) {
        if (error->retry != TOW_RETRY_RECONNECT && error->retry != TOW_RETRY_SAME)
            break;
        if (!tow_backoff(link, attempt++, deadline_ms)) {
            if (link->options.stop && tow_stop_requested(link->options.stop))
                tow_fail(error, TOW_ERROR_INTERRUPTED, "stopped while connecting to the %s",
                         link->side);
            break;
        }
        bson_destroy(reply);
    }
    bson_destroy(&command);
    return ok;
}

static bool is_primary(const bson_t *reply)
{
    bson_iter_t iter;

    return (bson_iter_init_find(&iter, reply, "isWritablePrimary") ||
            bson_iter_init_find(&iter, reply, "ismaster")) &&
           bson_iter_as_bool(&iter);
}

static void take_hello(tow_facts_t *facts, const bson_t *reply)
{
    char message[32] = "";
    bson_iter_t iter;

    copy_text(reply, "msg", message, sizeof message);
    copy_text(reply, "setName", facts->set_name, sizeof facts->set_name);
    facts->sharded = !strcmp(message, "isdbgrid");
    facts->standalone = !facts->sharded && !facts->set_name[0];
    facts->secondary = facts->set_name[0] && !is_primary(reply);
    facts->max_write_batch = 100000;
    facts->max_message_bytes = 48000000;
    if (bson_iter_init_find(&iter, reply, "maxWriteBatchSize"))
        facts->max_write_batch = (int32_t)bson_iter_as_int64(&iter);
    if (bson_iter_init_find(&iter, reply, "maxMessageSizeBytes"))
        facts->max_message_bytes = (int32_t)bson_iter_as_int64(&iter);
}

bool tow_facts_read(tow_link_t *link, tow_conn_t *conn, tow_error_t *error)
{
    tow_facts_t *facts = &link->facts;
    bson_t reply;
    bool ok;

    ok = connect_first(link, conn, &reply, error);
    copy_text(&reply, "version", facts->version, sizeof facts->version);
    bson_destroy(&reply);
    if (!ok)
        return false;
    sscanf(facts->version, "%d.%d.%d", &facts->major, &facts->minor, &facts->patch);
    ok = ask(conn, "admin", tow_server_can(facts, TOW_HELLO) ? "hello" : "isMaster", &reply, error);
    if (ok) {
        take_hello(facts, &reply);
        ok = name_deployment(link, conn, &reply, error);
    }
    bson_destroy(&reply);
    if (!ok)
        return false;
    if (tow_server_can(facts, TOW_BYPASS_EMPTY_TS) && !strcmp(link->side, "destination"))
        return probe_bypass_empty_ts(link, conn, error);
    return true;
}
