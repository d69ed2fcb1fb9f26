/* verify.c: compares two deployments on their own, and with --repair makes them equal. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/cmd/cmd.h"

enum { REDRAW_MS = 200, LINE_MS = 1000 };

typedef struct {
    cmd_log_t log;
    bool json, terminal;
} view_t;

static void show_event(void *data, tow_level_t level, const char *name, const char *message)
{
    cmd_log_event(&((view_t *)data)->log, level, name, message);
}

static void show_progress(void *data, uint64_t documents, uint64_t bytes, uint64_t total)
{
    const view_t *view = data;
    char done[32], all[32], size[32];

    if (view->json) {
        printf("{\"phase\":\"verifying\",\"verification\":{\"hashedDocumentCount\":%llu,"
               "\"hashedBytes\":%llu,\"estimatedDocumentCount\":%llu}}\n",
               (unsigned long long)documents, (unsigned long long)bytes,
               (unsigned long long)total);
    } else {
        printf("%scompared %s of %s documents, %s%s", view->terminal ? "\r\033[K" : "",
               cmd_count((double)documents, done), cmd_count((double)total, all),
               cmd_bytes((double)bytes, size), view->terminal ? "" : "\n");
    }
    fflush(stdout);
}

int cmd_verify(tow_options_t *options)
{
    const char *path = tow_options_get(options, "report", 0);
    const char *form = tow_options_get(options, "progress", 0);
    view_t view = {.json = !strcmp(form, "json"), .terminal = isatty(STDOUT_FILENO)};
    tow_verify_watch_t watch = {.data = &view,
                                .event = show_event,
                                .progress = strcmp(form, "none") ? show_progress : NULL,
                                .progress_ms = view.terminal ? REDRAW_MS : LINE_MS};
    char *report = NULL;
    tow_error_t error, write_error;
    int status = 0;

    if (!cmd_log_open(&view.log, options, &error))
        return cmd_fail(&error);
    if (!tow_verify_watched(options, &watch, &report, &error))
        status = (int)error.code;
    if (watch.progress && !view.json && view.terminal)
        printf("\r\033[K");
    if (report) {
        if (!view.json)
            cmd_print_report(report);
        if (path && !cmd_write_file(path, report, &write_error) && !status)
            status = cmd_fail(&write_error);
        fflush(stdout);
    }
    tow_free(report);
    if (status && error.message[0])
        cmd_fail(&error);
    return status;
}
