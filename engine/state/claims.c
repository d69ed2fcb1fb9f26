/* SPDX-License-Identifier: Apache-2.0 */
/* claims.c: see claims.h. */
#include "engine/state/claims.h"

#include <stdlib.h>
#include <string.h>

#include "engine/base/guarded.h"
#include "engine/base/hash.h"
#include "engine/link/codes.h"
#include "engine/link/reply.h"
#include "engine/state/store_internal.h"

enum { CLAIMS_A_MESSAGE = 1000 };

typedef struct {
    char *ns;
    tow_claim_t state;
    uint8_t uuid[16]; /* of a made one */
    bool told;
    bool moved;      /* a rename was about to bring it */
    bool had;        /* it was the job's at some time, or dropped by it */
    bool by_build;   /* a build made it, and since then it was not made otherwise */
    bool doubted;    /* a create of it may still arrive */
    unsigned builds; /* under way */
    UT_hash_handle hh;
} entry_t;

TOW_GUARD(tow_claims);
struct tow_claims {
    tow_store_t *store;
    pthread_mutex_t lock; /* guards the table; not held while the store is written */
    entry_t *entries TOW_GUARDED_BY(tow_claims);
};
TOW_LOCK(tow_claims, tow_claims_t, lock)

tow_claims_t *tow_claims_new(tow_store_t *store)
{
    tow_claims_t *claims = tow_alloc(sizeof *claims);

    claims->store = store;
    pthread_mutex_init(&claims->lock, NULL);
    return claims;
}

TOW_UNSHARED void tow_claims_destroy(tow_claims_t *claims)
{
    entry_t *entry, *next;

    if (!claims)
        return;
    HASH_ITER(hh, claims->entries, entry, next) {
        HASH_DELETE(hh, claims->entries, entry);
        free(entry->ns);
        free(entry);
    }
    pthread_mutex_destroy(&claims->lock);
    free(claims);
}

/* The lock is held. */
static TOW_REQUIRES(tow_claims) entry_t *find(tow_claims_t *claims, const char *ns)
{
    entry_t *entry;

    HASH_FIND(hh, claims->entries, ns, strlen(ns), entry);
    return entry;
}

static TOW_REQUIRES(tow_claims) entry_t *ensure(tow_claims_t *claims, const char *ns)
{
    entry_t *entry = find(claims, ns);

    if (entry)
        return entry;
    entry = tow_alloc(sizeof *entry);
    entry->ns = tow_strdup(ns);
    HASH_ADD_KEYPTR(hh, claims->entries, entry->ns, strlen(entry->ns), entry);
    return entry;
}

/* Loading ---------------------------------------------------------------------------------------*/

static bool has_name(const bson_t *document)
{
    const char *ns;

    return tow_field_text(document, "_id", &ns);
}

static TOW_REQUIRES(tow_claims) void take_claim(void *data, const bson_t *document)
{
    tow_claims_t *claims = data;
    const char *ns = "";
    const uint8_t *bytes;
    bson_subtype_t subtype;
    bson_iter_t iter;
    uint32_t length = 0;
    entry_t *entry;

    tow_field_text(document, "_id", &ns);
    entry = ensure(claims, ns);
    entry->had = true;
    entry->state = TOW_CLAIM_MAYBE;
    entry->moved = bson_has_field(document, "moved");
    if (!bson_iter_init_find(&iter, document, "uuid") || !BSON_ITER_HOLDS_BINARY(&iter))
        return;
    bson_iter_binary(&iter, &subtype, &length, &bytes);
    if (length != sizeof entry->uuid)
        return;
    memcpy(entry->uuid, bytes, length);
    entry->state = TOW_CLAIM_MADE;
}

/* A collection that is being copied is the job's: also where a version before this one began. */
static TOW_REQUIRES(tow_claims) void take_collection(void *data, const bson_t *document)
{
    tow_claims_t *claims = data;
    const char *ns = "";
    entry_t *entry;

    tow_field_text(document, "_id", &ns);
    entry = ensure(claims, ns);
    entry->had = true;
    if (entry->state == TOW_CLAIM_NONE)
        entry->state = TOW_CLAIM_MAYBE;
}

static TOW_REQUIRES(tow_store) bool read_names(tow_claims_t *claims, const char *collection,
                                               tow_each_fn take, tow_error_t *error)
{
    tow_store_t *store = claims->store;
    bson_t command = BSON_INITIALIZER;
    bool ok;

    bson_append_utf8(&command, "find", -1, collection, -1);
    tow_store_append_concern(store, &command);
    ok = tow_cursor_each(store->conn, store->database, &command, has_name, take, claims, error);
    bson_destroy(&command);
    return ok ? true : tow_fail_context(error, "the job's state (%s)", store->database);
}

static TOW_REQUIRES(tow_claims) void take_late(void *data, const char *what, const char *ns,
                                               const char *to TOW_UNUSED)
{
    tow_claims_t *claims = data;

    if (!strcmp(what, "create") || !strcmp(what, "createIndexes"))
        ensure(claims, ns)->doubted = true;
}

bool tow_claims_load(tow_claims_t *claims, tow_error_t *error)
{
    bson_t job;
    bool ok = tow_store_get(claims->store, &job, error);

    tow_store_lock(claims->store);
    tow_claims_lock(claims);
    if (ok)
        tow_store_each_late(&job, take_late, claims);
    ok = ok && read_names(claims, "made", take_claim, error) &&
         read_names(claims, "collections", take_collection, error);
    tow_claims_unlock(claims);
    tow_store_unlock(claims->store);
    bson_destroy(&job);
    return ok;
}

/* Recording -------------------------------------------------------------------------------------*/

/* Inserts {_id: ns} for some; one that is there already stays. The store's lock is held. */
static TOW_REQUIRES(tow_store) bool insert_names(tow_store_t *store, const char *const *ns,
                                                 size_t count, tow_error_t *error)
{
    bson_t command = BSON_INITIALIZER, list, document, reply;
    tow_write_error_t refusal;
    uint32_t position = 0;
    bool ok;

    bson_append_utf8(&command, "insert", -1, "made", -1);
    bson_append_array_begin(&command, "documents", -1, &list);
    for (size_t i = 0; i < count; i++) {
        char buffer[16];
        const char *key;

        bson_uint32_to_string((uint32_t)i, &key, buffer, sizeof buffer);
        bson_append_document_begin(&list, key, -1, &document);
        bson_append_utf8(&document, "_id", -1, ns[i], -1);
        bson_append_document_end(&list, &document);
    }
    bson_append_array_end(&command, &list);
    bson_append_bool(&command, "ordered", -1, false);
    ok = tow_store_run(store, &command, TOW_SEND_WRITE, &reply, error);
    while (ok && tow_reply_write_error(&reply, &position, &refusal))
        if (refusal.code != TOW_CODE_DUPLICATE_KEY)
            ok = tow_fail(error, TOW_ERROR_SERVER, "the job's state (%s): %s", store->database,
                          refusal.message);
    bson_destroy(&reply);
    bson_destroy(&command);
    return ok;
}

bool tow_claims_mean(tow_claims_t *claims, const char *const *ns, size_t count, tow_error_t *error)
{
    const char **fresh = tow_alloc((count + 1) * sizeof *fresh);
    size_t left = 0;
    bool ok = true;

    tow_claims_lock(claims);
    for (size_t i = 0; i < count; i++)
        if (ensure(claims, ns[i])->state == TOW_CLAIM_NONE)
            fresh[left++] = ns[i];
    tow_claims_unlock(claims);
    for (size_t i = 0; ok && i < left; i += CLAIMS_A_MESSAGE) {
        size_t part = left - i < CLAIMS_A_MESSAGE ? left - i : CLAIMS_A_MESSAGE;

        tow_store_lock(claims->store);
        ok = insert_names(claims->store, fresh + i, part, error);
        tow_store_unlock(claims->store);
    }
    tow_claims_lock(claims);
    for (size_t i = 0; ok && i < left; i++)
        ensure(claims, fresh[i])->state = TOW_CLAIM_MEANT;
    tow_claims_unlock(claims);
    free(fresh);
    return ok;
}

/* Stores {_id: ns, uuid}, or without an identity {_id: ns, moved: true}. */
static bool store_claim(tow_claims_t *claims, const char *ns, const uint8_t *uuid,
                        tow_error_t *error)
{
    bson_t filter = BSON_INITIALIZER, update = BSON_INITIALIZER, part;
    int64_t matched;
    int code;
    bool ok;

    bson_append_utf8(&filter, "_id", -1, ns, -1);
    bson_append_document_begin(&update, "$set", -1, &part);
    if (uuid)
        bson_append_binary(&part, "uuid", -1, BSON_SUBTYPE_UUID, uuid, 16);
    else
        bson_append_bool(&part, "moved", -1, true);
    bson_append_document_end(&update, &part);
    bson_append_document_begin(&update, "$unset", -1, &part);
    bson_append_utf8(&part, uuid ? "moved" : "uuid", -1, "", -1);
    bson_append_document_end(&update, &part);
    tow_store_lock(claims->store);
    ok = tow_store_update_one(claims->store, "made", &filter, &update, false, true, &matched, &code,
                              error);
    tow_store_unlock(claims->store);
    bson_destroy(&filter);
    bson_destroy(&update);
    return ok;
}

bool tow_claims_move(tow_claims_t *claims, const char *ns, tow_error_t *error)
{
    if (!store_claim(claims, ns, NULL, error))
        return false;
    tow_claims_lock(claims);
    ensure(claims, ns)->state = TOW_CLAIM_MEANT;
    tow_claims_unlock(claims);
    return true;
}

bool tow_claims_make(tow_claims_t *claims, const char *ns, const uint8_t uuid[16],
                     tow_error_t *error)
{
    entry_t *entry;

    if (!store_claim(claims, ns, uuid, error))
        return false;
    tow_claims_lock(claims);
    entry = ensure(claims, ns);
    entry->state = TOW_CLAIM_MADE;
    entry->had = true;
    memcpy(entry->uuid, uuid, sizeof entry->uuid);
    entry->moved = false;
    entry->by_build = entry->by_build && entry->builds;
    tow_claims_unlock(claims);
    return true;
}

void tow_claims_doubt(tow_claims_t *claims, const char *ns)
{
    tow_claims_lock(claims);
    ensure(claims, ns)->doubted = true;
    tow_claims_unlock(claims);
}

void tow_claims_build_begins(tow_claims_t *claims, const char *ns)
{
    tow_claims_lock(claims);
    ensure(claims, ns)->builds++;
    tow_claims_unlock(claims);
}

bool tow_claims_build_ended(tow_claims_t *claims, const char *ns, bool made_it, tow_error_t *error)
{
    entry_t *entry;

    tow_claims_lock(claims);
    entry = ensure(claims, ns);
    entry->builds--;
    entry->by_build = entry->by_build || made_it;
    tow_claims_unlock(claims);
    return !made_it || tow_claims_mean(claims, &ns, 1, error);
}

bool tow_claims_end(tow_claims_t *claims, const char *ns, tow_error_t *error)
{
    bool known, ok = true;
    entry_t *entry;

    tow_claims_lock(claims);
    entry = find(claims, ns);
    known = entry && entry->state != TOW_CLAIM_NONE;
    tow_claims_unlock(claims);
    if (!known)
        return true;
    tow_store_lock(claims->store);
    ok = tow_store_delete_by(claims->store, "made", "_id", ns, error);
    tow_store_unlock(claims->store);
    if (!ok)
        return false;
    tow_claims_lock(claims);
    entry->moved = false;
    entry->state = TOW_CLAIM_NONE; /* entries live as long as the table */
    tow_claims_unlock(claims);
    return true;
}

/* Asking ----------------------------------------------------------------------------------------*/

/* Whether we made it under another name: a process may have been killed after it renamed a
 * collection, and before it recorded that. An identity is given once. The lock is held. */
static TOW_REQUIRES(tow_claims) bool is_renamed(const tow_claims_t *claims, const uint8_t uuid[16])
{
    static const uint8_t none[16];
    entry_t *entry, *next;

    if (!memcmp(uuid, none, sizeof none))
        return false;
    HASH_ITER(hh, claims->entries, entry, next)
        if (entry->state == TOW_CLAIM_MADE && !memcmp(entry->uuid, uuid, sizeof entry->uuid))
            return true;
    return false;
}

tow_claim_t tow_claims_of(tow_claims_t *claims, const char *ns, const uint8_t uuid[16])
{
    tow_claim_t state = TOW_CLAIM_NONE;
    entry_t *entry;

    tow_claims_lock(claims);
    entry = find(claims, ns);
    if (entry)
        state = entry->state;
    if (state == TOW_CLAIM_MADE && memcmp(entry->uuid, uuid, sizeof entry->uuid) != 0)
        state = TOW_CLAIM_NONE;
    if (entry && (state == TOW_CLAIM_NONE || state == TOW_CLAIM_MEANT) &&
        (entry->builds || entry->by_build || entry->doubted))
        state = TOW_CLAIM_MAYBE;
    if (state == TOW_CLAIM_NONE && is_renamed(claims, uuid))
        state = TOW_CLAIM_MADE;
    tow_claims_unlock(claims);
    return state;
}

bool tow_claims_is_moved(tow_claims_t *claims, const char *ns)
{
    entry_t *entry;
    bool moved;

    tow_claims_lock(claims);
    entry = find(claims, ns);
    moved = entry && entry->moved;
    tow_claims_unlock(claims);
    return moved;
}

bool tow_claims_had(tow_claims_t *claims, const char *database)
{
    size_t length = strlen(database);
    entry_t *entry, *next;
    bool found = false;

    tow_claims_lock(claims);
    HASH_ITER(hh, claims->entries, entry, next)
        found = found ||
                (entry->had && !strncmp(entry->ns, database, length) && entry->ns[length] == '.');
    tow_claims_unlock(claims);
    return found;
}

void tow_claims_note_cleared(tow_claims_t *claims, const char *ns)
{
    tow_claims_lock(claims);
    ensure(claims, ns)->had = true;
    tow_claims_unlock(claims);
}

bool tow_claims_any(tow_claims_t *claims)
{
    bool any;

    tow_claims_lock(claims);
    any = claims->entries != NULL;
    tow_claims_unlock(claims);
    return any;
}

bool tow_claims_has(tow_claims_t *claims, const char *ns)
{
    entry_t *entry;
    bool has;

    tow_claims_lock(claims);
    entry = find(claims, ns);
    has = entry && entry->state == TOW_CLAIM_MADE;
    tow_claims_unlock(claims);
    return has;
}

bool tow_claims_first_told(tow_claims_t *claims, const char *ns)
{
    entry_t *entry;
    bool told;

    tow_claims_lock(claims);
    entry = ensure(claims, ns);
    told = entry->told;
    entry->told = true;
    tow_claims_unlock(claims);
    return !told;
}

TOW_UNSHARED bool tow_is_job_state(tow_conn_t *conn, const char *database, bool *out,
                                   tow_error_t *error)
{
    tow_store_t store = {.conn = conn, .database = (char *)database};
    bson_t document;
    bool ok;

    *out = false;
    if (!tow_may_be_job_state(database))
        return true;
    ok = tow_store_find_one(&store, "job", "job", &document, out, error);
    if (ok && *out)
        bson_destroy(&document);
    return ok;
}
