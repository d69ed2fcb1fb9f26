/* SPDX-License-Identifier: Apache-2.0 */
/* insert.c: sends many whole documents, and judges the answer. */
#include <string.h>

#include "engine/link/internal.h"
#include "engine/link/reply.h"

enum { MESSAGE_OVERHEAD = 64 * 1024 }; /* of a message, besides its documents; generous */

/* Whether the driver sends all in one message: a number may stand in one only, since a server takes
 * another of the same number for the first one, sent again. */
static bool is_one_message(const tow_facts_t *facts, const bson_t *const *documents, size_t count)
{
    size_t bytes = MESSAGE_OVERHEAD;

    for (size_t i = 0; i < count; i++)
        bytes += documents[i]->len;
    return count <= (size_t)facts->max_write_batch && bytes <= (size_t)facts->max_message_bytes;
}

/* With the number of a retryable write when that is not 0. */
static void build_options(tow_conn_t *conn, bool ordered, int64_t number, bson_t *out)
{
    bson_t concern;

    bson_init(out);
    bson_append_bool(out, "validate", -1, false);
    bson_append_bool(out, "ordered", -1, ordered);
    bson_append_bool(out, "bypassDocumentValidation", -1, true);
    if (conn->link->facts.bypass_empty_ts)
        bson_append_bool(out, "bypassEmptyTsReplacement", -1, true);
    bson_append_document_begin(out, "writeConcern", -1, &concern);
    bson_append_utf8(&concern, "w", -1, "majority", -1);
    bson_append_document_end(out, &concern);
    if (number)
        bson_append_int64(out, "txnNumber", -1, number);
}

/* The first entry of writeConcernErrors, of the driver's merged reply. */
static bool find_concern_error(const bson_t *reply, bson_iter_t *out)
{
    bson_iter_t iter;

    return bson_iter_init_find(&iter, reply, "writeConcernErrors") &&
           BSON_ITER_HOLDS_ARRAY(&iter) && bson_iter_recurse(&iter, out) && bson_iter_next(out);
}

/* Whether inserted and refused documents add up to all that was asked. The driver splits a large
 * insert into several messages; when one is refused a document and a later one is lost, its error
 * speaks of the document alone. */
static bool accounts_for_all(const bson_t *reply, size_t count, bool ordered)
{
    tow_write_error_t refusal;
    uint32_t position = 0;
    bson_iter_t iter;
    size_t seen = 0;

    if (bson_iter_init_find(&iter, reply, "insertedCount"))
        seen = (size_t)bson_iter_as_int64(&iter);
    if (ordered && tow_reply_write_error(reply, &position, &refusal))
        return refusal.index == seen;
    while (tow_reply_write_error(reply, &position, &refusal))
        seen++;
    return seen == count;
}

static bool insert_once(tow_conn_t *conn, const char *database, const char *collection,
                        const bson_t *const *documents, size_t count, bool ordered, int64_t number,
                        bson_t *reply, tow_error_t *error)
{
    mongoc_collection_t *handle;
    tow_write_error_t refusal;
    uint32_t position = 0;
    bson_error_t driver = {0};
    bson_iter_t concern;
    bson_t opts;
    bool ok;

    bson_init(reply);
    if (!tow_conn_ready(conn, error) || !tow_conn_may_write(conn, error) ||
        !tow_conn_note(conn, number, error))
        return false;
    build_options(conn, ordered, number, &opts);
    ok = mongoc_client_session_append(conn->session, &opts, &driver);
    if (ok) {
        handle = mongoc_client_get_collection(conn->client, database, collection);
        ok = mongoc_collection_insert_many(handle, (const bson_t **)documents, count, &opts, reply,
                                           &driver);
        mongoc_collection_destroy(handle);
    }
    bson_destroy(&opts);
    tow_link_take_time(conn->link, reply);
    if (ok && accounts_for_all(reply, count, ordered))
        return true;
    if (ok) {
        tow_fail_reply(error, conn->link->side,
                       "its answer to an insert does not count every document");
        error->retry = TOW_RETRY_RECONNECT; /* what it did is not known */
    } else if (find_concern_error(reply, &concern)) {
        tow_fail_write_concern(conn->link, &concern, error);
    } else if (tow_fail_passing(conn->link->side, reply, error)) {
        return false;
    } else if (tow_reply_write_error(reply, &position, &refusal)) {
        if (accounts_for_all(reply, count, ordered))
            return true; /* refused documents are the caller's to judge */
        tow_fail(error, TOW_ERROR_UNREACHABLE,
                 "the %s did not answer for all of %zu inserted documents", conn->link->side,
                 count);
        error->retry = TOW_RETRY_RECONNECT;
    } else {
        tow_classify(&driver, reply, conn->link->side, error);
    }
    if (error->retry == TOW_RETRY_RECONNECT)
        tow_conn_forget_session(conn);
    return false;
}

bool tow_conn_insert(tow_conn_t *conn, const char *database, const char *collection,
                     const bson_t *const *documents, size_t count, bool ordered, bson_t *reply,
                     tow_error_t *error)
{
    tow_retrying_t retrying = tow_retrying_begin(conn->link, conn->link->options.retry_window_ms);
    int64_t number =
        is_one_message(&conn->link->facts, documents, count) ? tow_conn_number(conn) : 0;
    bool ok = true;

    if (!count)
        bson_init(reply);
    while (count && !(ok = insert_once(conn, database, collection, documents, count, ordered,
                                       number, reply, error))) {
        if (!number || error->retry != TOW_RETRY_RECONNECT || !tow_retrying_wait(&retrying, error))
            break;
        bson_destroy(reply);
    }
    tow_retrying_end(&retrying);
    tow_conn_doubt(conn, number, retrying.attempt, ok ? NULL : error);
    if (!ok)
        tow_conn_explain(conn, number, error);
    return ok;
}
