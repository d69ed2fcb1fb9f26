/* SPDX-License-Identifier: Apache-2.0 */
/* strays.c: what users keep in the server's own databases. */
#include <stdlib.h>
#include <string.h>

#include "engine/link/catalog.h"
#include "engine/link/codes.h"

/* What servers and their tools make there by themselves. */
static bool is_the_servers(const char *name)
{
    static const char *const names[] = {"startup_log", "me",        "clustermanager",
                                        "tempusers",   "temproles", NULL};

    for (size_t i = 0; names[i]; i++)
        if (!strcmp(name, names[i]))
            return true;
    return !strncmp(name, "oplog.", 6) || !strncmp(name, "replset.", 8) ||
           (!tow_collection_is_streamed(name) && strcmp(name, "system.js") != 0);
}

static bool add_strays(tow_conn_t *conn, const char *database, tow_names_t *out, tow_error_t *error)
{
    tow_catalog_t catalog;

    if (!tow_catalog_read(conn, database, &catalog, error))
        return error->server_code == TOW_CODE_UNAUTHORIZED;
    for (size_t i = 0; i < catalog.count; i++)
        if (!is_the_servers(catalog.items[i].name))
            tow_names_add(out, catalog.items[i].ns);
    tow_catalog_clear(&catalog);
    return true;
}

bool tow_catalog_strays(tow_conn_t *conn, tow_names_t *out, tow_error_t *error)
{
    *out = (tow_names_t){0};
    if (add_strays(conn, "admin", out, error) &&
        (tow_link_facts(tow_conn_link(conn))->sharded || add_strays(conn, "local", out, error)))
        return true;
    tow_names_clear(out);
    return false;
}
