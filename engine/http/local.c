/* SPDX-License-Identifier: Apache-2.0 */
/* local.c: whose process is at the other end of a connection over loopback. */
#include <sys/socket.h>
#include <unistd.h>

#include "engine/base/socket.h"
#include "engine/http/peers.h"

/* A peer that closes before the answer has no user any more: it is nobody. */
bool tow_peer_is_ours(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct sockaddr_storage ours = {0}, theirs = {0};
    socklen_t our_size = sizeof ours, their_size = sizeof theirs;
    uid_t owner;

    return info && !getsockname(info->connect_fd, (struct sockaddr *)&ours, &our_size) &&
           !getpeername(info->connect_fd, (struct sockaddr *)&theirs, &their_size) &&
           tow_socket_owner(&theirs, &ours, &owner) && (owner == geteuid() || owner == 0);
}
