/* SPDX-License-Identifier: Apache-2.0 */
/* saved.c: any bytes as what a comparison keeps of its ranges, in a file (--state) or with the job.
 * What is taken comes back the same, and a comparison can go on from it. */
#include "tests/fuzz/fuzz.h"
#include "verify/entry.h"
#include "verify/track.h"

static void expect_same(const tow_track_entry_t *entry, tow_verify_mode_t mode, uint64_t seed)
{
    tow_track_changes_t scratch = {0};
    tow_verify_mode_t other_mode;
    tow_track_entry_t other;
    uint64_t other_seed;
    bson_t once, again;

    tow_track_entry_to_bson(entry, mode, seed, &once);
    HOLDS(tow_track_entry_from_bson(&once, &other, &other_mode, &other_seed));
    HOLDS(other_mode == mode && other_seed == seed);
    tow_track_entry_to_bson(&other, other_mode, other_seed, &again);
    HOLDS(bson_equal(&once, &again));
    tow_track_changes_add(&scratch, &other);
    tow_track_changes_clear(&scratch);
    bson_destroy(&once);
    bson_destroy(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bson_reader_t *reader = bson_reader_new_from_data(data, size);
    tow_track_changes_t list = {0};
    tow_track_t *track = tow_track_new();
    const bson_t *document;
    tow_verify_mode_t mode;
    tow_track_entry_t entry;
    uint64_t seed;
    bool at_end;

    while ((document = bson_reader_read(reader, &at_end)) &&
           tow_track_entry_from_bson(document, &entry, &mode, &seed)) {
        expect_same(&entry, mode, seed);
        tow_track_changes_add(&list, &entry);
    }
    tow_track_restore(track, 1, list.added, list.added_count);
    for (uint32_t i = 0; i < list.added_count; i++)
        tow_track_gone(track, list.added[i].ns, "");
    tow_track_changes_clear(&list);
    tow_track_destroy(track);
    bson_reader_destroy(reader);
    return 0;
}
