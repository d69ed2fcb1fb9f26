/* status.c: the verb that shows a running job. */
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/base/text.h"
#include "engine/cmd/cmd.h"
#include "engine/cmd/json.h"
#include "engine/cmd/request.h"

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

/* "21:34 UTC", with the day where that is another one than `now`'s; both are times as JSON has
 * them. */
static const char *moment(const char *time, const char *now, char out[64])
{
    if (strlen(time) < 16)
        snprintf(out, 64, "%.40s", time);
    else if (!strncmp(time, now, 10))
        snprintf(out, 64, "%.5s UTC", time + 11);
    else
        snprintf(out, 64, "%.10s %.5s UTC", time, time + 11);
    return out;
}

static void print_attempt(const bson_t *document)
{
    const char *at = cmd_text_of(document, "progress.cutover.lastAttempt.calledOffAt");
    double late = cmd_number_of(document, "progress.cutover.lastAttempt.lateWrites");
    char now[32], when[64], text[32];

    if (!*at)
        return;
    tow_wall_text(tow_wall_ms(), now);
    printf("last cutover called off at %s", moment(at, now, when));
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

int cmd_status(tow_options_t *options)
{
    cmd_reply_t reply;
    bson_t *document = NULL;
    int status = cmd_ask(options, "progress", NULL, &reply);

    if (!status)
        status = cmd_judge(&reply, &document);
    if (document) {
        print_status(document);
        bson_destroy(document);
    }
    free(reply.data);
    return status;
}
