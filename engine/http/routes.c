/* SPDX-License-Identifier: Apache-2.0 */
/* routes.c: the paths, who may ask for them, and what each does. openapi.json describes them; a
 * test holds the two together. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "engine/base/duration.h"
#include "engine/base/json.h"
#include "engine/http/internal.h"
#include "engine/http/readiness.h"
#include "engine/http/token.h"

enum { COLLECTIONS_SHOWN = 100, COLLECTIONS_MOST = 10000 };

/* The job ---------------------------------------------------------------------------------------*/

/* The job of the moment, locked for reading; NULL (and nothing is locked): none was started. */
static tow_job_t *hold_job(tow_server_t *server)
{
    tow_job_t *job;

    pthread_rwlock_rdlock(&server->lock);
    job = server->job;
    if (!job)
        pthread_rwlock_unlock(&server->lock); /* there may be one at once */
    return job;
}

static void let_go(tow_server_t *server)
{
    pthread_rwlock_unlock(&server->lock);
}

static bool fail_idle(tow_error_t *error)
{
    return tow_fail(error, TOW_ERROR_STATE,
                    "no job was started yet; POST /api/v1/start starts one");
}

static enum MHD_Result command(tow_request_t *request, bool (*act)(tow_job_t *, tow_error_t *))
{
    tow_error_t error;
    tow_job_t *job = hold_job(request->server);
    bool ok = job ? act(job, &error) : fail_idle(&error);

    if (job)
        let_go(request->server);
    return ok ? tow_reply_done(request) : tow_reply_error(request, &error);
}

/* Whoever reads the end of a job that the server started was told of it; a process that runs one
 * job tells by its exit status. */
static void note_told(tow_request_t *request, bool shown)
{
    tow_job_t *job = hold_job(request->server);

    if (!job)
        return;
    if (shown && request->server->own)
        tow_job_told(job);
    let_go(request->server);
}

static bool has_committed(tow_request_t *request)
{
    tow_progress_t progress = {.phase = TOW_PHASE_NEW};
    tow_job_t *job = hold_job(request->server);

    if (!job)
        return false;
    tow_job_progress(job, &progress);
    let_go(request->server);
    return progress.phase == TOW_PHASE_DONE;
}

static enum MHD_Result get_progress(tow_request_t *request)
{
    bool committed = has_committed(request);
    char *progress = tow_server_progress(request->server);

    note_told(request, committed);
    return tow_reply_with(request, "progress", progress);
}

static enum MHD_Result post_pause(tow_request_t *request)
{
    return command(request, tow_job_pause);
}

static enum MHD_Result post_resume(tow_request_t *request)
{
    return command(request, tow_job_resume);
}

static enum MHD_Result post_commit(tow_request_t *request)
{
    return command(request, tow_job_cutover);
}

static enum MHD_Result post_verify(tow_request_t *request)
{
    return command(request, tow_job_verify_again);
}

static enum MHD_Result post_reverse(tow_request_t *request)
{
    return tow_reply_refusal(
        request, MHD_HTTP_BAD_REQUEST, "Unsupported",
        "a migration is not reversed; start one from the destination to the source "
        "instead",
        TOW_ERROR_OPTION);
}

/* The value of a boolean field; false when it is not there. */
static bool is_true(const bson_t *body, const char *name)
{
    bson_iter_t iter;

    return body && bson_iter_init_find(&iter, body, name) && BSON_ITER_HOLDS_BOOL(&iter) &&
           bson_iter_bool(&iter);
}

static enum MHD_Result post_cutover(tow_request_t *request)
{
    bool blocks = is_true(request->body, "blockWrites");

    if (!blocks && !is_true(request->body, "writesStopped"))
        return tow_reply_refusal(request, MHD_HTTP_BAD_REQUEST, "NotConfirmed",
                                 "stop the application's writes to the source, and confirm it with "
                                 "{\"writesStopped\": true}; or send {\"blockWrites\": true}",
                                 TOW_ERROR_OPTION);
    return command(request, blocks ? tow_job_cutover_blocking : tow_job_cutover);
}

static enum MHD_Result post_abort(tow_request_t *request)
{
    return command(request, tow_job_call_off);
}

/* {"duration": "24h"}, or {"seconds": 86400}. */
static bool read_extension(const bson_t *body, int64_t *out_seconds, tow_error_t *error)
{
    bson_iter_t iter;
    int64_t ms = 0;

    if (body && bson_iter_init_find(&iter, body, "duration") && BSON_ITER_HOLDS_UTF8(&iter)) {
        if (!tow_duration_parse(bson_iter_utf8(&iter, NULL), &ms))
            ms = 0;
    } else if (body && bson_iter_init_find(&iter, body, "seconds") && BSON_ITER_HOLDS_INT(&iter)) {
        ms = bson_iter_as_int64(&iter) < INT32_MAX ? bson_iter_as_int64(&iter) * 1000 : 0;
    }
    *out_seconds = ms / 1000;
    return ms >= 1000 ? true
                      : tow_fail(error, TOW_ERROR_OPTION,
                                 "the body says no time to add; send {\"duration\": \"24h\"} or "
                                 "{\"seconds\": 86400}");
}

static enum MHD_Result post_extend(tow_request_t *request)
{
    tow_error_t error;
    int64_t seconds;
    tow_job_t *job = hold_job(request->server);
    bool ok = job ? read_extension(request->body, &seconds, &error) &&
                        tow_job_extend(job, seconds, &error)
                  : fail_idle(&error);

    if (job)
        let_go(request->server);
    return ok ? tow_reply_done(request) : tow_reply_error(request, &error);
}

static enum MHD_Result post_cancel(tow_request_t *request)
{
    tow_error_t error;
    tow_job_t *job = hold_job(request->server);
    bool ok = job ? tow_job_cancel(job, &error) : fail_idle(&error);
    char *remains = ok ? tow_job_remains(job) : NULL, *text;

    if (job)
        let_go(request->server);
    if (!ok)
        return tow_reply_error(request, &error);
    text = tow_json_text(remains);
    tow_free(remains);
    return tow_reply_with(request, "remains", text);
}

static enum MHD_Result get_summary(tow_request_t *request)
{
    tow_error_t error;
    tow_job_t *job = hold_job(request->server);
    char *summary = NULL;

    if (!job)
        fail_idle(&error);
    else if (!tow_server_job_ended(job))
        tow_fail(&error, TOW_ERROR_STATE,
                 "the job has not ended yet; GET progress tells how far it is");
    else
        summary = tow_job_summary_json(job);
    if (job)
        let_go(request->server);
    note_told(request, summary != NULL);
    return summary ? tow_reply_with(request, "summary", summary) : tow_reply_error(request, &error);
}

static enum MHD_Result get_collections(tow_request_t *request)
{
    const char *text =
        MHD_lookup_connection_value(request->connection, MHD_GET_ARGUMENT_KIND, "limit");
    unsigned long limit = COLLECTIONS_SHOWN;
    tow_json_t reply = {0};
    tow_job_t *job;
    char *list, *end;

    if (text) {
        limit = strtoul(text, &end, 10);
        if (end == text || *end || limit < 1 || limit > COLLECTIONS_MOST)
            return tow_reply_refusal(request, MHD_HTTP_BAD_REQUEST, "InvalidQuery",
                                     "limit: expected a number of 1..10000", TOW_ERROR_OPTION);
    }
    job = hold_job(request->server);
    list = job ? tow_job_collections_json(job, (uint32_t)limit)
               : tow_strdup("{\"total\":0,\"collections\":[]}");
    if (job)
        let_go(request->server);
    tow_json_begin(&reply, NULL);
    tow_json_put_flag(&reply, "success", true);
    tow_json_put_fields(&reply, list);
    tow_json_end(&reply);
    tow_free(list);
    return tow_reply_json(request, tow_json_take_line(&reply));
}

/* Starting --------------------------------------------------------------------------------------*/

static enum MHD_Result post_start(tow_request_t *request)
{
    tow_error_t error;
    tow_options_t *options = tow_settings_of(request, &error);
    bool ok = options && tow_server_start(request->server, options, &error);

    tow_options_destroy(options);
    return ok ? tow_reply_done(request) : tow_reply_error(request, &error);
}

static enum MHD_Result look(tow_request_t *request, const char *name,
                            bool (*act)(const tow_options_t *, char **, tow_error_t *))
{
    tow_error_t error;
    tow_options_t *options = tow_settings_of(request, &error);
    char *json = NULL;

    /* A check that fails is a result, too: it stands in the JSON. */
    if (options && !act(options, &json, &error) && json)
        error.code = TOW_OK;
    tow_options_destroy(options);
    return json ? tow_reply_with(request, name, json) : tow_reply_error(request, &error);
}

static enum MHD_Result post_check(tow_request_t *request)
{
    return look(request, "check", tow_check);
}

static enum MHD_Result post_plan(tow_request_t *request)
{
    return look(request, "plan", tow_plan);
}

static void put_row(tow_json_t *out, const tow_option_t *row)
{
    static const char *const types[] = {"string", "secret", "list",    "integer",
                                        "flag",   "choice", "duration"};

    tow_json_begin(out, NULL);
    tow_json_put_text(out, "name", row->name);
    tow_json_put_text(out, "type", types[row->type]);
    tow_json_put_text(out, "unit", row->unit);
    tow_json_put_text(out, "range", row->range);
    tow_json_put_text(out, "initial", row->initial);
    tow_json_put_text(out, "help", row->help);
    tow_json_end(out);
}

static enum MHD_Result get_options(tow_request_t *request)
{
    tow_json_t out = {0};
    size_t count;
    const tow_option_t *table = tow_options_table(&count);

    tow_json_begin_array(&out, NULL);
    for (size_t i = 0; i < count; i++)
        if (tow_settings_may_set(&table[i]))
            put_row(&out, &table[i]);
    tow_json_end_array(&out);
    return tow_reply_with(request, "options", tow_json_take(&out));
}

/* What is not the API ---------------------------------------------------------------------------*/

static enum MHD_Result get_openapi(tow_request_t *request)
{
    return tow_reply_file(request, "openapi.json");
}

static enum MHD_Result get_events(tow_request_t *request)
{
    return tow_reply_events(request);
}

static enum MHD_Result get_metrics(tow_request_t *request)
{
    return tow_reply_text(request, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8",
                          tow_metrics(request->server));
}

static enum MHD_Result get_health(tow_request_t *request)
{
    return tow_reply_text(request, MHD_HTTP_OK, "text/plain; charset=utf-8", tow_strdup("ok\n"));
}

static enum MHD_Result get_readiness(tow_request_t *request)
{
    tow_progress_t progress;
    tow_job_t *job = hold_job(request->server);
    bool ready;
    char *text;

    if (job) {
        tow_job_progress(job, &progress);
        let_go(request->server);
    }
    text = tow_readiness(job ? &progress : NULL, &ready);
    return tow_reply_text(request, ready ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE,
                          "text/plain; charset=utf-8", text);
}

/* For the verb; over HTTP alone no one knows whom they ask. */
static enum MHD_Result get_page_address(tow_request_t *request)
{
    char *address = tow_server_address(request->server, true);
    tow_json_t out = {0};

    tow_json_begin(&out, NULL);
    tow_json_put_flag(&out, "success", true);
    tow_json_put_text(&out, "address", address);
    tow_json_end(&out);
    tow_free(address);
    return tow_reply_json(request, tow_json_take_line(&out));
}

/* The page asks before it shows its token, or anything else: another process that listens here now
 * does not know the token. */
static enum MHD_Result get_proof(tow_request_t *request)
{
    const char *nonce =
        MHD_lookup_connection_value(request->connection, MHD_GET_ARGUMENT_KIND, "nonce");
    tow_json_t out = {0};
    char *proof;

    if (!nonce || strlen(nonce) < 32 || strlen(nonce) > 128)
        return tow_reply_refusal(request, MHD_HTTP_BAD_REQUEST, "InvalidOption",
                                 "nonce: expected 32 to 128 random letters", TOW_ERROR_OPTION);
    proof = tow_page_proof(request->server->page_token, nonce);
    tow_json_begin(&out, NULL);
    tow_json_put_flag(&out, "success", true);
    tow_json_put_text(&out, "proof", proof);
    tow_json_end(&out);
    free(proof);
    return tow_reply_json(request, tow_json_take_line(&out));
}

static enum MHD_Result get_page(tow_request_t *request)
{
    return tow_reply_file(request, request->path[1] ? request->path + 1 : "page/index.html");
}

/* Routing ---------------------------------------------------------------------------------------*/

static const struct {
    const char *path, *method; /* a path that ends with * stands for all that begin so */
    enum MHD_Result (*handle)(tow_request_t *request);
    bool open; /* needs no token: it tells nothing that is not public */
} routes[] = {
    {"/api/v1/progress", "GET", get_progress, false},
    {"/api/v1/start", "POST", post_start, false},
    {"/api/v1/pause", "POST", post_pause, false},
    {"/api/v1/resume", "POST", post_resume, false},
    {"/api/v1/commit", "POST", post_commit, false},
    {"/api/v1/reverse", "POST", post_reverse, false},
    {"/api/v1/check", "POST", post_check, false},
    {"/api/v1/plan", "POST", post_plan, false},
    {"/api/v1/cutover", "POST", post_cutover, false},
    {"/api/v1/cutover/abort", "POST", post_abort, false},
    {"/api/v1/extend", "POST", post_extend, false},
    {"/api/v1/cancel", "POST", post_cancel, false},
    {"/api/v1/verify", "POST", post_verify, false},
    {"/api/v1/summary", "GET", get_summary, false},
    {"/api/v1/collections", "GET", get_collections, false},
    {"/api/v1/options", "GET", get_options, false},
    {"/api/v1/events", "GET", get_events, false},
    {"/api/v1/page", "GET", get_page_address, false},
    {"/api/v1/proof", "GET", get_proof, true},
    {"/api/v1/openapi.json", "GET", get_openapi, false},
    {"/metrics", "GET", get_metrics, false},
    {"/healthz", "GET", get_health, true},
    {"/readyz", "GET", get_readiness, true},
    {"/", "GET", get_page, true},
    {"/page/*", "GET", get_page, true},
};

static bool fits(const char *pattern, const char *path)
{
    size_t length = strlen(pattern);

    return pattern[length - 1] == '*' ? !strncmp(pattern, path, length - 1)
                                      : !strcmp(pattern, path);
}

/* What loopback is always called, the address that is listened on (all of 127.* is loopback), and
 * the name of it that --listen gives. */
static bool is_loopback_name(const tow_server_t *server, const char *host, size_t length)
{
    const char *listen = tow_options_get(server->options, "listen", 0);
    const char *const names[] = {"127.0.0.1", "localhost", "[::1]", server->host};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strlen(names[i]) == length && !strncmp(names[i], host, length))
            return true;
    return (size_t)(strrchr(listen, ':') - listen) == length && !strncasecmp(listen, host, length);
}

/* No page of another site stands behind the request: its browser would tell the site as the origin,
 * or, with a name that was made to mean this host, as the host. */
static bool is_our_own(const tow_request_t *request)
{
    const char *host = MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, "Host");
    const char *origin =
        MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, "Origin");
    const char *colon = host ? strrchr(host, ':') : NULL;
    const char *scheme = request->server->tls ? "https://" : "http://";

    if (!host)
        return false;
    if (origin && (strncmp(origin, scheme, strlen(scheme)) != 0 ||
                   strcmp(origin + strlen(scheme), host) != 0))
        return false;
    return !request->server->loopback ||
           is_loopback_name(request->server, host,
                            colon && !strchr(colon, ']') ? (size_t)(colon - host) : strlen(host));
}

/* By the user's token, or the page's; where none is asked for, by the user of the process that
 * asks. */
static bool may_ask(const tow_request_t *request)
{
    const char *given =
        MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, "Authorization");

    return request->server->token ? tow_token_fits(request->server->token, given) ||
                                        tow_token_fits(request->server->page_token, given)
                                  : tow_peers_known(request->server->peers, request->connection) ||
                                        tow_peer_is_ours(request->connection);
}

static enum MHD_Result refuse_stranger(const tow_request_t *request)
{
    if (!request->server->token)
        return tow_reply_refusal(
            request, MHD_HTTP_FORBIDDEN, "Forbidden",
            "with --no-token only the user who started Towline, and root, may ask",
            TOW_ERROR_CONTROL);
    return tow_reply_refusal(
        request, MHD_HTTP_UNAUTHORIZED, "Unauthorized",
        "the token is missing or wrong: send `Authorization: Bearer TOKEN` with "
        "what stands in the token file",
        TOW_ERROR_CONTROL);
}

enum MHD_Result tow_route(tow_request_t *request, const char *method)
{
    bool known = false, may = may_ask(request);
    tow_error_t error;

    if (!tow_peers_asked(request->server->peers, request->connection, may))
        return tow_reply_refusal(request, MHD_HTTP_SERVICE_UNAVAILABLE, "TooMany",
                                 "too many connections are open; close some, and ask again",
                                 TOW_ERROR_CONTROL);
    if (!is_our_own(request))
        return tow_reply_refusal(
            request, MHD_HTTP_FORBIDDEN, "Forbidden",
            "the request comes from a page of another site, or names another host",
            TOW_ERROR_CONTROL);
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        if (!fits(routes[i].path, request->path))
            continue;
        known = true;
        if (!routes[i].open && !may)
            return refuse_stranger(request);
        if (strcmp(method, routes[i].method) != 0)
            continue;
        return tow_request_parse(request, &error)
                   ? routes[i].handle(request)
                   : tow_reply_refusal(request, MHD_HTTP_BAD_REQUEST, "InvalidBody", error.message,
                                       (int)error.code);
    }
    if (known)
        return tow_reply_refusal(request, MHD_HTTP_METHOD_NOT_ALLOWED, "MethodNotAllowed",
                                 "this path takes another method", TOW_ERROR_CONTROL);
    return tow_reply_refusal(request, MHD_HTTP_NOT_FOUND, "NotFound", "there is no such path",
                             TOW_ERROR_CONTROL);
}
