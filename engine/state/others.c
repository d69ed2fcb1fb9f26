/* SPDX-License-Identifier: Apache-2.0 */
/* others.c: see others.h. */
#include "engine/state/others.h"

#include <stdlib.h>
#include <string.h>

#include "engine/base/hash.h"
#include "engine/base/memory.h"
#include "engine/link/reply.h"
#include "engine/state/store_internal.h"

typedef struct state {
    struct state *next;
    char *database;
    bool held;    /* its lease was not given back */
    bool retired; /* by us: it does not go on */
} state_t;

typedef struct {
    char *ns;
    state_t *state;
    UT_hash_handle hh;
} claimed_t;

struct tow_others {
    state_t *states;
    claimed_t *items;
};

static bool has_name(const bson_t *document)
{
    const char *ns;

    return tow_field_text(document, "_id", &ns);
}

static claimed_t *find(const tow_others_t *others, const char *ns)
{
    claimed_t *item;

    HASH_FIND(hh, others->items, ns, strlen(ns), item);
    return item;
}

static void take_name(void *data, const bson_t *document)
{
    tow_others_t *others = data;
    const char *ns = "";
    claimed_t *item;

    tow_field_text(document, "_id", &ns);
    item = find(others, ns);
    if (!item) {
        item = tow_alloc(sizeof *item);
        item->ns = tow_strdup(ns);
        HASH_ADD_KEYPTR(hh, others->items, item->ns, strlen(item->ns), item);
    }
    if (!item->state || !item->state->held)
        item->state = others->states; /* the first of them is read just now */
}

/* `cleared` counts until everything that the job makes was claimed: of two jobs that are about to
 * clear the same namespace, each records that first, and at least one sees the other's record. */
static TOW_UNSHARED bool read_records(tow_others_t *others, tow_store_t *store, bool prepared,
                                      tow_error_t *error)
{
    static const char *const lists[] = {"made", "collections", "cleared"};
    bool ok = true;

    for (size_t i = 0; ok && i < sizeof lists / sizeof *lists - (prepared ? 1 : 0); i++) {
        bson_t command = BSON_INITIALIZER;

        bson_append_utf8(&command, "find", -1, lists[i], -1);
        tow_store_append_concern(store, &command);
        ok = tow_cursor_each(store->conn, store->database, &command, has_name, take_name, others,
                             error) ||
             tow_fail_context(error, "another job's state (%s)", store->database);
        bson_destroy(&command);
    }
    return ok;
}

static void add_state(tow_others_t *others, const char *database, bool held)
{
    state_t *state = tow_alloc(sizeof *state);

    *state = (state_t){others->states, tow_strdup(database), held, false};
    others->states = state;
}

static TOW_UNSHARED bool read_state(tow_others_t *others, tow_conn_t *conn, const char *database,
                                    tow_error_t *error)
{
    tow_store_t store = {
        .conn = conn, .options.destination = tow_conn_link(conn), .database = (char *)database};
    bool found, held, goes_on, prepared;
    tow_lease_t lease;
    bson_t job;

    if (!tow_store_find_one(&store, "job", "job", &job, &found, error))
        return false;
    if (!found)
        return true;
    tow_lease_parse(&job, &lease);
    held = lease.holder[0] != '\0';
    prepared = tow_field_is_set(&job, "prepared");
    goes_on = (held || tow_document_is_begun(&job)) && !tow_document_is_removed(&job);
    bson_destroy(&job);
    if (!goes_on)
        return true;
    add_state(others, database, held);
    return read_records(others, &store, prepared, error);
}

tow_others_t *tow_others_read(tow_conn_t *conn, const tow_catalog_t *there, const char *own,
                              tow_error_t *error)
{
    tow_others_t *others = tow_alloc(sizeof *others);
    bool ok = true;

    for (size_t i = 0; ok && i < there->count; i++) {
        const char *database = there->items[i].database;

        if (!strcmp(there->items[i].name, "job") && tow_may_be_job_state(database) &&
            strcmp(database, own) != 0)
            ok = read_state(others, conn, database, error);
    }
    if (ok)
        return others;
    tow_others_destroy(others);
    return NULL;
}

void tow_others_destroy(tow_others_t *others)
{
    claimed_t *item, *next;
    state_t *state;

    if (!others)
        return;
    HASH_ITER(hh, others->items, item, next) {
        HASH_DELETE(hh, others->items, item);
        free(item->ns);
        free(item);
    }
    while ((state = others->states)) {
        others->states = state->next;
        free(state->database);
        free(state);
    }
    free(others);
}

const char *tow_others_hold(const tow_others_t *others, const char *ns)
{
    const claimed_t *item = find(others, ns);

    return item && item->state->held ? item->state->database : NULL;
}

/* The destination decides in one step whether the job was stopped, and keeps it from going on. */
static TOW_UNSHARED bool retire(state_t *state, tow_conn_t *conn, const char *own,
                                tow_error_t *error)
{
    tow_store_t store = {
        .conn = conn, .options.destination = tow_conn_link(conn), .database = state->database};
    bson_t *filter = BCON_NEW("_id", "job", "lease", BCON_NULL);
    bson_t *update = BCON_NEW("$set", "{", "clearedBy", BCON_UTF8(own), "}");
    int64_t matched;
    int code;
    bool ok =
        tow_store_update_one(&store, "job", filter, update, false, false, &matched, &code, error);

    state->held = ok && !matched;
    state->retired = ok && matched;
    bson_destroy(filter);
    bson_destroy(update);
    return ok;
}

bool tow_others_take(tow_others_t *others, tow_conn_t *conn, const char *ns, const char *own,
                     tow_error_t *error)
{
    const claimed_t *item = find(others, ns);

    if (!item)
        return true;
    if (!item->state->held && !item->state->retired && !retire(item->state, conn, own, error))
        return false;
    return item->state->retired ||
           tow_fail(error, TOW_ERROR_CONFLICT,
                    "%s on the destination belongs to another job, whose state is %s and whose "
                    "lease was not given back: it is not cleared; exclude it with --exclude, or "
                    "stop or cancel that job first (one that was killed and will never go on: "
                    "remove its state there with db.getSiblingDB(\"%s\").dropDatabase())",
                    ns, item->state->database, item->state->database);
}
