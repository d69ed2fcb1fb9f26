/* SPDX-License-Identifier: Apache-2.0 */
/* standalone.c: the verification on its own, without a job; with --repair also a re-sync. */
#include <stdlib.h>
#include <string.h>

#include "engine/base/thread.h"
#include "engine/check/same.h"
#include "engine/job/internal.h"
#include "engine/job/repair.h"
#include "engine/job/saved.h"
#include "engine/options/options.h"
#include "engine/options/settings.h"

static tow_link_t *connect_side(const tow_options_t *options, const char *side, tow_sink_t sink,
                                tow_stop_t *stop, tow_error_t *error)
{
    tow_link_options_t link = {
        .side = side,
        .retry_window_ms = (int64_t)tow_options_integer(options, "retry-window") * 1000,
        .max_connections = (uint32_t)tow_options_integer(options, "workers") * 4 + 32,
        .sink = sink,
        .stop = stop};
    char *uri;
    tow_link_t *made;
    bool first;

    tow_options_indexes(options, &link.indexes, &first);
    if (!tow_options_uri(options, side, &uri, error))
        return NULL;
    made = tow_link_new(uri, &link, error);
    free(uri);
    return made;
}

/* Both, before either is dialled. */
static bool try_uris(const tow_options_t *options, const tow_sink_t *sink, tow_error_t *error)
{
    static const char *const sides[] = {"source", "destination"};
    bool ok = true;

    for (size_t i = 0; ok && i < sizeof sides / sizeof *sides; i++) {
        char *uri;

        if (!tow_options_uri(options, sides[i], &uri, error))
            return false;
        ok = tow_options_try_uri(uri, sides[i], tow_options_uri_option(options, sides[i]), sink,
                                 error);
        free(uri);
    }
    return ok;
}

/* What one comparison on its own needs. */
typedef struct {
    tow_link_t *source, *destination;
    tow_filter_t *filter;
    tow_stop_t *stop;
    tow_repair_t *repair; /* NULL: only compare */
    tow_saved_t *saved;   /* NULL: nothing is kept */
    tow_verify_options_t verify;
    /* The thread that shows the progress. */
    tow_verify_watch_t watch; /* what is not watched is NULL */
    tow_thread_t ticker;
    tow_stop_t *ticker_stop;
    _Atomic uint64_t documents, bytes, total;
} standalone_t;

static void *tick(void *data)
{
    standalone_t *run = data;
    bool ended;

    do {
        ended = tow_stop_wait(run->ticker_stop, run->watch.progress_ms);
        run->watch.progress(run->watch.data, atomic_load(&run->documents), atomic_load(&run->bytes),
                            atomic_load(&run->total));
    } while (!ended);
    return NULL;
}

static void forward_event(void *data, tow_level_t level, const char *name, const char *message)
{
    standalone_t *run = data;

    run->watch.event(run->watch.data, level, name, message);
}

/* Compares the catalogs, repairs them, compares and repairs the documents; what an index needed of
 * the documents is there by then, so the catalogs come once more. */
static bool compare_and_repair(standalone_t *run, tow_verify_report_t **out, tow_error_t *error)
{
    tow_verify_options_t catalog = run->verify;
    tow_verify_report_t *before = NULL, *after = NULL, *report = NULL;
    bool ok;

    catalog.catalog_only = true;
    catalog.track = NULL;
    catalog.max_differences = UINT32_MAX; /* there are few, and what is repaired is told by name */
    ok = tow_verify_run(&catalog, &before, error) && tow_repair_catalog(run->repair, error) &&
         tow_verify_run(&run->verify, &report, error) && tow_repair_catalog(run->repair, error) &&
         tow_verify_run(&catalog, &after, error);
    if (ok)
        tow_verify_report_catalog(report, before, after);
    tow_verify_report_destroy(before);
    tow_verify_report_destroy(after);
    if (ok)
        *out = report;
    else
        tow_verify_report_destroy(report);
    return ok;
}

/* The first difference that is still there. */
static bool fail_unequal(const tow_verify_report_t *report, tow_error_t *error)
{
    uint64_t left = report->differences_total - report->repaired_total;
    const tow_difference_t *first = NULL;

    for (uint32_t i = 0; !first && i < report->difference_count; i++)
        if (!report->differences[i].repaired)
            first = &report->differences[i];
    return tow_fail(error, TOW_ERROR_VERIFY, "%llu difference%s; first: %s %s%s; see the report",
                    (unsigned long long)left, left == 1 ? "" : "s", first ? first->ns : "?",
                    first && first->id ? "_id " : "", first && first->id ? first->id : "");
}

static bool compare(standalone_t *run, char **out_report_json, tow_error_t *error)
{
    tow_verify_report_t *report;
    bool ok;

    if (run->watch.progress) {
        run->ticker_stop = tow_stop_new();
        if (!tow_thread_start(&run->ticker, "ticker", tick, run, NULL)) {
            tow_stop_destroy(run->ticker_stop);
            run->ticker_stop = NULL;
        }
    }
    ok = run->repair ? compare_and_repair(run, &report, error)
                     : tow_verify_run(&run->verify, &report, error);
    if (run->ticker_stop) {
        tow_stop_request(run->ticker_stop, NULL);
        tow_thread_join(&run->ticker);
        tow_stop_destroy(run->ticker_stop);
    }
    if (!ok)
        return false;
    *out_report_json = tow_verify_report_json(report);
    if (run->watch.report)
        run->watch.report(run->watch.data, *out_report_json);
    ok = report->equal || fail_unequal(report, error);
    tow_verify_report_destroy(report);
    return ok;
}

static void fill_verify(standalone_t *run, const tow_options_t *options, tow_sink_t sink)
{
    uint32_t workers = (uint32_t)tow_options_integer(options, "workers");

    run->verify = (tow_verify_options_t){
        .source = run->source,
        .destination = run->destination,
        .filter = run->filter,
        .stop = run->stop,
        .sink = sink,
        .workers = workers > 1 ? workers / 2 : 1,
        .range_bytes = tow_options_integer(options, "range-size") << 20,
        .max_differences = (uint32_t)tow_options_integer(options, "max-differences"),
        .mode = tow_options_verify_mode(options),
        .repair = run->repair ? tow_repair_documents : NULL,
        .data = run->repair,
        .documents = &run->documents,
        .bytes = &run->bytes,
        .total_documents = &run->total};
}

static bool start_repair(standalone_t *run, const tow_options_t *options, tow_sink_t sink,
                         tow_error_t *error)
{
    tow_repair_options_t repair = {.source = run->source,
                                   .destination = run->destination,
                                   .filter = run->filter,
                                   .stop = run->stop,
                                   .sink = sink,
                                   .workers = (uint32_t)tow_options_integer(options, "workers"),
                                   .retry_window_ms =
                                       (int64_t)tow_options_integer(options, "retry-window") * 1000,
                                   .drop_extra = tow_options_flag(options, "clear-destination")};

    run->repair = tow_repair_new(&repair, error);
    return run->repair != NULL;
}

static bool open_saved(standalone_t *run, const char *path, tow_sink_t sink, tow_error_t *error)
{
    tow_saved_options_t options = {.path = path,
                                   .source = run->source,
                                   .destination = run->destination,
                                   .filter = run->filter,
                                   .mode = run->verify.mode,
                                   .stop = run->stop,
                                   .sink = sink};

    if (!path)
        return true;
    run->saved = tow_saved_open(&options, error);
    run->verify.track = run->saved ? tow_saved_track(run->saved) : NULL;
    return run->saved != NULL;
}

static void *close_side(void *link)
{
    tow_link_destroy(link);
    return NULL;
}

/* The driver's monitor of a side ends within half a second: both at once. */
static void close_sides(standalone_t *run)
{
    tow_thread_t closer = {0};
    bool started = tow_thread_start(&closer, "closer", close_side, run->source, NULL);

    tow_link_destroy(run->destination);
    if (started)
        tow_thread_join(&closer);
    else
        tow_link_destroy(run->source);
}

/* What only reads is satisfied with what both sides say of themselves. */
static bool check_sides(standalone_t *run, bool writes, tow_error_t *error)
{
    tow_sameness_t sides;

    if (writes)
        return tow_prove_different(run->source, run->destination, "towline_verify", error);
    sides = tow_sides_compare(run->source, run->destination, error);
    return sides != TOW_SIDES_SAME && sides != TOW_SIDES_SHARD;
}

bool tow_verify_watched_sized(const tow_options_t *options, const tow_verify_watch_t *watch,
                              size_t size, char **out_report_json, tow_error_t *error)
{
    standalone_t *run = tow_alloc(sizeof *run);
    tow_sink_t sink = {forward_event, run};
    bool ok;

    *out_report_json = NULL;
    if (watch)
        memcpy(&run->watch, watch, size < sizeof run->watch ? size : sizeof run->watch);
    if (!run->watch.event)
        sink.fn = NULL;
    run->stop = tow_stop_new();
    run->filter = tow_filter_new();
    ok = tow_options_filter(options, run->filter, error) && try_uris(options, &sink, error) &&
         (run->source = connect_side(options, "source", sink, run->stop, error)) &&
         (run->destination = connect_side(options, "destination", sink, run->stop, error));
    ok = ok && check_sides(run, tow_options_flag(options, "repair"), error);
    ok = ok && (!tow_options_flag(options, "repair") || start_repair(run, options, sink, error));
    if (ok) {
        fill_verify(run, options, sink);
        ok = open_saved(run, tow_options_get(options, "state", 0), sink, error) &&
             compare(run, out_report_json, error);
    }
    tow_saved_close(run->saved, *out_report_json != NULL);
    tow_stop_request(run->stop, NULL);
    tow_repair_destroy(run->repair);
    close_sides(run);
    tow_filter_destroy(run->filter);
    tow_stop_destroy(run->stop);
    free(run);
    return ok;
}

bool tow_verify(const tow_options_t *options, char **out_report_json, tow_error_t *error)
{
    return tow_verify_watched(options, NULL, out_report_json, error);
}
