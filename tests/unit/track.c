/* SPDX-License-Identifier: Apache-2.0 */
/* track.c: what was compared, what was written since, and how much memory that takes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <malloc.h>

#include "verify/track.h"

static const uint8_t one[16] = {1}, two[16] = {2};

static bson_value_t integer(int64_t value)
{
    return (bson_value_t){.value_type = BSON_TYPE_INT64, .value.v_int64 = value};
}

static void touch_on(tow_track_t *track, int64_t id, tow_track_side_t side)
{
    int64_t little = (int64_t)BSON_UINT64_TO_LE((uint64_t)id);

    tow_track_touch(track, "d", "c",
                    (tow_value_t){BSON_TYPE_INT64, sizeof little, (const uint8_t *)&little}, side);
}

static void touch(tow_track_t *track, int64_t id)
{
    touch_on(track, id, TOW_TRACK_SOURCE);
}

/* Four ranges: (-inf, 10), [10, 20), [20, 30), [30, inf). */
static tow_track_t *four_ranges(bool ordered)
{
    bson_value_t bounds[] = {integer(10), integer(20), integer(30)};
    tow_track_t *track = tow_track_new();

    assert_false(tow_track_knows(track, "d.c", one));
    tow_track_set(track, "d.c", one, bounds, ordered ? 3 : 0, ordered);
    return track;
}

static void compare(tow_track_t *track, uint32_t range)
{
    tow_digest_t digest = {.documents = 1, .bytes = 10, .sum = range};

    tow_track_begin(track, "d.c", range);
    tow_track_equal(track, "d.c", range, &digest);
}

static tow_track_state_t state_of(tow_track_t *track, uint32_t range)
{
    tow_digest_t digest;

    return tow_track_state(track, "d.c", range, &digest);
}

static void test_a_write_is_seen_in_its_range(void **state)
{
    tow_track_t *track = four_ranges(true);
    tow_digest_t digest;
    bson_t keys;

    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(state_of(track, i), TOW_TRACK_OPEN);
        compare(track, i);
        assert_int_equal(tow_track_state(track, "d.c", i, &digest), TOW_TRACK_EQUAL);
        assert_true(digest.sum == i && digest.documents == 1);
    }
    touch(track, 9);
    touch(track, 10);
    touch(track, 29);
    touch(track, 29);
    assert_int_equal(state_of(track, 0), TOW_TRACK_KEYS);
    assert_int_equal(state_of(track, 1), TOW_TRACK_KEYS);
    assert_int_equal(state_of(track, 2), TOW_TRACK_KEYS);
    assert_int_equal(state_of(track, 3), TOW_TRACK_EQUAL);
    tow_track_take_keys(track, "d.c", 2, &keys);
    assert_int_equal(bson_count_keys(&keys), 1); /* once, however often it was written */
    assert_int_equal(state_of(track, 2), TOW_TRACK_EQUAL);
    bson_destroy(&keys);
    /* Who wrote it decides what a difference means. */
    touch_on(track, 29, TOW_TRACK_SOURCE);
    touch_on(track, 29, TOW_TRACK_DESTINATION);
    tow_track_take_keys(track, "d.c", 2, &keys);
    assert_int_equal(bson_count_keys(&keys), 2);
    bson_destroy(&keys);
    tow_track_open(track, "d.c", 2);
    assert_int_equal(state_of(track, 2), TOW_TRACK_OPEN);
    tow_track_destroy(track);
}

/* What is written while a range is read may or may not have been seen: its key stays. */
static void test_a_write_during_the_reading_stays(void **state)
{
    tow_track_t *track = four_ranges(true);
    tow_digest_t digest = {0};

    tow_track_begin(track, "d.c", 1);
    touch(track, 15);
    tow_track_equal(track, "d.c", 1, &digest);
    assert_int_equal(state_of(track, 1), TOW_TRACK_KEYS);
    /* A reading that was given up leaves the range open. */
    tow_track_begin(track, "d.c", 1);
    assert_int_equal(state_of(track, 1), TOW_TRACK_OPEN);
    /* Everything is to be read again: also what is being read now. */
    tow_track_reset(track);
    tow_track_equal(track, "d.c", 1, &digest);
    assert_int_equal(state_of(track, 1), TOW_TRACK_OPEN);
    tow_track_destroy(track);
}

static void test_a_dropped_collection(void **state)
{
    tow_track_t *track = four_ranges(true);

    compare(track, 1);
    tow_track_gone(track, "d", "cc");
    tow_track_gone(track, "d", "");
    assert_int_equal(state_of(track, 1), TOW_TRACK_OPEN);
    compare(track, 1);
    tow_track_gone(track, "d", "cc");
    tow_track_gone(track, "dd", "");
    assert_int_equal(state_of(track, 1), TOW_TRACK_EQUAL);
    tow_track_gone(track, "d", "c");
    assert_int_equal(state_of(track, 1), TOW_TRACK_OPEN);
    tow_track_destroy(track);
}

static void test_too_many_keys_open_the_range(void **state)
{
    tow_track_t *track = four_ranges(true);
    tow_digest_t digest = {0};

    compare(track, 3);
    for (int i = 0; i < TOW_TRACK_KEYS_MOST; i++)
        touch(track, 100 + i);
    assert_int_equal(state_of(track, 3), TOW_TRACK_KEYS);
    touch(track, 99999);
    assert_int_equal(state_of(track, 3), TOW_TRACK_OPEN);
    tow_track_begin(track, "d.c", 3);
    for (int i = 0; i <= TOW_TRACK_KEYS_MOST; i++)
        touch(track, 100 + i);
    tow_track_equal(track, "d.c", 3, &digest);
    assert_int_equal(state_of(track, 3), TOW_TRACK_OPEN);
    tow_track_destroy(track);
}

static void test_without_order_every_write_opens(void **state)
{
    tow_track_t *track = four_ranges(false);

    compare(track, 0);
    assert_int_equal(state_of(track, 0), TOW_TRACK_EQUAL);
    touch(track, 5);
    assert_int_equal(state_of(track, 0), TOW_TRACK_OPEN);
    tow_track_destroy(track);
}

static void test_another_collection_of_that_name(void **state)
{
    tow_track_t *track = four_ranges(true);
    tow_track_totals_t totals;

    compare(track, 0);
    assert_true(tow_track_knows(track, "d.c", one));
    assert_false(tow_track_knows(track, "d.c", two));
    assert_int_equal(tow_track_count(track, "d.c"), 0);
    touch(track, 5); /* unknown: nothing to do */
    tow_track_set(track, "d.c", two, NULL, 0, true);
    assert_int_equal(tow_track_count(track, "d.c"), 1);
    tow_track_sweep(track);
    tow_track_sweep(track); /* nobody asked for it any more */
    tow_track_totals(track, &totals);
    assert_int_equal(totals.ranges, 0);
    tow_track_destroy(track);
}

/* Stores what a track says, as a job does, in a list of at most 9. */
typedef struct {
    tow_track_entry_t entries[9];
    uint32_t count;
} stored_t;

static void store(tow_track_t *track, stored_t *stored)
{
    tow_track_changes_t changes;

    tow_track_changes(track, &changes);
    if (changes.all)
        stored->count = 0;
    for (uint32_t i = 0; i < changes.removed_count; i++)
        for (uint32_t j = 0; j < stored->count; j++)
            if (stored->entries[j].range == changes.removed[i].range)
                stored->entries[j--] = stored->entries[--stored->count];
    for (uint32_t i = 0; i < changes.added_count; i++) {
        stored->entries[stored->count] = changes.added[i]; /* integers need no copy of their own */
        stored->entries[stored->count++].ns = (char *)(uintptr_t) "d.c";
    }
    tow_track_changes_clear(&changes);
}

static void test_what_is_stored_is_restored(void **state)
{
    tow_track_t *track = four_ranges(true), *again;
    tow_digest_t digest;
    stored_t stored = {.count = 0};

    for (uint32_t i = 0; i < 4; i++)
        compare(track, i);
    store(track, &stored);
    assert_int_equal(stored.count, 4);
    touch(track, 15);
    store(track, &stored);
    assert_int_equal(stored.count, 3); /* taken back */
    store(track, &stored);
    assert_int_equal(stored.count, 3);

    again = tow_track_new();
    tow_track_restore(again, 77, stored.entries, stored.count);
    assert_int_equal(tow_track_seed(again), 77);
    assert_true(tow_track_knows(again, "d.c", one));
    assert_int_equal(tow_track_count(again, "d.c"), 4);
    assert_int_equal(tow_track_state(again, "d.c", 0, &digest), TOW_TRACK_EQUAL);
    assert_int_equal(state_of(again, 1), TOW_TRACK_OPEN);
    assert_int_equal(tow_track_state(again, "d.c", 3, &digest), TOW_TRACK_EQUAL);
    assert_true(digest.sum == 3);
    touch(again, 25);
    assert_int_equal(state_of(again, 2), TOW_TRACK_KEYS);
    /* Numbers may have changed: everything is stored anew. */
    store(again, &stored);
    assert_int_equal(stored.count, 2);
    tow_track_unsaved(again);
    store(again, &stored);
    assert_int_equal(stored.count, 2);
    /* What is stored of a collection that is gone goes with it. */
    assert_false(tow_track_knows(again, "d.c", two));
    store(again, &stored);
    assert_int_equal(stored.count, 0);
    tow_track_destroy(again);
    tow_track_destroy(track);
}

/* Gaps at both ends and in the middle, and a range that overlaps another. */
static void test_gaps_and_overlaps(void **state)
{
    tow_track_entry_t entries[] = {
        {.ns = (char *)(uintptr_t) "d.c", .uuid = {1}, .min = integer(40), .max = integer(50)},
        {.ns = (char *)(uintptr_t) "d.c", .uuid = {1}, .min = integer(10), .max = integer(20)},
        {.ns = (char *)(uintptr_t) "d.c", .uuid = {1}, .min = integer(15), .max = integer(30)},
        {.ns = (char *)(uintptr_t) "d.c", .uuid = {2}, .min = integer(60), .max = integer(70)}};
    static const tow_track_state_t wanted[] = {TOW_TRACK_OPEN, TOW_TRACK_EQUAL, TOW_TRACK_OPEN,
                                               TOW_TRACK_EQUAL, TOW_TRACK_OPEN};
    tow_track_t *track = tow_track_new();
    bson_value_t min, max;

    tow_track_restore(track, 1, entries, 4);
    assert_int_equal(tow_track_count(track, "d.c"), 5);
    for (uint32_t i = 0; i < 5; i++)
        assert_int_equal(state_of(track, i), wanted[i]);
    tow_track_bounds(track, "d.c", 2, &min, &max);
    assert_true(min.value.v_int64 == 20 && max.value.v_int64 == 40);
    tow_track_destroy(track);
}

/* A billion documents in 16 collections of as many ranges as one may have, each range touched by as
 * many writes as it keeps, and more: 64 MB must do. The documents are simulated, the
 * track is not. */
static void test_a_billion_documents_in_64_megabytes(void **state)
{
    enum { RANGES = 8192 };
    /* Tools that keep no account of memory are slow, and have no need of it all. */
    const bool whole = mallinfo2().uordblks;
    const int collections = whole ? 16 : 1, writes = whole ? 4000000 : 50000;
    const int64_t documents = 1000000000, each = documents / 16;
    size_t before = mallinfo2().uordblks, most = 0;
    tow_track_t *track = tow_track_new();
    bson_value_t *bounds = tow_alloc((RANGES - 1) * sizeof *bounds);
    tow_track_totals_t totals;
    uint64_t seed = 1, counted = 0;
    char name[8], ns[16];

    for (int64_t i = 1; i < RANGES; i++)
        bounds[i - 1] = integer(i * each / RANGES);
    for (int c = 0; c < collections; c++) {
        snprintf(ns, sizeof ns, "d.c%d", c);
        tow_track_set(track, ns, one, bounds, RANGES - 1, true);
        for (uint32_t i = 0; i < RANGES; i++) {
            tow_digest_t digest = {.documents = (uint64_t)(each / RANGES), .sum = i};

            tow_track_begin(track, ns, i);
            tow_track_equal(track, ns, i, &digest);
        }
    }
    free(bounds);
    for (int i = 0; i < writes; i++) {
        int64_t id;

        seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
        id = (int64_t)((seed >> 20) % (uint64_t)each);
        snprintf(name, sizeof name, "c%d", (int)(seed >> 60) % collections);
        tow_track_touch(track, "d", name,
                        (tow_value_t){BSON_TYPE_INT64, sizeof id, (const uint8_t *)&id},
                        TOW_TRACK_DESTINATION);
        if (i % 10000 == 0 && mallinfo2().uordblks - before > most)
            most = mallinfo2().uordblks - before;
    }
    for (int c = 0; c < collections; c++)
        for (uint32_t i = 0; i < RANGES; i++) {
            tow_digest_t digest;

            snprintf(ns, sizeof ns, "d.c%d", c);
            if (tow_track_state(track, ns, i, &digest) != TOW_TRACK_OPEN)
                counted += digest.documents;
        }
    tow_track_totals(track, &totals);
    if (!most) /* a sanitizer's allocator keeps no such account */
        most = totals.bytes;
    print_message("%zu bytes at most, %zu by its own account; %lu of %lu ranges open, %lu keys\n",
                  most, totals.bytes, totals.open, totals.ranges, totals.keys);
    assert_true(most > 0 && most <= 64u * 1024 * 1024);
    assert_true(totals.keys > 0);
    assert_true(totals.open > 0 || !whole); /* the limit was reached */
    assert_true(counted > 0);
    tow_track_destroy(track);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_write_is_seen_in_its_range),
        cmocka_unit_test(test_a_write_during_the_reading_stays),
        cmocka_unit_test(test_a_dropped_collection),
        cmocka_unit_test(test_too_many_keys_open_the_range),
        cmocka_unit_test(test_without_order_every_write_opens),
        cmocka_unit_test(test_another_collection_of_that_name),
        cmocka_unit_test(test_what_is_stored_is_restored),
        cmocka_unit_test(test_gaps_and_overlaps),
        cmocka_unit_test(test_a_billion_documents_in_64_megabytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
