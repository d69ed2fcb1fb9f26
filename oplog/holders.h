/* SPDX-License-Identifier: Apache-2.0 */
/* holders.h: which documents of the destination hold what one of its unique indexes refuses.
 *
 * They are looked for exactly as that index decides: by the refused document's own values of its
 * key, each element of an array by itself, with the index's partial filter, sparseness and
 * collation. What the server's error says of the key is no help: under a collation it is a sort key
 * and no value, beyond a megabyte of errors its text is empty, and a mongos says nothing at all. */
#ifndef TOW_OPLOG_HOLDERS_H
#define TOW_OPLOG_HOLDERS_H

#include <bson/bson.h>
#include <stdbool.h>

/* The filter for every document that `index` (a raw specification) holds for equal with `document`,
 * and perhaps a few more. False: the index does not take the document in. */
bool tow_holders_filter(const bson_t *index, const bson_t *document, bson_t *out_filter);
/* The collation that the filter needs, empty: the collection's own. A specification without one on
 * a collection that has one (`collated`) means the simple one. */
void tow_holders_collation(const bson_t *index, bool collated, bson_t *out);
/* Whether the index has that key: the same fields in the same order and direction. */
bool tow_index_has_key(const bson_t *index, const bson_t *key);
/* Whether a search by its values alone sees what the index sees: it has no collation, no filter,
 * and is not sparse. */
bool tow_index_is_plain(const bson_t *index);

#endif
