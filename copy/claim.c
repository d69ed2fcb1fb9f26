/* SPDX-License-Identifier: Apache-2.0 */
/* claim.c: creating and dropping under the job's claims (engine/state/claims.h). A repair without a
 * job has none: there the operator's own command says what may be replaced. */
#include <stdlib.h>
#include <string.h>

#include "copy/internal.h"
#include "engine/link/codes.h"
#include "engine/link/reply.h"

/* By the newest that the server has, whether a majority has it or not. */
static bool is_empty(tow_conn_t *destination, const tow_collection_info_t *there, bool *out,
                     tow_error_t *error)
{
    bson_t command = BSON_INITIALIZER, reply, document;
    tow_reply_cursor_t cursor;
    bool ok, broken = false;

    bson_append_utf8(&command, "find", -1, there->name, -1);
    bson_append_int32(&command, "limit", -1, 1);
    bson_append_bool(&command, "singleBatch", -1, true);
    ok = tow_conn_ask(destination, there->database, &command, 0, tow_reply_holds_documents, "find",
                      &reply, error);
    *out = ok && tow_reply_cursor(&reply, &cursor) &&
           !tow_batch_document(&cursor.batch, &document, &broken) && !broken;
    bson_destroy(&reply);
    bson_destroy(&command);
    return ok;
}

/* Whether it is the job's. A name that was only meant is, as long as nothing is in it: documents
 * come when the identity is recorded, so what has some is somebody else's. What is found to be ours
 * becomes so by its identity. The lock is held. */
static bool settle_ours(tow_copy_t *copy, tow_conn_t *destination,
                        const tow_collection_info_t *there, bool *out, tow_error_t *error)
{
    tow_claims_t *claims = copy->options.claims;

    *out = tow_copy_is_ours(copy, there);
    if (*out || tow_claims_of(claims, there->ns, there->uuid) != TOW_CLAIM_MAYBE)
        return true;
    *out = tow_claims_is_moved(claims, there->ns);
    return (*out || is_empty(destination, there, out, error)) &&
           (!*out || tow_claims_make(claims, there->ns, there->uuid, error));
}

bool tow_copy_leave_out_states(tow_conn_t *destination, tow_catalog_t *catalog, tow_error_t *error)
{
    size_t i = 0;

    while (i < catalog->count) {
        char *database = tow_strdup(catalog->items[i].database);
        bool state, ok = tow_is_job_state(destination, database, &state, error);

        if (ok && state)
            tow_catalog_leave_out(catalog, database);
        while (ok && i < catalog->count && !strcmp(catalog->items[i].database, database))
            i++;
        free(database);
        if (!ok)
            return false;
    }
    return true;
}

/* `to_drop`: what our own writes made again becomes ours by a record, which is made first: a
 * process that is killed after it knows whose it is. */
static bool find_whose(tow_copy_t *copy, tow_conn_t *destination, const char *database,
                       const char *name, bool to_drop, tow_whose_t *out, tow_error_t *error)
{
    tow_collection_info_t there;
    bool found, ours = false, remade = false, ok;

    *out = TOW_WHOSE_NONE;
    if (!tow_catalog_find(destination, database, name, &there, &found, error))
        return false;
    if (!found)
        return true;
    ok = settle_ours(copy, destination, &there, &ours, error);
    *out = ours ? TOW_WHOSE_OURS : TOW_WHOSE_FOREIGN;
    if (ok && to_drop && !ours)
        ok = tow_copy_is_remade(copy, &there, &remade, error) &&
             (!remade || tow_claims_make(copy->options.claims, there.ns, there.uuid, error));
    if (ok && remade)
        *out = TOW_WHOSE_OURS;
    tow_collection_info_clear(&there);
    return ok;
}

/* What another thread is making is nobody's until it has recorded that. */
static bool ask_whose(tow_copy_t *copy, tow_conn_t *destination, const char *database,
                      const char *name, bool to_drop, tow_whose_t *out, tow_error_t *error)
{
    bool ok;

    pthread_mutex_lock(&copy->claiming);
    ok = find_whose(copy, destination, database, name, to_drop, out, error);
    pthread_mutex_unlock(&copy->claiming);
    return ok;
}

bool tow_copy_whose(tow_copy_t *copy, tow_conn_t *destination, const char *database,
                    const char *name, tow_whose_t *out, tow_error_t *error)
{
    return ask_whose(copy, destination, database, name, false, out, error);
}

bool tow_copy_whose_to_drop(tow_copy_t *copy, tow_conn_t *destination, const char *database,
                            const char *name, tow_whose_t *out, tow_error_t *error)
{
    return ask_whose(copy, destination, database, name, true, out, error);
}

bool tow_copy_fail_foreign(const char *ns, tow_error_t *error)
{
    return tow_fail(
        error, TOW_ERROR_CONFLICT,
        "%s on the destination was not made by this job, and the source has a namespace of that "
        "name too; rename or drop the one on the destination, and run the same command again",
        ns);
}

void tow_copy_tell_foreign(tow_copy_t *copy, const char *ns)
{
    if (tow_claims_first_told(copy->options.claims, ns))
        tow_emit(&copy->options.sink, TOW_LEVEL_WARNING, "foreign",
                 "%s is on the destination, and this job did not make it: it is left alone", ns);
}

/* Records what was made, with the identity that the destination gave it. */
static bool claim(tow_copy_t *copy, tow_conn_t *destination, const char *database, const char *name,
                  tow_error_t *error)
{
    tow_collection_info_t there;
    bool found, ok;

    if (!tow_catalog_find(destination, database, name, &there, &found, error))
        return false;
    if (!found) /* dropped again: whoever did that goes on */
        return true;
    ok = tow_claims_make(copy->options.claims, there.ns, there.uuid, error);
    tow_collection_info_clear(&there);
    return ok;
}

/* Somebody else's that is there already must not be taken for what we create. A mongos answers that
 * it was created where it was there with equal options, and a mongod does where the command had to
 * be sent again. */
static bool check_free(tow_copy_t *copy, tow_conn_t *destination, const tow_collection_info_t *info,
                       tow_error_t *error)
{
    tow_collection_info_t there;
    bool found, ours, ok;

    if (!tow_catalog_find(destination, info->database, info->name, &there, &found, error))
        return false;
    if (!found)
        return true;
    ok = settle_ours(copy, destination, &there, &ours, error);
    tow_collection_info_clear(&there);
    if (!ok || ours)
        return ok;
    /* What was only meant would pass for ours after a restart. */
    return tow_claims_end(copy->options.claims, info->ns, error) &&
           tow_copy_fail_foreign(info->ns, error);
}

static bool create(tow_copy_t *copy, tow_conn_t *destination, const tow_collection_info_t *info,
                   bool *out_late, tow_error_t *error)
{
    return tow_copy_create(destination, info, out_late, error) ||
           (error->server_code == TOW_CODE_DATABASE_DIFFER_CASE &&
            tow_copy_free_spelling(copy, destination, info, error) &&
            tow_copy_create(destination, info, out_late, error));
}

bool tow_copy_make(tow_copy_t *copy, tow_conn_t *destination, const tow_collection_info_t *info,
                   tow_error_t *error)
{
    const char *ns = info->ns;
    bool late = false, ok;

    if (!copy->options.claims)
        return tow_copy_create(destination, info, NULL, error);
    pthread_mutex_lock(&copy->claiming);
    ok = check_free(copy, destination, info, error) &&
         tow_claims_mean(copy->options.claims, &ns, 1, error) &&
         create(copy, destination, info, &late, error);
    if (ok) {
        ok = claim(copy, destination, info->database, info->name, error);
        late = late || !ok;
    }
    if (late) /* or it is there, and what is recorded does not say so */
        tow_claims_doubt(copy->options.claims, ns);
    pthread_mutex_unlock(&copy->claiming);
    return ok;
}

bool tow_copy_make_placeholder(tow_copy_t *copy, tow_conn_t *destination, const char *database,
                               const char *name, tow_error_t *error)
{
    tow_collection_info_t info = {.database = (char *)database, .name = (char *)name};
    tow_whose_t whose;
    bool ok;

    if (!tow_copy_whose(copy, destination, database, name, &whose, error))
        return false;
    if (whose == TOW_WHOSE_OURS)
        return true;
    info.ns = tow_format("%s.%s", database, name);
    bson_init(&info.options);
    ok = whose == TOW_WHOSE_FOREIGN ? tow_copy_fail_foreign(info.ns, error)
                                    : tow_copy_make(copy, destination, &info, error);
    bson_destroy(&info.options);
    free(info.ns);
    return ok;
}

/* From 6.1 on a system.js is neither dropped nor renamed: it is emptied, and stays the job's. */
bool tow_copy_drop_ours(tow_copy_t *copy, tow_conn_t *destination, const char *database,
                        const char *name, bool for_good, tow_error_t *error)
{
    tow_collection_info_t there;
    bool found = false, ok;
    char *ns;

    if (!tow_copy_drop(destination, database, name, error))
        return false;
    if (!copy->options.claims)
        return true;
    if (!tow_collection_is_streamed(name) &&
        !tow_catalog_find(destination, database, name, &there, &found, error))
        return false;
    if (found) {
        tow_collection_info_clear(&there);
        return !for_good || tow_copy_drop_emptied(destination, database, name, error);
    }
    ns = tow_format("%s.%s", database, name);
    ok = tow_claims_end(copy->options.claims, ns, error);
    free(ns);
    return ok;
}

/* The lock is held. */
static bool unmake(tow_copy_t *copy, tow_conn_t *destination, const char *database,
                   const char *name, tow_whose_t *out, tow_error_t *error)
{
    char *ns;
    bool ok;

    if (!find_whose(copy, destination, database, name, true, out, error))
        return false;
    if (*out == TOW_WHOSE_FOREIGN)
        return true;
    if (*out == TOW_WHOSE_OURS)
        return tow_copy_drop_ours(copy, destination, database, name, true, error);
    ns = tow_format("%s.%s", database, name);
    ok = tow_claims_end(copy->options.claims, ns, error);
    free(ns);
    return ok;
}

bool tow_copy_unmake(tow_copy_t *copy, tow_conn_t *destination, const char *database,
                     const char *name, tow_whose_t *out, tow_error_t *error)
{
    bool ok;

    if (!copy->options.claims) {
        *out = TOW_WHOSE_OURS;
        return tow_copy_drop(destination, database, name, error);
    }
    pthread_mutex_lock(&copy->claiming);
    ok = unmake(copy, destination, database, name, out, error);
    pthread_mutex_unlock(&copy->claiming);
    return ok;
}

bool tow_copy_dropped(tow_copy_t *copy, tow_conn_t *destination, const char *database,
                      const char *name, tow_error_t *error)
{
    tow_whose_t whose;
    char *ns;

    if (!tow_copy_unmake(copy, destination, database, name, &whose, error))
        return false;
    if (whose == TOW_WHOSE_FOREIGN) {
        ns = tow_format("%s.%s", database, name);
        tow_copy_tell_foreign(copy, ns);
        free(ns);
    }
    return true;
}

bool tow_copy_may_rename(tow_copy_t *copy, tow_conn_t *destination, const char *from_database,
                         const char *from_name, const char *to_database, const char *to_name,
                         bool *out_ours, bool *out_replaces, tow_error_t *error)
{
    tow_whose_t from, to;
    char *ns;
    bool ok;

    *out_ours = *out_replaces = true;
    if (!copy->options.claims)
        return true;
    if (!tow_copy_whose(copy, destination, from_database, from_name, &from, error) ||
        !tow_copy_whose(copy, destination, to_database, to_name, &to, error))
        return false;
    *out_ours = from == TOW_WHOSE_OURS;
    *out_replaces = to == TOW_WHOSE_OURS;
    ns = tow_format("%s.%s", to_database, to_name);
    if (to == TOW_WHOSE_FOREIGN)
        ok = tow_copy_fail_foreign(ns, error);
    else if (*out_ours && (strcmp(from_database, to_database) != 0 ||
                           tow_link_facts(copy->options.destination)->sharded))
        /* It gets another identity: should we be killed before that is recorded, it may be ours. */
        ok = tow_claims_move(copy->options.claims, ns, error);
    else
        ok = true;
    free(ns);
    return ok;
}

bool tow_copy_renamed(tow_copy_t *copy, tow_conn_t *destination, const char *from_ns,
                      const char *database, const char *name, tow_error_t *error)
{
    return !copy->options.claims || (claim(copy, destination, database, name, error) &&
                                     tow_claims_end(copy->options.claims, from_ns, error));
}
