/* SPDX-License-Identifier: Apache-2.0 */
/* health.c: what a server tells of its oplog and its clock, for the checks before a start. */
#include "engine/base/clock.h"
#include "engine/link/internal.h"
#include "engine/link/reply.h"
#include "engine/link/versions.h"

bool tow_oplog_oldest(tow_conn_t *conn, bool retry, tow_optime_t *out, tow_error_t *error)
{
    tow_send_options_t send = {.flags = retry ? TOW_SEND_RETRY : 0};
    bson_t command = BSON_INITIALIZER, part, reply;
    bson_iter_t iter, time;
    bool ok;

    *out = 0;
    bson_append_utf8(&command, "find", -1, "oplog.rs", -1);
    bson_append_document_begin(&command, "sort", -1, &part);
    bson_append_int32(&part, "$natural", -1, 1);
    bson_append_document_end(&command, &part);
    bson_append_int32(&command, "limit", -1, 1);
    bson_append_bool(&command, "singleBatch", -1, true);
    ok = tow_conn_command(conn, "local", &command, &send, &reply, error);
    if (ok && bson_iter_init(&iter, &reply) &&
        bson_iter_find_descendant(&iter, "cursor.firstBatch.0.ts", &time))
        tow_iter_time(&time, out);
    bson_destroy(&reply);
    bson_destroy(&command);
    return ok;
}

static void append_unseen(bson_t *command, tow_optime_t from, tow_optime_t until)
{
    bson_t filter, part;

    bson_append_document_begin(command, "filter", -1, &filter);
    bson_append_document_begin(&filter, "ts", -1, &part);
    bson_append_timestamp(&part, "$gt", -1, (uint32_t)(from >> 32), (uint32_t)from);
    bson_append_timestamp(&part, "$lte", -1, (uint32_t)(until >> 32), (uint32_t)until);
    bson_append_document_end(&filter, &part);
    bson_append_utf8(&filter, "op", -1, "c", -1);
    bson_append_document_begin(&filter, "o.applyOps", -1, &part);
    bson_append_bool(&part, "$exists", -1, true);
    bson_append_document_end(&filter, &part);
    bson_append_document_begin(&filter, "lsid", -1, &part);
    bson_append_bool(&part, "$exists", -1, false);
    bson_append_document_end(&filter, &part);
    bson_append_document_end(command, &filter);
    bson_append_document_begin(command, "projection", -1, &part);
    bson_append_int32(&part, "ts", -1, 1);
    bson_append_document_end(command, &part);
}

bool tow_oplog_unseen(tow_conn_t *conn, bool retry, tow_optime_t from, tow_optime_t until,
                      bool *out, tow_error_t *error)
{
    tow_send_options_t send = {.flags = retry ? TOW_SEND_RETRY : 0};
    bson_t command = BSON_INITIALIZER, reply;
    bson_iter_t batch;
    bool ok;

    *out = false;
    if (!tow_server_can(tow_link_facts(conn->link), TOW_UNSEEN_OPS))
        return true;
    bson_append_utf8(&command, "find", -1, "oplog.rs", -1);
    append_unseen(&command, from, until);
    if (!tow_server_can(tow_link_facts(conn->link), TOW_OPLOG_SEEKS))
        bson_append_bool(&command, "oplogReplay", -1,
                         true); /* else it looks through all of the oplog */
    bson_append_int32(&command, "limit", -1, 1);
    bson_append_bool(&command, "singleBatch", -1, true);
    ok = tow_conn_command(conn, "local", &command, &send, &reply, error);
    if (ok && !tow_field_list(&reply, "cursor.firstBatch", &batch))
        ok = tow_fail(error, TOW_ERROR_SERVER, "the %s's oplog gave no answer", conn->link->side);
    *out = ok && bson_iter_next(&batch);
    bson_destroy(&reply);
    bson_destroy(&command);
    return ok;
}

static double number_of(const bson_t *reply, const char *name)
{
    bson_iter_t iter;

    return bson_iter_init_find(&iter, reply, name) && BSON_ITER_HOLDS_NUMBER(&iter)
               ? bson_iter_as_double(&iter)
               : 0;
}

/* How many times its present size the oplog may grow to; 1 where the server does not tell. */
static double growth(tow_conn_t *conn)
{
    tow_send_options_t send = {.flags = TOW_SEND_RETRY};
    bson_t command = BSON_INITIALIZER, reply;
    tow_error_t ignored;
    double size, most;

    bson_append_utf8(&command, "collStats", -1, "oplog.rs", -1);
    if (!tow_conn_command(conn, "local", &command, &send, &reply, &ignored))
        bson_reinit(&reply);
    size = number_of(&reply, "size");
    most = number_of(&reply, "maxSize");
    bson_destroy(&reply);
    bson_destroy(&command);
    return size > 0 && most > size ? most / size : 1;
}

bool tow_oplog_window(tow_conn_t *conn, double *out_seconds, double *out_full_seconds,
                      tow_error_t *error)
{
    tow_optime_t oldest, newest;

    if (!tow_oplog_oldest(conn, true, &oldest, error) || !tow_link_poll_time(conn, &newest, error))
        return false;
    if (!oldest || newest < oldest)
        return tow_fail(error, TOW_ERROR_SERVER, "the %s's oplog has no entry that tells its time",
                        conn->link->side);
    *out_seconds = (double)(newest >> 32) - (double)(oldest >> 32);
    *out_full_seconds = *out_seconds * growth(conn);
    return true;
}

bool tow_clock_skew(tow_conn_t *conn, double *out_seconds, tow_error_t *error)
{
    tow_send_options_t send = {.flags = TOW_SEND_RETRY};
    bson_t command = BSON_INITIALIZER, reply;
    bson_iter_t iter;
    int64_t before_ms = tow_wall_ms(), after_ms, there_ms;
    bool ok;

    bson_append_int32(&command,
                      tow_server_can(&conn->link->facts, TOW_HELLO) ? "hello" : "isMaster", -1, 1);
    ok = tow_conn_command(conn, "admin", &command, &send, &reply, error);
    after_ms = tow_wall_ms();
    if (ok && bson_iter_init_find(&iter, &reply, "localTime") && tow_iter_wall_ms(&iter, &there_ms))
        *out_seconds = (double)(there_ms - before_ms - (after_ms - before_ms) / 2) / 1000;
    else if (ok)
        ok = tow_fail(error, TOW_ERROR_SERVER, "the %s does not tell its time", conn->link->side);
    bson_destroy(&reply);
    bson_destroy(&command);
    return ok;
}
