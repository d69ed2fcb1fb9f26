/* http.c: any request to the control server: a body to a path, or raw bytes. It answers in HTTP or closes;
 * a job that was not started is never made to do anything. */
#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "engine/towline.h"
#include "tests/fuzz/fuzz.h"

static tow_control_t *control;

static void set_up(void)
{
    tow_error_t error;
    tow_options_t *options = tow_options_new();
    tow_job_t *job;

    if (!tow_options_set(options, "source", "mongodb://127.0.0.1:1/", &error) ||
        !tow_options_set(options, "destination", "mongodb://127.0.0.1:2/", &error) ||
        !(job = tow_job_new(options, &error)) ||
        !(control = tow_control_new(job, "127.0.0.1:0", &error))) {
        fprintf(stderr, "%s\n", error.message);
        exit(1);
    }
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
    static const char *const paths[] = {"progress", "pause", "resume", "commit", "start", "x"};
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval patience = {.tv_usec = 3000};
    fuzz_bytes_t bytes = {data, size};
    uint8_t kind = fuzz_byte(&bytes);
    char reply[4096], head[256];
    ssize_t length;
    int peer;

    if (!control)
        set_up();
    address.sin_port = htons((uint16_t)tow_control_port(control));
    peer = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (peer < 0 || connect(peer, (struct sockaddr *)&address, sizeof address))
        exit(1);
    if (kind & 1) {
        int head_length = snprintf(head, sizeof head,
                                   "%s /api/v1/%s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
                                   "Content-Length: %zu\r\n\r\n",
                                   kind & 2 ? "POST" : "GET", paths[(kind >> 2) % 6], bytes.left);

        send_all(peer, head, (size_t)head_length);
    }
    send_all(peer, bytes.data, bytes.left);
    shutdown(peer, SHUT_WR);
    /* A request that is not whole is waited for: what it would be answered is the next input's. */
    setsockopt(peer, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    length = recv(peer, reply, sizeof reply, 0);
    if (length > 0)
        HOLDS(length >= 12 && !memcmp(reply, "HTTP/1.", 7));
    /* Refused or read: an action must not be reported as done. */
    if (length > 0 && (kind & 1) && (kind >> 2) % 6)
        HOLDS(memcmp(reply + 9, "200", 3) != 0);
    close(peer);
    return 0;
}
