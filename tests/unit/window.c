/* SPDX-License-Identifier: Apache-2.0 */
/* The window: days pass in no time, since it is told what time it is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/base/duration.h"
#include "engine/job/window.h"

#define MINUTE INT64_C(60000)
#define HOUR (60 * MINUTE)
#define START INT64_C(1700000000000)

static void durations(void **state)
{
    static const struct {
        const char *text;
        int64_t ms;
    } good[] = {{"120h", 120 * HOUR}, {"90m", 90 * MINUTE}, {"1d12h", 36 * HOUR},
                {"1s", 1000},         {"0h1s", 1000},       {"3650d", 3650 * 24 * HOUR}};
    static const char *const bad[] = {"",
                                      "120",
                                      "h",
                                      "1.5h",
                                      "-1h",
                                      "1h-",
                                      "0s",
                                      "3651d",
                                      "1w",
                                      "1h ",
                                      "99999999999999999999s",
                                      "3650d1s"};
    int64_t ms;

    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_true(tow_duration_parse(good[i].text, &ms));
        assert_int_equal(ms, good[i].ms);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(tow_duration_parse(bad[i], &ms));
}

static void it_begins_once_and_ends(void **state)
{
    tow_window_t window = tow_window_new(120 * HOUR);

    assert_int_equal(tow_window_left_ms(&window, START), -1);
    assert_false(tow_window_over(&window, START + 1000 * HOUR));
    assert_true(tow_window_begin(&window, START));
    assert_false(tow_window_begin(&window, START + HOUR)); /* in sync again: it goes on */
    assert_int_equal(tow_window_end_ms(&window), START + 120 * HOUR);
    assert_int_equal(tow_window_left_ms(&window, START + HOUR), 119 * HOUR);
    assert_false(tow_window_over(&window, START + 120 * HOUR - 1));
    assert_true(tow_window_over(&window, START + 120 * HOUR));
    assert_int_equal(tow_window_left_ms(&window, START + 121 * HOUR), 0);
}

/* Minutes after START at which a warning came, looking every minute. */
static int warnings(tow_window_t *window, int64_t from, int64_t until, int64_t *out)
{
    int count = 0;

    for (int64_t minute = from; minute <= until; minute++)
        if (tow_window_warns(window, START + minute * MINUTE))
            out[count++] = minute;
    return count;
}

static void it_warns_once_at_each_mark(void **state)
{
    tow_window_t window = tow_window_new(120 * HOUR);
    int64_t at[100];

    tow_window_begin(&window, START);
    assert_int_equal(warnings(&window, 0, 130 * 60, at), 4);
    assert_int_equal(at[0], 96 * 60);
    assert_int_equal(at[1], 116 * 60);
    assert_int_equal(at[2], 119 * 60);
    assert_int_equal(at[3], 120 * 60 - 10);
}

static void a_short_window_skips_the_early_marks(void **state)
{
    tow_window_t window = tow_window_new(2 * HOUR);
    int64_t at[100];

    tow_window_begin(&window, START);
    assert_int_equal(warnings(&window, 0, 130, at), 2);
    assert_int_equal(at[0], 60);
    assert_int_equal(at[1], 110);
}

static void it_is_extended_in_the_last_moment_and_again(void **state)
{
    tow_window_t window = tow_window_new(120 * HOUR);
    int64_t at[100];

    tow_window_begin(&window, START);
    assert_int_equal(warnings(&window, 0, 120 * 60 - 1, at), 4);
    tow_window_extend(&window, 6 * HOUR, START + 120 * HOUR - 1);
    assert_int_equal(tow_window_end_ms(&window), START + 126 * HOUR);
    for (int i = 0; i < 10; i++)
        tow_window_extend(&window, HOUR, START + 121 * HOUR);
    assert_int_equal(tow_window_end_ms(&window), START + 136 * HOUR);
    /* 15 h are left: the marks of 4 h, 1 h and 10 min come again. */
    assert_int_equal(warnings(&window, 121 * 60, 136 * 60, at), 3);
    assert_int_equal(at[0], 132 * 60);
    assert_true(tow_window_over(&window, START + 136 * HOUR));
}

static void once_over_it_is_extended_from_now(void **state)
{
    tow_window_t window = tow_window_new(HOUR);

    tow_window_begin(&window, START);
    tow_window_extend(&window, 2 * HOUR, START + 500 * HOUR);
    assert_int_equal(tow_window_end_ms(&window), START + 502 * HOUR);
}

static void before_it_began_it_grows(void **state)
{
    tow_window_t window = tow_window_new(HOUR);

    tow_window_extend(&window, 2 * HOUR, START);
    assert_int_equal(tow_window_left_ms(&window, START), -1);
    tow_window_begin(&window, START + 9 * HOUR);
    assert_int_equal(tow_window_end_ms(&window), START + 12 * HOUR);
}

static void a_restart_keeps_the_end(void **state)
{
    tow_window_t window = tow_window_new(120 * HOUR);
    int64_t at[100];

    tow_window_restore(&window, START, 3 * HOUR);
    assert_false(tow_window_begin(&window, START + 50 * HOUR));
    assert_int_equal(tow_window_end_ms(&window), START + 123 * HOUR);
    /* Another --window moves the end by the difference. */
    window = tow_window_new(240 * HOUR);
    tow_window_restore(&window, START, 3 * HOUR);
    assert_int_equal(tow_window_end_ms(&window), START + 243 * HOUR);
    /* Restarted with 2 h left: one warning at once, and those to come. */
    assert_int_equal(warnings(&window, 241 * 60, 250 * 60, at), 3);
    assert_int_equal(at[0], 241 * 60);
    assert_int_equal(at[1], 242 * 60);
    assert_int_equal(at[2], 243 * 60 - 10);
}

/* --continuous: it begins, and has no end. */
static void a_job_without_a_window_goes_on(void **state)
{
    tow_window_t window = tow_window_new(0);

    assert_true(tow_window_begin(&window, 1000));
    assert_false(tow_window_begin(&window, 2000));
    assert_int_equal(tow_window_end_ms(&window), 0);
    assert_int_equal(tow_window_left_ms(&window, INT64_MAX / 2), -1);
    assert_false(tow_window_over(&window, INT64_MAX / 2));
    assert_false(tow_window_warns(&window, INT64_MAX / 2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(durations),
        cmocka_unit_test(it_begins_once_and_ends),
        cmocka_unit_test(it_warns_once_at_each_mark),
        cmocka_unit_test(a_short_window_skips_the_early_marks),
        cmocka_unit_test(it_is_extended_in_the_last_moment_and_again),
        cmocka_unit_test(once_over_it_is_extended_from_now),
        cmocka_unit_test(before_it_began_it_grows),
        cmocka_unit_test(a_job_without_a_window_goes_on),
        cmocka_unit_test(a_restart_keeps_the_end)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
