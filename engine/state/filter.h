/* SPDX-License-Identifier: Apache-2.0 */
/* filter.h: which namespaces a job takes: include and exclude lists of `db`, `db.*` or `db.coll`.
 *
 * In the place of a name a regular expression may stand between slashes (PCRE, not anchored), with
 * the options i, m, s, x behind it: `/^shop_/i`, `shop./^orders/`, `/^shop_/./^orders/`. */
#ifndef TOW_STATE_FILTER_H
#define TOW_STATE_FILTER_H

#include <bson/bson.h>

#include "engine/base/error.h"

typedef struct tow_filter tow_filter_t;

tow_filter_t *tow_filter_new(void); /* takes everything but internal namespaces */
/* The one database that is the job's own, before any pattern: any other of that prefix is
 * somebody's data. */
void tow_filter_set_own(tow_filter_t *filter, const char *database);
bool tow_filter_is_own(const tow_filter_t *filter, const char *database);
void tow_filter_destroy(tow_filter_t *filter);
/* TOW_ERROR_OPTION: empty, "$" or NUL in the name, or an internal database. */
bool tow_filter_include(tow_filter_t *filter, const char *pattern, tow_error_t *error);
bool tow_filter_exclude(tow_filter_t *filter, const char *pattern, tow_error_t *error);
/* Never admin, local, config, system.profile, system.views, system.buckets.*, the job's own
 * database; excluded wins over included; with no include everything else is taken. system.js is
 * data. */
bool tow_filter_takes(const tow_filter_t *filter, const char *database, const char *collection);
bool tow_filter_takes_database(const tow_filter_t *filter,
                               const char *database); /* at least in part */
/* Appends the change-stream $match stage to pipeline field `key`: internal and filtered namespaces
 * out, renames kept when either name is taken, dropDatabase kept for databases taken. */
void tow_filter_match(const tow_filter_t *filter, bson_t *pipeline, const char *key);
/* The patterns of --include in the order of their text; NULL behind the last. Borrowed. */
const char *tow_filter_included(const tow_filter_t *filter, size_t index);
/* Stable text of both lists, to compare at a restart. Owned by the caller. */
char *tow_filter_text(const tow_filter_t *filter);

#endif
