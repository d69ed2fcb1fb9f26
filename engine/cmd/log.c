/* log.c: one event a line on stderr. */
#include <string.h>
#include <sys/time.h>
#include <time.h>

#include "engine/cmd/cmd.h"

static const char *const levels[] = {"debug", "info", "warning", "error"};

void cmd_log_open(cmd_log_t *log, const tow_options_t *options)
{
    const char *level = tow_options_get(options, "log-level", 0);

    log->json = !strcmp(tow_options_get(options, "log-format", 0), "json");
    log->least = TOW_LEVEL_INFO;
    for (int i = 0; i <= TOW_LEVEL_ERROR; i++)
        if (!strcmp(level, levels[i]))
            log->least = (tow_level_t)i;
}

static void print_json_string(const char *text)
{
    putc('"', stderr);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            fprintf(stderr, "\\%c", *text);
        else if ((unsigned char)*text < 0x20)
            fprintf(stderr, "\\u%04x", (unsigned char)*text);
        else
            putc(*text, stderr);
    }
    putc('"', stderr);
}

void cmd_log_event(void *data, tow_level_t level, const char *name, const char *message)
{
    const cmd_log_t *log = data;
    struct timeval now;
    struct tm parts;
    char stamp[40];

    if (level < log->least)
        return;
    gettimeofday(&now, NULL);
    gmtime_r(&now.tv_sec, &parts);
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &parts);
    flockfile(stderr);
    if (log->json) {
        fprintf(stderr, "{\"time\":\"%s.%03dZ\",\"level\":\"%s\",\"event\":\"%s\",\"message\":",
                stamp, (int)(now.tv_usec / 1000), levels[level], name);
        print_json_string(message);
        fputs("}\n", stderr);
    } else {
        fprintf(stderr, "%s.%03dZ %-7s %s: %s\n", stamp, (int)(now.tv_usec / 1000), levels[level],
                name, message);
    }
    funlockfile(stderr);
}
