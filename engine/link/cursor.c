/* SPDX-License-Identifier: Apache-2.0 */
/* cursor.c: commands that answer with a small cursor: catalogs, sizes, samples. */
#include <stdlib.h>
#include <string.h>

#include "engine/base/memory.h"
#include "engine/link/internal.h"
#include "engine/link/reader.h"
#include "engine/link/reply.h"

typedef struct batch batch_t;
struct batch {
    batch_t *next;
    bson_iter_t documents; /* on the reply's batch */
    bson_t reply;
};

/* A listing while it is read. */
typedef struct {
    tow_conn_t *conn;
    const char *database;
    tow_is_whole_fn is_whole;
    batch_t *first, **last;
    int64_t cursor;
    char *collection; /* for getMore */
    uint64_t bytes;
    unsigned empty;  /* batches without a document, one after another */
    bool unreadable; /* the error is about an answer that came */
} listing_t;

static void forget(listing_t *listing)
{
    while (listing->first) {
        batch_t *next = listing->first->next;

        bson_destroy(&listing->first->reply);
        free(listing->first);
        listing->first = next;
    }
    free(listing->collection);
    listing->collection = NULL;
    listing->last = &listing->first;
    listing->cursor = 0;
    listing->bytes = 0;
    listing->empty = 0;
    listing->unreadable = false;
}

static bool fail_unreadable(listing_t *listing, const char *what, tow_error_t *error)
{
    listing->unreadable = true;
    return tow_fail_reply(error, listing->conn->link->side, what);
}

/* Every entry is a document that its reader can use: what is passed over would count
 * as not there. */
static bool check_entries(listing_t *listing, const bson_iter_t *batch, bool *out_any,
                          tow_error_t *error)
{
    bson_iter_t documents = *batch;
    bson_t document;
    bool broken;

    *out_any = false;
    while (tow_batch_document(&documents, &document, &broken)) {
        *out_any = true;
        if (!tow_is_readable(&document) || (listing->is_whole && !listing->is_whole(&document)))
            return fail_unreadable(listing, "an entry of its answer cannot be read", error);
    }
    return broken ? fail_unreadable(listing, "an entry of its answer is no document", error) : true;
}

/* Takes in the newest reply: what it says, and whether more is to be asked for. */
static bool take_reply(listing_t *listing, batch_t *batch, tow_error_t *error)
{
    tow_reply_cursor_t cursor;
    const char *dot;
    bool any;

    if (!tow_reply_cursor(&batch->reply, &cursor))
        return fail_unreadable(listing, "its answer has no cursor with a batch", error);
    batch->documents = cursor.batch;
    listing->cursor = cursor.id;
    if (cursor.ns) {
        dot = strchr(cursor.ns, '.');
        free(listing->collection);
        listing->collection = tow_strdup(dot ? dot + 1 : "");
    }
    if (cursor.id && !listing->collection)
        return fail_unreadable(listing, "its answer does not name the collection of its cursor",
                               error);
    if (!check_entries(listing, &cursor.batch, &any, error))
        return false;
    listing->empty = any ? 0 : listing->empty + 1;
    listing->bytes += batch->reply.len;
    /* Far more than 100,000 collections need, far less than a machine has. */
    if (listing->bytes <= TOW_KEPT_BYTES_MOST && listing->empty <= TOW_EMPTY_BATCHES_MOST)
        return true;
    return tow_fail(error, TOW_ERROR_SERVER,
                    "the %s: a listing of %s does not end, or is larger than %d MB",
                    listing->conn->link->side, listing->database, TOW_KEPT_BYTES_MOST >> 20);
}

/* Reads the whole cursor. A cursor is bound to its server, so a lost one is read again from its
 * beginning: nothing is handed on before all is there. */
static bool gather(listing_t *listing, const bson_t *command, tow_error_t *error)
{
    tow_stop_t *stop = listing->conn->link->options.stop;
    tow_send_options_t send = {0};
    bool ok;

    do {
        batch_t *batch = tow_alloc(sizeof *batch);

        if (listing->cursor) {
            bson_t more = BSON_INITIALIZER;

            bson_append_int64(&more, "getMore", -1, listing->cursor);
            bson_append_utf8(&more, "collection", -1, listing->collection, -1);
            ok = tow_conn_command(listing->conn, listing->database, &more, &send, &batch->reply,
                                  error);
            bson_destroy(&more);
        } else {
            ok = tow_conn_command(listing->conn, listing->database, command, &send, &batch->reply,
                                  error);
            send.server_id = tow_conn_server(listing->conn);
        }
        *listing->last = batch;
        listing->last = &batch->next;
        ok = ok && take_reply(listing, batch, error);
        if (ok && listing->cursor && stop && tow_stop_requested(stop))
            ok = tow_fail(error, TOW_ERROR_INTERRUPTED, "stopped while reading from the %s",
                          listing->conn->link->side);
    } while (ok && listing->cursor);
    return ok;
}

static void hand_on(batch_t *batch, tow_each_fn each, void *data)
{
    bson_t document;
    bool broken;

    for (; batch; batch = batch->next)
        while (tow_batch_document(&batch->documents, &document, &broken))
            each(data, &document);
}

bool tow_cursor_each(tow_conn_t *conn, const char *database, const bson_t *command,
                     tow_is_whole_fn is_whole, tow_each_fn each, void *data, tow_error_t *error)
{
    tow_retrying_t retrying = tow_retrying_begin(conn->link, conn->link->options.retry_window_ms);
    listing_t listing = {.conn = conn, .database = database, .is_whole = is_whole};
    unsigned unreadable = 0;
    bool ok;

    listing.last = &listing.first;
    while (!(ok = gather(&listing, command, error)) &&
           (listing.unreadable ? tow_retrying_reply(&retrying, &unreadable, error)
                               : tow_retrying_wait(&retrying, error)))
        forget(&listing);
    tow_retrying_end(&retrying);
    if (ok)
        hand_on(listing.first, each, data);
    forget(&listing);
    return ok;
}
