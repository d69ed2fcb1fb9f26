/* SPDX-License-Identifier: Apache-2.0 */
/* client.c: the verbs that ask a running job through its control server. */
#include <stdlib.h>
#include <string.h>

#include "engine/cmd/cmd.h"
#include "engine/cmd/json.h"
#include "engine/cmd/request.h"
#include "engine/cmd/waiting.h"

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

int cmd_page(tow_options_t *options)
{
    cmd_reply_t reply;
    bson_t *document = NULL;
    int status = cmd_ask(options, "page", NULL, &reply);

    if (!status)
        status = cmd_judge(&reply, &document);
    if (document) {
        printf("%s\n", cmd_text_of(document, "address"));
        bson_destroy(document);
    }
    free(reply.data);
    return status;
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

    if (!cmd_wait_fits(options, "done"))
        return TOW_ERROR_OPTION;
    if (abort && !strcmp(abort, "true")) {
        if (!block && !waits)
            return post(
                options, "cutover/abort", "{}",
                "the cutover is called off; the job goes back to in sync, and nothing is lost");
        cmd_say("--abort calls a cutover off, and --%s is for one that begins; give one of both",
                block ? "block-writes" : "wait");
        return TOW_ERROR_OPTION;
    }
    status = post(options, "cutover", block ? "{\"blockWrites\":true}" : "{\"writesStopped\":true}",
                  waits ? "the cutover has begun"
                        : "the cutover has begun; towline status --wait done waits for its end");
    fflush(stdout);
    return status || !waits ? status : cmd_wait_for_cutover(options);
}

int cmd_cancel(tow_options_t *options)
{
    return post(options, "cancel", "{}", "cancelled; the source is untouched; ");
}
