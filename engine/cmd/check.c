/* SPDX-License-Identifier: Apache-2.0 */
/* check.c: the verbs that look and change nothing: the checks before a start, the plan, a test
 * notice. */
#include <stdlib.h>
#include <string.h>

#include "engine/base/text.h"
#include "engine/cmd/cells.h"
#include "engine/cmd/cmd.h"
#include "engine/cmd/json.h"

enum { LISTED = 20, NAME_WIDTH = 22 };

static const char *mark_of(const char *result)
{
    return !strcmp(result, "pass")      ? CMD_GREEN
           : !strcmp(result, "warning") ? CMD_YELLOW
           : !strcmp(result, "failure") ? CMD_RED
                                        : CMD_DIM;
}

static void print_check(const bson_t *item)
{
    const char *name = cmd_text_of(item, "name"), *advice = cmd_text_of(item, "advice");
    char shown[64];

    snprintf(shown, sizeof shown, "%s", name);
    for (char *at = shown; *at; at++)
        if (*at == '_')
            *at = ' ';
    printf("  %s%-8s%s %-*s %s\n", cmd_colour(mark_of(cmd_text_of(item, "result"))),
           cmd_text_of(item, "result"), cmd_colour(CMD_PLAIN), NAME_WIDTH, shown,
           cmd_text_of(item, "facts"));
    if (*advice)
        printf("  %-8s %-*s -> %s\n", "", NAME_WIDTH, "", advice);
}

static void print_checks(const bson_t *report)
{
    double warnings = cmd_number_of(report, "warnings");

    puts("Checks");
    cmd_for_each(report, "checks", print_check);
    printf("%.0f passed, %.0f warning%s, %.0f failed, %.0f not possible\n",
           cmd_number_of(report, "passed"), warnings, warnings == 1 ? "" : "s",
           cmd_number_of(report, "failures"), cmd_number_of(report, "skipped"));
}

static bool flag_set(const tow_options_t *options, const char *name)
{
    const char *value = tow_options_get(options, name, 0);

    return value && !strcmp(value, "true");
}

/* Prints what `look` found, as `print` does or as JSON; the exit status is the first failure's. */
static int show(tow_options_t *options, bool (*look)(const tow_options_t *, char **, tow_error_t *),
                void (*print)(const tow_options_t *, const bson_t *))
{
    char *json = NULL;
    tow_error_t error;
    bson_t *report;
    bool ok = look(options, &json, &error);

    if (json && flag_set(options, "json")) {
        cmd_print_json(json);
    } else if (json && !flag_set(options, "quiet") && (report = cmd_document(json))) {
        print(options, report);
        bson_destroy(report);
    }
    fflush(stdout);
    tow_free(json);
    return ok ? 0 : cmd_fail(&error);
}

static void print_check_report(const tow_options_t *options TOW_UNUSED, const bson_t *report)
{
    print_checks(report);
}

int cmd_check(tow_options_t *options)
{
    return show(options, tow_check, print_check_report);
}

int cmd_notify(tow_options_t *options)
{
    tow_error_t error;

    if (!flag_set(options, "test")) {
        cmd_say("notices are sent by a running job; notify takes --test, which sends one now");
        return TOW_ERROR_OPTION;
    }
    if (!tow_notify_test(options, &error))
        return cmd_fail(&error);
    puts("every channel took the test notice");
    return 0;
}

/* Plan ------------------------------------------------------------------------------------------*/

typedef struct {
    const char *ns, *type;
    double documents, bytes, indexes, ranges;
} row_t;

typedef struct {
    row_t *items;
    size_t count;
} rows_t;

static void take_row(void *data, const bson_t *item)
{
    rows_t *rows = data;

    rows->items = tow_realloc(rows->items, (rows->count + 1) * sizeof *rows->items);
    rows->items[rows->count++] =
        (row_t){cmd_text_of(item, "ns"),          cmd_text_of(item, "type"),
                cmd_number_of(item, "documents"), cmd_number_of(item, "bytes"),
                cmd_number_of(item, "indexes"),   cmd_number_of(item, "ranges")};
}

static int by_bytes(const void *left, const void *right)
{
    const row_t *a = left, *b = right;

    if (a->bytes != b->bytes)
        return a->bytes < b->bytes ? 1 : -1;
    return strcmp(a->ns, b->ns);
}

static void print_rows(const bson_t *plan)
{
    rows_t rows = {0};
    char a[32], b[32];

    cmd_each(plan, "namespaces", take_row, &rows);
    if (rows.count)
        qsort(rows.items, rows.count, sizeof *rows.items, by_bytes);
    printf("  %-36s %14s %10s %8s %7s\n", "namespace", "documents", "size", "indexes", "ranges");
    for (size_t i = 0; i < rows.count && i < LISTED; i++) {
        char *name = cmd_column(rows.items[i].ns, 36, SIZE_MAX);

        if (!strcmp(rows.items[i].type, "collection"))
            printf("  %s %14s %10s %8.0f %7.0f\n", name, cmd_count(rows.items[i].documents, a),
                   tow_bytes_text(rows.items[i].bytes, b), rows.items[i].indexes,
                   rows.items[i].ranges);
        else
            printf("  %s %14s\n", name, rows.items[i].type);
        free(name);
    }
    if (rows.count > LISTED)
        printf("  … and %zu smaller ones (all of them: --json)\n", rows.count - LISTED);
    free(rows.items);
}

/* "1 view", "1,200 indexes". */
static void print_counted(const bson_t *plan, const char *field, const char *after)
{
    double count = cmd_number_of(plan, field);
    int letters = (int)strlen(field) - (count != 1 ? 0 : !strcmp(field, "indexes") ? 2 : 1);
    char text[32];

    printf("%s %.*s%s", cmd_count(count, text), letters, field, after);
}

static void print_totals(const bson_t *plan)
{
    char a[32], b[32];
    double window = cmd_number_of(plan, "oplogWindowSeconds");

    printf("\n  %-17s ", "to copy");
    print_counted(plan, "collections", ", ");
    print_counted(plan, "views", ", ");
    print_counted(plan, "indexes", ", in ");
    print_counted(plan, "ranges", "\n");
    printf("  %-17s %s documents, %s\n", "amount", cmd_count(cmd_number_of(plan, "documents"), a),
           tow_bytes_text(cmd_number_of(plan, "bytes"), b));
    if (cmd_number_of(plan, "collectionsMeasured") < cmd_number_of(plan, "collections"))
        printf("  %-17s of %.0f collections only: the others took too long to look at\n", "",
               cmd_number_of(plan, "collectionsMeasured"));
    printf("  %-17s %s, at %.0f MB/s and %s index keys/s\n", "estimated time",
           cmd_duration(cmd_number_of(plan, "estimatedSeconds"), a),
           cmd_number_of(plan, "assumedMegabytesPerSecond"),
           cmd_count(cmd_number_of(plan, "assumedIndexKeysPerSecond"), b));
    if (window >= 0)
        printf("  %-17s %s of the source's history\n", "oplog window", cmd_duration(window, a));
    else
        printf("  %-17s not known, see the checks\n", "oplog window");
}

/* In single quotes where a shell would see more than text. */
static void print_word(const char *text)
{
    static const char *const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                     "0123456789_-./:,=+@%";

    if (*text && strspn(text, plain) == strlen(text)) {
        fputs(text, stdout);
        return;
    }
    putchar('\'');
    for (; *text; text++)
        if (*text == '\'')
            fputs("'\\''", stdout);
        else
            putchar(*text);
    putchar('\'');
}

static void print_command(const tow_options_t *options)
{
    size_t count;
    const tow_option_t *table = tow_options_table(&count);

    fputs("  towline run", stdout);
    for (size_t i = 0; i < count; i++) {
        char *value;

        if (!cmd_takes(&table[i], "run") || !tow_options_is_set(options, table[i].name))
            continue;
        for (size_t j = 0; (value = tow_options_shown(options, table[i].name, j)); j++) {
            if (table[i].type != TOW_OPTION_FLAG || !strcmp(value, "true"))
                printf(" --%s", table[i].name);
            if (table[i].type != TOW_OPTION_FLAG) {
                char *shown = tow_printable(value);

                putchar(' ');
                print_word(shown);
                free(shown);
            }
            tow_free(value);
        }
    }
    putchar('\n');
}

static void print_plan(const tow_options_t *options, const bson_t *plan)
{
    printf("Plan of job %s: %s -> %s\n\n", cmd_text_of(plan, "job"), cmd_text_of(plan, "source"),
           cmd_text_of(plan, "destination"));
    if (cmd_number_of(plan, "collections") >= 0) {
        print_rows(plan);
        print_totals(plan);
        putchar('\n');
    }
    print_checks(plan);
    if (cmd_flag_of(plan, "ok")) {
        printf("\nReview and confirm: this %s the job\n",
               cmd_flag_of(plan, "resumes") ? "goes on with" : "starts");
        print_command(options);
    } else {
        puts("\nNot ready: mend what failed, then plan again.");
    }
}

int cmd_plan(tow_options_t *options)
{
    return show(options, tow_plan, print_plan);
}
