/* SPDX-License-Identifier: Apache-2.0 */
/* versions.h: what differs between the servers' versions, in one table; the rest of the code asks
 * it.
 *
 * A row says from which version on, until which, and of which kind of server something holds. What
 * patch releases differ in, or an operator may switch off, is found out by asking the server
 * instead (facts.c, time.c). A row that is in doubt names the later version: what uses it has a way
 * without it. */
#ifndef TOW_LINK_VERSIONS_H
#define TOW_LINK_VERSIONS_H

#include "engine/link/link.h"

typedef enum {
    TOW_SUPPORTED, /* the version is one that this program works with */
    TOW_HELLO,     /* the command hello; isMaster before */
    TOW_TTL_MAX,   /* expireAfterSeconds may be 2147483647, and not just the seconds since 1970 */
    TOW_CAPPED_DELETES,      /* documents of a capped collection may be deleted */
    TOW_RECORD_PRE_IMAGES,   /* the option recordPreImages of create and collMod */
    TOW_PRE_AND_POST_IMAGES, /* the option changeStreamPreAndPostImages, which took its place */
    TOW_CREATE_TEMP,         /* the option temp of create, which listCollections shows */
    TOW_NESTED_DOLLAR,       /* names that begin with $ may stand below the top of a replacement */
    TOW_BYPASS_EMPTY_TS,     /* bypassEmptyTsReplacement may be known: worth asking */
    TOW_PREPARE_UNIQUE,  /* collMod with prepareUnique and unique, or a TTL, of an index without */
    TOW_EXPANDED_EVENTS, /* showExpandedEvents: create, createIndexes, dropIndexes and more */
    TOW_ABORT_BUILDS,    /* dropIndexes of all that one createIndexes builds ends it */
    TOW_COMMIT_QUORUM,   /* createIndexes takes commitQuorum */
    TOW_BLOCK_WRITES,    /* the command setUserWriteBlockMode */
    TOW_OPLOG_SEEKS,     /* a find in the oplog begins at its least ts without being told to */
    TOW_UNSEEN_OPS,      /* no change stream shows what applyOps writes outside of a transaction */
    TOW_ALWAYS_MAJORITY, /* majority reads cannot be switched off */
    TOW_FEATURES
} tow_feature_t;

bool tow_server_can(const tow_facts_t *facts, tow_feature_t feature);

#endif
