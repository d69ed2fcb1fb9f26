/* SPDX-License-Identifier: Apache-2.0 */
/* double.h: servers in memory in the driver's place, so that what the engine reads and writes is
 * exact and every answer is the test's. Programs that use it are linked with `wrapped` of
 * meson.build.
 *
 * A server keeps every version of every document. It answers a read as unfavourably as a real one
 * may: from any time at or after afterClusterTime (without it, or without a majority read concern,
 * from its beginning), a second batch from a later one, and with an operation time that is no later
 * than it must be.
 *
 * Threads: one lock for all servers. */
#ifndef TOW_UNIT_DOUBLE_H
#define TOW_UNIT_DOUBLE_H

#include <stdatomic.h>

#include "engine/link/link.h"
#include "engine/state/key.h"

typedef struct double_server double_server_t;

/* `stale`: a source; else every read is of now. */
double_server_t *double_new(const char *side, bool stale);
void double_free(double_server_t *server);
tow_link_t *double_link(double_server_t *server);
void double_stop(double_server_t *server, tow_stop_t *stop); /* ends waits from now on; borrowed */
void double_impatient(double_server_t *server);              /* nothing is sent again */
void double_seed(double_server_t *server, uint64_t seed);
/* Reads see no more than they must, and claim the newest time. */
void double_worst(double_server_t *server);
/* A unique index on this field of every collection; NULL: none. */
void double_unique(double_server_t *server, const char *field);

/* Writes as an application does; the time of the write. */
tow_optime_t double_put(double_server_t *server, const char *ns, const bson_t *document);
tow_optime_t double_remove(double_server_t *server, const char *ns, tow_value_t id);
tow_optime_t double_now(double_server_t *server);
/* The document at that time (0: now), a copy of the caller's; NULL: none. */
bson_t *double_get(double_server_t *server, const char *ns, tow_value_t id, tow_optime_t time);
/* The first _id of the collection whose documents differ, or that only one side has, as text; ""
 * when there is none. */
void double_compare(double_server_t *left, double_server_t *right, const char *ns, char *out,
                    size_t size);

/* Sees every command but those sent again; true: it has answered (a driver's error when *out_error
 * is set). Called without the lock. */
typedef bool (*double_hook_t)(void *data, const char *database, const bson_t *command,
                              bson_t *reply, bson_error_t *error);
void double_hook(double_server_t *server, double_hook_t hook, void *data);
/* The next write of this name is done, and its answer is lost. */
void double_lose_answer(double_server_t *server, const char *name);
/* After `passed` writes of this name the next one is on its way until double_arrive: whoever sent
 * it sees a lost connection. double_held: whether it was sent. */
void double_hold(double_server_t *server, const char *name, uint32_t passed);
atomic_uint *double_held(double_server_t *server);
void double_arrive(double_server_t *server);

#endif
