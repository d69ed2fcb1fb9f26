/* SPDX-License-Identifier: Apache-2.0 */
/* main.c: finds the verb, reads environment and command line, and runs it. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/error.h"
#include "engine/base/text.h"
#include "engine/cmd/cmd.h"

enum { SPACE_LEAST = 160 /* MB of addresses */ };

const cmd_verb_t cmd_verbs[] = {
    {"run", "copy a deployment, follow it, verify and cut over", cmd_run, NULL, NULL},
    {"serve", "wait for jobs that the page or the HTTP API start", cmd_serve, NULL, "run"},
    {"check", "make every check that stands before a start, and write nothing", cmd_check, NULL,
     NULL},
    {"plan", "show what a run would copy, how long it takes, and its command", cmd_plan, NULL,
     NULL},
    {"verify", "compare two deployments, byte for byte", cmd_verify, NULL, NULL},
    {"status", "show the progress of a running job", cmd_status, NULL, NULL},
    {"page", "print the address that opens the page of a running job", cmd_page, NULL, NULL},
    {"pause", "stop applying changes; reading goes on", cmd_pause, NULL, NULL},
    {"resume", "apply changes again", cmd_resume, NULL, NULL},
    {"extend", "add time to the window of a running job", cmd_extend, "duration", NULL},
    {"cutover", "end a job with --cutover manual: writes to the source have stopped", cmd_cutover,
     NULL, NULL},
    {"cancel", "end a running job for good; the source stays untouched", cmd_cancel, NULL, NULL},
    {"notify", "notify --test: send a test notice by webhook and e-mail", cmd_notify, NULL, NULL},
    {"config", "print the effective options as YAML, without secrets", cmd_config, NULL, "run"},
    {"completion", "print shell completion: towline completion bash", cmd_completion, "shell",
     NULL},
    {"man", "print the manual page", cmd_man, NULL, NULL},
    {"version", "print the version; so do --version and -V", cmd_version, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

int cmd_version(tow_options_t *options TOW_UNUSED)
{
    printf("towline %s\n", tow_version());
    return 0;
}

/* A word in the wrong place may be a part of a connection string. */
static const char *shown(const char *word)
{
    return strpbrk(word, ":@") && !strstr(word, "://") ? "(hidden)" : word;
}

static int fail_usage(const char *what, const char *problem, const char *hint)
{
    cmd_say("'%s' %s; %s", shown(what), problem, hint);
    return TOW_ERROR_OPTION;
}

static bool verb_takes(const tow_option_t *option, const cmd_verb_t *verb)
{
    return cmd_takes(option, verb->name) || (verb->like && cmd_takes(option, verb->like));
}

static const cmd_verb_t *find_verb(const char *name)
{
    for (const cmd_verb_t *verb = cmd_verbs; verb->name; verb++)
        if (!strcmp(name, verb->name))
            return verb;
    return NULL;
}

static int fail_unknown_verb(const char *name)
{
    const cmd_verb_t *nearest = NULL;
    size_t least = 3;

    for (const cmd_verb_t *verb = cmd_verbs; verb->name; verb++) {
        size_t d = tow_text_distance(name, verb->name);

        if (d < least && d < strlen(verb->name) - 1) {
            least = d;
            nearest = verb;
        }
    }
    if (nearest)
        cmd_say("unknown verb '%s'; did you mean towline %s?", shown(name), nearest->name);
    else
        cmd_say("unknown verb '%s'; see towline --help", shown(name));
    return TOW_ERROR_OPTION;
}

static int fail_unknown(const char *name, const cmd_verb_t *verb)
{
    const tow_option_t *table, *nearest = NULL;
    size_t count, least = 4;
    char hint[128];

    table = tow_options_table(&count);
    for (size_t i = 0; i < count; i++) {
        size_t d = verb_takes(&table[i], verb) ? tow_text_distance(name, table[i].name) : 99;

        if (d < least) {
            least = d;
            nearest = &table[i];
        }
    }
    if (nearest)
        snprintf(hint, sizeof hint, "did you mean --%s?", nearest->name);
    else
        snprintf(hint, sizeof hint, "see towline %s --help", verb->name);
    cmd_say("%s has no option --%s; %s", verb->name, name, hint);
    return TOW_ERROR_OPTION;
}

/* The environment comes first, so that the command line wins. */
static bool read_environment(tow_options_t *options, const cmd_verb_t *verb, tow_error_t *error)
{
    const tow_option_t *table;
    size_t count;

    table = tow_options_table(&count);
    for (size_t i = 0; i < count; i++) {
        const char *value = getenv(table[i].environment);
        char *copy, *rest, *part;
        bool ok = true;

        if (!value || !*value || !verb_takes(&table[i], verb))
            continue;
        if (table[i].type != TOW_OPTION_LIST) {
            ok = tow_options_set(options, table[i].name, value, error);
        } else {
            copy = rest = tow_strdup(value);
            while (ok && (part = strsep(&rest, ",")))
                ok = tow_options_set(options, table[i].name, part, error);
            free(copy);
        }
        if (!ok) {
            char message[sizeof error->message];

            snprintf(message, sizeof message, "%s: %.900s", table[i].environment, error->message);
            memcpy(error->message, message, sizeof message);
            return false;
        }
    }
    return true;
}

static const tow_option_t *find_option(const char *name, size_t length, const cmd_verb_t *verb)
{
    const tow_option_t *table;
    size_t count;

    table = tow_options_table(&count);
    for (size_t i = 0; i < count; i++)
        if (strlen(table[i].name) == length && !strncmp(table[i].name, name, length) &&
            verb_takes(&table[i], verb))
            return &table[i];
    return NULL;
}

/* mongosync's options, which `serve` takes: `--cluster0 URI`, `--port=N`, `--disableVerification`.
 * False: argv[*at] is none of them. */
static bool foreign_argument(tow_options_t *options, int *at, int argc, char **argv,
                             int *out_status)
{
    const char *argument = argv[*at] + 2, *value = "true";
    size_t length = strcspn(argument, "=");
    tow_error_t error;
    char name[64];
    bool flag;

    *out_status = 0;
    snprintf(name, sizeof name, "%.*s", (int)(length < 60 ? length : 60), argument);
    if (!tow_options_is_foreign(name, &flag))
        return false;
    if (argument[length])
        value = argument + length + 1;
    else if (!flag && *at + 1 < argc)
        value = argv[++*at];
    else if (!flag)
        *out_status = fail_usage(argv[*at], "needs a value", "see --help");
    if (!*out_status && !tow_options_set_foreign(options, name, value, &error))
        *out_status = cmd_fail(&error);
    return true;
}

/* `towline cutover --wait`: there is one thing only to wait for. */
static bool stands_alone(const tow_option_t *option, const cmd_verb_t *verb)
{
    return option->type == TOW_OPTION_FLAG ||
           (!strcmp(option->name, "wait") && !strcmp(verb->name, "cutover"));
}

/* 0, or an exit status. */
static int read_arguments(tow_options_t *options, const cmd_verb_t *verb, int argc, char **argv)
{
    tow_error_t error;
    int status;

    for (int i = 0; i < argc; i++) {
        const char *argument = !strcmp(argv[i], "-q") ? "--quiet" : argv[i], *equal, *value;
        const tow_option_t *option;
        size_t length;

        if (verb->operand && *argument != '-') {
            if (!tow_options_set(options, verb->operand, argument, &error))
                return cmd_fail(&error);
            continue;
        }
        if (strncmp(argument, "--", 2) != 0 || !argument[2])
            return fail_usage(argument, "is no option", "options begin with --, see --help");
        equal = strchr(argument, '=');
        length = equal ? (size_t)(equal - argument) - 2 : strlen(argument) - 2;
        option = find_option(argument + 2, length, verb);
        if (!option && verb->like && foreign_argument(options, &i, argc, argv, &status)) {
            if (status)
                return status;
            continue;
        }
        if (!option) {
            char name[64];

            snprintf(name, sizeof name, "%.*s", (int)(length < 60 ? length : 60), argument + 2);
            return fail_unknown(name, verb);
        }
        if (equal)
            value = equal + 1;
        else if (stands_alone(option, verb))
            value = option->type == TOW_OPTION_FLAG ? "true" : "done";
        else if (i + 1 < argc)
            value = argv[++i];
        else
            return fail_usage(argument, "needs a value", "see --help");
        if (!tow_options_set(options, option->name, value, &error))
            return cmd_fail(&error);
    }
    return 0;
}

/* The file of options: named by the command line, or else by the environment. */
static bool read_file(tow_options_t *options, const cmd_verb_t *verb, int argc, char **argv,
                      tow_error_t *error)
{
    const char *path = getenv("TOWLINE_CONFIG");

    if (!find_option("config", 6, verb))
        return true;
    for (int i = 0; i < argc; i++)
        if (!strncmp(argv[i], "--config=", 9))
            path = argv[i] + 9;
        else if (!strcmp(argv[i], "--config") && i + 1 < argc)
            path = argv[++i];
    return !path || !*path || tow_options_load(options, path, error);
}

/* Rather than to end in the middle, by whatever finds no memory first. */
static bool has_memory(const cmd_verb_t *verb, tow_error_t *error)
{
    unsigned long long space = cmd_address_space();

    if (!space || space >= SPACE_LEAST || !find_option("source", 6, verb))
        return true;
    return tow_fail(
        error, TOW_ERROR_UNSUITABLE,
        "this process may map %llu MB of memory, and needs %d MB at least, besides --memory; raise "
        "the limit with `ulimit -v`",
        space, SPACE_LEAST);
}

/* Short for two other options, which win where they are given. */
static bool apply_quiet(tow_options_t *options, tow_error_t *error)
{
    const char *quiet = tow_options_get(options, "quiet", 0);

    if (!quiet || strcmp(quiet, "true") != 0)
        return true;
    return (tow_options_is_set(options, "progress") ||
            tow_options_set(options, "progress", "none", error)) &&
           (tow_options_is_set(options, "log-level") ||
            tow_options_set(options, "log-level", "warning", error));
}

static int run_verb(const cmd_verb_t *verb, int argc, char **argv)
{
    tow_options_t *options;
    tow_error_t error;
    int status;

    for (int i = 0; i < argc; i++)
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            cmd_help(stdout, verb);
            return 0;
        }
    if (!has_memory(verb, &error))
        return cmd_fail(&error);
    options = tow_options_new();
    if (!read_file(options, verb, argc, argv, &error)) {
        tow_options_destroy(options);
        return cmd_fail(&error);
    }
    tow_options_override(options);
    if (read_environment(options, verb, &error)) {
        tow_options_override(options);
        status = read_arguments(options, verb, argc, argv);
    } else {
        status = cmd_fail(&error);
    }
    if (!status)
        status = apply_quiet(options, &error) &&
                         (!find_option("memory", 6, verb) || cmd_fits_group(options, &error))
                     ? verb->run(options)
                     : cmd_fail(&error);
    tow_options_destroy(options);
    return status;
}

/* A line without a verb that begins as mongosync's do. */
static bool is_mongosync_line(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (!strncmp(argv[i], "--cluster0", 10) || !strncmp(argv[i], "--cluster1", 10) ||
            !strncmp(argv[i], "--config", 8))
            return !strncmp(argv[1], "--", 2);
    return false;
}

static int run(int argc, char **argv)
{
    if (argc < 2) {
        cmd_help(stderr, NULL);
        return TOW_ERROR_OPTION;
    }
    if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V"))
        return cmd_version(NULL);
    if (!strcmp(argv[1], "help") && argc > 2 && !strcmp(argv[2], "--markdown")) {
        cmd_help_markdown(stdout);
        return 0;
    }
    if (!strcmp(argv[1], "help") && argc > 2 && strcmp(argv[2], "help") != 0) {
        if (!find_verb(argv[2]))
            return fail_unknown_verb(argv[2]);
        cmd_help(stdout, find_verb(argv[2]));
        return 0;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
        cmd_help(stdout, NULL);
        return 0;
    }
    if (find_verb(argv[1]))
        return run_verb(find_verb(argv[1]), argc - 2, argv + 2);
    if (is_mongosync_line(argc, argv))
        return run_verb(find_verb("serve"), argc - 1, argv + 1);
    return fail_unknown_verb(argv[1]);
}

int main(int argc, char **argv)
{
    char **words;
    int status;

    words = cmd_begin(argc, argv);
    status = run(argc, words);
    for (int i = 0; i < argc; i++)
        free(words[i]);
    free(words);
    status = cmd_end(status);
    /* A thread that was left to itself may still be in a library, which an exit would tidy up under
     * it. */
    if (!getenv("TOWLINE_TEST_LEAKS"))
        _exit(status);
    return status;
}
