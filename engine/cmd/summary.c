/* summary.c: the summary and the verification report as tables. */
#include <bson/bson.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/cmd/cmd.h"

static double number_of(const bson_t *document, const char *name)
{
    bson_iter_t iter, found;

    if (!bson_iter_init(&iter, document) || !bson_iter_find_descendant(&iter, name, &found))
        return -1;
    return BSON_ITER_HOLDS_NUMBER(&found) ? bson_iter_as_double(&found) : -1;
}

static const char *text_of(const bson_t *document, const char *name)
{
    bson_iter_t iter, found;

    if (!bson_iter_init(&iter, document) || !bson_iter_find_descendant(&iter, name, &found) ||
        !BSON_ITER_HOLDS_UTF8(&found))
        return "";
    return bson_iter_utf8(&found, NULL);
}

static bool flag_of(const bson_t *document, const char *name)
{
    bson_iter_t iter, found;

    return bson_iter_init(&iter, document) && bson_iter_find_descendant(&iter, name, &found) &&
           bson_iter_as_bool(&found);
}

/* Calls `print` for each document of an array. */
static void for_each(const bson_t *document, const char *name, void (*print)(const bson_t *))
{
    bson_iter_t iter, found, list;

    if (!bson_iter_init(&iter, document) || !bson_iter_find_descendant(&iter, name, &found) ||
        !BSON_ITER_HOLDS_ARRAY(&found) || !bson_iter_recurse(&found, &list))
        return;
    while (bson_iter_next(&list)) {
        const uint8_t *data;
        uint32_t length;
        bson_t item;

        if (!BSON_ITER_HOLDS_DOCUMENT(&list))
            continue;
        bson_iter_document(&list, &length, &data);
        if (bson_init_static(&item, data, length))
            print(&item);
    }
}

static const char *result_of(const bson_t *report)
{
    if (!flag_of(report, "equal"))
        return "DIFFERENT";
    return number_of(report, "repaired") > 0 ? "equal after repair" : "equal";
}

static void print_collection(const bson_t *item)
{
    char source[32], destination[32], bytes[32];

    if (!strcmp(text_of(item, "type"), "view")) {
        printf("  %-40.60s %14s %14s %11s  %s\n", text_of(item, "ns"), "view", "view", "",
               result_of(item));
        return;
    }
    printf("  %-40.60s %14s %14s %11s  %s\n", text_of(item, "ns"),
           cmd_count(number_of(item, "source.documents"), source),
           cmd_count(number_of(item, "destination.documents"), destination),
           cmd_bytes(number_of(item, "source.bytes"), bytes), result_of(item));
}

static void print_difference(const bson_t *item)
{
    printf("  %-10s %s", text_of(item, "kind"), text_of(item, "ns"));
    if (*text_of(item, "id"))
        printf("  _id %s", text_of(item, "id"));
    if (*text_of(item, "path"))
        printf("  at %s", text_of(item, "path"));
    if (*text_of(item, "range"))
        printf("  in range %s", text_of(item, "range"));
    if (number_of(item, "sourceLength") > 0 || number_of(item, "destinationLength") > 0)
        printf("  bytes %.0f/%.0f", number_of(item, "sourceLength") > 0 ? number_of(item, "sourceLength") : 0,
               number_of(item, "destinationLength") > 0 ? number_of(item, "destinationLength") : 0);
    if (flag_of(item, "repaired"))
        printf("  repaired");
    putchar('\n');
}

static void print_verification(const bson_t *report)
{
    char total[32], repaired[32];

    printf("  %-40s %14s %14s %11s  %s\n", "collection", "source", "destination", "bytes",
           "result");
    for_each(report, "collections", print_collection);
    if (number_of(report, "differencesTotal") > 0) {
        printf("  %s differences, %s repaired:\n",
               cmd_count(number_of(report, "differencesTotal"), total),
               cmd_count(number_of(report, "repaired"), repaired));
        for_each(report, "differences", print_difference);
    }
}

void cmd_print_report(const char *json)
{
    bson_error_t error;
    bson_t *report = bson_new_from_json((const uint8_t *)json, -1, &error);

    if (!report) {
        puts(json);
        return;
    }
    printf("Verification: %s (%.1f s)\n", result_of(report), number_of(report, "seconds"));
    print_verification(report);
    bson_destroy(report);
}

static void print_failure(const bson_t *item)
{
    printf("  refused index         %s %s: %s\n", text_of(item, "ns"), text_of(item, "name"),
           text_of(item, "message"));
}

static void print_row(const char *name, const char *value)
{
    printf("  %-21s %s\n", name, value);
}

static void print_figures(const bson_t *summary)
{
    static const struct {
        const char *field, *name;
    } counts[] = {{"collections", "collections"},
                  {"indexes", "indexes"},
                  {"eventsSeen", "events seen"},
                  {"eventsSkipped", "events skipped"},
                  {"keysRefetched", "keys refetched"},
                  {"statementsApplied", "statements applied"},
                  {"restarts", "restarts"}};
    char value[80], part[32], other[32];

    snprintf(value, sizeof value, "%.1f s", number_of(summary, "durationSeconds"));
    print_row("duration", value);
    if (number_of(summary, "downtimeSeconds") >= 0) {
        snprintf(value, sizeof value, "%.1f s (from the cutover to its end)",
                 number_of(summary, "downtimeSeconds"));
        print_row("application downtime", value);
    }
    snprintf(value, sizeof value, "%s documents, %s",
             cmd_count(number_of(summary, "initialDocuments"), part),
             cmd_bytes(number_of(summary, "initialBytes"), other));
    print_row("initial copy", value);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        print_row(counts[i].name, cmd_count(number_of(summary, counts[i].field), part));
    snprintf(value, sizeof value, "%.2f s CPU, %s peak memory", number_of(summary, "cpuSeconds"),
             cmd_bytes(number_of(summary, "peakMemoryBytes"), part));
    print_row("this process used", value);
}

void cmd_print_summary(const char *json)
{
    bson_error_t error;
    bson_t *summary = bson_new_from_json((const uint8_t *)json, -1, &error);
    bson_iter_t iter;

    if (!summary) {
        puts(json);
        return;
    }
    printf("\nSummary of job %s: %s\n", text_of(summary, "job"), text_of(summary, "state"));
    print_row("source", text_of(summary, "source"));
    print_row("destination", text_of(summary, "destination"));
    print_figures(summary);
    for_each(summary, "indexFailures", print_failure);
    if (bson_iter_init_find(&iter, summary, "verification") && BSON_ITER_HOLDS_DOCUMENT(&iter)) {
        const uint8_t *data;
        uint32_t length;
        bson_t report;

        bson_iter_document(&iter, &length, &data);
        if (bson_init_static(&report, data, length)) {
            print_row("verification", result_of(&report));
            print_verification(&report);
        }
    }
    bson_destroy(summary);
}

bool cmd_write_file(const char *path, const char *text, tow_error_t *error)
{
    char temporary[4096];
    FILE *file;
    bool ok;

    snprintf(temporary, sizeof temporary, "%s.%d.tmp", path, (int)getpid());
    file = fopen(temporary, "w");
    ok = file && fputs(text, file) >= 0 && putc('\n', file) != EOF && fflush(file) == 0 &&
         fsync(fileno(file)) == 0;
    if (file && fclose(file))
        ok = false;
    ok = ok && rename(temporary, path) == 0;
    if (!ok) {
        error->code = TOW_ERROR_OPTION;
        snprintf(error->message, sizeof error->message, "cannot write %s: %s; choose another file",
                 path, strerror(errno));
        unlink(temporary);
    }
    return ok;
}
