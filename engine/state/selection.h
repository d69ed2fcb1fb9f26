/* SPDX-License-Identifier: Apache-2.0 */
/* selection.h: the filter of a find for documents by `_id`. */
#ifndef TOW_STATE_SELECTION_H
#define TOW_STATE_SELECTION_H

#include "engine/base/bounds.h"
#include "engine/state/key.h"

typedef struct {
    bson_t list;    /* for $in */
    bson_t dollars; /* for $or: _ids whose first field begins with a dollar, which $in may refuse */
    uint32_t listed, dollar_count;
    tow_bounds_t bounds;
} tow_selection_t;

enum { TOW_SELECTION_MOST = 1000 };

void tow_selection_begin(tow_selection_t *selection);
/* Room for one more _id: false means that the find must go first. The first always has room. */
bool tow_selection_fits(const tow_selection_t *selection, tow_value_t id);
void tow_selection_add(tow_selection_t *selection, tow_value_t id);
/* The filter, which is the caller's; with no _id added it matches nothing. Ends the selection. */
void tow_selection_end(tow_selection_t *selection, bson_t *out_filter);

#endif
