/* SPDX-License-Identifier: Apache-2.0 */
/* hook.c: the command of --on-phase.
 *
 * It runs at each phase, one after the other, in a thread of its own: however long it takes, the
 * job goes on. It is told by its environment alone, which has none of our secrets. */
#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "engine/cmd/hook.h"

enum { VALUE_MOST = 100000 /* bytes: the system takes 128 KB in one value */ };

extern char **environ;

/* The command of the moment. It is reaped under the lock: its id is no other process's before. */
static pthread_mutex_t running_lock = PTHREAD_MUTEX_INITIALIZER;
static pid_t running; /* 0: none; leads a process group */

typedef struct moment {
    struct moment *next;
    char *variables[6]; /* "NAME=value"; ends with NULL */
} moment_t;

struct cmd_hook {
    char *command;
    tow_job_t *job;
    cmd_log_t *log;
    tow_thread_t thread;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    moment_t *first, *last;
    bool ending;
};

static bool is_ours(const char *variable)
{
    return !strncmp(variable, "TOWLINE_", strlen("TOWLINE_"));
}

/* What we were given but for our own settings, among which are connection strings, and the
 * moment's. */
static char **make_environment(const moment_t *moment)
{
    size_t count = 0, used = 0;
    char **made;

    while (environ[count])
        count++;
    made = tow_alloc((count + sizeof moment->variables / sizeof *moment->variables) * sizeof *made);
    for (size_t i = 0; i < count; i++)
        if (!is_ours(environ[i]))
            made[used++] = environ[i];
    for (size_t i = 0; moment->variables[i]; i++)
        made[used++] = moment->variables[i];
    return made;
}

/* Signals are blocked here, and handled by a thread; the command is to get them as usual. */
static int spawn(const char *command, char **environment, pid_t *out)
{
    char *const words[] = {(char *)"/bin/sh", (char *)"-c", (char *)(uintptr_t)command, NULL};
    posix_spawnattr_t attributes;
    sigset_t none, all;
    int code;

    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                              POSIX_SPAWN_SETPGROUP);
    pthread_mutex_lock(&running_lock);
    code = posix_spawn(out, words[0], NULL, &attributes, words, environment);
    running = code ? 0 : *out;
    pthread_mutex_unlock(&running_lock);
    posix_spawnattr_destroy(&attributes);
    return code;
}

static int wait_for(pid_t child)
{
    siginfo_t ignored;
    int status = 0;

    while (waitid(P_PID, (id_t)child, &ignored, WEXITED | WNOWAIT) < 0 && errno == EINTR)
        ;
    pthread_mutex_lock(&running_lock);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    running = 0;
    pthread_mutex_unlock(&running_lock);
    return status;
}

static void run(cmd_hook_t *hook, const moment_t *moment)
{
    char **environment = make_environment(moment), message[200];
    int status = 0, code;
    pid_t child;

    code = spawn(hook->command, environment, &child);
    free(environment);
    if (!code)
        status = wait_for(child);
    if (!code && !status)
        return;
    if (code)
        snprintf(message, sizeof message, "the command of --on-phase cannot be started: %s",
                 strerror(code));
    else
        snprintf(message, sizeof message, "the command of --on-phase ended with %s %d in %s",
                 WIFEXITED(status) ? "status" : "signal",
                 WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status), moment->variables[0]);
    cmd_log_event(hook->log, TOW_LEVEL_WARNING, "on_phase", message);
}

static void free_moment(moment_t *moment)
{
    for (size_t i = 0; moment->variables[i]; i++)
        free(moment->variables[i]);
    free(moment);
}

static void *run_all(void *data)
{
    cmd_hook_t *hook = data;
    moment_t *moment;

    pthread_mutex_lock(&hook->lock);
    for (;;) {
        while (!hook->first && !hook->ending)
            pthread_cond_wait(&hook->changed, &hook->lock);
        moment = hook->first;
        if (!moment)
            break;
        hook->first = moment->next;
        pthread_mutex_unlock(&hook->lock);
        run(hook, moment);
        free_moment(moment);
        pthread_mutex_lock(&hook->lock);
    }
    pthread_mutex_unlock(&hook->lock);
    return NULL;
}

/* A text that is too long for the environment is left out. */
static char *variable(const char *name, const char *value)
{
    return tow_format("%s=%s", name, value && strlen(value) <= VALUE_MOST ? value : "");
}

static void add(cmd_hook_t *hook, moment_t *moment)
{
    pthread_mutex_lock(&hook->lock);
    if (hook->first)
        hook->last->next = moment;
    else
        hook->first = moment;
    hook->last = moment;
    pthread_cond_signal(&hook->changed);
    pthread_mutex_unlock(&hook->lock);
}

static moment_t *moment_of(cmd_hook_t *hook, const char *phase)
{
    moment_t *moment = tow_alloc(sizeof *moment);
    char *progress = tow_job_progress_json(hook->job);

    moment->variables[0] = variable("TOWLINE_PHASE", phase);
    moment->variables[1] = variable("TOWLINE_JOB", tow_job_name(hook->job));
    moment->variables[2] = variable("TOWLINE_PROGRESS", progress);
    tow_free(progress);
    return moment;
}

/* The last phase comes with cmd_hook_end, when there is a summary. */
static void notice(void *data, tow_level_t level TOW_UNUSED, const char *name, const char *message)
{
    cmd_hook_t *hook = data;
    tow_progress_t progress;

    if (strcmp(name, "phase") != 0)
        return;
    tow_job_progress(hook->job, &progress);
    if (!tow_phase_is_final(progress.phase))
        add(hook, moment_of(hook, message));
}

bool cmd_hook_begin(const char *command, tow_job_t *job, cmd_log_t *log, cmd_hook_t **out,
                    tow_error_t *error)
{
    cmd_hook_t *hook;

    *out = NULL;
    if (!command)
        return true;
    hook = tow_alloc(sizeof *hook);
    hook->command = tow_strdup(command);
    hook->job = job;
    hook->log = log;
    pthread_mutex_init(&hook->lock, NULL);
    pthread_cond_init(&hook->changed, NULL);
    if (!tow_thread_start(&hook->thread, "on-phase", run_all, hook, error)) {
        free(hook->command);
        free(hook);
        return false;
    }
    tow_job_on_event(job, notice, hook);
    *out = hook;
    return true;
}

void cmd_hook_end(cmd_hook_t *hook, int status)
{
    char number[16], *summary;
    tow_progress_t progress;
    moment_t *moment;

    if (!hook)
        return;
    tow_job_progress(hook->job, &progress);
    summary = tow_job_summary_json(hook->job);
    snprintf(number, sizeof number, "%d", status);
    moment = moment_of(hook, tow_phase_name(progress.phase));
    moment->variables[3] = variable("TOWLINE_EXIT_STATUS", number);
    moment->variables[4] = variable("TOWLINE_SUMMARY", summary);
    tow_free(summary);
    add(hook, moment);
    pthread_mutex_lock(&hook->lock);
    hook->ending = true;
    pthread_cond_signal(&hook->changed);
    pthread_mutex_unlock(&hook->lock);
    tow_thread_join(&hook->thread);
}

void cmd_hook_kill(void)
{
    pthread_mutex_lock(&running_lock);
    if (running)
        kill(-running, SIGTERM);
    pthread_mutex_unlock(&running_lock);
}
