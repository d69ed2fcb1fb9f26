/* SPDX-License-Identifier: Apache-2.0 */
/* What proves that source and destination are two deployments. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "double.h"
#include "engine/check/same.h"
#include "engine/link/internal.h"

typedef struct bench bench_t;

typedef struct {
    bench_t *bench;
    double_server_t *server;
    bool source;
} side_t;

struct bench {
    side_t source, destination;
    tow_stop_t *stop;
    bool removed;               /* somebody removes the mark while it is looked for */
    const char *listed, *shard; /* what the source's cluster has: a database, and a shard's hosts */
    char inserted[64], dropped[64];
};

static void append_batch(const bench_t *bench, const bson_t *command, bool found, bson_t *reply)
{
    bson_t cursor, batch, document;

    bson_append_document_begin(reply, "cursor", -1, &cursor);
    bson_append_int64(&cursor, "id", -1, 0);
    bson_append_utf8(&cursor, "ns", -1, "towline_x.proof", -1);
    bson_append_array_begin(&cursor, "firstBatch", -1, &batch);
    if (found) {
        bson_append_document_begin(&batch, "0", -1, &document);
        bson_append_int32(&document, "_id", -1, 1);
        bson_append_document_end(&batch, &document);
    }
    bson_append_array_end(&cursor, &batch);
    bson_append_document_end(reply, &cursor);
}

static const char *text_of(const bson_t *command, const char *name)
{
    bson_iter_t iter;

    return bson_iter_init_find(&iter, command, name) ? bson_iter_utf8(&iter, NULL) : "";
}

static bool answer(void *data, const char *database, const bson_t *command, bson_t *reply,
                   bson_error_t *error)
{
    side_t *side = data;
    bench_t *bench = side->bench;

    if (bson_has_field(command, "find")) {
        append_batch(bench, command, !side->source && !bench->removed, reply);
    } else if (bson_has_field(command, "insert")) {
        snprintf(bench->inserted, sizeof bench->inserted, "%s", text_of(command, "insert"));
        bson_append_int32(reply, "n", -1, 1);
    } else if (bson_has_field(command, "drop")) {
        snprintf(bench->dropped, sizeof bench->dropped, "%s", text_of(command, "drop"));
    } else if (bson_has_field(command, "listShards") && bench->shard) {
        BCON_APPEND(reply, "shards", "[", "{", "_id", "s0", "host", bench->shard, "}", "]");
    } else if (bson_has_field(command, "listDatabases") && bench->listed) {
        BCON_APPEND(reply, "databases", "[", "{", "name", bench->listed, "}", "]");
    } else if (bson_has_field(command, "listDatabases")) {
        BCON_APPEND(reply, "databases", "[", "]");
    } else {
        bson_append_double(reply, "ok", -1, 0);
        bson_append_int32(reply, "code", -1, 59);
        bson_set_error(error, MONGOC_ERROR_SERVER, 59, "no such command");
        return true;
    }
    bson_append_double(reply, "ok", -1, 1);
    return true;
}

static void begin_side(bench_t *bench, side_t *side, const char *name, const char *identity)
{
    tow_facts_t *facts;

    *side = (side_t){.bench = bench, .server = double_new(name, false), .source = *name == 's'};
    facts = &double_link(side->server)->facts;
    snprintf(facts->identity, sizeof facts->identity, "%s", identity);
    facts->sharded = !strncmp(identity, "cluster", 7);
    double_hook(side->server, answer, side);
    double_stop(side->server, bench->stop);
}

static void begin(bench_t *bench, const char *source)
{
    *bench = (bench_t){.stop = tow_stop_new()};
    begin_side(bench, &bench->source, "source", source);
    begin_side(bench, &bench->destination, "destination", "set id=- hosts=b:1,b:2 name=s0");
}

static void end(bench_t *bench)
{
    double_free(bench->source.server);
    double_free(bench->destination.server);
    tow_stop_destroy(bench->stop);
}

static bool prove(bench_t *bench, tow_error_t *error)
{
    return tow_prove_different(double_link(bench->source.server),
                               double_link(bench->destination.server), "towline_x", error);
}

#define SET "set id=- hosts=a:1 name=other"
#define CLUSTER "cluster id=- hosts=m:1 name="

/* Whoever removes his own mark removes no other's. */
static void each_mark_has_a_collection_to_itself(void **state)
{
    char first[64];
    tow_error_t error;
    bench_t bench;

    begin(&bench, SET);
    assert_true(prove(&bench, &error));
    assert_string_equal(bench.inserted, bench.dropped);
    assert_memory_equal(bench.inserted, "proof_", 6);
    snprintf(first, sizeof first, "%s", bench.inserted);
    assert_true(prove(&bench, &error));
    assert_string_not_equal(bench.inserted, first);
    end(&bench);
}

static void a_mark_that_is_gone_proves_nothing(void **state)
{
    tow_error_t error;
    bench_t bench;

    begin(&bench, SET);
    bench.removed = true;
    assert_false(prove(&bench, &error));
    assert_int_equal(error.code, TOW_ERROR_UNSUITABLE);
    end(&bench);
}

/* A mongos shows the databases of its shards, but no collection that was made on
 * a shard directly. */
static void a_cluster_that_has_the_marks_database_is_refused(void **state)
{
    tow_error_t error;
    bench_t bench;

    begin(&bench, CLUSTER);
    assert_true(prove(&bench, &error));
    bench.listed = "towline_x";
    tow_stop_request(bench.stop, NULL); /* no look after the first */
    assert_false(prove(&bench, &error));
    assert_int_equal(error.code, TOW_ERROR_UNSUITABLE);
    assert_non_null(strstr(error.message, "towline_x"));
    end(&bench);
}

static void a_cluster_whose_shard_is_the_destination_is_refused(void **state)
{
    tow_error_t error;
    bench_t bench;

    begin(&bench, CLUSTER);
    bench.shard = "s0/b:10,c:1";
    assert_true(prove(&bench, &error));
    bench.shard = "s0/c:1,b:2";
    assert_false(prove(&bench, &error));
    assert_int_equal(error.code, TOW_ERROR_UNSUITABLE);
    assert_non_null(strstr(error.message, "one shard of a cluster"));
    end(&bench);
}

/* A server as it greets, which may say that it is a shard only when it is asked. */
static bool greet(void *data, const char *database, const bson_t *command, bson_t *reply,
                  bson_error_t *error)
{
    bson_oid_t id;

    bson_oid_init_from_string(&id, "6b08e04642862038806be0cb");
    if (bson_has_field(command, "buildInfo"))
        BCON_APPEND(reply, "version", "4.4.6");
    else if (bson_has_field(command, "hello") || bson_has_field(command, "isMaster"))
        BCON_APPEND(reply, "setName", "s0", "ismaster", BCON_BOOL(true), "hosts", "[", "b:1", "]");
    else if (bson_has_field(command, "shardingState"))
        BCON_APPEND(reply, "enabled", BCON_BOOL(*(bool *)data), "clusterId", BCON_OID(&id));
    bson_append_double(reply, "ok", -1, 1);
    return true;
}

static void a_shard_is_known_when_it_is_asked(void **state)
{
    for (int i = 0; i < 2; i++) {
        double_server_t *server = double_new("destination", false);
        tow_link_t *link = double_link(server);
        bool enabled = i == 1;
        tow_conn_t *conn;
        tow_error_t error;

        double_hook(server, greet, &enabled);
        conn = tow_conn_open(link);
        if (!tow_facts_read(link, conn, &error))
            fail_msg("%s", error.message);
        assert_int_equal(tow_link_facts(link)->shard, enabled);
        tow_conn_close(conn);
        double_free(server);
    }
}

/* The first `damaged` answers to hello lack what says which kind of server it is. */
typedef struct {
    const char *field; /* of a set or a mongos, that is left */
    int damaged;
} kind_t;

static bool greet_damaged(void *data, const char *database, const bson_t *command, bson_t *reply,
                          bson_error_t *error)
{
    kind_t *kind = data;
    bool enabled = false;

    if ((!bson_has_field(command, "hello") && !bson_has_field(command, "isMaster")) ||
        !kind->damaged)
        return greet(&enabled, database, command, reply, error);
    kind->damaged--;
    BCON_APPEND(reply, "ismaster", BCON_BOOL(true), kind->field, "b:1", "ok", BCON_DOUBLE(1));
    return true;
}

static void a_set_that_does_not_say_its_name_is_no_standalone(void **state)
{
    static const char *const fields[] = {"hosts",         "me",          "primary", "setVersion",
                                         "operationTime", "$clusterTime"};

    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        double_server_t *server = double_new("destination", false);
        tow_link_t *link = double_link(server);
        kind_t kind = {fields[i], 1};
        tow_conn_t *conn;
        tow_error_t error;

        double_hook(server, greet_damaged, &kind);
        conn = tow_conn_open(link);
        if (!tow_facts_read(link, conn, &error))
            fail_msg("%s", error.message);
        assert_int_equal(kind.damaged, 0);
        assert_false(tow_link_facts(link)->standalone);
        tow_conn_close(conn);
        double_free(server);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_mark_has_a_collection_to_itself),
        cmocka_unit_test(a_mark_that_is_gone_proves_nothing),
        cmocka_unit_test(a_cluster_that_has_the_marks_database_is_refused),
        cmocka_unit_test(a_cluster_whose_shard_is_the_destination_is_refused),
        cmocka_unit_test(a_shard_is_known_when_it_is_asked),
        cmocka_unit_test(a_set_that_does_not_say_its_name_is_no_standalone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
