/* SPDX-License-Identifier: Apache-2.0 */
/* socket.c: see socket.h. */
#include "engine/base/socket.h"

#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ADDRESS_TEXT = 48, LISTENING = 10 };

typedef struct {
    char local[ADDRESS_TEXT], remote[ADDRESS_TEXT];
    unsigned state;
    uid_t owner; /* TOW_NO_USER: a socket without a process shows as root's, with inode 0 */
} row_t;

/* As the tables have it: "0100007F:6A2E". `mapped`: an IPv4 address as a socket of IPv6 sees it. */
static bool address_text(const struct sockaddr_storage *address, bool mapped,
                         char out[ADDRESS_TEXT])
{
    const struct sockaddr_in *four = (const struct sockaddr_in *)address;
    const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)address;
    uint32_t words[4] = {0, 0, htonl(0xffff), 0};

    if (address->ss_family == AF_INET && !mapped) {
        snprintf(out, ADDRESS_TEXT, "%08X:%04X", four->sin_addr.s_addr, ntohs(four->sin_port));
        return true;
    }
    if (address->ss_family == AF_INET)
        words[3] = four->sin_addr.s_addr;
    else if (address->ss_family == AF_INET6)
        memcpy(words, &six->sin6_addr, sizeof words);
    else
        return false;
    snprintf(out, ADDRESS_TEXT, "%08X%08X%08X%08X:%04X", words[0], words[1], words[2], words[3],
             ntohs(address->ss_family == AF_INET ? four->sin_port : six->sin6_port));
    return true;
}

static bool read_row(const char *line, row_t *out)
{
    unsigned user;
    unsigned long inode;

    if (sscanf(line, " %*d: %47s %47s %x %*s %*s %*s %u %*u %lu", out->local, out->remote,
               &out->state, &user, &inode) != 5)
        return false;
    out->owner = inode ? (uid_t)user : TOW_NO_USER;
    return true;
}

/* The table's next row. */
static bool next_row(FILE *table, row_t *out)
{
    char *line = NULL;
    size_t size = 0;
    bool found = false;

    while (!found && getline(&line, &size, table) > 0)
        found = read_row(line, out);
    free(line);
    return found;
}

static bool find_socket(const char *path, bool mapped, const struct sockaddr_storage *at,
                        const struct sockaddr_storage *to, uid_t *out)
{
    char local[ADDRESS_TEXT], remote[ADDRESS_TEXT];
    FILE *table = fopen(path, "re");
    bool found = false;
    row_t row;

    if (!table)
        return false;
    if (address_text(at, mapped, local) && address_text(to, mapped, remote))
        while (!found && next_row(table, &row))
            found = !strcmp(row.local, local) && !strcmp(row.remote, remote);
    fclose(table);
    if (found)
        *out = row.owner;
    return found;
}

bool tow_socket_owner(const struct sockaddr_storage *at, const struct sockaddr_storage *to,
                      uid_t *out)
{
    return (at->ss_family == AF_INET && find_socket("/proc/net/tcp", false, at, to, out)) ||
           find_socket("/proc/net/tcp6", true, at, to, out);
}

/* Listeners on the address, or on all addresses. */
static bool ask_listeners(const char *path, bool mapped, const struct sockaddr_storage *at,
                          bool *found, uid_t *out)
{
    char local[ADDRESS_TEXT];
    FILE *table = fopen(path, "re");
    bool one = true;
    row_t row;

    if (!table)
        return true;
    while (address_text(at, mapped, local) && one && next_row(table, &row)) {
        if (row.state != LISTENING || strcmp(strchr(row.local, ':'), strchr(local, ':')) != 0 ||
            (strcmp(row.local, local) != 0 && row.local[strspn(row.local, "0")] != ':'))
            continue;
        one = !*found || row.owner == *out;
        *found = true;
        *out = row.owner;
    }
    fclose(table);
    return one;
}

bool tow_listener_owner(const struct sockaddr_storage *at, uid_t *out)
{
    bool found = false;
    uid_t owner = TOW_NO_USER;

    if ((at->ss_family == AF_INET && !ask_listeners("/proc/net/tcp", false, at, &found, &owner)) ||
        !ask_listeners("/proc/net/tcp6", true, at, &found, &owner) || !found ||
        owner == TOW_NO_USER)
        return false;
    *out = owner;
    return true;
}
