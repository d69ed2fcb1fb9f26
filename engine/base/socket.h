/* SPDX-License-Identifier: Apache-2.0 */
/* socket.h: whose process is at the other end of a TCP connection within this host. The kernel
 * knows the user of each socket: /proc/net/tcp and tcp6 have a line for each. */
#ifndef TOW_BASE_SOCKET_H
#define TOW_BASE_SOCKET_H

#include <stdbool.h>
#include <sys/socket.h>
#include <sys/types.h>

#define TOW_NO_USER ((uid_t)-1)

/* The user of the socket at `at` that is connected to `to`; TOW_NO_USER: no process has it open
 * (not accepted yet, or closed). False: there is no such socket on this host. */
bool tow_socket_owner(const struct sockaddr_storage *at, const struct sockaddr_storage *to,
                      uid_t *out);
/* The user of whoever accepts connections to `at`. False: no one, or several users. */
bool tow_listener_owner(const struct sockaddr_storage *at, uid_t *out);

#endif
