/* SPDX-License-Identifier: Apache-2.0 */
/* selection.c: {_id: {$in: […]}}, and {_id: {$eq: …}} for the few that $in does not take. */
#include "engine/state/selection.h"

void tow_selection_begin(tow_selection_t *selection)
{
    bson_init(&selection->list);
    bson_init(&selection->dollars);
    selection->listed = selection->dollar_count = 0;
    selection->bounds = tow_bounds(TOW_SELECTION_MOST, TOW_REQUEST_BYTES);
}

bool tow_selection_fits(const tow_selection_t *selection, tow_value_t id)
{
    return tow_bounds_fit(&selection->bounds, id.length);
}

/* A DBRef; servers keep other dollars out of an _id. */
static bool has_dollar(tow_value_t id)
{
    return id.type == BSON_TYPE_DOCUMENT && id.length > 6 && id.data[5] == '$';
}

static const char *next_index(uint32_t *count, char *room, size_t size)
{
    const char *text;

    bson_uint32_to_string((*count)++, &text, room, size);
    return text;
}

void tow_selection_add(tow_selection_t *selection, tow_value_t id)
{
    char room[16];
    bson_t entry, equal;

    selection->bounds.count++;
    selection->bounds.bytes += id.length + TOW_ENTRY_OVERHEAD;
    if (!has_dollar(id)) {
        tow_value_append(&selection->list, next_index(&selection->listed, room, sizeof room), -1,
                         id);
        return;
    }
    bson_append_document_begin(&selection->dollars,
                               next_index(&selection->dollar_count, room, sizeof room), -1, &entry);
    bson_append_document_begin(&entry, "_id", 3, &equal);
    tow_value_append(&equal, "$eq", 3, id);
    bson_append_document_end(&entry, &equal);
    bson_append_document_end(&selection->dollars, &entry);
}

static void append_list(bson_t *filter, const bson_t *list)
{
    bson_t condition;

    bson_append_document_begin(filter, "_id", 3, &condition);
    bson_append_array(&condition, "$in", 3, list);
    bson_append_document_end(filter, &condition);
}

void tow_selection_end(tow_selection_t *selection, bson_t *out_filter)
{
    char room[16];
    bson_t entry;

    bson_init(out_filter);
    if (selection->dollar_count) {
        bson_append_document_begin(&selection->dollars,
                                   next_index(&selection->dollar_count, room, sizeof room), -1,
                                   &entry);
        append_list(&entry, &selection->list);
        bson_append_document_end(&selection->dollars, &entry);
        bson_append_array(out_filter, "$or", 3, &selection->dollars);
    } else {
        append_list(out_filter, &selection->list);
    }
    bson_destroy(&selection->list);
    bson_destroy(&selection->dollars);
}
