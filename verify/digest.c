/* SPDX-License-Identifier: Apache-2.0 */
/* digest.c: see digest.h. */
#include "verify/digest.h"

#include <inttypes.h>
#include <stdio.h>
#include <xxhash.h>

tow_hash_t tow_digest_hash(const void *data, size_t length, uint64_t seed)
{
    XXH128_hash_t hash = XXH3_128bits_withSeed(data, length, seed);

    return (tow_hash_t)hash.high64 << 64 | hash.low64;
}

void tow_digest_add(tow_digest_t *digest, tow_hash_t hash, size_t length)
{
    digest->documents++;
    digest->bytes += length;
    digest->sum += hash;
}

void tow_digest_remove(tow_digest_t *digest, tow_hash_t hash, size_t length)
{
    digest->documents--;
    digest->bytes -= length;
    digest->sum -= hash;
}

void tow_digest_merge(tow_digest_t *digest, const tow_digest_t *other)
{
    digest->documents += other->documents;
    digest->bytes += other->bytes;
    digest->sum += other->sum;
}

bool tow_digest_equal(const tow_digest_t *a, const tow_digest_t *b)
{
    return a->documents == b->documents && a->sum == b->sum;
}

void tow_digest_text(tow_hash_t sum, char out[33])
{
    snprintf(out, 33, "%016" PRIx64 "%016" PRIx64, (uint64_t)(sum >> 64), (uint64_t)sum);
}
