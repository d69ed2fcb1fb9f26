/* SPDX-License-Identifier: Apache-2.0 */
/* link.h: the only code that talks to a server: a pool for each side, connections, commands, facts.
 *
 * A tow_link_t is one side (source or destination) and may be shared by all threads. A tow_conn_t
 * is one client with one explicit session; one thread owns it for its life. Commands are raw BSON;
 * the link adds session, read concern and write concern, sends them, and classifies every error
 * once. */
#ifndef TOW_LINK_LINK_H
#define TOW_LINK_LINK_H

#include <bson/bson.h>

#include "engine/base/error.h"
#include "engine/base/sink.h"
#include "engine/base/stop.h"

/* A cluster time in one word: seconds << 32 | increment; 0 is "none". Compares as time does. */
typedef uint64_t tow_optime_t;
#define TOW_OPTIME(t, i) (((uint64_t)(t) << 32) | (uint32_t)(i))
static inline tow_timestamp_t tow_optime_split(tow_optime_t time)
{
    return (tow_timestamp_t){(uint32_t)(time >> 32), (uint32_t)time};
}

/* An ObjectId as text: part of a name that nobody has used before, and takes nobody's place. */
void tow_new_id(char out[25]);

typedef struct tow_link tow_link_t;
typedef struct tow_conn tow_conn_t;

/* Server facts, read once when the link is made. */
typedef struct {
    char version[32];
    int major, minor, patch;
    bool sharded;              /* a mongos */
    char set_name[128];        /* "" on a mongos */
    char identity[2048];       /* who it is: see identity.h */
    char process[25];          /* of the process that answered, hex; "": the server does not say */
    bool shard;                /* a member of a cluster's shard, asked directly */
    int32_t max_write_batch;   /* operations a message, 100,000 */
    int32_t max_message_bytes; /* 48,000,000 */
    bool standalone;           /* neither a replica set nor a mongos */
    bool tells_last_write;     /* its hello has lastWrite, as that of every real set */
    bool secondary;       /* of a replica set, and not its primary: the URI names it directly */
    bool bypass_empty_ts; /* knows bypassEmptyTsReplacement; probed, nothing is written */
} tow_facts_t;

/* Indexes that a side shows. What is left out is seen on neither side: not built, dropped or
 * compared. */
typedef enum { TOW_INDEXES_ALL, TOW_INDEXES_NOT_HASHED, TOW_INDEXES_NONE } tow_indexes_shown_t;

typedef struct {
    const char *side;         /* "source" | "destination": stands in messages */
    int64_t retry_window_ms;  /* how long one call is tried again before it fails */
    uint32_t max_connections; /* size of the pool */
    tow_sink_t sink;          /* gets "retry" warnings */
    tow_stop_t *stop;         /* ends waits between retries; borrowed */
    tow_indexes_shown_t indexes;
} tow_link_options_t;

/* Parses the URI, connects, reads facts. Every URI option of the driver is passed through; sets
 * appname=towline. TOW_ERROR_OPTION (malformed URI), TOW_ERROR_UNREACHABLE (message says whether
 * the name, the connection, TLS or the login failed, and what to do; never the URI itself). */
tow_link_t *tow_link_new(const char *uri, const tow_link_options_t *options, tow_error_t *error);
void tow_link_destroy(tow_link_t *link);
const tow_facts_t *tow_link_facts(const tow_link_t *link);
const char *tow_link_side(const tow_link_t *link);  /* "source" | "destination" */
const char *tow_link_hosts(const tow_link_t *link); /* "h1:1,h2:2": no credentials */

/* How long this side has not answered, in ms; 0: it answers. Only time counts that one thread,
 * which asks it again and again, waits between a call of `watch` and one of `watched` with true: a
 * process that stood still itself takes nobody for silent. Thread-safe. */
int64_t tow_link_silent_ms(const tow_link_t *link);
void tow_link_watch(tow_link_t *link);
void tow_link_watched(tow_link_t *link, bool answered);
/* tow_now_ms when a server of this side last answered anything, an error too; when the link was
 * made if none has yet. Thread-safe. */
int64_t tow_link_answered_ms(const tow_link_t *link);
/* tow_now_ms when it was asked what it answered last, between these two; 0: nothing yet.
 * Thread-safe. */
int64_t tow_link_heard_ms(const tow_link_t *link);

/* The newest operation time that a reply of this side carried, or that was noted. Thread-safe. */
tow_optime_t tow_link_time(const tow_link_t *link);
void tow_link_note_time(tow_link_t *link, tow_optime_t time);
/* The lo of a read: a time up to which every write is surely visible to a read that begins now. On
 * real servers that is the newest operation time, since afterClusterTime waits for it. A server
 * with opaque resume tokens hands out operation times beyond writes that are still being committed:
 * there it is the newest event that its stream delivered. Thread-safe. */
tow_optime_t tow_link_read_time(const tow_link_t *link);
void tow_link_note_event(tow_link_t *link, tow_optime_t time, bool opaque);
/* Asks the server: hello.lastWrite.majorityOpTime, or on a mongos the newest time of all shards.
 * Also measures the round trip. Notes the time. */
bool tow_link_poll_time(tow_conn_t *conn, tow_optime_t *out, tow_error_t *error) TOW_CHECK;
double tow_link_ping_ms(const tow_link_t *link);
/* A time at or after that of every write acknowledged before the call, on every shard. It may be
 * that of a write, and other shards may have writes of the same time: a stream merged from several
 * shards has delivered all of them only when its position is beyond. Idle shards are pushed beyond,
 * too. Never 0: an answer that does not carry what it is made of is unreadable. */
bool tow_link_barrier_time(tow_conn_t *conn, tow_optime_t *out, tow_error_t *error) TOW_CHECK;
/* The time of a majority read in a database, which need not exist; 0 of a standalone alone. */
bool tow_link_majority_time(tow_conn_t *conn, const char *database, tow_optime_t *out,
                            tow_error_t *error) TOW_CHECK;
/* Brings every shard to the newest time known, so that idle ones do not hold back a merged stream;
 * the newest time then. On a replica set it polls the time. */
bool tow_link_push_shards(tow_conn_t *conn, tow_optime_t *out, tow_error_t *error) TOW_CHECK;
/* Whether the oplog has writes after `from` and up to `until` that no change stream shows: of the
 * command applyOps, outside of a transaction. Always false where streams show them
 * (TOW_UNSEEN_OPS). */
bool tow_oplog_unseen(tow_conn_t *conn, bool retry, tow_optime_t from, tow_optime_t until,
                      bool *out, tow_error_t *error) TOW_CHECK;
/* The time of the oldest entry of the oplog; 0: it has none. Not through a mongos. */
bool tow_oplog_oldest(tow_conn_t *conn, bool retry, tow_optime_t *out,
                      tow_error_t *error) TOW_CHECK;
/* How far the oplog reaches back, and how far it would if it were as large as it may become (the
 * same where the server does not tell its size). Not through a mongos. */
bool tow_oplog_window(tow_conn_t *conn, double *out_seconds, double *out_full_seconds,
                      tow_error_t *error) TOW_CHECK;
/* Seconds that the server's clock is ahead of this machine's. */
bool tow_clock_skew(tow_conn_t *conn, double *out_seconds, tow_error_t *error) TOW_CHECK;
/* Calls sent again since the link was made, and a text of the one waiting now ("" when none). */
uint64_t tow_link_retries(const tow_link_t *link);
void tow_link_retrying(const tow_link_t *link, char *out, size_t size);

tow_conn_t *tow_conn_open(tow_link_t *link); /* does not touch the network */
void tow_conn_close(tow_conn_t *conn);
tow_link_t *tow_conn_link(tow_conn_t *conn);
/* Until when (tow_boot_ms) what writes may be sent to this side; 0, as at first: without end. Later
 * it fails as a lost connection does, and is sent again where that is so, until there is a later
 * limit: a process that stood still must not write before it knows that the job is still its own.
 * Thread-safe. */
void tow_link_limit_writes(tow_link_t *link, int64_t until_ms);
/* Calls without a time-out end when that stop is requested, too; borrowed for the connection's
 * life. */
void tow_conn_heed(tow_conn_t *conn, const tow_stop_t *stop);

/* Who is asked before a write, from the writing connection's thread; when that fails, nothing is
 * sent. */
typedef struct {
    /* Before the first retryable write in a session (its `lsid`, borrowed). */
    bool (*session)(void *data, const bson_t *session, tow_error_t *error);
    /* Before a command with TOW_SEND_WRITE that is no retryable write: of these a server takes each
     * that arrives, however late. *out_slot is handed to `end`. */
    bool (*begin)(void *data, const char *database, const bson_t *command, uint32_t *out_slot,
                  tow_error_t *error);
    /* After it. `settled`: it was sent once, and answered; else it may still arrive, once more or
     * at all. */
    void (*end)(void *data, uint32_t slot, bool settled);
    /* One numbered write by that connection that changes something, acknowledged by a majority of
     * every server that its session may have written to. */
    bool (*outnumber)(void *data, tow_conn_t *conn, tow_error_t *error);
} tow_write_guard_t;
/* Set it before any connection is used, and NULL after the last. */
void tow_link_guard(tow_link_t *link, const tow_write_guard_t *guard, void *data);
/* Call it before anything is concluded from what this connection wrote, whether that succeeded or
 * failed, that does not go through the same connection: from then on nothing that it sent can take
 * effect any more. Costs nothing unless a retryable write was sent twice, or its end is not known.
 * False: try it again. */
bool tow_conn_settle(tow_conn_t *conn, tow_error_t *error) TOW_CHECK;
void tow_conn_unguarded(tow_conn_t *conn); /* neither limit nor guard are for this connection */
const bson_t *tow_conn_session(tow_conn_t *conn, tow_error_t *error); /* borrowed; NULL: *error */
/* A connection with a client of its own, for tow_conn_adopt. */
tow_conn_t *tow_conn_open_apart(tow_link_t *link, tow_error_t *error);
/* From now on the connection sends in a session that another process noted. Its next `writes` (1 at
 * least) retryable writes carry the last numbers there are: after the first of them nothing that
 * the other one sent is done any more, and what is being done just then has ended before. Through a
 * mongos that holds for the shards written to. */
bool tow_conn_adopt(tow_conn_t *conn, const bson_t *session, uint32_t writes,
                    tow_error_t *error) TOW_CHECK;

typedef enum {
    TOW_SEND_PLAIN = 0, /* no concern added */
    TOW_SEND_READ = 1,  /* adds readConcern majority (with afterClusterTime: see after) */
    TOW_SEND_WRITE = 2, /* adds writeConcern majority */
    TOW_SEND_RETRY = 4, /* may be sent again after SAME and RECONNECT errors, within the window */
    TOW_SEND_NO_TIMEOUT =
        8,             /* hours may pass before the reply: no socket time-out ends the call, but a
                          stop does, or another member's becoming primary. All of a connection's
                          such calls share a session, and a client of their own */
    TOW_SEND_ONCE = 16 /* a retryable write (inserts, updates and deletes of one document each):
                          sent again while its end is not known, within the window, it takes effect
                          once; and never after a later one of this connection, however long it
                          was under way. Plain on a standalone, which knows no such writes. */
} tow_send_t;

typedef struct {
    int flags;          /* tow_send_t, or-ed */
    tow_optime_t after; /* readConcern.afterClusterTime, 0: none. A server refuses one that it does
                           not know of yet; so the newest $clusterTime goes with it */
    uint32_t server_id; /* of the cursor for getMore, 0: the primary */
    bool *out_late;     /* NULL, or: whether it may still arrive, after its end or without one */
} tow_send_options_t;

/* Runs one command on `database`. *reply is always initialized and owned by the caller. False on a
 * transport error, on ok: 0, on writeConcernError, and on writeErrors that come of the moment
 * (class SAME or RECONNECT); other writeErrors of a write are NOT an error here (use
 * tow_reply_write_error). Updates the link's time from the reply. */
bool tow_conn_command(tow_conn_t *conn, const char *database, const bson_t *command,
                      const tow_send_options_t *options, bson_t *reply,
                      tow_error_t *error) TOW_CHECK;
/* Runs a command that answers with a cursor, reads it to its end and then calls `each` for every
 * document, borrowed. The whole is retried within the window. Each document must pass `is_whole`
 * (NULL: any does): an answer with one that does not, or that cannot be read, is asked for again a
 * few times and then an error, TOW_ERROR_SERVER; so is one of more than 512 MB. */
typedef bool (*tow_is_whole_fn)(const bson_t *document);
typedef void (*tow_each_fn)(void *data, const bson_t *document);
bool tow_cursor_each(tow_conn_t *conn, const char *database, const bson_t *command,
                     tow_is_whole_fn is_whole, tow_each_fn each, void *data,
                     tow_error_t *error) TOW_CHECK;
/* The server that the last command went to. */
uint32_t tow_conn_server(const tow_conn_t *conn);

/* operationTime of a reply, 0 when it has none. */
tow_optime_t tow_reply_time(const bson_t *reply);
/* The same or, where it is later, the time of its $clusterTime: the newest that the server knows
 * of. */
tow_optime_t tow_reply_newest_time(const bson_t *reply);

/* One entry of a reply's writeErrors. */
typedef struct {
    uint32_t index;        /* of the statement within the message */
    int code;              /* 11000: duplicate key */
    const char *message;   /* borrowed from the reply */
    bson_iter_t key_value; /* on keyValue's document when has_key_value */
    bool has_key_value;
    bson_iter_t key_pattern; /* likewise */
} tow_write_error_t;

/* Iterates writeErrors: start with *position = 0. False at the end. */
bool tow_reply_write_error(const bson_t *reply, uint32_t *position, tow_write_error_t *out);

/* Unordered insert of raw documents by insert_many (document sequences, no client-side validation,
 * bypassDocumentValidation; bypassEmptyTsReplacement where known), write concern majority, split by
 * the driver to message limits. What fits into one message is a retryable write, as with
 * TOW_SEND_ONCE; more is not sent again. *reply always initialized; it holds writeErrors with
 * indexes into `documents`. True when the transport and the write concern are fine, whatever
 * writeErrors there are but those that come of the moment. */
bool tow_conn_insert(tow_conn_t *conn, const char *database, const char *collection,
                     const bson_t *const *documents, size_t count, bool ordered, bson_t *reply,
                     tow_error_t *error) TOW_CHECK;

/* Fills code, retry class and message from a server's or the driver's error. The one place where
 * errors are classified; exposed for the tests and the change stream. `reply` may be NULL. */
void tow_classify(const bson_error_t *driver, const bson_t *reply, const char *side,
                  tow_error_t *out);
/* How far a connection came that tow_link_new could not make. */
typedef enum {
    TOW_STAGE_URI,        /* the URI cannot be used */
    TOW_STAGE_NAME,       /* a host's name does not resolve */
    TOW_STAGE_CONNECTION, /* nobody answers there, or not as a server does */
    TOW_STAGE_TLS,        /* a file of TLS, or the handshake */
    TOW_STAGE_LOGIN,
    TOW_STAGE_DONE /* it was made */
} tow_stage_t;
tow_stage_t tow_error_stage(const tow_error_t *error);

/* Change streams: resumable by label or number; gone for good (286, 136, 280, 260, 326). */
bool tow_error_stream_resumable(const tow_error_t *error, const bson_t *reply);
bool tow_error_history_lost(const tow_error_t *error);

/* Waits with exponential backoff and full jitter for attempt 0, 1, …; false when the stop was
 * requested or `deadline_ms` (tow_now_ms) would pass. */
bool tow_backoff(tow_link_t *link, unsigned attempt, int64_t deadline_ms);

#endif
