/* SPDX-License-Identifier: Apache-2.0 */
/* record.h: how a dirty key or a DDL event stands in a block of keys, in memory and in the spool.
 *
 * A block begins with the position before it (8 bytes of cluster time, the token's BSON), so that a
 * gap between two frames of the spool is noticed at a restart. Then records follow one another:
 *
 *   bytes   meaning
 *   1       kind: 'i' insert, 'c' any other change of a key, 'e' a whole event (DDL),
 *           'r' a key to be refetched whatever was read before, 'a' and to be
 *           deleted and inserted then (both in memory only)
 *   1       BSON type of the _id; 0 for 'e'
 *   2, 2    lengths of database and collection name, without their terminating zero
 *   2       zero
 *   4       length of the _id's value, or of the event
 *   8       cluster time
 *   …       database, 0, collection, 0, value or event
 *
 * Numbers are in the machine's order: a spool is read on the machine that wrote it. */
#ifndef TOW_OPLOG_RECORD_H
#define TOW_OPLOG_RECORD_H

#include "engine/state/key.h"
#include "oplog/ledger.h"

typedef enum { /* as it is on disk */
               TOW_RECORD_INSERT = 'i',
               TOW_RECORD_CHANGE = 'c',
               TOW_RECORD_EVENT = 'e',
               TOW_RECORD_REFETCH = 'r',
               TOW_RECORD_ANEW = 'a'
} tow_record_kind_t;

typedef struct {
    tow_record_kind_t kind;
    const char *database, *collection; /* "" for 'e' */
    tow_value_t id;                    /* of a key; for 'e' its data is the event */
    tow_optime_t time;
} tow_record_t;

void tow_record_begin(tow_buffer_t *block, const bson_t *previous_token,
                      tow_optime_t previous_time);
/* Reads the position that a block begins with; false when it is malformed. *out_token borrows. */
bool tow_record_previous(const tow_buffer_t *block, bson_t *out_token, tow_optime_t *out_time);
void tow_record_append(tow_buffer_t *block, const tow_record_t *record);
/* Iterates: *position 0 at first. False at the end, or *out_broken. */
bool tow_record_next(const tow_buffer_t *block, size_t *position, tow_record_t *out,
                     bool *out_broken);

/* What a change event says has happened. */
typedef enum {
    TOW_OPERATION_OTHER, /* what this version does not know, and what concerns no namespace */
    TOW_OPERATION_INSERT,
    TOW_OPERATION_UPDATE,
    TOW_OPERATION_REPLACE,
    TOW_OPERATION_DELETE,
    TOW_OPERATION_DROP,
    TOW_OPERATION_DROP_DATABASE,
    TOW_OPERATION_RENAME,
    TOW_OPERATION_INVALIDATE,
    TOW_OPERATION_CREATE, /* this and what follows: from 6.0 on */
    TOW_OPERATION_CREATE_INDEXES,
    TOW_OPERATION_DROP_INDEXES,
    TOW_OPERATION_MODIFY
} tow_operation_t;
tow_operation_t tow_operation_of(const char *text);

/* The parts of a change event that routing needs; all borrowed from the event. */
typedef struct {
    tow_operation_t kind;
    const char *operation; /* the server's word for it */
    const char *database, *collection;
    tow_optime_t time;
    bool has_id;
    tow_value_t id;
    bool change;     /* insert, update, replace, delete */
    int64_t wall_ms; /* 0: none */
} tow_event_t;
void tow_event_parse(const bson_t *event, tow_event_t *out);

#endif
