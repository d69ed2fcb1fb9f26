/* standalone.c: the verification on its own, without a job. */
#include <stdlib.h>
#include <string.h>

#include "engine/job/internal.h"

static tow_link_t *connect_side(const tow_options_t *options, const char *side, tow_stop_t *stop,
                                tow_error_t *error)
{
    tow_link_options_t link = {
        .side = side,
        .retry_window_ms = strtoll(tow_options_get(options, "retry-window", 0), NULL, 10) * 1000,
        .max_connections = 64,
        .stop = stop};
    char *uri;
    tow_link_t *made;

    if (!tow_options_uri(options, side, &uri, error))
        return NULL;
    made = tow_link_new(uri, &link, error);
    free(uri);
    return made;
}

static bool read_filter(const tow_options_t *options, tow_filter_t *filter, tow_error_t *error)
{
    const char *value;
    bool ok = true;

    for (size_t i = 0; ok && (value = tow_options_get(options, "include", i)); i++)
        ok = tow_filter_include(filter, value, error);
    for (size_t i = 0; ok && (value = tow_options_get(options, "exclude", i)); i++)
        ok = tow_filter_exclude(filter, value, error);
    return ok;
}

static bool compare(const tow_options_t *options, tow_link_t *source, tow_link_t *destination,
                    const tow_filter_t *filter, tow_stop_t *stop, char **out_report_json,
                    tow_error_t *error)
{
    uint32_t workers = (uint32_t)strtoul(tow_options_get(options, "workers", 0), NULL, 10);
    tow_verify_options_t verify = {.source = source,
                                   .destination = destination,
                                   .filter = filter,
                                   .stop = stop,
                                   .workers = workers > 1 ? workers / 2 : 1,
                                   .range_bytes = UINT64_C(16) << 20,
                                   .max_differences = 1000};
    tow_verify_report_t *report;
    bool equal;

    if (!tow_verify_run(&verify, &report, error))
        return false;
    *out_report_json = tow_verify_report_json(report);
    equal = report->equal;
    if (!equal) {
        const tow_difference_t *first = report->difference_count ? report->differences : NULL;

        tow_fail(error, TOW_ERROR_VERIFY, "%llu difference%s; first: %s %s%s; see the report",
                 (unsigned long long)report->differences_total,
                 report->differences_total == 1 ? "" : "s", first ? first->ns : "?",
                 first && first->id ? "_id " : "", first && first->id ? first->id : "");
    }
    tow_verify_report_destroy(report);
    return equal;
}

bool tow_verify(const tow_options_t *options, char **out_report_json, tow_error_t *error)
{
    tow_stop_t *stop = tow_stop_new();
    tow_filter_t *filter = tow_filter_new();
    tow_link_t *source = NULL, *destination = NULL;
    bool ok;

    *out_report_json = NULL;
    ok = read_filter(options, filter, error) &&
         (source = connect_side(options, "source", stop, error)) &&
         (destination = connect_side(options, "destination", stop, error));
    if (ok && !strcmp(tow_link_facts(source)->identity, tow_link_facts(destination)->identity))
        ok = tow_fail(error, TOW_ERROR_UNSUITABLE,
                      "source and destination are the same deployment (%s); give two different ones",
                      tow_link_hosts(source));
    ok = ok && compare(options, source, destination, filter, stop, out_report_json, error);
    tow_link_destroy(source);
    tow_link_destroy(destination);
    tow_filter_destroy(filter);
    tow_stop_destroy(stop);
    return ok;
}
