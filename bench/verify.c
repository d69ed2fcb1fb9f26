/* SPDX-License-Identifier: Apache-2.0 */
/* verify.c: how fast two equal sides are compared, against a plain scan.
 *
 * The scan reads every document of one side with one cursor and drops it: nothing that reads a side
 * whole, one cursor after another, is faster. Each round scans both sides, one after the other, and
 * runs `towline verify`; what counts is the slower scan by the verification's time: from the start
 * of the process until its report is there. Closing connections is in neither figure. */
#include <unistd.h>

#include "bench/bench.h"
#include "engine/base/clock.h"
#include "engine/base/memory.h"

enum { SCAN_BATCH = 10000, LOOK_MS = 1 };

typedef enum { SOURCE_SCAN, DESTINATION_SCAN, VERIFY, PARTS } part_t;

static const char *const part_names[PARTS] = {"scan of the source", "scan of the destination",
                                              "towline verify"};

static bool scan(const tow_bench_options_t *options, const char *uri, double *out_seconds,
                 tow_error_t *error)
{
    bson_t everything = BSON_INITIALIZER, batch = BSON_INITIALIZER;
    mongoc_client_t *client = tow_bench_connect(uri, error);
    const bson_t *document;
    bson_error_t reason;
    uint64_t documents = 0;
    int64_t began = tow_now_us();
    if (!client)
        return false;
    mongoc_collection_t *collection =
        mongoc_client_get_collection(client, options->database, options->collection);
    BSON_APPEND_INT32(&batch, "batchSize", SCAN_BATCH);
    mongoc_cursor_t *cursor =
        mongoc_collection_find_with_opts(collection, &everything, &batch, NULL);
    while (mongoc_cursor_next(cursor, &document))
        documents++;
    bool ok = !mongoc_cursor_error(cursor, &reason) || tow_bench_mongo(error, &reason, "scan");
    *out_seconds = (double)(tow_now_us() - began) / 1e6;
    mongoc_cursor_destroy(cursor);
    mongoc_collection_destroy(collection);
    mongoc_client_destroy(client);
    bson_destroy(&batch);
    bson_destroy(&everything);
    if (ok && !documents)
        return tow_fail(error, TOW_ERROR_OPTION, "%s.%s is empty: fill it first", options->database,
                        options->collection);
    return ok;
}

/* Seconds until the report is there, as a whole: it is renamed into its place. */
static bool wait_report(const tow_bench_options_t *options, tow_bench_child_t *child,
                        const char *path, double *out_seconds, tow_error_t *error)
{
    int64_t deadline_us = child->started_us + options->timeout * 1000000;

    while (access(path, R_OK) && tow_bench_outlives(child, LOOK_MS) && tow_now_us() < deadline_us)
        ;
    *out_seconds = (double)(tow_now_us() - child->started_us) / 1e6;
    return !access(path, R_OK) ||
           tow_fail(error, TOW_ERROR_INTERNAL, "towline verify wrote no report");
}

static bool run_verify(const tow_bench_options_t *options, double *out_seconds, tow_error_t *error)
{
    char *log = tow_format("%s/verify.log", options->work);
    char *path = tow_format("%s/verify.json", options->work);
    char *ns = tow_format("%s.%s", options->database, options->collection);
    const char *const argv[] = {options->engine, "verify",   "--include", ns,  "--progress",
                                "none",          "--report", path,        NULL};
    const char *const environment[] = {"TOWLINE_SOURCE", options->source, "TOWLINE_DESTINATION",
                                       options->destination, NULL};
    tow_bench_child_t child = {0};
    tow_bench_usage_t usage;
    bool ok;

    unlink(path);
    /* Exit status 0 says that both sides are equal: a comparison that misses does not count. */
    ok = tow_bench_spawn(argv, environment, log, &child, error) &&
         wait_report(options, &child, path, out_seconds, error) &&
         tow_bench_reap(&child, options->timeout, &usage, error);
    tow_bench_kill(&child);
    unlink(path);
    free(ns);
    free(path);
    free(log);
    return ok || tow_fail_context(error, "towline verify");
}

static bool run_part(const tow_bench_options_t *options, part_t part, double *out,
                     tow_error_t *error)
{
    switch (part) {
    case SOURCE_SCAN:
        return scan(options, options->source, out, error);
    case DESTINATION_SCAN:
        return scan(options, options->destination, out, error);
    default:
        return run_verify(options, out, error);
    }
}

static void print_table(const tow_bench_digest_t *digest, tow_bench_samples_t samples[PARTS],
                        tow_bench_samples_t *ratios, bson_t *report)
{
    printf(
        "| comparison, median of %zu rounds | seconds | MB/s of a side |\n| --- | ---: | ---: |\n",
        ratios->count);
    for (int part = 0; part < PARTS; part++) {
        double seconds = tow_bench_samples_median(&samples[part]);
        printf("| %s | %.2f | %.1f |\n", part_names[part], seconds,
               (double)digest->bytes / 1e6 / seconds);
        BSON_APPEND_DOUBLE(report, part_names[part], seconds);
    }
    printf("| slower scan by verification | %.2f | |\n\n", tow_bench_samples_median(ratios));
    BSON_APPEND_DOUBLE(report, "ratio", tow_bench_samples_median(ratios));
}

bool tow_bench_verify(const tow_bench_options_t *options, tow_error_t *error)
{
    tow_bench_samples_t samples[PARTS] = {0}, ratios = {0};
    tow_bench_digest_t digest;
    bson_t report, rounds = BSON_INITIALIZER;
    bool ok = tow_bench_clear(options, error) && tow_bench_plain_copy(options, error) &&
              tow_bench_compare(options, &digest, error);
    if (!ok)
        return false;
    printf("## Verification\n\n%llu documents, %.0f MB on either side, equal.\n\n",
           (unsigned long long)digest.documents, (double)digest.bytes / 1e6);
    if (!tow_bench_facts(options, "verify", &report, error))
        return false;
    for (int64_t round = 0; ok && round < options->rounds; round++) {
        double seconds[PARTS] = {0};
        bson_t child;
        char key[24];
        for (int turn = 0; ok && turn < PARTS; turn++) {
            part_t part = (part_t)((round + turn) % PARTS);
            ok = run_part(options, part, &seconds[part], error);
        }
        if (!ok)
            break;
        double slower = seconds[SOURCE_SCAN] > seconds[DESTINATION_SCAN]
                            ? seconds[SOURCE_SCAN]
                            : seconds[DESTINATION_SCAN];
        snprintf(key, sizeof key, "%lld", (long long)round);
        bson_append_document_begin(&rounds, key, -1, &child);
        for (int part = 0; part < PARTS; part++) {
            tow_bench_samples_add(&samples[part], seconds[part]);
            BSON_APPEND_DOUBLE(&child, part_names[part], seconds[part]);
        }
        bson_append_document_end(&rounds, &child);
        tow_bench_samples_add(&ratios, slower / seconds[VERIFY]);
        fprintf(stderr, "round %lld: scans %.2f s and %.2f s, verify %.2f s\n",
                (long long)round + 1, seconds[SOURCE_SCAN], seconds[DESTINATION_SCAN],
                seconds[VERIFY]);
    }
    if (ok) {
        BSON_APPEND_ARRAY(&report, "rounds", &rounds);
        print_table(&digest, samples, &ratios, &report);
        ok = tow_bench_report(options, &report, error);
    }
    for (int part = 0; part < PARTS; part++)
        tow_bench_samples_free(&samples[part]);
    tow_bench_samples_free(&ratios);
    bson_destroy(&rounds);
    bson_destroy(&report);
    return ok;
}
