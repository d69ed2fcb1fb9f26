/* client.c: the verbs that ask a running job through its control server. */
#include <stdlib.h>
#include <string.h>

#include "engine/base/text.h"
#include "engine/cmd/cmd.h"
#include "engine/cmd/json.h"
#include "engine/cmd/request.h"
#include "engine/cmd/waiting.h"

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

static void print_status(const bson_t *document)
{
    char a[32], b[32];
    double lag = cmd_number_of(document, "progress.lagMs");
    const char *reason = cmd_text_of(document, "progress.reason");
    const char *step = cmd_text_of(document, "progress.cutover.step");
    bool can = cmd_flag_of(document, "progress.canCommit");

    if (!*cmd_text_of(document, "progress.job")) {
        printf("phase        %s: no job was started yet; the page, or POST /api/v1/start, starts one\n",
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
    printf("copied       %s documents, %s\n",
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
        puts("cutover      possible: stop the writes to the source, then towline cutover");
    else
        printf("cutover      not yet: %s\n", reason);
    if (*cmd_text_of(document, "progress.retrying"))
        printf("retrying     %s\n", cmd_text_of(document, "progress.retrying"));
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

/* What the job has to say besides (`remains`) follows what we say. */
static int post(const tow_options_t *options, const char *path, const char *body, const char *said)
{
    cmd_reply_t reply;
    bson_t *document = NULL;
    int status = cmd_ask(options, path, body, &reply);

    if (!status)
        status = cmd_judge(&reply, &document);
    if (document) {
        printf("%s%s\n", said, cmd_text_of(document, "remains"));
        bson_destroy(document);
    }
    free(reply.data);
    return status;
}

int cmd_pause(tow_options_t *options)
{
    return post(options, "pause", "{}", "paused: changes are read but not applied");
}

int cmd_extend(tow_options_t *options)
{
    const char *duration = tow_options_get(options, "duration", 0);
    char body[96];

    if (!duration) {
        cmd_say("extend needs the time to add, such as towline extend 24h");
        return TOW_ERROR_OPTION;
    }
    snprintf(body, sizeof body, "{\"duration\":\"%s\"}", duration);
    return post(options, "extend", body, "extended; towline status shows the new end");
}

int cmd_resume(tow_options_t *options)
{
    return post(options, "resume", "{}", "resumed");
}

int cmd_cutover(tow_options_t *options)
{
    const char *blocks = tow_options_get(options, "block-writes", 0);
    bool block = blocks && !strcmp(blocks, "true"), waits = tow_options_get(options, "wait", 0);
    const char *abort = tow_options_get(options, "abort", 0);
    int status;

    if (!cmd_wait_fits(options))
        return TOW_ERROR_OPTION;
    if (abort && !strcmp(abort, "true")) {
        if (!block && !waits)
            return post(options, "cutover/abort", "{}",
                        "the cutover is called off; the job goes back to in sync, and nothing is lost");
        cmd_say("--abort calls a cutover off, and --%s is for one that begins; give one of both",
                block ? "block-writes" : "wait");
        return TOW_ERROR_OPTION;
    }
    status = post(options, "cutover", block ? "{\"blockWrites\":true}" : "{\"writesStopped\":true}",
                  waits ? "the cutover has begun"
                        : "the cutover has begun; `towline status` shows how it goes on");
    fflush(stdout);
    return status || !waits ? status : cmd_wait_for_cutover(options);
}

int cmd_cancel(tow_options_t *options)
{
    return post(options, "cancel", "{}", "cancelled; the source is untouched; ");
}
