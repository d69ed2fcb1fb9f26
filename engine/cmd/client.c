/* client.c: the verbs that ask a running job through its control server. */
#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/text.h"
#include "engine/cmd/cmd.h"
#include "engine/cmd/json.h"

enum { TRIES = 4, PAUSE_US = 200000 };
static const long CONNECT_MS = 3000, ANSWER_MS = 15000;

typedef struct {
    char *data;
    size_t length;
} reply_t;

static size_t take(char *data, size_t size, size_t count, void *context)
{
    reply_t *reply = context;
    char *grown = realloc(reply->data, reply->length + size * count + 1);

    if (!grown)
        return 0;
    memcpy(grown + reply->length, data, size * count);
    reply->data = grown;
    reply->length += size * count;
    reply->data[reply->length] = '\0';
    return size * count;
}

static bool was_closed(CURLcode code)
{
    return code == CURLE_GOT_NOTHING || code == CURLE_RECV_ERROR || code == CURLE_SEND_ERROR;
}

/* The token's header, and TLS when there is a certificate to trust. */
static bool add_credentials(const tow_options_t *options, CURL *curl, struct curl_slist **headers,
                            tow_error_t *error)
{
    const char *authority = tow_options_get(options, "tls-ca", 0);
    char *token = tow_token(options, error), line[600];

    if (!token)
        return false;
    if (*token) {
        snprintf(line, sizeof line, "Authorization: Bearer %s", token);
        *headers = curl_slist_append(*headers, line);
    }
    tow_free(token);
    if (authority)
        curl_easy_setopt(curl, CURLOPT_CAINFO, authority);
    return true;
}

/* What only looks is asked again where the connection was closed on it, as happens when too many others
 * come at once. */
static CURLcode perform(CURL *curl, bool looks, reply_t *out)
{
    CURLcode code = curl_easy_perform(curl);

    for (int i = 1; i < TRIES && looks && was_closed(code) && !out->data; i++) {
        usleep(PAUSE_US);
        code = curl_easy_perform(curl);
    }
    return code;
}

/* A job that does not answer may be there all the same. */
static void say_silence(CURL *curl, CURLcode code, const char *listen)
{
    curl_off_t connected_us = 0;

    curl_easy_getinfo(curl, CURLINFO_CONNECT_TIME_T, &connected_us);
    if (code == CURLE_OPERATION_TIMEDOUT && connected_us > 0)
        cmd_say("the process on %s took the connection, but did not answer within %ld s: it is too busy, or "
                "stopped; try again, or see its log",
                listen, ANSWER_MS / 1000);
    else if (code == CURLE_OPERATION_TIMEDOUT)
        cmd_say("nothing took a connection on %s within %ld s: too many others wait there, or a firewall "
                "drops it; try again, or check the --listen address",
                listen, CONNECT_MS / 1000);
    else if (was_closed(code))
        cmd_say("the process on %s closed the connection without an answer: too many others are connected, "
                "or it speaks TLS (--tls-ca); try again",
                listen);
    else
        cmd_say("no job answers on %s: %s; is it running, and is this its --listen address?", listen,
                curl_easy_strerror(code));
}

/* Sends a request, a POST when it has a body; prints the error and returns an exit status when it fails. */
static int ask(const tow_options_t *options, const char *path, const char *body, reply_t *out)
{
    const char *listen = tow_options_get(options, "listen", 0);
    CURL *curl = curl_easy_init();
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
    tow_error_t error;
    char url[512];
    CURLcode code;

    *out = (reply_t){0};
    if (!add_credentials(options, curl, &headers, &error)) {
        curl_slist_free_all(headers);
        curl_easy_cleanup(curl);
        return cmd_fail(&error);
    }
    snprintf(url, sizeof url, "http%s://%s/api/v1/%s", tow_options_get(options, "tls-ca", 0) ? "s" : "",
             listen, path);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, ANSWER_MS);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, out);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    if (body)
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
    code = perform(curl, !body, out);
    if (code != CURLE_OK || !out->data)
        say_silence(curl, code, listen);
    curl_slist_free_all(headers);
    curl_easy_cleanup(curl);
    return code != CURLE_OK || !out->data ? TOW_ERROR_CONTROL : 0;
}

/* The status that a refusal carries, with its message printed; 0 for a success. */
static int judge(const reply_t *reply, bson_t **out)
{
    bson_t *document = cmd_document(reply->data);
    bson_iter_t iter;
    int status = 0;

    *out = NULL;
    if (!document || !bson_iter_init_find(&iter, document, "success")) {
        cmd_say("the answer is not that of a Towline job; is this its --listen address?");
        status = TOW_ERROR_CONTROL;
    } else if (!bson_iter_as_bool(&iter)) {
        const char *description = "refused";

        status = TOW_ERROR_CONTROL;
        if (bson_iter_init_find(&iter, document, "errorDescription") && BSON_ITER_HOLDS_UTF8(&iter))
            description = bson_iter_utf8(&iter, NULL);
        cmd_say("%s", description);
        if (bson_iter_init_find(&iter, document, "exitStatus") && BSON_ITER_HOLDS_NUMBER(&iter))
            status = (int)bson_iter_as_int64(&iter);
    }
    if (status && document)
        bson_destroy(document);
    else
        *out = document;
    return status;
}

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
    reply_t reply;
    bson_t *document = NULL;
    int status = ask(options, "progress", NULL, &reply);

    if (!status)
        status = judge(&reply, &document);
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
    reply_t reply;
    bson_t *document = NULL;
    int status = ask(options, path, body, &reply);

    if (!status)
        status = judge(&reply, &document);
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
    bool block = blocks && !strcmp(blocks, "true");

    return post(options, "cutover", block ? "{\"blockWrites\":true}" : "{\"writesStopped\":true}",
                "the cutover has begun; the job's own output, or towline status, tells its end");
}

int cmd_cancel(tow_options_t *options)
{
    return post(options, "cancel", "{}", "cancelled; the source is untouched; ");
}
