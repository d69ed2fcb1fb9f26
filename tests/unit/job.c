/* SPDX-License-Identifier: Apache-2.0 */
/* What may be asked of a job, and when: one that talks to no server, moved by hand. */
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/base/clock.h"
#include "engine/base/json.h"
#include "engine/job/internal.h"

static tow_job_t *make_job(const char *cutover)
{
    tow_options_t *options = tow_options_new();
    tow_error_t error;
    tow_job_t *job;

    assert_true(tow_options_set(options, "source", "mongodb://127.0.0.1:1/", &error));
    assert_true(tow_options_set(options, "destination", "mongodb://127.0.0.1:2/", &error));
    assert_true(tow_options_set(options, "cutover", cutover, &error));
    job = tow_job_new(options, &error);
    assert_non_null(job);
    tow_options_destroy(options);
    return job;
}

static tow_job_t *job_in_sync(void)
{
    tow_job_t *job = make_job("manual");

    job->control.started = true;
    for (int phase = TOW_PHASE_VALIDATING; phase <= TOW_PHASE_IN_SYNC; phase++)
        tow_job_move(job, (tow_phase_t)phase);
    atomic_store(&job->flow.synced_once, true);
    job->flow.lag_ms = 0;
    return job;
}

static void refuses_all(tow_job_t *job, const char *why)
{
    tow_error_t error;

    assert_false(tow_job_cutover(job, &error));
    assert_int_equal(error.code, TOW_ERROR_STATE);
    assert_non_null(strstr(error.message, why));
    assert_false(tow_job_pause(job, &error));
    assert_int_equal(error.code, TOW_ERROR_STATE);
    assert_false(tow_job_extend(job, 3600, &error));
    assert_int_equal(error.code, TOW_ERROR_STATE);
    job->control.pause_wished = true; /* it was paused before */
    assert_false(tow_job_resume(job, &error));
    assert_int_equal(error.code, TOW_ERROR_STATE);
    assert_non_null(strstr(error.message, why));
    tow_job_destroy(job);
}

/* What is answered with success is done. */
static void a_job_whose_end_is_decided_takes_no_requests(void **state)
{
    tow_error_t error;
    tow_job_t *job = job_in_sync();

    assert_true(tow_job_cancel(job, &error));
    refuses_all(job, "about to end");
    job = job_in_sync();
    tow_job_stop(job);
    refuses_all(job, "about to end");
    job = job_in_sync();
    job->control.expired = true;
    refuses_all(job, "about to end");
    job = job_in_sync();
    job->control.closed = true;
    refuses_all(job, "about to end");
    job = job_in_sync();
    tow_job_move(job, TOW_PHASE_FAILED);
    refuses_all(job, "failed");
    job = job_in_sync();
    assert_true(tow_job_cutover(job, &error));
    tow_job_destroy(job);
}

static void refuses_to_call_off(tow_job_t *job, const char *why)
{
    tow_error_t error;

    assert_false(tow_job_call_off(job, &error));
    assert_int_equal(error.code, TOW_ERROR_STATE);
    assert_non_null(strstr(error.message, why));
}

static void a_cutover_is_called_off_until_its_point_of_no_return(void **state)
{
    tow_job_t *job = job_in_sync();
    tow_error_t error = {0};
    char *json = tow_job_progress_json(job);

    assert_non_null(strstr(json, "\"lastAttempt\":null"));
    assert_non_null(strstr(json, "\"exitStatus\":null"));
    free(json);
    refuses_to_call_off(job, "no cutover");
    assert_true(tow_job_cutover(job, &error));
    assert_true(tow_job_call_off(job, &error)); /* before it began */
    assert_false(tow_job_interrupted(job));     /* the job itself goes on */
    assert_true(job->control.waits_for_word);
    tow_job_forget_cutover(job);
    assert_int_equal(job->control.step, TOW_CUTOVER_NONE);
    assert_int_equal(job->control.called_off, 1);
    json = tow_job_progress_json(job);
    assert_non_null(strstr(json, "\"lastAttempt\":{\"confirmedAt\":\"20"));
    assert_non_null(strstr(json, "\"reason\":\"it was asked for"));
    assert_non_null(strstr(json, "then: towline cutover --wait\""));
    free(json);
    refuses_to_call_off(job, "no cutover");
    assert_true(tow_job_cutover(job, &error));
    assert_false(job->control.waits_for_word);
    tow_job_move(job, TOW_PHASE_FINALIZING);
    assert_false(tow_job_interrupted(job));
    job->control.committed = true;
    refuses_to_call_off(job, "point of no return");
    job->control.committed = false;
    assert_true(tow_job_call_off(job, &error));
    assert_true(tow_job_call_off(job, &error)); /* it is being called off */
    assert_true(tow_job_interrupted(job));
    assert_false(tow_job_stopped(job, &error));
    assert_int_equal(error.code, TOW_ERROR_CALLED_OFF);
    tow_job_stop(job);
    assert_false(
        tow_job_stopped(job, &error)); /* the job is stopped, whatever becomes of the cutover */
    assert_int_equal(error.code, TOW_ERROR_INTERRUPTED);
    refuses_to_call_off(job, "about to end");
    tow_job_destroy(job);
}

/* The text of a file; "" when it is not there, NULL when others may read it. */
static const char *private_text(const char *path)
{
    static char text[8192];
    FILE *file = fopen(path, "r");
    struct stat facts;

    text[0] = '\0';
    if (!file)
        return text;
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fstat(fileno(file), &facts);
    fclose(file);
    return facts.st_mode & 077 ? NULL : text;
}

static void a_job_leaves_how_it_ended(void **state)
{
    char folder[] = "/tmp/towline-ended-XXXXXX", *path;
    tow_job_t *job = job_in_sync();

    assert_non_null(mkdtemp(folder));
    path = tow_format("%s/towline-default.ended", folder);
    free(job->config.spool);
    job->config.spool = tow_strdup(folder);
    tow_fail(&job->outcome.error, TOW_ERROR_LEASE, "another process holds it");
    tow_job_leave_end(job);
    assert_string_equal(private_text(path), ""); /* it goes on elsewhere */
    tow_fail(&job->outcome.error, TOW_ERROR_VERIFY, "both sides differ");
    pthread_mutex_lock(&job->control.lock);
    tow_job_make_summary(job, TOW_PHASE_FAILED);
    pthread_mutex_unlock(&job->control.lock);
    tow_job_leave_end(job);
    assert_non_null(
        strstr(private_text(path), "\"exitStatus\":12,\"summary\":{\"state\":\"failed\""));
    assert_non_null(strstr(private_text(path), "\"listen\":\"127.0.0.1:27182\""));
    tow_job_remove_end(job);
    assert_string_equal(private_text(path), "");
    rmdir(folder);
    tow_job_leave_end(job); /* the folder is not made for it, and that is no trouble */
    assert_string_equal(private_text(path), "");
    free(path);
    tow_job_destroy(job);
}

static bool restore(tow_job_t *job, int64_t start_ms, int64_t extra_ms)
{
    bson_t *document =
        BCON_NEW("windowStart", BCON_DATE_TIME(start_ms), "windowExtraMs", BCON_INT64(extra_ms));
    tow_error_t error;
    bool ok = tow_job_restore_window(job, document, &error);

    bson_destroy(document);
    return ok;
}

/* Before the state is opened, which waits for the lease of a process that was killed, too. */
static void an_extension_before_the_state_is_read_is_kept(void **state)
{
    const int64_t hour_ms = 3600000, length_ms = 120 * hour_ms;
    tow_progress_t progress;
    tow_error_t error;
    tow_job_t *job = make_job("manual");

    assert_true(tow_job_extend(job, 3600, &error));
    assert_true(restore(job, tow_wall_ms() - hour_ms, 2 * hour_ms));
    tow_job_progress(job, &progress);
    assert_int_equal(progress.window_length_ms, length_ms + 3 * hour_ms);
    tow_job_destroy(job);
    job = make_job("manual"); /* whose window was over */
    assert_true(tow_job_extend(job, 3600, &error));
    assert_true(restore(job, tow_wall_ms() - 2 * length_ms, 0));
    tow_job_progress(job, &progress);
    assert_in_range(progress.window_left_ms, hour_ms - 60000, hour_ms);
    tow_job_destroy(job);
    job = make_job("manual");
    assert_false(restore(job, tow_wall_ms() - 2 * length_ms, 0));
    tow_job_destroy(job);
}

static void extend_again(void *data, tow_level_t level, const char *name, const char *message)
{
    tow_job_t **job = data, *asked = *job;
    tow_progress_t progress;
    tow_error_t error;

    *job = NULL; /* once */
    if (asked) {
        tow_job_progress(asked, &progress);
        assert_true(tow_job_extend(asked, 3600, &error));
    }
}

/* As one does who is told that the window is nearly over. */
static void a_listener_may_ask_the_job(void **state)
{
    tow_job_t *job = make_job("manual"), *again = job;
    tow_progress_t progress;
    tow_error_t error;

    tow_job_on_event(job, extend_again, &again);
    assert_true(tow_job_extend(job, 3600, &error));
    tow_job_progress(job, &progress);
    assert_int_equal(progress.window_length_ms, 122 * INT64_C(3600000));
    tow_job_destroy(job);
}

static void assert_json(const char *json)
{
    bson_error_t error;
    bson_t *document = bson_new_from_json((const uint8_t *)json, -1, &error);

    if (!document)
        fail_msg("%s: %s", error.message, json);
    bson_destroy(document);
}

/* A message is cut where its room ends, which may be within a letter; its JSON is read by programs,
 * the verbs among them. */
static void a_message_that_was_cut_is_json_all_the_same(void **state)
{
    tow_job_t *job = make_job("manual");
    char *progress, *text;

    for (size_t i = 0; i < 4; i++) {
        char ns[1200];
        size_t length = i;

        memset(ns, 'x', i);
        for (; length + 3 < sizeof ns; length += 3)
            memcpy(ns + length, "\xe2\x82\xac", 3);
        ns[length] = '\0';
        tow_fail(&job->outcome.error, TOW_ERROR_SERVER, "source: %s", ns);
        snprintf(job->outcome.reason, sizeof job->outcome.reason, "%.*s", REASON_SIZE - 1,
                 job->outcome.error.message);
        progress = tow_job_progress_json(job);
        assert_json(progress);
        tow_free(progress);
        tow_job_make_summary(job, TOW_PHASE_FAILED);
        assert_json(job->outcome.summary_json);
        text = tow_json_text(job->outcome.error.message);
        progress = tow_format("{\"errorDescription\":%s}", text);
        assert_json(progress);
        free(progress);
        free(text);
    }
    text = tow_json_text("\"\\\n \xe2\x82\xac \xff\xc3");
    assert_string_equal(text, "\"\\\"\\\\\\u000a \xe2\x82\xac \\ufffd\\ufffd\"");
    free(text);
    tow_job_destroy(job);
}

/* German, made on the spot; false: this machine has no means to. */
static bool speak_german(char folder[])
{
    char *command;
    bool ok = mkdtemp(folder) != NULL;

    command = tow_format("localedef -i de_DE -f UTF-8 %s/de_DE.UTF-8 >/dev/null 2>&1", folder);
    ok = ok && system(command) == 0 && setenv("LOCPATH", folder, 1) == 0 &&
         setlocale(LC_NUMERIC, "de_DE.UTF-8");
    free(command);
    return ok;
}

/* Programs that embed the library have a locale, and with it a comma in their numbers. */
static void json_knows_no_locale(void **state)
{
    char folder[] = "/tmp/towline-locale-XXXXXX", number[8], *json, *command;
    bool german = speak_german(folder);
    tow_verify_report_t *report;
    tow_job_t *job;

    if (german) {
        job = job_in_sync();
        snprintf(number, sizeof number, "%.1f", 1.5);
        assert_string_equal(number, "1,5");
        json = tow_job_progress_json(job);
        assert_json(json);
        assert_non_null(strstr(json, "\"elapsedSeconds\":0.000"));
        tow_free(json);
        tow_job_make_summary(job, TOW_PHASE_IN_SYNC);
        assert_json(job->outcome.summary_json);
        report = tow_alloc(sizeof *report);
        json = tow_verify_report_json(report);
        assert_json(json);
        free(json);
        free(report);
        snprintf(number, sizeof number, "%.1f", 1.5);
        assert_string_equal(number, "1,5"); /* the program's own are as they were */
        setlocale(LC_NUMERIC, "C");
        tow_job_destroy(job);
    }
    command = tow_format("rm -r %s", folder);
    assert_int_equal(system(command), 0);
    free(command);
    if (!german)
        skip();
}

static char warned[1000];

static void keep_warning(void *data, tow_level_t level, const char *name, const char *message)
{
    if (level == TOW_LEVEL_WARNING)
        snprintf(warned, sizeof warned, "%s: %s", name, message);
}

static tow_job_t *job_between(const char *source, const char *destination_option,
                              const char *destination)
{
    tow_options_t *options = tow_options_new();
    tow_error_t error;
    tow_job_t *job;

    assert_true(tow_options_set(options, "source", source, &error));
    assert_true(tow_options_set(options, destination_option, destination, &error));
    job = tow_job_new(options, &error);
    assert_non_null(job);
    tow_job_on_event(job, keep_warning, NULL);
    tow_options_destroy(options);
    return job;
}

static void starts_not(tow_job_t *job, const char *message)
{
    tow_error_t error;

    assert_false(tow_job_start(job, &error));
    assert_int_equal(error.code, TOW_ERROR_OPTION);
    assert_non_null(strstr(error.message, message));
    assert_false(job->threads.supervisor.started); /* nothing was dialled */
    tow_job_destroy(job);
}

static void both_uris_are_read_before_anything_is_dialled(void **state)
{
    static const char *const fine = "mongodb://127.0.0.1:1/";
    char path[] = "/tmp/towline-uri-XXXXXX";
    int file = mkstemp(path);

    tow_take_driver_log();
    starts_not(job_between("mongodb://h:99999/", "destination", fine),
               "--source: the URI of the source is malformed: port 99999");
    starts_not(job_between(fine, "destination", "mongodb://h/?ssll=true"),
               "--destination: the URI of the destination has an unknown option, ssll");
    assert_string_equal(warned, "");
    assert_int_equal(dprintf(file, "mongodb://h/?tls=maybe\n"), 23);
    starts_not(job_between("mongodb://h/?timeoutMS=5", "destination-file", path),
               "--destination-file: the URI of the");
    assert_string_equal(warned, "uri: --source: unknown option timeoutMS is ignored");
    close(file);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_job_whose_end_is_decided_takes_no_requests),
        cmocka_unit_test(a_cutover_is_called_off_until_its_point_of_no_return),
        cmocka_unit_test(a_job_leaves_how_it_ended),
        cmocka_unit_test(an_extension_before_the_state_is_read_is_kept),
        cmocka_unit_test(a_listener_may_ask_the_job),
        cmocka_unit_test(a_message_that_was_cut_is_json_all_the_same),
        cmocka_unit_test(json_knows_no_locale),
        cmocka_unit_test(both_uris_are_read_before_anything_is_dialled),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
