/* cursor.c: commands that answer with a small cursor: catalogs, sizes, samples. */
#include <stdlib.h>
#include <string.h>

#include "engine/base/memory.h"
#include "engine/link/internal.h"

typedef struct batch batch_t;
struct batch {
    batch_t *next;
    bson_iter_t documents; /* on the reply's batch */
    bson_t reply;
};

static void free_batches(batch_t *first)
{
    while (first) {
        batch_t *next = first->next;

        bson_destroy(&first->reply);
        free(first);
        first = next;
    }
}

/* Finds id, collection name (for getMore) and batch of a reply. */
static bool take_cursor(batch_t *batch, int64_t *out_cursor, char **out_collection)
{
    bson_iter_t iter, child;
    bool has_id = false, has_batch = false;

    if (!bson_iter_init_find(&iter, &batch->reply, "cursor") || !BSON_ITER_HOLDS_DOCUMENT(&iter) ||
        !bson_iter_recurse(&iter, &child))
        return false;
    while (bson_iter_next(&child)) {
        const char *name = bson_iter_key(&child);

        if (!strcmp(name, "id")) {
            *out_cursor = bson_iter_as_int64(&child);
            has_id = true;
        } else if (!strcmp(name, "ns") && BSON_ITER_HOLDS_UTF8(&child)) {
            const char *dot = strchr(bson_iter_utf8(&child, NULL), '.');

            free(*out_collection);
            *out_collection = tow_strdup(dot ? dot + 1 : "");
        } else if (BSON_ITER_HOLDS_ARRAY(&child)) {
            has_batch = bson_iter_recurse(&child, &batch->documents);
        }
    }
    return has_id && has_batch && (!*out_cursor || *out_collection);
}

/* Reads the whole cursor. A cursor is bound to its server, so a lost one is read again from its
 * beginning: nothing is handed on before all is there. */
static bool gather(tow_conn_t *conn, const char *database, const bson_t *command, batch_t **out,
                   tow_error_t *error)
{
    tow_send_options_t send = {0};
    char *collection = NULL;
    int64_t cursor = 0;
    bool ok;

    do {
        batch_t *batch = tow_alloc(sizeof *batch);

        if (cursor) {
            bson_t more = BSON_INITIALIZER;

            bson_append_int64(&more, "getMore", -1, cursor);
            bson_append_utf8(&more, "collection", -1, collection, -1);
            ok = tow_conn_command(conn, database, &more, &send, &batch->reply, error);
            bson_destroy(&more);
        } else {
            ok = tow_conn_command(conn, database, command, &send, &batch->reply, error);
            send.server_id = tow_conn_server(conn);
        }
        *out = batch;
        out = &batch->next;
        if (ok && !take_cursor(batch, &cursor, &collection))
            ok = tow_fail(error, TOW_ERROR_SERVER, "%s: a reply has no cursor", conn->link->side);
    } while (ok && cursor);
    free(collection);
    return ok;
}

static void hand_on(batch_t *batch, tow_each_fn each, void *data)
{
    for (; batch; batch = batch->next)
        while (bson_iter_next(&batch->documents)) {
            const uint8_t *bytes;
            uint32_t length;
            bson_t document;

            if (!BSON_ITER_HOLDS_DOCUMENT(&batch->documents))
                continue;
            bson_iter_document(&batch->documents, &length, &bytes);
            if (bson_init_static(&document, bytes, length))
                each(data, &document);
        }
}

bool tow_cursor_each(tow_conn_t *conn, const char *database, const bson_t *command,
                     tow_each_fn each, void *data, tow_error_t *error)
{
    tow_retrying_t retrying = tow_retrying_begin(conn->link, conn->link->options.retry_window_ms);
    batch_t *batches = NULL;
    bool ok;

    while (!(ok = gather(conn, database, command, &batches, error)) &&
           tow_retrying_wait(&retrying, error)) {
        free_batches(batches);
        batches = NULL;
    }
    tow_retrying_end(&retrying);
    if (ok)
        hand_on(batches, each, data);
    free_batches(batches);
    return ok;
}
