/* SPDX-License-Identifier: Apache-2.0 */
/* record.c: see record.h. */
#include "oplog/record.h"

#include <string.h>

#include "engine/link/reply.h"

typedef struct {
    uint8_t kind, type;
    uint16_t database_length, collection_length, zero;
    uint32_t length;
    uint32_t seconds, increment; /* the cluster time in halves: no padding on any machine */
} head_t;

void tow_record_begin(tow_buffer_t *block, const bson_t *previous_token, tow_optime_t previous_time)
{
    tow_buffer_clear(block);
    tow_buffer_append(block, &previous_time, sizeof previous_time);
    tow_buffer_append(block, bson_get_data(previous_token), previous_token->len);
}

/* The length of the part before the first record, 0 when it is malformed. */
static size_t prefix(const tow_buffer_t *block)
{
    uint32_t length;

    if (block->length < sizeof(tow_optime_t) + 5)
        return 0;
    memcpy(&length, block->data + sizeof(tow_optime_t), sizeof length);
    length = BSON_UINT32_FROM_LE(length);
    if (length < 5 || length > block->length - sizeof(tow_optime_t))
        return 0;
    return sizeof(tow_optime_t) + length;
}

bool tow_record_previous(const tow_buffer_t *block, bson_t *out_token, tow_optime_t *out_time)
{
    size_t length = prefix(block);

    if (!length)
        return false;
    memcpy(out_time, block->data, sizeof *out_time);
    return bson_init_static(out_token, block->data + sizeof *out_time, length - sizeof *out_time);
}

void tow_record_append(tow_buffer_t *block, const tow_record_t *record)
{
    head_t head = {
        .kind = (uint8_t)record->kind,
        .type = record->id.type,
        .database_length = (uint16_t)strlen(record->database),
        .collection_length = (uint16_t)strlen(record->collection),
        .length = record->id.length,
        .seconds = (uint32_t)(record->time >> 32),
        .increment = (uint32_t)record->time,
    };

    tow_buffer_append(block, &head, sizeof head);
    tow_buffer_append(block, record->database, (size_t)head.database_length + 1);
    tow_buffer_append(block, record->collection, (size_t)head.collection_length + 1);
    tow_buffer_append(block, record->id.data, record->id.length);
}

bool tow_record_next(const tow_buffer_t *block, size_t *position, tow_record_t *out,
                     bool *out_broken)
{
    head_t head;
    size_t left, names;
    const uint8_t *at;

    *out_broken = false;
    if (*position == 0 && (*position = prefix(block)) == 0) {
        *out_broken = true;
        return false;
    }
    left = block->length - *position;
    if (left == 0)
        return false;
    *out_broken = true;
    if (left < sizeof head)
        return false;
    memcpy(&head, block->data + *position, sizeof head);
    names = (size_t)head.database_length + head.collection_length + 2;
    if (left - sizeof head < names || left - sizeof head - names < head.length)
        return false;
    at = block->data + *position + sizeof head;
    if (at[head.database_length] || at[names - 1])
        return false;
    out->kind = (tow_record_kind_t)head.kind;
    out->database = (const char *)at;
    out->collection = (const char *)at + head.database_length + 1;
    out->id = (tow_value_t){head.type, head.length, at + names};
    out->time = TOW_OPTIME(head.seconds, head.increment);
    *position += sizeof head + names + head.length;
    *out_broken = false;
    return true;
}

static void parse_namespace(bson_iter_t *field, tow_event_t *out)
{
    bson_iter_t child;

    if (!BSON_ITER_HOLDS_DOCUMENT(field) || !bson_iter_recurse(field, &child))
        return;
    while (bson_iter_next(&child)) {
        if (!strcmp(bson_iter_key(&child), "db"))
            tow_iter_text(&child, &out->database);
        else if (!strcmp(bson_iter_key(&child), "coll"))
            tow_iter_text(&child, &out->collection);
    }
}

tow_operation_t tow_operation_of(const char *text)
{
    static const struct {
        const char *text;
        tow_operation_t operation;
    } words[] = {
        {"insert", TOW_OPERATION_INSERT},
        {"update", TOW_OPERATION_UPDATE},
        {"replace", TOW_OPERATION_REPLACE},
        {"delete", TOW_OPERATION_DELETE},
        {"drop", TOW_OPERATION_DROP},
        {"dropDatabase", TOW_OPERATION_DROP_DATABASE},
        {"rename", TOW_OPERATION_RENAME},
        {"invalidate", TOW_OPERATION_INVALIDATE},
        {"create", TOW_OPERATION_CREATE},
        {"createIndexes", TOW_OPERATION_CREATE_INDEXES},
        {"dropIndexes", TOW_OPERATION_DROP_INDEXES},
        {"modify", TOW_OPERATION_MODIFY},
    };

    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strcmp(text, words[i].text))
            return words[i].operation;
    return TOW_OPERATION_OTHER;
}

static bool is_change(tow_operation_t kind)
{
    return kind == TOW_OPERATION_INSERT || kind == TOW_OPERATION_UPDATE ||
           kind == TOW_OPERATION_REPLACE || kind == TOW_OPERATION_DELETE;
}

void tow_event_parse(const bson_t *event, tow_event_t *out)
{
    bson_iter_t iter, child;

    *out = (tow_event_t){.operation = "", .database = "", .collection = ""};
    if (!bson_iter_init(&iter, event))
        return;
    while (bson_iter_next(&iter)) {
        const char *name = bson_iter_key(&iter);

        if (!strcmp(name, "operationType")) {
            tow_iter_text(&iter, &out->operation);
        } else if (!strcmp(name, "clusterTime")) {
            tow_iter_time(&iter, &out->time);
        } else if (!strcmp(name, "ns")) {
            parse_namespace(&iter, out);
        } else if (!strcmp(name, "wallTime")) {
            tow_iter_wall_ms(&iter, &out->wall_ms);
        } else if (!strcmp(name, "documentKey") && BSON_ITER_HOLDS_DOCUMENT(&iter) &&
                   bson_iter_recurse(&iter, &child) && bson_iter_find(&child, "_id")) {
            out->has_id = true;
            out->id = tow_value_of(&child);
        }
    }
    out->kind = tow_operation_of(out->operation);
    out->change = is_change(out->kind);
}
