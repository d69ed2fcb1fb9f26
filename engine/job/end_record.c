/* SPDX-License-Identifier: Apache-2.0 */
/* end_record.c: see end_record.h. */
#include "engine/job/end_record.h"

#include <stdlib.h>
#include <string.h>

#include "engine/base/json.h"
#include "engine/link/identity.h"
#include "engine/link/reply.h"

/* One document, and nothing after it: libbson reads the first, whatever follows. */
bson_t *tow_end_record_parse(const char *line)
{
    bson_json_reader_t *reader = bson_json_data_reader_new(true, 0);
    bson_t *document = bson_new(), rest = BSON_INITIALIZER;
    bool one;

    bson_json_data_reader_ingest(reader, (const uint8_t *)line, strlen(line));
    one = bson_json_reader_read(reader, document, NULL) == 1 &&
          bson_json_reader_read(reader, &rest, NULL) == 0;
    bson_json_reader_destroy(reader);
    bson_destroy(&rest);
    if (one)
        return document;
    bson_destroy(document);
    return NULL;
}

const char *tow_end_record_text(const bson_t *record, const char *name)
{
    const char *text;
    bson_iter_t iter;

    return bson_iter_init_find(&iter, record, name) && tow_iter_text(&iter, &text) ? text : "";
}

static int by_ns(const void *key, const void *item)
{
    return strcmp(key, ((const tow_collection_info_t *)item)->ns);
}

/* Whether the destination has a namespace of that name, and whether it is the very one. */
static void look_for(const tow_catalog_t *there, const bson_t *entry, bool *out_named,
                     bool *out_held)
{
    const tow_collection_info_t *info = NULL;
    const uint8_t *uuid = NULL;
    bson_subtype_t type;
    uint32_t length = 0;
    bson_iter_t iter;
    const char *ns;

    if (there->count && tow_field_text(entry, "ns", &ns))
        info = bsearch(ns, there->items, there->count, sizeof *there->items, by_ns);
    if (bson_iter_init_find(&iter, entry, "uuid") && BSON_ITER_HOLDS_BINARY(&iter))
        bson_iter_binary(&iter, &type, &length, &uuid);
    *out_named = info != NULL;
    *out_held = info && uuid && length == sizeof info->uuid && !memcmp(info->uuid, uuid, length);
}

void tow_end_record_count(const bson_t *record, const tow_catalog_t *there, uint32_t *out_listed,
                          uint32_t *out_named, uint32_t *out_held)
{
    bool named, held;
    bson_iter_t list;
    bson_t entry;

    *out_listed = *out_named = *out_held = 0;
    if (!tow_field_list(record, "collections", &list))
        return;
    while (bson_iter_next(&list)) {
        ++*out_listed;
        if (!tow_iter_document(&list, &entry))
            continue;
        look_for(there, &entry, &named, &held);
        *out_named += named;
        *out_held += held;
    }
}

char *tow_end_record_summary(const bson_t *record)
{
    const char *summary = tow_end_record_text(record, "summary");
    bson_t *fields = tow_end_record_parse(summary);
    tow_json_t json = {0};

    tow_json_begin(&json, NULL);
    tow_json_put_text(&json, "doneBefore", tow_end_record_text(record, "endedAt"));
    if (fields && *summary == '{' && summary[strlen(summary) - 1] == '}')
        tow_json_put_fields(&json, summary);
    else
        tow_json_put_text(&json, "state", "done");
    tow_json_end(&json);
    if (fields)
        bson_destroy(fields);
    return tow_json_take(&json);
}

bool tow_end_record_is_other(const bson_t *record, const char *name, const char *identity)
{
    const char *recorded = tow_end_record_text(record, name);

    return *recorded && tow_identity_compare(recorded, identity) == TOW_IDENTITY_DIFFERENT;
}
