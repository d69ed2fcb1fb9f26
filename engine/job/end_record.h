/* SPDX-License-Identifier: Apache-2.0 */
/* end_record.h: what a record of a good end says (done.c), as a file or the job's state keeps it:
 * read with care, since it decides that nothing is to be done. */
#ifndef TOW_JOB_END_RECORD_H
#define TOW_JOB_END_RECORD_H

#include "engine/link/catalog.h"

/* Of the file's line; NULL: it is no record. */
bson_t *tow_end_record_parse(const char *line);
/* A field's text; "" where it has none. */
const char *tow_end_record_text(const bson_t *record, const char *name);
/* How many collections it lists, and how many of them the destination has by name, and by name and
 * uuid. */
void tow_end_record_count(const bson_t *record, const tow_catalog_t *there, uint32_t *out_listed,
                          uint32_t *out_named, uint32_t *out_held);
/* Its summary as that of this process, which says whose it is. Owned by the caller. */
char *tow_end_record_summary(const bson_t *record);
/* Whether it is, for certain, of another deployment than this: `name` is "deployment", the
 * destination's, or "sourceDeployment". A record of before has no source. */
bool tow_end_record_is_other(const bson_t *record, const char *name, const char *identity);

#endif
