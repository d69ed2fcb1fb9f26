/* facts.c: what a server says of itself, read once when the link is made. */
#include <stdlib.h>
#include <string.h>

#include "engine/base/memory.h"
#include "engine/link/internal.h"

static bool ask(tow_conn_t *conn, const char *database, const char *name, bson_t *reply,
                tow_error_t *error)
{
    tow_send_options_t send = {0};
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

/* The replica set's own id, which members and names may change around. */
static bool read_set_id(tow_conn_t *conn, char *out, size_t size)
{
    bson_t reply;
    bson_iter_t iter, id;
    tow_error_t ignored;
    bool found = ask(conn, "admin", "replSetGetConfig", &reply, &ignored) &&
                 bson_iter_init(&iter, &reply) &&
                 bson_iter_find_descendant(&iter, "config.settings.replicaSetId", &id) &&
                 BSON_ITER_HOLDS_OID(&id);

    if (found) {
        char text[25];

        bson_oid_to_string(bson_iter_oid(&id), text);
        snprintf(out, size, "replica set %s", text);
    }
    bson_destroy(&reply);
    return found;
}

/* A cluster's id: config.version. */
static bool read_cluster_id(tow_conn_t *conn, char *out, size_t size)
{
    tow_send_options_t send = {0};
    bson_t command = BSON_INITIALIZER, reply;
    bson_iter_t iter, id;
    tow_error_t ignored;
    bool found;

    bson_append_utf8(&command, "find", -1, "version", -1);
    bson_append_int32(&command, "limit", -1, 1);
    found = tow_conn_command(conn, "config", &command, &send, &reply, &ignored) &&
            bson_iter_init(&iter, &reply) &&
            bson_iter_find_descendant(&iter, "cursor.firstBatch.0.clusterId", &id) &&
            BSON_ITER_HOLDS_OID(&id);
    if (found) {
        char text[25];

        bson_oid_to_string(bson_iter_oid(&id), text);
        snprintf(out, size, "cluster %s", text);
    }
    bson_destroy(&reply);
    bson_destroy(&command);
    return found;
}

/* Sends an update that can match nothing: an option that the server does not know is refused. */
static bool probe_bypass_empty_ts(tow_conn_t *conn)
{
    tow_send_options_t send = {0};
    bson_t command = BSON_INITIALIZER, list, statement, part, reply;
    bson_oid_t never;
    tow_error_t ignored;
    bool known;

    bson_oid_init(&never, NULL);
    bson_append_utf8(&command, "update", -1, "probe", -1);
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
    known = tow_conn_command(conn, "towline_probe", &command, &send, &reply, &ignored);
    bson_destroy(&reply);
    bson_destroy(&command);
    return known;
}

bool tow_facts_read(tow_link_t *link, tow_conn_t *conn, tow_error_t *error)
{
    tow_facts_t *facts = &link->facts;
    bson_t reply;
    bson_iter_t iter;
    bool ok;

    ok = ask(conn, "admin", "buildInfo", &reply, error);
    copy_text(&reply, "version", facts->version, sizeof facts->version);
    bson_destroy(&reply);
    if (!ok)
        return false;
    sscanf(facts->version, "%d.%d.%d", &facts->major, &facts->minor, &facts->patch);
    ok = ask(conn, "admin", facts->major >= 5 ? "hello" : "isMaster", &reply, error);
    if (ok) {
        char message[32] = "";

        copy_text(&reply, "msg", message, sizeof message);
        copy_text(&reply, "setName", facts->set_name, sizeof facts->set_name);
        facts->sharded = !strcmp(message, "isdbgrid");
        facts->standalone = !facts->sharded && !facts->set_name[0];
        facts->max_write_batch = 100000;
        if (bson_iter_init_find(&iter, &reply, "maxWriteBatchSize"))
            facts->max_write_batch = (int32_t)bson_iter_as_int64(&iter);
        if (facts->standalone)
            snprintf(facts->identity, sizeof facts->identity, "standalone %s", link->hosts);
        else if (facts->sharded ? !read_cluster_id(conn, facts->identity, sizeof facts->identity)
                                : !read_set_id(conn, facts->identity, sizeof facts->identity))
            name_members(&reply, facts->sharded ? "mongos" : facts->set_name, facts->identity,
                         sizeof facts->identity);
        if (facts->sharded && !strcmp(facts->identity, "mongos/"))
            snprintf(facts->identity, sizeof facts->identity, "mongos/%s", link->hosts);
    }
    bson_destroy(&reply);
    if (!ok)
        return false;
    facts->expanded_events = facts->major >= 6;
    facts->bypass_empty_ts = facts->major >= 5 && !strcmp(link->side, "destination") &&
                             !facts->standalone && probe_bypass_empty_ts(conn);
    facts->append_note = true;
    return true;
}
