/* SPDX-License-Identifier: Apache-2.0 */
/* digest.h: what is kept of a set of documents: how many, how long, and the sum of their hashes.
 *
 * A sum needs no order, so both sides may read a range in any order. It is a sum and not an XOR,
 * which a pair of equal hashes would leave unchanged: the same wrong document twice would go
 * unseen. */
#ifndef TOW_VERIFY_DIGEST_H
#define TOW_VERIFY_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef unsigned __int128 tow_hash_t;

typedef struct {
    uint64_t documents, bytes;
    tow_hash_t sum; /* mod 2^128 */
} tow_digest_t;

tow_hash_t tow_digest_hash(const void *data, size_t length, uint64_t seed);
void tow_digest_add(tow_digest_t *digest, tow_hash_t hash, size_t length);
void tow_digest_remove(tow_digest_t *digest, tow_hash_t hash, size_t length); /* undoes an add */
void tow_digest_merge(tow_digest_t *digest, const tow_digest_t *other);
/* The bytes are for the report: modes that ignore a difference may ignore one in length. */
bool tow_digest_equal(const tow_digest_t *a, const tow_digest_t *b);
void tow_digest_text(tow_hash_t sum, char out[33]); /* 32 hex digits, highest first */

#endif
