/* SPDX-License-Identifier: Apache-2.0 */
/* capped.h: what the files of the capped collections share: one log that is being continued. */
#ifndef TOW_OPLOG_CAPPED_H
#define TOW_OPLOG_CAPPED_H

#include "engine/link/reader.h"
#include "engine/link/versions.h"
#include "oplog/replay_internal.h"

enum { TOW_LOG_TAIL_MOST = 100 }; /* documents of the destination, compared after any doubt */

/* What is known of the destination's log, by the collection's id. */
struct tow_log {
    UT_hash_handle hh;
    uint32_t collection_id;
    bool known; /* nothing is in doubt: this process wrote its newest document, or looked it up */
    uint64_t newest; /* the hash of its _id */
    bool has_heads;  /* the destination may have older documents than the source, and its cap keep
                        them */
    uint64_t document_bytes; /* of those that were added last, on average */
};

typedef struct {
    tow_lane_t *lane;
    tow_namespace_t *collection;
    tow_dirty_key_t **keys;
    uint32_t key_count;
    struct tow_log *log;
    tow_buffer_t ids; /* raw, of the source, newest first … */
    struct {
        size_t at;
        uint32_t length;
        uint8_t type;
    } * entries;
    uint64_t *hashes; /* … and the hash of each */
    size_t count, capacity;
    bool whole;
    uint64_t tail[TOW_LOG_TAIL_MOST]; /* of the destination */
    size_t tail_count;
    bool tail_whole;
    size_t fresh;  /* so many of the source's are new */
    bool stranger; /* an answer has a document that was not asked for */
    bool apart;    /* to be copied again, since: */
    const char *reason;
    tow_optime_t lo, hi;
} tow_continuing_t;

static inline const tow_replay_options_t *tow_log_options(const tow_continuing_t *log)
{
    return &log->lane->replay->options;
}

static inline bool tow_log_may_delete(const tow_link_t *link)
{
    return tow_server_can(tow_link_facts(link), TOW_CAPPED_DELETES);
}

/* `reason`: a constant text. */
static inline void tow_log_give_up(tow_continuing_t *log, const char *reason)
{
    if (!log->apart)
        log->reason = reason;
    log->apart = true;
}

static inline tow_value_t tow_log_id(const tow_continuing_t *log, size_t i)
{
    return (tow_value_t){log->entries[i].type, log->entries[i].length,
                         log->ids.data + log->entries[i].at};
}

/* capped.c */
/* Notes one that a read by _id has not asked for: such an answer is damaged, and says nothing about
 * those that it lacks. */
static inline void tow_log_note_stranger(tow_continuing_t *log, tow_value_t id)
{
    log->stranger = log->stranger || !tow_is_taken_too(id, log->collection->collated);
}

/* A document of a read; false ends the read. */
typedef bool (*tow_log_each_fn)(tow_continuing_t *log, const bson_t *document, void *data);
/* Reads a side until `each` has enough; *out_end: that side has no more. */
bool tow_log_read(tow_continuing_t *log, tow_conn_t *conn, tow_read_t *what, tow_log_each_fn each,
                  void *data, bool *out_end, tow_error_t *error) TOW_CHECK;
/* Sends to the destination; a refusal sets log->apart. */
bool tow_log_send(tow_continuing_t *log, tow_write_t *write, tow_error_t *error) TOW_CHECK;
void tow_log_id_only(bson_t *out); /* a projection */

/* capped_add.c: adds the new documents in their order, and has what they push out go. */
bool tow_log_add(tow_continuing_t *log, tow_error_t *error) TOW_CHECK;

/* capped_heads.c */
/* Calls `each` for the destination's documents, from its oldest on, until the source's oldest,
 * which is read before; *out_met: it came to that. */
bool tow_log_each_head(tow_continuing_t *log, tow_log_each_fn each, void *data, bool *out_met,
                       tow_error_t *error) TOW_CHECK;
/* Documents that are older than the source's oldest go. */
bool tow_log_drop_heads(tow_continuing_t *log, tow_error_t *error) TOW_CHECK;

/* capped_older.c: documents of the keys that were not added: updated in place, or deleted. */
bool tow_log_write_older(tow_continuing_t *log, tow_error_t *error) TOW_CHECK;

#endif
