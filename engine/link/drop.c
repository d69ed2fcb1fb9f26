/* SPDX-License-Identifier: Apache-2.0 */
/* drop.c: removes a collection from the destination, also one that servers do not drop
 * by its name. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/memory.h"
#include "engine/link/catalog.h"
#include "engine/link/codes.h"
#include "engine/link/internal.h"

enum { ASIDE_SIZE = 48 };

/* Sends a write of the catalog; that its object is not there counts as done. */
static bool change(tow_conn_t *conn, const char *database, const bson_t *command,
                   tow_error_t *error)
{
    tow_send_options_t send = {.flags = TOW_SEND_WRITE | TOW_SEND_RETRY};
    bson_t reply;
    bool ok = tow_conn_command(conn, database, command, &send, &reply, error);

    bson_destroy(&reply);
    return ok || error->server_code == TOW_CODE_NAMESPACE_NOT_FOUND;
}

static bool drop_plain(tow_conn_t *conn, const char *database, const char *name, tow_error_t *error)
{
    bson_t command = BSON_INITIALIZER;
    bool ok;

    bson_append_utf8(&command, "drop", -1, name, -1);
    ok = change(conn, database, &command, error);
    bson_destroy(&command);
    return ok;
}

/* A name that was never used, and takes nobody's place. */
static void choose_aside(char out[ASIDE_SIZE])
{
    char id[25];

    tow_new_id(id);
    snprintf(out, ASIDE_SIZE, "towline_dropped_%s", id);
}

static bool rename_aside(tow_conn_t *conn, const char *database, const char *name,
                         const char *aside, tow_error_t *error)
{
    char *from = tow_format("%s.%s", database, name), *to = tow_format("%s.%s", database, aside);
    bson_t command = BSON_INITIALIZER;
    bool ok;

    bson_append_utf8(&command, "renameCollection", -1, from, -1);
    bson_append_utf8(&command, "to", -1, to, -1);
    ok = change(conn, "admin", &command, error);
    bson_destroy(&command);
    free(from);
    free(to);
    return ok;
}

static bool empty(tow_conn_t *conn, const char *database, const char *name, tow_error_t *error)
{
    bson_t command = BSON_INITIALIZER, list, statement, all = BSON_INITIALIZER;
    bool ok;

    bson_append_utf8(&command, "delete", -1, name, -1);
    bson_append_array_begin(&command, "deletes", -1, &list);
    bson_append_document_begin(&list, "0", -1, &statement);
    bson_append_document(&statement, "q", -1, &all);
    bson_append_int32(&statement, "limit", -1, 0);
    bson_append_document_end(&list, &statement);
    bson_append_array_end(&command, &list);
    ok = change(conn, database, &command, error);
    bson_destroy(&command);
    bson_destroy(&all);
    return ok;
}

/* Servers refuse to drop system.js (IllegalOperation), but rename it (recorded from 4.4).
 * dropDatabase would take along what others have put there. A rename that was carried out before
 * counts as one: what it set aside is dropped all the same. */
bool tow_collection_drop(tow_conn_t *conn, const char *database, const char *name,
                         tow_error_t *error)
{
    char aside[ASIDE_SIZE];
    bool ok;

    choose_aside(aside);
    if (tow_collection_is_streamed(name))
        ok = drop_plain(conn, database, name, error);
    else if (rename_aside(conn, database, name, aside, error))
        ok = drop_plain(conn, database, aside, error);
    else
        ok = error->retry == TOW_RETRY_NEVER && error->server_code &&
             empty(conn, database, name, error);
    return ok ? true : tow_fail_context(error, "drop %s.%s", database, name);
}
