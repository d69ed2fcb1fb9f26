/* SPDX-License-Identifier: Apache-2.0 */
/* options.c: the one table of options, and their values. */
#include "engine/options/options.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/duration.h"
#include "engine/base/file.h"
#include "engine/base/memory.h"
#include "engine/base/text.h"
#include "engine/options/values.h"
#include "engine/state/filter.h"

static const tow_option_t table[] = {
    {"config", "TOWLINE_CONFIG", TOW_OPTION_STRING, "FILE", "", "",
     "run check plan verify notify config status page pause resume extend cutover cancel",
     "YAML file with options (`workers: 8`); the environment and the command line win over it; "
     "with passwords "
     "in it nobody but you may read it (chmod 600)"},
    {"source", "TOWLINE_SOURCE", TOW_OPTION_SECRET, "URI", "", "", "run check plan verify",
     "deployment to copy from: a replica set or a mongos"},
    {"source-file", "TOWLINE_SOURCE_FILE", TOW_OPTION_STRING, "FILE", "", "",
     "run check plan verify",
     "file whose first line is the source's URI; nobody but you may read it (chmod 600)"},
    {"destination", "TOWLINE_DESTINATION", TOW_OPTION_SECRET, "URI", "", "",
     "run check plan verify", "deployment to copy to"},
    {"destination-file", "TOWLINE_DESTINATION_FILE", TOW_OPTION_STRING, "FILE", "", "",
     "run check plan verify", "file whose first line is the destination's URI; likewise"},
    {"job", "TOWLINE_JOB", TOW_OPTION_STRING, "NAME", "", "default", "run check plan notify status",
     "name of the job; its state is kept on the destination in the database towline_NAME"},
    {"include", "TOWLINE_INCLUDE", TOW_OPTION_LIST, "NS", "", "", "run check plan verify",
     "take only this namespace: db, db.* or db.collection; may be given several times"},
    {"exclude", "TOWLINE_EXCLUDE", TOW_OPTION_LIST, "NS", "", "", "run check plan verify",
     "leave this namespace out; wins over --include"},
    {"workers", "TOWLINE_WORKERS", TOW_OPTION_INTEGER, "", "1..64", "4", "run check plan verify",
     "threads that copy ranges, and lanes that replay changes"},
    {"cutover", "TOWLINE_CUTOVER", TOW_OPTION_CHOICE, "", "auto|manual", "manual", "run check plan",
     "manual: when `towline cutover` asks for it; auto: as soon as in sync, and again once the "
     "source rests "
     "where writes went on"},
    {"window", "TOWLINE_WINDOW", TOW_OPTION_DURATION, "DURATION", "", "120h", "run check plan",
     "how long the job stays in sync, from the first time on, before it stops"},
    {"continuous", "TOWLINE_CONTINUOUS", TOW_OPTION_FLAG, "", "", "false", "run check plan",
     "no window: the job stays in sync until it is cut over, for those who replicate for weeks"},
    {"on-phase", "TOWLINE_ON_PHASE", TOW_OPTION_STRING, "COMMAND", "", "", "run",
     "run this shell command at each phase, with TOWLINE_PHASE, TOWLINE_JOB and TOWLINE_PROGRESS "
     "(JSON) in its "
     "environment, at the end also TOWLINE_EXIT_STATUS and TOWLINE_SUMMARY (JSON)"},
    {"extend", "TOWLINE_EXTEND", TOW_OPTION_DURATION, "DURATION", "", "", "run",
     "add time to the window at this start; how a job whose window is over goes on"},
    {"duration", "TOWLINE_DURATION", TOW_OPTION_DURATION, "DURATION", "", "", "extend",
     "time to add, such as 24h, 1d12h or 90m; `towline extend 24h` is short for it"},
    {"block-writes", "TOWLINE_BLOCK_WRITES", TOW_OPTION_FLAG, "", "", "false",
     "run check plan cutover",
     "block all writes to the source for the cutover (6.0+); they stay blocked when it succeeds, "
     "and "
     "are allowed again when it does not"},
    {"remove-user", "TOWLINE_REMOVE_USER", TOW_OPTION_FLAG, "", "", "false", "run check plan",
     "when all is done, remove the destination's user that the job logs in with"},
    {"no-verify", "TOWLINE_NO_VERIFY", TOW_OPTION_FLAG, "", "", "false", "run check plan",
     "cut over without comparing both sides"},
    {"verify-repair", "TOWLINE_VERIFY_REPAIR", TOW_OPTION_CHOICE, "", "yes|no", "yes", "run",
     "make documents equal that the job's verification finds different; each is reported all the "
     "same"},
    {"repair", "TOWLINE_REPAIR", TOW_OPTION_FLAG, "", "", "false", "verify",
     "make the destination what the source is wherever they differ, then compare that again"},
    {"state", "TOWLINE_STATE", TOW_OPTION_STRING, "FILE", "", "", "verify",
     "keep in this file what was compared: after a crash the same command goes on from there, and "
     "the "
     "file is gone once it came to its end"},
    {"verify-mode", "TOWLINE_VERIFY_MODE", TOW_OPTION_CHOICE, "", "bytes|field-order|numeric-type",
     "bytes", "run verify",
     "what counts as a difference: every byte, all but the order of fields, or all but the types "
     "of "
     "equal numbers"},
    {"verify-rate", "TOWLINE_VERIFY_RATE", TOW_OPTION_INTEGER, "MB/s", "0..100000", "20", "run",
     "most that the verification reads of either side while in sync, less while the source is "
     "slow; "
     "0: it compares only at the cutover"},
    {"max-differences", "TOWLINE_MAX_DIFFERENCES", TOW_OPTION_INTEGER, "", "1..1000000", "1000",
     "run verify", "differences that the report lists; all are counted"},
    {"clear-destination", "TOWLINE_CLEAR_DESTINATION", TOW_OPTION_FLAG, "", "", "false",
     "run check plan verify",
     "drop the destination's namespaces that are in the way of a new job, and only those; with "
     "--repair: drop collections that the source does not have"},
    {"index-errors", "TOWLINE_INDEX_ERRORS", TOW_OPTION_CHOICE, "", "fail|report", "fail",
     "run check plan",
     "what an index that the destination refuses does: fail the job, or be reported at the end"},
    {"build-indexes", "TOWLINE_BUILD_INDEXES", TOW_OPTION_CHOICE, "",
     "afterDataCopy|beforeDataCopy|excludeHashed|excludeHashedAfterCopy|never", "afterDataCopy",
     "run check plan verify",
     "when indexes are built, and which; unique ones always come last, those left out are not "
     "compared"},
    {"range-size", "TOWLINE_RANGE_SIZE", TOW_OPTION_INTEGER, "MB", "1..4096", "256",
     "run check plan verify",
     "largest part of a collection that one worker copies or compares at a time, and again after a "
     "crash"},
    {"memory", "TOWLINE_MEMORY", TOW_OPTION_INTEGER, "MB", "16..1048576", "256", "run check plan",
     "memory for changes that wait to be applied; more go to the spool"},
    {"spool", "TOWLINE_SPOOL", TOW_OPTION_STRING, "DIR", "", "~/.local/state/towline",
     "run check plan status cutover",
     "folder for changes beyond the memory; survives a restart; a job that has ended is read from "
     "there"},
    {"retry-window", "TOWLINE_RETRY_WINDOW", TOW_OPTION_INTEGER, "s", "0..86400", "600",
     "run check plan verify", "how long a server may be away before the job gives up (resumable)"},
    {"lease", "TOWLINE_LEASE", TOW_OPTION_DURATION, "DURATION", "3s..10m", "15s", "run check plan",
     "how long a job stays with a process that no longer renews it: short for a quick takeover "
     "after a crash, "
     "long for a slow network"},
    {"keep-state", "TOWLINE_KEEP_STATE", TOW_OPTION_FLAG, "", "", "false", "run",
     "keep the job's database on the destination after a successful end"},
    {"listen", "TOWLINE_LISTEN", TOW_OPTION_STRING, "HOST:PORT", "", "127.0.0.1:27182",
     "run status page pause resume extend cutover cancel",
     "address of the job's control server; `none` (with run) turns it off"},
    {"token-file", "TOWLINE_TOKEN_FILE", TOW_OPTION_STRING, "FILE", "", "",
     "run status page pause resume extend cutover cancel",
     "file with the secret that requests to the control server must show; without it one is made "
     "in "
     "~/.local/state/towline/token"},
    {"no-token", "TOWLINE_NO_TOKEN", TOW_OPTION_FLAG, "", "", "false",
     "run status page pause resume extend cutover cancel",
     "ask for no token, but answer only processes of the same user, on loopback; for scripts that "
     "know none"},
    {"tls-cert", "TOWLINE_TLS_CERT", TOW_OPTION_STRING, "FILE", "", "", "run",
     "certificate (PEM) of the control server, with which it may listen elsewhere than on "
     "loopback"},
    {"tls-key", "TOWLINE_TLS_KEY", TOW_OPTION_STRING, "FILE", "", "", "run",
     "its private key (PEM)"},
    {"watch", "TOWLINE_WATCH", TOW_OPTION_FLAG, "", "", "false", "status",
     "show the progress as it comes, until the job ends or --wait has what it waits for"},
    {"abort", "TOWLINE_ABORT", TOW_OPTION_FLAG, "", "", "false", "cutover",
     "call the cutover off before its point of no return: the job goes back to in sync, and "
     "nothing is lost"},
    {"wait", "TOWLINE_WAIT", TOW_OPTION_CHOICE, "", "in-sync|verified|done", "", "status cutover",
     "status: wait until a cutover is possible, until both sides were found equal, or for the end; "
     "cutover: "
     "`--wait` alone waits for the end. A job that ends meanwhile gives its exit status, a cutover "
     "that is "
     "called off 20"},
    {"timeout", "TOWLINE_TIMEOUT", TOW_OPTION_DURATION, "DURATION", "", "", "status cutover",
     "with --wait: wait no longer than this, and end with exit status 19"},
    {"tls-ca", "TOWLINE_TLS_CA", TOW_OPTION_STRING, "FILE", "", "",
     "status page pause resume extend cutover cancel",
     "speak TLS with the control server, whose certificate this one (PEM) signed"},
    {"quiet", "TOWLINE_QUIET", TOW_OPTION_FLAG, "", "", "false", "run check plan verify",
     "-q: print no tables; with run and verify short for --progress none --log-level warning"},
    {"progress", "TOWLINE_PROGRESS", TOW_OPTION_CHOICE, "", "bar|json|none", "bar", "run verify",
     "progress on stdout: a bar, one line of JSON a second, or nothing"},
    {"summary", "TOWLINE_SUMMARY", TOW_OPTION_STRING, "FILE", "", "", "run",
     "write the summary as JSON to this file too"},
    {"json", "TOWLINE_JSON", TOW_OPTION_FLAG, "", "", "false", "check plan status",
     "print JSON instead of a table"},
    {"shell", "TOWLINE_SHELL", TOW_OPTION_CHOICE, "", "bash|zsh", "", "completion",
     "shell to complete for; `towline completion bash` is short for it"},
    {"notify-webhook", "TOWLINE_NOTIFY_WEBHOOK", TOW_OPTION_SECRET, "URL", "", "",
     "run check plan notify", "POST notices as JSON to this address (https, http)"},
    {"notify-key-file", "TOWLINE_NOTIFY_KEY_FILE", TOW_OPTION_STRING, "FILE", "", "",
     "run check plan notify",
     "file whose first line signs each POST: X-Towline-Signature: sha256=HMAC of the body"},
    {"notify-smtp", "TOWLINE_NOTIFY_SMTP", TOW_OPTION_SECRET, "URL", "", "",
     "run check plan notify",
     "mail server for notices: smtp://HOST:587 (STARTTLS) or smtps://HOST:465"},
    {"notify-from", "TOWLINE_NOTIFY_FROM", TOW_OPTION_STRING, "ADDRESS", "", "",
     "run check plan notify", "sender of the mails"},
    {"notify-to", "TOWLINE_NOTIFY_TO", TOW_OPTION_STRING, "ADDRESSES", "", "",
     "run check plan notify", "who gets the mails; a comma separates several"},
    {"notify-user", "TOWLINE_NOTIFY_USER", TOW_OPTION_STRING, "NAME", "", "",
     "run check plan notify", "login at the mail server"},
    {"notify-password-file", "TOWLINE_NOTIFY_PASSWORD_FILE", TOW_OPTION_STRING, "FILE", "", "",
     "run check plan notify", "file whose first line is the password at the mail server"},
    {"notify-tls", "TOWLINE_NOTIFY_TLS", TOW_OPTION_CHOICE, "", "required|none", "required",
     "run check plan notify",
     "required: no mail goes out unencrypted; none: for a server on this host"},
    {"notify-ca-file", "TOWLINE_NOTIFY_CA_FILE", TOW_OPTION_STRING, "FILE", "", "",
     "run check plan notify",
     "certificates (PEM) that the webhook and the mail server may be signed by"},
    {"test", "TOWLINE_TEST", TOW_OPTION_FLAG, "", "", "false", "notify",
     "send one notice through every channel now, and tell whether it was taken"},
    {"report", "TOWLINE_REPORT", TOW_OPTION_STRING, "FILE", "", "", "verify",
     "write the verification report as JSON to this file"},
    {"log-path", "TOWLINE_LOG_PATH", TOW_OPTION_STRING, "DIR", "", "", "run",
     "append the log to towline.log in this folder instead of writing it to stderr"},
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
        unsigned level; /* of the last tow_options_set */
    } set[OPTION_COUNT];
    unsigned level; /* counts tow_options_override */
    char *spool;    /* the default folder, made absolute; NULL: this user has none */
};

const tow_option_t *tow_options_table(size_t *out_count)
{
    *out_count = OPTION_COUNT;
    return table;
}

tow_options_t *tow_options_new(void)
{
    tow_options_t *options = tow_alloc(sizeof *options);

    options->spool = tow_state_folder();
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

tow_options_t *tow_options_copy(const tow_options_t *options)
{
    tow_options_t *copy = tow_options_new();

    copy->level = options->level;
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        copy->set[i] = options->set[i];
        copy->set[i].values = tow_alloc((options->set[i].count + 1) * sizeof(char *));
        for (size_t j = 0; j < options->set[i].count; j++)
            copy->set[i].values[j] = tow_strdup(options->set[i].values[j]);
    }
    return copy;
}

static int find(const char *name)
{
    for (int i = 0; i < OPTION_COUNT; i++)
        if (!strcmp(table[i].name, name))
            return i;
    return -1;
}

void tow_options_override(tow_options_t *options)
{
    options->level++;
}

static void unset(tow_options_t *options, int index)
{
    for (size_t i = 0; i < options->set[index].count; i++)
        free(options->set[index].values[i]);
    options->set[index].count = 0;
}

/* What an earlier level said gives way: a list is not added to, and a URI replaces the file that
 * held it, or the other way round. */
static void give_way(tow_options_t *options, int index)
{
    static const char *const twins[][2] = {{"source", "source-file"},
                                           {"destination", "destination-file"}};

    if (table[index].type == TOW_OPTION_LIST && options->set[index].level < options->level)
        unset(options, index);
    for (size_t i = 0; i < sizeof twins / sizeof *twins; i++)
        for (int side = 0; side < 2; side++) {
            int other = find(twins[i][1 - side]);

            if (!strcmp(table[index].name, twins[i][side]) &&
                options->set[other].level < options->level)
                unset(options, other);
        }
    options->set[index].level = options->level;
}

bool tow_options_set(tow_options_t *options, const char *name, const char *value,
                     tow_error_t *error)
{
    int index = find(name);
    size_t count;

    if (index < 0)
        return tow_fail(error, TOW_ERROR_OPTION, "there is no option '%s'", name);
    if (!tow_option_check(&table[index], value, error))
        return false;
    give_way(options, index);
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

bool tow_options_is_set(const tow_options_t *options, const char *name)
{
    int at = find(name);

    return at >= 0 && options->set[at].count > 0;
}

char *tow_options_shown(const tow_options_t *options, const char *name, size_t index)
{
    const char *value = tow_options_get(options, name, index);

    if (!value)
        return NULL;
    if (table[find(name)].type != TOW_OPTION_SECRET) {
        char *shown = tow_format("'%s'", value);

        tow_hide_credentials(shown); /* of a connection string in the wrong place: all in quotes */
        shown[strlen(shown) - 1] = '\0';
        memmove(shown, shown + 1, strlen(shown));
        return shown;
    }
    if (!strcmp(name, "notify-webhook")) /* its path often is the secret */
        return tow_uri_site(value);
    return tow_uri_shown(value);
}

/* URIs ------------------------------------------------------------------------------------------*/

static bool read_file(const char *option, const char *path, const char *what, char **out,
                      tow_error_t *error)
{
    char *text;
    size_t length;

    if (!tow_secret_read(option, path, &text, error))
        return false;
    length = strcspn(text, "\n");
    while (length && isspace((unsigned char)text[length - 1]))
        length--;
    text[length] = '\0';
    if (!length) {
        free(text);
        return tow_fail(error, TOW_ERROR_OPTION, "--%s: the first line of %s is empty; expected %s",
                        option, path, what);
    }
    *out = text;
    return true;
}

bool tow_options_file(const tow_options_t *options, const char *name, char **out,
                      tow_error_t *error)
{
    const char *path = tow_options_get(options, name, 0);

    *out = NULL;
    return !path || read_file(name, path, "a secret", out, error);
}

bool tow_options_uri(const tow_options_t *options, const char *side, char **out, tow_error_t *error)
{
    char file_option[32];
    const char *uri = tow_options_get(options, side, 0), *path;

    snprintf(file_option, sizeof file_option, "%s-file", side);
    path = tow_options_get(options, file_option, 0);
    if (uri && path)
        return tow_fail(error, TOW_ERROR_OPTION, "give --%s or --%s, not both", side, file_option);
    if (path)
        return read_file(file_option, path, "a URI", out, error);
    if (!uri)
        return tow_fail(error, TOW_ERROR_OPTION,
                        "the %s is missing; give --%s mongodb://…, --%s FILE, or set TOWLINE_%s",
                        side, side, file_option,
                        !strcmp(side, "source") ? "SOURCE" : "DESTINATION");
    *out = tow_strdup(uri);
    return true;
}

char *tow_options_address(const tow_options_t *options, const char *side)
{
    char *uri, *address;

    if (!tow_options_uri(options, side, &uri, NULL))
        return NULL;
    address = tow_uri_address(uri);
    free(uri);
    return address;
}
