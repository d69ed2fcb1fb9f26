/* SPDX-License-Identifier: Apache-2.0 */
/* What the verbs make of a job's progress, as the server's events bring it: in pieces
 * of any size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/cmd/follow.c"
#include "engine/cmd/json.c"
#include "engine/cmd/waiting.c"

#define HEAD "event: progress\ndata: "

bool cmd_ended_read(const tow_options_t *options, const char *job, const char *since,
                    cmd_ended_t *out)
{
    abort();
}

void cmd_ended_clear(cmd_ended_t *ended)
{
}

CURL *cmd_request(const tow_options_t *options, const char *path, const char *body,
                  struct curl_slist **headers, int *out_status)
{
    abort();
}

int cmd_judge(const cmd_reply_t *reply, bson_t **out)
{
    abort();
}

void cmd_print_json(const char *json)
{
    abort();
}

static char said[2048];

void cmd_say(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(said, sizeof said, format, arguments);
    va_end(arguments);
}

/* The events of a text, given in pieces of `size`. */
static void feed_in_pieces(stream_t *stream, const char *text, size_t size)
{
    for (size_t at = 0; at < strlen(text); at += size)
        feed(stream, text + at, strlen(text + at) < size ? strlen(text + at) : size);
}

static bool count_phases(void *data, const bson_t *document, const char *progress)
{
    assert_int_equal(*progress, '{');
    ++*(int *)data;
    return !strcmp(cmd_text_of(document, "progress.phase"), "done");
}

static void events_come_in_pieces(void **state)
{
    static const char text[] = "event: log\ndata: {\"message\":\"event: progress\"}\n\n" HEAD
                               "{\"phase\":\"in-sync\"}\n\n" HEAD "no JSON\n\n" HEAD
                               "{\"phase\":\"done\"}\n\n" HEAD "{\"phase\":\"new\"}\n\n";

    for (size_t size = 1; size <= sizeof text; size++) {
        int count = 0;
        stream_t stream = {.take = count_phases, .data = &count};

        feed_in_pieces(&stream, text, size);
        assert_int_equal(count, 2);
        assert_true(stream.heard && stream.enough);
        tow_buffer_free(&stream.text);
    }
}

static uint32_t shown;

static void count_shown(const bson_t *document, const char *progress, bool last)
{
    shown += last ? 100 : 1;
}

/* The status that the wait ends with at this progress; -1: it waits on. */
static int ends_at(cmd_progress_fn take, const char *goal, const char *progress)
{
    waiting_t waiting = {.goal = goal, .show = goal ? count_shown : NULL};
    char *json = tow_format("{\"progress\":%s}", progress);
    bson_t *document = cmd_document(json);
    bool ended;

    assert_non_null(document);
    ended = take(&waiting, document, progress);
    assert_true(ended == waiting.decided);
    bson_destroy(document);
    free(json);
    snprintf(said, sizeof said, "%s", waiting.text);
    return waiting.decided ? waiting.status : -1;
}

static int ends_with(const char *progress)
{
    return ends_at(take_cutover, NULL, progress);
}

#define AT(phase, step, status, reason)                                                            \
    "{\"phase\":\"" phase "\",\"cutover\":{\"step\":\"" step "\"},\"exitStatus\":" status          \
    ",\"reason\":\"" reason "\"}"

static void a_cutover_ends_with_the_jobs_status(void **state)
{
    assert_int_equal(ends_with(AT("in-sync", "confirmed", "null", "")), -1);
    assert_int_equal(ends_with(AT("catching-up", "confirmed", "null", "")), -1);
    assert_int_equal(ends_with(AT("finalizing", "finalizing", "null", "")), -1);
    assert_int_equal(ends_with(AT("done", "done", "0", "")), 0);
    assert_int_equal(ends_with(AT("failed", "none", "12", "both sides differ")), TOW_ERROR_VERIFY);
    assert_string_equal(said, "both sides differ");
    assert_int_equal(ends_with(AT("failed", "none", "1", "")), TOW_ERROR_INTERNAL);
    assert_non_null(strstr(said, "its log"));
    assert_int_equal(ends_with(AT("cancelled", "none", "17", "cancelled")), TOW_ERROR_CANCELLED);
}

/* Not the job's status, and not success: nothing was cut over. */
static void a_cutover_that_is_called_off_has_a_status_of_its_own(void **state)
{
    assert_int_equal(ends_with(AT("finalizing", "none", "null", "")),
                     -1); /* ending, one way or the other */
    assert_int_equal(ends_with(AT("catching-up", "none", "null", "")), TOW_ERROR_CALLED_OFF);
    assert_int_equal(ends_with(AT("in-sync", "none", "null", "")), TOW_ERROR_CALLED_OFF);
    assert_non_null(strstr(said, "called off"));
}

#define IS(phase, can, verified, status)                                                           \
    "{\"phase\":\"" phase "\",\"canCommit\":" can ",\"positions\":{\"verified\":" verified         \
    "},\"exitStatus\":" status ",\"reason\":\"\"}"
#define AT_7 "{\"t\":7,\"i\":1}"

static void status_waits_for_what_it_is_told(void **state)
{
    static const struct {
        const char *goal, *progress;
        int status;
    } rows[] = {
        {"in-sync", IS("copying", "false", "null", "null"), -1},
        {"in-sync", IS("in-sync", "false", "null", "null"), -1}, /* a side is silent */
        {"in-sync", IS("in-sync", "true", "null", "null"), 0},
        {"in-sync", IS("finalizing", "false", "null", "null"), 0},
        {"in-sync", IS("done", "false", "null", "0"), 0},
        {"in-sync", IS("failed", "false", "null", "8"), TOW_ERROR_SERVER},
        {"verified", IS("in-sync", "true", "null", "null"), -1},
        {"verified", IS("catching-up", "false", AT_7, "null"), -1},
        {"verified", IS("in-sync", "true", AT_7, "null"), 0},
        {"verified", IS("done", "false", AT_7, "0"), 0},
        {"verified", IS("done", "false", "null", "0"), TOW_ERROR_STATE},
        {"verified", IS("failed", "false", "null", "12"), TOW_ERROR_VERIFY},
        {"done", IS("in-sync", "true", AT_7, "null"), -1},
        {"done", IS("finalizing", "false", AT_7, "null"), -1},
        {"done", IS("done", "false", AT_7, "0"), 0},
        {"done", IS("expired", "false", AT_7, "18"), TOW_ERROR_EXPIRED},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int status = ends_at(take_status, rows[i].goal, rows[i].progress);

        if (status != rows[i].status)
            fail_msg("row %zu: %d instead of %d", i, status, rows[i].status);
    }
    assert_int_equal(shown, 6 + 100 * (sizeof rows / sizeof *rows - 6)); /* each once */
}

static void a_timeout_without_a_wait_is_refused(void **state)
{
    tow_options_t *options = tow_options_new();
    tow_error_t error;

    assert_true(cmd_wait_fits(options, NULL));
    assert_true(tow_options_set(options, "timeout", "5m", &error));
    assert_false(cmd_wait_fits(options, NULL));
    assert_non_null(strstr(said, "--timeout"));
    assert_true(tow_options_set(options, "wait", "verified", &error));
    assert_true(cmd_wait_fits(options, NULL));
    assert_false(cmd_wait_fits(options, "done"));
    assert_non_null(strstr(said, "verified"));
    tow_options_destroy(options);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_come_in_pieces),
        cmocka_unit_test(a_cutover_ends_with_the_jobs_status),
        cmocka_unit_test(a_cutover_that_is_called_off_has_a_status_of_its_own),
        cmocka_unit_test(status_waits_for_what_it_is_told),
        cmocka_unit_test(a_timeout_without_a_wait_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
