/* SPDX-License-Identifier: Apache-2.0 */
/* The order of documents, compared in little memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "verify/sequence.h"

enum { DOCUMENTS = 10000 };

/* Documents 0 … count - 1, of which two that are side by side change places. */
static tow_sequence_t *make(uint64_t first, uint64_t count, uint64_t swapped, uint64_t skip)
{
    tow_sequence_t *sequence = calloc(1, sizeof *sequence);

    sequence->skip = skip;
    tow_sequence_reset(sequence);
    for (uint64_t i = first; i < count; i++)
        tow_sequence_add(sequence, i == swapped ? i + 1 : i == swapped + 1 ? i - 1 : i, 100 + i);
    return sequence;
}

static void every_swap_is_seen(void **state)
{
    static const uint64_t counts[] = {2, 3, 1023, 1024, 1025, 3000, DOCUMENTS};

    for (size_t n = 0; n < sizeof counts / sizeof *counts; n++)
        for (uint64_t at = 0; at + 1 < counts[n]; at += counts[n] / 7 + 1) {
            tow_sequence_t *a = make(0, counts[n], UINT64_MAX - 2, 0),
                           *b = make(0, counts[n], at, 0);
            uint64_t shared = tow_sequence_shared(a, b);

            assert_false(tow_sequence_equal(a, b));
            assert_true(shared <= at && at < shared + counts[n] / 512 + 2);
            free(a);
            free(b);
        }
}

static void the_same_order_is_equal(void **state)
{
    tow_sequence_t *a = make(0, DOCUMENTS, UINT64_MAX - 2, 0),
                   *b = make(0, DOCUMENTS, UINT64_MAX - 2, 0);

    assert_true(tow_sequence_equal(a, b));
    free(a);
    free(b);
}

/* What the cap of one side has dropped more is left out. */
static void the_end_alone(void **state)
{
    tow_sequence_t *whole = make(0, DOCUMENTS, UINT64_MAX - 2, 3),
                   *end = make(3, DOCUMENTS, UINT64_MAX - 2, 0);

    assert_true(tow_sequence_equal(whole, end));
    assert_int_equal(whole->last_skipped_bytes, 102);
    free(whole);
    free(end);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_swap_is_seen),
                                       cmocka_unit_test(the_same_order_is_equal),
                                       cmocka_unit_test(the_end_alone)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
