/* SPDX-License-Identifier: Apache-2.0 */
/* sharding.h: how collections are sharded, as a mongos tells it. */
#ifndef TOW_LINK_SHARDING_H
#define TOW_LINK_SHARDING_H

#include "engine/base/hash.h"
#include "engine/link/link.h"

typedef struct {
    UT_hash_handle hh; /* by ns */
    char *ns;          /* owned */
    bson_t key;        /* {field: 1 or "hashed", …} */
    bool unique;
} tow_shard_key_t;

/* The head of a hash; NULL: none. */
typedef tow_shard_key_t *tow_shard_keys_t;

/* Of all sharded collections; none on a replica set. Needs to read config.collections. */
bool tow_shard_keys_read(tow_conn_t *conn, tow_shard_keys_t *out, tow_error_t *error) TOW_CHECK;
/* NULL: it is not sharded. */
const tow_shard_key_t *tow_shard_keys_find(tow_shard_keys_t keys, const char *ns);
void tow_shard_keys_clear(tow_shard_keys_t *keys);

#endif
