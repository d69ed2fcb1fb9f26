/* SPDX-License-Identifier: Apache-2.0 */
/* ask.c: asks a question whose answer must be whole; see reply.h. */
#include <stdio.h>

#include "engine/link/internal.h"
#include "engine/link/reply.h"

bool tow_conn_ask(tow_conn_t *conn, const char *database, const bson_t *command, int flags,
                  tow_is_whole_fn is_whole, const char *what, bson_t *reply, tow_error_t *error)
{
    return tow_conn_ask_after(conn, database, command, flags, 0, is_whole, what, reply, error);
}

bool tow_conn_ask_after(tow_conn_t *conn, const char *database, const bson_t *command, int flags,
                        tow_optime_t after, tow_is_whole_fn is_whole, const char *what,
                        bson_t *reply, tow_error_t *error)
{
    tow_retrying_t retrying = tow_retrying_begin(conn->link, conn->link->options.retry_window_ms);
    tow_send_options_t send = {.flags = flags | TOW_SEND_RETRY, .after = after};
    unsigned unreadable = 0;
    char text[128];
    bool ok;

    snprintf(text, sizeof text, "its answer to %s cannot be read", what);
    while ((ok = tow_conn_command(conn, database, command, &send, reply, error)) &&
           !(tow_is_readable(reply) && is_whole(reply))) {
        ok = tow_fail_reply(error, conn->link->side, text);
        if (!tow_retrying_reply(&retrying, &unreadable, error))
            break;
        bson_destroy(reply);
    }
    tow_retrying_end(&retrying);
    return ok;
}
