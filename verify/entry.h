/* SPDX-License-Identifier: Apache-2.0 */
/* entry.h: a range that was compared equal, as the document that a job or a file keeps of it:
 *   {_id: {ns, n}, uuid, mode, seed, min?, max?, documents, bytes, sum}   (min, max absent: open
 * end) */
#ifndef TOW_VERIFY_ENTRY_H
#define TOW_VERIFY_ENTRY_H

#include "verify/verify.h"

void tow_track_entry_to_bson(const tow_track_entry_t *entry, tow_verify_mode_t mode, uint64_t seed,
                             bson_t *out);
/* False: it is no such document. The entry is the caller's: tow_track_changes_add takes it. */
bool tow_track_entry_from_bson(const bson_t *document, tow_track_entry_t *out,
                               tow_verify_mode_t *out_mode, uint64_t *out_seed) TOW_CHECK;
/* Takes the entry into `added`. */
void tow_track_changes_add(tow_track_changes_t *changes, const tow_track_entry_t *entry);

#endif
