/* SPDX-License-Identifier: Apache-2.0 */
/* drain.c: how fast a backlog drains that built up while the engine was paused.
 *
 * One job, in sync. For every kind of write and every round: pause, write the backlog, wait until
 * the engine has read all of it, resume, and take the time until the floor has passed the last
 * write. Reading the backlog is thus not in the time, but it is in the engine's CPU seconds. */
#include "bench/bench.h"
#include "engine/base/clock.h"
#include "engine/base/memory.h"

enum { KINDS = 3 };

static const struct {
    tow_bench_kind_t kind;
    const char *key, *title;
} kinds[KINDS] = {
    {TOW_BENCH_UPDATE, "update", "uniform updates"},
    {TOW_BENCH_HOT, "hot", "updates of 100 hot documents"},
    {TOW_BENCH_INSERT, "insert", "inserts"},
};

typedef struct {
    tow_bench_samples_t per_second, seconds, cpu, drain_cpu; /* CPU seconds per 100,000 events */
} measured_t;

/* Writes the backlog and waits until it has been read: *out_last is its last write's time. */
static bool build_backlog(const tow_bench_options_t *options, tow_bench_engine_t *engine,
                          tow_bench_kind_t kind, tow_timestamp_t *out_last, tow_error_t *error)
{
    tow_bench_load_spec_t spec = {.uri = options->source,
                                  .database = options->database,
                                  .collection = options->collection,
                                  .kind = kind,
                                  .keys = kind == TOW_BENCH_HOT ? 100 : options->keys,
                                  .bytes = options->bytes,
                                  .count = options->events,
                                  .threads = (int)options->threads};
    tow_bench_progress_t before;
    tow_bench_load_result_t load;
    if (!tow_bench_engine_progress(engine, &before, error) ||
        !tow_bench_load_finish(tow_bench_load_start(&spec), false, &load, error) ||
        !tow_bench_engine_wait_events(engine, before.events_seen + load.operations, error))
        return false;
    if (load.last.t == 0)
        return tow_fail(error, TOW_ERROR_UNSUITABLE, "the source's replies carry no operationTime");
    *out_last = load.last;
    return true;
}

static bool run_round(const tow_bench_options_t *options, tow_bench_engine_t *engine, int kind,
                      measured_t *measured, tow_error_t *error)
{
    tow_timestamp_t last;
    double cpu = tow_bench_cpu(engine->child.pid);
    if (!tow_bench_engine_post(engine, "pause", error) ||
        !tow_bench_engine_wait_phase(engine, "paused", error) ||
        !build_backlog(options, engine, kinds[kind].kind, &last, error))
        return false;
    /* A pause that pauses nothing would make a splendid figure. */
    tow_bench_progress_t progress;
    if (!tow_bench_engine_progress(engine, &progress, error))
        return false;
    if (progress.floor.t > last.t || (progress.floor.t == last.t && progress.floor.i >= last.i))
        return tow_fail(error, TOW_ERROR_VERIFY, "the floor passed the backlog while paused");
    double read_cpu = tow_bench_cpu(engine->child.pid);
    int64_t started_us = tow_now_us();
    if (!tow_bench_engine_post(engine, "resume", error) ||
        !tow_bench_engine_wait_floor(engine, last, error))
        return false;
    double seconds = (double)(tow_now_us() - started_us) / 1e6;
    double end_cpu = tow_bench_cpu(engine->child.pid);
    double scale = 100000 / (double)options->events;
    tow_bench_samples_add(&measured->seconds, seconds);
    tow_bench_samples_add(&measured->per_second, (double)options->events / seconds);
    tow_bench_samples_add(&measured->cpu, (end_cpu - cpu) * scale);
    tow_bench_samples_add(&measured->drain_cpu, (end_cpu - read_cpu) * scale);
    fprintf(stderr, "drain %s: %.2f s, %.0f events/s, CPU %.2f s of which reading %.2f s\n",
            kinds[kind].key, seconds, (double)options->events / seconds, end_cpu - cpu,
            read_cpu - cpu);
    return tow_bench_engine_wait_phase(engine, "in-sync", error);
}

static void append_samples(bson_t *out, const char *key, const tow_bench_samples_t *samples)
{
    bson_t list;
    bson_append_array_begin(out, key, -1, &list);
    for (size_t i = 0; i < samples->count; i++) {
        char index[24];
        snprintf(index, sizeof index, "%zu", i);
        BSON_APPEND_DOUBLE(&list, index, samples->values[i]);
    }
    bson_append_array_end(out, &list);
}

static void print_table(const tow_bench_options_t *options, measured_t measured[KINDS],
                        bson_t *report)
{
    printf("| drain of %lld events, median of %lld rounds | seconds | events/s | CPU seconds per "
           "100,000 | of them while draining |\n| --- | ---: | ---: | ---: | ---: |\n",
           (long long)options->events, (long long)options->rounds);
    for (int k = 0; k < KINDS; k++) {
        measured_t *one = &measured[k];
        bson_t child;
        bson_append_document_begin(report, kinds[k].key, -1, &child);
        append_samples(&child, "rounds", &one->per_second);
        double seconds = tow_bench_samples_median(&one->seconds);
        double per_second = tow_bench_samples_median(&one->per_second);
        double cpu = tow_bench_samples_median(&one->cpu);
        double drain_cpu = tow_bench_samples_median(&one->drain_cpu);
        BSON_APPEND_DOUBLE(&child, "seconds", seconds);
        BSON_APPEND_DOUBLE(&child, "eventsPerSecond", per_second);
        BSON_APPEND_DOUBLE(&child, "cpuSecondsPer100000", cpu);
        BSON_APPEND_DOUBLE(&child, "drainCpuSecondsPer100000", drain_cpu);
        bson_append_document_end(report, &child);
        printf("| %s | %.2f | %.0f | %.2f | %.2f |\n", kinds[k].title, seconds, per_second, cpu,
               drain_cpu);
    }
    printf("\n");
}

static bool run_all(const tow_bench_options_t *options, tow_bench_engine_t *engine,
                    measured_t measured[KINDS], tow_error_t *error)
{
    for (int64_t round = 0; round < options->rounds; round++)
        for (int k = 0; k < KINDS; k++)
            if (!run_round(options, engine, k, &measured[k], error))
                return tow_fail_context(error, "round %lld, %s", (long long)round + 1,
                                        kinds[k].title);
    return true;
}

bool tow_bench_drain(const tow_bench_options_t *options, tow_error_t *error)
{
    tow_bench_engine_t engine = {0};
    tow_bench_usage_t usage;
    tow_bench_digest_t digest;
    measured_t measured[KINDS] = {0};
    bson_t report;
    printf("## Drain\n\nUniform updates over %lld documents.\n\n", (long long)options->keys);
    if (!tow_bench_facts(options, "drain", &report, error))
        return false;
    BSON_APPEND_INT64(&report, "events", options->events);
    BSON_APPEND_INT64(&report, "keys", options->keys);
    bool ok = tow_bench_clear(options, error) && tow_bench_engine_start(options, &engine, error) &&
              run_all(options, &engine, measured, error) &&
              tow_bench_engine_commit(&engine, &usage, error) &&
              tow_bench_compare(options, &digest, error);
    if (ok) {
        print_table(options, measured, &report);
        ok = tow_bench_report(options, &report, error);
    }
    tow_bench_engine_destroy(&engine);
    for (int k = 0; k < KINDS; k++) {
        tow_bench_samples_free(&measured[k].seconds);
        tow_bench_samples_free(&measured[k].per_second);
        tow_bench_samples_free(&measured[k].cpu);
        tow_bench_samples_free(&measured[k].drain_cpu);
    }
    bson_destroy(&report);
    return ok;
}
