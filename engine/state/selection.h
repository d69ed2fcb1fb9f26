/* selection.h: the filter of a find for documents by `_id`. */
#ifndef TOW_STATE_SELECTION_H
#define TOW_STATE_SELECTION_H

#include "engine/state/key.h"

typedef struct {
    bson_t list;    /* for $in */
    bson_t dollars; /* for $or: _ids whose first field begins with a dollar, which $in may refuse */
    uint32_t listed, dollar_count;
} tow_selection_t;

void tow_selection_begin(tow_selection_t *selection);
void tow_selection_add(tow_selection_t *selection, tow_value_t id);
/* The filter, which is the caller's; with no _id added it matches nothing. Ends the selection. */
void tow_selection_end(tow_selection_t *selection, bson_t *out_filter);

#endif
