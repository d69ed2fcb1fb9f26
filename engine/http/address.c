/* SPDX-License-Identifier: Apache-2.0 */
/* address.c: where the control server listens. */
#include "engine/http/internal.h"

int tow_server_port(const tow_server_t *server)
{
    return server->port;
}

char *tow_server_address(const tow_server_t *server, bool with_token)
{
    return tow_format("http%s://%s:%d/%s%s", server->tls ? "s" : "", server->host, server->port,
                      with_token && server->token ? "#token=" : "",
                      with_token && server->token ? server->page_token : "");
}
