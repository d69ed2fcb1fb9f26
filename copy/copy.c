/* SPDX-License-Identifier: Apache-2.0 */
/* copy.c: the life of the copy: its threads, pausing, waiting, progress. */
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
    tow_copy_lock(copy);
    pthread_cond_broadcast(&copy->changed);
    tow_copy_unlock(copy);
    join_workers(copy->workers, copy->options.workers);
    join_workers(copy->inserters, copy->options.workers);
}

TOW_UNSHARED void tow_copy_destroy(tow_copy_t *copy)
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
    tow_copy_lock(copy);
    copy->paused = paused;
    pthread_cond_broadcast(&copy->changed);
    tow_copy_unlock(copy);
}

bool tow_copy_finished(tow_copy_t *copy)
{
    return atomic_load(&copy->unfinished) == 0;
}

bool tow_copy_indexes_idle(tow_copy_t *copy)
{
    bool idle;

    tow_copy_lock(copy);
    idle = !copy->builds && !copy->building;
    tow_copy_unlock(copy);
    return idle;
}

static bool wait_until(tow_copy_t *copy, bool ranges)
{
    bool done = false;

    tow_copy_lock(copy);
    while (!done && !tow_stop_requested(copy->options.stop)) {
        done = (!ranges || tow_copy_finished(copy)) && !copy->builds && !copy->building;
        if (!done)
            tow_copy_wait_changed(copy);
    }
    tow_copy_unlock(copy);
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
