/* write.h: collects write statements of one collection and sends them as one raw command.
 *
 * Statements keep their order. Each carries a tag by which an error finds its way back. */
#ifndef TOW_STATE_WRITE_H
#define TOW_STATE_WRITE_H

#include "engine/link/link.h"
#include "engine/state/key.h"
#include "engine/state/namespaces.h"

typedef enum { TOW_WRITE_UPDATE, TOW_WRITE_DELETE, TOW_WRITE_INSERT } tow_write_kind_t;

typedef struct {
    tow_write_kind_t kind;
    const tow_namespace_t *collection;
    bson_t command, list;      /* `list` is open inside `command` while open */
    bool open;
    bool strict;               /* inserts: a document that is there already is none of ours */
    uint32_t count;
    void **tags;
    uint32_t tag_capacity;
} tow_write_t;

enum { TOW_WRITE_BYTES = 12 * 1024 * 1024, TOW_WRITE_MOST = 5000 };

/* {0} is empty. Begins a message for a collection; the one before was sent or dropped. */
void tow_write_begin(tow_write_t *write, tow_write_kind_t kind, const tow_namespace_t *collection);
/* Room for a statement of so many bytes: false means send first. An empty message always has room. */
bool tow_write_fits(const tow_write_t *write, size_t bytes);
void tow_write_replace(tow_write_t *write, tow_value_t id, const bson_t *document, void *tag);
/* Replaces a document that is there by a pipeline: exact also where names hold dots and dollars, and
 * with the empty timestamps that a server otherwise fills in. */
void tow_write_literal(tow_write_t *write, tow_value_t id, const bson_t *document, void *tag);
bool tow_has_empty_timestamp(const bson_t *document); /* at its top level, _id left out */
/* Whether an update writes the document exactly as it stands: not when a field begins with a dollar,
 * which a server takes for an operator, nor with an empty Timestamp, which servers fill in (one that
 * knows bypassEmptyTsReplacement may still do so in updates). */
bool tow_is_updatable(const bson_t *document);
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
