/* SPDX-License-Identifier: Apache-2.0 */
/* The log when nobody reads it: whoever has an event goes on, and what was lost is counted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/cmd/cells.c"
#include "engine/cmd/log.c"
#include "engine/cmd/output.c"
#include "engine/cmd/screen.c"

enum { EVENTS = 60000 };

static char path[] = "/tmp/towline-log-XXXXXX";

static void open_log(cmd_log_t *log, const char *format)
{
    tow_options_t *options = tow_options_new();
    tow_error_t error;

    assert_true(tow_options_set(options, "log-path", path, &error));
    assert_true(tow_options_set(options, "log-format", format, &error));
    assert_true(cmd_log_open(log, options, &error));
    tow_options_destroy(options);
}

static void end(cmd_log_t *log)
{
    pthread_mutex_lock(&log->lock);
    log->ending = true;
    pthread_cond_broadcast(&log->changed);
    pthread_mutex_unlock(&log->lock);
    tow_thread_join(&log->writer);
    tow_buffer_free(&log->waiting);
}

static void names_forge_no_lines(void **state)
{
    static cmd_log_t text, json;
    char read_back[1024] = "", *file_path;
    FILE *file;

    assert_non_null(mkdtemp(path));
    open_log(&text, "text");
    cmd_log_event(&text, TOW_LEVEL_INFO, "ddl", "shop.x\033[31m\n2026 info phase: done");
    cmd_log_finish(&text);
    open_log(&json, "json");
    cmd_log_event(&json, TOW_LEVEL_INFO, "ddl", "shop.x\302\233\"\n");
    cmd_log_finish(&json);
    file_path = tow_format("%s/towline.log", path);
    file = fopen(file_path, "r");
    assert_non_null(file);
    assert_true(fread(read_back, 1, sizeof read_back - 1, file) > 0);
    fclose(file);
    assert_non_null(strstr(read_back, " info    ddl: shop.x\\x1b[31m\\x0a2026 info phase: done\n"));
    assert_non_null(strstr(read_back, "\"message\":\"shop.x\\u009b\\\"\\u000a\"}\n"));
    end(&text);
    end(&json);
    unlink(file_path);
    rmdir(path);
    free(file_path);
}

/* Reads until nothing came for a while: the lines of events, besides those that say how many were
 * lost. */
static size_t count_lines(int file, unsigned long long *out_lost)
{
    struct pollfd look = {.fd = file, .events = POLLIN};
    tow_buffer_t all = {0};
    static char piece[65536];
    size_t lines = 0;
    ssize_t length;
    char *line, *rest;

    while (poll(&look, 1, 500) > 0 && (length = read(file, piece, sizeof piece)) > 0)
        tow_buffer_append(&all, piece, (size_t)length);
    tow_buffer_append(&all, "", 1);
    rest = (char *)all.data;
    while ((line = strsep(&rest, "\n")) && rest)
        if (strstr(line, "log_lost: "))
            *out_lost += strtoull(strstr(line, "log_lost: ") + 10, NULL, 10);
        else
            lines++;
    tow_buffer_free(&all);
    return lines;
}

static void a_log_that_nobody_reads_holds_up_nobody(void **state)
{
    static cmd_log_t log;
    unsigned long long lost = 0;
    int64_t began_ms;
    int ends[2], stderr_before = dup(STDERR_FILENO);

    assert_int_equal(pipe(ends), 0);
    assert_int_equal(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
    log.file = ends[1];
    pthread_mutex_init(&log.lock, NULL);
    tow_condition_init(&log.changed);
    assert_true(tow_thread_start(&log.writer, "log", write_lines, &log, NULL));
    for (int i = 0; i < EVENTS; i++)
        cmd_log_event(&log, TOW_LEVEL_WARNING, "event",
                      "one of very many that nobody reads, with some words");
    began_ms = tow_now_ms();
    cmd_log_finish(&log); /* gives up */
    assert_true(cmd_is_blocked(ends[1]));
    cmd_say("the last word does not wait for long, either");
    assert_int_equal(dup2(stderr_before, STDERR_FILENO), STDERR_FILENO);
    assert_in_range(tow_now_ms() - began_ms, 0, 10000);
    pthread_mutex_lock(&log.lock);
    assert_true(log.waiting.length <= WAITING_MOST);
    pthread_mutex_unlock(&log.lock);
    assert_int_equal(count_lines(ends[0], &lost) + lost, EVENTS);
    assert_true(lost > 0);
    cmd_log_event(&log, TOW_LEVEL_WARNING, "event", "after that it goes on");
    assert_int_equal(count_lines(ends[0], &lost), 1);
    end(&log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(names_forge_no_lines),
                                       cmocka_unit_test(a_log_that_nobody_reads_holds_up_nobody)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
