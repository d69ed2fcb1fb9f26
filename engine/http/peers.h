/* SPDX-License-Identifier: Apache-2.0 */
/* peers.h: the connections of the control server. Whoever has not shown that they may ask, a
 * stranger, shares a bounded number of them, and has seconds for a whole request: when there are
 * too many, the one that was there longest goes. So nobody without the token keeps those out who
 * have it. */
#ifndef TOW_HTTP_PEERS_H
#define TOW_HTTP_PEERS_H

#include <microhttpd.h>

#include "engine/base/error.h"

typedef struct tow_peers tow_peers_t;

/* As many as the limits of this process on files and memory allow.
 * TOW_ERROR_INTERNAL: no thread. */
tow_peers_t *tow_peers_new(tow_error_t *error);
void tow_peers_destroy(tow_peers_t *peers);        /* once all connections are closed; takes NULL */
unsigned tow_peers_most(const tow_peers_t *peers); /* connections of all kinds */

/* For MHD_OPTION_NOTIFY_CONNECTION, with the peers as its data. */
void tow_peers_notify(void *peers, struct MHD_Connection *connection, void **peer,
                      enum MHD_ConnectionNotificationCode what);

/* A request was read whole, by somebody who may ask or not. False: there are too many of those who
 * may. */
bool tow_peers_asked(tow_peers_t *peers, struct MHD_Connection *connection, bool may_ask);
/* Whether this connection has asked before, and might: who is at its other end does not change. */
bool tow_peers_known(tow_peers_t *peers, struct MHD_Connection *connection);
/* Its reply is out; the connection may be used again. */
void tow_peers_replied(tow_peers_t *peers, struct MHD_Connection *connection);

/* Whether a connection over loopback comes from a process of our own user, or of root. Reads a
 * table of the kernel, which takes a millisecond. */
bool tow_peer_is_ours(struct MHD_Connection *connection);

#endif
