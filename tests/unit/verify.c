/* SPDX-License-Identifier: Apache-2.0 */
/* A comparison of two servers in memory: whatever differs is found, on either side and wherever it
 * is, and what differed does not count as compared. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <mongoc/mongoc.h>

#include "double.h"
#include "engine/state/filter.h"
#include "engine/state/selection.h"
#include "verify/track.h"
#include "verify/verify.h"

#define NS "d.a"

enum {
    DOCUMENTS = 40,
    LATE = 1000,
    COARSE = 20000 /* too many to be mapped at once, or so the server says */
};

typedef struct bench bench_t;
typedef struct {
    bench_t *bench;
    double_server_t *server;
    bool empty; /* it lists no collection */
    uint32_t finds, late,
        failures; /* late: those that see all that is known; failures: that are still to come */
    bool strange; /* the next find by _id is answered with another document */
} side_t;

struct bench {
    side_t sides[2]; /* source, destination */
    tow_filter_t *filter;
    tow_verify_options_t options;
    tow_verify_report_t *report;
    int64_t documents, bytes; /* that both say the collection has */
    int32_t settled;
};

static void list_names(const side_t *side, const char *field, const char *name, bson_t *reply)
{
    bson_t cursor, batch, entry, options = BSON_INITIALIZER;

    bson_append_document_begin(reply, "cursor", -1, &cursor);
    bson_append_int64(&cursor, "id", -1, 0);
    bson_append_array_begin(&cursor, "firstBatch", -1, &batch);
    if (!side->empty) {
        bson_append_document_begin(&batch, "0", -1, &entry);
        bson_append_utf8(&entry, field, -1, name, -1);
        bson_append_utf8(&entry, "type", -1, "collection", -1);
        bson_append_document(&entry, "options", -1, &options);
        bson_append_document_end(&batch, &entry);
    }
    bson_append_array_end(&cursor, &batch);
    bson_append_document_end(reply, &cursor);
}

static void note_find(side_t *side, const bson_t *command)
{
    uint32_t seconds, increment;
    bson_iter_t iter, after;

    side->finds++;
    if (!bson_iter_init(&iter, command) ||
        !bson_iter_find_descendant(&iter, "readConcern.afterClusterTime", &after))
        return;
    bson_iter_timestamp(&after, &seconds, &increment);
    side->late += TOW_OPTIME(seconds, increment) >= tow_link_time(double_link(side->server));
}

static bool by_ids(const bson_t *command)
{
    bson_iter_t iter, list;

    return bson_iter_init(&iter, command) &&
           bson_iter_find_descendant(&iter, "filter._id.$in", &list);
}

static bool serve(void *data, const char *database, const bson_t *command, bson_t *reply,
                  bson_error_t *error)
{
    side_t *side = data;
    const bench_t *bench = side->bench;
    bool projected = bson_has_field(command, "projection");

    if (bson_has_field(command, "find") && !projected) {
        note_find(side, command);
        if (side->strange && by_ids(command)) {
            side->strange = false;
            BCON_APPEND(reply, "cursor", "{", "id", BCON_INT64(0), "ns", NS, "firstBatch", "[", "{",
                        "_id", BCON_INT32(999), "}", "]", "}", "ok", BCON_DOUBLE(1));
            return true;
        }
        if (!side->failures)
            return false;
        side->failures--;
        nanosleep(&(struct timespec){.tv_nsec = 20000000},
                  NULL); /* the other one is done by then */
        bson_set_error(error, MONGOC_ERROR_SERVER, 13, "scripted");
        return true;
    }
    if (bson_has_field(command, "find") || bson_has_field(command, "listIndexes"))
        return false;
    if (bson_has_field(command, "listDatabases"))
        BCON_APPEND(reply, "databases", "[", "{", "name", "d", "}", "]");
    else if (bson_has_field(command, "listCollections"))
        list_names(side, "name", "a", reply);
    else
        BCON_APPEND(reply, "numObjects", BCON_INT64(bench->documents), "size",
                    BCON_INT64(bench->bytes), "lastWrite", "{", "majorityOpTime", "{", "ts",
                    BCON_TIMESTAMP(0, LATE), "}", "}", "cursor", "{", "id", BCON_INT64(0),
                    "firstBatch", "[", "{", "storageStats", "{", "count",
                    BCON_INT64(bench->documents), "size", BCON_INT64(bench->bytes), "}", "}", "]",
                    "}");
    bson_append_double(reply, "ok", -1, 1);
    return true;
}

static void put(side_t *side, int32_t id, int32_t n)
{
    bson_t *document = BCON_NEW("_id", BCON_INT32(id), "n", BCON_INT32(n));

    double_put(side->server, NS, document);
    bson_destroy(document);
}

static void take_away(side_t *side, int32_t id)
{
    double_remove(side->server, NS,
                  (tow_value_t){BSON_TYPE_INT32, sizeof id, (const uint8_t *)&id});
}

static void begin(bench_t *bench)
{
    *bench = (bench_t){.documents = DOCUMENTS, .bytes = DOCUMENTS * 30, .filter = tow_filter_new()};
    for (int i = 0; i < 2; i++) {
        side_t *side = &bench->sides[i];

        side->bench = bench;
        side->server = double_new(i ? "destination" : "source", false);
        for (int32_t id = 0; id < DOCUMENTS; id++)
            put(side, id, id);
        double_hook(side->server, serve, side);
        tow_link_note_time(double_link(side->server), LATE + i);
    }
    bench->options = (tow_verify_options_t){.source = double_link(bench->sides[0].server),
                                            .destination = double_link(bench->sides[1].server),
                                            .filter = bench->filter,
                                            .workers = 1,
                                            .data = bench};
}

static void run(bench_t *bench)
{
    tow_error_t error;

    tow_verify_report_destroy(bench->report);
    if (!tow_verify_run(&bench->options, &bench->report, &error))
        fail_msg("%s", error.message);
}

static void end(bench_t *bench)
{
    tow_verify_report_destroy(bench->report);
    for (int i = 0; i < 2; i++)
        double_free(bench->sides[i].server);
    tow_filter_destroy(bench->filter);
}

static void expect_one(bench_t *bench, tow_difference_kind_t kind, const char *id)
{
    assert_false(bench->report->equal);
    assert_int_equal(bench->report->differences_total, 1);
    assert_int_equal(bench->report->differences[0].kind, kind);
    if (id)
        assert_string_equal(bench->report->differences[0].id, id);
}

/* Documents -------------------------------------------------------------------------------------*/

static void equal_sides_are_equal(void **state)
{
    bench_t bench;

    begin(&bench);
    run(&bench);
    assert_true(bench.report->equal);
    assert_int_equal(bench.report->collections[0].source_documents, DOCUMENTS);
    assert_int_equal(bench.report->collections[0].destination_documents, DOCUMENTS);
    for (int i = 0; i < 2; i++)
        assert_int_equal(bench.sides[i].late, bench.sides[i].finds);
    end(&bench);
}

static void append_document(bson_t *batch, int *count, int32_t id, int32_t n)
{
    bson_t document;
    char key[16];

    snprintf(key, sizeof key, "%d", (*count)++);
    bson_append_document_begin(batch, key, -1, &document);
    bson_append_int32(&document, "_id", -1, id);
    bson_append_int32(&document, "n", -1, n);
    bson_append_document_end(batch, &document);
}

/* The source is a cluster whose shards hold a document each of the _id 7. */
static bool serve_twins(void *data, const char *database, const bson_t *command, bson_t *reply,
                        bson_error_t *error)
{
    bson_t cursor, batch;
    bson_iter_t iter;
    int count = 0;
    bool again = bson_iter_init_find(&iter, command, "filter");

    if (!bson_has_field(command, "find") || bson_has_field(command, "projection"))
        return serve(data, database, command, reply, error);
    bson_append_document_begin(reply, "cursor", -1, &cursor);
    bson_append_int64(&cursor, "id", -1, 0);
    bson_append_utf8(&cursor, "ns", -1, NS, -1);
    bson_append_array_begin(&cursor, "firstBatch", -1, &batch);
    for (int32_t id = again ? 7 : 0; id < (again ? 8 : DOCUMENTS); id++)
        append_document(&batch, &count, id, id);
    append_document(&batch, &count, 7, 7000);
    bson_append_array_end(&cursor, &batch);
    bson_append_document_end(reply, &cursor);
    bson_append_timestamp(reply, "operationTime", -1, 0, LATE);
    bson_append_double(reply, "ok", -1, 1);
    return true;
}

static void two_documents_of_one_id_are_not_equal_to_one(void **state)
{
    for (int n = 0; n < 2; n++) {
        bench_t bench;

        begin(&bench);
        if (n) /* the destination has the other one */
            put(&bench.sides[1], 7, 7000);
        double_hook(bench.sides[0].server, serve_twins, &bench.sides[0]);
        run(&bench);
        expect_one(&bench, TOW_DIFFERENCE_DUPLICATE, "7");
        end(&bench);
    }
}

/* Whether few documents are mapped as they are read, or buckets are compared first. */
static void a_difference_of_either_side_is_found(void **state)
{
    for (int coarse = 0; coarse < 2; coarse++)
        for (int kind = 0; kind < 3; kind++) {
            bench_t bench;

            begin(&bench);
            if (coarse)
                bench.documents = COARSE;
            if (kind == TOW_DIFFERENCE_MISSING)
                take_away(&bench.sides[1], 7);
            else if (kind == TOW_DIFFERENCE_EXTRA)
                take_away(&bench.sides[0], 7);
            else
                put(&bench.sides[1], 7, -1);
            run(&bench);
            expect_one(&bench, kind, "7");
            end(&bench);
        }
}

/* Taken for gone it would be an extra document, which a repair deletes. */
static void what_another_document_came_for_is_looked_at_again(void **state)
{
    bench_t bench;

    begin(&bench);
    put(&bench.sides[1], 7, -1);
    bench.sides[0].strange = true;
    run(&bench);
    assert_false(bench.sides[0].strange);
    expect_one(&bench, TOW_DIFFERENCE_DIFFERENT, "7");
    end(&bench);
}

/* The outermost ranges are open, and bounds belong to one range each. */
static void every_range_is_compared(void **state)
{
    const int32_t ids[] = {-5, 0, 9, 10, 11, 20, 30, DOCUMENTS - 1, DOCUMENTS + 5};

    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        bench_t bench;
        char text[16];

        begin(&bench);
        bench.options.range_bytes = (uint64_t)bench.bytes / 4;
        bench.options.whole_bytes = 1;
        put(&bench.sides[1], ids[i], -1);
        run(&bench);
        assert_true(bench.report->ranges_read > 3);
        snprintf(text, sizeof text, "%d", ids[i]);
        expect_one(&bench,
                   ids[i] < 0 || ids[i] >= DOCUMENTS ? TOW_DIFFERENCE_EXTRA
                                                     : TOW_DIFFERENCE_DIFFERENT,
                   text);
        assert_int_equal(bench.report->collections[0].source_documents, DOCUMENTS);
        end(&bench);
    }
}

static void a_side_that_cannot_be_read_is_not_equal(void **state)
{
    for (int side = 0; side < 2; side++) {
        bench_t bench;
        tow_error_t error;

        begin(&bench);
        bench.sides[side].failures = 1;
        assert_false(tow_verify_run(&bench.options, &bench.report, &error));
        assert_int_equal(error.server_code, 13);
        bench.report = NULL;
        end(&bench);
    }
}

static bool settle_and_write(void *data, tow_error_t *error)
{
    bench_t *bench = data;

    put(&bench->sides[0], 7, 1000 + bench->settled++);
    return true;
}

/* What is written as often as it is looked at may be equal at every moment: it is neither. */
static void what_never_stands_still_is_unsettled(void **state)
{
    bench_t bench;

    begin(&bench);
    put(&bench.sides[1], 7, -1);
    bench.options.settle = settle_and_write;
    run(&bench);
    assert_int_equal(bench.report->differences_total, 0);
    assert_int_equal(bench.report->unsettled, 1);
    assert_false(bench.report->equal);
    end(&bench);
}

/* Catalogs --------------------------------------------------------------------------------------*/

static void a_collection_of_one_side_is_a_difference(void **state)
{
    for (int side = 0; side < 2; side++) {
        bench_t bench;

        begin(&bench);
        bench.sides[side].empty = true;
        for (int32_t id = 0; id < DOCUMENTS; id++)
            take_away(&bench.sides[side], id);
        run(&bench);
        assert_false(bench.report->equal);
        assert_int_equal(bench.report->differences_total, DOCUMENTS + 1);
        end(&bench);
    }
}

/* Both lists may be short. */
static void what_was_copied_and_neither_side_lists_is_a_difference(void **state)
{
    static const char *const expected[] = {"d.b"};
    bench_t bench;

    begin(&bench);
    bench.options.expected = expected;
    bench.options.expected_count = 1;
    run(&bench);
    expect_one(&bench, TOW_DIFFERENCE_OPTIONS, NULL);
    assert_string_equal(bench.report->differences[0].ns, "d.b");
    end(&bench);
}

static void an_index_of_one_side_is_a_difference(void **state)
{
    for (int side = 0; side < 2; side++) {
        bench_t bench;

        begin(&bench);
        double_unique(bench.sides[side].server, "n");
        run(&bench);
        expect_one(&bench, TOW_DIFFERENCE_INDEXES, NULL);
        end(&bench);
    }
}

/* Between two comparisons -----------------------------------------------------------------------*/

static tow_track_state_t state_of(bench_t *bench)
{
    tow_digest_t ignored;

    return tow_track_state(bench->options.track, NS, 0, &ignored);
}

static void touch(bench_t *bench, int32_t id)
{
    tow_track_touch(bench->options.track, "d", "a",
                    (tow_value_t){BSON_TYPE_INT32, sizeof id, (const uint8_t *)&id},
                    TOW_TRACK_DESTINATION);
}

static void only_what_was_equal_counts_as_compared(void **state)
{
    bench_t bench;

    begin(&bench);
    bench.options.track = tow_track_new();
    put(&bench.sides[1], 7, -1);
    run(&bench);
    assert_int_equal(state_of(&bench), TOW_TRACK_OPEN);
    put(&bench.sides[1], 7, 7);
    run(&bench);
    assert_true(bench.report->equal);
    assert_int_equal(state_of(&bench), TOW_TRACK_EQUAL);
    /* A key that was written is compared alone; one that differs opens its range. */
    touch(&bench, 8);
    run(&bench);
    assert_true(bench.report->equal);
    assert_int_equal(bench.report->ranges_read, 0);
    assert_int_equal(state_of(&bench), TOW_TRACK_EQUAL);
    put(&bench.sides[1], 8, -1);
    touch(&bench, 8);
    run(&bench);
    expect_one(&bench, TOW_DIFFERENCE_DIFFERENT, "8");
    assert_int_equal(state_of(&bench), TOW_TRACK_OPEN);
    tow_track_destroy(bench.options.track);
    end(&bench);
}

/* Differences beyond those that are listed are counted, and leave the range open. */
static void differences_without_a_name_count(void **state)
{
    bench_t bench;

    begin(&bench);
    bench.options.track = tow_track_new();
    bench.options.max_differences = 1;
    for (int32_t id = 3; id < 6; id++)
        put(&bench.sides[1], id, -1);
    run(&bench);
    assert_int_equal(bench.report->difference_count, 1);
    assert_int_equal(bench.report->differences_total, 3);
    assert_int_equal(state_of(&bench), TOW_TRACK_OPEN);
    tow_track_destroy(bench.options.track);
    end(&bench);
}

static void what_is_gone_is_no_longer_known(void **state)
{
    bench_t bench;

    begin(&bench);
    bench.options.track = tow_track_new();
    run(&bench);
    assert_int_equal(tow_track_count(bench.options.track, NS), 1);
    bench.sides[0].empty = bench.sides[1].empty = true;
    run(&bench);
    assert_int_equal(tow_track_count(bench.options.track, NS), 0);
    tow_track_destroy(bench.options.track);
    end(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_sides_are_equal),
        cmocka_unit_test(two_documents_of_one_id_are_not_equal_to_one),
        cmocka_unit_test(a_difference_of_either_side_is_found),
        cmocka_unit_test(what_another_document_came_for_is_looked_at_again),
        cmocka_unit_test(every_range_is_compared),
        cmocka_unit_test(a_side_that_cannot_be_read_is_not_equal),
        cmocka_unit_test(what_never_stands_still_is_unsettled),
        cmocka_unit_test(a_collection_of_one_side_is_a_difference),
        cmocka_unit_test(what_was_copied_and_neither_side_lists_is_a_difference),
        cmocka_unit_test(an_index_of_one_side_is_a_difference),
        cmocka_unit_test(only_what_was_equal_counts_as_compared),
        cmocka_unit_test(differences_without_a_name_count),
        cmocka_unit_test(what_is_gone_is_no_longer_known),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
