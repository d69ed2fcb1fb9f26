/* SPDX-License-Identifier: Apache-2.0 */
/* index.c: builds and drops indexes on the destination, and records what it refuses. */
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "copy/internal.h"
#include "engine/link/codes.h"
#include "engine/link/reply.h"
#include "engine/link/versions.h"

/* Failures --------------------------------------------------------------------------------------*/

static void record_failure(tow_copy_t *copy, const char *database, const char *collection,
                           const char *name, const char *message)
{
    char *ns = tow_format("%s.%s", database, collection);
    bool known = false;

    tow_copy_lock(copy);
    for (uint32_t i = 0; i < copy->failure_count; i++)
        known =
            known || (!strcmp(copy->failures[i].ns, ns) && !strcmp(copy->failures[i].name, name));
    if (!known) {
        copy->failures =
            tow_realloc(copy->failures, (copy->failure_count + 1) * sizeof *copy->failures);
        copy->failures[copy->failure_count++] =
            (tow_index_failure_t){tow_strdup(ns), tow_strdup(name), tow_strdup(message)};
    }
    tow_copy_unlock(copy);
    tow_emit(&copy->options.sink, TOW_LEVEL_WARNING, "index_refused", "%s: index %s: %s", ns, name,
             message);
    free(ns);
}

tow_index_failure_t *tow_copy_index_failures(tow_copy_t *copy, uint32_t *out_count)
{
    tow_index_failure_t *failures;

    tow_copy_lock(copy);
    *out_count = copy->failure_count;
    failures = tow_alloc((copy->failure_count + 1) * sizeof *failures);
    for (uint32_t i = 0; i < copy->failure_count; i++)
        failures[i] = (tow_index_failure_t){tow_strdup(copy->failures[i].ns),
                                            tow_strdup(copy->failures[i].name),
                                            tow_strdup(copy->failures[i].message)};
    tow_copy_unlock(copy);
    return failures;
}

void tow_copy_index_failures_free(tow_index_failure_t *failures, uint32_t count)
{
    for (uint32_t i = 0; failures && i < count; i++) {
        free(failures[i].ns);
        free(failures[i].name);
        free(failures[i].message);
    }
    free(failures);
}

/* Building --------------------------------------------------------------------------------------*/

/* Whether a build made its collection, which was dropped meanwhile; without an answer
 * it may have. */
static bool made_collection(bool answered, const bson_t *reply)
{
    bson_iter_t iter;

    return !answered || (bson_iter_init_find(&iter, reply, "createdCollectionAutomatically") &&
                         bson_iter_as_bool(&iter));
}

/* `quorum`: it ends when most members have built the indexes. By default each voting member that
 * bears data has to, and where one is down a build waits for it without end. */
static void describe_build(const char *name, const bson_t *specifications, uint32_t count,
                           bool quorum, bson_t *out_command)
{
    bson_t list;

    bson_init(out_command);
    bson_append_utf8(out_command, "createIndexes", -1, name, -1);
    bson_append_array_begin(out_command, "indexes", -1, &list);
    for (uint32_t i = 0; i < count; i++) {
        char buffer[16];
        const char *key;

        bson_uint32_to_string(i, &key, buffer, sizeof buffer);
        bson_append_document(&list, key, -1, &specifications[i]);
    }
    bson_append_array_end(out_command, &list);
    bson_append_bool(out_command, "ignoreUnknownIndexOptions", -1, true);
    if (quorum)
        bson_append_utf8(out_command, "commitQuorum", -1, "majority", -1);
}

/* An operator may have switched the quorum off, and a feature version of before does not know it:
 * refused as a bad value. */
static bool run_build(tow_copy_t *copy, tow_conn_t *destination, const char *database,
                      const char *name, const bson_t *specifications, uint32_t count, bson_t *reply,
                      tow_error_t *error)
{
    tow_send_options_t send = {.flags = TOW_SEND_WRITE | TOW_SEND_RETRY | TOW_SEND_NO_TIMEOUT};
    bool quorum = tow_server_can(tow_link_facts(copy->options.destination), TOW_COMMIT_QUORUM), ok;
    bson_t command;

    describe_build(name, specifications, count, quorum, &command);
    ok = tow_conn_command(destination, database, &command, &send, reply, error);
    bson_destroy(&command);
    if (ok || !quorum || error->server_code != TOW_CODE_BAD_VALUE)
        return ok;
    bson_destroy(reply);
    describe_build(name, specifications, count, false, &command);
    ok = tow_conn_command(destination, database, &command, &send, reply, error);
    bson_destroy(&command);
    return ok;
}

/* Under the job's claims, where there are any. While it runs the build is among those that
 * tow_copy_hold ends. */
static bool send_build(tow_copy_t *copy, tow_conn_t *destination, const char *database,
                       const char *name, const bson_t *specifications, uint32_t count,
                       tow_error_t *error)
{
    tow_claims_t *claims = copy->options.claims;
    char *ns = tow_format("%s.%s", database, name);
    tow_error_t problem;
    tow_running_t running = {
        .database = database, .name = name, .items = specifications, .count = count};
    bson_t reply;
    bool ok;

    tow_copy_lock(copy);
    DL_APPEND(copy->running, &running);
    tow_copy_unlock(copy);
    if (claims)
        tow_claims_build_begins(claims, ns);
    ok = run_build(copy, destination, database, name, specifications, count, &reply, error);
    if (claims && !tow_claims_build_ended(claims, ns, made_collection(ok, &reply), &problem) &&
        ok) {
        *error = problem;
        ok = false;
    }
    tow_copy_lock(copy);
    DL_DELETE(copy->running, &running);
    pthread_cond_broadcast(&copy->changed);
    tow_copy_unlock(copy);
    bson_destroy(&reply);
    free(ns);
    return ok;
}

/* The collection went away meanwhile, or a DDL event ended the build, after which it is queued
 * again. */
static bool is_moot(tow_copy_t *copy, const char *database, const char *name,
                    const tow_error_t *error)
{
    return error->server_code == TOW_CODE_NAMESPACE_NOT_FOUND ||
           error->server_code == TOW_CODE_INDEX_BUILD_ABORTED ||
           error->server_code == TOW_CODE_COMMAND_NOT_SUPPORTED_ON_VIEW ||
           !tow_namespaces_find(copy->options.namespaces, database, name);
}

bool tow_copy_build(tow_copy_t *copy, tow_conn_t *destination, const char *database,
                    const char *name, const bson_t *specifications, uint32_t count, bool final,
                    uint32_t *out_built, tow_error_t *error)
{
    *out_built = 0;
    if (!count)
        return true;
    if (send_build(copy, destination, database, name, specifications, count, error)) {
        *out_built = count;
        return true;
    }
    if (tow_copy_ended(copy))
        return false;
    if (is_moot(copy, database, name, error))
        return true;
    if (error->retry == TOW_RETRY_SAME || error->retry == TOW_RETRY_RECONNECT ||
        error->code == TOW_ERROR_INTERNAL || error->code == TOW_ERROR_LEASE)
        return false; /* not the destination's answer: that is no refusal */
    if (count > 1) {
        for (uint32_t i = 0; i < count; i++) {
            uint32_t built;

            if (!tow_copy_build(copy, destination, database, name, &specifications[i], 1, final,
                                &built, error))
                return false;
            *out_built += built;
        }
        return true;
    }
    /* Not consistent yet, or another index of that name is about to be dropped: it
     * is built later. */
    if (!final && (error->server_code == TOW_CODE_DUPLICATE_KEY ||
                   error->server_code == TOW_CODE_INDEX_OPTIONS_CONFLICT ||
                   error->server_code == TOW_CODE_INDEX_KEY_SPECS_CONFLICT))
        return true;
    record_failure(copy, database, name, tow_index_name(specifications), error->message);
    if (!copy->options.index_errors_fail)
        return true;
    error->code = TOW_ERROR_INDEX;
    error->retry = TOW_RETRY_NEVER;
    return tow_fail_context(error,
                            "the destination refuses index %s of %s.%s (--index-errors report "
                            "goes on without it)",
                            tow_index_name(specifications), database, name);
}

/* Those indexes of a collection that are unique, or not; TTL held off. */
static bool build_kind(tow_copy_t *copy, tow_conn_t *source, tow_conn_t *destination,
                       const char *database, const char *name, bool unique, uint32_t *out_wanted,
                       uint32_t *out_built, tow_error_t *error)
{
    const tow_takes_t takes = tow_takes(copy->options.destination);
    tow_indexes_t indexes;
    bson_t *chosen;
    uint32_t count = 0;
    bool ok;

    if (!tow_indexes_read(source, database, name, &indexes, error))
        return false;
    chosen = tow_alloc((indexes.count + 1) * sizeof *chosen);
    for (size_t i = 0; i < indexes.count; i++)
        if (tow_index_is_unique(&indexes.items[i]) == unique)
            tow_index_spec(&indexes.items[i], &takes, true, &chosen[count++]);
    *out_wanted = count;
    /* The last word on what is refused is the reconciliation's at the cutover. */
    ok = tow_copy_build(copy, destination, database, name, chosen, count, false, out_built, error);
    for (uint32_t i = 0; i < count; i++)
        bson_destroy(&chosen[i]);
    free(chosen);
    tow_indexes_clear(&indexes);
    return ok;
}

bool tow_copy_build_early(tow_copy_t *copy, tow_conn_t *source, tow_conn_t *destination,
                          const tow_collection_info_t *info, tow_error_t *error)
{
    uint32_t wanted, built;

    return build_kind(copy, source, destination, info->database, info->name, false, &wanted, &built,
                      error);
}

bool tow_copy_build_kind(tow_worker_t *worker, const tow_build_t *build, bool unique,
                         tow_error_t *error)
{
    tow_copy_t *copy = worker->copy;
    uint32_t wanted = 0, built = 0;
    bool ok = build_kind(copy, worker->source, worker->destination, build->database, build->name,
                         unique, &wanted, &built, error);

    atomic_fetch_add(&copy->indexes, wanted);
    atomic_fetch_add(&copy->indexes_built, built);
    return ok;
}

/* Dropping --------------------------------------------------------------------------------------*/

static bool send_drop(tow_conn_t *destination, int flags, const char *database, const char *name,
                      const char *index, tow_error_t *error)
{
    tow_send_options_t send = {.flags = TOW_SEND_WRITE | flags};
    bson_t command = BSON_INITIALIZER, reply;
    bool ok;

    bson_append_utf8(&command, "dropIndexes", -1, name, -1);
    bson_append_utf8(&command, "index", -1, index, -1);
    ok = tow_conn_command(destination, database, &command, &send, &reply, error) ||
         error->server_code == TOW_CODE_INDEX_NOT_FOUND ||
         error->server_code == TOW_CODE_NAMESPACE_NOT_FOUND;
    bson_destroy(&reply);
    bson_destroy(&command);
    return ok ? true : tow_fail_context(error, "drop index %s of %s.%s", index, database, name);
}

bool tow_copy_index_drop(tow_copy_t *copy, const char *database, const char *name,
                         const char *index, tow_error_t *error)
{
    tow_conn_t *destination = tow_conn_open(copy->options.destination);
    bool ok = send_drop(destination, TOW_SEND_RETRY, database, name, index, error);

    tow_conn_close(destination);
    return ok;
}

static bool is_listed(tow_conn_t *conn, const char *database, const char *name, const char *index,
                      bool *out_listed, bool *out_unique, tow_error_t *error)
{
    tow_indexes_t indexes;
    const bson_t *found;

    if (!tow_indexes_read(conn, database, name, &indexes, error))
        return false;
    found = tow_index_find(&indexes, index);
    *out_listed = found != NULL;
    *out_unique = found && tow_index_is_unique(found);
    tow_indexes_clear(&indexes);
    return true;
}

/* A build of the same collection is in the way. Only a unique index cannot wait for its end: it
 * goes on refusing what the source accepts. */
static bool drop_beside_build(tow_copy_t *copy, tow_conn_t *destination, const char *database,
                              const char *name, const char *index, tow_error_t *error)
{
    bool listed, unique, ok;

    if (!is_listed(destination, database, name, index, &listed, &unique, error))
        return false;
    if (!unique) {
        tow_copy_make_alike(copy, database, name);
        return true;
    }
    ok = tow_copy_hold(copy, database, name, error) &&
         send_drop(destination, TOW_SEND_RETRY, database, name, index, error);
    tow_copy_release(copy, database, name, true);
    return ok;
}

bool tow_copy_index_gone(tow_copy_t *copy, const char *database, const char *name,
                         const char *index, tow_error_t *error)
{
    tow_conn_t *source = tow_conn_open(copy->options.source);
    tow_conn_t *destination = tow_conn_open(copy->options.destination);
    bool listed, unique, ok;

    ok = is_listed(source, database, name, index, &listed, &unique, error);
    if (ok && listed)
        tow_copy_make_alike(copy, database, name); /* what has that name now came later */
    else if (ok && !send_drop(destination, 0, database, name, index, error))
        ok = error->server_code == TOW_CODE_BACKGROUND_OPERATION_IN_PROGRESS_FOR_NAMESPACE
                 ? drop_beside_build(copy, destination, database, name, index, error)
                 : send_drop(destination, TOW_SEND_RETRY, database, name, index, error);
    tow_conn_close(source);
    tow_conn_close(destination);
    return ok;
}
