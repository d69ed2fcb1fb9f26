/* verify.c: compares two deployments on their own, and with --repair makes them equal. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/json.h"
#include "engine/base/text.h"
#include "engine/cmd/cmd.h"

enum { REDRAW_MS = 200, LINE_MS = 1000 };

typedef struct {
    cmd_log_t log;
    bool json, quiet, terminal, progress;
    const char *file; /* for the report; NULL: none */
    bool unwritten;
    tow_error_t error; /* when it could not be written */
} view_t;

static void show_event(void *data, tow_level_t level, const char *name, const char *message)
{
    cmd_log_event(&((view_t *)data)->log, level, name, message);
}

static void print_progress(uint64_t documents, uint64_t bytes, uint64_t total)
{
    tow_json_t out = {0};
    char *line;

    tow_json_begin(&out, NULL);
    tow_json_put_text(&out, "phase", "verifying");
    tow_json_begin(&out, "verification");
    tow_json_put_count(&out, "hashedDocumentCount", documents);
    tow_json_put_count(&out, "hashedBytes", bytes);
    tow_json_put_count(&out, "estimatedDocumentCount", total);
    tow_json_end(&out);
    tow_json_end(&out);
    line = tow_json_take_line(&out);
    fputs(line, stdout);
    free(line);
}

static void show_progress(void *data, uint64_t documents, uint64_t bytes, uint64_t total)
{
    const view_t *view = data;
    char done[32], all[32], size[32];

    if (view->json) {
        print_progress(documents, bytes, total);
    } else {
        printf("%scompared %s of %s documents, %s%s", view->terminal ? "\r\033[K" : "",
               cmd_count((double)documents, done), cmd_count((double)total, all),
               tow_bytes_text((double)bytes, size), view->terminal ? "" : "\n");
    }
    fflush(stdout);
}

static void clear_line(const view_t *view)
{
    if (view->progress && !view->json && view->terminal)
        printf("\r\033[K");
}

static void show_report(void *data, const char *report)
{
    view_t *view = data;

    clear_line(view);
    if (!view->json && !view->quiet)
        cmd_print_report(report);
    fflush(stdout);
    view->unwritten = view->file && !cmd_write_file(view->file, report, &view->error);
}

int cmd_verify(tow_options_t *options)
{
    const char *form = tow_options_get(options, "progress", 0);
    static view_t view;
    tow_verify_watch_t watch = {.data = &view, .event = show_event, .report = show_report};
    char *report = NULL;
    tow_error_t error;
    int status = 0;

    view.json = !strcmp(form, "json");
    view.quiet = !strcmp(tow_options_get(options, "quiet", 0), "true");
    view.terminal = isatty(STDOUT_FILENO);
    view.progress = strcmp(form, "none") != 0;
    view.file = tow_options_get(options, "report", 0);
    watch.progress = view.progress ? show_progress : NULL;
    watch.progress_ms = view.terminal ? REDRAW_MS : LINE_MS;
    if (!cmd_log_open(&view.log, options, &error))
        return cmd_fail(&error);
    if (!tow_verify_watched(options, &watch, &report, &error)) {
        if (!report)
            clear_line(&view);
        fflush(stdout);
        cmd_log_finish(&view.log);
        status = cmd_fail(&error);
    }
    cmd_log_finish(&view.log);
    tow_free(report);
    if (view.unwritten) {
        cmd_fail(&view.error);
        status = status ? status : (int)view.error.code;
    }
    return status;
}
