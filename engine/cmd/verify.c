/* SPDX-License-Identifier: Apache-2.0 */
/* verify.c: compares two deployments on their own, and with --repair makes them equal. */
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/base/json.h"
#include "engine/base/text.h"
#include "engine/cmd/cells.h"
#include "engine/cmd/cmd.h"
#include "engine/cmd/screen.h"

enum { REDRAW_MS = 200, LINE_MS = 1000, PLAIN_LINE_MS = 10000 };

typedef struct {
    cmd_log_t log;
    bool json, whole_json, quiet, terminal;
    int64_t next_ms;  /* when the next line is due where there is no terminal */
    const char *file; /* for the report; NULL: none */
    int room;         /* on the disk, for that */
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

/* As the block, of one line; the log goes above it. */
static void draw(const char *line)
{
    tow_buffer_t block = {0};
    size_t columns, rows;

    cmd_screen_size(&columns, &rows);
    cmd_fit(&block, line, columns - 1, false);
    tow_buffer_append(&block, "\n", 2);
    cmd_screen_draw((const char *)block.data);
    tow_buffer_free(&block);
}

static void show_progress(void *data, uint64_t documents, uint64_t bytes, uint64_t total)
{
    view_t *view = data;
    char done[32], all[32], size[32], *line;

    if (view->json) {
        print_progress(documents, bytes, total);
        fflush(stdout);
        return;
    }
    line = tow_format("compared   %s of %s documents, %s", cmd_count((double)documents, done),
                      cmd_count((double)total, all), tow_bytes_text((double)bytes, size));
    if (view->terminal) {
        draw(line);
    } else if (tow_now_ms() >= view->next_ms) {
        puts(line);
        fflush(stdout);
        view->next_ms = tow_now_ms() + PLAIN_LINE_MS;
    }
    free(line);
}

static void print_as_json(const char *report)
{
    char *line = tow_format("{\"report\":%s}", report);

    cmd_print_json(line);
    free(line);
}

static void show_report(void *data, const char *report)
{
    view_t *view = data;

    cmd_screen_end();
    if (view->whole_json)
        print_as_json(report);
    else if (!view->json && !view->quiet)
        cmd_print_report(report);
    fflush(stdout);
    cmd_free_room(view->room);
    view->room = -1;
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
    view.whole_json = cmd_is_on(options, "json");
    view.quiet = cmd_is_on(options, "quiet");
    view.terminal = !strcmp(form, "bar") && cmd_screen_begin();
    view.file = tow_options_get(options, "report", 0);
    watch.progress = strcmp(form, "none") != 0 ? show_progress : NULL;
    watch.progress_ms = view.terminal ? REDRAW_MS : LINE_MS;
    if (!cmd_log_open(&view.log, options, &error) || !cmd_take_room(view.file, &view.room, &error))
        return cmd_fail(&error);
    if (!tow_verify_watched(options, &watch, &report, &error)) {
        cmd_screen_end();
        fflush(stdout);
        cmd_log_finish(&view.log);
        status = cmd_fail(&error);
    }
    cmd_log_finish(&view.log);
    tow_free(report);
    if (view.unwritten) {
        cmd_fail(&view.error);
        status = status ? status : TOW_ERROR_OUTPUT;
    }
    return status;
}
