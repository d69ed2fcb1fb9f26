/* SPDX-License-Identifier: Apache-2.0 */
/* sequence.c: see sequence.h. */
#include "verify/sequence.h"

void tow_sequence_reset(tow_sequence_t *sequence)
{
    sequence->count = sequence->last_skipped_bytes = 0;
    sequence->chain = 0;
    sequence->stride = 1;
    sequence->mark_count = 0;
}

/* With twice the stride every second mark stays. */
static void thin_out(tow_sequence_t *sequence)
{
    for (uint32_t i = 0; i < TOW_SEQUENCE_MARKS / 2; i++)
        sequence->marks[i] = sequence->marks[2 * i + 1];
    sequence->mark_count = TOW_SEQUENCE_MARKS / 2;
    sequence->stride *= 2;
}

void tow_sequence_add(tow_sequence_t *sequence, tow_hash_t hash, size_t length)
{
    tow_hash_t link[2] = {sequence->chain, hash};

    if (sequence->count++ < sequence->skip) {
        sequence->last_skipped_bytes = length;
        return;
    }
    sequence->chain = tow_digest_hash(link, sizeof link, 0);
    if ((sequence->count - sequence->skip) % sequence->stride)
        return;
    sequence->marks[sequence->mark_count++] = sequence->chain;
    if (sequence->mark_count == TOW_SEQUENCE_MARKS)
        thin_out(sequence);
}

bool tow_sequence_equal(const tow_sequence_t *a, const tow_sequence_t *b)
{
    return a->count - a->skip == b->count - b->skip && a->chain == b->chain;
}

uint64_t tow_sequence_shared(const tow_sequence_t *a, const tow_sequence_t *b)
{
    uint64_t stride = a->stride > b->stride ? a->stride : b->stride;
    uint64_t shared = 0;

    for (uint64_t at = stride;; at += stride) {
        uint64_t i = at / a->stride - 1, j = at / b->stride - 1;

        if (i >= a->mark_count || j >= b->mark_count || a->marks[i] != b->marks[j])
            return shared;
        shared = at;
    }
}
