/* SPDX-License-Identifier: Apache-2.0 */
/* What `status` prints. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/cmd/cells.c"
#include "engine/cmd/ended.c"
#include "engine/cmd/figures.c"
#include "engine/cmd/json.c"
#include "engine/cmd/screen.c"
#include "engine/cmd/status.c"
#include "engine/cmd/view.c"

int cmd_ask(const tow_options_t *options, const char *path, const char *body, cmd_reply_t *out)
{
    abort();
}

int cmd_judge(const cmd_reply_t *reply, bson_t **out)
{
    abort();
}

static bool listens;

bool cmd_nobody_listens(const tow_options_t *options)
{
    return !listens;
}

void cmd_draw(cmd_view_t *view, cmd_rate_t *rate)
{
    abort();
}

void cmd_print_summary(const char *json)
{
    printf("summary %s\n", json);
}

bool cmd_write(int file, const void *data, size_t length, int wait_ms)
{
    abort();
}

void cmd_say(const char *format, ...)
{
}

bool cmd_wait_fits(const tow_options_t *options, const char *only)
{
    abort();
}

int cmd_wait_for(const tow_options_t *options, const char *goal, cmd_show_fn show)
{
    abort();
}

static char json_shown[256];

void cmd_print_json(const char *json)
{
    snprintf(json_shown, sizeof json_shown, "%s", json);
}

/* What it prints of a progress, with stdout in a file meanwhile. */
static const char *printed(const char *progress)
{
    static char text[4096];
    char *json = tow_format("{\"progress\":{\"job\":\"j\",\"phase\":\"in-sync\",%s}}", progress);
    bson_t *document = cmd_document(json);
    FILE *file = tmpfile();
    int kept = dup(STDOUT_FILENO);

    assert_non_null(document);
    fflush(stdout);
    dup2(fileno(file), STDOUT_FILENO);
    print_status(document);
    fflush(stdout);
    dup2(kept, STDOUT_FILENO);
    close(kept);
    rewind(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    bson_destroy(document);
    free(json);
    return text;
}

static void the_last_cutover_is_shown(void **state)
{
    const char *text =
        printed("\"canCommit\":true,\"nextStep\":\"stop them\",\"cutover\":{\"step\":\"none\","
                "\"lastAttempt\":{\"calledOffAt\":\"2020-11-26T21:34:21Z\",\"lateWrites\":1390,"
                "\"reason\":\"writes went on\"}}");

    assert_non_null(
        strstr(text, "\nlast cutover called off at 2020-11-26 21:34 UTC, 1,390 writes after the "
                     "confirmation\n"));
    assert_non_null(strstr(text, "\nnext         stop them\n"));
    text = printed(
        "\"cutover\":{\"step\":\"none\",\"lastAttempt\":{\"calledOffAt\":\"2020-11-26T21:34:21Z\","
        "\"lateWrites\":0,\"reason\":\"it was asked for\"}}");
    assert_non_null(strstr(text, "21:34 UTC: it was asked for\n"));
    text = printed("\"canCommit\":true,\"cutover\":{\"step\":\"none\",\"lastAttempt\":null}");
    assert_null(strstr(text, "last cutover"));
    assert_null(strstr(text, "next"));
}

static void json_is_the_object_itself(void **state)
{
    char answer[] = "{\"success\":true,\"progress\":{\"lagMs\":0.125,\"window\":{}}}\n";

    print_answer(answer);
    assert_string_equal(json_shown, "{\"lagMs\":0.125,\"window\":{}}");
}

static bool shows_ended(const tow_options_t *options, const char *goal, int *out_status)
{
    json_shown[0] = '\0';
    return show_ended(options, true, goal, out_status);
}

static void a_job_that_has_ended_is_read_where_nobody_listens(void **state)
{
    static const char record[] =
        "{\"job\":\"j\",\"listen\":\"127.0.0.1:9\",\"endedAt\":\"2026-11-26T21:34:21Z\","
        "\"exitStatus\":12,\"summary\":{\"state\":\"failed\",\"error\":\"differ\"}}";
    char folder[] = "/tmp/towline-status-XXXXXX", *path;
    tow_options_t *options = tow_options_new();
    cmd_ended_t ended;
    tow_error_t error;
    int status = -1;

    assert_non_null(mkdtemp(folder));
    path = tow_format("%s/towline-j.ended", folder);
    assert_true(tow_options_set(options, "spool", folder, &error));
    assert_true(tow_options_set(options, "job", "j", &error));
    assert_true(tow_options_set(options, "listen", "127.0.0.1:9", &error));
    assert_false(shows_ended(options, NULL, &status)); /* nothing is there */
    assert_true(tow_file_replace(path, record, strlen(record)));
    assert_true(shows_ended(options, NULL, &status));
    assert_string_equal(json_shown, record);
    assert_int_equal(status, 0);
    assert_true(shows_ended(options, "done", &status)); /* who waits for it has its exit status */
    assert_int_equal(status, 12);
    listens = true;
    assert_false(shows_ended(options, NULL, &status)); /* a process knows more */
    listens = false;
    assert_true(cmd_ended_read(options, "j", "2026-11-26T21:34:21Z", &ended));
    assert_string_equal(ended.summary, "{\"state\":\"failed\",\"error\":\"differ\"}");
    cmd_ended_clear(&ended);
    assert_false(
        cmd_ended_read(options, "j", "2026-11-26T21:34:22Z", &ended)); /* an earlier run's */
    assert_false(cmd_ended_read(options, "other", "", &ended));
    assert_true(tow_options_set(options, "listen", "127.0.0.1:10", &error));
    assert_false(shows_ended(options, NULL, &status)); /* another process's job */
    unlink(path);
    rmdir(folder);
    free(path);
    tow_options_destroy(options);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_cutover_is_shown),
        cmocka_unit_test(json_is_the_object_itself),
        cmocka_unit_test(a_job_that_has_ended_is_read_where_nobody_listens),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
