/* SPDX-License-Identifier: Apache-2.0 */
/* request.c: see request.h. */
#include "engine/cmd/request.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/socket.h"
#include "engine/cmd/json.h"

enum {
    TRIES = 4,
    PAUSE_US = 200000,
    /* systemd gives these to services with DynamicUser alone: no account has one. */
    DYNAMIC_FIRST = 61184,
    DYNAMIC_LAST = 65519,
    REPLY_MOST = 8 << 20 /* longer ones are no Towline's */
};
static const long CONNECT_MS = 3000, ANSWER_MS = 15000;

static size_t take(char *data, size_t size, size_t count, void *context)
{
    cmd_reply_t *reply = context;
    char *grown = reply->length + size * count > REPLY_MOST
                      ? NULL
                      : realloc(reply->data, reply->length + size * count + 1);

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

static bool read_address(const char *text, int port, struct sockaddr_storage *out)
{
    struct sockaddr_in *four = (struct sockaddr_in *)out;
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)out;

    *out = (struct sockaddr_storage){0};
    if (inet_pton(AF_INET, text, &four->sin_addr) == 1) {
        four->sin_family = AF_INET;
        four->sin_port = htons((uint16_t)port);
    } else if (inet_pton(AF_INET6, text, &six->sin6_addr) == 1) {
        six->sin6_family = AF_INET6;
        six->sin6_port = htons((uint16_t)port);
    }
    return out->ss_family != 0;
}

/* Whose answer is believed, and who may have the token: we, root, and where we are root a service
 * that root has started. */
static bool may_be_asked(uid_t user)
{
    return user == geteuid() || user == 0 ||
           (geteuid() == 0 && user >= DYNAMIC_FIRST && user <= DYNAMIC_LAST);
}

/* Connected, and nothing sent yet: any local user may listen where no job does, to get the token,
 * or, where there is none, to answer in the job's place. A job whose connection waits to be
 * accepted is known by the socket it listens on. */
static int check_listener(void *unused TOW_UNUSED, char *there, char *here, int there_port,
                          int here_port)
{
    struct sockaddr_storage at, to;
    uid_t owner = TOW_NO_USER;

    if (read_address(there, there_port, &at) && read_address(here, here_port, &to) &&
        (!tow_socket_owner(&at, &to, &owner) || owner == TOW_NO_USER))
        tow_listener_owner(&at, &owner);
    if (may_be_asked(owner))
        return CURL_PREREQFUNC_OK;
    if (owner != TOW_NO_USER)
        cmd_say("a process of another user (uid %u) listens on %s port %d: nothing was sent to it; "
                "if it is your job, run this as that user, or give the job --tls-cert and this "
                "command --tls-ca; if not, give the job's --listen address",
                (unsigned)owner, there, there_port);
    else
        cmd_say("whose process listens on %s port %d is not known on this host: nothing was sent "
                "to it; run this where the job runs, or give the job --tls-cert and this command "
                "--tls-ca",
                there, there_port);
    return CURL_PREREQFUNC_ABORT;
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
    else
        curl_easy_setopt(curl, CURLOPT_PREREQFUNCTION, check_listener);
    return true;
}

/* What only looks is asked again where the connection was closed on it, as happens when too many
 * others come at once. */
static CURLcode perform(CURL *curl, bool looks, cmd_reply_t *out)
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
        cmd_say("the process on %s took the connection, but did not answer within %ld s: it is too "
                "busy, or "
                "stopped; try again, or see its log",
                listen, ANSWER_MS / 1000);
    else if (code == CURLE_OPERATION_TIMEDOUT)
        cmd_say("nothing took a connection on %s within %ld s: too many others wait there, or a "
                "firewall "
                "drops it; try again, or check the --listen address",
                listen, CONNECT_MS / 1000);
    else if (code == CURLE_WRITE_ERROR)
        cmd_say("the process on %s answers with more than a Towline job does; is this its --listen "
                "address?",
                listen);
    else if (was_closed(code))
        cmd_say("the process on %s closed the connection without an answer: too many others are "
                "connected, "
                "or it speaks TLS (--tls-ca); try again",
                listen);
    else
        cmd_say("no job answers on %s: %s; is it running, and is this its --listen address?",
                listen, curl_easy_strerror(code));
}

CURL *cmd_request(const tow_options_t *options, const char *path, const char *body,
                  struct curl_slist **headers, int *out_status)
{
    CURL *curl = curl_easy_init();
    tow_error_t error;
    char url[512];

    *headers = curl_slist_append(NULL, "Content-Type: application/json");
    if (!add_credentials(options, curl, headers, &error)) {
        curl_slist_free_all(*headers);
        curl_easy_cleanup(curl);
        *out_status = cmd_fail(&error);
        return NULL;
    }
    snprintf(url, sizeof url, "http%s://%s/api/v1/%s",
             tow_options_get(options, "tls-ca", 0) ? "s" : "",
             tow_options_get(options, "listen", 0), path);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, *headers);
    if (body)
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
    return curl;
}

bool cmd_nobody_listens(const tow_options_t *options)
{
    CURL *curl = curl_easy_init();
    CURLcode code;
    char url[512];

    snprintf(url, sizeof url, "http://%s/", tow_options_get(options, "listen", 0));
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
    curl_easy_setopt(curl, CURLOPT_CONNECT_ONLY, 1L); /* nothing is asked: it needs no token */
    code = curl_easy_perform(curl);
    curl_easy_cleanup(curl);
    return code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST;
}

int cmd_ask(const tow_options_t *options, const char *path, const char *body, cmd_reply_t *out)
{
    struct curl_slist *headers;
    int status = 0;
    CURL *curl = cmd_request(options, path, body, &headers, &status);
    CURLcode code;

    *out = (cmd_reply_t){0};
    if (!curl)
        return status;
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, ANSWER_MS);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, out);
    code = perform(curl, !body, out);
    if (code != CURLE_ABORTED_BY_CALLBACK && (code != CURLE_OK || !out->data))
        say_silence(curl, code, tow_options_get(options, "listen", 0));
    curl_slist_free_all(headers);
    curl_easy_cleanup(curl);
    return code != CURLE_OK || !out->data ? TOW_ERROR_CONTROL : 0;
}

int cmd_judge(const cmd_reply_t *reply, bson_t **out)
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
