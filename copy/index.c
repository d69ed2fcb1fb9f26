/* index.c: builds indexes beside the copying, and unique ones once the destination is consistent. */
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "copy/internal.h"
#include "engine/link/reply.h"

enum {
    NAMESPACE_NOT_FOUND = 26,
    INDEX_NOT_FOUND = 27,
    INDEX_OPTIONS_CONFLICT = 85,
    INDEX_KEY_SPECS_CONFLICT = 86,
    INDEX_BUILD_ABORTED = 276,
    DUPLICATE_KEY = 11000,
    HELD_OFF_SECONDS = INT32_MAX
};

bool tow_index_is_unique(const bson_t *specification)
{
    bson_iter_t iter;

    return (bson_iter_init_find(&iter, specification, "unique") && bson_iter_as_bool(&iter)) ||
           (bson_iter_init_find(&iter, specification, "prepareUnique") &&
            bson_iter_as_bool(&iter));
}

void tow_index_held_off(const bson_t *specification, bson_t *out)
{
    bson_iter_t iter;

    bson_init(out);
    bson_iter_init(&iter, specification);
    while (bson_iter_next(&iter)) {
        if (!strcmp(bson_iter_key(&iter), "expireAfterSeconds"))
            bson_append_int32(out, "expireAfterSeconds", -1, HELD_OFF_SECONDS);
        else
            bson_append_iter(out, NULL, 0, &iter);
    }
}

static const char *name_of(const bson_t *specification)
{
    const char *name = "?";

    tow_field_text(specification, "name", &name);
    return name;
}

/* Failures --------------------------------------------------------------------------------------*/

static void record_failure(tow_copy_t *copy, const char *database, const char *collection,
                           const char *name, const char *message)
{
    char *ns = tow_format("%s.%s", database, collection);
    bool known = false;

    pthread_mutex_lock(&copy->lock);
    for (uint32_t i = 0; i < copy->failure_count; i++)
        known = known || (!strcmp(copy->failures[i].ns, ns) &&
                          !strcmp(copy->failures[i].name, name));
    if (!known) {
        copy->failures = tow_realloc(copy->failures,
                                     (copy->failure_count + 1) * sizeof *copy->failures);
        copy->failures[copy->failure_count++] =
            (tow_index_failure_t){tow_strdup(ns), tow_strdup(name), tow_strdup(message)};
    }
    pthread_mutex_unlock(&copy->lock);
    tow_emit(&copy->options.sink, TOW_LEVEL_WARNING, "index_refused", "%s: index %s: %s", ns, name,
             message);
    free(ns);
}

tow_index_failure_t *tow_copy_index_failures(tow_copy_t *copy, uint32_t *out_count)
{
    tow_index_failure_t *failures;

    pthread_mutex_lock(&copy->lock);
    *out_count = copy->failure_count;
    failures = tow_alloc((copy->failure_count + 1) * sizeof *failures);
    for (uint32_t i = 0; i < copy->failure_count; i++)
        failures[i] = (tow_index_failure_t){tow_strdup(copy->failures[i].ns),
                                            tow_strdup(copy->failures[i].name),
                                            tow_strdup(copy->failures[i].message)};
    pthread_mutex_unlock(&copy->lock);
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

/* Whether a build made its collection, which was dropped meanwhile; without an answer it may have. */
static bool made_collection(bool answered, const bson_t *reply)
{
    bson_iter_t iter;

    return !answered ||
           (bson_iter_init_find(&iter, reply, "createdCollectionAutomatically") && bson_iter_as_bool(&iter));
}

/* Under the job's claims, where there are any. */
static bool send_build(tow_claims_t *claims, tow_conn_t *destination, const char *database, const char *name,
                       const bson_t *specifications, uint32_t count, tow_error_t *error)
{
    char *ns = tow_format("%s.%s", database, name);
    tow_error_t problem;
    tow_send_options_t send = {.flags = TOW_SEND_WRITE | TOW_SEND_RETRY | TOW_SEND_NO_TIMEOUT};
    bson_t command = BSON_INITIALIZER, list, reply;
    bool ok;

    bson_append_utf8(&command, "createIndexes", -1, name, -1);
    bson_append_array_begin(&command, "indexes", -1, &list);
    for (uint32_t i = 0; i < count; i++) {
        char buffer[16];
        const char *key;

        bson_uint32_to_string(i, &key, buffer, sizeof buffer);
        bson_append_document(&list, key, -1, &specifications[i]);
    }
    bson_append_array_end(&command, &list);
    if (claims)
        tow_claims_build_begins(claims, ns);
    ok = tow_conn_command(destination, database, &command, &send, &reply, error);
    if (claims && !tow_claims_build_ended(claims, ns, made_collection(ok, &reply), &problem) && ok) {
        *error = problem;
        ok = false;
    }
    bson_destroy(&reply);
    bson_destroy(&command);
    free(ns);
    return ok;
}

/* The collection went away meanwhile: its indexes are nobody's concern. */
static bool is_moot(tow_copy_t *copy, const char *database, const char *name,
                    const tow_error_t *error)
{
    return error->server_code == NAMESPACE_NOT_FOUND || error->server_code == INDEX_BUILD_ABORTED ||
           !tow_namespaces_find(copy->options.namespaces, database, name);
}

bool tow_copy_build(tow_copy_t *copy, tow_conn_t *destination, const char *database,
                    const char *name, const bson_t *specifications, uint32_t count, bool final,
                    uint32_t *out_built, tow_error_t *error)
{
    *out_built = 0;
    if (!count)
        return true;
    if (send_build(copy->options.claims, destination, database, name, specifications, count, error)) {
        *out_built = count;
        return true;
    }
    if (tow_copy_ended(copy))
        return false;
    if (is_moot(copy, database, name, error))
        return true;
    if (error->retry == TOW_RETRY_SAME || error->retry == TOW_RETRY_RECONNECT)
        return false; /* no answer: that is no refusal */
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
    /* Not consistent yet, or another index of that name is about to be dropped: it is built later. */
    if (!final && (error->server_code == DUPLICATE_KEY ||
                   error->server_code == INDEX_OPTIONS_CONFLICT ||
                   error->server_code == INDEX_KEY_SPECS_CONFLICT))
        return true;
    record_failure(copy, database, name, name_of(specifications), error->message);
    if (!copy->options.index_errors_fail)
        return true;
    error->code = TOW_ERROR_INDEX;
    error->retry = TOW_RETRY_NEVER;
    return tow_fail_context(error,
                            "the destination refuses index %s of %s.%s (--index-errors report "
                            "goes on without it)",
                            name_of(specifications), database, name);
}

typedef struct {
    uint32_t wanted, built;
} count_t;

/* Those indexes of a collection that are unique, or not; TTL held off. */
static bool build_kind(tow_copy_t *copy, tow_conn_t *source, tow_conn_t *destination,
                       const char *database, const char *name, bool unique, count_t *out,
                       tow_error_t *error)
{
    tow_indexes_t indexes;
    bson_t *chosen;
    uint32_t count = 0;
    bool ok;

    if (!tow_indexes_read(source, database, name, &indexes, error))
        return false;
    chosen = tow_alloc((indexes.count + 1) * sizeof *chosen);
    for (size_t i = 0; i < indexes.count; i++)
        if (tow_index_is_unique(&indexes.items[i]) == unique)
            tow_index_held_off(&indexes.items[i], &chosen[count++]);
    out->wanted = count;
    /* The last word on what is refused is the reconciliation's at the cutover. */
    ok = tow_copy_build(copy, destination, database, name, chosen, count, false, &out->built, error);
    for (uint32_t i = 0; i < count; i++)
        bson_destroy(&chosen[i]);
    free(chosen);
    tow_indexes_clear(&indexes);
    return ok;
}

bool tow_copy_build_early(tow_copy_t *copy, tow_conn_t *source, tow_conn_t *destination,
                          const tow_collection_info_t *info, tow_error_t *error)
{
    count_t uncounted;

    return build_kind(copy, source, destination, info->database, info->name, false, &uncounted, error);
}

static void add_count(tow_copy_t *copy, count_t count)
{
    atomic_fetch_add(&copy->indexes, count.wanted);
    atomic_fetch_add(&copy->indexes_built, count.built);
}

static bool build_and_count(tow_worker_t *worker, const tow_build_t *build, bool unique,
                            tow_error_t *error)
{
    count_t count = {0};
    bool ok = build_kind(worker->copy, worker->source, worker->destination, build->database,
                         build->name, unique, &count, error);

    add_count(worker->copy, count);
    return ok;
}

bool tow_copy_index_drop(tow_copy_t *copy, const char *database, const char *name, const char *index,
                         tow_error_t *error)
{
    tow_send_options_t send = {.flags = TOW_SEND_WRITE | TOW_SEND_RETRY};
    tow_conn_t *destination = tow_conn_open(copy->options.destination, error);
    bson_t command = BSON_INITIALIZER, reply;
    bool ok;

    if (!destination)
        return false;
    bson_append_utf8(&command, "dropIndexes", -1, name, -1);
    bson_append_utf8(&command, "index", -1, index, -1);
    ok = tow_conn_command(destination, database, &command, &send, &reply, error) ||
         error->server_code == INDEX_NOT_FOUND || error->server_code == NAMESPACE_NOT_FOUND;
    bson_destroy(&reply);
    bson_destroy(&command);
    tow_conn_close(destination);
    return ok ? true : tow_fail_context(error, "drop index %s of %s.%s", index, database, name);
}

/* In the background -----------------------------------------------------------------------------*/

void tow_build_free(tow_build_t *build)
{
    if (build->specification)
        bson_destroy(build->specification);
    free(build->database);
    free(build->name);
    free(build);
}

static void queue_build(tow_copy_t *copy, const char *database, const char *name,
                        tow_namespace_t *collection, bool unique, const bson_t *specification)
{
    tow_build_t *build = tow_alloc(sizeof *build);

    build->database = tow_strdup(database);
    build->name = tow_strdup(name);
    build->collection = collection;
    build->unique = unique;
    build->specification = specification ? bson_copy(specification) : NULL;
    pthread_mutex_lock(&copy->lock);
    DL_APPEND(copy->builds, build);
    copy->unique_left += unique;
    pthread_cond_broadcast(&copy->changed);
    pthread_mutex_unlock(&copy->lock);
}

void tow_copy_queue_indexes(tow_copy_t *copy, tow_namespace_t *collection)
{
    queue_build(copy, collection->database, collection->name, collection, false, NULL);
}

bool tow_copy_build_unique(tow_copy_t *copy, tow_error_t *error)
{
    uint32_t count;
    tow_namespace_t **list;
    bool built;

    atomic_store(&copy->unique_built, true); /* before the list: no collection falls between */
    list = tow_namespaces_list(copy->options.namespaces, &count);
    for (uint32_t i = 0; i < count; i++)
        /* One that is copied again just now has them built when its copy ends. */
        if (list[i]->type == TOW_COLLECTION &&
            tow_namespaces_copied(copy->options.namespaces, list[i]))
            queue_build(copy, list[i]->database, list[i]->name, list[i], true, NULL);
    free(list);
    /* These alone: under a source that goes on creating indexes the queue may never be empty. */
    pthread_mutex_lock(&copy->lock);
    while (copy->unique_left && !tow_copy_ended(copy))
        tow_copy_wait_changed(copy);
    built = !copy->unique_left;
    pthread_mutex_unlock(&copy->lock);
    if (built && !tow_stop_requested(copy->options.stop))
        return true;
    if (!tow_stop_error(copy->options.stop, error))
        tow_fail(error, TOW_ERROR_INTERRUPTED, "stopped while unique indexes were built");
    return false;
}

void tow_copy_index_async(tow_copy_t *copy, const char *database, const char *name,
                          const bson_t *specification)
{
    queue_build(copy, database, name,
                tow_namespaces_find(copy->options.namespaces, database, name), false,
                specification);
}

static bool build_one(tow_worker_t *worker, const tow_build_t *build, tow_error_t *error)
{
    count_t count = {.wanted = 1};
    bson_t one;
    bool ok;

    tow_index_held_off(build->specification, &one);
    ok = tow_copy_build(worker->copy, worker->destination, build->database, build->name, &one, 1,
                        false, &count.built, error);
    add_count(worker->copy, count);
    bson_destroy(&one);
    return ok;
}

/* All non-unique indexes of a collection whose copy has ended, all unique ones, or the one of an
 * event. A collection that was dropped must not come back by its indexes. */
static bool run_build(tow_worker_t *worker, const tow_build_t *build, tow_error_t *error)
{
    tow_copy_t *copy = worker->copy;
    bson_t fields = BSON_INITIALIZER;
    bool ok;

    if (!build->collection || atomic_load(&build->collection->stale)) {
        bson_destroy(&fields);
        return true;
    }
    if (build->specification || build->unique) {
        bson_destroy(&fields);
        return build->specification ? build_one(worker, build, error)
                                    : build_and_count(worker, build, true, error);
    }
    ok = build_and_count(worker, build, false, error);
    if (ok && atomic_load(&copy->unique_built) && !atomic_load(&build->collection->stale))
        ok = build_and_count(worker, build, true, error);
    bson_append_bool(&fields, "copied", -1, true);
    bson_append_bool(&fields, "indexed", -1, true);
    ok = ok && (atomic_load(&build->collection->stale) ||
                tow_store_set_collection(copy->options.store, build->collection->ns, &fields,
                                         error));
    bson_destroy(&fields);
    return ok;
}

void *tow_copy_index_worker(void *data)
{
    tow_worker_t *worker = data;
    tow_copy_t *copy = worker->copy;

    pthread_mutex_lock(&copy->lock);
    while (!tow_copy_ended(copy)) {
        tow_build_t *build = copy->builds;
        tow_error_t error;

        if (!build) {
            tow_copy_wait_changed(copy);
            continue;
        }
        DL_DELETE(copy->builds, build);
        copy->building++;
        worker->current = build->collection;
        pthread_mutex_unlock(&copy->lock);
        if (!run_build(worker, build, &error))
            tow_copy_fail(copy, &error);
        pthread_mutex_lock(&copy->lock);
        copy->unique_left -= build->unique;
        tow_build_free(build);
        worker->current = NULL;
        copy->building--;
        pthread_cond_broadcast(&copy->changed);
    }
    pthread_mutex_unlock(&copy->lock);
    return NULL;
}
