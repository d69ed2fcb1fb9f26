/* SPDX-License-Identifier: Apache-2.0 */
/* report.c: quantiles, the facts of the machine, and the report. */
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "bench/bench.h"
#include "engine/base/memory.h"

void tow_bench_samples_add(tow_bench_samples_t *samples, double value)
{
    /* Room doubles whenever the count is a power of two. */
    if ((samples->count & (samples->count - 1)) == 0)
        samples->values = tow_realloc(samples->values, (samples->count ? samples->count * 2 : 1) *
                                                           sizeof *samples->values);
    samples->values[samples->count++] = value;
}

static int compare_values(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void sort(tow_bench_samples_t *samples)
{
    if (samples->count > 1)
        qsort(samples->values, samples->count, sizeof *samples->values, compare_values);
}

/* Nearest rank: the smallest value that at least this part of all values does not exceed. */
double tow_bench_samples_quantile(tow_bench_samples_t *samples, double quantile)
{
    if (samples->count == 0)
        return -1;
    sort(samples);
    double exact = quantile * (double)samples->count;
    size_t rank = (size_t)exact;
    if ((double)rank < exact)
        rank++;
    if (rank < 1)
        rank = 1;
    return samples->values[(rank < samples->count ? rank : samples->count) - 1];
}

double tow_bench_samples_median(tow_bench_samples_t *samples)
{
    if (samples->count == 0)
        return -1;
    sort(samples);
    size_t middle = samples->count / 2;
    if (samples->count % 2)
        return samples->values[middle];
    return (samples->values[middle - 1] + samples->values[middle]) / 2;
}

void tow_bench_samples_free(tow_bench_samples_t *samples)
{
    free(samples->values);
    *samples = (tow_bench_samples_t){0};
}

/* Facts -----------------------------------------------------------------------------------------*/

static void processor_name(char *out, size_t size)
{
    snprintf(out, size, "unknown processor");
    FILE *file = fopen("/proc/cpuinfo", "re");
    if (!file)
        return;
    char line[256];
    while (fgets(line, sizeof line, file)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) == 0 && colon && colon[1]) {
            colon[strcspn(colon, "\n")] = 0;
            snprintf(out, size, "%s", colon + 2);
            break;
        }
    }
    fclose(file);
}

static bool server_version(const char *uri, char *out, size_t size, tow_error_t *error)
{
    mongoc_client_t *client = tow_bench_connect(uri, error);
    if (!client)
        return false;
    bson_t command = BSON_INITIALIZER, reply;
    bson_error_t reason;
    bson_iter_t iter;
    BSON_APPEND_INT32(&command, "buildInfo", 1);
    bool ok = mongoc_client_command_simple(client, "admin", &command, NULL, &reply, &reason);
    if (!ok)
        tow_bench_mongo(error, &reason, "buildInfo");
    else if (bson_iter_init_find(&iter, &reply, "version") && BSON_ITER_HOLDS_UTF8(&iter))
        snprintf(out, size, "%s", bson_iter_utf8(&iter, NULL));
    else
        snprintf(out, size, "unknown");
    bson_destroy(&reply);
    bson_destroy(&command);
    mongoc_client_destroy(client);
    return ok;
}

bool tow_bench_facts(const tow_bench_options_t *options, const char *scenario, bson_t *out,
                     tow_error_t *error)
{
    char processor[128], source[64], destination[64];
    struct utsname system;
    if (!server_version(options->source, source, sizeof source, error))
        return tow_fail_context(error, "source");
    if (!server_version(options->destination, destination, sizeof destination, error))
        return tow_fail_context(error, "destination");
    processor_name(processor, sizeof processor);
    if (uname(&system) != 0)
        return tow_fail_errno(error, TOW_ERROR_INTERNAL, "uname");
    double memory_gb =
        (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE) / (1024.0 * 1024 * 1024);
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    const char *server = options->server ? options->server : "as its wire protocol says";
    const char *commit = options->commit ? options->commit : "unknown";
    bson_init(out);
    BSON_APPEND_UTF8(out, "scenario", scenario);
    BSON_APPEND_INT64(out, "cores", cores);
    BSON_APPEND_DOUBLE(out, "memoryGiB", memory_gb);
    BSON_APPEND_UTF8(out, "processor", processor);
    BSON_APPEND_UTF8(out, "kernel", system.release);
    BSON_APPEND_UTF8(out, "server", server);
    BSON_APPEND_UTF8(out, "sourceVersion", source);
    BSON_APPEND_UTF8(out, "destinationVersion", destination);
    BSON_APPEND_UTF8(out, "engineCommit", commit);
    printf("Machine: %ld cores (%s), %.0f GiB, Linux %s. Servers: %s, source %s, destination %s, "
           "all on this machine. Engine: %s.\n\n",
           cores, processor, memory_gb, system.release, server, source, destination, commit);
    return true;
}

bool tow_bench_report(const tow_bench_options_t *options, const bson_t *report, tow_error_t *error)
{
    if (!options->json)
        return true;
    FILE *file = fopen(options->json, "ae");
    if (!file)
        return tow_fail_errno(error, TOW_ERROR_OPTION, "%s", options->json);
    char *text = bson_as_relaxed_extended_json(report, NULL);
    bool ok = fprintf(file, "%s\n", text) > 0;
    bson_free(text);
    if (fclose(file) != 0 || !ok)
        return tow_fail_errno(error, TOW_ERROR_INTERNAL, "%s", options->json);
    return true;
}
