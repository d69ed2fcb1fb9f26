/* local.c: whose process is at the other end of a connection over loopback. The kernel knows the
 * user of each socket of this host: /proc/net/tcp has a line for each, with both addresses as it
 * stores them. */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/http/peers.h"

enum { ADDRESS_TEXT = 48, ESTABLISHED = 1 };

/* "0100007F:6A2E" */
static bool address_text(const struct sockaddr_storage *address, char out[ADDRESS_TEXT])
{
    const struct sockaddr_in *four = (const struct sockaddr_in *)address;
    const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)address;
    uint32_t words[4];

    if (address->ss_family == AF_INET) {
        snprintf(out, ADDRESS_TEXT, "%08X:%04X", four->sin_addr.s_addr, ntohs(four->sin_port));
    } else if (address->ss_family == AF_INET6) {
        memcpy(words, &six->sin6_addr, sizeof words);
        snprintf(out, ADDRESS_TEXT, "%08X%08X%08X%08X:%04X", words[0], words[1], words[2], words[3],
                 ntohs(six->sin6_port));
    }
    return address->ss_family == AF_INET || address->ss_family == AF_INET6;
}

/* A socket that its process has closed has no user any more, which shows as root's, and no inode:
 * whoever closes before the answer is nobody. */
static bool read_owner(const char *line, const char *local, const char *remote, uid_t *out)
{
    char addresses[2][ADDRESS_TEXT];
    unsigned state, user;
    unsigned long inode;

    if (sscanf(line, " %*d: %47s %47s %x %*s %*s %*s %u %*u %lu", addresses[0], addresses[1],
               &state, &user, &inode) != 5 ||
        strcmp(addresses[0], local) != 0 || strcmp(addresses[1], remote) != 0)
        return false;
    *out = state == ESTABLISHED && inode ? (uid_t)user : (uid_t)-1;
    return true;
}

bool tow_peer_is_ours(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct sockaddr_storage ours = {0}, theirs = {0};
    socklen_t our_size = sizeof ours, their_size = sizeof theirs;
    char local[ADDRESS_TEXT], remote[ADDRESS_TEXT], *line = NULL;
    uid_t owner = (uid_t)-1;
    size_t size = 0;
    FILE *file;

    if (!info || getsockname(info->connect_fd, (struct sockaddr *)&ours, &our_size) ||
        getpeername(info->connect_fd, (struct sockaddr *)&theirs, &their_size) ||
        !address_text(&ours, remote) || !address_text(&theirs, local))
        return false;
    file = fopen(ours.ss_family == AF_INET6 ? "/proc/net/tcp6" : "/proc/net/tcp", "re");
    if (!file)
        return false;
    while (getline(&line, &size, file) > 0)
        if (read_owner(line, local, remote, &owner))
            break;
    free(line);
    fclose(file);
    return owner == geteuid() || owner == 0;
}
