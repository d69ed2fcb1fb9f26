/* options.c: the one table of options, and their values. */
#include "engine/job/options.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/memory.h"
#include "engine/state/filter.h"

static const tow_option_t table[] = {
    {"source", "TOWLINE_SOURCE", TOW_OPTION_SECRET, "URI", "", "", "run verify",
     "deployment to copy from: a replica set or a mongos"},
    {"source-file", "TOWLINE_SOURCE_FILE", TOW_OPTION_STRING, "FILE", "", "", "run verify",
     "file whose first line is the source's URI, so that no password stands in a process list"},
    {"destination", "TOWLINE_DESTINATION", TOW_OPTION_SECRET, "URI", "", "", "run verify",
     "deployment to copy to"},
    {"destination-file", "TOWLINE_DESTINATION_FILE", TOW_OPTION_STRING, "FILE", "", "",
     "run verify", "file whose first line is the destination's URI"},
    {"job", "TOWLINE_JOB", TOW_OPTION_STRING, "NAME", "", "default", "run",
     "name of the job; its state is kept on the destination in the database towline_NAME"},
    {"include", "TOWLINE_INCLUDE", TOW_OPTION_LIST, "NS", "", "", "run verify",
     "take only this namespace: db, db.* or db.collection; may be given several times"},
    {"exclude", "TOWLINE_EXCLUDE", TOW_OPTION_LIST, "NS", "", "", "run verify",
     "leave this namespace out; wins over --include"},
    {"workers", "TOWLINE_WORKERS", TOW_OPTION_INTEGER, "", "1..64", "4", "run verify",
     "threads that copy ranges, and lanes that replay changes"},
    {"cutover", "TOWLINE_CUTOVER", TOW_OPTION_CHOICE, "", "auto|manual", "auto", "run",
     "auto: as soon as in sync; manual: when `towline cutover` asks for it"},
    {"no-verify", "TOWLINE_NO_VERIFY", TOW_OPTION_FLAG, "", "", "false", "run",
     "cut over without comparing both sides"},
    {"verify-repair", "TOWLINE_VERIFY_REPAIR", TOW_OPTION_CHOICE, "", "yes|no", "yes", "run",
     "make documents equal that the job's verification finds different; each is reported all the same"},
    {"repair", "TOWLINE_REPAIR", TOW_OPTION_FLAG, "", "", "false", "verify",
     "make the destination what the source is wherever they differ, then compare that again"},
    {"verify-mode", "TOWLINE_VERIFY_MODE", TOW_OPTION_CHOICE, "", "bytes|field-order|numeric-type",
     "bytes", "run verify",
     "what counts as a difference: every byte, all but the order of fields, or all but the types of "
     "equal numbers"},
    {"verify-rate", "TOWLINE_VERIFY_RATE", TOW_OPTION_INTEGER, "MB/s", "0..100000", "20", "run",
     "most that the verification reads of either side while in sync, less while the source is slow; "
     "0: it compares only at the cutover"},
    {"max-differences", "TOWLINE_MAX_DIFFERENCES", TOW_OPTION_INTEGER, "", "1..1000000", "1000",
     "run verify", "differences that the report lists; all are counted"},
    {"clear-destination", "TOWLINE_CLEAR_DESTINATION", TOW_OPTION_FLAG, "", "", "false",
     "run verify",
     "drop the destination's namespaces that are in the way of a new job, and only those; with "
     "--repair: drop collections that the source does not have"},
    {"index-errors", "TOWLINE_INDEX_ERRORS", TOW_OPTION_CHOICE, "", "fail|report", "fail", "run",
     "what an index that the destination refuses does: fail the job, or be reported at the end"},
    {"range-size", "TOWLINE_RANGE_SIZE", TOW_OPTION_INTEGER, "MB", "1..4096", "256", "run",
     "largest part of a collection that one worker copies at a time, and again after a crash"},
    {"memory", "TOWLINE_MEMORY", TOW_OPTION_INTEGER, "MB", "16..1048576", "256", "run",
     "memory for changes that wait to be applied; more go to the spool"},
    {"spool", "TOWLINE_SPOOL", TOW_OPTION_STRING, "DIR", "", "~/.local/state/towline", "run",
     "folder for changes beyond the memory; survives a restart"},
    {"retry-window", "TOWLINE_RETRY_WINDOW", TOW_OPTION_INTEGER, "s", "0..86400", "600",
     "run verify", "how long a server may be away before the job gives up (resumable)"},
    {"keep-state", "TOWLINE_KEEP_STATE", TOW_OPTION_FLAG, "", "", "false", "run",
     "keep the job's database on the destination after a successful end"},
    {"listen", "TOWLINE_LISTEN", TOW_OPTION_STRING, "HOST:PORT", "", "127.0.0.1:27182",
     "run status pause resume cutover",
     "address of the job's control server; `none` (with run) turns it off"},
    {"progress", "TOWLINE_PROGRESS", TOW_OPTION_CHOICE, "", "bar|json|none", "bar", "run verify",
     "progress on stdout: a bar, one line of JSON a second, or nothing"},
    {"summary", "TOWLINE_SUMMARY", TOW_OPTION_STRING, "FILE", "", "", "run",
     "write the summary as JSON to this file too"},
    {"report", "TOWLINE_REPORT", TOW_OPTION_STRING, "FILE", "", "", "verify",
     "write the verification report as JSON to this file"},
    {"log-format", "TOWLINE_LOG_FORMAT", TOW_OPTION_CHOICE, "", "text|json", "text", "run verify",
     "form of the log lines on stderr"},
    {"log-level", "TOWLINE_LOG_LEVEL", TOW_OPTION_CHOICE, "", "debug|info|warning|error", "info",
     "run verify", "least level of the log lines"},
};

enum { OPTION_COUNT = sizeof table / sizeof *table };

struct tow_options {
    struct {
        char **values;
        size_t count;
    } set[OPTION_COUNT];
    char *spool; /* the default folder, made absolute */
};

const tow_option_t *tow_options_table(size_t *out_count)
{
    *out_count = OPTION_COUNT;
    return table;
}

static char *default_spool(void)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");

    if (state && *state)
        return tow_format("%s/towline", state);
    return tow_format("%s/.local/state/towline", home && *home ? home : "/tmp");
}

tow_options_t *tow_options_new(void)
{
    tow_options_t *options = tow_alloc(sizeof *options);

    options->spool = default_spool();
    return options;
}

void tow_options_destroy(tow_options_t *options)
{
    if (!options)
        return;
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        for (size_t j = 0; j < options->set[i].count; j++)
            free(options->set[i].values[j]);
        free(options->set[i].values);
    }
    free(options->spool);
    free(options);
}

static int find(const char *name)
{
    for (int i = 0; i < OPTION_COUNT; i++)
        if (!strcmp(table[i].name, name))
            return i;
    return -1;
}

/* Values ----------------------------------------------------------------------------------------*/

static bool check_integer(const tow_option_t *option, const char *value, tow_error_t *error)
{
    long long least, most, number;
    char *end;

    sscanf(option->range, "%lld..%lld", &least, &most);
    errno = 0;
    number = strtoll(value, &end, 10);
    if (errno || end == value || *end || number < least || number > most)
        return tow_fail(error, TOW_ERROR_OPTION, "--%s: '%s' is no number of %s%s%s", option->name,
                        value, option->range, *option->unit ? " " : "", option->unit);
    return true;
}

static bool check_choice(const tow_option_t *option, const char *value, tow_error_t *error)
{
    size_t length = strlen(value);

    for (const char *at = option->range; at; at = strchr(at, '|')) {
        if (*at == '|')
            at++;
        if (length && !strncmp(at, value, length) && (at[length] == '|' || !at[length]))
            return true;
    }
    return tow_fail(error, TOW_ERROR_OPTION, "--%s: '%s' is none of %s", option->name, value,
                    option->range);
}

static bool check_listen(const char *value, tow_error_t *error)
{
    const char *colon = strrchr(value, ':');
    char *end;
    long port;

    if (!strcmp(value, "none"))
        return true;
    port = colon ? strtol(colon + 1, &end, 10) : -1;
    if (!colon || colon == value || end == colon + 1 || *end || port < 0 || port > 65535)
        return tow_fail(error, TOW_ERROR_OPTION,
                        "--listen: '%s' is no address; expected HOST:PORT, such as "
                        "127.0.0.1:27182, or none",
                        value);
    return true;
}

static bool check_job(const char *value, tow_error_t *error)
{
    size_t length = strlen(value);
    bool good = length >= 1 && length <= 40;

    for (const char *at = value; good && *at; at++)
        good = islower((unsigned char)*at) || isdigit((unsigned char)*at) || *at == '_' ||
               *at == '-';
    return good ? true
                : tow_fail(error, TOW_ERROR_OPTION,
                           "--job: '%s' is no name; expected 1 to 40 of a-z, 0-9, _ and -", value);
}

static bool check_namespace(const tow_option_t *option, const char *value, tow_error_t *error)
{
    tow_filter_t *filter = tow_filter_new();
    bool ok = tow_filter_include(filter, value, error);

    tow_filter_destroy(filter);
    return ok ? true : tow_fail_context(error, "--%s", option->name);
}

static bool check(const tow_option_t *option, const char *value, tow_error_t *error)
{
    switch (option->type) {
    case TOW_OPTION_INTEGER:
        return check_integer(option, value, error);
    case TOW_OPTION_CHOICE:
        return check_choice(option, value, error);
    case TOW_OPTION_FLAG:
        return !strcmp(value, "true") || !strcmp(value, "false")
                   ? true
                   : tow_fail(error, TOW_ERROR_OPTION, "--%s: '%s' is neither true nor false",
                              option->name, value);
    case TOW_OPTION_LIST:
        return check_namespace(option, value, error);
    default:
        if (!*value)
            return tow_fail(error, TOW_ERROR_OPTION, "--%s: the value is empty", option->name);
        if (!strcmp(option->name, "listen"))
            return check_listen(value, error);
        if (!strcmp(option->name, "job"))
            return check_job(value, error);
        return true;
    }
}

bool tow_options_set(tow_options_t *options, const char *name, const char *value,
                     tow_error_t *error)
{
    int index = find(name);
    size_t count;

    if (index < 0)
        return tow_fail(error, TOW_ERROR_OPTION, "there is no option '%s'", name);
    if (!check(&table[index], value, error))
        return false;
    count = options->set[index].count;
    if (table[index].type != TOW_OPTION_LIST && count) {
        free(options->set[index].values[0]);
        options->set[index].values[0] = tow_strdup(value);
        return true;
    }
    options->set[index].values =
        tow_realloc(options->set[index].values, (count + 1) * sizeof(char *));
    options->set[index].values[count] = tow_strdup(value);
    options->set[index].count++;
    return true;
}

const char *tow_options_get(const tow_options_t *options, const char *name, size_t index)
{
    int at = find(name);

    if (at < 0)
        return NULL;
    if (index < options->set[at].count)
        return options->set[at].values[index];
    if (index > 0 || !*table[at].initial)
        return NULL;
    return !strcmp(name, "spool") ? options->spool : table[at].initial;
}

/* URIs ------------------------------------------------------------------------------------------*/

static bool read_file(const char *option, const char *path, char **out, tow_error_t *error)
{
    FILE *file = fopen(path, "r");
    char *line = NULL;
    size_t size = 0;
    ssize_t length;

    if (!file)
        return tow_fail_errno(error, TOW_ERROR_OPTION, "--%s: cannot read %s", option, path);
    length = getline(&line, &size, file);
    fclose(file);
    while (length > 0 && isspace((unsigned char)line[length - 1]))
        line[--length] = '\0';
    if (length <= 0) {
        free(line);
        return tow_fail(error, TOW_ERROR_OPTION, "--%s: the first line of %s is empty; expected a URI",
                        option, path);
    }
    *out = line;
    return true;
}

bool tow_options_uri(const tow_options_t *options, const char *side, char **out,
                     tow_error_t *error)
{
    char file_option[32];
    const char *uri = tow_options_get(options, side, 0), *path;

    snprintf(file_option, sizeof file_option, "%s-file", side);
    path = tow_options_get(options, file_option, 0);
    if (uri && path)
        return tow_fail(error, TOW_ERROR_OPTION, "give --%s or --%s, not both", side, file_option);
    if (path)
        return read_file(file_option, path, out, error);
    if (!uri)
        return tow_fail(error, TOW_ERROR_OPTION,
                        "the %s is missing; give --%s mongodb://…, --%s FILE, or set TOWLINE_%s",
                        side, side, file_option,
                        !strcmp(side, "source") ? "SOURCE" : "DESTINATION");
    *out = tow_strdup(uri);
    return true;
}
