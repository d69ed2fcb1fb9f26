/* SPDX-License-Identifier: Apache-2.0 */
/* internal.h: what the files of the control server share.
 *
 * libmicrohttpd gives every connection a thread, so a request may wait (a check talks to servers)
 * without holding up another. The job of the moment is held by a lock that requests take for
 * reading. */
#ifndef TOW_HTTP_INTERNAL_H
#define TOW_HTTP_INTERNAL_H

#include <bson/bson.h>
#include <microhttpd.h>
#include <pthread.h>

#include "engine/base/error.h"
#include "engine/base/memory.h"
#include "engine/http/events.h"
#include "engine/http/peers.h"
#include "engine/towline.h"

struct tow_server {
    /* Constant once it listens. */
    tow_options_t *options; /* what a start builds on */
    char *token;            /* NULL: none is asked for */
    char *page_token;       /* asked for as well; see token.h */
    bool loopback, tls;
    char host[64]; /* as it stands in an address */
    int port;
    struct MHD_Daemon *daemon;
    tow_peers_t *peers;
    tow_events_t *events;
    tow_event_fn listener; /* of the jobs that the server starts; may be NULL */
    void *listener_data;

    pthread_rwlock_t lock; /* guards what follows */
    tow_job_t *job;        /* NULL: none was started yet */
    bool own;              /* started by the server, which destroys it */
    bool closing;          /* no job is started any more */
};

typedef struct {
    tow_server_t *server;
    struct MHD_Connection *connection;
    const char *path;
    tow_buffer_t text; /* of the body, at most TOW_BODY_MOST and one piece more */
    bson_t *body;      /* NULL: there was none */
} tow_request_t;

/* routes.c: one request that was read whole. */
enum MHD_Result tow_route(tow_request_t *request, const char *method);

/* reply.c: each queues the reply; *_json and *_text take the text. */
enum MHD_Result tow_reply_text(const tow_request_t *request, unsigned status, const char *type,
                               char *text);
enum MHD_Result tow_reply_json(const tow_request_t *request, char *json);
/* {"success": true, "NAME": JSON}; takes the JSON. */
enum MHD_Result tow_reply_with(const tow_request_t *request, const char *name, char *json);
enum MHD_Result tow_reply_done(const tow_request_t *request); /* {"success": true} */
enum MHD_Result tow_reply_file(const tow_request_t *request, const char *path);
/* The error's name is made of its code. */
enum MHD_Result tow_reply_error(const tow_request_t *request, const tow_error_t *error);
enum MHD_Result tow_reply_refusal(const tow_request_t *request, unsigned status, const char *name,
                                  const char *description, int exit_status);
enum MHD_Result tow_reply_events(const tow_request_t *request);
/* Headers that every reply has. */
void tow_reply_secure(struct MHD_Response *response);

/* request.c */
enum { TOW_BODY_MOST = 64 * 1024 };
/* Reads the body's JSON, if there is any. */
bool tow_request_parse(tow_request_t *request, tow_error_t *error) TOW_CHECK;

/* current.c */
char *tow_server_progress(tow_server_t *server); /* the object `progress` */
bool tow_server_job_ended(tow_job_t *job);       /* with its summary */

/* settings.c: the server's options and what the body of a start says. NULL with *error,
 * TOW_ERROR_OPTION: a field is unknown, of a wrong type, or asks for what is not supported. */
tow_options_t *tow_settings_of(const tow_request_t *request, tow_error_t *error);
/* Whether an option is each job's own and may be set by a request, rather than the process's. */
bool tow_settings_may_set(const tow_option_t *option);

/* metrics.c: text for Prometheus; takes a reading lock. */
char *tow_metrics(tow_server_t *server);

#endif
