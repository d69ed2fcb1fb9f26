/* SPDX-License-Identifier: Apache-2.0 */
/* queue.c: what the workers are to do, ranges and builds, and how they wait for it.
 *
 * An entry of the builds says what to look at, not what to do: whoever takes it reads the source's
 * listing then. So it does not matter how many events came between, nor in which order: an index
 * that was dropped meanwhile is not built. */
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "copy/internal.h"
#include "engine/base/clock.h"

void tow_copy_wait_changed(tow_copy_t *copy)
{
    pthread_cond_wait(&copy->changed, &copy->lock);
}

void tow_copy_fail(tow_copy_t *copy, const tow_error_t *error)
{
    if (!tow_stop_requested(copy->options.stop))
        tow_stop_request(copy->options.stop, error);
}

bool tow_copy_ended(const tow_copy_t *copy)
{
    return atomic_load(&copy->ended) || tow_stop_requested(copy->options.stop);
}

void tow_copy_queue(tow_copy_t *copy, tow_namespace_t *collection, uint32_t range)
{
    tow_task_t *task = tow_alloc(sizeof *task);

    task->collection = collection;
    task->range = range;
    atomic_fetch_add(&copy->unfinished, 1);
    tow_copy_lock(copy);
    DL_APPEND(copy->tasks, task);
    pthread_cond_broadcast(&copy->changed);
    tow_copy_unlock(copy);
}

/* Builds ----------------------------------------------------------------------------------------*/

void tow_build_free(tow_build_t *build)
{
    free(build->database);
    free(build->name);
    free(build);
}

bool tow_build_is_of(const tow_build_t *build, const char *database, const char *name)
{
    return !strcmp(database, build->database) && (!name || !strcmp(name, build->name));
}

/* The lock is held, here and in queue(). */
static TOW_REQUIRES(tow_copy) bool is_queued(const tow_copy_t *copy, tow_build_kind_t kind,
                                             const char *database, const char *name)
{
    const tow_build_t *build;

    DL_FOREACH(copy->builds, build)
        if (build->kind == kind && tow_build_is_of(build, database, name))
            return true;
    return false;
}

static TOW_REQUIRES(tow_copy) void queue(tow_copy_t *copy, tow_build_kind_t kind,
                                         const char *database, const char *name,
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
    tow_copy_lock(copy);
    queue(copy, TOW_BUILD_COPIED, collection->database, collection->name, collection);
    tow_copy_unlock(copy);
}

void tow_copy_make_alike(tow_copy_t *copy, const char *database, const char *name)
{
    tow_namespace_t *known = tow_namespaces_find(copy->options.namespaces, database, name);

    tow_copy_lock(copy);
    if (!is_queued(copy, TOW_BUILD_ALIKE, database, name))
        queue(copy, TOW_BUILD_ALIKE, database, name, known);
    tow_copy_unlock(copy);
}

void tow_copy_look(tow_copy_t *copy, bool whole)
{
    tow_copy_lock(copy);
    if (!copy->looking && tow_now_ms() >= copy->look_ms) {
        copy->looking = true;
        copy->look_whole = whole;
        atomic_store(&copy->look_ended, false);
        queue(copy, TOW_BUILD_LOOK, "", "", NULL);
    }
    tow_copy_unlock(copy);
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
    tow_copy_lock(copy);
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
    tow_copy_unlock(copy);
    if (built && !tow_stop_requested(copy->options.stop))
        return true;
    if (!tow_stop_error(copy->options.stop, error))
        tow_fail(error, TOW_ERROR_INTERRUPTED, "stopped while unique indexes were built");
    return false;
}
