/* SPDX-License-Identifier: Apache-2.0 */
/* fence.c: what the processes before may still have under way comes to nothing, or is known.
 *
 * A retryable write belongs to a session, which `sessions` of the job's document names before it is
 * first used. Whoever takes the job over writes in each of them with the largest number there is:
 * from then on the server refuses what carries a smaller one, as long as it remembers the session
 * (30 minutes at least after that write). Any other command, such as a drop, is named in
 * `operations` before it is sent, by a guarded update, and forgotten once it was answered. */
#include "engine/state/store_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/link/reply.h"

/* Sessions --------------------------------------------------------------------------------------*/

/* {operator: {sessions: session}} */
static void build_sessions(bson_t *out, const char *operator, const bson_t * session)
{
    bson_t part;

    bson_init(out);
    bson_append_document_begin(out, operator, - 1, &part);
    bson_append_document(&part, "sessions", -1, session);
    bson_append_document_end(out, &part);
}

static bool note_session(void *data, const bson_t *session, tow_error_t *error)
{
    tow_store_t *store = data;
    bson_t update;
    bool ok;

    build_sessions(&update, "$addToSet", session);
    tow_store_lock(store);
    ok = tow_store_update_guarded(store, &update, error);
    tow_store_unlock(store);
    bson_destroy(&update);
    return ok;
}

/* The update that forgets it is also the write that nothing in it can follow: it changes something,
 * or the server would not remember its number. Killed before it, the next process finds the session
 * still named. `marks`: of a sharded destination, whose other shards the update does not reach. */
static bool end_session(tow_store_t *store, tow_conn_t *conn, const tow_marks_t *marks,
                        const bson_t *session, tow_error_t *error)
{
    bson_t update;
    bool ok;

    build_sessions(&update, "$pull", session);
    ok = tow_conn_adopt(conn, session, marks ? 2 : 1, error) &&
         (!marks || tow_marks_write(store, conn, marks, error)) &&
         tow_store_update_by(store, conn, &update, false, error);
    bson_destroy(&update);
    return ok;
}

static bool end_each(tow_store_t *store, const tow_marks_t *marks, bson_iter_t *list,
                     tow_error_t *error)
{
    tow_conn_t *conn = tow_conn_open_apart(store->options.destination, error);
    bool ok = conn != NULL;

    if (ok)
        tow_conn_unguarded(conn);
    while (ok && bson_iter_next(list)) {
        bson_t session;

        ok = tow_iter_document(list, &session)
                 ? end_session(store, conn, marks, &session, error)
                 : tow_fail(error, TOW_ERROR_SERVER, "one of the job's sessions cannot be read");
    }
    if (ok && !tow_iter_complete(list))
        ok = tow_fail(error, TOW_ERROR_SERVER, "the list of the job's sessions cannot be read");
    tow_conn_close(conn);
    return ok;
}

static TOW_REQUIRES(tow_store) bool end_sessions(tow_store_t *store, const bson_t *document,
                                                 tow_error_t *error)
{
    bool sharded = tow_link_facts(store->options.destination)->sharded, ok;
    bson_iter_t iter, list, first;
    tow_marks_t marks;

    if (!bson_iter_init_find(&iter, document, "sessions"))
        return true;
    if (!BSON_ITER_HOLDS_ARRAY(&iter) || !bson_iter_recurse(&iter, &list))
        return tow_fail(error, TOW_ERROR_SERVER, "the job's sessions are no list");
    first = list;
    sharded = sharded && bson_iter_next(&first);
    ok = (!sharded || tow_marks_spread(store, &marks, error)) &&
         end_each(store, sharded ? &marks : NULL, &list, error);
    if (ok && sharded)
        tow_marks_remove(store, &marks);
    return ok || tow_fail_context(error, "end what an earlier process of this job has under way");
}

/* Operations ------------------------------------------------------------------------------------*/

static TOW_REQUIRES(tow_store) uint32_t take_slot(tow_store_t *store)
{
    for (uint32_t i = 0; i < store->slot_count; i++)
        if (!store->slots[i]) {
            store->slots[i] = true;
            return i;
        }
    store->slots = tow_realloc(store->slots, (store->slot_count + 1) * sizeof *store->slots);
    store->slots[store->slot_count] = true;
    return store->slot_count++;
}

/* What a command does, and to which namespace: its first field says so. */
static void append_operation(bson_t *set, uint32_t slot, const char *database,
                             const bson_t *command)
{
    bson_iter_t iter;
    const char *to = NULL, *target = NULL;
    char name[48], *ns;

    bson_iter_init(&iter, command);
    if (!bson_iter_next(&iter))
        return;
    snprintf(name, sizeof name, "operations.o%u.what", slot);
    bson_append_utf8(set, name, -1, bson_iter_key(&iter), -1);
    if (!tow_iter_text(&iter, &target))
        ns = tow_strdup(database);
    else if (!strcmp(bson_iter_key(&iter), "renameCollection"))
        ns = tow_strdup(target);
    else
        ns = tow_format("%s.%s", database, target);
    snprintf(name, sizeof name, "operations.o%u.namespace", slot);
    bson_append_utf8(set, name, -1, ns, -1);
    free(ns);
    tow_field_text(command, "to", &to);
    snprintf(name, sizeof name, "operations.o%u.to", slot);
    if (to)
        bson_append_utf8(set, name, -1, to, -1);
    else
        bson_append_null(set, name, -1);
}

static bool begin_operation(void *data, const char *database, const bson_t *command,
                            uint32_t *out_slot, tow_error_t *error)
{
    tow_store_t *store = data;
    bson_t update = BSON_INITIALIZER, part;
    char name[48];
    bool ok;

    tow_store_lock(store);
    *out_slot = take_slot(store);
    bson_append_document_begin(&update, "$set", -1, &part);
    append_operation(&part, *out_slot, database, command);
    bson_append_document_end(&update, &part);
    bson_append_document_begin(&update, "$currentDate", -1, &part);
    snprintf(name, sizeof name, "operations.o%u.since", *out_slot);
    bson_append_bool(&part, name, -1, true);
    bson_append_document_end(&update, &part);
    ok = tow_store_update_guarded(store, &update, error);
    if (!ok)
        store->slots[*out_slot] = false;
    tow_store_unlock(store);
    bson_destroy(&update);
    return ok;
}

/* One that may still arrive stays named, and its place taken. */
static void end_operation(void *data, uint32_t slot, bool settled)
{
    tow_store_t *store = data;
    bson_t update = BSON_INITIALIZER, part;
    tow_error_t ignored; /* named for longer than need be */
    char name[32];

    if (!settled)
        return;
    snprintf(name, sizeof name, "operations.o%u", slot);
    bson_append_document_begin(&update, "$unset", -1, &part);
    bson_append_utf8(&part, name, -1, "", -1);
    bson_append_document_end(&update, &part);
    tow_store_lock(store);
    if (tow_store_update_guarded(store, &update, &ignored))
        store->slots[slot] = false;
    tow_store_unlock(store);
    bson_destroy(&update);
}

/* The operations of a list, as the next ones of *each. One that cannot be read may still arrive all
 * the same, so that it is an error. */
static bool append_operations(const bson_t *document, const char *name, bson_t *each,
                              uint32_t *count, tow_error_t *error)
{
    bson_iter_t iter, list;

    if (!bson_iter_init_find(&iter, document, name))
        return true;
    if ((BSON_ITER_HOLDS_DOCUMENT(&iter) || BSON_ITER_HOLDS_ARRAY(&iter)) &&
        bson_iter_recurse(&iter, &list)) {
        while (bson_iter_next(&list) && BSON_ITER_HOLDS_DOCUMENT(&list)) {
            char buffer[16];
            const char *key;

            bson_uint32_to_string((*count)++, &key, buffer, sizeof buffer);
            bson_append_iter(each, key, -1, &list);
        }
        if (tow_iter_complete(&list))
            return true;
    }
    return tow_fail_reply(error, "destination",
                          "the operations of the job's document cannot be read");
}

static void append_push(bson_t *update, const bson_t *each)
{
    bson_t push, late;

    bson_append_document_begin(update, "$push", -1, &push);
    bson_append_document_begin(&push, "late", -1, &late);
    bson_append_array(&late, "$each", -1, each);
    bson_append_document_end(&push, &late);
    bson_append_document_end(update, &push);
}

/* What earlier processes named stays in `late`, for as long as the job lives. */
static bool keep_late(tow_store_t *store, const bson_t *document, tow_error_t *error)
{
    bson_t update = BSON_INITIALIZER, each = BSON_INITIALIZER, unset;
    uint32_t count = 0;
    bool ok = append_operations(document, "operations", &each, &count, error);

    append_push(&update, &each);
    bson_append_document_begin(&update, "$unset", -1, &unset);
    bson_append_utf8(&unset, "operations", -1, "", -1);
    bson_append_document_end(&update, &unset);
    if (ok && bson_has_field(document, "operations")) {
        tow_store_lock(store);
        ok = tow_store_update_guarded(store, &update, error);
        tow_store_unlock(store);
    }
    bson_destroy(&each);
    bson_destroy(&update);
    return ok;
}

bool tow_store_adopt_late(tow_store_t *store, tow_store_t *other, tow_error_t *error)
{
    bson_t update = BSON_INITIALIZER, each = BSON_INITIALIZER, document;
    uint32_t count = 0;
    bool ok = tow_store_get(other, &document, error) &&
              append_operations(&document, "late", &each, &count, error) &&
              append_operations(&document, "operations", &each, &count, error);

    append_push(&update, &each);
    if (ok && count) {
        tow_store_lock(store);
        ok = tow_store_update_guarded(store, &update, error);
        tow_store_unlock(store);
    }
    bson_destroy(&document);
    bson_destroy(&each);
    bson_destroy(&update);
    return ok;
}

/* Both -----------------------------------------------------------------------------------------*/

/* What this process itself has under way: a write given up without an answer would arrive after
 * what was concluded from its failure. The marks are spread each time, since a shard may be new. */
static bool outnumber(void *data, tow_conn_t *conn, tow_error_t *error)
{
    tow_store_t *store = data;
    bson_t update = BSON_INITIALIZER, part;
    tow_marks_t marks;
    bool ok = true;

    bson_append_document_begin(&update, "$inc", -1, &part);
    bson_append_int64(&part, "outnumbered", -1, 1);
    bson_append_document_end(&update, &part);
    if (tow_link_facts(store->options.destination)->sharded) {
        tow_store_lock(store);
        ok = tow_marks_spread(store, &marks, error) && tow_marks_write(store, conn, &marks, error);
        if (ok)
            tow_marks_remove(store, &marks);
        tow_store_unlock(store);
    }
    ok = ok && tow_store_update_by(store, conn, &update, false, error);
    bson_destroy(&update);
    return ok;
}

bool tow_fence(tow_store_t *store, const bson_t *document, tow_error_t *error)
{
    static const tow_write_guard_t guard = {note_session, begin_operation, end_operation,
                                            outnumber};
    tow_link_t *link = store->options.destination;
    const bson_t *own;

    if (!tow_link_facts(link)->standalone) {
        if (!end_sessions(store, document, error))
            return false;
        own = tow_conn_session(store->conn, error);
        if (!own || !note_session(store, own, error))
            return false;
    }
    if (!keep_late(store, document, error))
        return false;
    tow_link_guard(link, &guard, store);
    return true;
}

typedef void (*each_late_fn)(void *data, const char *what, const char *ns, const char *to);

static void hand_on(bson_iter_t *field, each_late_fn each, void *data)
{
    const char *what = "", *ns = "", *to = "";

    while (bson_iter_next(field)) {
        const char *name = bson_iter_key(field);

        tow_iter_text(field, !strcmp(name, "what")        ? &what
                             : !strcmp(name, "namespace") ? &ns
                             : !strcmp(name, "to")        ? &to
                                                          : &(const char *){NULL});
    }
    each(data, what, ns, to);
}

void tow_store_each_late(const bson_t *document, each_late_fn each, void *data)
{
    static const char *const lists[] = {"late", "operations"};
    bson_iter_t iter, list, field;

    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        if (bson_iter_init_find(&iter, document, lists[i]) && bson_iter_recurse(&iter, &list))
            while (bson_iter_next(&list))
                if (BSON_ITER_HOLDS_DOCUMENT(&list) && bson_iter_recurse(&list, &field))
                    hand_on(&field, each, data);
}
