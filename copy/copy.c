/* copy.c: the life of the copy: preparing, restoring, copying a collection again, waiting. */
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "copy/internal.h"
#include "engine/base/clock.h"
#include "engine/link/codes.h"
#include "engine/link/reply.h"

tow_copy_t *tow_copy_new(const tow_copy_options_t *options)
{
    tow_copy_t *copy = tow_alloc(sizeof *copy);

    copy->options = *options;
    copy->workers = tow_alloc(options->workers * sizeof *copy->workers);
    copy->inserters = tow_alloc(options->workers * sizeof *copy->inserters);
    copy->index_workers = tow_alloc(options->index_workers * sizeof *copy->index_workers);
    pthread_mutex_init(&copy->again, NULL);
    pthread_mutex_init(&copy->claiming, NULL);
    pthread_mutex_init(&copy->lock, NULL);
    tow_condition_init(&copy->changed);
    tow_stop_watch(options->stop, &copy->lock, &copy->changed);
    return copy;
}

static void join_workers(tow_worker_t *workers, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        tow_thread_join(&workers[i].thread);
}

static void end_workers(tow_worker_t *workers, uint32_t count)
{
    join_workers(workers, count);
    for (uint32_t i = 0; i < count; i++) {
        tow_conn_close(workers[i].source);
        tow_conn_close(workers[i].destination);
    }
    free(workers);
}

void tow_copy_end(tow_copy_t *copy)
{
    atomic_store(&copy->ended, true);
    pthread_mutex_lock(&copy->lock);
    pthread_cond_broadcast(&copy->changed);
    pthread_mutex_unlock(&copy->lock);
    join_workers(copy->workers, copy->options.workers);
    join_workers(copy->inserters, copy->options.workers);
}

void tow_copy_destroy(tow_copy_t *copy)
{
    if (!copy)
        return;
    tow_copy_end(copy);
    end_workers(copy->workers, copy->options.workers);
    end_workers(copy->inserters, copy->options.workers);
    end_workers(copy->index_workers, copy->options.index_workers);
    while (copy->tasks) {
        tow_task_t *task = copy->tasks;

        DL_DELETE(copy->tasks, task);
        free(task);
    }
    while (copy->builds) {
        tow_build_t *build = copy->builds;

        DL_DELETE(copy->builds, build);
        tow_build_free(build);
    }
    tow_copy_index_failures_free(copy->failures, copy->failure_count);
    tow_copy_forget_ttl(copy);
    tow_stop_unwatch(copy->options.stop, &copy->changed);
    pthread_cond_destroy(&copy->changed);
    pthread_mutex_destroy(&copy->lock);
    pthread_mutex_destroy(&copy->again);
    pthread_mutex_destroy(&copy->claiming);
    free(copy);
}

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
    pthread_mutex_lock(&copy->lock);
    DL_APPEND(copy->tasks, task);
    pthread_cond_broadcast(&copy->changed);
    pthread_mutex_unlock(&copy->lock);
}

/* Creates, plans and records one collection, and queues its ranges. */
static bool begin_collection(tow_copy_t *copy, tow_conn_t *source, tow_conn_t *destination,
                             const tow_collection_info_t *info, tow_optime_t read_time,
                             const tow_collection_stats_t *stats, tow_error_t *error)
{
    tow_namespaces_t *table = copy->options.namespaces;
    tow_namespace_t *collection;
    tow_range_t *ranges;
    uint32_t count;

    if (!tow_copy_make(copy, destination, info, error) ||
        (copy->options.indexes_first &&
         !tow_copy_build_early(copy, source, destination, info, error)) ||
        !tow_copy_plan(copy, source, info, stats, &ranges, &count, error))
        return false;
    if (!tow_store_put_collection(copy->options.store, info, read_time, ranges, count, error)) {
        for (uint32_t i = 0; i < count; i++)
            tow_range_clear(&ranges[i]);
        free(ranges);
        return false;
    }
    collection = tow_namespaces_add(table, info, read_time);
    tow_namespaces_set_estimate(table, collection, stats->documents, stats->bytes);
    tow_namespaces_set_ranges(table, collection, ranges, count);
    for (uint32_t i = 0; i < count; i++)
        tow_copy_queue(copy, collection, i);
    return true;
}

typedef struct {
    tow_conn_t *source, *destination;
} conns_t;

static void open_conns(tow_copy_t *copy, conns_t *out)
{
    out->source = tow_conn_open(copy->options.source);
    out->destination = tow_conn_open(copy->options.destination);
}

static void close_conns(conns_t *conns)
{
    tow_conn_close(conns->source);
    tow_conn_close(conns->destination);
}

static bool check_supported(const tow_copy_t *copy, const tow_catalog_t *catalog,
                            tow_error_t *error)
{
    for (size_t i = 0; i < catalog->count; i++) {
        const tow_collection_info_t *info = &catalog->items[i];

        if (!tow_kind_is_supported(info->type) &&
            tow_filter_takes(copy->options.filter, info->database, info->name))
            return tow_fail(
                error, TOW_ERROR_UNSUITABLE,
                "%s is a time-series collection, or of a kind that this version does not "
                "know, and cannot be followed; leave it out with --exclude %s",
                info->ns, info->ns);
    }
    return true;
}

bool tow_copy_prepare(tow_copy_t *copy, tow_copy_size_fn known, const void *data,
                      tow_error_t *error)
{
    conns_t conns = {0};
    tow_catalog_t catalog = {0};
    const char **names;
    size_t count = 0;
    /* Known before the catalog is read: every DDL event up to it is reflected there. */
    tow_optime_t read_time = tow_link_time(copy->options.source);
    bool ok;

    open_conns(copy, &conns);
    ok = tow_catalog_read(conns.source, NULL, &catalog, error) &&
         check_supported(copy, &catalog, error) &&
         tow_copy_forget_gone(copy, conns.destination, &catalog, error);

    /* All claims in one message: each alone would cost a write more for every collection. */
    names = tow_alloc((catalog.count + 1) * sizeof *names);
    for (size_t i = 0; i < catalog.count; i++)
        if (catalog.items[i].type == TOW_COLLECTION &&
            tow_filter_takes(copy->options.filter, catalog.items[i].database,
                             catalog.items[i].name))
            names[count++] = catalog.items[i].ns;
    ok =
        ok && (!copy->options.claims || tow_claims_mean(copy->options.claims, names, count, error));
    free(names);
    for (size_t i = 0; ok && i < catalog.count; i++) {
        const tow_collection_info_t *info = &catalog.items[i];
        tow_collection_stats_t stats;

        if (info->type == TOW_COLLECTION &&
            tow_filter_takes(copy->options.filter, info->database, info->name))
            ok = ((known && known(data, info->ns, &stats)) ||
                  tow_collection_stats(conns.source, info->database, info->name, &stats, error)) &&
                 begin_collection(copy, conns.source, conns.destination, info, read_time, &stats,
                                  error);
    }
    /* They hold nothing: one that the destination refuses is better known now than
     * in the cutover. */
    ok = ok && tow_copy_make_views(copy, conns.source, conns.destination, &catalog, error);
    tow_catalog_clear(&catalog);
    close_conns(&conns);
    return ok;
}

/* Restart ---------------------------------------------------------------------------------------*/

typedef struct {
    tow_copy_t *copy;
    conns_t conns;
} restoring_t;

static const char *text_of(const bson_t *document, const char *name)
{
    const char *text = "";

    tow_field_text(document, name, &text);
    return text;
}

static bool is_true(const bson_t *document, const char *name)
{
    bson_iter_t iter;

    return bson_iter_init_find(&iter, document, name) && bson_iter_as_bool(&iter);
}

/* The collection's entry as it was recorded. */
static void parse_info(const bson_t *document, tow_collection_info_t *out,
                       tow_optime_t *out_read_time)
{
    const char *locale;
    bson_iter_t iter;
    bson_t options;

    *out = (tow_collection_info_t){.database = tow_strdup(text_of(document, "db")),
                                   .name = tow_strdup(text_of(document, "name")),
                                   .ns = tow_strdup(text_of(document, "_id"))};
    bson_init(&out->options);
    if (bson_iter_init_find(&iter, document, "options") && tow_store_read_packed(&iter, &options))
        bson_concat(&out->options, &options);
    if (bson_iter_init_find(&iter, document, "uuid") && BSON_ITER_HOLDS_BINARY(&iter)) {
        const uint8_t *uuid;
        uint32_t length;

        bson_iter_binary(&iter, NULL, &length, &uuid);
        if (length == sizeof out->uuid)
            memcpy(out->uuid, uuid, length);
    }
    out->capped = is_true(&out->options, "capped");
    out->clustered = bson_has_field(&out->options, "clusteredIndex");
    out->collated =
        tow_field_text(&out->options, "collation.locale", &locale) && strcmp(locale, "simple") != 0;
    *out_read_time = 0;
    if (bson_iter_init_find(&iter, document, "readTime"))
        tow_iter_time(&iter, out_read_time);
}

static bool restore_collection(void *data, const bson_t *document, tow_range_t *ranges,
                               uint32_t count, tow_error_t *error)
{
    restoring_t *restoring = data;
    tow_copy_t *copy = restoring->copy;
    tow_namespaces_t *table = copy->options.namespaces;
    tow_namespace_t *collection;
    tow_collection_info_t info;
    tow_collection_stats_t stats;
    tow_optime_t read_time;
    tow_range_t *own;
    bool ok, found, done = true;

    parse_info(document, &info, &read_time);
    if (!count) {
        /* Its record was cut off: as good as none. */
        ok = tow_copy_again(copy, info.database, info.name, &found, error);
        tow_collection_info_clear(&info);
        return ok;
    }
    own = tow_alloc(count * sizeof *own);
    memcpy(own, ranges, count * sizeof *own);
    ok = tow_collection_stats(restoring->conns.source, info.database, info.name, &stats, error);
    collection = tow_namespaces_add(table, &info, read_time);
    if (ok)
        tow_namespaces_set_estimate(table, collection, stats.documents, stats.bytes);
    tow_namespaces_set_ranges(table, collection, own, count);
    for (uint32_t i = 0; i < count; i++) {
        if (own[i].state == TOW_RANGE_DONE) {
            atomic_fetch_add(&copy->documents, own[i].documents);
            atomic_fetch_add(&copy->bytes, own[i].bytes);
        } else {
            done = false;
            tow_copy_queue(copy, collection, i);
        }
    }
    if (done && !is_true(document, "indexed"))
        tow_copy_queue_indexes(copy, collection);
    tow_collection_info_clear(&info);
    return ok;
}

bool tow_copy_restore(tow_copy_t *copy, tow_error_t *error)
{
    restoring_t restoring = {.copy = copy};
    bool ok;

    open_conns(copy, &restoring.conns);
    ok = tow_store_each_collection(copy->options.store, restore_collection, &restoring, error);

    close_conns(&restoring.conns);
    return ok;
}

/* Once more -------------------------------------------------------------------------------------*/

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
static void wait_for(tow_copy_t *copy, const tow_worker_t *workers, uint32_t count,
                     const tow_namespace_t *collection)
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
    pthread_mutex_lock(&copy->lock);
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
    pthread_mutex_unlock(&copy->lock);
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
    pthread_mutex_lock(&copy->lock);
    wait_for(copy, copy->index_workers, copy->options.index_workers, collection);
    pthread_mutex_unlock(&copy->lock);
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
    conns_t conns = {0};
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
    open_conns(copy, &conns);
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
                 begin_collection(copy, conns.source, conns.destination, &info, read_time, &stats,
                                  error);
        tow_collection_info_clear(&info);
    }
    if (!ok || !begun)
        tow_namespaces_drop(copy->options.namespaces, planned);
    if (ok && !begun)
        ok = tow_store_remove_collection(copy->options.store, ns, error);
    pthread_mutex_unlock(&copy->again);
    pthread_mutex_lock(&copy->lock);
    atomic_fetch_sub(&copy->unfinished, 1);
    pthread_cond_broadcast(&copy->changed);
    pthread_mutex_unlock(&copy->lock);
    close_conns(&conns);
    free(ns);
    return ok;
}

/* Running ---------------------------------------------------------------------------------------*/

static bool start_workers(tow_copy_t *copy, tow_worker_t *workers, uint32_t count, const char *name,
                          void *(*run)(void *), tow_error_t *error)
{
    for (uint32_t i = 0; i < count; i++) {
        tow_worker_t *worker = &workers[i];

        worker->copy = copy;
        worker->source = tow_conn_open(copy->options.source);
        worker->destination = tow_conn_open(copy->options.destination);
        if (!tow_thread_start(&worker->thread, name, run, worker, error))
            return false;
    }
    return true;
}

bool tow_copy_start(tow_copy_t *copy, tow_error_t *error)
{
    if (copy->started)
        return true;
    copy->started = true;
    return start_workers(copy, copy->inserters, copy->options.workers, "insert", tow_copy_inserter,
                         error) &&
           start_workers(copy, copy->workers, copy->options.workers, "copy", tow_copy_worker,
                         error) &&
           start_workers(copy, copy->index_workers, copy->options.index_workers, "index",
                         tow_copy_index_worker, error);
}

void tow_copy_pause(tow_copy_t *copy, bool paused)
{
    pthread_mutex_lock(&copy->lock);
    copy->paused = paused;
    pthread_cond_broadcast(&copy->changed);
    pthread_mutex_unlock(&copy->lock);
}

bool tow_copy_finished(tow_copy_t *copy)
{
    return atomic_load(&copy->unfinished) == 0;
}

bool tow_copy_indexes_idle(tow_copy_t *copy)
{
    bool idle;

    pthread_mutex_lock(&copy->lock);
    idle = !copy->builds && !copy->building;
    pthread_mutex_unlock(&copy->lock);
    return idle;
}

static bool wait_until(tow_copy_t *copy, bool ranges)
{
    bool done = false;

    pthread_mutex_lock(&copy->lock);
    while (!done && !tow_stop_requested(copy->options.stop)) {
        done = (!ranges || tow_copy_finished(copy)) && !copy->builds && !copy->building;
        if (!done)
            tow_copy_wait_changed(copy);
    }
    pthread_mutex_unlock(&copy->lock);
    return done;
}

bool tow_copy_wait(tow_copy_t *copy)
{
    return wait_until(copy, true);
}

bool tow_copy_index_wait(tow_copy_t *copy)
{
    return wait_until(copy, false);
}

void tow_copy_progress(tow_copy_t *copy, tow_copy_progress_t *out)
{
    tow_progress_t table = {0};

    tow_namespaces_progress(copy->options.namespaces, &table);
    *out = (tow_copy_progress_t){.documents = atomic_load(&copy->documents),
                                 .bytes = atomic_load(&copy->bytes),
                                 .collections = table.collections_total,
                                 .collections_done = table.collections_copied,
                                 .ranges = table.ranges_total,
                                 .ranges_done = table.ranges_copied,
                                 .indexes = atomic_load(&copy->indexes),
                                 .indexes_built = atomic_load(&copy->indexes_built)};
}
