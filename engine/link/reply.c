/* SPDX-License-Identifier: Apache-2.0 */
/* reply.c: see reply.h. */
#include "engine/link/reply.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/memory.h"
#include "engine/link/internal.h"

bool tow_iter_document(const bson_iter_t *iter, bson_t *out)
{
    const uint8_t *data;
    uint32_t length;

    if (!BSON_ITER_HOLDS_DOCUMENT(iter))
        return false;
    bson_iter_document(iter, &length, &data);
    /* In its place: a bson_t points into itself. */
    return data && bson_init_static(out, data, length);
}

bool tow_iter_list(const bson_iter_t *iter, bson_iter_t *out)
{
    return BSON_ITER_HOLDS_ARRAY(iter) && bson_iter_recurse(iter, out);
}

bool tow_iter_packed(const bson_iter_t *iter, bson_t *out)
{
    const uint8_t *data;
    uint32_t length;
    bson_t document;

    if (!BSON_ITER_HOLDS_BINARY(iter))
        return false;
    bson_iter_binary(iter, NULL, &length, &data);
    return bson_init_static(&document, data, length) && tow_is_readable(&document) &&
           bson_init_static(out, data, length);
}

bool tow_iter_text(const bson_iter_t *iter, const char **out)
{
    const char *text;
    uint32_t length;

    if (!BSON_ITER_HOLDS_UTF8(iter))
        return false;
    text = bson_iter_utf8(iter, &length);
    if (!text || strlen(text) != length || !bson_utf8_validate(text, length, false))
        return false;
    *out = text;
    return true;
}

bool tow_iter_time(const bson_iter_t *iter, tow_optime_t *out)
{
    uint32_t seconds, increment;

    if (!BSON_ITER_HOLDS_TIMESTAMP(iter))
        return false;
    bson_iter_timestamp(iter, &seconds, &increment);
    *out = TOW_OPTIME(seconds, increment);
    return true;
}

bool tow_iter_number(const bson_iter_t *iter, int64_t *out)
{
    double value;

    if (BSON_ITER_HOLDS_INT32(iter) || BSON_ITER_HOLDS_INT64(iter)) {
        *out = bson_iter_as_int64(iter);
        return true;
    }
    if (!BSON_ITER_HOLDS_DOUBLE(iter))
        return false;
    value = bson_iter_double(iter);
    /* 2^63 as a double: what is below fits. */
    if (!isfinite(value) || value < -9223372036854775808.0 || value >= 9223372036854775808.0)
        return false;
    *out = (int64_t)value;
    return true;
}

bool tow_iter_count(const bson_iter_t *iter, int64_t most, int64_t *out)
{
    int64_t number;

    if (!tow_iter_number(iter, &number) || number < 0 || number > most)
        return false;
    *out = number;
    return true;
}

bool tow_iter_wall_ms(const bson_iter_t *iter, int64_t *out)
{
    int64_t ms;

    if (!BSON_ITER_HOLDS_DATE_TIME(iter))
        return tow_iter_count(iter, TOW_WALL_MOST_MS, out);
    ms = bson_iter_date_time(iter);
    if (ms < 0 || ms > TOW_WALL_MOST_MS)
        return false;
    *out = ms;
    return true;
}

bool tow_iter_complete(const bson_iter_t *iter)
{
    return iter->err_off == 0;
}

/* A document or an array ends where its length says, with a zero: iterating alone does not look
 * there. */
static bool is_closed(const bson_iter_t *iter)
{
    const uint8_t *data;
    uint32_t length;

    if (BSON_ITER_HOLDS_ARRAY(iter))
        bson_iter_array(iter, &length, &data);
    else
        bson_iter_document(iter, &length, &data);
    return data && length >= 5 && data[length - 1] == 0;
}

static bool is_readable(bson_iter_t *iter, unsigned depth)
{
    bson_iter_t child;

    while (bson_iter_next(iter))
        if ((BSON_ITER_HOLDS_DOCUMENT(iter) || BSON_ITER_HOLDS_ARRAY(iter)) &&
            (depth == TOW_NESTING_MOST || !is_closed(iter) || !bson_iter_recurse(iter, &child) ||
             !is_readable(&child, depth + 1)))
            return false;
    return tow_iter_complete(iter);
}

bool tow_is_readable(const bson_t *document)
{
    bson_iter_t iter;

    return bson_iter_init(&iter, document) && is_readable(&iter, 0);
}

static bool find(const bson_t *reply, const char *path, bson_iter_t *out)
{
    bson_iter_t iter;

    return bson_iter_init(&iter, reply) && bson_iter_find_descendant(&iter, path, out);
}

bool tow_field_document(const bson_t *reply, const char *path, bson_t *out)
{
    bson_iter_t iter;

    return find(reply, path, &iter) && tow_iter_document(&iter, out);
}

bool tow_field_list(const bson_t *reply, const char *path, bson_iter_t *out)
{
    bson_iter_t iter;

    return find(reply, path, &iter) && tow_iter_list(&iter, out);
}

bool tow_field_text(const bson_t *reply, const char *path, const char **out)
{
    bson_iter_t iter;

    return find(reply, path, &iter) && tow_iter_text(&iter, out);
}

bool tow_field_number(const bson_t *reply, const char *path, int64_t *out)
{
    bson_iter_t iter;

    return find(reply, path, &iter) && tow_iter_number(&iter, out);
}

bool tow_field_is_set(const bson_t *reply, const char *path)
{
    bson_iter_t iter;

    return find(reply, path, &iter) && bson_iter_as_bool(&iter);
}

bool tow_reply_cursor(const bson_t *reply, tow_reply_cursor_t *out)
{
    bson_iter_t iter, field;
    bool has_id = false, has_batch = false;

    *out = (tow_reply_cursor_t){0};
    if (!bson_iter_init_find(&iter, reply, "cursor") || !BSON_ITER_HOLDS_DOCUMENT(&iter) ||
        !bson_iter_recurse(&iter, &field))
        return false;
    while (bson_iter_next(&field)) {
        const char *name = bson_iter_key(&field);

        if (!strcmp(name, "id"))
            has_id = tow_iter_number(&field, &out->id);
        else if (!strcmp(name, "ns"))
            tow_iter_text(&field, &out->ns);
        else if (!strcmp(name, "firstBatch") || !strcmp(name, "nextBatch"))
            has_batch = tow_iter_list(&field, &out->batch);
        else if (!strcmp(name, "postBatchResumeToken"))
            out->has_token = tow_iter_document(&field, &out->token);
    }
    return has_id && has_batch && tow_iter_complete(&field);
}

bool tow_batch_document(bson_iter_t *batch, bson_t *out, bool *out_broken)
{
    *out_broken = false;
    if (bson_iter_next(batch)) {
        if (tow_iter_document(batch, out))
            return true;
        *out_broken = true;
    } else {
        *out_broken = !tow_iter_complete(batch);
    }
    return false;
}

bool tow_reply_holds_documents(const bson_t *reply)
{
    tow_reply_cursor_t cursor;
    bson_t document;
    bool broken;

    if (!tow_reply_cursor(reply, &cursor))
        return false;
    while (tow_batch_document(&cursor.batch, &document, &broken))
        continue;
    return !broken;
}

tow_optime_t tow_reply_time(const bson_t *reply)
{
    tow_optime_t time = 0;
    bson_iter_t iter;

    if (bson_iter_init_find(&iter, reply, "operationTime"))
        tow_iter_time(&iter, &time);
    return time;
}

tow_optime_t tow_reply_cluster_time(const bson_t *reply, bson_t *out_document)
{
    tow_optime_t time = 0;
    bson_iter_t iter;

    if (!tow_field_document(reply, "$clusterTime", out_document) ||
        !bson_iter_init_find(&iter, out_document, "clusterTime") || !tow_iter_time(&iter, &time))
        return 0;
    return time;
}

tow_optime_t tow_reply_newest_time(const bson_t *reply)
{
    bson_t document;
    tow_optime_t operation = tow_reply_time(reply),
                 cluster = tow_reply_cluster_time(reply, &document);

    return cluster > operation ? cluster : operation;
}

/* Change events ---------------------------------------------------------------------------------*/

static bool is_document_change(const char *operation)
{
    return !strcmp(operation, "insert") || !strcmp(operation, "update") ||
           !strcmp(operation, "replace") || !strcmp(operation, "delete");
}

static bool names_collection(const bson_iter_t *field)
{
    bson_iter_t part;
    const char *text;
    bool database = false, collection = false;

    if (!BSON_ITER_HOLDS_DOCUMENT(field) || !bson_iter_recurse(field, &part))
        return false;
    while (bson_iter_next(&part)) {
        if (!strcmp(bson_iter_key(&part), "db"))
            database = tow_iter_text(&part, &text) && *text;
        else if (!strcmp(bson_iter_key(&part), "coll"))
            collection = tow_iter_text(&part, &text) && *text;
    }
    return database && collection && tow_iter_complete(&part);
}

/* What tow_reply_is_event looks for, in one pass: a source sends a great many. */
typedef struct {
    const char *operation;
    bool token, time, ns, to, key, database;
} seen_t;

static void look_at(bson_iter_t *field, seen_t *seen)
{
    const char *name = bson_iter_key(field), *text;
    bson_iter_t child;
    tow_optime_t time;
    bson_t document;

    if (!strcmp(name, "operationType")) {
        tow_iter_text(field, &seen->operation);
    } else if (!strcmp(name, "_id")) {
        seen->token = tow_iter_document(field, &document) && !bson_empty(&document);
    } else if (!strcmp(name, "clusterTime")) {
        seen->time = tow_iter_time(field, &time) && time;
    } else if (!strcmp(name, "ns")) {
        seen->ns = names_collection(field);
        seen->database =
            tow_iter_document(field, &document) && tow_field_text(&document, "db", &text) && *text;
    } else if (!strcmp(name, "to")) {
        seen->to = names_collection(field);
    } else if (!strcmp(name, "documentKey")) {
        seen->key = BSON_ITER_HOLDS_DOCUMENT(field) && bson_iter_recurse(field, &child) &&
                    bson_iter_find(&child, "_id");
    }
}

bool tow_reply_is_event(const bson_t *event)
{
    seen_t seen = {.operation = ""};
    bson_iter_t iter;

    if (!bson_iter_init(&iter, event))
        return false;
    while (bson_iter_next(&iter))
        look_at(&iter, &seen);
    if (!tow_iter_complete(&iter) || !*seen.operation || !seen.token || !seen.time)
        return false;
    if (is_document_change(seen.operation))
        return seen.ns && seen.key;
    if (!strcmp(seen.operation, "drop"))
        return seen.ns;
    if (!strcmp(seen.operation, "rename"))
        return seen.ns && seen.to;
    return strcmp(seen.operation, "dropDatabase") != 0 || seen.database;
}

bool tow_reply_are_events(const bson_iter_t *of)
{
    bson_iter_t batch = *of;
    bson_t event;
    bool broken;

    while (tow_batch_document(&batch, &event, &broken))
        if (!tow_reply_is_event(&event))
            return false;
    return !broken;
}

/* Writes ----------------------------------------------------------------------------------------*/

/* The entry after *position, which is the offset of the one before it in the array's bytes: a
 * message may have 100,000 refused documents, and counting up to each would take minutes. */
static bool next_entry(const bson_t *reply, uint32_t *position, bson_iter_t *out)
{
    bson_iter_t list;

    if (!tow_field_list(reply, "writeErrors", &list))
        return false;
    if (!*position)
        *out = list;
    else if (!bson_iter_init_from_data_at_offset(
                 out, list.raw, list.len, *position,
                 (uint32_t)strlen((const char *)list.raw + *position + 1)))
        return false;
    if (!bson_iter_next(out))
        return false;
    *position = bson_iter_offset(out);
    return true;
}

static int64_t count_statements(const bson_t *command)
{
    static const char *const names[] = {"documents", "updates", "deletes"};
    int64_t count = 0;
    bson_iter_t list;

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (tow_field_list(command, names[i], &list))
            while (bson_iter_next(&list))
                count++;
    return count;
}

/* A refusal that cannot be read, or is about no statement, would pass for a document that was
 * written. */
bool tow_reply_is_write(const bson_t *command, const bson_t *reply)
{
    int64_t statements;
    bson_iter_t list, field;
    bson_t entry, concern;
    int64_t number;
    bool broken;

    if (!tow_field_number(reply, "n", &number) || number < 0 ||
        (bson_has_field(reply, "writeConcernError") &&
         !tow_field_document(reply, "writeConcernError", &concern)))
        return false;
    if (!bson_has_field(reply, "writeErrors"))
        return true;
    if (!tow_field_list(reply, "writeErrors", &list))
        return false;
    statements = count_statements(command);
    while (tow_batch_document(&list, &entry, &broken)) {
        if (!tow_field_number(&entry, "index", &number) || number < 0 || number >= statements ||
            !tow_field_number(&entry, "code", &number) || !bson_iter_init(&field, &entry))
            return false;
        while (bson_iter_next(&field))
            continue;
        if (!tow_iter_complete(&field))
            return false;
    }
    return !broken;
}

bool tow_reply_write_error(const bson_t *reply, uint32_t *position, tow_write_error_t *out)
{
    bson_iter_t entry, field;

    if (!next_entry(reply, position, &entry))
        return false;
    *out = (tow_write_error_t){.message = ""};
    if (!bson_iter_recurse(&entry, &field))
        return true;
    while (bson_iter_next(&field)) {
        const char *name = bson_iter_key(&field);

        if (!strcmp(name, "index")) {
            out->index = (uint32_t)bson_iter_as_int64(&field);
        } else if (!strcmp(name, "code")) {
            out->code = (int)bson_iter_as_int64(&field);
        } else if (!strcmp(name, "errmsg")) {
            tow_iter_text(&field, &out->message);
        } else if (!strcmp(name, "keyValue") && BSON_ITER_HOLDS_DOCUMENT(&field)) {
            out->key_value = field;
            out->has_key_value = true;
        } else if (!strcmp(name, "keyPattern") && BSON_ITER_HOLDS_DOCUMENT(&field)) {
            out->key_pattern = field;
        }
    }
    return true;
}

/* Ours ------------------------------------------------------------------------------------------*/

void tow_append_text(bson_t *out, const char *name, const char *text)
{
    char *clean;

    if (bson_utf8_validate(text, strlen(text), false)) {
        bson_append_utf8(out, name, -1, text, -1);
        return;
    }
    clean = tow_strdup(text);
    for (char *at = clean; *at; at++)
        if ((unsigned char)*at >= 0x80)
            *at = '?';
    bson_append_utf8(out, name, -1, clean, -1);
    free(clean);
}

bool tow_fail_reply(tow_error_t *error, const char *side, const char *what)
{
    tow_fail(error, TOW_ERROR_SERVER, "the %s: %s", side, what);
    error->retry = TOW_RETRY_SAME;
    return false;
}
