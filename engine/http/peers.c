/* SPDX-License-Identifier: Apache-2.0 */
/* peers.c: see peers.h. One thread cuts the connections whose time is over. */
#include "engine/http/peers.h"

#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "engine/base/clock.h"
#include "engine/base/guarded.h"
#include "engine/base/memory.h"
#include "engine/base/thread.h"

enum {
    MOST = 512, /* where no limit of the process is lower */
    LEAST = 32,
    STRANGERS_MOST = 128,
    FILES_PART = 4,        /* a quarter of the files; the job needs the others */
    BYTES_EACH = 16 << 20, /* of address space, of which a thread is the most */
    REQUEST_MS = 5000,     /* for head and body, from the first moment on */
    REPLY_MS = 10000,      /* for a stranger to take the reply */
    IDLE_MS = 15000        /* for the next request of who may ask */
};

typedef struct peer peer_t;
struct peer {
    peer_t *before, *after; /* in the list, whose first was there longest */
    int socket;
    int64_t until_ms; /* when it is cut; INT64_MAX: never, or it was */
    bool known;       /* has shown once that it may ask */
};

TOW_GUARD(tow_peers);
struct tow_peers {
    unsigned most, strangers_most;
    tow_thread_t cutter;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    peer_t *first TOW_GUARDED_BY(tow_peers), *last TOW_GUARDED_BY(tow_peers);
    unsigned strangers TOW_GUARDED_BY(tow_peers), known
        TOW_GUARDED_BY(tow_peers); /* strangers: those that were not cut */
    bool closing TOW_GUARDED_BY(tow_peers);
};
TOW_LOCK(tow_peers, tow_peers_t, lock)

/* The list; the lock is held --------------------------------------------------------------------*/

/* Its thread sees the end, and closes: the socket stays open until the list has forgotten it. */
static TOW_REQUIRES(tow_peers) void cut(tow_peers_t *peers, peer_t *peer)
{
    shutdown(peer->socket, SHUT_RDWR);
    peer->until_ms = INT64_MAX;
    if (!peer->known)
        peers->strangers--;
    peer->socket = -1;
}

static TOW_REQUIRES(tow_peers) void cut_oldest_stranger(tow_peers_t *peers)
{
    for (peer_t *peer = peers->first; peer; peer = peer->after)
        if (!peer->known && peer->socket >= 0) {
            cut(peers, peer);
            return;
        }
}

static TOW_REQUIRES(tow_peers) void add(tow_peers_t *peers, peer_t *peer)
{
    peer->before = peers->last;
    *(peers->last ? &peers->last->after : &peers->first) = peer;
    peers->last = peer;
    peers->strangers++;
    if (peers->strangers > peers->strangers_most)
        cut_oldest_stranger(peers);
}

static TOW_REQUIRES(tow_peers) void drop(tow_peers_t *peers, peer_t *peer)
{
    *(peer->before ? &peer->before->after : &peers->first) = peer->after;
    *(peer->after ? &peer->after->before : &peers->last) = peer->before;
    if (peer->known)
        peers->known--;
    else if (peer->socket >= 0)
        peers->strangers--;
    free(peer);
}

static TOW_REQUIRES(tow_peers) int64_t cut_late(tow_peers_t *peers)
{
    int64_t now_ms = tow_now_ms(), next_ms = INT64_MAX;

    for (peer_t *peer = peers->first; peer; peer = peer->after) {
        if (peer->socket >= 0 && peer->until_ms <= now_ms)
            cut(peers, peer);
        if (peer->until_ms < next_ms)
            next_ms = peer->until_ms;
    }
    return next_ms;
}

/* Threads ---------------------------------------------------------------------------------------*/

static void *cut_in_time(void *data)
{
    tow_peers_t *peers = data;

    tow_peers_lock(peers);
    while (!peers->closing) {
        int64_t next_ms = cut_late(peers);

        if (next_ms == INT64_MAX)
            pthread_cond_wait(&peers->changed, &peers->lock);
        else
            tow_condition_wait(&peers->changed, &peers->lock, next_ms);
    }
    tow_peers_unlock(peers);
    return NULL;
}

static unsigned least_of(unsigned most, int resource, rlim_t each)
{
    struct rlimit limit;

    if (getrlimit(resource, &limit) || limit.rlim_cur == RLIM_INFINITY ||
        limit.rlim_cur / each >= most)
        return most;
    return limit.rlim_cur / each < LEAST ? LEAST : (unsigned)(limit.rlim_cur / each);
}

tow_peers_t *tow_peers_new(tow_error_t *error)
{
    tow_peers_t *peers = tow_alloc(sizeof *peers);

    pthread_mutex_init(&peers->lock, NULL);
    tow_condition_init(&peers->changed);
    peers->most = least_of(least_of(MOST, RLIMIT_NOFILE, FILES_PART), RLIMIT_AS, BYTES_EACH);
    peers->strangers_most = peers->most / 2 < STRANGERS_MOST ? peers->most / 2 : STRANGERS_MOST;
    if (tow_thread_start(&peers->cutter, "cutter", cut_in_time, peers, error))
        return peers;
    tow_peers_destroy(peers);
    return NULL;
}

TOW_UNSHARED void tow_peers_destroy(tow_peers_t *peers)
{
    if (!peers)
        return;
    tow_peers_lock(peers);
    peers->closing = true;
    pthread_cond_broadcast(&peers->changed);
    tow_peers_unlock(peers);
    tow_thread_join(&peers->cutter);
    while (peers->first)
        drop(peers, peers->first);
    pthread_cond_destroy(&peers->changed);
    pthread_mutex_destroy(&peers->lock);
    free(peers);
}

unsigned tow_peers_most(const tow_peers_t *peers)
{
    return peers->most;
}

static int socket_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);

    return info ? info->connect_fd : -1;
}

void tow_peers_notify(void *data, struct MHD_Connection *connection, void **out_peer,
                      enum MHD_ConnectionNotificationCode what)
{
    tow_peers_t *peers = data;

    tow_peers_lock(peers);
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        peer_t *peer = tow_alloc(sizeof *peer);

        peer->socket = socket_of(connection);
        peer->until_ms = tow_now_ms() + REQUEST_MS;
        *out_peer = peer;
        add(peers, peer);
        pthread_cond_broadcast(&peers->changed);
    } else if (*out_peer) {
        drop(peers, *out_peer);
        *out_peer = NULL;
    }
    tow_peers_unlock(peers);
}

static peer_t *peer_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

    return info ? info->socket_context : NULL;
}

static void give(peer_t *peer, int64_t ms)
{
    if (peer->socket >= 0)
        peer->until_ms = ms == INT64_MAX ? ms : tow_now_ms() + ms;
}

bool tow_peers_asked(tow_peers_t *peers, struct MHD_Connection *connection, bool may_ask)
{
    peer_t *peer = peer_of(connection);
    bool taken = true;

    tow_peers_lock(peers);
    if (peer && may_ask && !peer->known && peer->socket >= 0) {
        taken = peers->known < peers->most - peers->strangers_most;
        peer->known = taken;
        peers->known += taken;
        peers->strangers -= taken;
    }
    if (peer)
        give(peer, peer->known && may_ask ? INT64_MAX : REPLY_MS);
    pthread_cond_broadcast(&peers->changed);
    tow_peers_unlock(peers);
    return taken;
}

bool tow_peers_known(tow_peers_t *peers, struct MHD_Connection *connection)
{
    peer_t *peer = peer_of(connection);
    bool known;

    tow_peers_lock(peers);
    known = peer && peer->known;
    tow_peers_unlock(peers);
    return known;
}

void tow_peers_replied(tow_peers_t *peers, struct MHD_Connection *connection)
{
    peer_t *peer = peer_of(connection);

    tow_peers_lock(peers);
    if (peer)
        give(peer, peer->known ? IDLE_MS : REQUEST_MS);
    pthread_cond_broadcast(&peers->changed);
    tow_peers_unlock(peers);
}
