/* SPDX-License-Identifier: Apache-2.0 */
/* admission.c: whose requests are answered. */
#include <string.h>
#include <strings.h>

#include "engine/http/internal.h"
#include "engine/http/token.h"

/* What loopback is always called, the address that is listened on (all of 127.* is loopback), and
 * the name of it that --listen gives. */
static bool is_loopback_name(const tow_server_t *server, const char *host, size_t length)
{
    const char *listen = tow_options_get(server->options, "listen", 0);
    const char *const names[] = {"127.0.0.1", "localhost", "[::1]", server->host};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strlen(names[i]) == length && !strncmp(names[i], host, length))
            return true;
    return (size_t)(strrchr(listen, ':') - listen) == length && !strncasecmp(listen, host, length);
}

/* No page of another site stands behind the request: its browser would tell the site as the origin,
 * or, with a name that was made to mean this host, as the host. */
bool tow_request_is_our_own(const tow_request_t *request)
{
    const char *host = MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, "Host");
    const char *origin =
        MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, "Origin");
    const char *colon = host ? strrchr(host, ':') : NULL;
    const char *scheme = request->server->tls ? "https://" : "http://";

    if (!host)
        return false;
    if (origin && (strncmp(origin, scheme, strlen(scheme)) != 0 ||
                   strcmp(origin + strlen(scheme), host) != 0))
        return false;
    return !request->server->loopback ||
           is_loopback_name(request->server, host,
                            colon && !strchr(colon, ']') ? (size_t)(colon - host) : strlen(host));
}

/* By the user's token, or the page's; where none is asked for, by the user of the process that
 * asks. */
bool tow_request_is_admitted(const tow_request_t *request)
{
    const char *given =
        MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, "Authorization");

    return request->server->token ? tow_token_fits(request->server->token, given) ||
                                        tow_token_fits(request->server->page_token, given)
                                  : tow_peers_known(request->server->peers, request->connection) ||
                                        tow_peer_is_ours(request->connection);
}

enum MHD_Result tow_reply_stranger(const tow_request_t *request)
{
    if (!request->server->token)
        return tow_reply_refusal(
            request, MHD_HTTP_FORBIDDEN, "Forbidden",
            "with --no-token only the user who started Towline, and root, may ask",
            TOW_ERROR_CONTROL);
    return tow_reply_refusal(
        request, MHD_HTTP_UNAUTHORIZED, "Unauthorized",
        "the token is missing or wrong: send `Authorization: Bearer TOKEN` with "
        "what stands in the token file",
        TOW_ERROR_CONTROL);
}
