/* SPDX-License-Identifier: Apache-2.0 */
/* track_internal.h: what a track is made of, for the two files that work on it. */
#ifndef TOW_VERIFY_TRACK_INTERNAL_H
#define TOW_VERIFY_TRACK_INTERNAL_H

#include <pthread.h>

#include "engine/base/guarded.h"
#include "engine/base/hash.h"
#include "verify/track.h"

typedef struct {
    bson_value_t min; /* BSON_TYPE_EOD: open, as only the first one is */
    tow_digest_t digest;
    bson_t *keys; /* touched: {"0": _id, …}; NULL: none */
    uint16_t key_count;
    bool reading;  /* between begin and equal: keys are kept */
    bool equal;    /* compared equal; otherwise open */
    bool overflow; /* too many keys since begin */
    bool saved;    /* stored as equal */
} tow_track_range_t;

typedef struct {
    UT_hash_handle hh; /* by ns */
    char *ns;
    uint8_t uuid[16];
    bool ordered, seen;
    tow_track_range_t *ranges;
    uint32_t count;
} tow_track_collection_t;

TOW_GUARD(tow_track);
struct tow_track {
    uint64_t seed;
    pthread_mutex_t lock; /* guards what follows */
    tow_track_collection_t *collections TOW_GUARDED_BY(tow_track);
    size_t key_bytes TOW_GUARDED_BY(tow_track);
    bool purge
        TOW_GUARDED_BY(tow_track); /* what is stored is not what `saved` says: remove all of it */
};
TOW_LOCK(tow_track, tow_track_t, lock)

#endif
