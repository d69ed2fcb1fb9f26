/* What the terminal shows of a copy that stands still. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/cmd/progress.c"

void cmd_print_json(const char *json)
{
    puts(json);
}

/* The pace falls towards nothing, and the time that is left grows beyond all numbers. */
static void a_copy_that_stands_still_has_no_time_left(void **state)
{
    tow_progress_t progress = {.phase = TOW_PHASE_COPYING,
                               .estimated_bytes = UINT64_C(1000000000000),
                               .copied_bytes = 50000000,
                               .elapsed_seconds = 1};
    rate_t rate = {0};
    char line[700];

    update_rate(&rate, &progress);
    text_line(&progress, &rate, line, sizeof line);
    assert_non_null(strstr(line, "50.0 MB/s, 5:33:19 left"));
    for (int i = 0; i < 200; i++) {
        progress.elapsed_seconds += 2;
        update_rate(&rate, &progress);
        text_line(&progress, &rate, line, sizeof line);
        assert_null(strstr(line, ":-"));
        assert_null(strstr(line, ", -"));
    }
    assert_null(strstr(line, "left"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_copy_that_stands_still_has_no_time_left),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
