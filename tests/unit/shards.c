/* SPDX-License-Identifier: Apache-2.0 */
/* DDL of a sharded source: its shards' streams are merged with a delay, so what the source has
 * under a name now may be a later collection than the event's; and each shard reports a rename and
 * a drop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "bench.h"
#include "engine/link/internal.h"

enum { MOST = 8 };

/* A collection that the source has now, and what the destination was told to do. */
typedef struct {
    bench_t *bench;
    struct {
        char name[40];
        uint8_t uuid;
        bool capped;
    } source[MOST];
    char told[400];
    bool taken;    /* somebody makes the new name of a rename just before it arrives */
    bool replaces; /* the last rename drops what has the new name */
} cluster_t;

static const char *text_of(const bson_t *command, const char *path)
{
    bson_iter_t iter, found;

    return bson_iter_init(&iter, command) && bson_iter_find_descendant(&iter, path, &found)
               ? bson_iter_utf8(&found, NULL)
               : "";
}

static void append_entry(bson_t *batch, const char *name, uint8_t uuid, bool capped)
{
    const uint8_t bytes[16] = {uuid};
    bson_t entry, options, info;

    bson_append_document_begin(batch, "0", -1, &entry);
    bson_append_utf8(&entry, "name", -1, name, -1);
    bson_append_utf8(&entry, "type", -1, "collection", -1);
    bson_append_document_begin(&entry, "options", -1, &options);
    if (capped)
        bson_append_bool(&options, "capped", -1, true);
    bson_append_document_end(&entry, &options);
    bson_append_document_begin(&entry, "info", -1, &info);
    bson_append_binary(&info, "uuid", -1, BSON_SUBTYPE_UUID, bytes, sizeof bytes);
    bson_append_document_end(&entry, &info);
    bson_append_document_end(batch, &entry);
}

static bool list(void *data, const char *database, const bson_t *command, bson_t *reply,
                 bson_error_t *error)
{
    cluster_t *cluster = data;
    const char *name = text_of(command, "filter.name");
    bson_t cursor, batch;

    if (!bson_has_field(command, "listCollections"))
        return false;
    bson_append_document_begin(reply, "cursor", -1, &cursor);
    bson_append_array_begin(&cursor, "firstBatch", -1, &batch);
    for (int i = 0; i < MOST; i++)
        if (cluster->source[i].uuid && !strcmp(cluster->source[i].name, name))
            append_entry(&batch, name, cluster->source[i].uuid, cluster->source[i].capped);
    bson_append_array_end(&cursor, &batch);
    bson_append_int64(&cursor, "id", -1, 0);
    bson_append_utf8(&cursor, "ns", -1, "d.$cmd.listCollections", -1);
    bson_append_document_end(reply, &cursor);
    bson_append_double(reply, "ok", -1, 1);
    return true;
}

/* The destination carries out renames and drops, and keeps them in order. */
static bool follow(void *data, const char *database, const bson_t *command, bson_t *reply,
                   bson_error_t *error)
{
    cluster_t *cluster = data;
    size_t length = strlen(cluster->told);
    bool renames = bson_has_field(command, "renameCollection");
    bson_iter_t iter;

    if (!renames && !bson_has_field(command, "drop"))
        return false;
    snprintf(cluster->told + length, sizeof cluster->told - length, "%s%s%s; ",
             text_of(command, renames ? "renameCollection" : "drop"), renames ? " -> " : "",
             text_of(command, "to"));
    if (renames && bson_iter_init_find(&iter, command, "dropTarget"))
        cluster->replaces = bson_iter_bool(&iter);
    if (renames && cluster->taken) {
        cluster->bench->target_foreign = true;
        bson_append_double(reply, "ok", -1, 0);
        bson_append_int32(reply, "code", -1, 48);
        bson_set_error(error, 17 /* MONGOC_ERROR_SERVER */, 48, "target namespace exists");
        return true;
    }
    bson_append_double(reply, "ok", -1, 1);
    return true;
}

static void has(cluster_t *cluster, const char *name, uint8_t uuid)
{
    int i = 0;

    while (cluster->source[i].uuid && strcmp(cluster->source[i].name, name) != 0)
        i++;
    snprintf(cluster->source[i].name, sizeof cluster->source[i].name, "%s", name);
    cluster->source[i].uuid = uuid;
}

/* Copied before the stream, with that identity. */
static void copied(cluster_t *cluster, const char *name, uint8_t uuid)
{
    tow_collection_info_t info = {.database = (char *)"d", .name = (char *)name, .uuid = {uuid}};
    tow_namespaces_t *table = cluster->bench->table;

    bson_init(&info.options);
    tow_namespaces_set_ranges(table, tow_namespaces_add(table, &info, 0), NULL, 0);
}

static void begin(cluster_t *cluster, bool sharded)
{
    *cluster = (cluster_t){.bench = bench_begin(1)};
    double_link(cluster->bench->source)->facts.sharded = sharded;
    tow_namespaces_set_ranges(cluster->bench->table, cluster->bench->collection, NULL, 0);
    double_hook(cluster->bench->source, list, cluster);
    double_hook(cluster->bench->destination, follow, cluster);
}

static void tell(cluster_t *cluster, const char *operation, const char *name, const char *to)
{
    bench_t *bench = cluster->bench;
    int32_t number = (int32_t)bench->told + 1;
    told_t *told =
        bench_tell(bench, operation, number, double_now(bench->source) + (tow_optime_t)number);

    snprintf(told->collection, sizeof told->collection, "%s", name);
    snprintf(told->to, sizeof told->to, "%s", to);
}

static tow_namespace_t *known(cluster_t *cluster, const char *name)
{
    return tow_namespaces_find(cluster->bench->table, "d", name);
}

/* Everything that was told is carried out: the floor passes a write behind it. */
static void settle(cluster_t *cluster)
{
    bench_t *bench = cluster->bench;
    tow_optime_t last = bench->history[bench->told - 1].time;

    for (uint32_t i = 0; double_now(bench->source) <= last; i++)
        bench_put(bench, "insert", 1000 + (int32_t)i, 0, 0);
    bench_deliver(bench, false);
    bench_catch_up(bench);
}

static void end(cluster_t *cluster)
{
    bench_end(cluster->bench);
}

/* a takes b's name, and c takes it from a, before the first of both events is read. */
static void a_target_that_was_replaced_since_is_replaced_twice(void **state)
{
    cluster_t cluster;

    begin(&cluster, true);
    copied(&cluster, "x", 1);
    copied(&cluster, "y", 2);
    copied(&cluster, "z", 3);
    bench_start_replay(cluster.bench, 0);
    has(&cluster, "y", 3);
    tell(&cluster, "rename", "x", "y");
    tell(&cluster, "rename", "z", "y");
    settle(&cluster);
    assert_string_equal(cluster.told, "d.x -> d.y; d.z -> d.y; ");
    assert_int_equal(cluster.bench->copied_again, 0);
    assert_null(known(&cluster, "z"));
    end(&cluster);
}

/* a takes b's name, b is dropped, and something else has that name when the first event is read. */
static void what_follows_a_renamed_collection_is_copied(void **state)
{
    cluster_t cluster;

    begin(&cluster, true);
    copied(&cluster, "x", 1);
    bench_start_replay(cluster.bench, 0);
    has(&cluster, "y", 9);
    tell(&cluster, "rename", "x", "y");
    tell(&cluster, "drop", "y", "");
    settle(&cluster);
    assert_string_equal(cluster.told, "d.x -> d.y; ");
    assert_int_equal(cluster.bench->copied_again, 1);
    end(&cluster);
}

/* Each shard reports it, and a sharded collection has another identity after it. */
static void a_rename_is_carried_out_once(void **state)
{
    cluster_t cluster;

    begin(&cluster, true);
    copied(&cluster, "x", 1);
    bench_start_replay(cluster.bench, 0);
    has(&cluster, "y", 7);
    tell(&cluster, "rename", "x", "y");
    tell(&cluster, "rename", "x", "y");
    settle(&cluster);
    assert_true(!strncmp(cluster.told, "d.x -> d.y; ", 12));
    assert_null(strstr(cluster.told + 12, " -> "));
    assert_int_equal(cluster.bench->copied_again, 0);
    assert_non_null(known(&cluster, "y"));
    assert_int_equal(known(&cluster, "y")->uuid[0], 0); /* of two, neither is certain */
    end(&cluster);
}

/* A collection is made, dropped and made again before its first event is read. */
static void a_drop_of_an_earlier_collection_of_that_name_counts(void **state)
{
    cluster_t cluster;

    begin(&cluster, true);
    bench_start_replay(cluster.bench, 0);
    has(&cluster, "x", 2);
    tell(&cluster, "update", "x", "");
    tell(&cluster, "drop", "x", "");
    settle(&cluster);
    assert_int_equal(cluster.bench->copied_again, 1);
    end(&cluster);
}

/* movePrimary drops what it left on the old shard. */
static void a_drop_that_is_none_changes_nothing(void **state)
{
    cluster_t cluster;

    begin(&cluster, true);
    copied(&cluster, "x", 1);
    bench_start_replay(cluster.bench, 0);
    has(&cluster, "x", 1);
    tell(&cluster, "drop", "x", "");
    settle(&cluster);
    assert_string_equal(cluster.told, "");
    assert_int_equal(cluster.bench->copied_again, 0);
    end(&cluster);
}

/* cloneCollectionAsCapped fills it before its first event, by inserts that no stream reports. */
static void a_capped_collection_that_is_met_is_copied(void **state)
{
    for (int capped = 0; capped < 2; capped++) {
        cluster_t cluster;

        begin(&cluster, false);
        bench_start_replay(cluster.bench, 0);
        has(&cluster, "x", 2);
        cluster.source[0].capped = capped;
        tell(&cluster, "update", "x", "");
        settle(&cluster);
        assert_int_equal(cluster.bench->copied_again, capped);
        end(&cluster);
    }
}

/* What a server fills unseen is copied under the name that it gets, never renamed. */
static void what_was_filled_unseen_is_copied_when_renamed(void **state)
{
    static const struct {
        const char *name;
        bool unseen;
    } names[] = {{"tmpAb3De.renameCollection", true},
                 {"tmpAb3De.convertToCapped.x", true},
                 {"system.js", true},
                 {"tmpAb3De.x", false},
                 {"tmp", false},
                 {"tmpAb3De", false}};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        cluster_t cluster;
        told_t *told;

        begin(&cluster, false);
        copied(&cluster, names[i].name, 1);
        bench_start_replay(cluster.bench, 0);
        has(&cluster, "y", 1);
        told = bench_tell(cluster.bench, "rename", 1, double_now(cluster.bench->source) + 1);
        snprintf(told->collection, sizeof told->collection, "%s", names[i].name);
        snprintf(told->to, sizeof told->to, "y");
        settle(&cluster);
        if (cluster.bench->copied_again != names[i].unseen ||
            (strstr(cluster.told, " -> d.y") == NULL) != names[i].unseen)
            fail_msg("%s: copied again %u times; %s", names[i].name, cluster.bench->copied_again,
                     cluster.told);
        end(&cluster);
    }
}

/* A rename drops what has the new name only where that is the job's: what somebody makes there in
 * between stays. */
static void a_rename_replaces_only_what_is_the_jobs(void **state)
{
    for (int unclaimed = 0; unclaimed < 2; unclaimed++) {
        cluster_t cluster;

        begin(&cluster, false);
        copied(&cluster, "x", 1);
        bench_start_replay(cluster.bench, 0);
        has(&cluster, "y", 1);
        cluster.bench->target_free = unclaimed;
        tell(&cluster, "rename", "x", "y");
        settle(&cluster);
        assert_string_equal(cluster.told, "d.x -> d.y; ");
        assert_int_equal(cluster.replaces, !unclaimed);
        end(&cluster);
    }
}

static void what_is_made_at_a_renames_target_stays(void **state)
{
    tow_error_t error = {0};
    cluster_t cluster;

    begin(&cluster, false);
    copied(&cluster, "x", 1);
    bench_start_replay(cluster.bench, 0);
    has(&cluster, "y", 1);
    cluster.bench->target_free = cluster.taken = true;
    tell(&cluster, "rename", "x", "y");
    bench_deliver(cluster.bench, false);
    tow_replay_pause(cluster.bench->replay, false);
    assert_true(tow_stop_wait(cluster.bench->stop, 10000));
    tow_stop_error(cluster.bench->stop, &error);
    assert_int_equal(error.code, TOW_ERROR_CONFLICT);
    assert_false(cluster.replaces);
    assert_string_equal(cluster.told, "d.x -> d.y; ");
    end(&cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_target_that_was_replaced_since_is_replaced_twice),
        cmocka_unit_test(what_follows_a_renamed_collection_is_copied),
        cmocka_unit_test(a_rename_is_carried_out_once),
        cmocka_unit_test(a_drop_of_an_earlier_collection_of_that_name_counts),
        cmocka_unit_test(a_drop_that_is_none_changes_nothing),
        cmocka_unit_test(a_capped_collection_that_is_met_is_copied),
        cmocka_unit_test(what_was_filled_unseen_is_copied_when_renamed),
        cmocka_unit_test(a_rename_replaces_only_what_is_the_jobs),
        cmocka_unit_test(what_is_made_at_a_renames_target_stays),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
