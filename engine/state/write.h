/* SPDX-License-Identifier: Apache-2.0 */
/* write.h: collects write statements of one collection and sends them as one raw command.
 *
 * Statements keep their order. Each carries a tag by which an error finds its way back. */
#ifndef TOW_STATE_WRITE_H
#define TOW_STATE_WRITE_H

#include "engine/base/bounds.h"
#include "engine/link/link.h"
#include "engine/state/key.h"
#include "engine/state/namespaces.h"

typedef enum { TOW_WRITE_UPDATE, TOW_WRITE_DELETE, TOW_WRITE_INSERT } tow_write_kind_t;

typedef struct {
    tow_write_kind_t kind;
    const tow_namespace_t *collection;
    bson_t command, list; /* `list` is open inside `command` while open */
    bool open;
    bool strict; /* inserts: a document that is there already is none of ours */
    uint32_t count;
    tow_bounds_t bounds;
    void **tags;
    uint32_t tag_capacity;
} tow_write_t;

enum { TOW_WRITE_MOST = 5000 };

/* {0} is empty. Begins a message for a collection; the one before was sent or dropped. */
void tow_write_begin(tow_write_t *write, tow_write_kind_t kind, const tow_namespace_t *collection);
/* Inserts that are done in their order, up to the first that is refused. */
void tow_write_begin_ordered(tow_write_t *write, const tow_namespace_t *collection);
/* Room for a statement of so many bytes, its _id and its document together: false means send first.
 * An empty message always has room. */
bool tow_write_fits(const tow_write_t *write, size_t bytes);
void tow_write_replace(tow_write_t *write, tow_value_t id, const bson_t *document, void *tag);
/* The same for a document that is there, and nothing where it is not. */
void tow_write_replace_present(tow_write_t *write, tow_value_t id, const bson_t *document,
                               void *tag);
/* Replaces a document that is there by a pipeline: exact also where names hold dots and dollars,
 * and with the empty timestamps that a server otherwise fills in. */
void tow_write_literal(tow_write_t *write, tow_value_t id, const bson_t *document, void *tag);
/* Puts the empty timestamps back that the server filled in when it stored the document: by $set,
 * which servers leave alone and which asks nothing of the other fields, or else as
 * tow_write_literal does. */
void tow_write_timestamps(tow_write_t *write, tow_value_t id, const bson_t *document, void *tag);
bool tow_has_empty_timestamp(const bson_t *document); /* at its top level, _id left out */
/* Whether an update writes the document exactly as it stands, on every server: not when a field
 * begins with a dollar, which a server takes for an operator, nor with an empty Timestamp, which
 * servers fill in (one that knows bypassEmptyTsReplacement may still do so in updates). */
bool tow_is_updatable(const bson_t *document);
/* Whether a replacement on this server takes the document, empty timestamps aside: names that begin
 * with a dollar may stand below the top from 5.0 on, and _id and document must fit one command. */
bool tow_is_replaceable(const bson_t *document, const tow_facts_t *facts);
void tow_write_delete(tow_write_t *write, tow_value_t id, void *tag);
void tow_write_insert(tow_write_t *write, const bson_t *document, void *tag);

/* Called for each writeErrors entry. */
typedef void (*tow_write_error_fn)(void *data, void *tag, const tow_write_error_t *error);
/* Sends and empties the message. False: the outcome is unknown, or the command as a whole failed.
 * Replacements, inserts and deletes are sent one by one when a duplicate key fails them as a whole;
 * inserts that are then found done are fine, unless the message is strict.
 * *out_matched: n of the reply (matched and upserted, deleted, inserted). */
bool tow_write_send(tow_write_t *write, tow_conn_t *conn, tow_write_error_fn each, void *data,
                    uint32_t *out_matched, tow_error_t *error) TOW_CHECK;
void tow_write_clear(tow_write_t *write); /* forgets what was not sent, frees all */

#endif
