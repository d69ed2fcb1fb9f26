/* SPDX-License-Identifier: Apache-2.0 */
/* capped.c: reads and writes a log that is being continued; see capped_continue.c. */
#include "oplog/capped.h"
#include "engine/link/codes.h"
#include "engine/link/reply.h"

bool tow_log_read(tow_continuing_t *log, tow_conn_t *conn, tow_read_t *what, tow_log_each_fn each,
                  void *data, bool *out_end, tow_error_t *error)
{
    bool ok, more = true, wanted = true;
    tow_reader_t *reader;
    bson_t document;

    what->database = log->collection->database;
    what->collection = log->collection->name;
    what->after =
        conn == log->lane->source ? log->lo : tow_link_time(tow_log_options(log)->destination);
    reader = tow_reader_open(conn, what, error);
    ok = reader != NULL;
    while (ok && more && wanted) {
        while (wanted && tow_reader_next(reader, &document))
            wanted = each(log, &document, data);
        if (wanted)
            ok = tow_reader_next_batch(reader, &more, error);
    }
    *out_end = ok && !more;
    if (ok && conn == log->lane->source && tow_reader_time(reader) > log->hi)
        log->hi = tow_reader_time(reader);
    tow_reader_close(reader);
    if (!ok && (error->server_code == TOW_CODE_CAPPED_POSITION_LOST ||
                error->server_code == TOW_CODE_QUERY_PLAN_KILLED))
        error->retry = TOW_RETRY_REFETCH;
    return ok;
}

void tow_log_id_only(bson_t *out)
{
    bson_init(out);
    bson_append_int32(out, "_id", 3, 1);
}

static void refused(void *data, void *tag, const tow_write_error_t *failure)
{
    tow_continuing_t *log = data;

    (void)tag;
    tow_emit(&tow_log_options(log)->sink, TOW_LEVEL_DEBUG, "capped_refused", "%s: %d %s",
             log->collection->ns, failure->code, failure->message);
    tow_log_give_up(log, "the destination refuses a document or a change of it");
}

bool tow_log_send(tow_continuing_t *log, tow_write_t *write, tow_error_t *error)
{
    uint32_t matched;

    atomic_fetch_add(&log->lane->replay->statements, write->count);
    return tow_write_send(write, log->lane->destination, refused, log, &matched, error);
}
