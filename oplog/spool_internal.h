/* SPDX-License-Identifier: Apache-2.0 */
/* spool_internal.h: for the tests: a spool whose segments are small. */
#ifndef TOW_OPLOG_SPOOL_INTERNAL_H
#define TOW_OPLOG_SPOOL_INTERNAL_H

#include "oplog/spool.h"

tow_spool_t *tow_spool_open_sized(const char *directory, const char *job, const char *id,
                                  uint64_t segment_bytes, tow_error_t *error);

#endif
