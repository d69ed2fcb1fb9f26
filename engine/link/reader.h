/* SPDX-License-Identifier: Apache-2.0 */
/* reader.h: reads documents of one collection in raw batches: a range, a list of keys, or all.
 *
 * A range read is bounded by the index and knows no type bracketing: find with hint, min and max,
 * or a plain filter between two bounds of one type. Nothing may rely on the order
 * of the documents. */
#ifndef TOW_LINK_READER_H
#define TOW_LINK_READER_H

#include "engine/link/link.h"

typedef struct tow_reader tow_reader_t;

/* The documents of one reply. */
typedef struct {
    bson_t reply;
    bson_iter_t iter;
    bool open;   /* more may come */
    bool broken; /* one of them is malformed, or has no _id */
} tow_batch_t;

typedef struct {
    const char *database, *collection;
    const bson_value_t *min;  /* _id, inclusive; NULL: open */
    const bson_value_t *max;  /* _id, exclusive; NULL: open */
    bool natural;             /* hint {$natural: 1}, no min/max: capped collections */
    bool newest_first;        /* with natural: hint {$natural: -1} */
    bool clustered;           /* hint by the cluster key {_id: 1} works alike; for information */
    const bson_t *filter;     /* NULL: all; e.g. {_id: {$in: […]}} */
    const bson_t *projection; /* NULL: whole documents */
    const bson_t *collation;  /* of the filter; NULL: the collection's */
    tow_optime_t after;       /* afterClusterTime; 0: none */
    int32_t batch_documents;  /* batchSize; 0: the server's choice (up to 16 MB a batch) */
    bool prefer_no_timeout;   /* noCursorTimeout */
    uint64_t kept_most; /* bytes of replies, where the caller keeps what it reads; 0: it does not */
} tow_read_t;

/* Servers say when a read ends. One that goes on for so many bytes that are kept, or so many
 * batches without a document in a row, is taken to have no end. */
enum { TOW_KEPT_BYTES_MOST = 512 << 20, TOW_EMPTY_BATCHES_MOST = 1000 };

/* Sends the find. NamespaceNotFound reads as empty. Without bounds a document that is deleted and
 * inserted again meanwhile may come twice. TOW_ERROR_SERVER: it does not end. A killed cursor or
 * lost connection is an error of class RECONNECT (read the range again). */
tow_reader_t *tow_reader_open(tow_conn_t *conn, const tow_read_t *what, tow_error_t *error);
/* Next document, which has an _id, borrowed until the next call of tow_reader_next_batch or close;
 * iterates within the current batch: false at its end. */
bool tow_reader_next(tow_reader_t *reader, bson_t *out);
/* Fetches the next batch (the first call after open needs none: the first batch is there).
 * *out_more false: the cursor is finished. */
bool tow_reader_next_batch(tow_reader_t *reader, bool *out_more, tow_error_t *error) TOW_CHECK;
/* Takes the current batch out of the reader, for another thread; next_batch goes on behind it. The
 * batch is the caller's to clear. */
void tow_reader_detach(tow_reader_t *reader, tow_batch_t *out);
/* As tow_reader_next. At the end of a detached batch `broken` must be looked at. */
bool tow_batch_next(tow_batch_t *batch, bson_t *out);
void tow_batch_clear(tow_batch_t *batch);
/* hi of the as-of interval: the operationTime of the last reply so far, or of one without documents
 * the newest time that it tells. */
tow_optime_t tow_reader_time(const tow_reader_t *reader);
uint32_t tow_reader_batch_bytes(const tow_reader_t *reader);
/* Kills the server's cursor if it is still open. Takes NULL. */
void tow_reader_close(tow_reader_t *reader);

#endif
