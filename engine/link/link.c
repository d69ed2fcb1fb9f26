/* link.c: one side: pool, time, connections. */
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/base/memory.h"
#include "engine/link/internal.h"

enum { CONNECT_MS = 10000, SOCKET_MS = 60000 };

static void initialize(void)
{
    mongoc_init();
    /* The driver would write to stderr by itself; our errors tell what happened. */
    mongoc_log_set_handler(NULL, NULL);
}

static void default_int(mongoc_uri_t *uri, const char *name, int32_t value)
{
    if (mongoc_uri_get_option_as_int32(uri, name, -1) == -1)
        mongoc_uri_set_option_as_int32(uri, name, value);
}

static bool parse(tow_link_t *link, const char *text, tow_error_t *error)
{
    bson_error_t driver;

    link->uri = mongoc_uri_new_with_error(text, &driver);
    if (!link->uri)
        return tow_fail(error, TOW_ERROR_OPTION,
                        "the URI of the %s is malformed; expected mongodb://[user:password@]host"
                        "[:port][,…]/[?options]",
                        link->side);
    default_int(link->uri, MONGOC_URI_CONNECTTIMEOUTMS, CONNECT_MS);
    default_int(link->uri, MONGOC_URI_SERVERSELECTIONTIMEOUTMS, CONNECT_MS);
    default_int(link->uri, MONGOC_URI_SOCKETTIMEOUTMS, SOCKET_MS);
    mongoc_uri_set_option_as_int32(link->uri, MONGOC_URI_MAXPOOLSIZE,
                                   (int32_t)link->options.max_connections);
    /* Retrying is ours: the driver's own would hide it. */
    mongoc_uri_set_option_as_bool(link->uri, MONGOC_URI_RETRYWRITES, false);
    mongoc_uri_set_option_as_bool(link->uri, MONGOC_URI_RETRYREADS, false);
    return true;
}

static void read_hosts(tow_link_t *link)
{
    tow_buffer_t text = {0};

    for (const mongoc_host_list_t *host = mongoc_uri_get_hosts(link->uri); host; host = host->next) {
        if (text.length)
            tow_buffer_append(&text, ",", 1);
        tow_buffer_append(&text, host->host_and_port, strlen(host->host_and_port));
    }
    tow_buffer_append(&text, "", 1);
    link->hosts = (char *)text.data;
}

tow_link_t *tow_link_new(const char *uri, const tow_link_options_t *options, tow_error_t *error)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    tow_link_t *link = tow_alloc(sizeof *link);
    bson_error_t driver;
    tow_conn_t *conn = NULL;
    bool ok;

    pthread_once(&once, initialize);
    link->options = *options;
    snprintf(link->side, sizeof link->side, "%s", options->side);
    pthread_mutex_init(&link->lock, NULL);
    ok = parse(link, uri, error);
    if (ok) {
        link->pool = mongoc_client_pool_new_with_error(link->uri, &driver);
        if (!link->pool)
            ok = tow_fail(error, TOW_ERROR_OPTION, "the URI of the %s cannot be used: %s",
                          link->side, driver.message);
    }
    if (ok) {
        mongoc_client_pool_set_appname(link->pool, "towline");
        mongoc_client_pool_set_error_api(link->pool, MONGOC_ERROR_API_VERSION_2);
        read_hosts(link);
        conn = tow_conn_open(link, error);
        ok = tow_facts_read(link, conn, error);
        tow_conn_close(conn);
    }
    if (!ok) {
        tow_link_destroy(link);
        return NULL;
    }
    return link;
}

void tow_link_destroy(tow_link_t *link)
{
    if (!link)
        return;
    if (link->pool)
        mongoc_client_pool_destroy(link->pool);
    if (link->uri)
        mongoc_uri_destroy(link->uri);
    pthread_mutex_destroy(&link->lock);
    free(link->hosts);
    free(link);
}

const tow_facts_t *tow_link_facts(const tow_link_t *link)
{
    return &link->facts;
}

const char *tow_link_hosts(const tow_link_t *link)
{
    return link->hosts;
}

tow_optime_t tow_link_time(const tow_link_t *link)
{
    return atomic_load(&link->time);
}

void tow_link_note_time(tow_link_t *link, tow_optime_t time)
{
    tow_optime_t known = atomic_load(&link->time);

    while (time > known && !atomic_compare_exchange_weak(&link->time, &known, time))
        ;
}

double tow_link_ping_ms(const tow_link_t *link)
{
    return (double)atomic_load(&link->ping_us) / 1000;
}

uint64_t tow_link_retries(const tow_link_t *link)
{
    return atomic_load(&link->retries);
}

void tow_link_retrying(const tow_link_t *link, char *out, size_t size)
{
    tow_link_t *mutable_link = (tow_link_t *)link;

    pthread_mutex_lock(&mutable_link->lock);
    snprintf(out, size, "%s", link->retrying);
    pthread_mutex_unlock(&mutable_link->lock);
}

tow_conn_t *tow_conn_open(tow_link_t *link, tow_error_t *error)
{
    tow_conn_t *conn = tow_alloc(sizeof *conn);

    conn->link = link;
    return conn;
}

void tow_conn_close(tow_conn_t *conn)
{
    if (!conn)
        return;
    if (conn->session)
        mongoc_client_session_destroy(conn->session);
    if (conn->client)
        mongoc_client_pool_push(conn->link->pool, conn->client);
    if (conn->patient)
        mongoc_client_destroy(conn->patient);
    free(conn);
}

tow_link_t *tow_conn_link(tow_conn_t *conn)
{
    return conn->link;
}

/* A majority read of nothing, whose reply carries the operation time. */
static bool majority_read(tow_conn_t *conn, tow_optime_t *out, tow_error_t *error)
{
    tow_send_options_t send = {.flags = TOW_SEND_READ | TOW_SEND_RETRY};
    bson_t command = BSON_INITIALIZER, reply;
    bool ok;

    bson_append_utf8(&command, "find", -1, "system.version", -1);
    bson_append_int32(&command, "limit", -1, 1);
    bson_append_bool(&command, "singleBatch", -1, true);
    ok = tow_conn_command(conn, "admin", &command, &send, &reply, error);
    *out = tow_reply_time(&reply);
    bson_destroy(&reply);
    bson_destroy(&command);
    return ok;
}

bool tow_link_poll_time(tow_conn_t *conn, tow_optime_t *out, tow_error_t *error)
{
    tow_send_options_t send = {0};
    bson_t command = BSON_INITIALIZER, reply;
    bson_iter_t iter, time;
    int64_t began_us = tow_now_us();
    bool ok;

    *out = 0;
    if (conn->link->facts.sharded) {
        bson_destroy(&command);
        ok = majority_read(conn, out, error);
        atomic_store(&conn->link->ping_us, (uint64_t)(tow_now_us() - began_us));
        return ok;
    }
    bson_append_int32(&command, conn->link->facts.major >= 5 ? "hello" : "isMaster", -1, 1);
    ok = tow_conn_command(conn, "admin", &command, &send, &reply, error);
    if (ok && bson_iter_init(&iter, &reply) &&
        bson_iter_find_descendant(&iter, "lastWrite.majorityOpTime.ts", &time) &&
        BSON_ITER_HOLDS_TIMESTAMP(&time)) {
        uint32_t seconds, increment;

        bson_iter_timestamp(&time, &seconds, &increment);
        *out = TOW_OPTIME(seconds, increment);
        tow_link_note_time(conn->link, *out);
        atomic_store(&conn->link->ping_us, (uint64_t)(tow_now_us() - began_us));
    } else if (ok) {
        ok = majority_read(conn, out, error);
    }
    bson_destroy(&reply);
    bson_destroy(&command);
    return ok;
}

bool tow_link_barrier_time(tow_conn_t *conn, tow_optime_t *out, tow_error_t *error)
{
    tow_send_options_t send = {.flags = TOW_SEND_RETRY};
    bson_t command = BSON_INITIALIZER, data, reply;
    bool ok = false;

    *out = 0;
    if (!atomic_load(&conn->link->note_refused)) {
        bson_append_int32(&command, "appendOplogNote", -1, 1);
        bson_append_document_begin(&command, "data", -1, &data);
        bson_append_utf8(&data, "msg", -1, "towline", -1);
        bson_append_document_end(&command, &data);
        ok = tow_conn_command(conn, "admin", &command, &send, &reply, error);
        if (ok)
            *out = tow_reply_time(&reply);
        else if (error->retry == TOW_RETRY_NEVER)
            atomic_store(&conn->link->note_refused, 1);
        bson_destroy(&reply);
    }
    bson_destroy(&command);
    return ok && *out ? true : majority_read(conn, out, error);
}
