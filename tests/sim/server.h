/* SPDX-License-Identifier: Apache-2.0 */
/* server.h: a deployment in memory: collections with every version of every document, sessions, an
 * oplog with its change stream, cursors. It answers as unfavourably as a real one may: a read is of
 * any time that its concern allows, and promises no more than it must.
 *
 * Everything runs in one thread, and each command at once. */
#ifndef TOW_SIM_SERVER_H
#define TOW_SIM_SERVER_H

#include "engine/link/link.h"
#include "engine/state/key.h"

enum { SIM_STATEMENTS = 1024, SIM_INDEXES = 8, SIM_COLLECTIONS = 64, SIM_NAME = 128 };

typedef struct {
    tow_optime_t time;
    bson_t *document; /* NULL: deleted */
} sim_version_t;

typedef struct {
    bson_t *id; /* {_id: …} */
    sim_version_t *versions;
    uint32_t count;
} sim_entry_t;

typedef struct {
    bool there;
    char ns[SIM_NAME], database[SIM_NAME], name[SIM_NAME];
    uint8_t uuid[16];
    bson_t options;
    sim_entry_t *entries; /* by _id */
    uint32_t count, capacity;
    bson_t *indexes[SIM_INDEXES];
    uint32_t index_count;
} sim_collection_t;

/* One event of the change stream. */
typedef struct {
    tow_optime_t time;
    uint32_t number; /* of those of one time */
    bson_t *event;
} sim_event_t;

typedef struct {
    bson_t *lsid, *reply;
    int64_t number;
    bool done[SIM_STATEMENTS]; /* they are not done again when it is sent again */
    bool cut;                  /* and some were not reached */
} sim_session_t;

/* Of a find: documents that are left. Of a stream: a position. */
typedef struct {
    int64_t number;
    bool open, stream, whole; /* whole: with documents */
    char ns[SIM_NAME];
    bson_t *left; /* their _ids */
    tow_optime_t snapshot;
    uint32_t position;   /* in the oplog */
    tow_optime_t passed; /* of the last token */
    bool at_event;
} sim_cursor_t;

typedef struct {
    const char *side, *version;
    tow_optime_t now, committed;
    uint32_t number; /* of the last event of this time */
    bool in_transaction;
    sim_collection_t collections[SIM_COLLECTIONS];
    uint32_t collection_count;
    sim_event_t *oplog;
    uint32_t oplog_count;
    sim_session_t *sessions;
    uint32_t session_count;
    sim_cursor_t *cursors;
    uint32_t cursor_count;
    uint64_t writes, commands;
} sim_server_t;

void sim_server_begin(sim_server_t *server, const char *side, const char *version);
/* Time goes on without writes. */
void sim_server_tick(sim_server_t *server);

sim_collection_t *sim_find_collection(sim_server_t *server, const char *ns);
sim_collection_t *sim_make_collection(sim_server_t *server, const char *ns, const bson_t *options);
void sim_drop_collection(sim_server_t *server, sim_collection_t *collection);
void sim_rename_collection(sim_server_t *server, sim_collection_t *collection, const char *to);
sim_entry_t *sim_find_entry(const sim_collection_t *collection, tow_value_t id,
                            uint32_t *out_place);
/* As of a time; 0: now. NULL: none. */
const bson_t *sim_document_at(const sim_entry_t *entry, tow_optime_t time);
const bson_t *sim_get(const sim_collection_t *collection, tow_value_t id, tow_optime_t time);
/* A write that is allowed, and its event; `operation`: "insert", "update", "replace", "delete". */
void sim_put(sim_server_t *server, sim_collection_t *collection, const char *operation,
             tow_value_t id, const bson_t *document);
/* The name of the unique index that refuses the document, or NULL. */
const bson_t *sim_refusal(const sim_collection_t *collection, const bson_t *document);
/* The event of a drop, rename or creation: {operationType, ns, to}. */
void sim_tell(sim_server_t *server, const char *operation, const char *ns, const char *to);
/* createIndexes or dropIndexes. */
void sim_tell_index(sim_server_t *server, const char *operation, const char *ns,
                    const bson_t *index);
/* Writes between the two have one time. */
void sim_transaction(sim_server_t *server, bool begins);

/* Executes a command; `most` statements of a write, then it is cut off. False: *error is filled,
 * and *reply as a server would. */
bool sim_execute(sim_server_t *server, const char *database, const bson_t *command,
                 const bson_t *lsid, uint32_t most, bson_t *reply, bson_error_t *error);
bool sim_is_write(const bson_t *command);
/* A getMore of a stream that has nothing to give waits. */
bool sim_would_wait(sim_server_t *server, const bson_t *command, int64_t *out_wait_us);
bool sim_refuse(bson_t *reply, bson_error_t *error, int code, const char *message);

/* read.c */
void sim_find(sim_server_t *server, const char *database, const bson_t *command, bson_t *reply);
bool sim_get_more(sim_server_t *server, const bson_t *command, bson_t *reply, bson_error_t *error);
void sim_kill_cursors(sim_server_t *server, const bson_t *command, bson_t *reply);
/* stream.c */
void sim_stream_open(sim_server_t *server, const bson_t *command, bson_t *reply);
void sim_stream_more(sim_server_t *server, sim_cursor_t *cursor, bson_t *reply);
bool sim_stream_has(const sim_server_t *server, const sim_cursor_t *cursor);
/* write.c: at most `most` of the statements that are not done; notes which are. True: all were
 * reached. */
bool sim_write(sim_server_t *server, const char *database, const bson_t *command, bool *done,
               uint32_t most, bson_t *reply);
/* catalog.c */
bool sim_catalog(sim_server_t *server, const char *database, const bson_t *command, bson_t *reply,
                 bson_error_t *error, bool *out_known);

tow_optime_t sim_commit(sim_server_t *server, tow_optime_t least);
sim_cursor_t *sim_new_cursor(sim_server_t *server);
void sim_append_time(sim_server_t *server, bson_t *reply, tow_optime_t time);
void sim_append_index(bson_t *list, uint32_t number, const bson_t *document);
const char *sim_text(const bson_t *document, const char *field);
int64_t sim_number(const bson_t *document, const char *field, int64_t other);

#endif
