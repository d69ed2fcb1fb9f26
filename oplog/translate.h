/* translate.h: turns one change event into an exact statement, or says that it must be refetched.
 *
 * Exact means: applied to the document as it was before the event it gives the document as it was
 * after it, byte for byte, field order included. */
#ifndef TOW_OPLOG_TRANSLATE_H
#define TOW_OPLOG_TRANSLATE_H

#include <bson/bson.h>

#include "engine/base/error.h"

typedef enum {
    TOW_STATEMENT_REPLACE,  /* `update` is the whole document: upsert by _id */
    TOW_STATEMENT_UPDATE,   /* `update` is an update document (classic $set/$unset of one field) */
    TOW_STATEMENT_PIPELINE, /* `update` is an array: an aggregation pipeline */
    TOW_STATEMENT_DELETE,
    TOW_STATEMENT_REFETCH,  /* cannot be expressed exactly */
    TOW_STATEMENT_NONE      /* changes nothing */
} tow_statement_t;

/* Translates an insert, update, replace or delete event. `update` is initialized by the caller and
 * filled for REPLACE, UPDATE, PIPELINE. Never fails: what it does not understand is REFETCH.
 *   - insert/replace: REFETCH when fullDocument is missing or null, or its first top-level field (any
 *     top-level field) starts with '$', or it has a top-level Timestamp(0,0).
 *   - update: no updatedFields, removedFields, truncatedArrays: NONE. One field set or removed: classic.
 *     Several: a pipeline of $set {path: {$literal: value}} in the event's order, $unset by stage, and
 *     for truncatedArrays $set path {$slice: ["$path", newSize]}. A path that is empty, has an empty
 *     component, a component that is all digits, a '$', a dot inside a name (as disambiguatedPaths or
 *     an array-typed path shows), a dotted path (its parent could be an array or missing) unless
 *     disambiguatedPaths says otherwise… : REFETCH when not certain. See translate.c for the reasons. */
tow_statement_t tow_translate(const bson_t *event, bson_t *update);

#endif
