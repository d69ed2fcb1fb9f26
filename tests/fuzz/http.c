/* SPDX-License-Identifier: Apache-2.0 */
/* http.c: any request to the control server: a body to a path, or raw bytes. It answers in HTTP or
 * closes; the job that it serves was not started, so that nothing can be done to it, and no other
 * can be started. */
#include <arpa/inet.h>
#include <errno.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "engine/towline.h"
#include "tests/fuzz/fuzz.h"

static tow_server_t *server;

static void set_up(void)
{
    tow_error_t error;
    tow_options_t *options = tow_options_new();
    tow_job_t *job;

    if (!tow_options_set(options, "source", "mongodb://127.0.0.1:1/", &error) ||
        !tow_options_set(options, "destination", "mongodb://127.0.0.1:2/", &error) ||
        !tow_options_set(options, "listen", "127.0.0.1:0", &error) ||
        !tow_options_set(options, "no-token", "true", &error) ||
        !(job = tow_job_new(options, &error)) ||
        !(server = tow_server_new(options, NULL, NULL, &error))) {
        fprintf(stderr, "%s\n", error.message);
        exit(1);
    }
    tow_server_attach(server, job);
}

static void send_all(int socket, const void *data, size_t size)
{
    const char *at = data;

    while (size) {
        ssize_t sent = send(socket, at, size, MSG_NOSIGNAL);

        if (sent <= 0)
            return;
        at += sent;
        size -= (size_t)sent;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* A check or plan would talk to servers: their bodies are those of a start. */
    static const char *const paths[] = {
        "api/v1/progress", "api/v1/pause",   "api/v1/resume",       "api/v1/commit",
        "api/v1/start",    "api/v1/cutover", "api/v1/extend",       "api/v1/collections?limit=x",
        "api/v1/verify",   "api/v1/summary", "api/v1/openapi.json", "metrics",
        "page/x"};
    enum { PATHS = sizeof paths / sizeof *paths };
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval patience = {.tv_usec = 3000};
    struct linger reset = {.l_onoff =
                               1}; /* a million connections that linger would take all ports */
    fuzz_bytes_t bytes = {data, size};
    uint8_t kind = fuzz_byte(&bytes);
    char reply[4096], head[256];
    ssize_t length;
    int peer;

    if (!server)
        set_up();
    address.sin_port = htons((uint16_t)tow_server_port(server));
    while ((peer = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) < 0 ||
           connect(peer, (struct sockaddr *)&address, sizeof address)) {
        if (errno != EINTR) { /* by the fuzzer's own alarm */
            perror("connect");
            exit(1);
        }
        close(peer);
    }
    setsockopt(peer, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    if (kind & 1) {
        int head_length =
            snprintf(head, sizeof head,
                     "%s /%s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
                     "Content-Length: %zu\r\n\r\n",
                     kind & 2 ? "POST" : "GET", paths[(kind >> 2) % PATHS], bytes.left);

        send_all(peer, head, (size_t)head_length);
    }
    send_all(peer, bytes.data, bytes.left);
    shutdown(peer, SHUT_WR);
    /* A request that is not whole is waited for: what it would be answered is the next input's. */
    setsockopt(peer, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    length = recv(peer, reply, sizeof reply, 0);
    if (length > 0)
        HOLDS(length >= 12 && !memcmp(reply, "HTTP/1.", 7));
    /* An action must not be reported as done. */
    if (length > 0 && (kind & 1) && (kind & 2))
        HOLDS(memcmp(reply + 9, "200", 3) != 0);
    close(peer);
    return 0;
}
