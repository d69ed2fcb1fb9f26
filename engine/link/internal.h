/* SPDX-License-Identifier: Apache-2.0 */
/* internal.h: what the files of the link share. */
#ifndef TOW_LINK_INTERNAL_H
#define TOW_LINK_INTERNAL_H

#include <mongoc/mongoc.h>
#include <pthread.h>
#include <stdatomic.h>

#include "engine/base/guarded.h"
#include "engine/link/link.h"

typedef struct tow_patient tow_patient_t;

TOW_GUARD(tow_link);
struct tow_link {
    tow_link_options_t options;
    char side[16];
    mongoc_client_pool_t *pool;
    mongoc_uri_t *uri; /* kept for connections without a time-out */
    tow_facts_t facts; /* constant once made */
    char *hosts;
    _Atomic tow_optime_t time, event_time;
    _Atomic tow_optime_t cluster_time; /* of `gossip` */
    atomic_bool opaque;                /* its resume tokens are no KeyStrings */
    _Atomic uint64_t retries, ping_us;
    _Atomic int64_t answered_ms;     /* tow_now_ms: a server of this side answered */
    _Atomic int64_t watched_ms;      /* a request was sent that has not succeeded since; 0: none */
    _Atomic int64_t heard_ms;        /* the last one that did was sent */
    _Atomic int64_t writes_until_ms; /* tow_boot_ms; 0: no limit */
    _Atomic int64_t numbers; /* of retryable writes: the driver may give a session to one connection
                                after another, and its numbers must only grow */
    const tow_write_guard_t *guard; /* NULL: nobody is asked before a write */
    void *guard_data;
    bool discovers;       /* of one host of the URI it is to find the other members */
    int64_t connect_ms;   /* how long the first connection may take */
    pthread_mutex_t lock; /* guards what follows */
    bson_t gossip TOW_GUARDED_BY(tow_link); /* the newest $clusterTime of a reply; empty: none */
    char primary[300] TOW_GUARDED_BY(
        tow_link); /* "host:port" of the last poll; "": none, or a mongos */
    int64_t primary_ms TOW_GUARDED_BY(tow_link); /* and when that was */
    char retrying[192] TOW_GUARDED_BY(tow_link);
    unsigned waiting TOW_GUARDED_BY(tow_link); /* calls between two attempts or in a repeated one */
    int64_t warned_ms TOW_GUARDED_BY(tow_link);
};
TOW_LOCK(tow_link, tow_link_t, lock)

struct tow_conn {
    tow_link_t *link;
    mongoc_client_t *client; /* popped at the first use */
    mongoc_client_session_t *session;
    tow_patient_t *patient;  /* for calls without a time-out; made at the first */
    const tow_stop_t *heeds; /* ends such calls, besides the link's stop; NULL: none */
    uint32_t server;
    mongoc_client_t *apart; /* where `client` is no pooled one */
    bool numbered;          /* the session has sent retryable writes */
    bool noted;             /* and was told to the link's guard */
    bool doubtful;          /* a retryable write of it may be under way still */
    uint32_t adopted;       /* it was another process's: how many numbers are left, at least 1 */
    bool unguarded;
    tow_optime_t gossiped; /* up to which the session knows the cluster time */
};

/* A call that may be sent again: counts, waits and shows what it waits for. */
typedef struct {
    tow_link_t *link;
    int64_t deadline_ms; /* tow_now_ms */
    unsigned attempt;
} tow_retrying_t;

/* A client whose sockets never time out, for calls that may take hours (index builds, a stream that
 * looks through a long oplog). Freeing one whose call is not answered leaves that to its thread. */
tow_patient_t *tow_patient_new(const tow_link_t *link, tow_error_t *error);
void tow_patient_free(tow_patient_t *patient);
/* Sends a command and waits for its answer; *reply is initialized in any case. After an error
 * nothing but tow_patient_free may follow. */
bool tow_patient_call(tow_link_t *link, tow_patient_t *patient, const tow_stop_t *stop,
                      const char *database, const bson_t *command, const bson_t *opts,
                      bson_t *reply, tow_error_t *error);

/* The client of a connection, with its session; makes both at the first use. */
bool tow_conn_ready(tow_conn_t *conn, tow_error_t *error);
/* The connection broke: the session may be in use at a server that is gone. One that has numbered
 * its writes stays: that is what keeps stragglers out. */
void tow_conn_forget_session(tow_conn_t *conn);
/* Whether a write may be sent now; else *error may be tried again. */
bool tow_conn_may_write(const tow_conn_t *conn, tow_error_t *error);
/* Before a write of that number: the session has been noted. */
bool tow_conn_note(tow_conn_t *conn, int64_t number, tow_error_t *error);
/* After a failed write of that number, when its session was fenced: *error tells
 * what that means. */
void tow_conn_explain(const tow_conn_t *conn, int64_t number, tow_error_t *error);
/* After a write of that number (0: none) that was sent `again` so many times; NULL: it succeeded.
 * Its first sending may arrive even when a later one was answered, and do what that one found no
 * reason to. */
void tow_conn_doubt(tow_conn_t *conn, int64_t number, unsigned again, const tow_error_t *error);
/* The number of the connection's next retryable write; 0 where the server knows none. */
int64_t tow_conn_number(tow_conn_t *conn);
/* Puts a writeConcernError {code, errmsg} of a reply into *error; returns false. */
bool tow_fail_write_concern(const tow_link_t *link, const bson_iter_t *found, tow_error_t *error);
/* Whether a reply's writeErrors say that nothing but the moment was wrong, or that the session was
 * ended; with *error, as if the command had failed by it. */
bool tow_fail_passing(const char *side, const bson_t *reply, tow_error_t *error);

tow_retrying_t tow_retrying_begin(tow_link_t *link, int64_t window_ms);
/* After a failure: true when the call is to be sent again, after the wait. False: *error is final
 * (TOW_ERROR_INTERRUPTED when the stop ended the wait). */
bool tow_retrying_wait(tow_retrying_t *retrying, tow_error_t *error);
void tow_retrying_end(tow_retrying_t *retrying);
/* The same after an answer that could not be read, of which there were *unreadable before: a few
 * are asked for again. */
enum { TOW_UNREADABLE_MOST = 5 };
bool tow_retrying_reply(tow_retrying_t *retrying, unsigned *unreadable, tow_error_t *error);
void tow_link_take_time(tow_link_t *link, const bson_t *reply);
bool tow_facts_read(tow_link_t *link, tow_conn_t *conn, tow_error_t *error);

#endif
