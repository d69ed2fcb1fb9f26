/* SPDX-License-Identifier: Apache-2.0 */
/* event.c: any document as a change event, any bytes as a block of records. What becomes a record
 * is read back as it was; what is translated into a replacement is a document that an update can
 * write. */
#include "engine/state/write.h"
#include "oplog/record.h"
#include "oplog/translate.h"
#include "tests/fuzz/fuzz.h"

static void read_records(const tow_buffer_t *block)
{
    size_t position = 0;
    tow_record_t record;
    tow_optime_t time;
    bson_t token;
    bool broken = false;

    if (tow_record_previous(block, &token, &time))
        HOLDS(token.len >= 5);
    while (tow_record_next(block, &position, &record, &broken))
        HOLDS(position <= block->length && record.database && record.collection);
}

static void check_event(const bson_t *event)
{
    tow_buffer_t block = {0};
    bson_t token = BSON_INITIALIZER, document;
    tow_record_t record = {.kind = TOW_RECORD_CHANGE, .database = "", .collection = ""}, found;
    tow_event_t parsed;
    size_t position = 0;
    bool broken = false;

    tow_event_parse(event, &parsed);
    if (tow_translate(event, &document, false) == TOW_STATEMENT_REPLACE)
        HOLDS(tow_is_updatable(&document));
    if (parsed.change && parsed.has_id) {
        record = (tow_record_t){TOW_RECORD_CHANGE, parsed.database, parsed.collection, parsed.id,
                                parsed.time};
        tow_record_begin(&block, &token, 1);
        tow_record_append(&block, &record);
        HOLDS(tow_record_next(&block, &position, &found, &broken) && !broken);
        HOLDS(!strcmp(found.database, record.database) &&
              !strcmp(found.collection, record.collection) && found.time == record.time &&
              found.id.type == record.id.type && found.id.length == record.id.length &&
              !memcmp(found.id.data, record.id.data, record.id.length));
        HOLDS(!tow_record_next(&block, &position, &found, &broken) && !broken);
        read_records(&block);
    }
    tow_buffer_free(&block);
    bson_destroy(&token);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tow_buffer_t block = {0};
    bson_t event;

    tow_buffer_append(&block, data, size);
    read_records(&block);
    tow_buffer_free(&block);
    /* As in the engine: what the driver hands on is whole BSON, though its values are anybody's. */
    if (size >= 5 && bson_init_static(&event, data, size) &&
        bson_validate(&event, BSON_VALIDATE_NONE, NULL))
        check_event(&event);
    return 0;
}
