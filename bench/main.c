/* SPDX-License-Identifier: Apache-2.0 */
/* main.c: towline-bench: one table of verbs, one of options. */
#include <curl/curl.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "bench/bench.h"
#include "engine/base/memory.h"

static const struct {
    const char *name;
    tow_bench_verb_fn fn;
    const char *help;
} verbs[] = {
    {"fill", tow_bench_fill, "load documents into a collection"},
    {"plain-copy", tow_bench_plain_copy, "the baseline: find and bulk inserts, one thread"},
    {"load", tow_bench_load, "write at a steady rate, or --count operations at once"},
    {"copy", tow_bench_copy, "copy by the engine and by the plain copy, in turns"},
    {"lag", tow_bench_lag, "lag of a canary under a steady rate of updates"},
    {"verify", tow_bench_verify, "compare equal sides, against a scan of each"},
    {"drain", tow_bench_drain, "how fast a backlog drains that built up while paused"},
};

/* `verbs` holds the names of those that take the option; a verb in capitals needs it. */
typedef struct {
    const char *name, *unit, *verbs, *help, *initial;
    size_t text, number; /* offset of the field; SIZE_MAX for the kind that it is not */
    int64_t least;
} option_t;

#define TEXT(field) offsetof(tow_bench_options_t, field), SIZE_MAX, 0
#define NUMBER(field, least) SIZE_MAX, offsetof(tow_bench_options_t, field), least

static const option_t table[] = {
    {"uri", "URI", "FILL LOAD", "server to write to", NULL, TEXT(uri)},
    {"source", "URI", "PLAIN-COPY COPY LAG DRAIN VERIFY", "source server", NULL, TEXT(source)},
    {"destination", "URI", "PLAIN-COPY COPY LAG DRAIN VERIFY",
     "destination server; the database --database there is dropped first", NULL, TEXT(destination)},
    {"database", "NAME", "fill load plain-copy copy lag drain verify", "database of the bench",
     "bench", TEXT(database)},
    {"collection", "NAME", "fill load plain-copy copy lag drain verify", "collection of the bench",
     "orders", TEXT(collection)},
    {"documents", "N", "fill", "documents to load", "200000", NUMBER(documents, 1)},
    {"bytes", "N", "fill load lag drain", "size of a document", "1024", NUMBER(bytes, 1)},
    {"kind", "KIND", "load", "update, hot or insert", "update", TEXT(kind)},
    {"rate", "N", "load lag", "operations a second; load: 0 is as fast as it goes", NULL,
     NUMBER(rate, 0)},
    {"seconds", "S", "load lag", "how long", "20", NUMBER(seconds, 1)},
    {"count", "N", "load", "operations in all", NULL, NUMBER(count, 1)},
    {"keys", "N", "load lag drain", "updates choose among so many of the first documents", "100000",
     NUMBER(keys, 1)},
    {"events", "N", "drain", "size of the backlog", "100000", NUMBER(events, 1)},
    {"threads", "N", "fill load lag drain", "writers", "2", NUMBER(threads, 1)},
    {"rounds", "N", "copy drain verify", "rounds of which the median counts", "5",
     NUMBER(rounds, 1)},
    {"engine", "FILE", "COPY LAG DRAIN VERIFY", "the towline program", NULL, TEXT(engine)},
    {"work", "DIR", "copy lag drain verify", "folder for the logs of what is started", "/tmp",
     TEXT(work)},
    {"timeout", "S", "copy lag drain verify",
     "longest time for a copy, or for a whole lag or drain run", "600", NUMBER(timeout, 1)},
    {"json", "FILE", "copy lag drain verify", "append the results as a line of JSON", NULL,
     TEXT(json)},
    {"commit", "TEXT", "copy lag drain verify", "the engine's commit, for the report", NULL,
     TEXT(commit)},
    {"server", "TEXT", "copy lag drain verify", "name of the servers, for the report", NULL,
     TEXT(server)},
    {"source-pid", "PID", "copy lag drain verify", "measure the source's CPU as well", NULL,
     NUMBER(source_pid, 1)},
    {"destination-pid", "PID", "copy lag drain verify", "measure the destination's CPU as well",
     NULL, NUMBER(destination_pid, 1)},
};
enum { OPTIONS = sizeof table / sizeof *table, VERBS = sizeof verbs / sizeof *verbs };

typedef enum { NOT_TAKEN, TAKEN, NEEDED } use_t;

static use_t use_of(const option_t *option, const char *verb)
{
    size_t length = strlen(verb);
    for (const char *word = option->verbs; *word;) {
        size_t span = strcspn(word, " ");
        if (span == length && strncasecmp(word, verb, length) == 0)
            return strncmp(word, verb, length) == 0 ? TAKEN : NEEDED;
        word += span;
        word += strspn(word, " ");
    }
    return NOT_TAKEN;
}

static bool set(tow_bench_options_t *options, const option_t *option, const char *value,
                tow_error_t *error)
{
    if (option->text != SIZE_MAX) {
        char **field = (char **)((char *)options + option->text);
        free(*field);
        *field = tow_strdup(value);
        return true;
    }
    char *end;
    errno = 0;
    long long number = strtoll(value, &end, 10);
    if (errno || end == value || *end || number < option->least)
        return tow_fail(error, TOW_ERROR_OPTION, "--%s %s: expected a number from %lld",
                        option->name, value, (long long)option->least);
    *(int64_t *)((char *)options + option->number) = number;
    return true;
}

/* TOWLINE_BENCH_SOURCE_PID for source-pid. */
static const char *from_environment(const option_t *option)
{
    char *name = tow_format("TOWLINE_BENCH_%s", option->name);
    for (char *c = name; *c; c++)
        *c = *c == '-' ? '_' : *c >= 'a' && *c <= 'z' ? (char)(*c - 'a' + 'A') : *c;
    const char *value = getenv(name);
    free(name);
    return value;
}

static bool parse(tow_bench_options_t *options, const char *verb, char **words, tow_error_t *error)
{
    bool given[OPTIONS] = {0};
    for (size_t i = 0; i < OPTIONS; i++) {
        const char *value = from_environment(&table[i]);
        if (use_of(&table[i], verb) == NOT_TAKEN)
            continue;
        given[i] = value != NULL;
        if (!value)
            value = table[i].initial;
        if (value && !set(options, &table[i], value, error))
            return false;
    }
    for (; *words; words++) {
        size_t i = 0;
        while (i < OPTIONS &&
               !(strncmp(*words, "--", 2) == 0 && !strcmp(*words + 2, table[i].name)))
            i++;
        if (i == OPTIONS || use_of(&table[i], verb) == NOT_TAKEN)
            return tow_fail(error, TOW_ERROR_OPTION, "%s: no option \"%s\", see --help", verb,
                            *words);
        if (!words[1])
            return tow_fail(error, TOW_ERROR_OPTION, "%s: a value is missing", *words);
        if (!set(options, &table[i], *++words, error))
            return false;
        given[i] = true;
    }
    for (size_t i = 0; i < OPTIONS; i++)
        if (use_of(&table[i], verb) == NEEDED && !given[i])
            return tow_fail(error, TOW_ERROR_OPTION, "%s: --%s is missing", verb, table[i].name);
    if (options->rate == 0 && strcmp(verb, "lag") == 0)
        options->rate = 1000;
    return true;
}

static void help(void)
{
    printf("usage: towline-bench VERB [--OPTION VALUE]…\n\n");
    for (size_t v = 0; v < VERBS; v++) {
        printf("%s: %s\n", verbs[v].name, verbs[v].help);
        for (size_t i = 0; i < OPTIONS; i++) {
            use_t use = use_of(&table[i], verbs[v].name);
            if (use == NOT_TAKEN)
                continue;
            printf("    --%-16s %-5s %s", table[i].name, table[i].unit, table[i].help);
            if (table[i].initial)
                printf(" (%s)", table[i].initial);
            printf("%s\n", use == NEEDED ? " (needed)" : "");
        }
        printf("\n");
    }
    printf("Every option has an environment twin: TOWLINE_BENCH_SOURCE for --source.\n");
}

int main(int argc, char **argv)
{
    tow_error_t error = {0};
    tow_bench_options_t options = {0};
    size_t v = 0;
    if (argc < 2 || strcmp(argv[1], "--help") == 0) {
        help();
        return argc < 2 ? TOW_ERROR_OPTION : 0;
    }
    while (v < VERBS && strcmp(argv[1], verbs[v].name) != 0)
        v++;
    if (v == VERBS) {
        fprintf(stderr, "towline-bench: no verb \"%s\", see --help\n", argv[1]);
        return TOW_ERROR_OPTION;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    mongoc_init();
    curl_global_init(CURL_GLOBAL_DEFAULT);
    bool ok = parse(&options, verbs[v].name, argv + 2, &error) && verbs[v].fn(&options, &error);
    if (!ok)
        fprintf(stderr, "towline-bench: %s: %s\n", verbs[v].name, error.message);
    curl_global_cleanup();
    mongoc_cleanup();
    for (size_t i = 0; i < OPTIONS; i++)
        if (table[i].text != SIZE_MAX)
            free(*(char **)((char *)&options + table[i].text));
    return ok ? 0 : (int)error.code;
}
