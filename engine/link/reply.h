/* SPDX-License-Identifier: Apache-2.0 */
/* reply.h: the one door for what a server says. Types, lengths and the ends of lists are checked
 * here, and nobody else takes documents, lists, texts or times out of a reply (tests/lib/foreign
 * holds that): the driver hands on whatever bytes it got, and libbson's own
 * getters believe them. */
#ifndef TOW_LINK_REPLY_H
#define TOW_LINK_REPLY_H

#include "engine/link/link.h"

/* Each is false, and leaves *out alone, where the value is of another type or cannot be read. What
 * they give is borrowed from the reply. */
bool tow_iter_document(const bson_iter_t *iter, bson_t *out);
bool tow_iter_list(const bson_iter_t *iter,
                   bson_iter_t *out); /* an array, before its first entry */
bool tow_iter_text(const bson_iter_t *iter, const char **out); /* UTF-8 without NUL */
bool tow_iter_packed(const bson_iter_t *iter, bson_t *out);    /* a document kept as binary */
bool tow_iter_time(const bson_iter_t *iter, tow_optime_t *out);
bool tow_iter_number(const bson_iter_t *iter,
                     int64_t *out); /* a whole number of any numeric type */
/* What can be calculated with, however wrong: a whole number from 0 to `most`; a date from 1970 to
 * the year 9999, in milliseconds, which may be a number. */
bool tow_iter_count(const bson_iter_t *iter, int64_t most, int64_t *out);
bool tow_iter_wall_ms(const bson_iter_t *iter, int64_t *out);
/* A list or document that was iterated to its end: it was not something unreadable
 * that ended it. */
bool tow_iter_complete(const bson_iter_t *iter);

#define TOW_WALL_MOST_MS INT64_C(253402300799999) /* the end of the year 9999 */

/* Levels of documents and arrays that are gone into one by one, since each costs some of a thread's
 * stack: servers take 180 to 200, a hostile reply has room for millions. */
enum { TOW_NESTING_MOST = 250 };

/* The whole of a document, at every depth. bson_validate lets pass what copying then aborts at. */
bool tow_is_readable(const bson_t *document);

/* The same by path ("cursor.firstBatch.0"). */
bool tow_field_document(const bson_t *reply, const char *path, bson_t *out);
bool tow_field_list(const bson_t *reply, const char *path, bson_iter_t *out);
bool tow_field_text(const bson_t *reply, const char *path, const char **out);
bool tow_field_number(const bson_t *reply, const char *path, int64_t *out);
/* Whether a flag is there and set: a true boolean, or a number other than 0, as servers take it. */
bool tow_field_is_set(const bson_t *reply, const char *path);

/* The cursor of a reply. Borrowed; `batch` is before its first document. Never copied: a bson_t
 * points into itself. */
typedef struct {
    int64_t id;     /* 0: this batch is the last */
    const char *ns; /* NULL: the reply does not say */
    bson_iter_t batch;
    bson_t token; /* postBatchResumeToken, where has_token */
    bool has_token;
} tow_reply_cursor_t;
/* False: it has none, or one without an id or a batch. */
bool tow_reply_cursor(const bson_t *reply, tow_reply_cursor_t *out);

/* The time of a reply's $clusterTime, 0 when it has none; *out_document is borrowed. */
tow_optime_t tow_reply_cluster_time(const bson_t *reply, bson_t *out_document);

/* The next document of a batch. *out_broken: an entry is none, or the rest cannot be read. */
bool tow_batch_document(bson_iter_t *batch, bson_t *out, bool *out_broken);
/* Whether the reply has a batch whose every entry can be read: what cannot is not the answer that
 * there is none. */
bool tow_reply_holds_documents(const bson_t *reply);

/* A change event that the engine may act on: operation, time and resume token are there, a change
 * of a document has its key, and every DDL event that is about a namespace names it. */
bool tow_reply_is_event(const bson_t *event);
/* All of a batch, of which nothing may be taken when one is not. */
bool tow_reply_are_events(const bson_iter_t *batch);

/* The reply to insert, update or delete: it counts, and every refusal it lists can be read and is
 * about a statement of the command. */
bool tow_reply_is_write(const bson_t *command, const bson_t *reply);

/* The way out again: appends a text to a document of ours, with bytes that are not UTF-8 replaced,
 * so that the document has its JSON. */
void tow_append_text(bson_t *out, const char *name, const char *text);

/* "SIDE: WHAT", of class SAME: asked again, and with status 8 when that does not help. Returns
 * false. */
bool tow_fail_reply(tow_error_t *error, const char *side, const char *what);

/* tow_conn_command for a question (`flags` besides that it may be sent again) whose answer must be
 * whole: one that is not is asked for again some times. `what` names it in the error:
 * "listDatabases". */
bool tow_conn_ask(tow_conn_t *conn, const char *database, const bson_t *command, int flags,
                  tow_is_whole_fn is_whole, const char *what, bson_t *reply,
                  tow_error_t *error) TOW_CHECK;
/* The same of a state no older than `after`; 0: any. */
bool tow_conn_ask_after(tow_conn_t *conn, const char *database, const bson_t *command, int flags,
                        tow_optime_t after, tow_is_whole_fn is_whole, const char *what,
                        bson_t *reply, tow_error_t *error) TOW_CHECK;

#endif
