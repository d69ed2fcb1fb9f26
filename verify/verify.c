/* SPDX-License-Identifier: Apache-2.0 */
/* verify.c: runs a comparison: reads both catalogs, hands out tasks to pairs of threads, reports.
 *
 * Tasks come in three kinds: every collection is prepared (options, indexes, estimates) before any
 * is split, so that the progress has a total; then ranges are compared, and a collection is split
 * into ranges only when none is waiting, so that there are never more ranges in memory than a few
 * collections have. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "engine/base/clock.h"
#include "verify/internal.h"

enum { WORKERS = 4, MAX_DIFFERENCES = 1000, RANGE_BYTES = 256 << 20, WHOLE_RANGES = 4 };

typedef enum { TASK_PREPARE, TASK_SPLIT, TASK_COMPARE, TASK_NONE } task_kind_t;

typedef struct {
    task_kind_t kind;
    tow_verify_item_t *item;
    tow_verify_unit_t *unit;
} task_t;

typedef struct {
    tow_verify_pair_t pair;
    tow_thread_t thread;
} worker_t;

static void end_run(tow_verify_run_t *run, const tow_error_t *error)
{
    pthread_mutex_lock(&run->lock);
    /* Threads that gave up because of the first error must not take its place. */
    if (!run->failed) {
        run->failed = true;
        run->error = *error;
    }
    atomic_store(&run->ended, true);
    pthread_cond_broadcast(&run->changed);
    pthread_mutex_unlock(&run->lock);
}

/* Called with the run's lock. */
static bool pick_task(tow_verify_run_t *run, task_t *out)
{
    if (run->next_prepare < run->item_count) {
        *out = (task_t){.kind = TASK_PREPARE, .item = &run->items[run->next_prepare++]};
    } else if (run->prepared < run->item_count || run->options->catalog_only) {
        return false;
    } else if (run->units) {
        *out = (task_t){.kind = TASK_COMPARE, .unit = run->units};
        run->units = out->unit->next;
    } else {
        while (run->next_split < run->item_count && !run->items[run->next_split].data)
            run->next_split++;
        if (run->next_split == run->item_count)
            return false;
        *out = (task_t){.kind = TASK_SPLIT, .item = &run->items[run->next_split++]};
    }
    return true;
}

/* Waits for something to do; TASK_NONE: nothing is left, or the run has ended. */
static task_t take_task(tow_verify_run_t *run)
{
    task_t task = {.kind = TASK_NONE};

    pthread_mutex_lock(&run->lock);
    while (!atomic_load(&run->ended) && !pick_task(run, &task) && run->busy)
        pthread_cond_wait(&run->changed, &run->lock);
    if (task.kind != TASK_NONE)
        run->busy++;
    pthread_mutex_unlock(&run->lock);
    return task;
}

static void finish_task(tow_verify_run_t *run, const task_t *task, tow_verify_unit_t *units)
{
    pthread_mutex_lock(&run->lock);
    run->busy--;
    if (task->kind == TASK_PREPARE)
        run->prepared++;
    while (units) {
        tow_verify_unit_t *next = units->next;

        units->next = run->units;
        run->units = units;
        units = next;
    }
    pthread_cond_broadcast(&run->changed);
    pthread_mutex_unlock(&run->lock);
}

static bool do_task(tow_verify_pair_t *pair, const task_t *task, tow_verify_unit_t **out_units,
                    tow_error_t *error)
{
    bool ok;

    switch (task->kind) {
    case TASK_PREPARE:
        return tow_verify_prepare(pair, task->item, error);
    case TASK_SPLIT:
        return tow_verify_split(pair, task->item, out_units, error);
    default:
        ok = tow_verify_unit_compare(pair, task->unit, error);
        tow_verify_unit_destroy(task->unit);
        return ok;
    }
}

static void *worker_main(void *data)
{
    worker_t *worker = data;
    tow_verify_run_t *run = worker->pair.run;

    for (;;) {
        task_t task = take_task(run);
        tow_verify_unit_t *units = NULL;
        tow_error_t error = {0};

        if (task.kind == TASK_NONE)
            return NULL;
        /* A stop must also end a run that has nothing to read, such as one of many views. */
        if (!do_task(&worker->pair, &task, &units, &error) ||
            !tow_side_goes_on(&worker->pair.sides[TOW_SOURCE], &error))
            end_run(run, &error);
        finish_task(run, &task, units);
    }
}

static bool run_workers(tow_verify_run_t *run, tow_error_t *error)
{
    uint32_t count = run->options->workers;
    worker_t *workers = tow_alloc(count * sizeof *workers);
    bool ok = true;

    for (uint32_t i = 0; ok && i < count; i++) {
        ok = tow_pair_init(&workers[i].pair, run, error) &&
             tow_thread_start(&workers[i].thread, "compare", worker_main, &workers[i], error);
    }
    if (!ok)
        end_run(run, error);
    for (uint32_t i = 0; i < count; i++) {
        tow_thread_join(&workers[i].thread);
        tow_pair_clear(&workers[i].pair);
    }
    free(workers);
    if (ok && run->failed)
        *error = run->error;
    return ok && !run->failed;
}

/*

 *
 *
 * * Catalogs --------------------------------------------------------------------------------------
 */

static int by_ns(const void *left, const void *right)
{
    const tow_collection_info_t *const *a = left, *const *b = right;

    return strcmp((*a)->ns, (*b)->ns);
}

/* What is on the destination alone and nobody means to compare: another job's state, and in a job
 * what it did not make. */
static bool is_aside(tow_verify_run_t *run, const tow_collection_info_t *info)
{
    tow_claims_t *claims = run->options->claims;

    if (tow_catalog_get(&run->source, info->ns))
        return false;
    for (size_t i = 0; i < run->state_count; i++)
        if (!strcmp(run->states[i], info->database))
            return true;
    return claims && tow_claims_of(claims, info->ns, info->uuid) == TOW_CLAIM_NONE;
}

/* The entries that the filter takes, sorted. */
static const tow_collection_info_t **select_entries(tow_verify_run_t *run,
                                                    const tow_catalog_t *catalog, bool destination,
                                                    size_t *out_count)
{
    const tow_collection_info_t **entries = tow_alloc((catalog->count + 1) * sizeof *entries);
    size_t count = 0;

    for (size_t i = 0; i < catalog->count; i++)
        if (tow_filter_takes(run->options->filter, catalog->items[i].database,
                             catalog->items[i].name) &&
            !(destination && is_aside(run, &catalog->items[i])))
            entries[count++] = &catalog->items[i];
    qsort(entries, count, sizeof *entries, by_ns);
    *out_count = count;
    return entries;
}

static void add_item(tow_verify_run_t *run, const char *database, const char *name, const char *ns,
                     const tow_collection_info_t *source, const tow_collection_info_t *destination)
{
    run->items[run->item_count++] = (tow_verify_item_t){.database = tow_strdup(database),
                                                        .name = tow_strdup(name),
                                                        .ns = tow_strdup(ns),
                                                        .source = source,
                                                        .destination = destination};
}

/* Those that neither catalog lists. */
static void add_expected(tow_verify_run_t *run)
{
    for (size_t i = 0; i < run->options->expected_count; i++) {
        const char *ns = run->options->expected[i], *dot = strchr(ns, '.');
        char *database;

        if (!dot || tow_catalog_get(&run->source, ns) || tow_catalog_get(&run->destination, ns))
            continue;
        database = tow_format("%.*s", (int)(dot - ns), ns);
        add_item(run, database, dot + 1, ns, NULL, NULL);
        free(database);
    }
}

static void join_catalogs(tow_verify_run_t *run)
{
    size_t source_count, destination_count, i = 0, j = 0;
    const tow_collection_info_t **source = select_entries(run, &run->source, false, &source_count);
    const tow_collection_info_t **destination =
        select_entries(run, &run->destination, true, &destination_count);

    run->items = tow_alloc((source_count + destination_count + run->options->expected_count + 1) *
                           sizeof *run->items);
    while (i < source_count || j < destination_count) {
        int order = i == source_count        ? 1
                    : j == destination_count ? -1
                                             : by_ns(&source[i], &destination[j]);
        const tow_collection_info_t *left = order <= 0 ? source[i++] : NULL;
        const tow_collection_info_t *right = order >= 0 ? destination[j++] : NULL;
        const tow_collection_info_t *any = left ? left : right;

        add_item(run, any->database, any->name, any->ns, left, right);
    }
    add_expected(run);
    free(source);
    free(destination);
}

/* Databases of the destination that hold a job's state. */
static bool read_states(tow_verify_run_t *run, tow_conn_t *destination, tow_error_t *error)
{
    const tow_catalog_t *catalog = &run->destination;

    for (size_t i = 0; i < catalog->count; i++) {
        const char *database = catalog->items[i].database;
        bool state;

        if (strcmp(catalog->items[i].name, "job") != 0)
            continue;
        if (!tow_is_job_state(destination, database, &state, error))
            return false;
        if (!state)
            continue;
        run->states = tow_realloc(run->states, (run->state_count + 1) * sizeof *run->states);
        run->states[run->state_count++] = database;
    }
    return true;
}

/* A login that may not read them is no reason to compare nothing. */
static void read_shard_keys(tow_verify_run_t *run, tow_conn_t *source, tow_conn_t *destination)
{
    tow_error_t error;

    run->sharded = tow_link_facts(run->options->source)->sharded &&
                   tow_link_facts(run->options->destination)->sharded &&
                   !run->options->documents_only;
    if (!run->sharded ||
        (tow_shard_keys_read(source, &run->shard_keys[TOW_SOURCE], &error) &&
         tow_shard_keys_read(destination, &run->shard_keys[TOW_DESTINATION], &error)))
        return;
    run->sharded = false;
    tow_emit(&run->options->sink, TOW_LEVEL_WARNING, "verify_unsupported",
             "shard keys are not compared: %s; allow the login to read config.collections",
             error.message);
}

static bool read_catalogs(tow_verify_run_t *run, tow_error_t *error)
{
    const tow_verify_options_t *options = run->options;
    tow_conn_t *source = NULL, *destination = NULL;
    tow_optime_t polled = 0;
    bool ok;

    source = tow_conn_open(options->source);
    destination = tow_conn_open(options->destination);
    ok = tow_link_poll_time(source, &polled, error) &&
         tow_catalog_read(source, NULL, &run->source, error) &&
         tow_catalog_read(destination, NULL, &run->destination, error) &&
         read_states(run, destination, error);
    if (ok)
        read_shard_keys(run, source, destination);
    if (source)
        tow_conn_close(source);
    if (destination)
        tow_conn_close(destination);
    if (!ok)
        return tow_fail_context(error, "compare both sides");
    /* Whatever this process has seen of the source, the comparison sees too. */
    run->after = tow_link_time(options->source);
    if (polled > run->after)
        run->after = polled;
    join_catalogs(run);
    return true;
}

static bool random_seed(uint64_t *out, tow_error_t *error)
{
    while (getrandom(out, sizeof *out, 0) != (ssize_t)sizeof *out)
        if (errno != EINTR)
            return tow_fail_errno(error, TOW_ERROR_INTERNAL, "read random bytes");
    return true;
}

static void clear_run(tow_verify_run_t *run)
{
    while (run->units) {
        tow_verify_unit_t *unit = run->units;

        run->units = unit->next;
        tow_verify_unit_destroy(unit);
    }
    for (uint32_t i = 0; i < run->item_count; i++) {
        free(run->items[i].database);
        free(run->items[i].name);
        free(run->items[i].ns);
    }
    free(run->items);
    free(run->states);
    tow_catalog_clear(&run->source);
    tow_catalog_clear(&run->destination);
    for (int which = TOW_SOURCE; which <= TOW_DESTINATION; which++)
        tow_shard_keys_clear(&run->shard_keys[which]);
    pthread_cond_destroy(&run->changed);
    pthread_mutex_destroy(&run->lock);
}

bool tow_verify_run(const tow_verify_options_t *options, tow_verify_report_t **out,
                    tow_error_t *error)
{
    tow_verify_options_t filled = *options;
    tow_verify_run_t run = {.options = &filled};
    tow_error_t ignored;
    int64_t start = tow_now_us();
    bool ok;

    if (!error)
        error = &ignored;
    if (!filled.workers)
        filled.workers = WORKERS;
    if (!filled.max_differences)
        filled.max_differences = MAX_DIFFERENCES;
    if (!filled.range_bytes)
        filled.range_bytes = RANGE_BYTES;
    /* Servers differ in what a sample and an open end cost, and buckets narrow a difference as well
     * as ranges do. */
    if (!filled.whole_bytes)
        filled.whole_bytes = WHOLE_RANGES * filled.range_bytes;
    pthread_mutex_init(&run.lock, NULL);
    pthread_cond_init(&run.changed, NULL);
    run.report = tow_alloc(sizeof *run.report);

    if (filled.track)
        run.seed = tow_track_seed(filled.track);
    ok = (filled.track || random_seed(&run.seed, error)) && read_catalogs(&run, error) &&
         run_workers(&run, error);
    if (ok && filled.track)
        tow_track_sweep(filled.track);
    if (ok) {
        tow_verify_report_finish(&run);
        run.report->seed = run.seed;
        run.report->time = run.after;
        run.report->mode = filled.mode;
        run.report->seconds = (double)(tow_now_us() - start) / 1e6;
        *out = run.report;
    } else {
        tow_verify_report_destroy(run.report);
    }
    clear_run(&run);
    return ok;
}
