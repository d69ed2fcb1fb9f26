/* SPDX-License-Identifier: Apache-2.0 */
/* process.c: what the program makes of its process before all else: no core files, no passwords in
 * its words, bounds for memory. */
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "engine/base/uri.h"
#include "engine/cmd/cmd.h"

enum { STACK_BYTES = 1024 * 1024, SPACE_GOOD = 1024 /* MB of addresses */ };

/* The driver's counters, which nobody reads, and which it makes in /dev/shm while it is loaded,
 * before any variable could be set: a process that is killed would leave them there, and one that
 * gets the same id later be warned of them. They work on without the name. */
static void remove_counters(void)
{
    char name[32];

    snprintf(name, sizeof name, "/mongoc-%ld", (long)getpid());
    shm_unlink(name);
}

/* No core file: it would hold connection strings, the token and documents. Nor may another process
 * of this user look into our memory, except for debugging. */
static void keep_secrets(void)
{
    const char *core = getenv("TOWLINE_CORE");

    if (core && *core)
        return;
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    prctl(PR_SET_DUMPABLE, 0);
}

/* Whether a word is `--NAME` or `--NAME=…` of an option that holds a secret, also under mongosync's
 * name. */
static bool names_secret(const char *word)
{
    size_t count, length = strcspn(word, "=");
    const tow_option_t *table = tow_options_table(&count);

    for (size_t i = 0; i < count; i++)
        if (table[i].type == TOW_OPTION_SECRET && length == strlen(table[i].name) + 2 &&
            !strncmp(word, "--", 2) && !strncmp(word + 2, table[i].name, length - 2))
            return true;
    return length == 10 && (!strncmp(word, "--cluster0", 10) || !strncmp(word, "--cluster1", 10));
}

/* A value as it may stand in a list of processes; of a web page's address the path may be the
 * secret. */
static char *shown_value(const char *name, const char *value)
{
    return !strncmp(name, "--notify-webhook", 16) ? tow_uri_site(value) : tow_uri_shown(value);
}

/* A copy of the words. Secrets are then overwritten where everybody's `ps` shows them: by what of
 * them may be shown, as far as there is room. So is any connection string, whatever option it was
 * given to. */
static char **take_words(int argc, char **argv)
{
    char **words = tow_alloc(((size_t)argc + 1) * sizeof *words);

    for (int i = 0; i < argc; i++) {
        const char *address = strstr(argv[i], "://");
        size_t room = strlen(argv[i]), kept = strcspn(argv[i], "=");
        bool own = names_secret(argv[i]) && kept < room;
        bool next = i && names_secret(words[i - 1]) && !strchr(words[i - 1], '=');
        char *shown;

        words[i] = tow_strdup(argv[i]);
        if (!address && !own && !next)
            continue;
        kept = own || (!next && address && argv[i] + kept < address) ? kept + 1 : 0;
        shown = shown_value(next ? words[i - 1] : words[i], words[i] + kept);
        memset(argv[i] + kept, 0, room - kept);
        memcpy(argv[i] + kept, shown, strnlen(shown, room - kept));
        free(shown);
    }
    return words;
}

unsigned long long cmd_address_space(void)
{
    struct rlimit limit;

    return getrlimit(RLIMIT_AS, &limit) || limit.rlim_cur == RLIM_INFINITY ? 0
                                                                           : limit.rlim_cur >> 20;
}

/* Batches of many megabytes come and go. Mapped anew each time, their pages would cost more than
 * all else that the engine does; kept without bound, they would be the peak of memory. Each arena
 * reserves 64 MB of addresses, and 30 threads of the usual 8 MB would take 240 more: most of what a
 * job needs of them. */
static void limit_memory(void)
{
    unsigned long long space = cmd_address_space();
    pthread_attr_t attributes;

    mallopt(M_MMAP_THRESHOLD, 32 * 1024 * 1024);
    mallopt(M_TRIM_THRESHOLD, 16 * 1024 * 1024);
    mallopt(M_ARENA_MAX, space && space < SPACE_GOOD ? 1 : 4);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    pthread_setattr_default_np(&attributes);
    pthread_attr_destroy(&attributes);
}

/* A message and a status instead of a signal: what is left undone is what a kill would leave.
 * Nothing here may allocate. */
static void end_without_memory(void)
{
    unsigned long long space = cmd_address_space();
    char limit[64] = "the system gives no more";

    if (space)
        snprintf(limit, sizeof limit, "this process may map %llu MB", space);
    dprintf(
        STDERR_FILENO,
        "towline: out of memory: %s; raise the limit (`ulimit -v`, or the container's), or lower "
        "--memory and --workers; the same command goes on from the last checkpoint\n",
        limit);
    _exit(TOW_ERROR_UNSUITABLE);
}

/* In the library and in the program, which have a copy of these functions each. */
static void take_failures(void)
{
    tow_on_out_of_memory(end_without_memory);
    tow_when_out_of_memory(end_without_memory);
}

char **cmd_begin(int argc, char **argv)
{
    limit_memory();
    take_failures();
    tow_take_driver_log();
    keep_secrets();
    remove_counters();
    return take_words(argc, argv);
}
