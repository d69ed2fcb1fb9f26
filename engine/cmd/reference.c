/* SPDX-License-Identifier: Apache-2.0 */
/* reference.c: what the option table makes besides --help: the effective configuration, and the
 * manual page. */
#include <stdlib.h>
#include <string.h>

#include "engine/base/json.h"
#include "engine/cmd/cmd.h"

/* In double quotes, as YAML and JSON read it. */
static void print_quoted(const char *text)
{
    putchar('"');
    for (; *text; text++)
        if (*text == '"' || *text == '\\')
            printf("\\%c", *text);
        else if ((unsigned char)*text < 0x20)
            printf("\\x%02x", (unsigned char)*text);
        else
            putchar(*text);
    putchar('"');
}

static void print_value(const tow_option_t *option, const char *value)
{
    if (option->type == TOW_OPTION_INTEGER || option->type == TOW_OPTION_FLAG)
        fputs(value, stdout);
    else
        print_quoted(value);
}

/* Those of a run, but for the file itself and for how this is printed. */
static bool is_of_file(const tow_option_t *option)
{
    return cmd_takes(option, &cmd_verbs[0]) && strcmp(option->name, "config") != 0 &&
           strcmp(option->name, "json") != 0;
}

/* One value as JSON has it. */
static void put_value(tow_json_t *out, const tow_option_t *option, const char *name,
                      const char *value)
{
    if (option->type == TOW_OPTION_INTEGER || option->type == TOW_OPTION_FLAG)
        tow_json_put_json(out, name, value);
    else
        tow_json_put_text(out, name, value);
}

/* {"workers": 4, "include": ["shop"], …}: the keys are those of the file. */
static int print_config_json(const tow_options_t *options)
{
    size_t count;
    const tow_option_t *table = tow_options_table(&count);
    tow_json_t out = {0};
    char *value, *line;

    tow_json_begin(&out, NULL);
    for (size_t i = 0; i < count; i++) {
        bool list = table[i].type == TOW_OPTION_LIST;

        if (!is_of_file(&table[i]) || !(value = tow_options_shown(options, table[i].name, 0)))
            continue;
        if (list)
            tow_json_begin_array(&out, table[i].name);
        for (size_t j = 0; value; value = tow_options_shown(options, table[i].name, ++j)) {
            put_value(&out, &table[i], list ? NULL : table[i].name, value);
            tow_free(value);
        }
        if (list)
            tow_json_end_array(&out);
    }
    tow_json_end(&out);
    line = tow_json_take(&out);
    cmd_print_json(line);
    free(line);
    return 0;
}

int cmd_config(tow_options_t *options)
{
    size_t count;
    const tow_option_t *table = tow_options_table(&count);

    if (cmd_is_on(options, "json"))
        return print_config_json(options);

    for (size_t i = 0; i < count; i++) {
        const char *mark = tow_options_is_set(options, table[i].name) ? "" : "  # default";
        char *value;

        if (!is_of_file(&table[i]))
            continue;
        value = tow_options_shown(options, table[i].name, 0);
        if (!value)
            continue;
        if (table[i].type == TOW_OPTION_LIST) {
            printf("%s:\n", table[i].name);
            for (size_t j = 0; value; value = tow_options_shown(options, table[i].name, ++j)) {
                fputs("  - ", stdout);
                print_quoted(value);
                putchar('\n');
                tow_free(value);
            }
            continue;
        }
        printf("%s: ", table[i].name);
        print_value(&table[i], value);
        puts(mark);
        tow_free(value);
    }
    return 0;
}

/* Manual page -----------------------------------------------------------------------------------*/

/* As roff shows it: dashes that may be copied, and no line that begins as a request. */
static void print_roff(const char *text)
{
    if (*text == '.' || *text == '\'')
        fputs("\\&", stdout);
    for (; *text; text++)
        if (*text == '-')
            fputs("\\-", stdout);
        else if (*text == '\\')
            fputs("\\e", stdout);
        else
            putchar(*text);
}

static void print_man_option(const tow_option_t *option)
{
    fputs(".TP\n.B ", stdout);
    print_roff("--");
    print_roff(option->name);
    if (option->type == TOW_OPTION_CHOICE) {
        putchar(' ');
        print_roff(option->range);
    } else if (option->type != TOW_OPTION_FLAG) {
        printf(" \\fI%s\\fR", *option->unit ? option->unit : "N");
    }
    putchar('\n');
    print_roff(option->help);
    if (*option->initial && option->type != TOW_OPTION_FLAG) {
        fputs(" (default ", stdout);
        print_roff(option->initial);
        putchar(')');
    }
    printf(".\nVerbs: %s. Environment: %s.\n", option->verbs, option->environment);
}

/* The table "Exit statuses" of engine/docs/options.md; tests/packages holds the two together. */
static const struct {
    int status;
    const char *meaning, *advice;
} statuses[] = {
    {0, "done (run), equal (verify), nothing failed (check, plan), stopped (serve)",
     "a summary that could not be written to its file is on stderr"},
    {1, "a bug, or the machine failed", "report it with the log"},
    {2, "an option is unknown, malformed or out of range", "the message names it"},
    {3, "a server cannot be reached, or refuses the login",
     "check host, port, TLS, user; run again"},
    {4,
     "unsuitable: standalone source, same deployment on both sides, unsupported collection, not "
     "enough memory",
     "the message says which"},
    {5, "namespaces of the destination are in the way",
     "drop or exclude them, or --clear-destination"},
    {6, "restart with another source, destination or filter", "the same options, or another --job"},
    {7,
     "another process holds the job, took it over, or removed its state; for verify --repair: a "
     "job runs on that "
     "destination",
     "the message says which: stop that one, or another --job"},
    {8, "a server's error that retries did not cure", "the message carries the server's"},
    {9, "the source's oplog no longer reaches back, and no new stream can be opened",
     "a new --job with --clear-destination, and a longer oplog"},
    {10, "the spool cannot be written or is broken", "make room, or remove the folder named"},
    {11, "the destination refuses an index", "mend the data, or --index-errors report"},
    {12, "both sides differ", "see summary or report"},
    {13, "cutover asked before the job is in sync", "wait for status to say that it is possible"},
    {14, "the request does not fit the job's phase", ""},
    {15, "the control server cannot be reached, or cannot listen", "check --listen"},
    {16, "stopped by a signal", "the same command goes on"},
    {17, "cancelled", "the message says what remains on the destination"},
    {18, "the window ran out",
     "the same command with --extend 24h, while the source's oplog reaches back"},
    {19, "what --wait waited for did not come within --timeout",
     "the job goes on: wait again, or see status"},
    {20, "the cutover that cutover --wait waited for was called off",
     "stop the writes to the source and ask again"},
    {21, "all is done, and what says so could not be written",
     "run the same command again: it says that it was done, and copies nothing"},
};

/* What --json prints, verb by verb. */
static const struct {
    const char *verbs, *prints;
} forms[] = {
    {"run",
     "progress once a second, as GET /api/v1/progress has it, and last {\"summary\": {…}}, as "
     "--summary writes it"},
    {"serve", "{\"page\": …, \"api\": …, \"tokenFile\": …}, once it listens"},
    {"check, plan", "the report: ok, exitStatus, checks, and of a plan what it copies"},
    {"verify", "progress once a second, and last {\"report\": {…}}, as --report writes it"},
    {"status", "progress; with --watch a line each second; of a job that has ended job, listen, "
               "endedAt, exitStatus and summary"},
    {"pause, resume, extend, cutover, cancel",
     "the server's answer: success, and where that is false error, errorDescription and "
     "exitStatus; cutover --wait adds the last progress"},
    {"notify", "{\"success\": true}"},
    {"config", "an object of the options in effect, without secrets"},
    {"completion, man, version", "the text, in an object: completion, man, version"},
};

static void print_man_json(void)
{
    puts(".SH JSON\nWith \\-\\-json each verb prints JSON on stdout and nothing else there, one "
         "document a line. Log and errors are on stderr; the exit status is the same as without. "
         "\\-\\-quiet leaves the lines of progress out.");
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        fputs(".TP\n.B ", stdout);
        print_roff(forms[i].verbs);
        putchar('\n');
        print_roff(forms[i].prints);
        puts(".");
    }
}

static void print_man_statuses(void)
{
    puts(".SH EXIT STATUS\nEach but 0 comes with one line on stderr that says what to do.");
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
        printf(".TP\n.B %d\n", statuses[i].status);
        print_roff(statuses[i].meaning);
        if (*statuses[i].advice)
            fputs(": ", stdout);
        print_roff(statuses[i].advice);
        puts(".");
    }
}

static void print_man_files(void)
{
    static const char *const files[][2] = {
        {"~/.local/state/towline/token", "The secret that requests to the control server must "
                                         "show, made at the first start; the verbs "
                                         "find it by themselves. XDG_STATE_HOME moves the folder."},
        {"~/.local/state/towline/", "Changes that do not fit into memory, what is left of a job "
                                    "that is done, and how each job ended "
                                    "(towline-NAME.ended), which status shows: --spool."},
        {"/etc/towline/NAME.env",
         "Options of the systemd units, as environment variables. Packages only."},
        {"/etc/towline/NAME/source.uri, destination.uri, token",
         "Secrets of the systemd units, mode 0600. Packages only."},
    };

    puts(".SH FILES");
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        fputs(".TP\n.I ", stdout);
        print_roff(files[i][0]);
        putchar('\n');
        print_roff(files[i][1]);
        putchar('\n');
    }
}

static void print_man_examples(void)
{
    static const char *const examples[][2] = {
        {"Try everything that a start needs, and write nothing:",
         "chmod 600 old.uri new.uri\n"
         "towline check --source-file old.uri --destination-file new.uri"},
        {"Copy, follow, and cut over when you say so:",
         "towline run --source-file old.uri --destination-file new.uri --cutover manual\n"
         "towline status --wait in-sync\n"
         "towline cutover --wait && ./start-the-application"},
        {"Compare two deployments, byte for byte:",
         "towline verify --source-file old.uri --destination-file new.uri --report report.json"},
        {"Wait for a job from the page or the HTTP API:",
         "towline serve --source-file old.uri --destination-file new.uri"},
    };

    puts(".SH EXAMPLES");
    for (size_t i = 0; i < sizeof examples / sizeof *examples; i++) {
        printf(".PP\n%s\n.PP\n.in +4n\n.nf\n", examples[i][0]);
        print_roff(examples[i][1]);
        puts("\n.fi\n.in");
    }
}

static void print_man(void)
{
    size_t count;
    const tow_option_t *table = tow_options_table(&count);

    printf(".TH TOWLINE 1 \"\" \"towline %s\"\n.SH NAME\ntowline \\- moves live MongoDB "
           "deployments\n.SH SYNOPSIS\n.B towline\n.I VERB\n[\\fIoptions\\fR]\n.SH VERBS\n",
           tow_version());
    for (const cmd_verb_t *verb = cmd_verbs; verb->name; verb++) {
        printf(".TP\n.B %s\n", verb->name);
        print_roff(verb->help);
        puts(".");
    }
    puts(".SH OPTIONS\nA YAML file (\\-\\-config), the environment and the command line give them, "
         "the "
         "later before the earlier.");
    for (size_t i = 0; i < count; i++) {
        if (!i || strcmp(table[i].group, table[i - 1].group) != 0)
            printf(".SS %s\n", table[i].group);
        print_man_option(&table[i]);
    }
    print_man_json();
    print_man_statuses();
    print_man_files();
    print_man_examples();
}

int cmd_man(tow_options_t *options)
{
    cmd_print_text(options, "man", print_man);
    return 0;
}

int cmd_version(tow_options_t *options)
{
    printf(options && cmd_is_on(options, "json") ? "{\"version\":\"%s\"}\n" : "towline %s\n",
           tow_version());
    return 0;
}
