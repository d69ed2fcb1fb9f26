/* SPDX-License-Identifier: Apache-2.0 */
/* copy.c: the copy of a collection at rest, by the engine and by the plain copy, in turns.
 *
 * Both work on the same two servers in the same minutes, each into an emptied destination, and who
 * goes first alternates: what the machine does besides hits both alike. Every copy is compared with
 * the source before its figures count. */
#include <string.h>

#include "bench/bench.h"
#include "engine/base/memory.h"

typedef enum { PLAIN, TOWLINE, SIDES } side_t;
typedef enum {
    SECONDS,
    DOCUMENTS,
    MEGABYTES,
    CPU,
    PEAK,
    SOURCE_CPU,
    DESTINATION_CPU,
    FIGURES
} figure_t;

static const char *const side_names[SIDES] = {"plain", "towline"};
static const struct {
    const char *key, *title;
    int decimals;
} figures[FIGURES] = {
    {"seconds", "wall seconds", 2},
    {"documentsPerSecond", "documents/s", 0},
    {"megabytesPerSecond", "MB/s", 1},
    {"cpuSecondsPerGB", "CPU seconds per GB", 2},
    {"peakMB", "peak memory, MB", 0},
    {"sourceCpuSecondsPerGB", "source's CPU seconds per GB", 2},
    {"destinationCpuSecondsPerGB", "destination's CPU seconds per GB", 2},
};

static bool run_plain(const tow_bench_options_t *options, const char *log, tow_bench_usage_t *out,
                      tow_error_t *error)
{
    /* A process of its own, so that CPU time and peak memory are measured the same way. */
    const char *const argv[] = {
        "/proc/self/exe", "plain-copy",        "--database", options->database,
        "--collection",   options->collection, NULL};
    const char *const environment[] = {"TOWLINE_BENCH_SOURCE", options->source,
                                       "TOWLINE_BENCH_DESTINATION", options->destination, NULL};
    tow_bench_child_t child = {0};
    if (!tow_bench_spawn(argv, environment, log, &child, error))
        return false;
    bool ok = tow_bench_reap(&child, options->timeout, out, error);
    tow_bench_kill(&child);
    return ok || tow_fail_context(error, "plain copy");
}

static bool run_side(const tow_bench_options_t *options, side_t side, double out[FIGURES],
                     tow_error_t *error)
{
    tow_bench_usage_t usage;
    tow_bench_digest_t digest;
    if (!tow_bench_clear(options, error))
        return false;
    char *log = tow_format("%s/copy-%s.log", options->work, side_names[side]);
    double source = tow_bench_cpu(options->source_pid);
    double destination = tow_bench_cpu(options->destination_pid);
    bool ok = side == PLAIN ? run_plain(options, log, &usage, error)
                            : tow_bench_engine_whole(options, log, &usage, error);
    free(log);
    if (!ok)
        return false;
    source = source < 0 ? -1 : tow_bench_cpu(options->source_pid) - source;
    destination = destination < 0 ? -1 : tow_bench_cpu(options->destination_pid) - destination;
    if (!tow_bench_compare(options, &digest, error))
        return tow_fail_context(error, "after the copy by %s", side_names[side]);
    double gigabytes = (double)digest.bytes / 1e9;
    out[SECONDS] = usage.wall_seconds;
    out[DOCUMENTS] = (double)digest.documents / usage.wall_seconds;
    out[MEGABYTES] = gigabytes * 1000 / usage.wall_seconds;
    out[CPU] = usage.cpu_seconds / gigabytes;
    out[PEAK] = usage.peak_mb;
    out[SOURCE_CPU] = source < 0 ? -1 : source / gigabytes;
    out[DESTINATION_CPU] = destination < 0 ? -1 : destination / gigabytes;
    return true;
}

static void print_table(tow_bench_samples_t samples[SIDES][FIGURES], bson_t *report)
{
    bson_t medians[SIDES], ratios = BSON_INITIALIZER;
    bson_init(&medians[PLAIN]);
    bson_init(&medians[TOWLINE]);
    printf("| copy, median of %zu rounds | plain copy | towline | ratio |\n"
           "| --- | ---: | ---: | ---: |\n",
           samples[PLAIN][SECONDS].count);
    for (int f = 0; f < FIGURES; f++) {
        double plain = tow_bench_samples_median(&samples[PLAIN][f]);
        double towline = tow_bench_samples_median(&samples[TOWLINE][f]);
        char left[32], right[32];
        if (plain < 0 || towline < 0)
            continue; /* the servers' processes were not given */
        snprintf(left, sizeof left, "%.*f", figures[f].decimals, plain);
        snprintf(right, sizeof right, "%.*f", figures[f].decimals, towline);
        printf("| %s | %s | %s | %.2f |\n", figures[f].title, left, right, towline / plain);
        BSON_APPEND_DOUBLE(&medians[PLAIN], figures[f].key, plain);
        BSON_APPEND_DOUBLE(&medians[TOWLINE], figures[f].key, towline);
        BSON_APPEND_DOUBLE(&ratios, figures[f].key, towline / plain);
    }
    printf("\n");
    BSON_APPEND_DOCUMENT(report, "plain", &medians[PLAIN]);
    BSON_APPEND_DOCUMENT(report, "towline", &medians[TOWLINE]);
    BSON_APPEND_DOCUMENT(report, "ratio", &ratios);
    bson_destroy(&medians[PLAIN]);
    bson_destroy(&medians[TOWLINE]);
    bson_destroy(&ratios);
}

static void append_round(bson_t *rounds, int number, const char *name, const double values[FIGURES])
{
    bson_t child;
    char key[16];
    snprintf(key, sizeof key, "%d", number);
    bson_append_document_begin(rounds, key, -1, &child);
    BSON_APPEND_UTF8(&child, "who", name);
    for (int f = 0; f < FIGURES; f++)
        if (values[f] >= 0)
            BSON_APPEND_DOUBLE(&child, figures[f].key, values[f]);
    bson_append_document_end(rounds, &child);
}

bool tow_bench_copy(const tow_bench_options_t *options, tow_error_t *error)
{
    tow_bench_samples_t samples[SIDES][FIGURES] = {0};
    tow_bench_digest_t digest;
    bson_t report, rounds = BSON_INITIALIZER;
    /* Reading everything once also warms the source's cache before the first round. */
    if (!tow_bench_digest(options->source, options->database, options->collection, &digest, error))
        return false;
    if (digest.documents == 0)
        return tow_fail(error, TOW_ERROR_OPTION, "%s.%s is empty on the source: fill it first",
                        options->database, options->collection);
    printf("## Copy\n\n%llu documents, %.0f MB, one collection, no writes.\n\n",
           (unsigned long long)digest.documents, (double)digest.bytes / 1e6);
    if (!tow_bench_facts(options, "copy", &report, error))
        return false;
    BSON_APPEND_INT64(&report, "documents", (int64_t)digest.documents);
    BSON_APPEND_INT64(&report, "bytes", (int64_t)digest.bytes);
    bool ok = true;
    int number = 0;
    for (int64_t round = 0; ok && round < options->rounds; round++) {
        for (int turn = 0; ok && turn < SIDES; turn++) {
            side_t side = (side_t)((round + turn) % SIDES);
            double values[FIGURES] = {0};
            ok = run_side(options, side, values, error);
            if (!ok)
                break;
            for (int f = 0; f < FIGURES; f++)
                tow_bench_samples_add(&samples[side][f], values[f]);
            append_round(&rounds, number++, side_names[side], values);
            fprintf(stderr, "round %lld %s: %.2f s, %.1f MB/s, %.2f CPU s/GB, %.0f MB\n",
                    (long long)round + 1, side_names[side], values[SECONDS], values[MEGABYTES],
                    values[CPU], values[PEAK]);
        }
    }
    if (ok) {
        BSON_APPEND_ARRAY(&report, "rounds", &rounds);
        print_table(samples, &report);
        ok = tow_bench_report(options, &report, error);
    }
    for (int side = 0; side < SIDES; side++)
        for (int f = 0; f < FIGURES; f++)
            tow_bench_samples_free(&samples[side][f]);
    bson_destroy(&rounds);
    bson_destroy(&report);
    return ok;
}
