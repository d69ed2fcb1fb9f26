/* link.c: one side: pool, time, connections. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/file.h"
#include "engine/base/memory.h"
#include "engine/link/driver.h"
#include "engine/link/internal.h"
#include "engine/link/uri.h"

enum {
    CONNECT_MS = 10000,
    SELECT_MS =
        2000, /* the driver waits so long for a server and cannot be woken: a stop does too */
    SOCKET_MS = 60000,
    HEARTBEAT_MS = 2000 /* so long it may go on without a primary that is there again */
};

void tow_new_id(char out[25])
{
    bson_oid_t oid;

    bson_oid_init(&oid, NULL);
    bson_oid_to_string(&oid, out);
}

static void default_int(mongoc_uri_t *uri, const char *name, int32_t value)
{
    if (mongoc_uri_get_option_as_int32(uri, name, -1) == -1)
        mongoc_uri_set_option_as_int32(uri, name, value);
}

/* The driver would only say that some handshake failed. */
static bool check_file(tow_link_t *link, const char *option, const char *shown, tow_error_t *error)
{
    const char *path = mongoc_uri_get_option_as_utf8(link->uri, option, NULL);

    if (path && access(path, R_OK))
        return tow_fail(error, TOW_ERROR_OPTION,
                        "%s of the %s's URI, %s, cannot be read: %s; give a file that this user "
                        "may read",
                        shown, link->side, path, strerror(errno));
    return true;
}

/* The same of one with our key in it, which nobody else may read. */
static bool check_secret(tow_link_t *link, tow_error_t *error)
{
    const char *path =
        mongoc_uri_get_option_as_utf8(link->uri, MONGOC_URI_TLSCERTIFICATEKEYFILE, NULL);
    char name[64];
    int file;
    bool ok;

    if (!check_file(link, MONGOC_URI_TLSCERTIFICATEKEYFILE, "tlsCertificateKeyFile", error))
        return false;
    file = path ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
    if (file < 0)
        return true;
    snprintf(name, sizeof name, "tlsCertificateKeyFile of the %s's URI", link->side);
    ok = tow_secret_check_as(file, name, path, error);
    close(file);
    return ok;
}

/* A file without a certificate is told as such: the handshake would blame the server's. */
static bool check_pem(tow_link_t *link, tow_error_t *error)
{
    const char *path = mongoc_uri_get_option_as_utf8(link->uri, MONGOC_URI_TLSCAFILE, NULL);
    char line[512];
    bool found = false;
    FILE *file = path ? fopen(path, "r") : NULL;

    if (!file)
        return true;
    while (!found && fgets(line, sizeof line, file))
        found = !strncmp(line, "-----BEGIN ", 11);
    fclose(file);
    return found ? true
                 : tow_fail(error, TOW_ERROR_OPTION,
                            "tlsCAFile of the %s's URI, %s, holds no certificate; give the file "
                            "with the certificates (PEM) of the authority that signed the server's",
                            link->side, path);
}

/* The driver takes a single host for the only one there is, unless it is told otherwise: no
 * election would be followed (1.23 mongoc-topology.c). */
static void discover(tow_link_t *link)
{
    const mongoc_host_list_t *hosts = mongoc_uri_get_hosts(link->uri);

    if (!hosts || hosts->next || mongoc_uri_get_replica_set(link->uri) ||
        mongoc_uri_has_option(link->uri, MONGOC_URI_DIRECTCONNECTION) ||
        mongoc_uri_has_option(link->uri, MONGOC_URI_LOADBALANCED))
        return;
    mongoc_uri_set_option_as_bool(link->uri, MONGOC_URI_DIRECTCONNECTION, false);
    link->discovers = true;
}

static bool parse(tow_link_t *link, const char *text, tow_error_t *error)
{
    link->uri = tow_uri_read(text, link->side, NULL, error);
    if (!link->uri)
        return false;
    default_int(link->uri, MONGOC_URI_CONNECTTIMEOUTMS, CONNECT_MS);
    link->connect_ms =
        mongoc_uri_get_option_as_int32(link->uri, MONGOC_URI_SERVERSELECTIONTIMEOUTMS, CONNECT_MS);
    default_int(link->uri, MONGOC_URI_SERVERSELECTIONTIMEOUTMS, SELECT_MS);
    default_int(link->uri, MONGOC_URI_SOCKETTIMEOUTMS, SOCKET_MS);
    default_int(link->uri, MONGOC_URI_HEARTBEATFREQUENCYMS, HEARTBEAT_MS);
    mongoc_uri_set_option_as_int32(link->uri, MONGOC_URI_MAXPOOLSIZE,
                                   (int32_t)link->options.max_connections);
    /* Retrying is ours: the driver's own would hide it. */
    mongoc_uri_set_option_as_bool(link->uri, MONGOC_URI_RETRYWRITES, false);
    mongoc_uri_set_option_as_bool(link->uri, MONGOC_URI_RETRYREADS, false);
    discover(link);
    if (!mongoc_uri_get_appname(link->uri))
        mongoc_uri_set_appname(link->uri, "towline");
    return check_file(link, MONGOC_URI_TLSCAFILE, "tlsCAFile", error) && check_pem(link, error) &&
           check_secret(link, error);
}

static void read_hosts(tow_link_t *link)
{
    tow_buffer_t text = {0};

    for (const mongoc_host_list_t *host = mongoc_uri_get_hosts(link->uri); host;
         host = host->next) {
        if (text.length)
            tow_buffer_append(&text, ",", 1);
        tow_buffer_append(&text, host->host_and_port, strlen(host->host_and_port));
    }
    if (!text.length && mongoc_uri_get_srv_hostname(link->uri))
        tow_buffer_append(&text, mongoc_uri_get_srv_hostname(link->uri),
                          strlen(mongoc_uri_get_srv_hostname(link->uri)));
    tow_buffer_append(&text, "", 1);
    link->hosts = (char *)text.data;
}

/* A mongodb+srv URI is looked up when the pool is made; anything else is a matter of options. */
static bool fail_pool(tow_link_t *link, const bson_error_t *driver, tow_error_t *error)
{
    if (driver->domain == MONGOC_ERROR_STREAM) {
        tow_classify(driver, NULL, link->side, error);
        return false;
    }
    return tow_fail(error, TOW_ERROR_OPTION, "the URI of the %s cannot be used: %s", link->side,
                    driver->message);
}

/* The host may answer, and name members that cannot be reached from here. */
static void add_hint(tow_error_t *error)
{
    size_t length = strlen(error->message);
    tow_stage_t stage = tow_error_stage(error);

    if (stage == TOW_STAGE_NAME || stage == TOW_STAGE_CONNECTION)
        snprintf(error->message + length, sizeof error->message - length,
                 "; where only the host of the URI is to be used, and none of the members that it "
                 "names, add "
                 "directConnection=true");
}

tow_link_t *tow_link_new(const char *uri, const tow_link_options_t *options, tow_error_t *error)
{
    tow_link_t *link = tow_alloc(sizeof *link);
    bson_error_t driver;
    tow_conn_t *conn = NULL;
    bool ok;

    tow_driver_enter();
    link->options = *options;
    atomic_store(&link->answered_ms, tow_now_ms());
    snprintf(link->side, sizeof link->side, "%s", options->side);
    pthread_mutex_init(&link->lock, NULL);
    bson_init(&link->gossip);
    ok = parse(link, uri, error);
    if (ok) {
        link->pool = mongoc_client_pool_new_with_error(link->uri, &driver);
        if (!link->pool)
            ok = fail_pool(link, &driver, error);
    }
    if (ok) {
        mongoc_client_pool_set_error_api(link->pool, MONGOC_ERROR_API_VERSION_2);
        read_hosts(link);
        conn = tow_conn_open(link);
        ok = tow_facts_read(link, conn, error);
        tow_conn_close(conn);
    }
    tow_driver_tell(&link->options.sink);
    if (!ok && link->discovers && error->code == TOW_ERROR_UNREACHABLE)
        add_hint(error);
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
    bson_destroy(&link->gossip);
    free(link->hosts);
    free(link);
    tow_driver_leave();
}

const tow_facts_t *tow_link_facts(const tow_link_t *link)
{
    return &link->facts;
}

const char *tow_link_side(const tow_link_t *link)
{
    return link->side;
}

const char *tow_link_hosts(const tow_link_t *link)
{
    return link->hosts;
}

int64_t tow_link_silent_ms(const tow_link_t *link)
{
    int64_t since_ms = atomic_load(&link->watched_ms),
            answered_ms = atomic_load(&link->answered_ms);

    if (!since_ms)
        return 0;
    return tow_now_ms() - (since_ms > answered_ms ? since_ms : answered_ms);
}

void tow_link_watch(tow_link_t *link)
{
    if (!atomic_load(&link->watched_ms))
        atomic_store(&link->watched_ms, tow_now_ms());
}

void tow_link_watched(tow_link_t *link, bool answered)
{
    if (answered)
        atomic_store(&link->heard_ms, atomic_exchange(&link->watched_ms, 0));
}

int64_t tow_link_answered_ms(const tow_link_t *link)
{
    return atomic_load(&link->answered_ms);
}

int64_t tow_link_heard_ms(const tow_link_t *link)
{
    return atomic_load(&link->heard_ms);
}

tow_optime_t tow_link_time(const tow_link_t *link)
{
    return atomic_load(&link->time);
}

static void raise_time(_Atomic tow_optime_t *at, tow_optime_t time)
{
    tow_optime_t known = atomic_load(at);

    while (time > known && !atomic_compare_exchange_weak(at, &known, time))
        ;
}

void tow_link_note_time(tow_link_t *link, tow_optime_t time)
{
    raise_time(&link->time, time);
}

void tow_link_note_event(tow_link_t *link, tow_optime_t time, bool opaque)
{
    raise_time(&link->time, time);
    raise_time(&link->event_time, time);
    if (opaque)
        atomic_store(&link->opaque, true);
}

tow_optime_t tow_link_read_time(const tow_link_t *link)
{
    return atomic_load(&link->opaque) ? atomic_load(&link->event_time) : atomic_load(&link->time);
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

tow_conn_t *tow_conn_open(tow_link_t *link)
{
    tow_conn_t *conn = tow_alloc(sizeof *conn);

    conn->link = link;
    return conn;
}

void tow_conn_heed(tow_conn_t *conn, const tow_stop_t *stop)
{
    conn->heeds = stop;
}

tow_conn_t *tow_conn_open_apart(tow_link_t *link, tow_error_t *error)
{
    tow_conn_t *conn = tow_conn_open(link);
    bson_error_t driver;

    conn->client = conn->apart = mongoc_client_new_from_uri_with_error(link->uri, &driver);
    if (!conn->apart) {
        tow_classify(&driver, NULL, link->side, error);
        tow_conn_close(conn);
        return NULL;
    }
    mongoc_client_set_error_api(conn->apart, MONGOC_ERROR_API_VERSION_2);
    return conn;
}

void tow_conn_close(tow_conn_t *conn)
{
    if (!conn)
        return;
    if (conn->session)
        mongoc_client_session_destroy(conn->session);
    if (conn->apart)
        mongoc_client_destroy(conn->apart);
    else if (conn->client)
        mongoc_client_pool_push(conn->link->pool, conn->client);
    tow_patient_free(conn->patient);
    free(conn);
}

tow_link_t *tow_conn_link(tow_conn_t *conn)
{
    return conn->link;
}
