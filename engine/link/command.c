/* command.c: sends one command, adds concerns and session, tries again where that is allowed. */
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/base/memory.h"
#include "engine/link/internal.h"

bool tow_conn_ready(tow_conn_t *conn, tow_error_t *error)
{
    mongoc_session_opt_t *options;
    bson_error_t driver;

    if (!conn->client)
        conn->client = mongoc_client_pool_pop(conn->link->pool);
    if (conn->session)
        return true;
    options = mongoc_session_opts_new();
    mongoc_session_opts_set_causal_consistency(options, false);
    conn->session = mongoc_client_start_session(conn->client, options, &driver);
    mongoc_session_opts_destroy(options);
    if (!conn->session) {
        tow_classify(&driver, NULL, conn->link->side, error);
        return false;
    }
    return true;
}

/* A client of its own whose sockets never time out. */
static bool make_patient(tow_conn_t *conn, tow_error_t *error)
{
    mongoc_uri_t *uri;
    bson_error_t driver;

    if (conn->patient)
        return true;
    uri = mongoc_uri_copy(conn->link->uri);
    mongoc_uri_set_option_as_int32(uri, MONGOC_URI_SOCKETTIMEOUTMS, INT32_MAX);
    conn->patient = mongoc_client_new_from_uri_with_error(uri, &driver);
    mongoc_uri_destroy(uri);
    if (!conn->patient)
        return tow_fail(error, TOW_ERROR_UNREACHABLE, "%s: %s", conn->link->side, driver.message);
    mongoc_client_set_error_api(conn->patient, MONGOC_ERROR_API_VERSION_2);
    return true;
}

/* The command with its concerns. */
static void complete(const bson_t *command, const tow_send_options_t *options, bson_t *out)
{
    bson_t concern;

    bson_copy_to(command, out);
    if (options->flags & TOW_SEND_READ) {
        bson_append_document_begin(out, "readConcern", -1, &concern);
        bson_append_utf8(&concern, "level", -1, "majority", -1);
        if (options->after)
            bson_append_timestamp(&concern, "afterClusterTime", -1,
                                  (uint32_t)(options->after >> 32), (uint32_t)options->after);
        bson_append_document_end(out, &concern);
    }
    if (options->flags & TOW_SEND_WRITE) {
        bson_append_document_begin(out, "writeConcern", -1, &concern);
        bson_append_utf8(&concern, "w", -1, "majority", -1);
        bson_append_document_end(out, &concern);
    }
}

/* Which server to ask. A cursor lives on one mongos: there the choice is made here and remembered, so
 * that getMore can name it. */
static void append_server(tow_conn_t *conn, mongoc_client_t *client, uint32_t wanted, bson_t *opts)
{
    mongoc_server_description_t *chosen;
    bson_error_t ignored;

    if (!wanted && conn->link->facts.sharded &&
        (chosen = mongoc_client_select_server(client, true, NULL, &ignored))) {
        wanted = mongoc_server_description_id(chosen);
        mongoc_server_description_destroy(chosen);
        conn->server = wanted;
    }
    if (wanted)
        bson_append_int32(opts, "serverId", -1, (int32_t)wanted);
}

static bool send_once(tow_conn_t *conn, const char *database, const bson_t *command,
                      const tow_send_options_t *options, bson_t *reply, tow_error_t *error)
{
    bool patient = options->flags & TOW_SEND_NO_TIMEOUT;
    bson_t opts = BSON_INITIALIZER;
    bson_error_t driver = {0};
    bson_iter_t iter;
    mongoc_client_t *client;
    bool ok;

    if (patient ? !make_patient(conn, error) : !tow_conn_ready(conn, error)) {
        bson_init(reply);
        bson_destroy(&opts);
        return false;
    }
    client = patient ? conn->patient : conn->client;
    ok = patient || mongoc_client_session_append(conn->session, &opts, &driver);
    if (ok)
        append_server(conn, client, options->server_id, &opts);
    if (ok) {
        ok = mongoc_client_command_with_opts(client, database, command, NULL, &opts, reply,
                                             &driver);
        tow_link_take_time(conn->link, reply);
    } else {
        bson_init(reply);
    }
    bson_destroy(&opts);
    if (ok && bson_iter_init_find(&iter, reply, "writeConcernError")) {
        bson_iter_t child;
        const char *message = "write concern error";

        if (bson_iter_recurse(&iter, &child) && bson_iter_find(&child, "errmsg") &&
            BSON_ITER_HOLDS_UTF8(&child))
            message = bson_iter_utf8(&child, NULL);
        tow_fail(error, TOW_ERROR_SERVER, "%s: write concern: %s", conn->link->side, message);
        error->retry = TOW_RETRY_RECONNECT; /* done, but perhaps not for good */
        return false;
    }
    if (!ok) {
        tow_classify(&driver, reply, conn->link->side, error);
        if (error->retry == TOW_RETRY_RECONNECT && conn->session) {
            mongoc_client_session_destroy(conn->session);
            conn->session = NULL;
        }
    }
    return ok;
}

static void show_retry(tow_link_t *link, const tow_error_t *error)
{
    int64_t now = tow_now_ms();
    bool warn;

    atomic_fetch_add(&link->retries, 1);
    pthread_mutex_lock(&link->lock);
    snprintf(link->retrying, sizeof link->retrying, "%.*s", (int)sizeof link->retrying - 1,
             error->message);
    warn = now - link->warned_ms > 1000;
    if (warn)
        link->warned_ms = now;
    pthread_mutex_unlock(&link->lock);
    if (warn)
        tow_emit(&link->options.sink, TOW_LEVEL_WARNING, "retry", "%s", error->message);
}

static void clear_retry(tow_link_t *link)
{
    pthread_mutex_lock(&link->lock);
    link->retrying[0] = '\0';
    pthread_mutex_unlock(&link->lock);
}

bool tow_conn_command(tow_conn_t *conn, const char *database, const bson_t *command,
                      const tow_send_options_t *options, bson_t *reply, tow_error_t *error)
{
    int64_t deadline_ms = tow_now_ms() + conn->link->options.retry_window_ms;
    unsigned attempt = 0;
    bson_t complete_command;
    bool ok;

    complete(command, options, &complete_command);
    while (!(ok = send_once(conn, database, &complete_command, options, reply, error))) {
        if (!(options->flags & TOW_SEND_RETRY) ||
            (error->retry != TOW_RETRY_SAME && error->retry != TOW_RETRY_RECONNECT))
            break;
        show_retry(conn->link, error);
        if (!tow_backoff(conn->link, attempt++, deadline_ms))
            break;
        bson_destroy(reply);
    }
    if (attempt)
        clear_retry(conn->link);
    bson_destroy(&complete_command);
    return ok;
}

uint32_t tow_conn_server(const tow_conn_t *conn)
{
    return conn->server;
}

tow_optime_t tow_reply_time(const bson_t *reply)
{
    bson_iter_t iter;
    uint32_t seconds, increment;

    if (!bson_iter_init_find(&iter, reply, "operationTime") || !BSON_ITER_HOLDS_TIMESTAMP(&iter))
        return 0;
    bson_iter_timestamp(&iter, &seconds, &increment);
    return TOW_OPTIME(seconds, increment);
}

void tow_link_take_time(tow_link_t *link, const bson_t *reply)
{
    tow_link_note_time(link, tow_reply_time(reply));
}

bool tow_reply_write_error(const bson_t *reply, uint32_t *position, tow_write_error_t *out)
{
    bson_iter_t iter, list, field;
    uint32_t at = 0;

    if (!bson_iter_init_find(&iter, reply, "writeErrors") || !BSON_ITER_HOLDS_ARRAY(&iter) ||
        !bson_iter_recurse(&iter, &list))
        return false;
    while (bson_iter_next(&list)) {
        if (at++ < *position)
            continue;
        *position = at;
        *out = (tow_write_error_t){.message = ""};
        if (!bson_iter_recurse(&list, &field))
            return true;
        while (bson_iter_next(&field)) {
            const char *name = bson_iter_key(&field);

            if (!strcmp(name, "index")) {
                out->index = (uint32_t)bson_iter_as_int64(&field);
            } else if (!strcmp(name, "code")) {
                out->code = (int)bson_iter_as_int64(&field);
            } else if (!strcmp(name, "errmsg") && BSON_ITER_HOLDS_UTF8(&field)) {
                out->message = bson_iter_utf8(&field, NULL);
            } else if (!strcmp(name, "keyValue") && BSON_ITER_HOLDS_DOCUMENT(&field)) {
                out->key_value = field;
                out->has_key_value = true;
            } else if (!strcmp(name, "keyPattern")) {
                out->key_pattern = field;
            }
        }
        return true;
    }
    return false;
}

bool tow_conn_insert(tow_conn_t *conn, const char *database, const char *collection,
                     const bson_t *const *documents, size_t count, bool ordered, bson_t *reply,
                     tow_error_t *error)
{
    mongoc_collection_t *handle;
    bson_t opts = BSON_INITIALIZER, concern;
    bson_error_t driver = {0};
    bson_iter_t iter;
    bool ok;

    if (!tow_conn_ready(conn, error)) {
        bson_init(reply);
        bson_destroy(&opts);
        return false;
    }
    bson_append_bool(&opts, "validate", -1, false);
    bson_append_bool(&opts, "ordered", -1, ordered);
    bson_append_bool(&opts, "bypassDocumentValidation", -1, true);
    if (conn->link->facts.bypass_empty_ts)
        bson_append_bool(&opts, "bypassEmptyTsReplacement", -1, true);
    bson_append_document_begin(&opts, "writeConcern", -1, &concern);
    bson_append_utf8(&concern, "w", -1, "majority", -1);
    bson_append_document_end(&opts, &concern);
    handle = mongoc_client_get_collection(conn->client, database, collection);
    ok = mongoc_client_session_append(conn->session, &opts, &driver);
    if (ok)
        ok = mongoc_collection_insert_many(handle, (const bson_t **)documents, count, &opts, reply,
                                           &driver);
    else
        bson_init(reply);
    mongoc_collection_destroy(handle);
    bson_destroy(&opts);
    tow_link_take_time(conn->link, reply);
    /* Refused documents are the caller's to judge. */
    if (!ok && bson_iter_init_find(&iter, reply, "writeErrors") && BSON_ITER_HOLDS_ARRAY(&iter)) {
        bson_iter_t list;

        if (bson_iter_recurse(&iter, &list) && bson_iter_next(&list))
            ok = true;
    }
    if (!ok) {
        tow_classify(&driver, reply, conn->link->side, error);
        if (driver.domain == MONGOC_ERROR_WRITE_CONCERN)
            error->retry = TOW_RETRY_RECONNECT;
        if (error->retry == TOW_RETRY_RECONNECT && conn->session) {
            mongoc_client_session_destroy(conn->session);
            conn->session = NULL;
        }
    }
    return ok;
}

bool tow_backoff(tow_link_t *link, unsigned attempt, int64_t deadline_ms)
{
    static atomic_uint seed = 1;
    int64_t most = 50LL << (attempt > 7 ? 7 : attempt), wait_ms;
    unsigned state = atomic_fetch_add(&seed, 7919);

    if (most > 5000)
        most = 5000;
    wait_ms = 10 + (int64_t)rand_r(&state) % most; /* full jitter: clients must not march in step */
    if (tow_now_ms() + wait_ms > deadline_ms)
        return false;
    if (link->options.stop)
        return !tow_stop_wait(link->options.stop, wait_ms);
    {
        struct timespec pause = {wait_ms / 1000, (wait_ms % 1000) * 1000000};

        nanosleep(&pause, NULL);
    }
    return true;
}
