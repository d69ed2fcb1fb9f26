/* SPDX-License-Identifier: Apache-2.0 */
/* lag.c: the lag that a canary sees while the source takes a steady rate of updates. */
#include <time.h>

#include "bench/bench.h"
#include "bench/canary.h"
#include "engine/base/clock.h"

enum { WARM_UP_S = 3, CANARY_MS = 20 };

typedef struct {
    tow_bench_samples_t lag_ms, write_ms;
    double seconds, rate, cpu_seconds, source_cpu, destination_cpu;
    int64_t events;
} measured_t;

/* Everything between "in sync" and the commit. The load runs before and after the canaries do. */
static bool measure(const tow_bench_options_t *options, tow_bench_engine_t *engine, measured_t *out,
                    tow_error_t *error)
{
    tow_bench_load_spec_t spec = {.uri = options->source,
                                  .database = options->database,
                                  .collection = options->collection,
                                  .kind = TOW_BENCH_UPDATE,
                                  .keys = options->keys,
                                  .bytes = options->bytes,
                                  .rate = options->rate,
                                  .threads = (int)options->threads};
    tow_bench_progress_t before, after;
    tow_bench_load_result_t load;
    tow_timestamp_t last = {0};
    tow_bench_load_t *running = tow_bench_load_start(&spec);
    /* What the engine and the caches do in the first seconds is not the lag of a steady stream. */
    nanosleep(&(struct timespec){WARM_UP_S, 0}, NULL);
    bool ok = tow_bench_engine_progress(engine, &before, error);
    double source = tow_bench_cpu(options->source_pid);
    double destination = tow_bench_cpu(options->destination_pid);
    double cpu = tow_bench_cpu(engine->child.pid);
    int64_t started_us = tow_now_us();
    ok = ok && tow_bench_canary_finish(
                   tow_bench_canary_start(options, CANARY_MS, options->seconds * 1000 / CANARY_MS),
                   &out->lag_ms, &out->write_ms, &last, error);
    out->cpu_seconds = tow_bench_cpu(engine->child.pid) - cpu;
    out->seconds = (double)(tow_now_us() - started_us) / 1e6;
    out->source_cpu = source < 0 ? -1 : tow_bench_cpu(options->source_pid) - source;
    out->destination_cpu =
        destination < 0 ? -1 : tow_bench_cpu(options->destination_pid) - destination;
    ok = ok && tow_bench_engine_progress(engine, &after, error);
    tow_error_t load_error;
    if (!tow_bench_load_finish(running, true, &load, &load_error)) {
        if (ok)
            *error = load_error;
        return false;
    }
    if (!ok)
        return false;
    out->events = after.events_seen - before.events_seen;
    out->rate = (double)load.operations / load.seconds;
    if (load.last.t > last.t || (load.last.t == last.t && load.last.i > last.i))
        last = load.last;
    return tow_bench_engine_wait_floor(engine, last, error);
}

static void report_one(bson_t *report, const char *key, const char *title, int decimals,
                       double value)
{
    char text[32];
    if (value < 0)
        return; /* a server whose process was not given */
    snprintf(text, sizeof text, "%.*f", decimals, value);
    printf("| %s | %s |\n", title, text);
    bson_append_double(report, key, -1, value);
}

static bool print_report(const tow_bench_options_t *options, measured_t *measured, bson_t *report,
                         tow_error_t *error)
{
    tow_bench_samples_t *lag = &measured->lag_ms;
    if (measured->events <= 0)
        return tow_fail(error, TOW_ERROR_VERIFY, "the engine has counted no events");
    printf("| lag | |\n| --- | ---: |\n");
    report_one(report, "updatesPerSecond", "updates/s reached", 0, measured->rate);
    report_one(report, "canaries", "canaries", 0, (double)lag->count);
    report_one(report, "p50Ms", "canary p50, ms", 1, tow_bench_samples_quantile(lag, 0.50));
    report_one(report, "p90Ms", "canary p90, ms", 1, tow_bench_samples_quantile(lag, 0.90));
    report_one(report, "p99Ms", "canary p99, ms", 1, tow_bench_samples_quantile(lag, 0.99));
    report_one(report, "maxMs", "canary max, ms", 1, tow_bench_samples_quantile(lag, 1));
    report_one(report, "writeP50Ms", "of it the source's write, p50, ms", 1,
               tow_bench_samples_quantile(&measured->write_ms, 0.50));
    report_one(report, "writeP99Ms", "of it the source's write, p99, ms", 1,
               tow_bench_samples_quantile(&measured->write_ms, 0.99));
    report_one(report, "cpuSecondsPer1000Events", "engine's CPU seconds per 1,000 events", 4,
               measured->cpu_seconds * 1000 / (double)measured->events);
    report_one(report, "cpuCores", "engine's CPU, cores", 3,
               measured->cpu_seconds / measured->seconds);
    report_one(report, "sourceCpuCores", "source's CPU, cores", 3,
               measured->source_cpu / measured->seconds);
    report_one(report, "destinationCpuCores", "destination's CPU, cores", 3,
               measured->destination_cpu / measured->seconds);
    printf("\n");
    return tow_bench_report(options, report, error);
}

bool tow_bench_lag(const tow_bench_options_t *options, tow_error_t *error)
{
    tow_bench_engine_t engine = {0};
    tow_bench_usage_t usage;
    tow_bench_digest_t digest;
    measured_t measured = {0};
    bson_t report;
    printf("## Lag\n\n%lld updates/s of %lld documents for %lld s, a canary every %d ms.\n\n",
           (long long)options->rate, (long long)options->keys, (long long)options->seconds,
           CANARY_MS);
    if (!tow_bench_facts(options, "lag", &report, error))
        return false;
    BSON_APPEND_INT64(&report, "rate", options->rate);
    BSON_APPEND_INT64(&report, "seconds", options->seconds);
    bool ok = tow_bench_clear(options, error) && tow_bench_engine_start(options, &engine, error) &&
              measure(options, &engine, &measured, error) &&
              tow_bench_engine_commit(&engine, &usage, error) &&
              tow_bench_compare(options, &digest, error) &&
              print_report(options, &measured, &report, error);
    tow_bench_engine_destroy(&engine);
    tow_bench_samples_free(&measured.lag_ms);
    tow_bench_samples_free(&measured.write_ms);
    bson_destroy(&report);
    return ok;
}
