/* SPDX-License-Identifier: Apache-2.0 */
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

    tow_link_lock(mutable_link);
    snprintf(out, size, "%s", link->retrying);
    tow_link_unlock(mutable_link);
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
