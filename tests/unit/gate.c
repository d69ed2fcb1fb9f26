/* SPDX-License-Identifier: Apache-2.0 */
/* The gate: what an event at a time means to a key whose document was read, or will
 * be, at another. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/link/internal.h"
#include "engine/state/namespaces.h"

enum { PARTS = 3 };

/* ordered: three ranges, of _ids below 10, from 10 on, and from 20 on. none: nothing was there to
 * copy. unplanned: its ranges are not known yet. */
typedef enum { ORDERED, CAPPED, COLLATED, NONE, UNPLANNED } shape_t;

typedef struct {
    int state;
    tow_optime_t lo, hi;
} part_t;

#define OPEN                                                                                       \
    {                                                                                              \
        TOW_RANGE_OPEN, 0, 0                                                                       \
    }
#define STARTED(lo)                                                                                \
    {                                                                                              \
        TOW_RANGE_STARTED, lo, 0                                                                   \
    }
#define DONE(lo, hi)                                                                               \
    {                                                                                              \
        TOW_RANGE_DONE, lo, hi                                                                     \
    }
#define SKIP TOW_GATE_SKIP
#define DIRTY TOW_GATE_DIRTY
#define APPLY TOW_GATE_APPLY

typedef struct {
    shape_t shape;
    part_t parts[PARTS];
    double id;
    tow_optime_t time;
    tow_gate_t answer;
} row_t;

enum { READ_TIME = 7 };

static const row_t rows[] = {
    /* Not read yet: the read will see it. */
    {ORDERED, {DONE(1, 2), OPEN, DONE(1, 2)}, 15, 1, SKIP},
    {ORDERED, {DONE(1, 2), OPEN, DONE(1, 2)}, 15, 2, SKIP},
    {ORDERED, {DONE(1, 2), OPEN, DONE(1, 2)}, 15, 3, SKIP},
    {ORDERED, {DONE(1, 2), OPEN, DONE(1, 2)}, 15, 1000, SKIP},
    {ORDERED, {STARTED(9), OPEN, STARTED(9)}, 15, 10, SKIP},
    {ORDERED, {OPEN, OPEN, OPEN}, 15, 10, SKIP},
    /* Being read: it sees what is up to lo, and perhaps more. */
    {ORDERED, {DONE(1, 2), STARTED(5), DONE(1, 2)}, 15, 1, SKIP},
    {ORDERED, {DONE(1, 2), STARTED(5), DONE(1, 2)}, 15, 4, SKIP},
    {ORDERED, {DONE(1, 2), STARTED(5), DONE(1, 2)}, 15, 5, SKIP},
    {ORDERED, {DONE(1, 2), STARTED(5), DONE(1, 2)}, 15, 6, DIRTY},
    {ORDERED, {DONE(1, 2), STARTED(5), DONE(1, 2)}, 15, 1000, DIRTY},
    {ORDERED, {DONE(7, 8), STARTED(5), DONE(7, 8)}, 15, 6, DIRTY},
    {ORDERED, {OPEN, STARTED(5), OPEN}, 15, 6, DIRTY},
    /* Read: what is later than hi is news. */
    {ORDERED, {OPEN, DONE(5, 9), OPEN}, 15, 1, SKIP},
    {ORDERED, {OPEN, DONE(5, 9), OPEN}, 15, 4, SKIP},
    {ORDERED, {OPEN, DONE(5, 9), OPEN}, 15, 5, SKIP},
    {ORDERED, {OPEN, DONE(5, 9), OPEN}, 15, 6, DIRTY},
    {ORDERED, {OPEN, DONE(5, 9), OPEN}, 15, 9, DIRTY},
    {ORDERED, {OPEN, DONE(5, 9), OPEN}, 15, 10, APPLY},
    {ORDERED, {OPEN, DONE(5, 9), OPEN}, 15, 1000, APPLY},
    {ORDERED, {STARTED(2), DONE(5, 9), STARTED(20)}, 15, 10, APPLY},
    {ORDERED, {OPEN, DONE(5, 5), OPEN}, 15, 4, SKIP},
    {ORDERED, {OPEN, DONE(5, 5), OPEN}, 15, 5, SKIP},
    {ORDERED, {OPEN, DONE(5, 5), OPEN}, 15, 6, APPLY},
    /* Each _id is in one range: its lower bound is in it, its upper is not. */
    {ORDERED, {OPEN, STARTED(5), DONE(5, 9)}, -1e300, 20, SKIP},
    {ORDERED, {OPEN, STARTED(5), DONE(5, 9)}, 0, 20, SKIP},
    {ORDERED, {OPEN, STARTED(5), DONE(5, 9)}, 9, 20, SKIP},
    {ORDERED, {OPEN, STARTED(5), DONE(5, 9)}, 9.99, 20, SKIP},
    {ORDERED, {OPEN, STARTED(5), DONE(5, 9)}, 10, 20, DIRTY},
    {ORDERED, {OPEN, STARTED(5), DONE(5, 9)}, 10.01, 20, DIRTY},
    {ORDERED, {OPEN, STARTED(5), DONE(5, 9)}, 19.99, 20, DIRTY},
    {ORDERED, {OPEN, STARTED(5), DONE(5, 9)}, 20, 20, APPLY},
    {ORDERED, {OPEN, STARTED(5), DONE(5, 9)}, 1e300, 20, APPLY},
    {ORDERED, {DONE(5, 9), STARTED(5), OPEN}, 9, 20, APPLY},
    {ORDERED, {DONE(5, 9), STARTED(5), OPEN}, 20, 20, SKIP},
    /* All are read: later than the last of them is news, without a look at the key. */
    {ORDERED, {DONE(1, 3), DONE(2, 8), DONE(4, 5)}, 5, 9, APPLY},
    {ORDERED, {DONE(1, 3), DONE(2, 8), DONE(4, 5)}, 15, 9, APPLY},
    {ORDERED, {DONE(1, 3), DONE(2, 8), DONE(4, 5)}, 25, 9, APPLY},
    {ORDERED, {DONE(1, 3), DONE(2, 8), DONE(4, 5)}, 5, 8, APPLY},
    {ORDERED, {DONE(1, 3), DONE(2, 8), DONE(4, 5)}, 15, 8, DIRTY},
    {ORDERED, {DONE(1, 3), DONE(2, 8), DONE(4, 5)}, 15, 2, SKIP},
    {ORDERED, {DONE(1, 3), DONE(2, 8), DONE(4, 5)}, 5, 4, APPLY},
    {ORDERED, {DONE(1, 3), DONE(2, 8), DONE(4, 5)}, 25, 5, DIRTY},
    {ORDERED, {DONE(1, 3), DONE(2, 8), DONE(4, 5)}, 25, 4, SKIP},
    {ORDERED, {DONE(1, 3), DONE(2, 8), DONE(4, 5)}, 5, 1, SKIP},
    /* A range that is not done holds the others' news back for its own keys only. */
    {ORDERED, {DONE(1, 3), DONE(2, 8), STARTED(4)}, 15, 9, APPLY},
    {ORDERED, {DONE(1, 3), DONE(2, 8), STARTED(4)}, 25, 9, DIRTY},
    {ORDERED, {DONE(1, 3), DONE(2, 8), OPEN}, 25, 9, SKIP},
    /* Where the order of keys cannot be seen, all are in the first range. */
    {CAPPED, {OPEN, OPEN, OPEN}, 5, 10, SKIP},
    {CAPPED, {STARTED(5), OPEN, OPEN}, 25, 5, SKIP},
    {CAPPED, {STARTED(5), OPEN, OPEN}, 25, 6, DIRTY},
    {CAPPED, {DONE(5, 9), OPEN, OPEN}, 25, 5, SKIP},
    {CAPPED, {DONE(5, 9), OPEN, OPEN}, 25, 9, DIRTY},
    {CAPPED, {DONE(5, 9), OPEN, OPEN}, 25, 10, APPLY},
    {COLLATED, {OPEN, DONE(1, 2), DONE(1, 2)}, 25, 10, SKIP},
    {COLLATED, {STARTED(5), DONE(1, 2), DONE(1, 2)}, 15, 5, SKIP},
    {COLLATED, {STARTED(5), DONE(1, 2), DONE(1, 2)}, 15, 6, DIRTY},
    {COLLATED, {DONE(5, 9), OPEN, OPEN}, 25, 5, SKIP},
    {COLLATED, {DONE(5, 9), OPEN, OPEN}, 25, 6, DIRTY},
    {COLLATED, {DONE(5, 9), OPEN, OPEN}, 25, 10, APPLY},
    /* Created while the job runs: what is older is not of this collection. */
    {NONE, {OPEN, OPEN, OPEN}, 5, READ_TIME - 1, SKIP},
    {NONE, {OPEN, OPEN, OPEN}, 5, READ_TIME, SKIP},
    {NONE, {OPEN, OPEN, OPEN}, 5, READ_TIME + 1, APPLY},
    /* Its ranges may be planned when the document is gone: no read is known to see it. */
    {UNPLANNED, {OPEN, OPEN, OPEN}, 5, READ_TIME - 1, DIRTY},
    {UNPLANNED, {OPEN, OPEN, OPEN}, 5, READ_TIME, DIRTY},
    {UNPLANNED, {OPEN, OPEN, OPEN}, 5, READ_TIME + 1, DIRTY},
};

static tow_namespace_t *add_named(tow_namespaces_t *table, const char *name, shape_t shape)
{
    tow_collection_info_t info = {.database = (char *)"shop",
                                  .name = (char *)name,
                                  .capped = shape == CAPPED,
                                  .collated = shape == COLLATED};
    tow_namespace_t *collection;

    bson_init(&info.options);
    collection = tow_namespaces_add(table, &info, READ_TIME);
    bson_destroy(&info.options);
    return collection;
}

static tow_namespace_t *add(tow_namespaces_t *table, shape_t shape)
{
    return add_named(table, "orders", shape);
}

static void set_parts(tow_namespaces_t *table, tow_namespace_t *collection, const part_t *parts)
{
    tow_range_t *ranges = tow_alloc(PARTS * sizeof *ranges);

    for (int i = 0; i < PARTS; i++) {
        ranges[i].number = (uint32_t)i;
        ranges[i].state = parts[i].state;
        ranges[i].lo = parts[i].lo;
        ranges[i].hi = parts[i].hi;
        ranges[i].has_min = i > 0;
        ranges[i].has_max = i < PARTS - 1;
        ranges[i].min = (bson_value_t){.value_type = BSON_TYPE_INT32, .value.v_int32 = i * 10};
        ranges[i].max = (bson_value_t){.value_type = BSON_TYPE_INT32, .value.v_int32 = i * 10 + 10};
    }
    tow_namespaces_set_ranges(table, collection, ranges, PARTS);
}

static tow_gate_t ask(tow_namespaces_t *table, tow_namespace_t *collection, bson_t *id,
                      tow_optime_t time)
{
    tow_value_t value = {0};

    assert_true(tow_value_id(id, &value));
    return tow_namespaces_gate(table, collection, value, time);
}

static tow_gate_t ask_number(tow_namespaces_t *table, tow_namespace_t *collection, double id,
                             tow_optime_t time)
{
    bson_t *document = BCON_NEW("_id", BCON_DOUBLE(id));
    tow_gate_t answer = ask(table, collection, document, time);

    bson_destroy(document);
    return answer;
}

static void each_row_has_its_answer(void **state)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const row_t *row = &rows[i];
        tow_namespaces_t *table = tow_namespaces_new();
        tow_namespace_t *collection = add(table, row->shape);
        tow_gate_t answer;

        if (row->shape == NONE)
            tow_namespaces_set_ranges(table, collection, NULL, 0);
        else if (row->shape != UNPLANNED)
            set_parts(table, collection, row->parts);
        answer = ask_number(table, collection, row->id, row->time);
        if (answer != row->answer)
            fail_msg("row %zu: answer %d instead of %d", i, answer, row->answer);
        tow_namespaces_destroy(table);
    }
}

static void ids_of_all_types_are_in_the_range_of_their_order(void **state)
{
    static const part_t parts[PARTS] = {OPEN, STARTED(5), DONE(5, 9)};
    tow_namespaces_t *table = tow_namespaces_new();
    tow_namespace_t *collection = add(table, ORDERED);
    struct {
        bson_t *id;
        tow_gate_t answer;
    } ids[] = {
        {BCON_NEW("_id", BCON_MINKEY), SKIP},
        {BCON_NEW("_id", BCON_NULL), SKIP},
        {BCON_NEW("_id", BCON_INT64(9)), SKIP},
        {BCON_NEW("_id", BCON_DOUBLE(NAN)), SKIP},
        {BCON_NEW("_id", BCON_INT64(10)), DIRTY},
        {BCON_NEW("_id", BCON_INT32(20)), APPLY},
        {BCON_NEW("_id", ""), APPLY},
        {BCON_NEW("_id", "{", "}"), APPLY},
        {BCON_NEW("_id", BCON_BOOL(false)), APPLY},
        {BCON_NEW("_id", BCON_DATE_TIME(0)), APPLY},
        {BCON_NEW("_id", BCON_MAXKEY), APPLY},
    };

    set_parts(table, collection, parts);
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        assert_int_equal(ask(table, collection, ids[i].id, 20), ids[i].answer);
        bson_destroy(ids[i].id);
    }
    tow_namespaces_destroy(table);
}

/* From start to end of a range, and once more: an event between two attempts is seen
 * by the second. */
static void a_range_answers_by_its_last_attempt(void **state)
{
    static const part_t parts[PARTS] = {OPEN, OPEN, OPEN};
    tow_namespaces_t *table = tow_namespaces_new();
    tow_namespace_t *collection = add(table, ORDERED);
    tow_link_t *link = tow_alloc(sizeof *link);

    set_parts(table, collection, parts);
    atomic_store(&link->time, 50);
    assert_int_equal(tow_namespaces_start_range(table, collection, 1, link), 50);
    assert_int_equal(ask_number(table, collection, 15, 50), SKIP);
    assert_int_equal(ask_number(table, collection, 15, 51), DIRTY);
    tow_namespaces_reopen_range(table, collection, 1);
    assert_int_equal(ask_number(table, collection, 15, 51), SKIP);
    atomic_store(&link->time, 60);
    assert_int_equal(tow_namespaces_start_range(table, collection, 1, link), 60);
    tow_namespaces_finish_range(table, collection, 1, 70, 1, 1);
    assert_int_equal(ask_number(table, collection, 15, 60), SKIP);
    assert_int_equal(ask_number(table, collection, 15, 70), DIRTY);
    assert_int_equal(ask_number(table, collection, 15, 71), APPLY);
    assert_false(tow_namespaces_copied(table, collection));
    tow_namespaces_start_range(table, collection, 0, link);
    tow_namespaces_finish_range(table, collection, 0, 61, 1, 1);
    tow_namespaces_start_range(table, collection, 2, link);
    /* A reply without a time: nothing later than lo was promised. */
    tow_namespaces_finish_range(table, collection, 2, 0, 1, 1);
    assert_true(tow_namespaces_copied(table, collection));
    assert_int_equal(tow_namespaces_range(table, collection, 2).hi, 60);
    assert_int_equal(ask_number(table, collection, 25, 60), SKIP);
    assert_int_equal(ask_number(table, collection, 25, 61), APPLY);
    assert_int_equal(tow_namespaces_consistent(table), 70);
    tow_namespaces_destroy(table);
    free(link);
}

/* A server with opaque tokens gives operation times beyond writes that its stream still owes. */
static void with_opaque_tokens_a_read_promises_no_more_than_the_stream_told(void **state)
{
    static const part_t parts[PARTS] = {OPEN, OPEN, OPEN};
    tow_namespaces_t *table = tow_namespaces_new();
    tow_namespace_t *collection = add(table, ORDERED);
    tow_link_t *link = tow_alloc(sizeof *link);

    set_parts(table, collection, parts);
    atomic_store(&link->time, 50);
    tow_link_note_event(link, 40, true);
    assert_int_equal(tow_namespaces_start_range(table, collection, 1, link), 40);
    assert_int_equal(ask_number(table, collection, 15, 41), DIRTY);
    tow_namespaces_destroy(table);
    free(link);
}

static void a_ddl_event_asks_about_the_whole_collection(void **state)
{
    static const struct {
        part_t parts[PARTS];
        tow_optime_t time;
        tow_gate_t answer;
    } table_rows[] = {
        {{OPEN, OPEN, OPEN}, READ_TIME - 1, SKIP},
        {{OPEN, OPEN, OPEN}, READ_TIME, SKIP},
        {{OPEN, OPEN, OPEN}, READ_TIME + 1, DIRTY},
        {{DONE(8, 9), STARTED(8), DONE(8, 9)}, READ_TIME, SKIP},
        {{DONE(8, 9), STARTED(8), DONE(8, 9)}, 20, DIRTY},
        {{DONE(8, 9), DONE(8, 12), DONE(8, 10)}, READ_TIME, SKIP},
        {{DONE(8, 9), DONE(8, 12), DONE(8, 10)}, READ_TIME + 1, DIRTY},
        {{DONE(8, 9), DONE(8, 12), DONE(8, 10)}, 12, DIRTY},
        {{DONE(8, 9), DONE(8, 12), DONE(8, 10)}, 13, APPLY},
    };

    for (size_t i = 0; i < sizeof table_rows / sizeof *table_rows; i++) {
        tow_namespaces_t *table = tow_namespaces_new();
        tow_namespace_t *collection = add(table, ORDERED);

        set_parts(table, collection, table_rows[i].parts);
        assert_int_equal(tow_namespaces_gate_ddl(table, collection, table_rows[i].time),
                         table_rows[i].answer);
        tow_namespaces_destroy(table);
    }
}

/* Unique indexes wait for the newest read of all. */
static void all_is_consistent_at_the_newest_end_of_a_range(void **state)
{
    const part_t older[] = {DONE(8, 9), DONE(8, 12), DONE(8, 10)},
                 newer[] = {DONE(8, 11), DONE(9, 15), DONE(8, 9)};

    for (int turn = 0; turn < 2; turn++) {
        tow_namespaces_t *table = tow_namespaces_new();

        set_parts(table, add_named(table, "a", ORDERED), turn ? older : newer);
        set_parts(table, add_named(table, "b", ORDERED), turn ? newer : older);
        assert_int_equal(tow_namespaces_consistent(table), 15);
        tow_namespaces_destroy(table);
    }
}

static void what_replaces_a_collection_is_found_instead_of_it(void **state)
{
    tow_namespaces_t *table = tow_namespaces_new();
    tow_namespace_t *first = add(table, ORDERED), *second = add(table, ORDERED);

    assert_true(first->dropped);
    assert_true(atomic_load(&first->stale));
    assert_ptr_equal(tow_namespaces_find(table, "shop", "orders"), second);
    assert_int_not_equal(first->id, second->id);
    assert_int_equal(first->name_hash, second->name_hash);
    tow_namespaces_drop(table, first);
    assert_ptr_equal(tow_namespaces_find(table, "shop", "orders"), second);
    tow_namespaces_drop(table, second);
    assert_null(tow_namespaces_find(table, "shop", "orders"));
    tow_namespaces_destroy(table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_row_has_its_answer),
        cmocka_unit_test(ids_of_all_types_are_in_the_range_of_their_order),
        cmocka_unit_test(a_range_answers_by_its_last_attempt),
        cmocka_unit_test(with_opaque_tokens_a_read_promises_no_more_than_the_stream_told),
        cmocka_unit_test(a_ddl_event_asks_about_the_whole_collection),
        cmocka_unit_test(all_is_consistent_at_the_newest_end_of_a_range),
        cmocka_unit_test(what_replaces_a_collection_is_found_instead_of_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
