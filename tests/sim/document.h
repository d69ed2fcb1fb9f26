/* SPDX-License-Identifier: Apache-2.0 */
/* document.h: filters and updates of single documents, as far as the engine uses them. What it does
 * not use is not known: the run fails. */
#ifndef TOW_SIM_DOCUMENT_H
#define TOW_SIM_DOCUMENT_H

#include "engine/state/key.h"

/* The field at a dotted path. */
bool sim_path(const bson_t *document, const char *path, bson_iter_t *out);
/* Whether a filter takes a document. */
bool sim_matches(const bson_t *filter, const bson_t *document);
/* The document after an update (a replacement, operators, or a pipeline); `out` is initialised
 * here. */
void sim_update(const bson_t *document, const bson_iter_t *update, bson_t *out);
tow_value_t sim_id(const bson_t *document);

#endif
