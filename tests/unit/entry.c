/* SPDX-License-Identifier: Apache-2.0 */
/* entry.c: what is kept of a compared range comes back as it was, and nothing else
 * passes for it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "verify/entry.h"

static char ns[] = "d.c";

static tow_track_entry_t example(void)
{
    return (tow_track_entry_t){
        .ns = ns,
        .uuid = {1, 2, 3},
        .range = 4095,
        .max = {.value_type = BSON_TYPE_INT64, .value.v_int64 = -1},
        .digest = {.documents = UINT64_C(1) << 40,
                   .bytes = UINT64_C(1) << 50,
                   .sum = ((tow_hash_t)0xfedcba9876543210u << 64) | 0x0123456789abcdefu}};
}

static void free_entry(tow_track_entry_t *entry)
{
    free(entry->ns);
    bson_value_destroy(&entry->max);
}

static void test_it_comes_back(void **state)
{
    tow_track_entry_t entry = example(), back;
    uint64_t seed = 0;
    tow_verify_mode_t mode;
    bson_t document;

    tow_track_entry_to_bson(&entry, TOW_VERIFY_FIELD_ORDER, UINT64_MAX - 1, &document);
    assert_true(tow_track_entry_from_bson(&document, &back, &mode, &seed));
    assert_string_equal(back.ns, ns);
    assert_memory_equal(back.uuid, entry.uuid, sizeof entry.uuid);
    assert_int_equal(back.range, entry.range);
    assert_int_equal(back.min.value_type, BSON_TYPE_EOD);
    assert_int_equal(back.max.value_type, BSON_TYPE_INT64);
    assert_int_equal(back.max.value.v_int64, -1);
    assert_true(back.digest.documents == entry.digest.documents &&
                back.digest.bytes == entry.digest.bytes && back.digest.sum == entry.digest.sum);
    assert_int_equal(mode, TOW_VERIFY_FIELD_ORDER);
    assert_true(seed == UINT64_MAX - 1);
    free_entry(&back);
    bson_destroy(&document);
}

/* Without any one of its fields, or with another type in it, it is none. */
static void test_what_is_broken_is_refused(void **state)
{
    static const char *const needed[] = {"_id",       "uuid",  "mode", "seed",
                                         "documents", "bytes", "sum"};
    tow_track_entry_t entry = example(), back;
    uint64_t seed;
    tow_verify_mode_t mode;
    bson_t document;

    tow_track_entry_to_bson(&entry, TOW_VERIFY_BYTES, 7, &document);
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
        bson_t without;

        bson_init(&without);
        bson_copy_to_excluding_noinit(&document, &without, needed[i], NULL);
        assert_false(tow_track_entry_from_bson(&without, &back, &mode, &seed));
        bson_append_utf8(&without, needed[i], -1, "x", -1);
        assert_false(tow_track_entry_from_bson(&without, &back, &mode, &seed));
        bson_destroy(&without);
    }
    bson_destroy(&document);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_comes_back),
        cmocka_unit_test(test_what_is_broken_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
