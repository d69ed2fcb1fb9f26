/* SPDX-License-Identifier: Apache-2.0 */
/* ddl_internal.h: what drops, renames and the other DDL events share. */
#ifndef TOW_OPLOG_DDL_INTERNAL_H
#define TOW_OPLOG_DDL_INTERNAL_H

#include "oplog/replay_internal.h"

/* One event. */
typedef struct {
    tow_replay_t *replay;
    const bson_t *event;
    tow_event_t parsed;
    tow_block_t *block;
    tow_optime_t time;
    bson_t token;     /* borrowed from the event; empty: it has none */
    bool done_before; /* by an earlier process */
} ddl_t;

static inline bool tow_ddl_takes(const ddl_t *ddl, const char *database, const char *name)
{
    return *name && tow_filter_takes(ddl->replay->options.filter, database, name);
}

static inline tow_namespace_t *tow_ddl_find(const ddl_t *ddl, const char *database,
                                            const char *name)
{
    return tow_namespaces_find(ddl->replay->options.namespaces, database, name);
}

static inline tow_gate_t tow_ddl_gate(const ddl_t *ddl, tow_namespace_t *collection)
{
    return tow_namespaces_gate_ddl(ddl->replay->options.namespaces, collection, ddl->time);
}

/* ddl.c: the new name that a rename event says; false: it does not. */
bool tow_ddl_target(const ddl_t *ddl, const char **out_database, const char **out_name);

/* ddl_drop.c */
/* Forgets the dirty keys of a collection in every lane. */
void tow_ddl_discard_keys(ddl_t *ddl, const tow_namespace_t *collection);
/* The uuid of what has that name on a side now; *out_found false: no collection has. */
bool tow_ddl_read_uuid(tow_conn_t *conn, const char *database, const char *name, uint8_t out[16],
                       bool *out_found, tow_error_t *error) TOW_CHECK;
bool tow_ddl_has_uuid(const tow_namespace_t *collection, const uint8_t uuid[16]);
bool tow_ddl_drop_on_destination(ddl_t *ddl, const char *database, const char *name,
                                 tow_error_t *error) TOW_CHECK;
bool tow_ddl_copy_again(ddl_t *ddl, const char *database, const char *name,
                        tow_error_t *error) TOW_CHECK;
/* The collection as we know it ends here. */
bool tow_ddl_drop(ddl_t *ddl, const char *database, const char *name, tow_error_t *error) TOW_CHECK;
bool tow_ddl_drop_database(ddl_t *ddl, tow_error_t *error) TOW_CHECK;

/* ddl_rename.c */
bool tow_ddl_rename(ddl_t *ddl, tow_error_t *error) TOW_CHECK;

#endif
