/* run.c: the verb that does it all. */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "engine/cmd/cmd.h"

enum { STOP_SECONDS = 4 };

/* The first signal stops at a checkpoint, the second ends at once: that too is safe, as any end is. So
 * it is when a server that does not answer keeps the checkpoint from being stored. */
static void *watch_signals(void *data)
{
    static const char message[] = "towline: stopped without a last checkpoint, since a server does "
                                  "not answer; nothing is lost, run the same command again to go on\n";
    struct timespec patience = {.tv_sec = STOP_SECONDS};
    tow_job_t *job = data;
    sigset_t set;
    int number;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigwait(&set, &number);
    tow_job_stop(job);
    number = sigtimedwait(&set, NULL, &patience);
    if (number > 0)
        _exit(128 + number);
    if (tow_job_ended(job, 0)) {
        sigwait(&set, &number);
        _exit(128 + number);
    }
    if (write(STDERR_FILENO, message, sizeof message - 1) < 0)
        _exit(TOW_ERROR_INTERNAL);
    _exit(TOW_ERROR_INTERRUPTED);
    return NULL;
}

static void block_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static bool serve(tow_job_t *job, const tow_options_t *options, cmd_log_t *log,
                  tow_control_t **out, tow_error_t *error)
{
    const char *listen = tow_options_get(options, "listen", 0);
    char message[64];

    *out = NULL;
    if (!strcmp(listen, "none"))
        return true;
    *out = tow_control_new(job, listen, error);
    if (!*out)
        return false;
    snprintf(message, sizeof message, "http://127.0.0.1:%d/api/v1/", tow_control_port(*out));
    cmd_log_event(log, TOW_LEVEL_INFO, "listening", message);
    return true;
}

/* Summary on stdout and in its file, in every ending. */
static int report(tow_job_t *job, const tow_options_t *options, int status)
{
    const char *path = tow_options_get(options, "summary", 0);
    const char *form = tow_options_get(options, "progress", 0);
    char *summary = tow_job_summary_json(job);
    tow_error_t error;

    if (!summary)
        return status;
    if (!strcmp(form, "bar"))
        cmd_print_summary(summary);
    if (path && !cmd_write_file(path, summary, &error)) {
        int written = cmd_fail(&error);

        if (!status)
            status = written;
    }
    tow_free(summary);
    return status;
}

int cmd_run(tow_options_t *options)
{
    cmd_log_t log;
    tow_control_t *control;
    tow_error_t error;
    pthread_t watcher;
    tow_job_t *job;
    int status = 0;

    block_signals();
    if (!cmd_log_open(&log, options, &error))
        return cmd_fail(&error);
    job = tow_job_new(options, &error);
    if (!job)
        return cmd_fail(&error);
    tow_job_on_event(job, cmd_log_event, &log);
    if (!serve(job, options, &log, &control, &error)) {
        tow_job_destroy(job);
        return cmd_fail(&error);
    }
    /* Without it nothing but SIGKILL would end the job: signals are blocked. */
    if (pthread_create(&watcher, NULL, watch_signals, job)) {
        error = (tow_error_t){.code = TOW_ERROR_INTERNAL,
                              .message = "cannot start a thread; see `ulimit -u`"};
        tow_control_destroy(control);
        tow_job_destroy(job);
        return cmd_fail(&error);
    }
    pthread_detach(watcher);
    if (!tow_job_start(job, &error)) {
        tow_control_destroy(control);
        /* The watcher may look at the job: it goes with the process. */
        return cmd_fail(&error);
    }
    cmd_show_progress(job, tow_options_get(options, "progress", 0));
    if (!tow_job_wait(job, &error))
        status = (int)error.code;
    status = report(job, options, status);
    fflush(stdout);
    if (status && error.message[0])
        cmd_fail(&error);
    tow_control_destroy(control);
    if (!status)
        tow_job_told(job);
    /* The watcher may still look at the job: the process ends here, and so does it. */
    if (!getenv("TOWLINE_TEST_LEAKS"))
        _exit(status);
    tow_job_destroy(job);
    return status;
}
