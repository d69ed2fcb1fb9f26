/* SPDX-License-Identifier: Apache-2.0 */
/* peek.c: looks at a job's document without taking its lease, by a store that no one shares. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/link/catalog.h"
#include "engine/link/reply.h"
#include "engine/state/store_internal.h"

/* A look at a job's document: whose it is, and for how long. *out_document is the caller's when
 * *out_found. */
static TOW_REQUIRES(tow_store) bool look_at(tow_store_t *store, tow_store_view_t *out,
                                            bson_t *out_document, bool *out_found,
                                            tow_error_t *error)
{
    tow_lease_t lease;
    int64_t now_ms;

    *out = (tow_store_view_t){0};
    *out_found = false;
    if (!tow_store_now(store, &now_ms, error) ||
        !tow_store_find_one(store, "job", "job", out_document, out_found, error))
        return false;
    if (!*out_found)
        return true;
    tow_lease_parse(out_document, &lease);
    out->exists = tow_document_is_begun(out_document) && !tow_document_is_removed(out_document);
    out->writes_blocked = tow_field_is_set(out_document, "writesBlocked");
    out->held = lease.holder[0] && lease.expires_ms > now_ms;
    memcpy(out->host, lease.host, sizeof out->host);
    out->pid = lease.pid;
    out->expires_ms = lease.expires_ms;
    out->expires_seconds = (double)(lease.expires_ms - now_ms) / 1000;
    return true;
}

TOW_UNSHARED bool tow_store_peek(tow_link_t *destination, const char *job,
                                 const tow_settings_t *settings, tow_store_view_t *out,
                                 tow_error_t *error)
{
    tow_store_t store = {.options.destination = destination,
                         .database = tow_format("towline_%s", job)};
    bool found = false, ok;
    bson_t document;

    *out = (tow_store_view_t){0};
    store.conn = tow_conn_open(destination);
    ok = look_at(&store, out, &document, &found, error) &&
         (!out->exists || tow_document_check(&document, settings, error));
    if (found)
        bson_destroy(&document);
    tow_conn_close(store.conn);
    free(store.database);
    return ok;
}

static TOW_REQUIRES(tow_store) bool refuse_held(tow_conn_t *conn, const char *database,
                                                tow_error_t *error)
{
    tow_store_t store = {.conn = conn, .database = (char *)database};
    tow_lease_t lease = {0};
    bson_t document;
    bool found;

    if (!tow_store_find_one(&store, "job", "job", &document, &found, error))
        return false;
    if (found) {
        tow_lease_parse(&document, &lease);
        bson_destroy(&document);
    }
    return !lease.holder[0] ||
           tow_fail(error, TOW_ERROR_LEASE,
                    "a job is writing to the destination, or was killed: its state is %s, and the "
                    "lease of process %" PRId64
                    " on %s was not given back; finish or stop that job (one that was killed: "
                    "start it again first), then repair",
                    database, lease.pid, lease.host);
}

TOW_UNSHARED bool tow_store_refuse_held(tow_link_t *destination, tow_error_t *error)
{
    tow_conn_t *conn = tow_conn_open(destination);
    tow_catalog_t catalog = {0};
    bool ok = tow_catalog_read(conn, NULL, &catalog, error);

    for (size_t i = 0; ok && i < catalog.count; i++)
        if (!strcmp(catalog.items[i].name, "job") &&
            tow_may_be_job_state(catalog.items[i].database) &&
            strcmp(catalog.items[i].database, "towline_" TOW_REPAIR_NAME) != 0)
            ok = refuse_held(conn, catalog.items[i].database, error);
    tow_catalog_clear(&catalog);
    tow_conn_close(conn);
    return ok;
}

TOW_UNSHARED bool tow_store_find_repair(tow_link_t *destination, bool *out, tow_error_t *error)
{
    tow_store_t store = {.conn = tow_conn_open(destination),
                         .database = (char *)"towline_" TOW_REPAIR_NAME};
    bson_t document;
    bool ok = tow_store_find_one(&store, "job", "job", &document, out, error);

    if (ok && *out)
        bson_destroy(&document);
    tow_conn_close(store.conn);
    return ok;
}
