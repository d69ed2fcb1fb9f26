/* SPDX-License-Identifier: Apache-2.0 */
/* facts.c: what a server says of itself, read once when the link is made. */
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/base/memory.h"
#include "engine/link/identity.h"
#include "engine/link/internal.h"
#include "engine/link/reply.h"
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
    const char *text;

    if (tow_field_text(reply, name, &text))
        snprintf(out, size, "%s", text);
}

static int by_text(const void *left, const void *right)
{
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

enum { MEMBERS_MOST = 64 }; /* a set has at most 50 */

/* The members of a list that hello has, or none of it. */
static size_t add_members(const bson_t *hello, const char *list, const char **members, size_t count)
{
    bson_iter_t iter;

    if (tow_field_list(hello, list, &iter))
        while (count < MEMBERS_MOST && bson_iter_next(&iter))
            count += tow_iter_text(&iter, &members[count]);
    return count;
}

/* "h1:1,h2:2", sorted: the same from whichever member it is read. Hidden ones are in no list, but
 * say who they are. */
static char *list_members(const bson_t *hello)
{
    const char *members[MEMBERS_MOST + 1];
    tow_buffer_t text = {0};
    size_t count;

    count = add_members(hello, "hosts", members, 0);
    count = add_members(hello, "passives", members, count);
    count += tow_field_text(hello, "me", &members[count]);
    qsort(members, count, sizeof *members, by_text);
    for (size_t i = 0; i < count; i++) {
        if (i && !strcmp(members[i - 1], members[i]))
            continue;
        if (text.length)
            tow_buffer_append(&text, ",", 1);
        tow_buffer_append(&text, members[i], strlen(members[i]));
    }
    tow_buffer_append(&text, "", 1);
    return (char *)text.data;
}

/* Whether a question failed because the server will not answer it, not because it could not: then
 * it is not asked again. */
static bool is_refused(const tow_error_t *error)
{
    return error->server_code != 0 && error->retry == TOW_RETRY_NEVER;
}

static void read_oid(const bson_t *reply, const char *path, char out[25])
{
    bson_iter_t iter, id;

    if (bson_iter_init(&iter, reply) && bson_iter_find_descendant(&iter, path, &id) &&
        BSON_ITER_HOLDS_OID(&id))
        bson_oid_to_string(bson_iter_oid(&id), out);
}

/* The replica set's own id, which members and names may change around; "" where the server does not
 * tell. */
static bool read_set_id(tow_conn_t *conn, char out[25], tow_error_t *error)
{
    bson_t reply;
    bool ok = ask(conn, "admin", "replSetGetConfig", &reply, error);

    if (ok)
        read_oid(&reply, "config.settings.replicaSetId", out);
    bson_destroy(&reply);
    return ok || is_refused(error);
}

/* A cluster's id: config.version. */
static bool read_cluster_id(tow_conn_t *conn, char out[25], tow_error_t *error)
{
    tow_send_options_t send = {.flags = TOW_SEND_RETRY};
    bson_t command = BSON_INITIALIZER, reply;
    bool ok;

    bson_append_utf8(&command, "find", -1, "version", -1);
    bson_append_int32(&command, "limit", -1, 1);
    ok = tow_conn_command(conn, "config", &command, &send, &reply, error);
    if (ok)
        read_oid(&reply, "cursor.firstBatch.0.clusterId", out);
    bson_destroy(&reply);
    bson_destroy(&command);
    return ok || is_refused(error);
}

/* Older shards say what they are in every reply; all say it to those who may ask. */
static bool read_shard(tow_conn_t *conn, tow_facts_t *facts, tow_error_t *error)
{
    bson_iter_t iter;
    bson_t reply;
    bool ok;

    if (facts->sharded || facts->standalone || facts->shard)
        return true;
    ok = ask(conn, "admin", "shardingState", &reply, error);
    facts->shard = ok && bson_iter_init_find(&iter, &reply, "enabled") &&
                   bson_iter_as_bool(&iter) && bson_has_field(&reply, "clusterId");
    bson_destroy(&reply);
    return ok || is_refused(error);
}

static bool name_deployment(tow_link_t *link, tow_conn_t *conn, const bson_t *hello,
                            tow_error_t *error)
{
    tow_facts_t *facts = &link->facts;
    size_t size = sizeof facts->identity;
    bson_iter_t hosts;
    char id[25] = "", *members;

    if (facts->standalone) {
        tow_identity_write("standalone", "", link->hosts, "", facts->identity, size);
        return true;
    }
    if (facts->sharded) {
        if (!read_cluster_id(conn, id, error))
            return false;
        tow_identity_write("cluster", id, link->hosts, "", facts->identity, size);
        return true;
    }
    /* Only a member that is up answers; one in its initial sync has no hosts to tell. */
    if (!read_set_id(conn, id, error))
        return false;
    if (!tow_field_list(hello, "hosts", &hosts))
        return tow_fail(error, TOW_ERROR_UNREACHABLE,
                        "the %s names no members of its replica set; wait until it is started",
                        link->side);
    members = list_members(hello);
    tow_identity_write("set", id, members, facts->set_name, facts->identity, size);
    free(members);
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

static bool is_text_list(const bson_t *reply, const char *name)
{
    const char *text;
    bson_iter_t list;

    if (!bson_has_field(reply, name))
        return true;
    if (!tow_field_list(reply, name, &list))
        return false;
    while (bson_iter_next(&list))
        if (!tow_iter_text(&list, &text))
            return false;
    return tow_iter_complete(&list);
}

static bool is_text(const bson_t *reply, const char *name)
{
    const char *text;

    return !bson_has_field(reply, name) || tow_field_text(reply, name, &text);
}

/* A limit of messages that no server has would be divided by, or allocated. */
static bool is_limit(const bson_t *reply, const char *name, int64_t least)
{
    int64_t limit;

    return !bson_has_field(reply, name) ||
           (tow_field_number(reply, name, &limit) && limit >= least && limit <= INT32_MAX);
}

enum { LEAST_BATCH = 1000, LEAST_MESSAGE_BYTES = 16 << 20 };

/* A server without a set has none of its fields, and keeps no time. Taken for one, a member of a
 * set would get writes without numbers, which no takeover fences; and so would a mongos. */
static bool is_of_some_kind(const bson_t *reply)
{
    static const char *const of_others[] = {"hosts",         "me",          "primary", "setVersion",
                                            "operationTime", "$clusterTime"};
    const char *text;

    if (tow_field_text(reply, "setName", &text) ||
        (tow_field_text(reply, "msg", &text) && !strcmp(text, "isdbgrid")))
        return true;
    for (size_t i = 0; i < sizeof of_others / sizeof *of_others; i++)
        if (bson_has_field(reply, of_others[i]))
            return false;
    return true;
}

/* What decides how a server is talked to; a field that is not there has its meaning as well. */
static bool is_hello(const bson_t *reply)
{
    return is_of_some_kind(reply) && is_text(reply, "msg") && is_text(reply, "setName") &&
           is_text(reply, "me") && is_text_list(reply, "hosts") &&
           is_text_list(reply, "passives") && is_limit(reply, "maxWriteBatchSize", LEAST_BATCH) &&
           is_limit(reply, "maxMessageSizeBytes", LEAST_MESSAGE_BYTES);
}

static void take_hello(tow_facts_t *facts, const bson_t *reply)
{
    char message[32] = "";
    int64_t number;

    copy_text(reply, "msg", message, sizeof message);
    copy_text(reply, "setName", facts->set_name, sizeof facts->set_name);
    read_oid(reply, "topologyVersion.processId", facts->process);
    facts->sharded = !strcmp(message, "isdbgrid");
    facts->tells_last_write = bson_has_field(reply, "lastWrite");
    facts->standalone = !facts->sharded && !facts->set_name[0];
    facts->secondary = facts->set_name[0] && !is_primary(reply);
    /* Shards add their cluster's state to what they answer. */
    facts->shard = !facts->sharded && bson_has_field(reply, "$configServerState");
    facts->max_write_batch = 100000;
    facts->max_message_bytes = 48000000;
    if (tow_field_number(reply, "maxWriteBatchSize", &number))
        facts->max_write_batch = (int32_t)number;
    if (tow_field_number(reply, "maxMessageSizeBytes", &number))
        facts->max_message_bytes = (int32_t)number;
}

static bool ask_hello(tow_link_t *link, tow_conn_t *conn, bson_t *reply, tow_error_t *error)
{
    bson_t command = BSON_INITIALIZER;
    const char *name = tow_server_can(&link->facts, TOW_HELLO) ? "hello" : "isMaster";
    bool ok;

    bson_append_int32(&command, name, -1, 1);
    ok = tow_conn_ask(conn, "admin", &command, 0, is_hello, name, reply, error);
    bson_destroy(&command);
    return ok;
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
    /* Every decision about a server rests on it: an answer without one is not version 0. */
    if (sscanf(facts->version, "%d.%d.%d", &facts->major, &facts->minor, &facts->patch) < 2)
        return tow_fail(error, TOW_ERROR_SERVER, "the %s does not say which version it runs",
                        link->side);
    ok = ask_hello(link, conn, &reply, error);
    if (ok) {
        take_hello(facts, &reply);
        ok = read_shard(conn, facts, error) && name_deployment(link, conn, &reply, error);
    }
    bson_destroy(&reply);
    if (!ok)
        return false;
    if (tow_server_can(facts, TOW_BYPASS_EMPTY_TS) && !strcmp(link->side, "destination"))
        return probe_bypass_empty_ts(link, conn, error);
    return true;
}
