/* SPDX-License-Identifier: Apache-2.0 */
/* status.c: the verb that shows a running job. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/text.h"
#include "engine/cmd/cells.h"
#include "engine/cmd/cmd.h"
#include "engine/cmd/ended.h"
#include "engine/cmd/json.h"
#include "engine/cmd/request.h"
#include "engine/cmd/screen.h"
#include "engine/cmd/view.h"
#include "engine/cmd/waiting.h"

enum { PLAIN_MS = 10000 };

static void print_cutover(const bson_t *document, const char *step)
{
    double seconds = cmd_number_of(document, "progress.cutover.estimatedSeconds");
    double late = cmd_number_of(document, "progress.cutover.lateWrites");
    char text[32];

    fputs("cutover      ", stdout);
    fputs(step, stdout);
    if (!strcmp(step, "finalizing"))
        printf(seconds < 0 ? ", not known yet for how long" : ", about %s left",
               cmd_duration(seconds, text));
    if (cmd_flag_of(document, "progress.cutover.writesBlocked"))
        printf(", writes to the source are blocked");
    if (late > 0)
        printf(", %s late writes", cmd_count(late, text));
    putchar('\n');
}

static void print_silence(const bson_t *document, const char *side, const char *field)
{
    double ms = cmd_number_of(document, field);
    char text[32];

    if (ms > 0)
        printf("%-12s has not answered for %s\n", side, cmd_duration(ms / 1000, text));
}

static void print_attempt(const bson_t *document)
{
    const char *at = cmd_text_of(document, "progress.cutover.lastAttempt.calledOffAt");
    double late = cmd_number_of(document, "progress.cutover.lastAttempt.lateWrites");
    char now[32], when[64], text[32];

    if (!*at)
        return;
    tow_wall_text(tow_wall_ms(), now);
    printf("last cutover called off at %s", cmd_moment(at, now, when));
    if (late > 0)
        printf(", %s write%s after the confirmation\n", cmd_count(late, text), late > 1 ? "s" : "");
    else
        printf(": %s\n", cmd_text_of(document, "progress.cutover.lastAttempt.reason"));
}

static void print_status(const bson_t *document)
{
    char a[32], b[32];
    double lag = cmd_number_of(document, "progress.lagMs");
    const char *reason = cmd_text_of(document, "progress.reason");
    const char *step = cmd_text_of(document, "progress.cutover.step");
    bool can = cmd_flag_of(document, "progress.canCommit");
    double status = cmd_number_of(document, "progress.exitStatus");

    if (!*cmd_text_of(document, "progress.job")) {
        printf("phase        %s: no job was started yet; the page, or POST /api/v1/start, starts "
               "one\n",
               cmd_text_of(document, "progress.phase"));
        return;
    }
    printf("job          %s\n", cmd_text_of(document, "progress.job"));
    printf("phase        %s\n", cmd_text_of(document, "progress.phase"));
    print_silence(document, "source", "progress.source.silentMs");
    print_silence(document, "destination", "progress.destination.silentMs");
    if (cmd_number_of(document, "progress.oplogHeadroomSeconds") >= 0)
        printf("oplog        the source's reaches back %s before the job's position\n",
               cmd_duration(cmd_number_of(document, "progress.oplogHeadroomSeconds"), a));
    if (lag < 0)
        puts("lag          not known yet");
    else
        printf("lag          %.0f ms\n", lag);
    if (cmd_number_of(document, "progress.window.leftSeconds") >= 0)
        printf("window       %s left, until %s; towline extend adds time\n",
               cmd_duration(cmd_number_of(document, "progress.window.leftSeconds"), a),
               cmd_text_of(document, "progress.window.endsAt"));
    else if (cmd_number_of(document, "progress.window.lengthSeconds") < 0)
        puts("window       none: the job stays in sync until it is cut over");
    else
        printf("window       %s once in sync\n",
               cmd_duration(cmd_number_of(document, "progress.window.lengthSeconds"), a));
    printf(
        "copied       %s documents, %s\n",
        cmd_count(cmd_number_of(document, "progress.collectionCopy.copiedDocuments"), a),
        tow_bytes_text(cmd_number_of(document, "progress.collectionCopy.estimatedCopiedBytes"), b));
    printf("events       %s seen, %s not settled\n",
           cmd_count(cmd_number_of(document, "progress.eventsSeen"), a),
           cmd_count(cmd_number_of(document, "progress.backlogEvents"), b));
    printf("dirty keys   %s\n", cmd_count(cmd_number_of(document, "progress.dirtyKeys"), a));
    printf("mode         %s\n", cmd_text_of(document, "progress.mode"));
    if (strcmp(step, "none") != 0)
        print_cutover(document, step);
    else if (can)
        puts("cutover      possible");
    else if (*reason)
        printf("cutover      not %s: %s\n", status < 0 ? "yet" : "done", reason);
    print_attempt(document);
    if (*cmd_text_of(document, "progress.retrying"))
        printf("retrying     %s\n", cmd_text_of(document, "progress.retrying"));
    if (*cmd_text_of(document, "progress.nextStep"))
        printf("next         %s\n", cmd_text_of(document, "progress.nextStep"));
}

/* How a progress is shown that comes; both are cmd_show_fn. */
static void show_last_json(const bson_t *document TOW_UNUSED, const char *progress, bool last)
{
    if (last)
        cmd_print_json(progress);
}

static void show_last(const bson_t *document, const char *progress TOW_UNUSED, bool last)
{
    if (last)
        print_status(document);
}

static void watch_json(const bson_t *document TOW_UNUSED, const char *progress,
                       bool last TOW_UNUSED)
{
    cmd_print_json(progress);
    fflush(stdout);
}

/* On a terminal. */
static void draw(const bson_t *document)
{
    static cmd_rate_t rate;
    cmd_view_t view = {.progress = document};

    cmd_draw(&view, &rate);
}

/* In place on a terminal; elsewhere one below the other, not so often. */
static void watch(const bson_t *document, const char *progress TOW_UNUSED, bool last)
{
    static int64_t next_ms;

    if (!last && cmd_screen_begin()) {
        draw(document);
        return;
    }
    cmd_screen_end();
    if (!last && tow_now_ms() < next_ms)
        return;
    if (next_ms)
        putchar('\n');
    next_ms = tow_now_ms() + PLAIN_MS;
    print_status(document);
    fflush(stdout);
}

/* The object `progress` of an answer, as it stands there. */
static void print_answer(char *answer)
{
    static const char field[] = "\"progress\":";
    char *begin = strstr(answer, field), *end = strrchr(answer, '}');

    if (!begin || !end)
        return;
    *end = '\0';
    cmd_print_json(begin + strlen(field));
}

/* What there is now; also whether anything answers, before it is waited for. */
static int look(const tow_options_t *options, bool shows, bool json)
{
    cmd_reply_t reply;
    bson_t *document = NULL;
    int status = cmd_ask(options, "progress", NULL, &reply);

    if (!status)
        status = cmd_judge(&reply, &document);
    if (document && shows && json)
        print_answer(reply.data);
    else if (document && shows)
        print_status(document);
    if (document)
        bson_destroy(document);
    free(reply.data);
    return status;
}

/* Says nothing, and false, where there is no job that has ended either. */
static bool show_ended(const tow_options_t *options, bool json, const char *goal, int *out_status)
{
    cmd_ended_t ended;
    char now[32], when[64];

    if (!cmd_nobody_listens(options) ||
        !cmd_ended_read(options, tow_options_get(options, "job", 0), "", &ended))
        return false;
    tow_wall_text(tow_wall_ms(), now);
    *out_status = (int)cmd_number_of(ended.document, "exitStatus");
    if (json) {
        cmd_print_json(ended.json);
    } else {
        printf("job %s ended at %s with exit status %d\n", cmd_text_of(ended.document, "job"),
               cmd_moment(cmd_text_of(ended.document, "endedAt"), now, when), *out_status);
        cmd_print_summary(ended.summary);
    }
    if (*out_status && goal)
        cmd_say("%s", cmd_text_of(ended.document, "summary.error"));
    if (!goal)
        *out_status = 0; /* it could be told */
    cmd_ended_clear(&ended);
    return true;
}

int cmd_status(tow_options_t *options)
{
    const char *goal = tow_options_get(options, "wait", 0);
    bool watches = cmd_is_on(options, "watch"), json = cmd_is_on(options, "json"),
         once = !goal && !watches;
    int status;

    if (!cmd_wait_fits(options, NULL))
        return TOW_ERROR_OPTION;
    if (show_ended(options, json, goal, &status))
        return status;
    status = look(options, once, json);
    if (status || once)
        return status;
    return cmd_wait_for(options, goal ? goal : "done",
                        watches ? (json ? watch_json : watch)
                        : json  ? show_last_json
                                : show_last);
}
