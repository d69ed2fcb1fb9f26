/* SPDX-License-Identifier: Apache-2.0 */
/* run.c: the verb that does it all. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/memory.h"
#include "engine/cmd/cmd.h"
#include "engine/cmd/hook.h"
#include "engine/cmd/signals.h"

enum { SUMMARY_MS = 1000 }; /* a stderr that nobody reads is not waited for longer */

static void stop(void *job)
{
    tow_job_stop(job);
}

static bool has_ended(void *job)
{
    return tow_job_ended(job, 0);
}

static bool serve(tow_job_t *job, const tow_options_t *options, cmd_log_t *log, tow_server_t **out,
                  tow_error_t *error)
{
    char *address;

    *out = NULL;
    if (!strcmp(tow_options_get(options, "listen", 0), "none"))
        return true;
    *out = tow_server_new(options, NULL, NULL, error);
    if (!*out)
        return false;
    tow_server_attach(*out, job);
    address = tow_server_address(*out, false);
    cmd_log_event(log, TOW_LEVEL_INFO, "listening", address);
    tow_free(address);
    return true;
}

static void print_as(const char *name, const char *json)
{
    char *line = tow_format("{\"%s\":%s}", name, json);

    cmd_print_json(line);
    free(line);
}

/* Summary on stdout and in its file, in every ending; a job that was only stopped needs no table. A
 * file that cannot be written does not change how the job ended: the summary goes
 * to stderr then. */
static void report(tow_job_t *job, const tow_options_t *options, int status, int room)
{
    const char *path = tow_options_get(options, "summary", 0);
    const char *form = tow_options_get(options, "progress", 0);
    char *summary = tow_job_summary_json(job), *line;
    tow_error_t error;

    cmd_free_room(room);
    if (!summary)
        return;
    if (!strcmp(form, "bar") && status == TOW_ERROR_INTERRUPTED)
        cmd_print_remains(summary);
    else if (!strcmp(form, "bar"))
        cmd_print_summary(summary);
    if (cmd_is_on(options, "json"))
        print_as("summary", summary);
    if (path && !cmd_write_file(path, summary, &error)) {
        cmd_fail(&error);
        line = tow_format("%s\n", summary);
        cmd_write(STDERR_FILENO, line, strlen(line), SUMMARY_MS);
        free(line);
    }
    tow_free(summary);
}

/* Without a control server nobody can ask for the cutover. */
static bool can_cut_over(const tow_options_t *options, tow_error_t *error)
{
    if (strcmp(tow_options_get(options, "listen", 0), "none") != 0 ||
        strcmp(tow_options_get(options, "cutover", 0), "manual") != 0)
        return true;
    return tow_fail(error, TOW_ERROR_OPTION,
                    "with --listen none nobody can ask for the cutover of --cutover manual; give "
                    "--cutover auto, or "
                    "an address that --listen answers on");
}

int cmd_run(tow_options_t *options)
{
    static cmd_log_t log;
    tow_server_t *server;
    tow_error_t error = {0}; /* stays so when the job ends well */
    tow_job_t *job;
    cmd_hook_t *hook;
    static cmd_stoppable_t stoppable = {.stop = stop, .ended = has_ended};
    int status = 0, room; /* for the summary, taken before the job can come to depend on it */

    cmd_block_signals();
    if (!can_cut_over(options, &error) || !cmd_log_open(&log, options, &error) ||
        !cmd_take_room(tow_options_get(options, "summary", 0), &room, &error))
        return cmd_fail(&error);
    cmd_warn_of_memory(options, &log);
    job = tow_job_new(options, &error);
    if (!job) {
        cmd_free_room(room);
        return cmd_fail(&error);
    }
    tow_job_on_event(job, cmd_log_event, &log);
    if (!cmd_hook_begin(tow_options_get(options, "on-phase", 0), job, &log, &hook, &error) ||
        !serve(job, options, &log, &server, &error)) {
        cmd_free_room(room);
        tow_job_destroy(job);
        return cmd_fail(&error);
    }
    stoppable.data = job;
    if (!cmd_watch_signals(&stoppable, &error)) {
        cmd_free_room(room);
        tow_server_destroy(server);
        tow_job_destroy(job);
        return cmd_fail(&error);
    }
    if (!tow_job_start(job, &error)) {
        cmd_free_room(room);
        tow_server_destroy(server);
        /* The watcher may look at the job: it goes with the process. */
        cmd_log_finish(&log);
        return cmd_fail(&error);
    }
    cmd_show_progress(job, tow_options_get(options, "progress", 0));
    if (!tow_job_wait(job, &error))
        status = (int)error.code;
    report(job, options, status, room);
    cmd_hook_end(hook, status);
    cmd_log_finish(&log);
    status = cmd_end(status);
    if (status && error.message[0])
        cmd_fail(&error);
    tow_server_destroy(server);
    if (!status)
        tow_job_settled(job);
    /* The watcher may still look at the job: the process ends here, and so does it. */
    if (!getenv("TOWLINE_TEST_LEAKS"))
        _exit(status);
    tow_job_destroy(job);
    return status;
}
