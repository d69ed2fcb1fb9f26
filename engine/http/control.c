/* control.c: the HTTP control server of one job, on libmicrohttpd's own threads.
 *
 * It listens on loopback only, and answers requests for a loopback host without an Origin: a page of
 * another site that a browser shows cannot drive a job. */
#include <arpa/inet.h>
#include <bson/bson.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/duration.h"
#include "engine/base/error.h"
#include "engine/base/memory.h"

enum { BODY_MOST = 64 * 1024, CONNECTIONS_MOST = 64, TIMEOUT_SECONDS = 15 };

struct tow_control {
    tow_job_t *job;
    struct MHD_Daemon *daemon;
    int port;
};

typedef struct {
    tow_buffer_t body; /* at most BODY_MOST and one piece more */
} request_t;

static enum MHD_Result answer(struct MHD_Connection *connection, unsigned status, char *body)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer(strlen(body), body, MHD_RESPMEM_MUST_FREE);
    enum MHD_Result result;

    MHD_add_response_header(response, "Content-Type", "application/json");
    MHD_add_response_header(response, "Cache-Control", "no-store");
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    result = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return result;
}

/* The text as a JSON string without its quotes. */
static char *escape(const char *text)
{
    tow_buffer_t out = {0};

    for (const char *at = text; *at; at++) {
        char code[8];

        if (*at == '"' || *at == '\\' || (unsigned char)*at < 0x20)
            tow_buffer_append(&out, code,
                              (size_t)snprintf(code, sizeof code, "\\u%04x", (unsigned char)*at));
        else
            tow_buffer_append(&out, at, 1);
    }
    tow_buffer_append(&out, "", 1);
    return (char *)out.data;
}

static enum MHD_Result refuse(struct MHD_Connection *connection, unsigned status, const char *name,
                              const char *description, int code)
{
    char *escaped = escape(description);
    char *body = tow_format("{\"success\":false,\"error\":\"%s\",\"errorDescription\":\"%s\","
                            "\"exitStatus\":%d}\n",
                            name, escaped, code);

    free(escaped);
    return answer(connection, status, body);
}

static bool is_loopback_name(const char *host, size_t length)
{
    static const char *const names[] = {"127.0.0.1", "localhost", "[::1]"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strlen(names[i]) == length && !strncmp(names[i], host, length))
            return true;
    return false;
}

/* The Host header names loopback, and no page of a browser stands behind the request. */
static bool is_trusted(struct MHD_Connection *connection)
{
    const char *host = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Host");
    const char *colon = host ? strrchr(host, ':') : NULL;
    size_t length;

    if (MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Origin"))
        return false;
    if (!host)
        return false;
    length = colon && !strchr(colon, ']') ? (size_t)(colon - host) : strlen(host);
    return is_loopback_name(host, length);
}

static enum MHD_Result command(tow_control_t *control, struct MHD_Connection *connection,
                               bool (*act)(tow_job_t *, tow_error_t *))
{
    tow_error_t error;

    if (act(control->job, &error)) {
        char *remains = act == tow_job_cancel ? tow_job_remains(control->job) : NULL;
        char *body = remains ? tow_format("{\"success\":true,\"remains\":\"%s\"}\n", remains)
                             : tow_strdup("{\"success\":true}\n");

        tow_free(remains);
        return answer(connection, MHD_HTTP_OK, body);
    }
    return refuse(connection, MHD_HTTP_BAD_REQUEST,
                  error.code == TOW_ERROR_NOT_IN_SYNC ? "NotInSync" : "InvalidState", error.message,
                  (int)error.code);
}

/* {"duration": "24h"}, or {"seconds": 86400}. */
static bool read_extension(const tow_buffer_t *body, int64_t *out_seconds, tow_error_t *error)
{
    bson_t *document = body->length
                           ? bson_new_from_json(body->data, (ssize_t)body->length, NULL)
                           : NULL;
    bson_iter_t iter;
    int64_t ms = 0;

    if (document && bson_iter_init_find(&iter, document, "duration") && BSON_ITER_HOLDS_UTF8(&iter)) {
        if (!tow_duration_parse(bson_iter_utf8(&iter, NULL), &ms))
            ms = 0;
    } else if (document && bson_iter_init_find(&iter, document, "seconds") &&
               BSON_ITER_HOLDS_INT(&iter)) {
        ms = bson_iter_as_int64(&iter) < INT32_MAX ? bson_iter_as_int64(&iter) * 1000 : 0;
    }
    if (document)
        bson_destroy(document);
    *out_seconds = ms / 1000;
    return ms >= 1000 ? true
                      : tow_fail(error, TOW_ERROR_OPTION,
                                 "the body says no time to add; send {\"duration\": \"24h\"} or "
                                 "{\"seconds\": 86400}");
}

static enum MHD_Result extend(tow_control_t *control, struct MHD_Connection *connection,
                              const tow_buffer_t *body)
{
    tow_error_t error;
    int64_t seconds;

    if (read_extension(body, &seconds, &error) && tow_job_extend(control->job, seconds, &error))
        return answer(connection, MHD_HTTP_OK, tow_strdup("{\"success\":true}\n"));
    return refuse(connection, MHD_HTTP_BAD_REQUEST,
                  error.code == TOW_ERROR_OPTION ? "InvalidBody" : "InvalidState", error.message,
                  (int)error.code);
}

/* {"writesStopped": true}, or {"blockWrites": true}. */
static enum MHD_Result cut_over(tow_control_t *control, struct MHD_Connection *connection,
                                const tow_buffer_t *body)
{
    bson_t *document = body->length
                           ? bson_new_from_json(body->data, (ssize_t)body->length, NULL)
                           : NULL;
    bson_iter_t iter;
    bool blocks = document && bson_iter_init_find(&iter, document, "blockWrites") &&
                  bson_iter_as_bool(&iter);
    bool stopped = document && bson_iter_init_find(&iter, document, "writesStopped") &&
                   bson_iter_as_bool(&iter);

    if (document)
        bson_destroy(document);
    if (!blocks && !stopped)
        return refuse(connection, MHD_HTTP_BAD_REQUEST, "InvalidBody",
                      "send {\"writesStopped\": true} once nothing writes to the source any more, or "
                      "{\"blockWrites\": true}",
                      TOW_ERROR_OPTION);
    return command(control, connection, blocks ? tow_job_cutover_blocking : tow_job_cutover);
}

/* No body, or a JSON object. */
static bool is_object(const tow_buffer_t *body)
{
    bson_error_t error;
    bson_t *document;

    if (!body->length)
        return true;
    if (body->data[strspn((const char *)body->data, " \t\r\n")] != '{')
        return false;
    document = bson_new_from_json(body->data, (ssize_t)body->length, &error);
    if (document)
        bson_destroy(document);
    return document != NULL;
}

static const struct {
    const char *path, *method;
    bool (*act)(tow_job_t *, tow_error_t *); /* NULL: progress, extend */
} routes[] = {
    {"/api/v1/progress", "GET", NULL},
    {"/api/v1/pause", "POST", tow_job_pause},
    {"/api/v1/resume", "POST", tow_job_resume},
    {"/api/v1/commit", "POST", tow_job_cutover},
    {"/api/v1/extend", "POST", NULL},
    {"/api/v1/cutover", "POST", NULL},
    {"/api/v1/cancel", "POST", tow_job_cancel},
};

static enum MHD_Result handle(void *data, struct MHD_Connection *connection, const char *path,
                              const char *method, const char *version, const char *upload,
                              size_t *upload_size, void **state)
{
    tow_control_t *control = data;
    request_t *request = *state;

    if (!request) {
        *state = tow_alloc(sizeof *request);
        return MHD_YES;
    }
    if (*upload_size) {
        if (request->body.length <= BODY_MOST) {
            tow_buffer_append(&request->body, upload, *upload_size);
            tow_buffer_append(&request->body, "", 1); /* text ends with a zero … */
            request->body.length--;                   /* … that does not count */
        }
        *upload_size = 0;
        return MHD_YES;
    }
    if (!is_trusted(connection))
        return refuse(connection, MHD_HTTP_FORBIDDEN, "Forbidden",
                      "requests are taken from this host only, and not from a page in a browser",
                      TOW_ERROR_CONTROL);
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        if (strcmp(path, routes[i].path) != 0)
            continue;
        if (strcmp(method, routes[i].method) != 0)
            return refuse(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "MethodNotAllowed",
                          "this path takes another method", TOW_ERROR_CONTROL);
        if (request->body.length > BODY_MOST)
            return refuse(connection, MHD_HTTP_CONTENT_TOO_LARGE, "BodyTooLarge",
                          "the body is over 64 KB; send {}", TOW_ERROR_OPTION);
        if (!is_object(&request->body))
            return refuse(connection, MHD_HTTP_BAD_REQUEST, "InvalidBody",
                          "the body is no JSON object; send {}", TOW_ERROR_OPTION);
        if (!strcmp(path, "/api/v1/extend"))
            return extend(control, connection, &request->body);
        if (!strcmp(path, "/api/v1/cutover"))
            return cut_over(control, connection, &request->body);
        if (routes[i].act)
            return command(control, connection, routes[i].act);
        {
            char *progress = tow_job_progress_json(control->job);
            char *body = tow_format("{\"progress\":%s,\"success\":true}\n", progress);

            tow_free(progress);
            return answer(connection, MHD_HTTP_OK, body);
        }
    }
    return refuse(connection, MHD_HTTP_NOT_FOUND, "NotFound", "there is no such path",
                  TOW_ERROR_CONTROL);
}

static void completed(void *data, struct MHD_Connection *connection, void **state,
                      enum MHD_RequestTerminationCode code)
{
    request_t *request = *state;

    if (request)
        tow_buffer_free(&request->body);
    free(request);
    *state = NULL;
}

static bool parse_listen(const char *listen, struct sockaddr_in *out, tow_error_t *error)
{
    const char *colon = strrchr(listen, ':');
    size_t length = colon ? (size_t)(colon - listen) : 0;

    if (!colon || !is_loopback_name(listen, length))
        return tow_fail(error, TOW_ERROR_OPTION,
                        "--listen: '%s' is not on loopback; the control server has no "
                        "authentication yet, so give 127.0.0.1:PORT",
                        listen);
    *out = (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)atoi(colon + 1)),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    return true;
}

tow_control_t *tow_control_new(tow_job_t *job, const char *listen, tow_error_t *error)
{
    tow_control_t *control;
    struct sockaddr_in address;
    const union MHD_DaemonInfo *info;

    if (!parse_listen(listen, &address, error))
        return NULL;
    control = tow_alloc(sizeof *control);
    control->job = job;
    control->daemon = MHD_start_daemon(
        MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_AUTO, 0, NULL, NULL, handle, control,
        MHD_OPTION_SOCK_ADDR, (struct sockaddr *)&address, MHD_OPTION_NOTIFY_COMPLETED, completed,
        NULL, MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MOST,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)TIMEOUT_SECONDS, MHD_OPTION_END);
    if (!control->daemon) {
        free(control);
        tow_fail(error, TOW_ERROR_CONTROL,
                 "the control server cannot listen on %s: another process may; give another "
                 "--listen HOST:PORT, or none",
                 listen);
        return NULL;
    }
    info = MHD_get_daemon_info(control->daemon, MHD_DAEMON_INFO_BIND_PORT);
    control->port = info ? info->port : ntohs(address.sin_port);
    return control;
}

int tow_control_port(const tow_control_t *control)
{
    return control->port;
}

void tow_control_destroy(tow_control_t *control)
{
    if (!control)
        return;
    MHD_stop_daemon(control->daemon);
    free(control);
}
