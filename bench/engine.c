/* SPDX-License-Identifier: Apache-2.0 */
/* engine.c: runs the engine as its users do, by its command line and its control API. */
#include <arpa/inet.h>
#include <curl/curl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench/bench.h"
#include "engine/base/clock.h"
#include "engine/base/memory.h"

enum { POLL_MS = 5 };

static void pause_ms(int64_t wait_ms)
{
    struct timespec wait = {wait_ms / 1000, wait_ms % 1000 * 1000000};
    nanosleep(&wait, NULL);
}

/* The URIs go by the environment: they may hold a password, and a process list is public. */
static bool spawn_engine(const tow_bench_options_t *options, const char *log, const char *cutover,
                         const char *listen, tow_bench_child_t *out, tow_error_t *error)
{
    const char *const argv[] = {
        options->engine,   "run",       "--job",       "bench",      "--include",
        options->database, "--cutover", cutover,       "--listen",   listen,
        "--progress",      "none",      "--no-verify", "--no-token", NULL};
    const char *const environment[] = {"TOWLINE_SOURCE", options->source, "TOWLINE_DESTINATION",
                                       options->destination, NULL};
    return tow_bench_spawn(argv, environment, log, out, error);
}

bool tow_bench_engine_whole(const tow_bench_options_t *options, const char *log,
                            tow_bench_usage_t *out, tow_error_t *error)
{
    tow_bench_child_t child = {0};
    if (!spawn_engine(options, log, "auto", "none", &child, error))
        return false;
    bool ok = tow_bench_reap(&child, options->timeout, out, error);
    tow_bench_kill(&child);
    return ok || tow_fail_context(error, "engine");
}

/* The control API -------------------------------------------------------------------------------*/

static size_t take_reply(char *data, size_t size, size_t count, void *target)
{
    tow_buffer_append(target, data, size * count);
    return size * count;
}

/* Sends one request; *out is the reply's JSON, which holds "success": true. */
static bool request(tow_bench_engine_t *engine, const char *verb, bool post, bson_t *out,
                    tow_error_t *error)
{
    tow_buffer_t body = {0};
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
    char *url = tow_format("http://127.0.0.1:%d/api/v1/%s", engine->port, verb);
    curl_easy_reset(engine->http);
    curl_easy_setopt(engine->http, CURLOPT_URL, url);
    curl_easy_setopt(engine->http, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(engine->http, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(engine->http, CURLOPT_TIMEOUT, 30L);
    curl_easy_setopt(engine->http, CURLOPT_WRITEFUNCTION, take_reply);
    curl_easy_setopt(engine->http, CURLOPT_WRITEDATA, &body);
    if (post) {
        curl_easy_setopt(engine->http, CURLOPT_HTTPHEADER, headers);
        curl_easy_setopt(engine->http, CURLOPT_POSTFIELDS, "{}");
    }
    CURLcode code = curl_easy_perform(engine->http);
    curl_slist_free_all(headers);
    free(url);
    bson_error_t reason;
    bson_iter_t iter;
    bool ok = false;
    if (code != CURLE_OK)
        tow_fail(error, TOW_ERROR_CONTROL, "%s: %s", verb, curl_easy_strerror(code));
    else if (!bson_init_from_json(out, (const char *)body.data, (ssize_t)body.length, &reason))
        tow_fail(error, TOW_ERROR_CONTROL, "%s: the reply is not JSON: %s", verb, reason.message);
    else if (bson_iter_init_find(&iter, out, "success") && bson_iter_as_bool(&iter))
        ok = true;
    else {
        tow_fail(error, TOW_ERROR_CONTROL, "%s: refused: %.*s", verb, (int)body.length,
                 (const char *)body.data);
        bson_destroy(out);
    }
    tow_buffer_free(&body);
    return ok;
}

/* mongosync puts everything under "progress". */
static bool find(const bson_t *reply, const char *path, bson_iter_t *out)
{
    bson_iter_t iter;
    char *nested = tow_format("progress.%s", path);
    bool found = (bson_iter_init(&iter, reply) && bson_iter_find_descendant(&iter, nested, out)) ||
                 (bson_iter_init(&iter, reply) && bson_iter_find_descendant(&iter, path, out));
    free(nested);
    return found;
}

/* A missing field fails the measurement: a zero in its place would be a fine figure. */
static bool read_number(const bson_t *reply, const char *path, int64_t *out, tow_error_t *error)
{
    bson_iter_t iter;
    if (!find(reply, path, &iter) ||
        !(BSON_ITER_HOLDS_NUMBER(&iter) || BSON_ITER_HOLDS_NULL(&iter)))
        return tow_fail(error, TOW_ERROR_CONTROL, "progress: no number \"%s\"", path);
    *out = BSON_ITER_HOLDS_NULL(&iter) ? -1 : bson_iter_as_int64(&iter);
    return true;
}

bool tow_bench_engine_progress(tow_bench_engine_t *engine, tow_bench_progress_t *out,
                               tow_error_t *error)
{
    bson_t reply;
    bson_iter_t iter;
    tow_bench_progress_t progress = {0};
    int64_t seconds = 0, increment = 0;
    if (!request(engine, "progress", false, &reply, error))
        return false;
    bool ok = true;
    if (find(&reply, "phase", &iter) && BSON_ITER_HOLDS_UTF8(&iter))
        snprintf(progress.phase, sizeof progress.phase, "%s", bson_iter_utf8(&iter, NULL));
    else
        ok = tow_fail(error, TOW_ERROR_CONTROL, "progress: no text \"phase\"");
    progress.can_commit = find(&reply, "canCommit", &iter) && bson_iter_as_bool(&iter);
    ok = ok && read_number(&reply, "lagMs", &progress.lag_ms, error) &&
         read_number(&reply, "eventsSeen", &progress.events_seen, error) &&
         read_number(&reply, "dirtyKeys", &progress.dirty_keys, error);
    /* The floor is absent as long as there is none. */
    if (ok && find(&reply, "positions.floor.t", &iter))
        ok = read_number(&reply, "positions.floor.t", &seconds, error) &&
             read_number(&reply, "positions.floor.i", &increment, error);
    progress.floor = (tow_timestamp_t){(uint32_t)seconds, (uint32_t)increment};
    bson_destroy(&reply);
    if (ok)
        *out = progress;
    return ok;
}

bool tow_bench_engine_post(tow_bench_engine_t *engine, const char *verb, tow_error_t *error)
{
    bson_t reply;
    if (!request(engine, verb, true, &reply, error))
        return false;
    bson_destroy(&reply);
    return true;
}

/* Waiting ---------------------------------------------------------------------------------------*/

/* Between two looks: false when there is no use in another one. */
static bool look_again(tow_bench_engine_t *engine, const char *what, tow_error_t *error)
{
    tow_bench_usage_t usage;
    if (!tow_bench_alive(&engine->child)) {
        if (tow_bench_reap(&engine->child, 0, &usage, error))
            tow_fail(error, TOW_ERROR_INTERNAL, "the engine ended with exit status 0, see %s",
                     engine->log);
        return tow_fail_context(error, "waiting for %s", what);
    }
    if (tow_now_ms() > engine->deadline_ms)
        return tow_fail(error, TOW_ERROR_INTERNAL, "waiting for %s: not in %lld s, see %s", what,
                        (long long)engine->options->timeout, engine->log);
    pause_ms(POLL_MS);
    return true;
}

static bool past(tow_timestamp_t a, tow_timestamp_t b)
{
    return a.t > b.t || (a.t == b.t && a.i >= b.i);
}

bool tow_bench_engine_wait_phase(tow_bench_engine_t *engine, const char *phase, tow_error_t *error)
{
    tow_bench_progress_t progress;
    for (;;) {
        if (!tow_bench_engine_progress(engine, &progress, error))
            return false;
        if (strcmp(progress.phase, phase) == 0)
            return true;
        if (!look_again(engine, phase, error))
            return false;
    }
}

bool tow_bench_engine_wait_events(tow_bench_engine_t *engine, int64_t events, tow_error_t *error)
{
    tow_bench_progress_t progress;
    for (;;) {
        if (!tow_bench_engine_progress(engine, &progress, error))
            return false;
        if (progress.events_seen >= events)
            return true;
        if (!look_again(engine, "the events to be read", error))
            return false;
    }
}

bool tow_bench_engine_wait_floor(tow_bench_engine_t *engine, tow_timestamp_t time,
                                 tow_error_t *error)
{
    tow_bench_progress_t progress;
    for (;;) {
        if (!tow_bench_engine_progress(engine, &progress, error))
            return false;
        if (past(progress.floor, time))
            return true;
        if (!look_again(engine, "the floor to pass the last write", error))
            return false;
    }
}

/* Life ------------------------------------------------------------------------------------------*/

static int free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int port = 0;
    if (descriptor >= 0 && bind(descriptor, (struct sockaddr *)&address, length) == 0 &&
        getsockname(descriptor, (struct sockaddr *)&address, &length) == 0)
        port = ntohs(address.sin_port);
    if (descriptor >= 0)
        close(descriptor);
    return port;
}

bool tow_bench_engine_start(const tow_bench_options_t *options, tow_bench_engine_t *out,
                            tow_error_t *error)
{
    *out = (tow_bench_engine_t){.options = options,
                                .http = curl_easy_init(),
                                .port = free_port(),
                                .deadline_ms = tow_now_ms() + options->timeout * 1000,
                                .log = tow_format("%s/engine.log", options->work)};
    char *listen = tow_format("127.0.0.1:%d", out->port);
    bool ok = spawn_engine(options, out->log, "manual", listen, &out->child, error);
    free(listen);
    /* The control server answers some time after the start: until it has answered once, a refused
     * connection means "not yet". */
    bson_t reply;
    while (ok && !request(out, "progress", false, &reply, error))
        ok = look_again(out, "the control server", error);
    if (ok)
        bson_destroy(&reply);
    return ok && tow_bench_engine_wait_phase(out, "in-sync", error);
}

bool tow_bench_engine_commit(tow_bench_engine_t *engine, tow_bench_usage_t *out, tow_error_t *error)
{
    return tow_bench_engine_post(engine, "commit", error) &&
           tow_bench_reap(&engine->child, engine->options->timeout, out, error);
}

void tow_bench_engine_destroy(tow_bench_engine_t *engine)
{
    tow_bench_kill(&engine->child);
    if (engine->http)
        curl_easy_cleanup(engine->http);
    free(engine->log);
}
