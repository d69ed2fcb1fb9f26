/* SPDX-License-Identifier: Apache-2.0 */
/* Capped collections as logs: what the cutover's look at them does where the source does not stand
 * still. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <mongoc/mongoc.h>

#include "bench.h"
#include "engine/link/internal.h"

enum { IDS = 6 };

/* An insert was acknowledged at the source, and its event comes later. */
static void a_late_write_is_added_and_settled_once(void **state)
{
    bench_t *bench = bench_filled();
    tow_error_t error;

    double_link(bench->source)->facts.major = 4;
    bench->collection->capped = true;
    bench_start_replay(bench, 0);
    bench_put(bench, "insert", IDS, IDS, 0);
    tow_link_note_time(double_link(bench->source), double_now(bench->source));
    assert_true(tow_replay_trim_logs(bench->replay, &error));
    bench_expect_equal(bench);
    assert_int_equal(bench->copied_again, 0);
    bench_catch_up(bench);
    bench_expect_equal(bench);
    assert_int_equal(bench->copied_again, 0);
    bench_end(bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_late_write_is_added_and_settled_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
