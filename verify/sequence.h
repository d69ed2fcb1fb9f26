/* SPDX-License-Identifier: Apache-2.0 */
/* sequence.h: the order of the documents of a capped collection on one side, in little memory.
 *
 * Each document's hash is chained to the one before, so that the last value stands for all of them
 * in their order. Some values on the way are kept, which tell about where two sequences part. */
#ifndef TOW_VERIFY_SEQUENCE_H
#define TOW_VERIFY_SEQUENCE_H

#include "verify/digest.h"

enum { TOW_SEQUENCE_MARKS = 1024 };

typedef struct {
    uint64_t skip;  /* so many of the oldest documents are left out: set before the reading */
    uint64_t count; /* documents so far, those left out among them */
    tow_hash_t chain;
    uint64_t last_skipped_bytes; /* the length of the newest that was left out */
    uint64_t stride;             /* marks[k] is the chain after (k + 1) · stride documents */
    uint32_t mark_count;
    tow_hash_t marks[TOW_SEQUENCE_MARKS];
} tow_sequence_t;

void tow_sequence_reset(tow_sequence_t *sequence); /* keeps `skip` */
void tow_sequence_add(tow_sequence_t *sequence, tow_hash_t hash, size_t length);
bool tow_sequence_equal(const tow_sequence_t *a, const tow_sequence_t *b);
/* In so many of their first documents two sequences that differ are the same, or
 * in somewhat more. */
uint64_t tow_sequence_shared(const tow_sequence_t *a, const tow_sequence_t *b);

#endif
