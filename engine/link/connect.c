/* SPDX-License-Identifier: Apache-2.0 */
/* connect.c: makes the link to one side: checks its URI and files, reaches a server, reads what it
 * is. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
