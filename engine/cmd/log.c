/* SPDX-License-Identifier: Apache-2.0 */
/* log.c: one event a line on stderr, or in the file of --log-path.
 *
 * The job's threads only append to a bounded buffer. One thread writes, and whoever reads at its
 * own pace, or not at all (a stopped terminal, a frozen ssh, a stuck collector), holds up that
 * thread and nothing else; what does not fit is counted, and the log says how many lines are
 * missing. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/file.h"
#include "engine/base/json.h"
#include "engine/base/text.h"
#include "engine/cmd/cmd.h"
#include "engine/cmd/screen.h"

enum { WAITING_MOST = 4 * 1024 * 1024, GRACE_MS = 2000 };

static const char *const levels[] = {"debug", "info", "warning", "error"};

/* A line with or without the time; owned by the caller. */
static char *json_line(const char *time, const char *level, const char *name, const char *message)
{
    tow_json_t out = {0};

    tow_json_begin(&out, NULL);
    if (time)
        tow_json_put_text(&out, "time", time);
    tow_json_put_text(&out, "level", level);
    tow_json_put_text(&out, "event", name);
    tow_json_put_text(&out, "message", message);
    tow_json_end(&out);
    return tow_json_take_line(&out);
}

static char *text_line(const char *time, const char *level, const char *name, const char *message)
{
    char *shown = tow_printable(message);
    char *line = tow_format("%-24s %-7s %s: %s\n", time ? time : "", level, name, shown);

    free(shown);
    return line;
}

/* The lock is held. */
static void append_lost(cmd_log_t *log)
{
    char message[100], *line;

    if (!log->lost)
        return;
    snprintf(message, sizeof message, "%llu log lines were lost: they were not read fast enough",
             (unsigned long long)log->lost);
    line = (log->json ? json_line : text_line)(NULL, "warning", "log_lost", message);
    tow_buffer_append(&log->waiting, line, strlen(line));
    log->lost = 0;
    free(line);
}

static void *write_lines(void *data)
{
    cmd_log_t *log = data;
    tow_buffer_t taken = {0};

    pthread_mutex_lock(&log->lock);
    for (;;) {
        while (!log->waiting.length && !log->ending)
            pthread_cond_wait(&log->changed, &log->lock);
        if (!log->waiting.length)
            break;
        taken = log->waiting;
        log->waiting = (tow_buffer_t){0};
        append_lost(log);
        log->writing = true;
        pthread_mutex_unlock(&log->lock);
        if (!cmd_screen_above(log->file, (const char *)taken.data, taken.length))
            cmd_write(log->file, taken.data, taken.length, -1);
        tow_buffer_free(&taken);
        pthread_mutex_lock(&log->lock);
        log->writing = false;
        pthread_cond_broadcast(&log->changed);
    }
    pthread_mutex_unlock(&log->lock);
    return NULL;
}

bool cmd_log_open(cmd_log_t *log, const tow_options_t *options, tow_error_t *error)
{
    const char *level = tow_options_get(options, "log-level", 0);
    const char *folder = tow_options_get(options, "log-path", 0);
    char path[4096];

    log->json = !strcmp(tow_options_get(options, "log-format", 0), "json");
    log->least = TOW_LEVEL_INFO;
    for (int i = 0; i <= TOW_LEVEL_ERROR; i++)
        if (!strcmp(level, levels[i]))
            log->least = (tow_level_t)i;
    log->file = STDERR_FILENO;
    if (folder) {
        snprintf(path, sizeof path, "%s/towline.log", folder);
        log->file = tow_file_open(path, O_WRONLY | O_APPEND | O_CREAT);
        if (log->file < 0)
            return tow_fail_errno(
                error, TOW_ERROR_OPTION,
                "--log-path: cannot write '%.600s'; give a folder of your own that exists", path);
    }
    pthread_mutex_init(&log->lock, NULL);
    tow_condition_init(&log->changed);
    return tow_thread_start(&log->writer, "log", write_lines, log, error);
}

static char *format_line(const cmd_log_t *log, tow_level_t level, const char *name,
                         const char *message)
{
    struct timeval now;
    struct tm parts;
    char second[40], time[48];

    gettimeofday(&now, NULL);
    gmtime_r(&now.tv_sec, &parts);
    strftime(second, sizeof second, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(time, sizeof time, "%s.%03dZ", second, (int)(now.tv_usec / 1000));
    return (log->json ? json_line : text_line)(time, levels[level], name, message);
}

void cmd_log_event(void *data, tow_level_t level, const char *name, const char *message)
{
    cmd_log_t *log = data;
    size_t length;
    char *line;

    if (level < log->least)
        return;
    line = format_line(log, level, name, message);
    length = strlen(line);
    pthread_mutex_lock(&log->lock);
    if (log->waiting.length + length > WAITING_MOST)
        log->lost++;
    else
        tow_buffer_append(&log->waiting, line, length);
    pthread_cond_broadcast(&log->changed);
    pthread_mutex_unlock(&log->lock);
    free(line);
}

void cmd_log_finish(cmd_log_t *log)
{
    int64_t until_ms = tow_now_ms() + GRACE_MS;

    pthread_mutex_lock(&log->lock);
    while (log->waiting.length || log->writing)
        if (!tow_condition_wait(&log->changed, &log->lock, until_ms))
            break;
    pthread_mutex_unlock(&log->lock);
}
