/* SPDX-License-Identifier: Apache-2.0 */
/* same.c: see same.h. */
#include "engine/check/same.h"

#include <stdio.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/base/memory.h"
#include "engine/link/codes.h"
#include "engine/link/identity.h"
#include "engine/link/reply.h"

enum {
    LOOK_MS = 30000, /* how long a source that is no primary may take to see the mark's time */
    FOUND_LATER_MS =
        5000, /* how long a mongos may not know yet of a database that its shards have */
    READ_MS = 10000
};

/* Comparing -------------------------------------------------------------------------------------*/

static bool fail_same(tow_link_t *source, tow_error_t *error)
{
    return tow_fail(error, TOW_ERROR_UNSUITABLE,
                    "source and destination are the same deployment (%s); give two different ones",
                    tow_link_hosts(source));
}

/* Two sets with one name and a common member by name: one deployment, or two whose members are
 * called alike, as in two container networks. */
static bool fail_names(tow_link_t *source, tow_link_t *destination, tow_error_t *error)
{
    const char *left = tow_link_facts(source)->identity,
               *right = tow_link_facts(destination)->identity;
    char ids[2][25];

    tow_identity_id(left, ids[0]);
    tow_identity_id(right, ids[1]);
    if (ids[0][0] && ids[1][0])
        return fail_same(source, error);
    return tow_fail(
        error, TOW_ERROR_UNSUITABLE,
        "source and destination are the same deployment by the names of their members (%s); give "
        "two different ones, or, if they are two, allow the %s's user to read its id "
        "(clusterMonitor)",
        tow_link_hosts(source), ids[0][0] ? "destination" : "source");
}

/* The id of the cluster that a shard belongs to; "" when it does not say. */
static void read_cluster_of(tow_link_t *shard, char out[25])
{
    tow_send_options_t send = {.flags = TOW_SEND_RETRY};
    bson_t command = BSON_INITIALIZER, reply;
    tow_error_t ignored;
    tow_conn_t *conn = tow_conn_open(shard);
    bson_iter_t id;

    out[0] = '\0';
    bson_append_int32(&command, "shardingState", -1, 1);
    if (tow_conn_command(conn, "admin", &command, &send, &reply, &ignored) &&
        bson_iter_init_find(&id, &reply, "clusterId") && BSON_ITER_HOLDS_OID(&id))
        bson_oid_to_string(bson_iter_oid(&id), out);
    bson_destroy(&reply);
    bson_destroy(&command);
    tow_conn_close(conn);
}

/* A shard's data shows through each mongos of its cluster, where the mark need not. */
static tow_sameness_t compare_shard(tow_link_t *source, tow_link_t *destination, tow_error_t *error)
{
    char cluster[25], other[25];

    read_cluster_of(source, cluster);
    tow_identity_id(tow_link_facts(destination)->identity, other);
    if (cluster[0] && other[0] && strcmp(cluster, other) != 0)
        return TOW_SIDES_OPEN;
    if (cluster[0] && other[0])
        tow_fail(error, TOW_ERROR_UNSUITABLE,
                 "the source (%s) is a shard of the destination's cluster; give two different "
                 "deployments",
                 tow_link_hosts(source));
    else
        tow_fail(
            error, TOW_ERROR_UNSUITABLE,
            "the source (%s) is a shard of a cluster, and whether that is the destination's cannot "
            "be "
            "read; give a mongos as the source, or allow the %s's user to read the cluster's id "
            "(clusterMonitor)",
            tow_link_hosts(source), cluster[0] ? "destination" : "source");
    return TOW_SIDES_SHARD;
}

static bool is_shard_list(const bson_t *reply)
{
    bson_iter_t list;

    return tow_field_list(reply, "shards", &list);
}

/* "set/a:1,b:1" and "a:1,b:1" have a member in common. */
static bool share_member(const char *shard, const char *hosts)
{
    const char *slash = strchr(shard, '/');

    for (const char *at = slash ? slash + 1 : shard; *at; at += strspn(at, ",")) {
        size_t length = strcspn(at, ",");

        for (const char *other = hosts; *other; other += strspn(other, ", ")) {
            size_t size = strcspn(other, ", ");

            if (size == length && !strncmp(at, other, size))
                return true;
            other += size;
        }
        at += length;
    }
    return false;
}

/* Whether the cluster's list of shards names a member of the destination; where it may not be read,
 * the mark decides. */
static bool is_listed_as_shard(tow_link_t *source, const char *identity)
{
    bson_t command = BSON_INITIALIZER, reply, shard;
    tow_conn_t *conn;
    tow_error_t ignored;
    bson_iter_t list;
    const char *host;
    char hosts[2048];
    bool listed = false;

    tow_identity_hosts(identity, hosts, sizeof hosts);
    conn = tow_conn_open(source);
    bson_append_int32(&command, "listShards", -1, 1);
    if (tow_conn_ask(conn, "admin", &command, 0, is_shard_list, "listShards", &reply, &ignored) &&
        tow_field_list(&reply, "shards", &list))
        while (!listed && bson_iter_next(&list))
            listed = tow_iter_document(&list, &shard) && tow_field_text(&shard, "host", &host) &&
                     share_member(host, hosts);
    bson_destroy(&reply);
    bson_destroy(&command);
    tow_conn_close(conn);
    return listed;
}

static bool is_other_shard(tow_link_t *source, tow_link_t *destination)
{
    return tow_link_facts(destination)->shard ||
           (tow_link_facts(source)->sharded && !tow_link_facts(destination)->sharded &&
            is_listed_as_shard(source, tow_link_facts(destination)->identity));
}

tow_sameness_t tow_sides_compare(tow_link_t *source, tow_link_t *destination, tow_error_t *error)
{
    const tow_facts_t *left = tow_link_facts(source), *right = tow_link_facts(destination);

    if (left->process[0] && !strcmp(left->process, right->process)) {
        fail_same(source, error);
        return TOW_SIDES_SAME;
    }
    if (is_other_shard(source, destination)) {
        tow_fail(error, TOW_ERROR_UNSUITABLE,
                 "the destination (%s) is one shard of a cluster; give a mongos of that cluster",
                 tow_link_hosts(destination));
        return TOW_SIDES_SHARD;
    }
    if (left->shard && right->sharded)
        return compare_shard(source, destination, error);
    switch (tow_identity_compare(left->identity, right->identity)) {
    case TOW_IDENTITY_SAME:
        fail_names(source, destination, error);
        return TOW_SIDES_SAME;
    case TOW_IDENTITY_DIFFERENT:
        return TOW_SIDES_DIFFERENT;
    default:
        return TOW_SIDES_OPEN;
    }
}

/* The mark --------------------------------------------------------------------------------------*/

typedef struct {
    tow_conn_t *source, *destination;
    const char *database;
    char collection[32]; /* of this mark alone: whoever removes another's does not remove it */
    bson_oid_t value;    /* random and, since it holds a time, never used before */
    tow_optime_t time;   /* of the destination, with the mark */
} mark_t;

static bool write_mark(mark_t *mark, tow_error_t *error)
{
    tow_send_options_t send = {.flags = TOW_SEND_WRITE | TOW_SEND_ONCE};
    bson_t command = BSON_INITIALIZER, list, document, reply;
    tow_write_error_t refusal;
    uint32_t position = 0;
    char value[25];
    bool ok;

    bson_oid_init(&mark->value, NULL);
    bson_oid_to_string(&mark->value, value);
    snprintf(mark->collection, sizeof mark->collection, "proof_%s", value);
    bson_append_utf8(&command, "insert", -1, mark->collection, -1);
    bson_append_array_begin(&command, "documents", -1, &list);
    bson_append_document_begin(&list, "0", -1, &document);
    bson_append_oid(&document, "_id", -1, &mark->value);
    bson_append_document_end(&list, &document);
    bson_append_array_end(&command, &list);
    ok = tow_conn_command(mark->destination, mark->database, &command, &send, &reply, error);
    if (ok && tow_reply_write_error(&reply, &position, &refusal))
        ok = tow_fail(error, TOW_ERROR_SERVER, "%s", refusal.message);
    mark->time = tow_reply_time(&reply);
    bson_destroy(&reply);
    bson_destroy(&command);
    return ok ? true
              : tow_fail_context(error, "write a mark to %s.%s on the destination", mark->database,
                                 mark->collection);
}

static void remove_mark(mark_t *mark)
{
    tow_send_options_t send = {.flags = TOW_SEND_WRITE};
    bson_t command = BSON_INITIALIZER, reply;
    tow_error_t ignored;

    bson_append_utf8(&command, "drop", -1, mark->collection, -1);
    /* What stays is a collection of ours in our database. */
    if (!tow_conn_command(mark->destination, mark->database, &command, &send, &reply, &ignored))
        mark->time = 0;
    bson_destroy(&reply);
    bson_destroy(&command);
}

/* find {_id: mark}, limit 1 */
static void build_look(const mark_t *mark, bson_t *out)
{
    bson_t part;

    bson_init(out);
    bson_append_utf8(out, "find", -1, mark->collection, -1);
    bson_append_document_begin(out, "filter", -1, &part);
    bson_append_oid(&part, "_id", -1, &mark->value);
    bson_append_document_end(out, &part);
    bson_append_int32(out, "limit", -1, 1);
    bson_append_bool(out, "singleBatch", -1, true);
}

/* One look at the source. */
static bool look(const mark_t *mark, const char *level, bool *out_found, tow_error_t *error)
{
    tow_send_options_t send = {0};
    bson_t command, part, reply, document;
    tow_reply_cursor_t cursor;
    bool ok, broken = false;

    build_look(mark, &command);
    bson_append_int32(&command, "maxTimeMS", -1, READ_MS);
    bson_append_document_begin(&command, "readConcern", -1, &part);
    bson_append_utf8(&part, "level", -1, level, -1);
    bson_append_document_end(&command, &part);
    ok = tow_conn_command(mark->source, mark->database, &command, &send, &reply, error);
    if (ok && !tow_reply_cursor(&reply, &cursor))
        ok = tow_fail_reply(error, "source", "its answer to the look for the mark has no batch");
    if (ok) {
        *out_found = tow_batch_document(&cursor.batch, &document, &broken);
        if (broken)
            ok = tow_fail_reply(error, "source",
                                "its answer to the look for the mark cannot be read");
    }
    bson_destroy(&reply);
    bson_destroy(&command);
    return ok;
}

/* That the source did not have it says something only while the destination has it. */
static bool is_still_there(const mark_t *mark, tow_error_t *error)
{
    bool standalone = tow_link_facts(tow_conn_link(mark->destination))->standalone;
    bson_t command, reply, document;
    tow_reply_cursor_t cursor;
    bool ok, broken, found;

    build_look(mark, &command);
    ok = tow_conn_ask_after(mark->destination, mark->database, &command,
                            standalone ? 0 : TOW_SEND_READ, standalone ? 0 : mark->time,
                            tow_reply_holds_documents, "the look for the mark", &reply, error);
    found = ok && tow_reply_cursor(&reply, &cursor) &&
            tow_batch_document(&cursor.batch, &document, &broken);
    bson_destroy(&reply);
    bson_destroy(&command);
    if (ok && !found)
        return tow_fail(
            error, TOW_ERROR_UNSUITABLE,
            "nothing proves that source and destination are two deployments: the mark on "
            "the destination (%s.%s) was removed while it was looked for at the source; "
            "run the same command again",
            mark->database, mark->collection);
    return ok;
}

static bool is_database(const bson_t *reply)
{
    bson_iter_t list;

    return tow_field_list(reply, "databases", &list);
}

/* Whether the shards behind a mongos have the mark's database: that is asked of each of them,
 * whereas where a database lives each mongos learns in its own time. */
static bool shards_have(const mark_t *mark, bool *out, tow_error_t *error)
{
    bson_t command = BSON_INITIALIZER, filter, reply;
    bson_iter_t list;
    bool ok;

    bson_append_int32(&command, "listDatabases", -1, 1);
    bson_append_bool(&command, "nameOnly", -1, true);
    bson_append_document_begin(&command, "filter", -1, &filter);
    bson_append_utf8(&filter, "name", -1, mark->database, -1);
    bson_append_document_end(&command, &filter);
    ok = tow_conn_ask(mark->source, "admin", &command, 0, is_database, "listDatabases", &reply,
                      error);
    *out = ok && tow_field_list(&reply, "databases", &list) && bson_iter_next(&list);
    bson_destroy(&reply);
    bson_destroy(&command);
    return ok;
}

/* False: the time is over, or a stop was asked for. */
static bool wait_a_little(const mark_t *mark, int64_t until_ms)
{
    return tow_backoff(tow_conn_link(mark->source), 2, until_ms);
}

/* Looks until it is there or the time is over; errors of the moment are waited out as well.
 * `until`: 0, or a time of the source from which on the mark would be there. *out_certain: it was
 * reached. */
static bool look_on(const mark_t *mark, const char *level, int64_t until_ms, tow_optime_t until,
                    bool *out_found, bool *out_certain, tow_error_t *error)
{
    tow_optime_t now = 0;

    *out_found = *out_certain = false;
    do {
        bool passed = until && tow_link_poll_time(mark->source, &now, error) && now >= until;

        if (look(mark, level, out_found, error)) {
            *out_certain = passed;
            if (*out_found || passed)
                return true;
        } else if (error->retry == TOW_RETRY_NEVER) {
            return false;
        }
    } while (wait_a_little(mark, until_ms));
    return true;
}

static bool is_not_primary(const tow_error_t *error)
{
    return error->server_code == TOW_CODE_NOT_WRITABLE_PRIMARY ||
           error->server_code == TOW_CODE_NOT_PRIMARY_NO_SECONDARY_OK;
}

/* A linearizable read at the primary sees every write that a majority acknowledged before it, or
 * fails. */
static bool look_at_primary(const mark_t *mark, bool *out_found, bool *out_no_primary,
                            tow_error_t *error)
{
    const char *level = "linearizable";
    int64_t until_ms = tow_now_ms() + LOOK_MS;

    *out_no_primary = false;
    while (!look(mark, level, out_found, error)) {
        if (is_not_primary(error)) {
            *out_no_primary = true;
            return true;
        }
        /* A server that knows no such reads; in a majority read at its primary the write is seen as
         * well. */
        if (error->retry == TOW_RETRY_NEVER && !strcmp(level, "linearizable"))
            level = "majority";
        else if (error->retry == TOW_RETRY_NEVER || !wait_a_little(mark, until_ms))
            return false;
    }
    return true;
}

static bool fail_unproven(const mark_t *mark, tow_error_t *error)
{
    return tow_fail(
        error, TOW_ERROR_UNSUITABLE,
        "nothing proves that source and destination are two deployments: the source (%s) is not a "
        "primary, and did not reach the time of a mark on the destination within %d s; give a URI "
        "of the source that reaches its primary",
        tow_link_hosts(tow_conn_link(mark->source)), LOOK_MS / 1000);
}

static bool fail_listed(const mark_t *mark, tow_error_t *error)
{
    return tow_fail(
        error, TOW_ERROR_UNSUITABLE,
        "nothing proves that the destination (%s) is not a shard of the source's cluster: "
        "that has a database %s, too; drop it there if it is no job's, or give another "
        "--job",
        tow_link_hosts(tow_conn_link(mark->destination)), mark->database);
}

static bool is_found(const mark_t *mark, tow_sameness_t sides, bool *out_found, tow_error_t *error)
{
    bool no_primary, listed, certain;

    if (!look_at_primary(mark, out_found, &no_primary, error))
        return false;
    if (no_primary) {
        if (sides == TOW_SIDES_DIFFERENT) /* and nothing that a secondary may not have seen yet
                                             changes that */
            return true;
        if (!look_on(mark, "majority", tow_now_ms() + LOOK_MS, mark->time, out_found, &certain,
                     error))
            return false;
        return *out_found || certain || fail_unproven(mark, error);
    }
    if (*out_found || !tow_link_facts(tow_conn_link(mark->source))->sharded)
        return true;
    if (!shards_have(mark, &listed, error))
        return false;
    if (!listed)
        return true;
    if (!look_on(mark, "majority", tow_now_ms() + FOUND_LATER_MS, 0, out_found, &certain, error))
        return false;
    /* A mongos finds what another mongos wrote, but not what was written to a shard directly. */
    return *out_found || tow_link_facts(tow_conn_link(mark->destination))->sharded ||
           fail_listed(mark, error);
}

bool tow_prove_different(tow_link_t *source, tow_link_t *destination, const char *database,
                         tow_error_t *error)
{
    tow_sameness_t sides = tow_sides_compare(source, destination, error);
    mark_t mark = {.database = database};
    bool ok, found = false;

    if (sides == TOW_SIDES_SAME || sides == TOW_SIDES_SHARD)
        return false;
    mark.source = tow_conn_open(source);
    mark.destination = tow_conn_open(destination);
    ok = write_mark(&mark, error);
    if (ok) {
        ok = is_found(&mark, sides, &found, error) ||
             tow_fail_context(error, "look at the source for a mark on the destination");
        ok = ok && (found || is_still_there(&mark, error));
        remove_mark(&mark);
    }
    tow_conn_close(mark.source);
    tow_conn_close(mark.destination);
    return ok && found ? fail_same(source, error) : ok;
}
