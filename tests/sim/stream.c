/* SPDX-License-Identifier: Apache-2.0 */
/* stream.c: change streams: events up to what a majority has, and tokens as a mongod gives them. */
#include <mongoc/mongoc.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "document.h"
#include "schedule.h"
#include "server.h"

static const char *token_of(const sim_event_t *event)
{
    bson_iter_t iter;

    sim_path(event->event, "_id._data", &iter);
    return bson_iter_utf8(&iter, NULL);
}

/* That no event up to this time will come. */
static void mark(tow_optime_t time, char out[64])
{
    snprintf(out, 64, "82%08X%08X2B0429296E04", (uint32_t)(time >> 32), (uint32_t)time);
}

/* Of the first event after a token. */
static uint32_t position_after(const sim_server_t *server, const char *token)
{
    uint32_t i = 0;

    while (i < server->oplog_count && strcasecmp(token_of(&server->oplog[i]), token) <= 0)
        i++;
    return i;
}

static void append_token(bson_t *cursor, const char *token)
{
    bson_t child;

    bson_append_document_begin(cursor, "postBatchResumeToken", -1, &child);
    bson_append_utf8(&child, "_data", -1, token, -1);
    bson_append_document_end(cursor, &child);
}

static tow_optime_t time_of_token(const char *token)
{
    char digits[17];

    snprintf(digits, sizeof digits, "%.16s", token + 2);
    return strtoull(digits, NULL, 16);
}

void sim_stream_open(sim_server_t *server, const bson_t *command, bson_t *reply)
{
    sim_cursor_t *cursor = sim_new_cursor(server);
    tow_optime_t committed = sim_commit(server, 0);
    bson_t child, batch;
    bson_iter_t iter;
    char token[96];

    if (!sim_path(command, "pipeline.0.$changeStream", &iter))
        sim_fail("the simulated server knows no aggregate but $changeStream: %s",
                 bson_as_relaxed_extended_json(command, NULL));
    cursor->stream = true;
    cursor->whole = !sim_path(command, "pipeline.2.$project", &iter);
    if (sim_path(command, "pipeline.0.$changeStream.resumeAfter._data", &iter)) {
        snprintf(token, sizeof token, "%s", bson_iter_utf8(&iter, NULL));
        cursor->passed = time_of_token(token);
    } else {
        cursor->passed = committed;
        mark(committed, token);
    }
    cursor->position = position_after(server, token);
    bson_append_document_begin(reply, "cursor", -1, &child);
    bson_append_array_begin(&child, "firstBatch", -1, &batch);
    bson_append_array_end(&child, &batch);
    append_token(&child, token);
    bson_append_int64(&child, "id", -1, cursor->number);
    bson_append_utf8(&child, "ns", -1, "admin.$cmd.aggregate", -1);
    bson_append_document_end(reply, &child);
    sim_append_time(server, reply, committed);
}

bool sim_stream_has(const sim_server_t *server, const sim_cursor_t *cursor)
{
    return cursor->position < server->oplog_count &&
           server->oplog[cursor->position].time <= server->committed;
}

static void append_projected(bson_t *batch, uint32_t number, const sim_event_t *event, bool whole)
{
    bson_t keys = BSON_INITIALIZER;

    bson_copy_to_excluding_noinit(event->event, &keys, "fullDocument", "updateDescription", NULL);
    sim_append_index(batch, number, whole ? event->event : &keys);
    bson_destroy(&keys);
}

void sim_stream_more(sim_server_t *server, sim_cursor_t *cursor, bson_t *reply)
{
    uint32_t most = sim_below(SIM_SERVER, 3) ? 1000 : 1 + sim_below(SIM_SERVER, 4), count = 0;
    tow_optime_t committed = sim_commit(server, 0);
    bson_t child, batch;
    char token[96];

    bson_append_document_begin(reply, "cursor", -1, &child);
    bson_append_array_begin(&child, "nextBatch", -1, &batch);
    for (; count < most && sim_stream_has(server, cursor); count++)
        append_projected(&batch, count, &server->oplog[cursor->position++], cursor->whole);
    bson_append_array_end(&child, &batch);
    if (sim_stream_has(server, cursor) || (count && sim_below(SIM_SERVER, 2))) {
        const sim_event_t *last = &server->oplog[cursor->position - 1];

        snprintf(token, sizeof token, "%s", token_of(last));
        cursor->passed = last->time;
    } else {
        if (committed > cursor->passed)
            cursor->passed = committed;
        mark(cursor->passed, token);
        /* The token of an event of that very time is larger than the mark. */
        if (cursor->position &&
            strcasecmp(token_of(&server->oplog[cursor->position - 1]), token) > 0)
            snprintf(token, sizeof token, "%s", token_of(&server->oplog[cursor->position - 1]));
    }
    append_token(&child, token);
    bson_append_int64(&child, "id", -1, cursor->number);
    bson_append_utf8(&child, "ns", -1, "admin.$cmd.aggregate", -1);
    bson_append_document_end(reply, &child);
    sim_append_time(server, reply, committed);
}
