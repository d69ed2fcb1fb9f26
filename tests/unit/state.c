/* SPDX-License-Identifier: Apache-2.0 */
/* The job's records: each list is read as of all that the destination is known to have done, and
 * nothing is concluded from one that is not whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "double.h"
#include "engine/link/internal.h"
#include "engine/state/claims.h"
#include "engine/state/store_internal.h"

enum { KNOWN = 77 };

typedef struct {
    double_server_t *destination;
    tow_store_t store;
    uint32_t finds, late; /* late: those that see what is known */
} bench_t;

static bool look(void *data, const char *database, const bson_t *command, bson_t *reply,
                 bson_error_t *error)
{
    bench_t *bench = data;
    uint32_t seconds, increment;
    bson_iter_t iter, after;

    if (!bson_has_field(command, "find"))
        return false;
    bench->finds++;
    if (bson_iter_init(&iter, command) &&
        bson_iter_find_descendant(&iter, "readConcern.afterClusterTime", &after)) {
        bson_iter_timestamp(&after, &seconds, &increment);
        bench->late += TOW_OPTIME(seconds, increment) >= KNOWN;
    }
    bson_iter_init_find(&iter, command, "find");
    if (strcmp(bson_iter_utf8(&iter, NULL), "job") != 0)
        return false;
    BCON_APPEND(reply, "ok", BCON_INT32(1), "cursor", "{", "id", BCON_INT64(0), "ns",
                "towline_x.job", "firstBatch", "[", "{", "_id", "job", "}", "]", "}");
    return true;
}

static void begin(bench_t *bench)
{

    *bench = (bench_t){.destination = double_new("destination", false)};
    bench->store = (tow_store_t){.options.destination = double_link(bench->destination),
                                 .database = (char *)"towline_x"};
    pthread_mutex_init(&bench->store.lock, NULL);
    bench->store.conn = tow_conn_open(double_link(bench->destination));
    tow_link_note_time(double_link(bench->destination), KNOWN);
    double_hook(bench->destination, look, bench);
}

static void end(bench_t *bench)
{
    tow_conn_close(bench->store.conn);
    pthread_mutex_destroy(&bench->store.lock);
    double_free(bench->destination);
}

/* After an election a majority read alone may see less than the process before wrote, and what the
 * job made would pass for somebody else's. */
static void claims_are_read_as_of_what_is_known(void **state)
{
    tow_claims_t *claims;
    tow_error_t error;
    bench_t bench;

    begin(&bench);
    claims = tow_claims_new(&bench.store);
    if (!tow_claims_load(claims, &error))
        fail_msg("%s", error.message);
    assert_true(bench.finds >= 2);
    assert_int_equal(bench.late, bench.finds);
    tow_claims_destroy(claims);
    end(&bench);
}

/* Answers with documents as JSON. */
typedef struct {
    const char *job, *then; /* then: from the second look on; NULL: as before */
    const char *collection, *range;
    uint32_t looks;
} answers_t;

static const char *choose(answers_t *answers, const bson_t *command)
{
    bson_iter_t iter;

    if (!bson_iter_init_find(&iter, command, "find"))
        return NULL;
    if (!strcmp(bson_iter_utf8(&iter, NULL), "job"))
        return answers->looks++ && answers->then ? answers->then : answers->job;
    return !strcmp(bson_iter_utf8(&iter, NULL), "ranges") ? answers->range : answers->collection;
}

static bool answer(void *data, const char *database, const bson_t *command, bson_t *reply,
                   bson_error_t *error)
{
    const char *json = choose(data, command);
    char *text;
    bson_t parsed;

    text = tow_format("{\"ok\": 1, \"cursor\": {\"id\": {\"$numberLong\": \"0\"}, \"ns\": \"d.c\", "
                      "\"firstBatch\": [%s]}}",
                      json ? json : "");
    assert_true(bson_init_from_json(&parsed, text, -1, error));
    bson_concat(reply, &parsed);
    bson_destroy(&parsed);
    free(text);
    return true;
}

static bool load(answers_t *answers, bool *out_found, tow_error_t *error)
{
    tow_checkpoint_t checkpoint;
    bench_t bench;
    bool ok;

    begin(&bench);
    double_hook(bench.destination, answer, answers);
    ok = tow_store_load_checkpoint(&bench.store, &checkpoint, out_found, error);
    tow_checkpoint_clear(&checkpoint);
    end(&bench);
    return ok;
}

#define TOKEN "\"token\": {\"_data\": \"82\"}"
#define TIME "{\"$timestamp\": {\"t\": 5, \"i\": 1}}"

/* A job that has copied something, and seems to have no position, would be prepared once more: what
 * was deleted at the source since then stays on the destination. */
static void a_checkpoint_that_cannot_be_read_is_not_none(void **state)
{
    static const char *const broken[] = {
        "{\"_id\": \"job\", \"prepared\": true}",
        "{\"_id\": \"job\", \"prepared\": 1, \"checkpoint\": {" TOKEN "}}",
        "{\"_id\": \"job\", \"prepared\": true, \"checkpoint\": \"x\"}",
        "{\"_id\": \"job\", \"prepared\": true, \"checkpoint\": {}}",
        "{\"_id\": \"job\", \"prepared\": true, \"checkpoint\": {\"token\": {}}}",
        "{\"_id\": \"job\", \"prepared\": true, \"checkpoint\": {\"token\": \"82\"}}",
        "{\"_id\": \"job\", \"prepared\": true, \"checkpoint\": {" TOKEN ", \"time\": 5}}",
        "{\"_id\": \"job\", \"prepared\": true, \"checkpoint\": {" TOKEN ", \"ddlToken\": 5}}",
        "{\"_id\": \"job\", \"prepared\": true, \"checkpoint\": {" TOKEN ", \"ddlTime\": 5}}",
    };
    const char *whole =
        "{\"_id\": \"job\", \"prepared\": true, \"checkpoint\": {" TOKEN ", \"time\": " TIME "}}";
    tow_error_t error;
    bool found;

    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        answers_t answers = {.job = broken[i]};

        if (load(&answers, &found, &error))
            fail_msg("taken for %s: %s", found ? "whole" : "none", broken[i]);
        assert_false(found);
        assert_true(answers.looks > 1);
        answers = (answers_t){.job = broken[i], .then = whole};
        assert_true(load(&answers, &found, &error));
        assert_true(found);
    }
    assert_true(load(&(answers_t){.job = "{\"_id\": \"job\", \"begun\": true}"}, &found, &error));
    assert_false(found);
}

/* The process has the lease: then there is a document. */
static void no_document_is_not_an_empty_one(void **state)
{
    answers_t answers = {0};
    tow_error_t error;
    bench_t bench;
    bson_t document;
    bool found;

    assert_false(load(&answers, &found, &error));
    assert_int_equal(error.code, TOW_ERROR_LEASE);
    begin(&bench);
    double_hook(bench.destination, answer, &answers);
    assert_false(tow_store_get(&bench.store, &document, &error));
    assert_int_equal(error.code, TOW_ERROR_LEASE);
    bson_destroy(&document);
    end(&bench);
}

static bool count_ranges(void *data, const bson_t *collection, tow_range_t *ranges, uint32_t count,
                         tow_error_t *error)
{
    for (uint32_t i = 0; i < count; i++)
        tow_range_clear(&ranges[i]);
    *(uint32_t *)data = count;
    return true;
}

static uint32_t ranges_of(const char *range)
{
    answers_t answers = {.collection = "{\"_id\": \"d.a\", \"ranges\": 1}", .range = range};
    uint32_t count = UINT32_MAX;
    tow_error_t error;
    bench_t bench;

    begin(&bench);
    double_hook(bench.destination, answer, &answers);
    if (!tow_store_each_collection(&bench.store, count_ranges, &count, &error))
        fail_msg("%s", error.message);
    end(&bench);
    return count;
}

#define RANGE                                                                                      \
    "{\"_id\": {\"ns\": \"d.a\", \"n\": 0}, "                                                      \
    "\"bounds\": {\"$binary\": {\"base64\": \"BQAAAAA=\", \"subType\": \"00\"}}"

/* A range whose state nobody can read has not been left alone so far: its collection is copied
 * again. */
static void a_range_that_cannot_be_read_is_not_open(void **state)
{
    static const char *const broken[] = {
        RANGE "}",
        RANGE ", \"state\": \"half\"}",
        RANGE ", \"state\": 2}",
        RANGE ", \"state\": \"started\", \"lo\": 5}",
        RANGE ", \"state\": \"done\", \"lo\": " TIME "}",
    };

    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++)
        if (ranges_of(broken[i]))
            fail_msg("taken: %s", broken[i]);
    assert_int_equal(ranges_of(RANGE ", \"state\": \"open\"}"), 1);
    assert_int_equal(ranges_of(RANGE ", \"state\": \"started\", \"lo\": " TIME "}"), 1);
    assert_int_equal(ranges_of(RANGE ", \"state\": \"done\", \"hi\": " TIME "}"), 1);
    assert_int_equal(ranges_of(RANGE ", \"state\": \"done\", \"lo\": " TIME ", \"hi\": " TIME "}"),
                     1);
}

/* What is recorded of a collection, in order: 'r' and how many ranges it has, 'd' and 'i': deletes
 * and inserts. */
static bool record(void *data, const char *database, const bson_t *command, bson_t *reply,
                   bson_error_t *error)
{
    char *words = data, *end = words + strlen(words);
    bson_iter_t iter, ranges;

    if (bson_iter_init(&iter, command) &&
        bson_iter_find_descendant(&iter, "updates.0.u.ranges", &ranges))
        snprintf(end, 8, "r%d ", bson_iter_int32(&ranges));
    else if (bson_has_field(command, "insert"))
        snprintf(end, 8, "i ");
    else if (bson_has_field(command, "delete"))
        snprintf(end, 8, "d ");
    if (bson_has_field(command, "find")) /* a range of an earlier copy */
        BCON_APPEND(reply, "cursor", "{", "id", BCON_INT64(0), "firstBatch", "[", "{", "_id", "{",
                    "ns", "d.a", "n", BCON_INT32(0), "}", "}", "]", "}");
    BCON_APPEND(reply, "n", BCON_INT32(1), "ok", BCON_DOUBLE(1));
    return true;
}

/* Killed at any moment, the next process finds all ranges of one copy, or copies the collection
 * again. */
static void a_collection_names_its_ranges_when_all_are_there(void **state)
{
    tow_collection_info_t info = {
        .database = (char *)"d", .name = (char *)"a", .ns = (char *)"d.a"};
    tow_range_t ranges[2] = {{.number = 0}, {.number = 1}};
    char words[64] = "";
    tow_error_t error;
    bench_t bench;

    begin(&bench);
    bson_init(&info.options);
    double_hook(bench.destination, record, words);
    assert_true(tow_store_put_collection(&bench.store, &info, 5, ranges, 2, &error));
    assert_string_equal(words, "r0 d i r2 ");
    bson_destroy(&info.options);
    end(&bench);
}

/* Two collections with two ranges each, as they say; of the second one is missing. */
static bool answer_records(void *data, const char *database, const bson_t *command, bson_t *reply,
                           bson_error_t *error)
{
    bson_iter_t iter, id;
    const char *name = "";
    bson_t *list, cursor;
    bool second;

    if (bson_iter_init_find(&iter, command, "find"))
        name = bson_iter_utf8(&iter, NULL);
    second = bson_iter_init(&iter, command) &&
             bson_iter_find_descendant(&iter, "filter._id.$gte.ns", &id) &&
             !strcmp(bson_iter_utf8(&id, NULL), "d.b");
    if (!strcmp(name, "collections"))
        list = BCON_NEW("0", "{", "_id", "d.a", "ranges", BCON_INT32(2), "}", "1", "{", "_id",
                        "d.b", "ranges", BCON_INT32(2), "}");
    else
        list = BCON_NEW("0", "{", "_id", "{", "ns", "x", "n", BCON_INT32(0), "}", "bounds",
                        BCON_BIN(BSON_SUBTYPE_BINARY, (const uint8_t *)"\5\0\0\0", 5), "state",
                        "open", "}");
    if (strcmp(name, "collections") != 0 && !second)
        BCON_APPEND(list, "1", "{", "_id", "{", "ns", "x", "n", BCON_INT32(1), "}", "bounds",
                    BCON_BIN(BSON_SUBTYPE_BINARY, (const uint8_t *)"\5\0\0\0", 5), "state", "open",
                    "}");
    bson_append_document_begin(reply, "cursor", -1, &cursor);
    bson_append_int64(&cursor, "id", -1, 0);
    bson_append_array(&cursor, "firstBatch", -1, list);
    bson_append_document_end(reply, &cursor);
    bson_append_double(reply, "ok", -1, 1);
    bson_destroy(list);
    return true;
}

static bool take_counts(void *data, const bson_t *collection, tow_range_t *ranges, uint32_t count,
                        tow_error_t *error)
{
    char *counts = data;

    snprintf(counts + strlen(counts), 8, "%u ", count);
    return true;
}

static void a_record_that_lacks_ranges_is_as_good_as_none(void **state)
{
    char counts[32] = "";
    tow_error_t error;
    bench_t bench;

    begin(&bench);
    double_hook(bench.destination, answer_records, NULL);
    assert_true(tow_store_each_collection(&bench.store, take_counts, counts, &error));
    assert_string_equal(counts, "2 0 ");
    end(&bench);
}

/* The update that stores a checkpoint, which the job's document then has. */
static bool keep_checkpoint(void *data, const char *database, const bson_t *command, bson_t *reply,
                            bson_error_t *error)
{
    bson_t *kept = data, cursor, batch, document;
    bson_iter_t iter, found;

    if (bson_has_field(command, "update") && bson_iter_init(&iter, command) &&
        bson_iter_find_descendant(&iter, "updates.0.u.$set.checkpoint", &found))
        bson_append_iter(kept, "checkpoint", -1, &found);
    if (bson_has_field(command, "find")) {
        bson_append_document_begin(reply, "cursor", -1, &cursor);
        bson_append_int64(&cursor, "id", -1, 0);
        bson_append_array_begin(&cursor, "firstBatch", -1, &batch);
        bson_append_document_begin(&batch, "0", -1, &document);
        bson_concat(&document, kept);
        bson_append_document_end(&batch, &document);
        bson_append_array_end(&cursor, &batch);
        bson_append_document_end(reply, &cursor);
    }
    BCON_APPEND(reply, "n", BCON_INT32(1), "ok", BCON_DOUBLE(1));
    return true;
}

static void a_checkpoint_is_loaded_as_it_was_saved(void **state)
{
    bson_t *token = BCON_NEW("_data", "a"), *ddl_token = BCON_NEW("_data", "b"),
           kept = BSON_INITIALIZER;
    tow_checkpoint_t saved = {.time = TOW_OPTIME(7, 8), .ddl_time = TOW_OPTIME(5, 6)}, loaded;
    tow_error_t error;
    bench_t bench;
    bool found;

    begin(&bench);
    double_hook(bench.destination, keep_checkpoint, &kept);
    bson_copy_to(token, &saved.token);
    bson_copy_to(ddl_token, &saved.ddl_token);
    assert_true(tow_store_save_checkpoint(&bench.store, &saved, &error));
    assert_true(tow_store_load_checkpoint(&bench.store, &loaded, &found, &error));
    assert_true(found);
    assert_true(bson_equal(&loaded.token, token));
    assert_true(bson_equal(&loaded.ddl_token, ddl_token));
    assert_int_equal(loaded.time, saved.time);
    assert_int_equal(loaded.ddl_time, saved.ddl_time);
    tow_checkpoint_clear(&saved);
    tow_checkpoint_clear(&loaded);
    bson_destroy(token);
    bson_destroy(ddl_token);
    bson_destroy(&kept);
    end(&bench);
}

/* No answer is not the answer that there is no job. */
static bool answer_half(void *data, const char *database, const bson_t *command, bson_t *reply,
                        bson_error_t *error)
{
    BCON_APPEND(reply, "cursor", "{", "id", BCON_INT64(0), "firstBatch", "[", BCON_INT32(1), "]",
                "}", "ok", BCON_DOUBLE(1));
    return true;
}

static void a_job_that_cannot_be_read_is_not_missing(void **state)
{
    tow_error_t error;
    bench_t bench;
    bson_t document;

    begin(&bench);
    double_link(bench.destination)->options.retry_window_ms = 100;
    double_hook(bench.destination, answer_half, NULL);
    assert_false(tow_store_get(&bench.store, &document, &error));
    bson_destroy(&document);
    end(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(claims_are_read_as_of_what_is_known),
        cmocka_unit_test(a_checkpoint_that_cannot_be_read_is_not_none),
        cmocka_unit_test(no_document_is_not_an_empty_one),
        cmocka_unit_test(a_range_that_cannot_be_read_is_not_open),
        cmocka_unit_test(a_collection_names_its_ranges_when_all_are_there),
        cmocka_unit_test(a_record_that_lacks_ranges_is_as_good_as_none),
        cmocka_unit_test(a_checkpoint_is_loaded_as_it_was_saved),
        cmocka_unit_test(a_job_that_cannot_be_read_is_not_missing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
