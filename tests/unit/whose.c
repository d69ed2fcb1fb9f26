/* SPDX-License-Identifier: Apache-2.0 */
/* What the job did not make stays: it is not taken for what the job creates, nor dropped, nor
 * renamed over; and what the job's own writes made again is told from it by all that it is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <mongoc/mongoc.h>

#include "copy/internal.h"
#include "double.h"
#include "engine/state/store_internal.h"

typedef struct {
    double_server_t *source, *destination;
    tow_store_t store;
    tow_stop_t *stop;
    tow_copy_t *copy;
    tow_conn_t *conn;
    tow_namespaces_t *table;
    tow_filter_t *filter;
    uint32_t creates, drops;
    bool makes;                     /* creating makes d.a */
    char words[200];                /* what the destination is asked for, in order */
    const tow_namespace_t *at_drop; /* what had the name then */
} bench_t;

static void add_word(bench_t *bench, const char *word)
{
    size_t length = strlen(bench->words);

    snprintf(bench->words + length, sizeof bench->words - length, "%s ", word);
}

static void put(double_server_t *server, const char *ns, int32_t id, int32_t n)
{
    bson_t *document = BCON_NEW("_id", BCON_INT32(id), "n", BCON_INT32(n));

    double_put(server, ns, document);
    tow_link_note_time(double_link(server), double_now(server));
    bson_destroy(document);
}

/* What the destination gives a collection of that name: see double_list_collections. */
static const uint8_t *uuid_of(const char *ns, uint8_t out[16])
{
    memset(out, 0, 16);
    memcpy(out, ns, strlen(ns));
    return out;
}

/* A collection's record: with how many ranges. */
static void take_record(bench_t *bench, const bson_t *command)
{
    bson_iter_t iter, ranges;
    char word[8];

    if (!bson_iter_init(&iter, command) ||
        !bson_iter_find_descendant(&iter, "updates.0.u.ranges", &ranges))
        return;
    snprintf(word, sizeof word, "r%d", bson_iter_int32(&ranges));
    add_word(bench, word);
}

/* Of the whole: the destination lists d.a, the source nothing. */
static bool answer_list(const bson_t *command, bool destination, bson_t *reply)
{
    uint8_t uuid[16];
    bson_t cursor, list, entry, part;

    if (bson_has_field(command, "listDatabases")) {
        BCON_APPEND(reply, "databases", "[", "{", "name", "d", "}", "]", "ok", BCON_DOUBLE(1));
        return true;
    }
    if (!bson_has_field(command, "listCollections") || bson_has_field(command, "filter"))
        return false;
    bson_append_document_begin(reply, "cursor", -1, &cursor);
    bson_append_int64(&cursor, "id", -1, 0);
    bson_append_array_begin(&cursor, "firstBatch", -1, &list);
    if (destination) {
        bson_append_document_begin(&list, "0", -1, &entry);
        BCON_APPEND(&entry, "name", "a", "type", "collection", "options", "{", "}");
        bson_append_document_begin(&entry, "info", -1, &part);
        bson_append_binary(&part, "uuid", -1, BSON_SUBTYPE_UUID, uuid_of("d.a", uuid), 16);
        bson_append_document_end(&entry, &part);
        bson_append_document_end(&list, &entry);
    }
    bson_append_array_end(&cursor, &list);
    bson_append_document_end(reply, &cursor);
    bson_append_double(reply, "ok", -1, 1);
    return true;
}

/* Sizes are the same for all; while the catalog is read something is written. */
static bool serve_source(void *data, const char *database, const bson_t *command, bson_t *reply,
                         bson_error_t *error)
{
    bench_t *bench = data;

    if (answer_list(command, false, reply))
        return true;
    if (bson_has_field(command, "listCollections"))
        put(bench->source, "d.z", 1, 0);
    if (!bson_has_field(command, "dataSize"))
        return false;
    BCON_APPEND(reply, "numObjects", BCON_INT64(1), "size", BCON_INT64(1), "ok", BCON_DOUBLE(1));
    return true;
}

/* The job's own database takes everything; commands are counted, and only drops carried out. */
static bool serve(void *data, const char *database, const bson_t *command, bson_t *reply,
                  bson_error_t *error)
{
    bench_t *bench = data;

    if (answer_list(command, true, reply))
        return true;
    if (bson_has_field(command, "find") || bson_has_field(command, "listCollections") ||
        bson_has_field(command, "listIndexes"))
        return false;
    take_record(bench, command);
    if (bson_has_field(command, "create"))
        add_word(bench, "create");
    if (bson_has_field(command, "drop")) {
        add_word(bench, "drop");
        bench->at_drop = tow_namespaces_find(bench->table, "d", "a");
    }
    bench->creates += bson_has_field(command, "create");
    if (bson_has_field(command, "create") && bench->makes)
        put(bench->destination, "d.a", 1,
            0); /* here a collection is there when it has a document */
    bench->drops += bson_has_field(command, "drop");
    if (bson_has_field(command, "drop"))
        return false;
    BCON_APPEND(reply, "n", BCON_INT32(1), "ok", BCON_DOUBLE(1));
    return true;
}

static void await_lanes(void *data)
{
    add_word(data, "await");
}

static void begin(bench_t *bench)
{
    tow_copy_options_t options;

    *bench = (bench_t){.source = double_new("source", true),
                       .destination = double_new("destination", false)};
    double_worst(bench->source);
    double_hook(bench->source, serve_source, bench);
    double_hook(bench->destination, serve, bench);
    bench->table = tow_namespaces_new();
    bench->filter = tow_filter_new();
    bench->store = (tow_store_t){.options.destination = double_link(bench->destination),
                                 .database = (char *)"towline_unit",
                                 .renewed_ms = INT64_MAX / 2};
    pthread_mutex_init(&bench->store.lock, NULL);
    bench->store.conn = tow_conn_open(double_link(bench->destination));
    bench->stop = tow_stop_new();
    options = (tow_copy_options_t){.source = double_link(bench->source),
                                   .destination = double_link(bench->destination),
                                   .store = &bench->store,
                                   .claims = tow_claims_new(&bench->store),
                                   .namespaces = bench->table,
                                   .filter = bench->filter,
                                   .range_bytes = 1 << 20,
                                   .await_lanes = await_lanes,
                                   .data = bench,
                                   .stop = bench->stop};
    bench->copy = tow_copy_new(&options);
    bench->conn = tow_conn_open(double_link(bench->destination));
}

static void end(bench_t *bench)
{
    tow_claims_t *claims = bench->copy->options.claims;

    tow_conn_close(bench->conn);
    tow_copy_destroy(bench->copy);
    tow_claims_destroy(claims);
    tow_conn_close(bench->store.conn);
    pthread_mutex_destroy(&bench->store.lock);
    tow_stop_destroy(bench->stop);
    tow_namespaces_destroy(bench->table);
    tow_filter_destroy(bench->filter);
    double_free(bench->source);
    double_free(bench->destination);
}

static void claim(bench_t *bench, const char *ns, const char *identity)
{
    uint8_t uuid[16];
    tow_error_t error;

    assert_true(tow_claims_make(bench->copy->options.claims, ns, uuid_of(identity, uuid), &error));
}

static bool make(bench_t *bench, tow_error_t *error)
{
    tow_collection_info_t info = {
        .ns = (char *)"d.a", .database = (char *)"d", .name = (char *)"a"};
    bool ok;

    bson_init(&info.options);
    ok = tow_copy_make(bench->copy, bench->conn, &info, error);
    bson_destroy(&info.options);
    return ok;
}

static void somebody_elses_is_not_taken_for_what_is_created(void **state)
{
    bench_t bench;
    uint8_t uuid[16];
    tow_error_t error;

    begin(&bench);
    put(bench.destination, "d.a", 1, 0);
    assert_false(make(&bench, &error));
    assert_int_equal(error.code, TOW_ERROR_CONFLICT);
    assert_int_equal(bench.creates, 0);
    assert_int_equal(tow_claims_of(bench.copy->options.claims, "d.a", uuid_of("d.a", uuid)),
                     TOW_CLAIM_NONE);
    end(&bench);
}

static void what_was_made_is_known_by_its_identity(void **state)
{
    bench_t bench;
    uint8_t uuid[16];
    tow_error_t error;

    begin(&bench);
    bench.makes = true;
    assert_true(make(&bench, &error));
    assert_int_equal(bench.creates, 1);
    assert_int_equal(tow_claims_of(bench.copy->options.claims, "d.a", uuid_of("d.a", uuid)),
                     TOW_CLAIM_MADE);
    assert_int_equal(tow_claims_of(bench.copy->options.claims, "d.a", uuid_of("d.b", uuid)),
                     TOW_CLAIM_NONE);
    end(&bench);
}

/* Neither what it never claimed, nor what it was about to make when somebody else did. */
static void somebody_elses_is_not_dropped(void **state)
{
    const char *ns = "d.a";
    bench_t bench;
    tow_error_t error;

    begin(&bench);
    put(bench.destination, "d.a", 1, 0);
    assert_true(tow_copy_dropped(bench.copy, bench.conn, "d", "a", &error));
    assert_true(tow_claims_mean(bench.copy->options.claims, &ns, 1, &error));
    assert_true(tow_copy_dropped(bench.copy, bench.conn, "d", "a", &error));
    assert_int_equal(bench.drops, 0);
    claim(&bench, "d.a", "d.a");
    assert_true(tow_copy_dropped(bench.copy, bench.conn, "d", "a", &error));
    assert_int_equal(bench.drops, 1);
    assert_false(tow_claims_has(bench.copy->options.claims, "d.a"));
    end(&bench);
}

static void nothing_is_renamed_over_somebody_elses(void **state)
{
    bench_t bench;
    tow_error_t error;
    bool replaces, ours;

    begin(&bench);
    put(bench.destination, "d.a", 1, 0);
    put(bench.destination, "d.b", 1, 0);
    claim(&bench, "d.b", "d.b");
    assert_false(
        tow_copy_may_rename(bench.copy, bench.conn, "d", "b", "d", "a", &ours, &replaces, &error));
    assert_int_equal(error.code, TOW_ERROR_CONFLICT);
    claim(&bench, "d.a", "d.a");
    assert_true(
        tow_copy_may_rename(bench.copy, bench.conn, "d", "b", "d", "a", &ours, &replaces, &error));
    assert_true(ours);
    assert_true(
        tow_copy_may_rename(bench.copy, bench.conn, "d", "c", "d", "a", &ours, &replaces, &error));
    assert_false(ours);
    end(&bench);
}

/* Made again ------------------------------------------------------------------------------------*/

typedef enum { AS_IT_IS, UNCLAIMED, EMPTY, INDEXED, OPTIONS, ANOTHER, CHANGED, CASES } case_t;

static bool is_remade(case_t which)
{
    tow_collection_info_t there = {
        .ns = (char *)"d.a", .database = (char *)"d", .name = (char *)"a"};
    tow_error_t error;
    bench_t bench;
    bool remade;

    begin(&bench);
    bson_init(&there.options);
    uuid_of("d.a", there.uuid);
    for (int32_t id = 0; id < 3; id++) {
        put(bench.source, "d.a", id, id);
        if (which != EMPTY)
            put(bench.destination, "d.a", id, id + (which == CHANGED && id == 2));
    }
    put(bench.source, "d.a", 3, 3); /* the writes of the job made a part of it */
    if (which == ANOTHER)
        put(bench.destination, "d.a", 4, 4);
    if (which == OPTIONS)
        bson_append_bool(&there.options, "capped", -1, true);
    if (which == INDEXED)
        double_unique(bench.destination, "n");
    if (which != UNCLAIMED)
        claim(&bench, "d.a", "before");
    assert_true(tow_copy_is_remade(bench.copy, &there, &remade, &error));
    bson_destroy(&there.options);
    end(&bench);
    return remade;
}

static void only_what_writes_of_the_job_can_have_made_is_remade(void **state)
{
    for (case_t which = AS_IT_IS; which < CASES; which++)
        if (is_remade(which) != (which == AS_IT_IS))
            fail_msg("case %d", which);
}

/* Copied again ----------------------------------------------------------------------------------*/

static tow_namespace_t *know(bench_t *bench)
{
    tow_collection_info_t info = {.database = (char *)"d", .name = (char *)"a"};
    tow_namespace_t *known;

    bson_init(&info.options);
    known = tow_namespaces_add(bench->table, &info, 0);
    tow_namespaces_set_ranges(bench->table, known, NULL, 0);
    bson_destroy(&info.options);
    return known;
}

/* Killed at any moment, the next process copies it, and no lane writes to it meanwhile; an event
 * finds it in the table. What DDL up to the look at the catalog did is in what is copied. */
static void a_collection_is_recorded_as_to_be_copied_before_it_is_dropped(void **state)
{
    tow_namespace_t *known, *now;
    tow_optime_t before;
    tow_error_t error;
    bench_t bench;
    bool found;

    begin(&bench);
    put(bench.source, "d.a", 1, 0);
    put(bench.destination, "d.a", 1, 0);
    claim(&bench, "d.a", "d.a");
    known = know(&bench);
    before = double_now(bench.source);
    if (!tow_copy_again(bench.copy, "d", "a", &found, &error))
        fail_msg("%s", error.message);
    assert_true(found);
    assert_string_equal(bench.words, "await r0 drop drop create r0 r1 ");
    assert_true(bench.at_drop && bench.at_drop != known);
    assert_true(known->dropped);
    now = tow_namespaces_find(bench.table, "d", "a");
    assert_int_equal(now->range_count, 1);
    assert_int_equal(now->read_time, before);
    end(&bench);
}

/* Extra -----------------------------------------------------------------------------------------*/

/* What the source does not list goes only when it is the job's, no event is to come, and asking for
 * it by its name says the same. */
static void an_extra_collection_goes_only_when_all_says_so(void **state)
{
    for (int which = 0; which < 4; which++) {
        tow_error_t error;
        bench_t bench;

        begin(&bench);
        put(bench.destination, "d.a", 1, 0);
        if (which != 1)
            claim(&bench, "d.a", "d.a");
        if (which == 2)
            know(&bench);
        if (which == 3)
            put(bench.source, "d.a", 1, 0);
        if (!tow_copy_reconcile(bench.copy, NULL, NULL, TOW_RECONCILE_ALONG, &error))
            fail_msg("%s", error.message);
        if (bench.drops != (which == 0))
            fail_msg("case %d", which);
        end(&bench);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(somebody_elses_is_not_taken_for_what_is_created),
        cmocka_unit_test(what_was_made_is_known_by_its_identity),
        cmocka_unit_test(somebody_elses_is_not_dropped),
        cmocka_unit_test(nothing_is_renamed_over_somebody_elses),
        cmocka_unit_test(only_what_writes_of_the_job_can_have_made_is_remade),
        cmocka_unit_test(a_collection_is_recorded_as_to_be_copied_before_it_is_dropped),
        cmocka_unit_test(an_extra_collection_goes_only_when_all_says_so),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
