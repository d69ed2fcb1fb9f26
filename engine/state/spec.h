/* SPDX-License-Identifier: Apache-2.0 */
/* spec.h: index specifications and collection options, as one server lists them and another takes
 * them.
 *
 * What a listing leaves out has the default of the listing, not that of the command that creates;
 * what it shows may be refused by the same command. Pure: nothing here talks to a server. */
#ifndef TOW_STATE_SPEC_H
#define TOW_STATE_SPEC_H

#include "engine/link/link.h"

/* What a server takes; see engine/link/versions.h. */
typedef struct {
    int64_t
        ttl_most;    /* the largest expireAfterSeconds of an index; a TTL that is held off has it */
    bool images;     /* changeStreamPreAndPostImages */
    bool pre_images; /* recordPreImages */
    bool converts;   /* collMod makes an index unique, or gives it a TTL */
    bool aborts;     /* dropIndexes ends a running build */
} tow_takes_t;

/* `seconds`: since 1970, by the server's clock. */
tow_takes_t tow_takes_at(const tow_facts_t *facts, int64_t seconds);
tow_takes_t tow_takes(const tow_link_t *link);

/* expireAfterSeconds as a TTL monitor reads it, whole and within 0..INT32_MAX. What is NaN,
 * negative, no number or too large never expires, and is the largest value. */
int64_t tow_ttl_seconds(const bson_iter_t *value);
/* So large that only dates before the seventies expire: equal to every other such value, and to
 * none. */
bool tow_ttl_is_never(int64_t seconds);

/* The specification to send: only options that indexes have, flags as booleans, the simple
 * collation where none is listed, and a TTL that the server takes, or the one that holds off. An
 * index that never expires loses its TTL where the server does not take the largest value. */
void tow_index_spec(const bson_t *listed, const tow_takes_t *takes, bool hold_off, bson_t *out);
/* The name of the first option that differs, the caller's; NULL: the two are alike. The version of
 * the format does not count. */
char *tow_index_difference(const bson_t *a, const bson_t *b, bool ignore_ttl);
/* Whether they differ in nothing but what collMod changes. */
bool tow_index_is_modifiable(const bson_t *a, const bson_t *b, const tow_takes_t *takes);
bool tow_index_has_ttl(const bson_t *specification);
bool tow_index_is_unique(const bson_t *specification); /* or about to be */

/* The options to create a collection or view with; expireAfterSeconds, which a clustered collection
 * has, is held off by leaving it out. */
void tow_options_spec(const bson_t *listed, const tow_takes_t *takes, bson_t *out);
/* The options that say something about the collection, without those that have their defaults, and
 * without those that the destination cannot have. */
void tow_options_canonical(const bson_t *listed, const tow_takes_t *takes, bson_t *out);
/* As for indexes; `except`: names that do not count, NULL at the end, or NULL. */
char *tow_options_difference(const bson_t *a, const bson_t *b, const tow_takes_t *takes,
                             const char *const *except);

#endif
