/* SPDX-License-Identifier: Apache-2.0 */
/* again.c: copies a collection once more: takes it from the workers, drops it, begins it anew. */
#include <stdlib.h>
#include <utlist.h>

#include "copy/internal.h"
#include "engine/link/codes.h"

/* What was copied of it does not count any more. */
static void uncount(tow_copy_t *copy, tow_namespace_t *collection)
{
    for (uint32_t i = 0; i < collection->range_count; i++) {
        tow_range_t range = tow_namespaces_range(copy->options.namespaces, collection, i);

        if (range.state != TOW_RANGE_DONE)
            continue;
        atomic_fetch_sub(&copy->documents, range.documents);
        atomic_fetch_sub(&copy->bytes, range.bytes);
    }
}

/* Waits until none of the workers is at a collection; the lock is held. */
static TOW_REQUIRES(tow_copy) void wait_for(tow_copy_t *copy, const tow_worker_t *workers,
                                            uint32_t count, const tow_namespace_t *collection)
{
    bool busy = true;

    while (busy) {
        busy = false;
        for (uint32_t i = 0; i < count; i++)
            busy = busy || workers[i].current == collection;
        if (busy)
            tow_copy_wait_changed(copy);
    }
}

/* Takes a collection away from the workers. When this returns no range of it is written any more,
 * and no index build of it begins; one that runs may last hours, and ends with the collection. */
static void withdraw(tow_copy_t *copy, tow_namespace_t *collection)
{
    tow_task_t *task, *next;
    tow_build_t *build, *next_build;

    atomic_store(&collection->stale, true);
    tow_copy_lock(copy);
    DL_FOREACH_SAFE(copy->tasks, task, next) {
        if (task->collection != collection)
            continue;
        DL_DELETE(copy->tasks, task);
        free(task);
        atomic_fetch_sub(&copy->unfinished, 1);
    }
    DL_FOREACH_SAFE(copy->builds, build, next_build) {
        if (build->collection != collection)
            continue;
        DL_DELETE(copy->builds, build);
        copy->unique_left -= build->kind == TOW_BUILD_UNIQUE;
        tow_build_free(build);
    }
    pthread_cond_broadcast(&copy->changed); /* stale, and fewer unfinished */
    wait_for(copy, copy->workers, copy->options.workers, collection);
    tow_copy_unlock(copy);
    uncount(copy, collection);
}

/* Stands for a collection until its ranges are known, so that an event on it finds it in the table:
 * one that nobody knows would be added as new, in the place of the one that is to be copied. */
static tow_namespace_t *announce(tow_copy_t *copy, const tow_namespace_t *old, const char *database,
                                 const char *name)
{
    tow_collection_info_t info = {.database = (char *)database,
                                  .name = (char *)name,
                                  .capped = old && old->capped,
                                  .collated = old && old->collated};
    tow_namespace_t *planned;

    bson_init(&info.options);
    planned = tow_namespaces_add(copy->options.namespaces, &info, 0);
    bson_destroy(&info.options);
    return planned;
}

/* The collection's record without ranges: a restart that finds it copies the collection again. It
 * stands before the destination's collection is dropped, so that no crash leaves ranges that count
 * as done and have no documents. */
static bool record_again(tow_copy_t *copy, const char *database, const char *name,
                         tow_error_t *error)
{
    tow_collection_info_t info = {.database = tow_strdup(database),
                                  .name = tow_strdup(name),
                                  .ns = tow_format("%s.%s", database, name)};
    bool ok;

    bson_init(&info.options);
    ok = tow_store_put_collection(copy->options.store, &info, 0, NULL, 0, error);
    tow_collection_info_clear(&info);
    return ok;
}

/* Drops a withdrawn collection. The first drop ends the index builds that run; one that was sent
 * just after it has made the collection again, so that it is dropped once more: what has the name
 * in these moments came of the job's own commands. Asking whose it is does not help: what a build
 * made has no identity that the records know, and a job that took it for somebody else's would end
 * for good. */
static bool drop_withdrawn(tow_copy_t *copy, tow_conn_t *destination,
                           const tow_namespace_t *collection, tow_error_t *error)
{
    tow_whose_t whose;
    bool ok;

    if (!tow_copy_whose_to_drop(copy, destination, collection->database, collection->name, &whose,
                                error))
        return false;
    if (whose == TOW_WHOSE_FOREIGN)
        return tow_copy_fail_foreign(collection->ns, error);
    if (!tow_copy_drop(destination, collection->database, collection->name, error) &&
        error->server_code != TOW_CODE_BACKGROUND_OPERATION_IN_PROGRESS_FOR_NAMESPACE)
        return false;
    tow_copy_lock(copy);
    wait_for(copy, copy->index_workers, copy->options.index_workers, collection);
    tow_copy_unlock(copy);
    pthread_mutex_lock(&copy->claiming);
    ok =
        tow_copy_drop_ours(copy, destination, collection->database, collection->name, false, error);
    pthread_mutex_unlock(&copy->claiming);
    return ok;
}

/* What has the name on the destination, which no worker is at. */
static bool drop_unknown(tow_copy_t *copy, tow_conn_t *destination, const char *database,
                         const char *name, const char *ns, tow_error_t *error)
{
    tow_whose_t whose;

    return tow_copy_unmake(copy, destination, database, name, &whose, error) &&
           (whose != TOW_WHOSE_FOREIGN || tow_copy_fail_foreign(ns, error));
}

bool tow_copy_again(tow_copy_t *copy, const char *database, const char *name, bool *out_found,
                    tow_error_t *error)
{
    char *ns = tow_format("%s.%s", database, name);
    tow_copy_conns_t conns = {0};
    tow_collection_info_t info;
    tow_collection_stats_t stats;
    tow_optime_t read_time;
    tow_namespace_t *old, *planned;
    bool ok, begun = false;

    *out_found = false;
    atomic_fetch_add(&copy->unfinished, 1); /* lanes only collect keys meanwhile */
    if (copy->options.await_lanes)
        copy->options.await_lanes(copy->options.data);
    pthread_mutex_lock(&copy->again);
    old = tow_namespaces_find(copy->options.namespaces, database, name);
    if (old)
        withdraw(copy, old);
    planned = announce(copy, old, database, name);
    tow_copy_connect(copy, &conns);
    ok = record_again(copy, database, name, error) &&
         (old ? drop_withdrawn(copy, conns.destination, old, error)
              : drop_unknown(copy, conns.destination, database, name, ns, error));
    read_time = tow_link_time(copy->options.source);
    ok = ok && tow_catalog_find(conns.source, database, name, &info, out_found, error);
    if (ok && *out_found) {
        begun =
            info.type == TOW_COLLECTION && tow_filter_takes(copy->options.filter, database, name);
        if (begun)
            ok = tow_collection_stats(conns.source, database, name, &stats, error) &&
                 tow_copy_begin(copy, conns.source, conns.destination, &info, read_time, &stats,
                                error);
        tow_collection_info_clear(&info);
    }
    if (!ok || !begun)
        tow_namespaces_drop(copy->options.namespaces, planned);
    if (ok && !begun)
        ok = tow_store_remove_collection(copy->options.store, ns, error);
    pthread_mutex_unlock(&copy->again);
    tow_copy_lock(copy);
    atomic_fetch_sub(&copy->unfinished, 1);
    pthread_cond_broadcast(&copy->changed);
    tow_copy_unlock(copy);
    tow_copy_disconnect(&conns);
    free(ns);
    return ok;
}
