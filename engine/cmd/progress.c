/* SPDX-License-Identifier: Apache-2.0 */
/* progress.c: shows a job while it runs: a block on a terminal, lines elsewhere, or JSON. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/cmd/cells.h"
#include "engine/cmd/cmd.h"
#include "engine/cmd/screen.h"
#include "engine/cmd/view.h"

enum {
    REDRAW_MS = 200, /* also after the terminal changed its size */
    LINE_MS = 1000,
    PLAIN_LINE_MS = 10000,
    LISTED_MOST = 1000 /* collections that are looked at */
};

/* The job as it is now, for cmd_view_*; what it borrows is in the two documents. */
static cmd_view_t look(tow_job_t *job, bson_t **progress, bson_t **collections)
{
    char *json = tow_job_progress_json(job), *wrapped = tow_format("{\"progress\":%s}", json);
    cmd_view_t view = {0};

    view.progress = *progress = cmd_document(wrapped);
    free(wrapped);
    tow_free(json);
    if (collections) {
        json = tow_job_collections_json(job, LISTED_MOST);
        view.collections = *collections = cmd_document(json);
        tow_free(json);
    }
    return view;
}

void cmd_draw(cmd_view_t *view, cmd_rate_t *rate)
{
    char now[32], *block;

    cmd_rate_update(rate, view->progress);
    cmd_screen_size(&view->columns, &view->rows);
    tow_wall_text(tow_wall_ms(), now);
    view->now = now;
    view->bytes_per_second = rate->rate;
    view->colour = cmd_has_colours(STDOUT_FILENO);
    block = cmd_view_block(view);
    cmd_screen_draw(block);
    free(block);
}

/* On a terminal; the log goes above it. */
static void show_block(tow_job_t *job)
{
    bson_t *progress, *collections = NULL;
    cmd_rate_t rate = {0};
    int64_t listed_ms = 0;

    while (!tow_job_ended(job, REDRAW_MS)) {
        bool lists = tow_now_ms() >= listed_ms + LINE_MS;
        cmd_view_t view;

        if (lists) {
            bson_destroy(collections);
            listed_ms = tow_now_ms();
        }
        view = look(job, &progress, lists ? &collections : NULL);
        view.collections = collections;
        cmd_draw(&view, &rate);
        bson_destroy(progress);
    }
    bson_destroy(collections);
    cmd_screen_end();
}

static void show_lines(tow_job_t *job)
{
    cmd_rate_t rate = {0};
    bson_t *progress;

    while (!tow_job_ended(job, PLAIN_LINE_MS)) {
        cmd_view_t view = look(job, &progress, NULL);
        char *line;

        cmd_rate_update(&rate, progress);
        view.bytes_per_second = rate.rate;
        line = cmd_view_line(&view);
        printf("%8.1f s  %s\n", cmd_number_of(progress, "progress.elapsedSeconds"), line);
        fflush(stdout);
        free(line);
        bson_destroy(progress);
    }
}

static void show_json(tow_job_t *job)
{
    bool ended;

    do {
        char *json;

        ended = tow_job_ended(job, LINE_MS);
        json = tow_job_progress_json(job);
        cmd_print_json(json);
        fflush(stdout);
        tow_free(json);
    } while (!ended);
}

void cmd_show_progress(tow_job_t *job, const char *form)
{
    if (!strcmp(form, "bar") && cmd_screen_begin())
        show_block(job);
    else if (!strcmp(form, "bar"))
        show_lines(job);
    else if (!strcmp(form, "json"))
        show_json(job);
    else
        while (!tow_job_ended(job, 60000))
            ;
}
