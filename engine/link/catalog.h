/* SPDX-License-Identifier: Apache-2.0 */
/* catalog.h: reads what collections and indexes a side has, as raw BSON so that nothing is lost. */
#ifndef TOW_LINK_CATALOG_H
#define TOW_LINK_CATALOG_H

#include "engine/base/names.h"
#include "engine/link/link.h"

/* TOW_UNKNOWN_KIND: of a type that this version does not know, which is copied as little as time
 * series. */
typedef enum { TOW_COLLECTION, TOW_VIEW, TOW_TIMESERIES, TOW_UNKNOWN_KIND } tow_collection_type_t;
static inline bool tow_kind_is_supported(tow_collection_type_t type)
{
    return type == TOW_COLLECTION || type == TOW_VIEW;
}

typedef struct {
    char *database, *name; /* owned */
    char *ns;              /* "database.name", owned */
    tow_collection_type_t type;
    bson_t options;   /* as listCollections gave them, uuid excluded */
    uint8_t uuid[16]; /* zero for views */
    bool capped, clustered;
    bool collated; /* default collation is not simple */
} tow_collection_info_t;

typedef struct {
    tow_collection_info_t *items;
    size_t count;
} tow_catalog_t;

/* All user databases but admin, local, config; no system.profile, system.views, system.buckets.*;
 * system.js is data. Sorted by ns. With `database` only that one. */
bool tow_catalog_read(tow_conn_t *conn, const char *database, tow_catalog_t *out,
                      tow_error_t *error) TOW_CHECK;
/* The collections of users in the server's own databases, which no job copies: in admin and, but
 * through a mongos, in local. What the user may not list is passed over. */
bool tow_catalog_strays(tow_conn_t *conn, tow_names_t *out, tow_error_t *error) TOW_CHECK;
/* Whether the change stream of a cluster has the events of a collection of that name: it has none
 * of `system.*` (db/pipeline/document_source_change_stream.h). What it does not have is to be read
 * again at the end. */
bool tow_collection_is_streamed(const char *name);
/* One collection; *out_found false when it does not exist. */
bool tow_catalog_find(tow_conn_t *conn, const char *database, const char *name,
                      tow_collection_info_t *out, bool *out_found, tow_error_t *error) TOW_CHECK;
/* Drops a collection; one that is not there counts as dropped. `system.js`, which servers do not
 * drop by its name, is renamed first, or at least emptied. */
bool tow_collection_drop(tow_conn_t *conn, const char *database, const char *name,
                         tow_error_t *error) TOW_CHECK;
void tow_collection_info_clear(tow_collection_info_t *info);
void tow_catalog_clear(tow_catalog_t *catalog);
void tow_catalog_leave_out(tow_catalog_t *catalog, const char *database);
const tow_collection_info_t *tow_catalog_get(const tow_catalog_t *catalog,
                                             const char *ns); /* NULL: not listed */

/* Raw index specifications without `ns` and without the _id index (on clustered collections:
 * without the clustered one), as far as the link shows them. A collection that does not exist has
 * none. */
typedef struct {
    bson_t *items; /* each owned */
    size_t count;
} tow_indexes_t;
bool tow_indexes_read(tow_conn_t *conn, const char *database, const char *collection,
                      tow_indexes_t *out, tow_error_t *error) TOW_CHECK;
void tow_indexes_clear(tow_indexes_t *indexes);
bool tow_index_is_shown(const tow_link_t *link, const bson_t *specification);
const char *tow_index_name(const bson_t *specification);                      /* "?": none */
const bson_t *tow_index_find(const tow_indexes_t *indexes, const char *name); /* NULL: none */

/* Counts and sizes; estimates. Zero for a collection that does not exist. */
typedef struct {
    uint64_t documents, bytes, average_bytes;
} tow_collection_stats_t;
bool tow_collection_stats(tow_conn_t *conn, const char *database, const char *collection,
                          tow_collection_stats_t *out, tow_error_t *error) TOW_CHECK;

/* Range bounds by sampling: about `wanted`-1 `_id` values in server order (tow_key_compare is in
 * state; order them with `compare`), distinct, so that ranges hold about bytes/wanted each. Cheap
 * on a billion documents: $sample of few (< 5% and > 100 documents), never skip() or a full scan;
 * for fewer than 1,000 documents reads the _ids instead. May return fewer. Values are owned by the
 * caller. */
bool tow_split_bounds(tow_conn_t *conn, const tow_collection_info_t *info, uint64_t documents,
                      uint32_t wanted, int (*compare)(const bson_value_t *, const bson_value_t *),
                      bson_value_t **out_bounds, uint32_t *out_count, tow_error_t *error) TOW_CHECK;

#endif
