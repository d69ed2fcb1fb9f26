/* builds.c: the queue of what is built and made alike in the background, and its workers.
 *
 * Each entry says what to look at, not what to do: whoever takes it reads the source's listing
 * then. So it does not matter how many events came between, nor in which order: an index that was
 * dropped meanwhile is not built. Of one collection only one entry is worked on at a time. */
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "copy/internal.h"
#include "engine/base/clock.h"

enum {
    ABORT_MS = 500,
    LOOK_MS = 20000,  /* between two looks at the catalogs; and no more than a tenth of the time
                         looks last */
    VIEWS_MS = 60000, /* where events tell of indexes and options, but of no views */
    LOOK_PART = 10
};

/* A collection, or with no name a database, of which nothing is begun. */
struct tow_hold {
    struct tow_hold *prev, *next;
    char *database, *name;
};

void tow_build_free(tow_build_t *build)
{
    free(build->database);
    free(build->name);
    free(build);
}

static bool is_of(const char *database, const char *name, const char *other_database,
                  const char *other_name)
{
    return !strcmp(database, other_database) && (!name || !strcmp(name, other_name));
}

/* The lock is held, here and below. */
static bool is_queued(const tow_copy_t *copy, tow_build_kind_t kind, const char *database,
                      const char *name)
{
    const tow_build_t *build;

    DL_FOREACH(copy->builds, build)
        if (build->kind == kind && is_of(database, name, build->database, build->name))
            return true;
    return false;
}

static void queue(tow_copy_t *copy, tow_build_kind_t kind, const char *database, const char *name,
                  tow_namespace_t *collection)
{
    tow_build_t *build = tow_alloc(sizeof *build);

    build->kind = kind;
    build->database = tow_strdup(database);
    build->name = tow_strdup(name);
    build->collection = collection;
    DL_APPEND(copy->builds, build);
    copy->unique_left += kind == TOW_BUILD_UNIQUE;
    pthread_cond_broadcast(&copy->changed);
}

void tow_copy_queue_indexes(tow_copy_t *copy, tow_namespace_t *collection)
{
    pthread_mutex_lock(&copy->lock);
    queue(copy, TOW_BUILD_COPIED, collection->database, collection->name, collection);
    pthread_mutex_unlock(&copy->lock);
}

void tow_copy_make_alike(tow_copy_t *copy, const char *database, const char *name)
{
    tow_namespace_t *known = tow_namespaces_find(copy->options.namespaces, database, name);

    pthread_mutex_lock(&copy->lock);
    if (!is_queued(copy, TOW_BUILD_ALIKE, database, name))
        queue(copy, TOW_BUILD_ALIKE, database, name, known);
    pthread_mutex_unlock(&copy->lock);
}

void tow_copy_look(tow_copy_t *copy, bool whole)
{
    pthread_mutex_lock(&copy->lock);
    if (!copy->looking && tow_now_ms() >= copy->look_ms) {
        copy->looking = true;
        copy->look_whole = whole;
        atomic_store(&copy->look_ended, false);
        queue(copy, TOW_BUILD_LOOK, "", "", NULL);
    }
    pthread_mutex_unlock(&copy->lock);
}

void tow_copy_end_look(tow_copy_t *copy)
{
    atomic_store(&copy->look_ended, true);
}

bool tow_copy_build_unique(tow_copy_t *copy, tow_error_t *error)
{
    uint32_t count;
    tow_namespace_t **list;
    bool built;

    atomic_store(&copy->unique_built, true); /* before the list: no collection falls between */
    list = tow_namespaces_list(copy->options.namespaces, &count);
    pthread_mutex_lock(&copy->lock);
    for (uint32_t i = 0; i < count; i++)
        /* One that is copied again just now has them built when its copy ends. */
        if (list[i]->type == TOW_COLLECTION &&
            tow_namespaces_copied(copy->options.namespaces, list[i]))
            queue(copy, TOW_BUILD_UNIQUE, list[i]->database, list[i]->name, list[i]);
    free(list);
    /* These alone: under a source that goes on creating indexes the queue may never be empty. */
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

/* Holding ---------------------------------------------------------------------------------------*/

static bool is_held(const tow_copy_t *copy, const tow_build_t *build)
{
    const struct tow_hold *hold;

    DL_FOREACH(copy->holds, hold)
        if (is_of(hold->database, hold->name, build->database, build->name))
            return true;
    return false;
}

/* Somebody works on it, or waits for an index of it. */
static bool is_busy(const tow_copy_t *copy, const char *database, const char *name)
{
    const tow_running_t *running;

    for (uint32_t i = 0; i < copy->options.index_workers; i++) {
        const tow_build_t *build = copy->index_workers[i].build;

        if (build && is_of(database, name, build->database, build->name))
            return true;
    }
    DL_FOREACH(copy->running, running)
        if (is_of(database, name, running->database, running->name))
            return true;
    return false;
}

/* dropIndexes of exactly what one command builds ends it at once. *out_command is the caller's, and
 * empty when nothing is under way. */
static void describe_abort(tow_copy_t *copy, const char *database, const char *name,
                           bson_t *out_command)
{
    const tow_running_t *running;
    bson_t list;

    bson_init(out_command);
    pthread_mutex_lock(&copy->lock);
    DL_FOREACH(copy->running, running)
        if (is_of(database, name, running->database, running->name))
            break;
    if (running) {
        bson_append_utf8(out_command, "dropIndexes", -1, running->name, -1);
        bson_append_array_begin(out_command, "index", -1, &list);
        for (uint32_t i = 0; i < running->count; i++) {
            char buffer[16];
            const char *key;

            bson_uint32_to_string(i, &key, buffer, sizeof buffer);
            bson_append_utf8(&list, key, -1, tow_index_name(&running->items[i]), -1);
        }
        bson_append_array_end(out_command, &list);
    }
    pthread_mutex_unlock(&copy->lock);
}

/* Whatever it answers: the build may have ended by itself, or not have begun. */
static void abort_build(tow_copy_t *copy, tow_conn_t *destination, const char *database,
                        const char *name)
{
    tow_send_options_t send = {.flags = TOW_SEND_WRITE};
    bson_t command, reply;
    tow_error_t ignored;
    bool sent;

    describe_abort(copy, database, name, &command);
    if (!bson_empty(&command)) {
        sent = tow_conn_command(destination, database, &command, &send, &reply, &ignored);
        (void)sent;
        bson_destroy(&reply);
    }
    bson_destroy(&command);
}

bool tow_copy_hold(tow_copy_t *copy, const char *database, const char *name, tow_error_t *error)
{
    struct tow_hold *hold = tow_alloc(sizeof *hold);
    tow_conn_t *destination = NULL;
    int64_t abort_ms = 0;
    bool told = false, ended;

    hold->database = tow_strdup(database);
    hold->name = name ? tow_strdup(name) : NULL;
    pthread_mutex_lock(&copy->lock);
    DL_APPEND(copy->holds, hold);
    while (is_busy(copy, database, name) && !tow_copy_ended(copy)) {
        if (tow_now_ms() >= abort_ms) {
            pthread_mutex_unlock(&copy->lock);
            if (!told)
                tow_emit(
                    &copy->options.sink, TOW_LEVEL_INFO, "build_ended",
                    "%s%s%s: a change of the source's catalog comes first; the destination's index "
                    "builds of it end and begin again",
                    database, name ? "." : "", name ? name : "");
            told = true;
            if (tow_takes(copy->options.destination).aborts) {
                if (!destination)
                    destination = tow_conn_open(copy->options.destination);
                abort_build(copy, destination, database, name);
            }
            abort_ms = tow_now_ms() + ABORT_MS;
            pthread_mutex_lock(&copy->lock);
        } else {
            tow_condition_wait(&copy->changed, &copy->lock, abort_ms);
        }
    }
    pthread_mutex_unlock(&copy->lock);
    tow_conn_close(destination);
    ended = tow_copy_ended(copy);
    if (ended && !tow_stop_error(copy->options.stop, error))
        tow_fail(error, TOW_ERROR_INTERRUPTED, "stopped");
    return !ended;
}

void tow_copy_release(tow_copy_t *copy, const char *database, const char *name, bool again)
{
    struct tow_hold *hold, *next;

    if (again && name)
        tow_copy_make_alike(copy, database, name);
    pthread_mutex_lock(&copy->lock);
    DL_FOREACH_SAFE(copy->holds, hold, next) {
        if (strcmp(hold->database, database) != 0 || !hold->name != !name ||
            (name && strcmp(hold->name, name) != 0))
            continue;
        DL_DELETE(copy->holds, hold);
        free(hold->database);
        free(hold->name);
        free(hold);
    }
    pthread_cond_broadcast(&copy->changed);
    pthread_mutex_unlock(&copy->lock);
}

/* Working ---------------------------------------------------------------------------------------*/

/* All non-unique indexes of a collection whose copy has ended; the unique ones too, once the
 * others' are there. */
static bool build_copied(tow_worker_t *worker, const tow_build_t *build, tow_error_t *error)
{
    tow_copy_t *copy = worker->copy;
    bson_t fields = BSON_INITIALIZER;
    bool ok = tow_copy_build_kind(worker, build, false, error);

    if (ok && atomic_load(&copy->unique_built) && !atomic_load(&build->collection->stale))
        ok = tow_copy_build_kind(worker, build, true, error);
    bson_append_bool(&fields, "copied", -1, true);
    bson_append_bool(&fields, "indexed", -1, true);
    ok = ok &&
         (atomic_load(&build->collection->stale) ||
          tow_store_set_collection(copy->options.store, build->collection->ns, &fields, error));
    bson_destroy(&fields);
    return ok;
}

/* What the destination refuses is tried again in the cutover, which then says so. */
static bool make_alike(tow_worker_t *worker, tow_build_t *build, tow_error_t *error)
{
    tow_copy_t *copy = worker->copy;
    bool again = false, found;

    if (!tow_copy_alike(worker, build->database, build->name, &again, error)) {
        if (tow_copy_ended(copy) || error->code == TOW_ERROR_INDEX ||
            error->code == TOW_ERROR_LEASE || error->retry != TOW_RETRY_NEVER)
            return false;
        tow_emit(&copy->options.sink, TOW_LEVEL_WARNING, "reconcile_failed", "%s.%s: %s",
                 build->database, build->name, error->message);
        return true;
    }
    if (!again)
        return true;
    /* Whoever copies it again waits until nobody works on it. */
    pthread_mutex_lock(&copy->lock);
    worker->current = NULL;
    worker->build = NULL;
    pthread_cond_broadcast(&copy->changed);
    pthread_mutex_unlock(&copy->lock);
    return tow_copy_again(copy, build->database, build->name, &found, error);
}

static void look(tow_worker_t *worker)
{
    tow_copy_t *copy = worker->copy;
    int64_t began_ms = tow_now_ms(), took_ms, next_ms;
    tow_error_t error;
    bool whole;

    pthread_mutex_lock(&copy->lock);
    whole = copy->look_whole;
    pthread_mutex_unlock(&copy->lock);
    next_ms = whole ? LOOK_MS : VIEWS_MS;
    if (!tow_copy_look_around(worker, whole, &error) && !tow_copy_ended(copy))
        tow_emit(&copy->options.sink, TOW_LEVEL_WARNING, "look_failed",
                 "the catalogs could not be compared, which is tried again: %s", error.message);
    took_ms = tow_now_ms() - began_ms;
    pthread_mutex_lock(&copy->lock);
    copy->looking = false;
    copy->look_ms = began_ms + (took_ms > next_ms / LOOK_PART ? took_ms * LOOK_PART : next_ms);
    pthread_mutex_unlock(&copy->lock);
}

/* A collection that was dropped must not come back by its indexes. */
static bool run_build(tow_worker_t *worker, tow_build_t *build, tow_error_t *error)
{
    if (build->kind == TOW_BUILD_LOOK) {
        look(worker);
        return true;
    }
    if (build->collection && atomic_load(&build->collection->stale))
        return true;
    switch (build->kind) {
    case TOW_BUILD_COPIED:
        return build_copied(worker, build, error);
    case TOW_BUILD_UNIQUE:
        return tow_copy_build_kind(worker, build, true, error);
    default:
        return make_alike(worker, build, error);
    }
}

/* The first that nothing stands in the way of. */
static tow_build_t *next_build(const tow_copy_t *copy)
{
    tow_build_t *build;

    DL_FOREACH(copy->builds, build)
        if (build->kind == TOW_BUILD_LOOK ||
            (!is_held(copy, build) && !is_busy(copy, build->database, build->name)))
            return build;
    return NULL;
}

void *tow_copy_index_worker(void *data)
{
    tow_worker_t *worker = data;
    tow_copy_t *copy = worker->copy;

    pthread_mutex_lock(&copy->lock);
    while (!tow_copy_ended(copy)) {
        tow_build_t *build = next_build(copy);
        tow_error_t error;

        if (!build) {
            tow_copy_wait_changed(copy);
            continue;
        }
        DL_DELETE(copy->builds, build);
        copy->building++;
        worker->current = build->collection;
        worker->build = build;
        pthread_mutex_unlock(&copy->lock);
        if (!run_build(worker, build, &error))
            tow_copy_fail(copy, &error);
        pthread_mutex_lock(&copy->lock);
        copy->unique_left -= build->kind == TOW_BUILD_UNIQUE;
        worker->current = NULL;
        worker->build = NULL;
        tow_build_free(build);
        copy->building--;
        pthread_cond_broadcast(&copy->changed);
    }
    pthread_mutex_unlock(&copy->lock);
    return NULL;
}
