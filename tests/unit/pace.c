/* SPDX-License-Identifier: Apache-2.0 */
/* The pace of the verification in the background: time passes as the test says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/job/pace.h"

enum { RATE = 1000000, BATCH = 10000, START_MS = 5000000 };

/* Reads batches of both sides without a pause for so long, at that latency of the source; returns
 * the bytes a second of one side. */
static double read_for(tow_pace_t *pace, int64_t *now_ms, int64_t length_ms, double latency_ms)
{
    int64_t end_ms = *now_ms + length_ms;
    uint64_t bytes = 0;

    while (*now_ms < end_ms) {
        int64_t free_ms = tow_pace_take(pace, BATCH, latency_ms, *now_ms);

        bytes += BATCH;
        if (free_ms > *now_ms)
            *now_ms = free_ms;
    }
    return (double)bytes / 2 * 1000 / (double)length_ms;
}

static void assert_near(double value, double wanted)
{
    if (value < wanted * 0.95 || value > wanted * 1.05)
        fail_msg("%.0f bytes a second, not %.0f", value, wanted);
}

static void test_the_rate_is_held(void **state)
{
    tow_pace_t pace = tow_pace_new(RATE);
    int64_t now_ms = START_MS;

    assert_near(read_for(&pace, &now_ms, 20000, 1), RATE);
    /* A pause is no credit: afterwards it goes on as fast, and no faster. */
    now_ms += 3600000;
    assert_near(read_for(&pace, &now_ms, 20000, 1), RATE);
    /* An unknown latency is no slow one. */
    assert_near(read_for(&pace, &now_ms, 20000, 0), RATE);
}

static void test_it_backs_off_while_the_source_is_slow(void **state)
{
    tow_pace_t pace = tow_pace_new(RATE);
    int64_t now_ms = START_MS;

    read_for(&pace, &now_ms, 5000, 2);
    assert_near(read_for(&pace, &now_ms, 10000, 11), RATE); /* 3 * 2 + 5 is not slow yet */
    read_for(&pace, &now_ms, 1500, 12);
    assert_true(pace.rate <= RATE / 2);
    read_for(&pace, &now_ms, 10000, 200);
    assert_near(read_for(&pace, &now_ms, 30000, 200), RATE / 16.0);
    /* It comes back by itself: 1.25 to the 13th is more than 16. */
    read_for(&pace, &now_ms, 14000, 3);
    assert_near(read_for(&pace, &now_ms, 20000, 3), RATE);
}

/* A source that is far away is not slow: what counts is the latency beyond the least one. */
static void test_a_distant_source_is_not_slow(void **state)
{
    tow_pace_t pace = tow_pace_new(RATE);
    int64_t now_ms = START_MS;

    assert_near(read_for(&pace, &now_ms, 20000, 80), RATE);
    assert_near(read_for(&pace, &now_ms, 20000, 240), RATE);
    read_for(&pace, &now_ms, 20000, 250);
    assert_near(read_for(&pace, &now_ms, 30000, 250), RATE / 16.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_rate_is_held),
        cmocka_unit_test(test_it_backs_off_while_the_source_is_slow),
        cmocka_unit_test(test_a_distant_source_is_not_slow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
