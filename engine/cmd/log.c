/* log.c: one event a line on stderr, or in the file of --log-path. */
#include <bson/bson.h>
#include <errno.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

#include "engine/cmd/cmd.h"

static const char *const levels[] = {"debug", "info", "warning", "error"};

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
    log->file = stderr;
    if (folder) {
        snprintf(path, sizeof path, "%s/towline.log", folder);
        log->file = fopen(path, "ae");
        if (!log->file) {
            error->code = TOW_ERROR_OPTION;
            snprintf(error->message, sizeof error->message,
                     "--log-path: cannot write %.600s: %s; give a folder that exists", path,
                     strerror(errno));
            return false;
        }
        setvbuf(log->file, NULL, _IOLBF, 0);
    }
    return true;
}

/* Bytes that are not UTF-8, as of a message that was cut where its room ended, are shown as \ufffd. */
static void print_json_string(FILE *out, const char *text)
{
    putc('"', out);
    while (*text) {
        unsigned char c = (unsigned char)*text;
        size_t length = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;

        if (c < 0x20 || c == '"' || c == '\\') {
            fprintf(out, c < 0x20 ? "\\u%04x" : "\\%c", c);
        } else if (strnlen(text, length) == length && bson_utf8_validate(text, length, false)) {
            fwrite(text, 1, length, out);
        } else {
            fputs("\\ufffd", out);
            length = 1;
        }
        text += length;
    }
    putc('"', out);
}

void cmd_log_event(void *data, tow_level_t level, const char *name, const char *message)
{
    const cmd_log_t *log = data;
    FILE *out = log->file;
    struct timeval now;
    struct tm parts;
    char stamp[40];

    if (level < log->least)
        return;
    gettimeofday(&now, NULL);
    gmtime_r(&now.tv_sec, &parts);
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &parts);
    flockfile(out);
    if (log->json) {
        fprintf(out, "{\"time\":\"%s.%03dZ\",\"level\":\"%s\",\"event\":\"%s\",\"message\":",
                stamp, (int)(now.tv_usec / 1000), levels[level], name);
        print_json_string(out, message);
        fputs("}\n", out);
    } else {
        fprintf(out, "%s.%03dZ %-7s %s: %s\n", stamp, (int)(now.tv_usec / 1000), levels[level],
                name, message);
    }
    funlockfile(out);
}
