/* SPDX-License-Identifier: Apache-2.0 */
/* track.h: which ranges were compared equal, and what was written in them since.
 *
 * It is what lies between two comparisons of one job: the next one reads only ranges that were
 * never equal, or in which much was written, and the single keys that were written elsewhere. For
 * each range it keeps the bounds, the digest and a few touched keys; beyond KEYS_MOST of them, or
 * when all keys together fill their memory, the range counts as never compared. So memory grows
 * with ranges.
 *
 * What makes it right: whoever writes is heard. Events of the source's stream and of the
 * destination's are told by tow_track_touch. An event told before a range's comparison begins is
 * seen by its reads (it was committed with a majority before it was delivered), one told later
 * leaves its mark.
 *
 * Threads: all functions may be called from any thread; one lock, which no other is taken under. */
#ifndef TOW_VERIFY_TRACK_H
#define TOW_VERIFY_TRACK_H

#include "engine/state/key.h"
#include "verify/digest.h"

enum {
    TOW_TRACK_KEYS_MOST = 512,             /* of one range */
    TOW_TRACK_KEY_BYTES = 16 * 1024 * 1024 /* of all ranges together */
};

typedef struct tow_track tow_track_t;

tow_track_t *tow_track_new(void);
void tow_track_destroy(tow_track_t *track); /* takes NULL */
/* Random, the same for all comparisons of the track, so that their digests add up. */
uint64_t tow_track_seed(const tow_track_t *track);

typedef enum { TOW_TRACK_SOURCE = 's', TOW_TRACK_DESTINATION = 'd' } tow_track_side_t;

/* A document was written on that side. Unknown collections are ignored: they are still
 * to be read. */
void tow_track_touch(tow_track_t *track, const char *database, const char *collection,
                     tow_value_t id, tow_track_side_t side);
/* Nothing of a collection counts as compared any more; with "" of all those of the database. */
void tow_track_gone(tow_track_t *track, const char *database, const char *collection);
/* Nothing at all counts as compared any more. */
void tow_track_reset(tow_track_t *track);

/* Whether the ranges of the collection of that identity are known; forgets those of another
 * identity under its name. */
bool tow_track_knows(tow_track_t *track, const char *ns, const uint8_t uuid[16]);
/* Forgets the collections that neither tow_track_knows nor tow_track_set was called for since the
 * last time: they are gone. */
void tow_track_sweep(tow_track_t *track);
/* Gives a collection its ranges: `count` ascending bounds make count + 1 ranges (the bounds are
 * copied). `ordered` false: the order of _id is not shared, there is one range, and single keys are
 * not kept. */
void tow_track_set(tow_track_t *track, const char *ns, const uint8_t uuid[16],
                   const bson_value_t *bounds, uint32_t count, bool ordered);
uint32_t tow_track_count(tow_track_t *track, const char *ns); /* of ranges */
/* The bounds of a range, copied (bson_value_destroy); BSON_TYPE_EOD: open. */
void tow_track_bounds(tow_track_t *track, const char *ns, uint32_t range, bson_value_t *out_min,
                      bson_value_t *out_max);

typedef enum {
    TOW_TRACK_EQUAL, /* compared, and nothing was written since */
    TOW_TRACK_KEYS,  /* compared, and a few keys were written since */
    TOW_TRACK_OPEN   /* to be compared as a whole */
} tow_track_state_t;
/* *out_digest: of the range when it was last read whole; nothing for TOW_TRACK_OPEN. */
tow_track_state_t tow_track_state(tow_track_t *track, const char *ns, uint32_t range,
                                  tow_digest_t *out_digest);
/* The range is about to be read whole: what was told before is forgotten. */
void tow_track_begin(tow_track_t *track, const char *ns, uint32_t range);
/* It was read, and both sides hold `digest`. What was told since tow_track_begin stays. */
void tow_track_equal(tow_track_t *track, const char *ns, uint32_t range,
                     const tow_digest_t *digest);
/* The touched keys of a range, which are forgotten: {"s0": _id, "d1": _id, …}, owned by the caller.
 * A key that was written on both sides stands there twice. */
void tow_track_take_keys(tow_track_t *track, const char *ns, uint32_t range, bson_t *out);
/* They could not be settled: the range is to be compared as a whole. */
void tow_track_open(tow_track_t *track, const char *ns, uint32_t range);

/* What is to be stored so that a restart need not compare it again. A range is stored while it is
 * equal and nothing was written in it, and is taken back before a position is stored that lies
 * behind a write. */
typedef struct {
    char *ns; /* owned */
    uint8_t uuid[16];
    uint32_t range;
    bson_value_t min, max; /* owned; BSON_TYPE_EOD: open */
    tow_digest_t digest;
} tow_track_entry_t;
typedef struct {
    bool all; /* everything that is stored is to be removed first */
    tow_track_entry_t *removed, *added;
    uint32_t removed_count, added_count;
} tow_track_changes_t;
/* Since the last time; they count as stored. */
void tow_track_changes(tow_track_t *track, tow_track_changes_t *out);
void tow_track_changes_clear(tow_track_changes_t *changes);
/* They could not be stored: the next changes begin with removing all. */
void tow_track_unsaved(tow_track_t *track);
/* Begins with what an earlier process stored, from the same seed. Ranges that overlap are left out,
 * and gaps become ranges that are to be compared. The entries stay the caller's. */
void tow_track_restore(tow_track_t *track, uint64_t seed, tow_track_entry_t *entries,
                       uint32_t count);

typedef struct {
    uint64_t ranges, open, keys; /* open: to be compared as a whole; keys: touched in the others */
    size_t bytes;                /* of memory, about */
} tow_track_totals_t;
void tow_track_totals(tow_track_t *track, tow_track_totals_t *out);

#endif
