/* SPDX-License-Identifier: Apache-2.0 */
/* builds.c: the workers that build indexes and make collections alike in the background.
 *
 * Of one collection only one entry of the queue is worked on at a time. */
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "copy/internal.h"
#include "engine/base/clock.h"

enum {
    LOOK_MS = 20000,  /* between two looks at the catalogs; and no more than a tenth of the time
                         looks last */
    VIEWS_MS = 60000, /* where events tell of indexes and options, but of no views */
    LOOK_PART = 10
};

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
    tow_copy_lock(copy);
    worker->current = NULL;
    worker->build = NULL;
    pthread_cond_broadcast(&copy->changed);
    tow_copy_unlock(copy);
    return tow_copy_again(copy, build->database, build->name, &found, error);
}

static void look(tow_worker_t *worker)
{
    tow_copy_t *copy = worker->copy;
    int64_t began_ms = tow_now_ms(), took_ms, next_ms;
    tow_error_t error;
    bool whole;

    tow_copy_lock(copy);
    whole = copy->look_whole;
    tow_copy_unlock(copy);
    next_ms = whole ? LOOK_MS : VIEWS_MS;
    if (!tow_copy_look_around(worker, whole, &error) && !tow_copy_ended(copy))
        tow_emit(&copy->options.sink, TOW_LEVEL_WARNING, "look_failed",
                 "the catalogs could not be compared, which is tried again: %s", error.message);
    took_ms = tow_now_ms() - began_ms;
    tow_copy_lock(copy);
    copy->looking = false;
    copy->look_ms = began_ms + (took_ms > next_ms / LOOK_PART ? took_ms * LOOK_PART : next_ms);
    tow_copy_unlock(copy);
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
static TOW_REQUIRES(tow_copy) tow_build_t *next_build(const tow_copy_t *copy)
{
    tow_build_t *build;

    DL_FOREACH(copy->builds, build)
        if (build->kind == TOW_BUILD_LOOK ||
            (!tow_copy_is_held(copy, build) &&
             !tow_copy_is_busy(copy, build->database, build->name)))
            return build;
    return NULL;
}

void *tow_copy_index_worker(void *data)
{
    tow_worker_t *worker = data;
    tow_copy_t *copy = worker->copy;

    tow_copy_lock(copy);
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
        tow_copy_unlock(copy);
        if (!run_build(worker, build, &error))
            tow_copy_fail(copy, &error);
        tow_copy_lock(copy);
        copy->unique_left -= build->kind == TOW_BUILD_UNIQUE;
        worker->current = NULL;
        worker->build = NULL;
        tow_build_free(build);
        copy->building--;
        pthread_cond_broadcast(&copy->changed);
    }
    tow_copy_unlock(copy);
    return NULL;
}
