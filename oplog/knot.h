/* SPDX-License-Identifier: Apache-2.0 */
/* knot.h: documents that a unique index does not let in one by one, while they are untangled
 * together. */
#ifndef TOW_OPLOG_KNOT_H
#define TOW_OPLOG_KNOT_H

#include "engine/link/catalog.h"
#include "oplog/replay_internal.h"

typedef struct {
    UT_hash_handle hh;
    bson_t id;        /* {_id: …} */
    bson_t *document; /* as the source has it, while it is written; NULL: gone */
    unsigned round;   /* in which it is deleted and inserted next, or was last */
    bool written, refused, reopened;
    tow_optime_t lo, hi;
    tow_buffer_t identity; /* canonical _id */
} tow_member_t;

typedef struct {
    tow_lane_t *lane;
    tow_namespace_t *collection;
    tow_block_t *block; /* of a key that is dirty: holds the floor for all of them */
    tow_member_t *members;
    tow_indexes_t indexes; /* of the destination, once they were needed */
    bool has_indexes;
    unsigned round;
    bool grew; /* a document in the way was added in this round */
    bool all;  /* every dirty key of the collection is in it */
    uint32_t errors;
    char message[600];   /* of the last refusal, with both documents */
    tow_error_t failure; /* while handling a refusal */
    bool failed;
    bson_t pattern; /* the key of the index that refused last, if has_pattern */
    bool has_pattern;
    bool id_refused; /* an _id that no document there holds */
    char *suspect;   /* the index that refused a value which no document holds, and is plain … */
    bson_t suspect_filter; /* … and how that was looked for */
} tow_knot_t;

static inline tow_value_t tow_member_id(const tow_member_t *member)
{
    tow_value_t id = {0};

    tow_value_id(&member->id, &id);
    return id;
}

/* knot.c */
/* For the next round. One that is in it already, and was written, may be in the way of what was
 * read before it or after: that one is written again, once. */
void tow_knot_add(tow_knot_t *knot, tow_value_t id);
void tow_knot_add_all(tow_knot_t *knot); /* every dirty key of the collection */
/* Finds the documents of the destination that hold what it refused of the member, and adds them.
 * Where the server does not tell which index it was, all unique ones are asked. Failures are the
 * knot's. */
void tow_knot_add_holders(tow_knot_t *knot, const tow_member_t *member,
                          const tow_write_error_t *refusal);
/* Adds what the destination has for a filter; `scan`: by a look at every document; *out_held:
 * anything. */
bool tow_knot_add_found(tow_knot_t *knot, const bson_t *filter, const bson_t *collation, bool scan,
                        bool *out_held);
/* Whether the source has now, on the same collection, every index that may have refused what is
 * refused. */
bool tow_knot_is_final(tow_knot_t *knot, bool *out, tow_error_t *error);
void tow_knot_forget_pattern(tow_knot_t *knot);
void tow_knot_forget_suspect(tow_knot_t *knot);

/* rewrite.c */
/* One round: every member that is due is deleted and inserted as the source has it. */
bool tow_knot_rewrite(tow_knot_t *knot, tow_error_t *error);
/* The dirty key of a member, NULL: none, and the lane that has it. */
tow_dirty_key_t *tow_member_key(const tow_knot_t *knot, const tow_member_t *member,
                                tow_lane_t **out_lane);
void tow_member_release(tow_member_t *member); /* its document */

#endif
