/* SPDX-License-Identifier: Apache-2.0 */
/* versions.c: see versions.h.
 *
 * Sources: the servers' own code, as tag and file below src/mongo ("v5.0" is 5.0.0-rc4); what was
 * recorded from a real 4.4.6; the release notes. */
#include "engine/link/versions.h"

enum { ON_SET = 1, ON_MONGOS = 2, ON_STANDALONE = 4, ON_ALL = 7, ALWAYS = 0, NEVER = 1000000 };

#define VERSION(major, minor) ((major)*100 + (minor))

static const struct {
    int since, until; /* VERSION; until: the first that no longer can, ALWAYS: there is none */
    unsigned kinds;
} table[TOW_FEATURES] = {
    /* Resume tokens of idle streams, and retryable writes as they are used here: 4.2. */
    [TOW_SUPPORTED] = {VERSION(4, 2), ALWAYS, ON_ALL},
    /* 5.0 db/repl/replication_info.cpp; patch releases of 4.2 and 4.4 have it too. */
    [TOW_HELLO] = {VERSION(5, 0), ALWAYS, ON_ALL},
    /* Refused: 4.2 and 4.4 db/commands/create_indexes.cpp, v5.0 db/catalog/index_key_validate.cpp
     * (also by collMod). SERVER-68477 allowed it from patch releases of 5.0 and 6.0 on. */
    [TOW_TTL_MAX] = {VERSION(7, 0), ALWAYS, ON_ALL},
    /* 4.4 db/catalog/collection_impl.cpp: IllegalOperation (20); release notes of 5.0. */
    [TOW_CAPPED_DELETES] = {VERSION(5, 0), ALWAYS, ON_ALL},
    /* 4.4 db/catalog/collection_options.cpp; refused (72) by shards and mongos: recorded. An
     * unknown field from 6.0 on: db/commands/create.idl. */
    [TOW_RECORD_PRE_IMAGES] = {VERSION(4, 4), VERSION(6, 0), ON_SET},
    /* Release notes of 6.0, change streams. */
    [TOW_PRE_AND_POST_IMAGES] = {VERSION(6, 0), ALWAYS, ON_SET | ON_MONGOS},
    /* 4.4 db/commands/dbcommands.cpp: "the 'temp' field is an invalid option" (72). */
    [TOW_CREATE_TEMP] = {NEVER, ALWAYS, ON_ALL},
    /* psmdb-4.2.9-9 db/query/get_executor.cpp: with oplogReplay alone; 4.4
       db/query/planner_access.cpp. */
    [TOW_OPLOG_SEEKS] = {VERSION(4, 4), ALWAYS, ON_ALL},
    /* 4.4 db/pipeline/document_source_change_stream.cpp, 5.0
     * document_source_change_stream_oplog_match.cpp: only entries with an lsid; seen on a real 4.4.
     * A mongos has neither the command nor an oplog. */
    [TOW_UNSEEN_OPS] = {ALWAYS, VERSION(6, 0), ON_SET},
    /* 4.4: DollarPrefixedFieldName (52), by update and replacement, not by insert: recorded.
     * Release notes of 5.0, "field names with $". */
    [TOW_NESTED_DOLLAR] = {VERSION(5, 0), ALWAYS, ON_ALL},
    /* 8.0, and late patch releases of 5.0 to 7.0. */
    [TOW_BYPASS_EMPTY_TS] = {VERSION(5, 0), ALWAYS, ON_SET | ON_MONGOS},
    /* Release notes of 6.0, collMod. */
    [TOW_PREPARE_UNIQUE] = {VERSION(6, 0), ALWAYS, ON_ALL},
    /* Release notes of 6.0; refused (40415) by 4.4: recorded. */
    [TOW_EXPANDED_EVENTS] = {VERSION(6, 0), ALWAYS, ON_SET | ON_MONGOS},
    /* 4.4: IndexBuildAborted (276): recorded; 4.2 answers 12587 until the end. */
    [TOW_ABORT_BUILDS] = {VERSION(4, 4), ALWAYS, ON_ALL},
    /* 4.4 db/commands/create_indexes.cpp; refused there (2) by a standalone, below feature
     * version 4.4, and without enableIndexBuildCommitQuorum. */
    [TOW_COMMIT_QUORUM] = {VERSION(4, 4), ALWAYS, ON_SET | ON_MONGOS},
    /* Release notes of 6.0. */
    [TOW_BLOCK_WRITES] = {VERSION(6, 0), ALWAYS, ON_SET | ON_MONGOS},
    /* 4.4 db/repl/replication_coordinator_impl.cpp (enableMajorityReadConcern); release notes
       of 5.0. */
    [TOW_ALWAYS_MAJORITY] = {VERSION(5, 0), ALWAYS, ON_ALL},
};

bool tow_server_can(const tow_facts_t *facts, tow_feature_t feature)
{
    int version = VERSION(facts->major, facts->minor);
    unsigned kind = facts->sharded ? ON_MONGOS : facts->standalone ? ON_STANDALONE : ON_SET;

    return (table[feature].kinds & kind) && version >= table[feature].since &&
           (table[feature].until == ALWAYS || version < table[feature].until);
}
