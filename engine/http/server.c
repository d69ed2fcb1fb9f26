/* SPDX-License-Identifier: Apache-2.0 */
/* server.c: listens, and reads requests. */
#include "engine/http/internal.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/file.h"
#include "engine/base/json.h"
#include "engine/base/thread.h"
#include "engine/http/token.h"

enum {
    TIMEOUT_SECONDS = 15, /* of silence; see peers.c for the whole of a request */
    HEAD_MOST = 32 * 1024,
    STACK_BYTES = 1024 * 1024
};

/* Requests --------------------------------------------------------------------------------------*/

static enum MHD_Result handle(void *data, struct MHD_Connection *connection, const char *path,
                              const char *method, const char *version TOW_UNUSED,
                              const char *upload, size_t *upload_size, void **state)
{
    tow_request_t *request = *state;

    if (!request) {
        *state = request = tow_alloc(sizeof *request);
        request->server = data;
        request->connection = connection;
        return MHD_YES;
    }
    if (*upload_size) {
        if (request->text.length <= TOW_BODY_MOST) {
            tow_buffer_append(&request->text, upload, *upload_size);
            tow_buffer_append(&request->text, "", 1); /* text ends with a zero … */
            request->text.length--;                   /* … that does not count */
        }
        *upload_size = 0;
        return MHD_YES;
    }
    request->path = path;
    return tow_route(request, method);
}

static void completed(void *data, struct MHD_Connection *connection, void **state,
                      enum MHD_RequestTerminationCode code TOW_UNUSED)
{
    tow_request_t *request = *state;

    tow_peers_replied(((tow_server_t *)data)->peers, connection);
    if (!request)
        return;
    tow_buffer_free(&request->text);
    if (request->body)
        bson_destroy(request->body);
    free(request);
    *state = NULL;
}

/* Listening -------------------------------------------------------------------------------------*/

/* Splits HOST:PORT, [HOST]:PORT. */
static bool resolve(const char *listen, struct sockaddr_storage *out, tow_error_t *error)
{
    const char *colon = strrchr(listen, ':');
    struct addrinfo hints = {.ai_flags = AI_NUMERICSERV | AI_PASSIVE, .ai_socktype = SOCK_STREAM},
                    *found;
    size_t length = colon ? (size_t)(colon - listen) : 0;
    char *host;
    int code;

    if (!length)
        return tow_fail(error, TOW_ERROR_OPTION, "--listen: '%s' is no HOST:PORT", listen);
    host = *listen == '[' && listen[length - 1] == ']'
               ? tow_format("%.*s", (int)length - 2, listen + 1)
               : tow_format("%.*s", (int)length, listen);
    if (!strcmp(host, "localhost"))
        hints.ai_family = AF_INET;
    code = getaddrinfo(host, colon + 1, &hints, &found);
    free(host);
    if (code)
        return tow_fail(error, TOW_ERROR_OPTION, "--listen: '%s' is no address of this host: %s",
                        listen, gai_strerror(code));
    memcpy(out, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    return true;
}

static bool is_loopback(const struct sockaddr_storage *address)
{
    const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)address;
    const struct sockaddr_in *four = (const struct sockaddr_in *)address;

    return address->ss_family == AF_INET6 ? IN6_IS_ADDR_LOOPBACK(&six->sin6_addr)
                                          : ntohl(four->sin_addr.s_addr) >> 24 == 127;
}

/* Certificate and key, or neither. */
static bool read_tls(const tow_options_t *options, char **out_certificate, char **out_key,
                     tow_error_t *error)
{
    const char *certificate = tow_options_get(options, "tls-cert", 0);
    const char *key = tow_options_get(options, "tls-key", 0);

    if (!certificate && !key)
        return true;
    if (!certificate || !key)
        return tow_fail(error, TOW_ERROR_OPTION, "give both --tls-cert and --tls-key, or neither");
    return tow_file_read("tls-cert", certificate, out_certificate, error) &&
           tow_secret_read("tls-key", key, out_key, error);
}

static bool check_exposure(const tow_server_t *server, const char *listen, tow_error_t *error)
{
    if (server->loopback)
        return true;
    if (!server->token)
        return tow_fail(error, TOW_ERROR_OPTION,
                        "--no-token is for loopback only, and --listen %s is not: leave it out",
                        listen);
    return server->tls
               ? true
               : tow_fail(error, TOW_ERROR_OPTION,
                          "--listen %s is not on loopback: give --tls-cert and --tls-key, so "
                          "that nobody on the way reads the token",
                          listen);
}

/* Before anything is asked: requests are held to it. */
static void describe(tow_server_t *server, const struct sockaddr_storage *address)
{
    const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)address;
    const struct sockaddr_in *four = (const struct sockaddr_in *)address;
    char text[INET6_ADDRSTRLEN];

    server->port = ntohs(four->sin_port);
    if (address->ss_family == AF_INET6)
        snprintf(server->host, sizeof server->host, "[%s]",
                 inet_ntop(AF_INET6, &six->sin6_addr, text, sizeof text));
    else
        snprintf(server->host, sizeof server->host, "%s",
                 inet_ntop(AF_INET, &four->sin_addr, text, sizeof text));
}

static bool start_daemon(tow_server_t *server, const char *listen, tow_error_t *error)
{
    unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION | MHD_USE_AUTO;
    struct sockaddr_storage address = {0};
    char *certificate = NULL, *key = NULL;
    bool ok =
        resolve(listen, &address, error) && read_tls(server->options, &certificate, &key, error);

    server->tls = certificate != NULL;
    server->loopback = ok && is_loopback(&address);
    ok = ok && check_exposure(server, listen, error);
    if (ok) {
        struct MHD_OptionItem tls[] = {{MHD_OPTION_HTTPS_MEM_CERT, 0, certificate},
                                       {MHD_OPTION_HTTPS_MEM_KEY, 0, key},
                                       {MHD_OPTION_END, 0, NULL}};
        const union MHD_DaemonInfo *info;
        sigset_t before;

        describe(server, &address);
        flags |=
            (server->tls ? MHD_USE_TLS : 0) | (address.ss_family == AF_INET6 ? MHD_USE_IPv6 : 0);
        tow_thread_block_signals(&before);
        server->daemon = MHD_start_daemon(
            flags, 0, NULL, NULL, handle, server, MHD_OPTION_SOCK_ADDR, (struct sockaddr *)&address,
            MHD_OPTION_NOTIFY_COMPLETED, completed, server, MHD_OPTION_NOTIFY_CONNECTION,
            tow_peers_notify, server->peers, MHD_OPTION_CONNECTION_LIMIT,
            tow_peers_most(server->peers), MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)TIMEOUT_SECONDS,
            MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HEAD_MOST, MHD_OPTION_THREAD_STACK_SIZE,
            (size_t)STACK_BYTES, MHD_OPTION_ARRAY, server->tls ? tls : tls + 2, MHD_OPTION_END);
        tow_thread_restore_signals(&before);
        if (!server->daemon)
            ok = tow_fail(
                error, TOW_ERROR_CONTROL,
                "the control server cannot listen on %s: another process may%s; give another "
                "--listen HOST:PORT, or none",
                listen, server->tls ? ", or --tls-cert and --tls-key do not fit" : "");
        else if ((info = MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_BIND_PORT)))
            server->port = info->port; /* which was free, for 0 */
    }
    free(certificate);
    free(key);
    return ok;
}

/* The interface ---------------------------------------------------------------------------------*/

tow_server_t *tow_server_new(const tow_options_t *options, tow_event_fn listener, void *data,
                             tow_error_t *error)
{
    tow_server_t *server = tow_alloc(sizeof *server);

    pthread_rwlock_init(&server->lock, NULL);
    server->options = tow_options_copy(options);
    server->events = tow_events_new();
    server->listener = listener;
    server->listener_data = data;
    server->page_token = tow_page_token();
    if (!tow_token_load(options, &server->token, error) ||
        !(server->peers = tow_peers_new(error)) ||
        !start_daemon(server, tow_options_get(options, "listen", 0), error)) {
        tow_server_destroy(server);
        return NULL;
    }
    return server;
}

void tow_server_stop(tow_server_t *server)
{
    pthread_rwlock_wrlock(&server->lock);
    server->closing = true;
    if (server->job && server->own)
        tow_job_stop(server->job);
    pthread_rwlock_unlock(&server->lock);
}

void tow_server_destroy(tow_server_t *server)
{
    if (!server)
        return;
    tow_server_stop(server);
    if (server->own && server->job)
        tow_job_wait(server->job, NULL); /* its end is told to those who follow it */
    tow_events_close(server->events);
    if (server->daemon)
        MHD_stop_daemon(server->daemon);
    tow_peers_destroy(server->peers);
    if (server->own)
        tow_job_destroy(server->job);
    tow_events_destroy(server->events);
    tow_options_destroy(server->options);
    pthread_rwlock_destroy(&server->lock);
    free(server->page_token);
    free(server->token);
    free(server);
}
