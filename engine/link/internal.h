/* internal.h: what the files of the link share. */
#ifndef TOW_LINK_INTERNAL_H
#define TOW_LINK_INTERNAL_H

#include <mongoc/mongoc.h>
#include <pthread.h>
#include <stdatomic.h>

#include "engine/link/link.h"

struct tow_link {
    tow_link_options_t options;
    char side[16];
    mongoc_client_pool_t *pool;
    mongoc_uri_t *uri;             /* kept for connections without a time-out */
    tow_facts_t facts;             /* constant once made, but append_note */
    char *hosts;
    _Atomic tow_optime_t time;
    _Atomic uint64_t retries, ping_us;
    atomic_int note_refused;       /* appendOplogNote was refused: do not ask again */
    pthread_mutex_t lock;          /* guards what follows */
    char retrying[192];
    int64_t warned_ms;
};

struct tow_conn {
    tow_link_t *link;
    mongoc_client_t *client;       /* popped at the first use */
    mongoc_client_session_t *session;
    mongoc_client_t *patient;      /* without a socket time-out, for index builds */
    uint32_t server;
};

/* The client of a connection, with its session; makes both at the first use. */
bool tow_conn_ready(tow_conn_t *conn, tow_error_t *error);
void tow_link_take_time(tow_link_t *link, const bson_t *reply);
bool tow_facts_read(tow_link_t *link, tow_conn_t *conn, tow_error_t *error);

#endif
