/* SPDX-License-Identifier: Apache-2.0 */
/* serve.c: the verb that waits for jobs to be started through the page or the HTTP API. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/file.h"
#include "engine/base/memory.h"
#include "engine/cmd/cmd.h"
#include "engine/cmd/signals.h"

typedef struct {
    tow_server_t *server;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool stopped; /* guarded by lock */
} service_t;

static void stop(void *data)
{
    service_t *service = data;

    tow_server_stop(service->server);
    pthread_mutex_lock(&service->lock);
    service->stopped = true;
    pthread_cond_broadcast(&service->changed);
    pthread_mutex_unlock(&service->lock);
}

/* The process ends when its job has. */
static bool has_ended(void *data TOW_UNUSED)
{
    return false;
}

/* "; the token is in FILE", or "" where requests need none. The caller frees it. */
static char *name_token(const tow_options_t *options)
{
    const char *file = tow_options_get(options, "token-file", 0);
    char *folder = file ? NULL : tow_state_folder(), *said;

    if (!strcmp(tow_options_get(options, "no-token", 0), "true"))
        said = tow_strdup("");
    else
        said = file ? tow_format("; the token is in %s", file)
                    : tow_format("; the token is in %s/token", folder ? folder : "");
    free(folder);
    return said;
}

/* The link with the token is for a person at a terminal: any other stdout ends in the journal, or
 * in a container's log, which others read. */
static void tell(const tow_options_t *options, const tow_server_t *server, cmd_log_t *log)
{
    bool person = isatty(STDOUT_FILENO) == 1;
    char *address = tow_server_address(server, false), *link = tow_server_address(server, person);
    char *token = person ? tow_strdup("") : name_token(options);

    cmd_log_event(log, TOW_LEVEL_INFO, "listening", address);
    printf("Towline waits for a job. Open this page, or POST to %sapi/v1/start%s:\n\n    %s\n\n",
           address, token, link);
    fflush(stdout);
    free(token);
    tow_free(address);
    tow_free(link);
}

int cmd_serve(tow_options_t *options)
{
    static service_t service = {.lock = PTHREAD_MUTEX_INITIALIZER,
                                .changed = PTHREAD_COND_INITIALIZER};
    static cmd_stoppable_t stoppable = {.data = &service, .stop = stop, .ended = has_ended};
    static cmd_log_t log;
    tow_error_t error;

    cmd_block_signals();
    if (!strcmp(tow_options_get(options, "listen", 0), "none")) {
        cmd_say("--listen none leaves serve nothing to do; give HOST:PORT");
        return TOW_ERROR_OPTION;
    }
    if (!cmd_log_open(&log, options, &error))
        return cmd_fail(&error);
    cmd_warn_of_memory(options, &log);
    service.server = tow_server_new(options, cmd_log_event, &log, &error);
    if (!service.server)
        return cmd_fail(&error);
    if (!cmd_watch_signals(&stoppable, &error)) {
        tow_server_destroy(service.server);
        return cmd_fail(&error);
    }
    if (tow_options_is_set(options, "summary"))
        cmd_log_event(&log, TOW_LEVEL_WARNING, "option_ignored",
                      "serve writes no --summary, since its jobs come one after another: GET "
                      "/api/v1/summary has that of the last");
    tell(options, service.server, &log);
    pthread_mutex_lock(&service.lock);
    while (!service.stopped)
        pthread_cond_wait(&service.changed, &service.lock);
    pthread_mutex_unlock(&service.lock);
    tow_server_destroy(service.server);
    cmd_log_finish(&log);
    /* The watcher may still look at the service: the process ends here, and so does it. */
    _exit(cmd_end(0));
}
