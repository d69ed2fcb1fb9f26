/* SPDX-License-Identifier: Apache-2.0 */
/* signals.c: see signals.h. */
#include "engine/cmd/signals.h"

#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/thread.h"
#include "engine/cmd/cmd.h"
#include "engine/cmd/hook.h"

/* Together less than the ten seconds that `docker stop` gives. */
enum { STOP_SECONDS = 4, BLOCKED_SECONDS = 2, OUTPUT_SECONDS = 4 };

/* The signals that stop. One that this process was started to ignore, as nohup does with SIGHUP, is
 * none of them: a blocked signal would be delivered all the same. */
static void stopping(sigset_t *out)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action;

    sigemptyset(out);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (numbers[i] != SIGHUP || sigaction(SIGHUP, NULL, &action) ||
            action.sa_handler != SIG_IGN)
            sigaddset(out, numbers[i]);
}

static _Noreturn void leave(int status)
{
    cmd_hook_kill();
    _exit(status);
}

/* The job has ended, and the results are printed as long as somebody takes them; a command of
 * --on-phase runs to its end. Neither is waited for without bound. */
static void wait_for_output(const sigset_t *set)
{
    static const char message[] =
        "towline: stopped: the command of --on-phase, or who reads the output, takes too long\n";
    struct timespec second = {.tv_sec = 1};
    int blocked = 0;

    for (int waited = 0; waited < OUTPUT_SECONDS && blocked < BLOCKED_SECONDS; waited++) {
        int number = sigtimedwait(set, NULL, &second);

        if (number > 0)
            leave(128 + number);
        blocked = cmd_is_blocked(STDOUT_FILENO) || cmd_is_blocked(STDERR_FILENO) ? blocked + 1 : 0;
    }
    if (!blocked)
        cmd_write(STDERR_FILENO, message, sizeof message - 1, 0);
}

/* The first signal stops at a checkpoint, the second ends at once: that too is safe, as any end is.
 * So it is when a server that does not answer keeps the checkpoint from being stored. */
static void *watch(void *data)
{
    static const char message[] =
        "towline: stopped, resumable: without a last checkpoint, since a "
        "server does not answer; nothing is lost, run the same command again to go on\n";
    struct timespec patience = {.tv_sec = STOP_SECONDS};
    cmd_stoppable_t *what = data;
    sigset_t set;
    int number;

    stopping(&set);
    sigwait(&set, &number);
    what->stop(what->data);
    number = sigtimedwait(&set, NULL, &patience);
    if (number > 0)
        leave(128 + number);
    if (what->ended(what->data))
        wait_for_output(&set);
    else
        cmd_write(STDERR_FILENO, message, sizeof message - 1, 0);
    leave(TOW_ERROR_INTERRUPTED);
}

void cmd_block_signals(void)
{
    sigset_t set;

    stopping(&set);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* Without it nothing but SIGKILL would end the process: signals are blocked. */
bool cmd_watch_signals(cmd_stoppable_t *what, tow_error_t *error)
{
    tow_thread_t watcher = {0};

    if (!tow_thread_start(&watcher, "signals", watch, what, error))
        return false;
    tow_thread_detach(&watcher);
    return true;
}
