/* SPDX-License-Identifier: Apache-2.0 */
/* summary.c: the summary and the verification report as tables. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/error.h"
#include "engine/base/file.h"
#include "engine/base/text.h"
#include "engine/cmd/cells.h"
#include "engine/cmd/cmd.h"
#include "engine/cmd/json.h"

enum { NAME_CELLS = 40, NAME_CELLS_MOST = 60 };

static const char *result_of(const bson_t *report)
{
    if (!cmd_flag_of(report, "equal"))
        return "DIFFERENT";
    return cmd_number_of(report, "repaired") > 0 ? "equal after repair" : "equal";
}

static void print_collection(const bson_t *item)
{
    char source[32], destination[32], bytes[32];
    char *name = cmd_column(cmd_text_of(item, "ns"), NAME_CELLS, NAME_CELLS_MOST);
    bool equal = cmd_flag_of(item, "equal");

    if (!strcmp(cmd_text_of(item, "type"), "view"))
        printf("  %s %14s %14s %11s  ", name, "view", "view", "");
    else
        printf("  %s %14s %14s %11s  ", name,
               cmd_count(cmd_number_of(item, "source.documents"), source),
               cmd_count(cmd_number_of(item, "destination.documents"), destination),
               tow_bytes_text(cmd_number_of(item, "source.bytes"), bytes));
    printf("%s%s%s\n", cmd_colour(equal ? CMD_GREEN : CMD_RED), result_of(item),
           cmd_colour(CMD_PLAIN));
    free(name);
}

static void print_difference(const bson_t *item)
{
    printf("  %-10s %s", cmd_text_of(item, "kind"), cmd_text_of(item, "ns"));
    if (*cmd_text_of(item, "id"))
        printf("  _id %s", cmd_text_of(item, "id"));
    if (*cmd_text_of(item, "path"))
        printf("  at %s", cmd_text_of(item, "path"));
    if (*cmd_text_of(item, "range"))
        printf("  in range %s", cmd_text_of(item, "range"));
    if (cmd_number_of(item, "sourceLength") > 0 || cmd_number_of(item, "destinationLength") > 0)
        printf("  bytes %.0f/%.0f",
               cmd_number_of(item, "sourceLength") > 0 ? cmd_number_of(item, "sourceLength") : 0,
               cmd_number_of(item, "destinationLength") > 0
                   ? cmd_number_of(item, "destinationLength")
                   : 0);
    if (cmd_flag_of(item, "repaired"))
        printf("  repaired");
    putchar('\n');
}

static void print_verification(const bson_t *report)
{
    char total[32], repaired[32];

    printf("  %-*s %14s %14s %11s  %s\n", NAME_CELLS, "collection", "source", "destination",
           "bytes", "result");
    cmd_for_each(report, "collections", print_collection);
    if (cmd_number_of(report, "differencesTotal") > 0) {
        printf("  %s differences, %s repaired:\n",
               cmd_count(cmd_number_of(report, "differencesTotal"), total),
               cmd_count(cmd_number_of(report, "repaired"), repaired));
        cmd_for_each(report, "differences", print_difference);
    }
}

void cmd_print_report(const char *json)
{
    bson_t *report = cmd_document(json);

    if (!report) {
        cmd_print_json(json);
        return;
    }
    printf("Verification: %s (%.1f s)\n", result_of(report), cmd_number_of(report, "seconds"));
    print_verification(report);
    bson_destroy(report);
}

static void print_failure(const bson_t *item)
{
    printf("  refused index         %s %s: %s\n", cmd_text_of(item, "ns"),
           cmd_text_of(item, "name"), cmd_text_of(item, "message"));
}

static void print_row(const char *name, const char *value)
{
    printf("  %-21s %s\n", name, value);
}

static void print_phases(const bson_t *summary)
{
    bson_iter_t iter, phases;
    char text[400] = "";
    size_t length = 0;

    if (!bson_iter_init_find(&iter, summary, "phaseSeconds") || !bson_iter_recurse(&iter, &phases))
        return;
    while (bson_iter_next(&phases) && length + 40 < sizeof text)
        length += (size_t)snprintf(text + length, sizeof text - length, "%s%.20s %.1f s",
                                   length ? ", " : "", bson_iter_key(&phases),
                                   bson_iter_as_double(&phases));
    print_row("phases", text);
}

static void print_cutover(const bson_t *summary)
{
    char value[160], seen[32], left[32];
    bool complete = cmd_flag_of(summary, "syncedChanges.complete");

    cmd_count(cmd_number_of(summary, "syncedChanges.seen"), seen);
    cmd_count(cmd_number_of(summary, "syncedChanges.left"), left);
    snprintf(value, sizeof value,
             complete ? "all %s are on the destination"
                      : "%s seen, %s of them not on the destination",
             seen, left);
    print_row("synced changes", value);
    if (cmd_number_of(summary, "cutover.lateWrites") > 0) {
        snprintf(value, sizeof value, "%s after the confirmation%s",
                 cmd_count(cmd_number_of(summary, "cutover.lateWrites"), seen),
                 complete ? ", applied too" : "");
        print_row("late writes", value);
    }
    if (cmd_number_of(summary, "cutover.calledOff") > 0)
        print_row("called off cutovers",
                  cmd_count(cmd_number_of(summary, "cutover.calledOff"), seen));
    if (cmd_flag_of(summary, "cutover.writesBlocked"))
        print_row("source", "takes no writes: they are blocked");
    if (*cmd_text_of(summary, "cutover.userRemoved"))
        print_row("removed user", cmd_text_of(summary, "cutover.userRemoved"));
}

static void print_figures(const bson_t *summary)
{
    static const struct {
        const char *field, *name;
    } counts[] = {{"collections", "collections"},
                  {"indexes", "indexes"},
                  {"eventsSkipped", "events skipped"},
                  {"keysRefetched", "keys refetched"},
                  {"statementsApplied", "statements applied"},
                  {"restarts", "restarts"}};
    char value[160], part[32], other[32];

    snprintf(value, sizeof value, "%.1f s", cmd_number_of(summary, "durationSeconds"));
    print_row("duration", value);
    if (cmd_number_of(summary, "downtimeSeconds") >= 0) {
        snprintf(value, sizeof value, "%.1f s (from the confirmation to the end)",
                 cmd_number_of(summary, "downtimeSeconds"));
        print_row("application downtime", value);
    }
    print_phases(summary);
    print_cutover(summary);
    if (*cmd_text_of(summary, "window.endsAt")) {
        snprintf(value, sizeof value, "%s to %s", cmd_text_of(summary, "window.beganAt"),
                 cmd_text_of(summary, "window.endsAt"));
        print_row("window", value);
    }
    snprintf(value, sizeof value, "%s documents, %s",
             cmd_count(cmd_number_of(summary, "initialDocuments"), part),
             tow_bytes_text(cmd_number_of(summary, "initialBytes"), other));
    print_row("initial copy", value);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        print_row(counts[i].name, cmd_count(cmd_number_of(summary, counts[i].field), part));
    snprintf(value, sizeof value, "%.2f s CPU, %s peak memory",
             cmd_number_of(summary, "cpuSeconds"),
             tow_bytes_text(cmd_number_of(summary, "peakMemoryBytes"), part));
    print_row("this process used", value);
}

static void print_remains(const bson_t *summary)
{
    bson_iter_t iter, remains;

    if (bson_iter_init_find(&iter, summary, "remains") && bson_iter_recurse(&iter, &remains))
        while (bson_iter_next(&remains))
            if (BSON_ITER_HOLDS_UTF8(&remains))
                print_row("remains", bson_iter_utf8(&remains, NULL));
}

void cmd_print_remains(const char *json)
{
    bson_t *summary = cmd_document(json);

    if (summary)
        print_remains(summary);
    bson_destroy(summary);
}

/* It ended before the copy began, and the figures are zeros: the error says why. */
static bool did_nothing(const bson_t *summary)
{
    return strcmp(cmd_text_of(summary, "state"), "done") != 0 &&
           cmd_number_of(summary, "phaseSeconds.copying") <= 0;
}

void cmd_print_summary(const char *json)
{
    bson_t *summary = cmd_document(json);
    bson_iter_t iter;

    if (!summary) {
        cmd_print_json(json);
        return;
    }
    if (did_nothing(summary)) {
        print_remains(summary);
        bson_destroy(summary);
        return;
    }
    printf("\nSummary of job %s: %s\n", cmd_text_of(summary, "job"), cmd_text_of(summary, "state"));
    print_row("source", cmd_text_of(summary, "source"));
    print_row("destination", cmd_text_of(summary, "destination"));
    print_figures(summary);
    cmd_for_each(summary, "indexFailures", print_failure);
    if (bson_iter_init_find(&iter, summary, "verification") && BSON_ITER_HOLDS_DOCUMENT(&iter)) {
        const uint8_t *data;
        uint32_t length;
        bson_t report;

        bson_iter_document(&iter, &length, &data);
        if (bson_init_static(&report, data, length)) {
            print_row("verification", result_of(&report));
            print_verification(&report);
        }
    } else {
        print_row("verification", "none");
    }
    print_remains(summary);
    if (!strcmp(cmd_text_of(summary, "state"), "done"))
        print_row("connect to", cmd_text_of(summary, "destinationAddress"));
    bson_destroy(summary);
}

/* A device, a pipe or a link of ours or root's, such as /dev/stdout, is written to and not
 * replaced. */
static bool write_in_place(const char *path, const char *text)
{
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC,
                    0600); /* a link may point nowhere yet */
    bool ok = file >= 0 && cmd_write(file, text, strlen(text), -1) && cmd_write(file, "\n", 1, -1);
    int error = errno;

    if (file >= 0)
        close(file);
    errno = error;
    return ok;
}

bool cmd_write_file(const char *path, const char *text, tow_error_t *error)
{
    struct stat facts;
    bool is_special = lstat(path, &facts) == 0 && !S_ISREG(facts.st_mode), ok = false;
    char *line;

    if (is_special && facts.st_uid != geteuid() && facts.st_uid != 0) {
        errno = EPERM;
    } else if (is_special) {
        ok = write_in_place(path, text);
    } else {
        line = tow_format("%s\n", text);
        ok = tow_file_replace(path, line, strlen(line));
        free(line);
    }
    return ok ? true
              : tow_fail(error, TOW_ERROR_OPTION, "cannot write '%s': %s; choose another file",
                         path, strerror(errno));
}
