/* SPDX-License-Identifier: Apache-2.0 */
/* host.c: a program with habits of its own runs a job: its signals, its dispositions and its log of
 * the driver are as before, at the start, in the middle and after the end.
 *
 *     host SOURCE-URI DESTINATION-URI SPOOL-FOLDER */
#include <dirent.h>
#include <mongoc/mongoc.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/towline.h"

static _Atomic unsigned logged;

static void on_log(mongoc_log_level_t level, const char *domain, const char *message, void *data)
{
    (void)level, (void)domain, (void)message, (void)data;
    atomic_fetch_add(&logged, 1);
}

static void expect(bool holds, const char *what)
{
    if (holds)
        return;
    printf("not so: %s\n", what);
    exit(1);
}

static void on_signal(int number)
{
    (void)number;
}

static void expect_dispositions(void)
{
    struct sigaction action;

    for (int number = 1; number < SIGRTMIN; number++) {
        if (sigaction(number, NULL, &action))
            continue;
        if (number == SIGTERM)
            expect(action.sa_handler == on_signal, "the host's handler is in place");
        else
            expect(action.sa_handler == SIG_DFL, "what a signal does is as it was");
    }
}

/* Of each thread but this one: SIGTERM and SIGPIPE are blocked. How many there are. */
static unsigned expect_blocked(void)
{
    DIR *threads = opendir("/proc/self/task");
    const struct dirent *thread;
    char path[300], line[200];
    unsigned count = 0;

    while ((thread = readdir(threads))) {
        unsigned long long blocked = 0;
        FILE *file;

        if (*thread->d_name == '.' || atoi(thread->d_name) == getpid())
            continue;
        snprintf(path, sizeof path, "/proc/self/task/%s/status", thread->d_name);
        if (!(file = fopen(path, "r")))
            continue; /* it has just ended */
        while (fgets(line, sizeof line, file))
            if (sscanf(line, "SigBlk: %llx", &blocked) == 1) {
                count++;
                expect(blocked & (1ULL << (SIGTERM - 1)), "a thread takes no SIGTERM");
                expect(blocked & (1ULL << (SIGPIPE - 1)), "a thread takes no SIGPIPE");
            }
        fclose(file);
    }
    closedir(threads);
    return count;
}

static void expect_log(void)
{
    unsigned before = atomic_load(&logged);

    mongoc_log(MONGOC_LOG_LEVEL_WARNING, "host", "a line of the host's");
    expect(atomic_load(&logged) == before + 1, "the driver's log reaches the host");
}

int main(int argc, char **argv)
{
    tow_options_t *options = tow_options_new();
    struct sigaction action = {.sa_handler = on_signal};
    tow_progress_t progress;
    tow_error_t error;
    unsigned threads = 0;
    tow_job_t *job;
    char *json;
    bool ok;

    mongoc_init();
    mongoc_log_set_handler(on_log, NULL);
    sigaction(SIGTERM, &action, NULL);
    expect(argc == 4 && tow_options_set(options, "source", argv[1], &error) &&
               tow_options_set(options, "destination", argv[2], &error) &&
               tow_options_set(options, "spool", argv[3], &error),
           "options are set");
    ok = tow_check(options, &json, &error);
    expect(ok, "the checks pass");
    tow_free(json);
    job = tow_job_new(options, &error);
    expect(job && tow_job_start(job, &error), "the job starts");
    for (int round = 0; round < 400 && !tow_job_ended(job, 50); round++) {
        threads = expect_blocked() > threads ? expect_blocked() : threads;
        expect_dispositions();
        expect_log();
        tow_job_progress(job, &progress);
        if (progress.phase == TOW_PHASE_IN_SYNC)
            tow_job_stop(job);
    }
    /* Stopped while it waits for events, it leaves a thread to the source. */
    expect(!tow_job_wait(job, &error) && error.code == TOW_ERROR_INTERRUPTED, "the job is stopped");
    expect(threads > 3, "there were threads");
    tow_job_destroy(job);
    expect_dispositions();
    expect_log();
    tow_options_destroy(options);
    expect(tow_threads_ended(10000), "all threads have ended");
    expect(expect_blocked() == 0, "there is one thread again");
    mongoc_cleanup();
    puts("done: the host is as it was");
    return 0;
}
