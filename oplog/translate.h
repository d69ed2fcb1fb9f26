/* SPDX-License-Identifier: Apache-2.0 */
/* translate.h: turns one change event into an exact statement, or says that its key must be
 * refetched.
 *
 * Exact means: applied to the document as it was before the event it gives the document as it was
 * after it, byte for byte, field order included.
 *
 * Inserts, replacements and deletes are. Of a stream that is merged from several shards only
 * inserts are: a document that moved is deleted on one shard and inserted on another, and the
 * merged stream may report these in either order (recorded from a real 4.4: 53 of 721 moves insert
 * first); and an update that goes to all shards, such as one of many documents, also changes the
 * orphans that a moved chunk left behind, whose replacement is reported like that of the document
 * itself. Updates never are: `updatedFields` holds a field that was set in place and one that was
 * removed and added again at the end alike (a pipeline that unsets and sets does that; the oplog's
 * diff knows the two apart as `u` and `i`, the change event does not), servers differ in the order
 * in which they list new fields, and a field that only moved need not be listed at all. */
#ifndef TOW_OPLOG_TRANSLATE_H
#define TOW_OPLOG_TRANSLATE_H

#include <bson/bson.h>

#include "engine/base/error.h"

typedef enum {
    TOW_STATEMENT_REPLACE, /* `document` is the whole document: upsert by _id */
    TOW_STATEMENT_DELETE,
    TOW_STATEMENT_REFETCH /* cannot be expressed exactly */
} tow_statement_t;

/* Translates an insert, update, replace or delete event; `merged`: from several shards. *document
 * borrows from the event when REPLACE is returned. Never fails: what it does not understand is
 * REFETCH; so is a document with a top-level field that begins with a dollar, or with a top-level
 * Timestamp(0,0), which `update` writes otherwise. */
tow_statement_t tow_translate(const bson_t *event, bson_t *document, bool merged);

#endif
