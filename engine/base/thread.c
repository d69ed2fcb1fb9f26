/* SPDX-License-Identifier: Apache-2.0 */
/* thread.c: see thread.h. */
#include "engine/base/thread.h"

void tow_thread_block_signals(sigset_t *out_before)
{
    static const int faults[] = {SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP};
    sigset_t all;

    sigfillset(&all);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        sigdelset(&all, faults[i]);
    pthread_sigmask(SIG_SETMASK, &all, out_before);
}

void tow_thread_restore_signals(const sigset_t *before)
{
    pthread_sigmask(SIG_SETMASK, before, NULL);
}

bool tow_thread_start(tow_thread_t *thread, const char *name, void *(*run)(void *), void *data,
                      tow_error_t *error)
{
    sigset_t before;
    int failed;

    if (thread->started)
        return tow_fail(error, TOW_ERROR_INTERNAL,
                        "a bug of Towline: the thread %s is started twice", name);
    tow_thread_block_signals(&before);
    failed = pthread_create(&thread->id, NULL, run, data);
    tow_thread_restore_signals(&before);
    if (failed)
        return tow_fail(error, TOW_ERROR_INTERNAL,
                        "cannot start a thread; see `ulimit -u` and `ulimit -v`");
    pthread_setname_np(thread->id, name);
    thread->started = true;
    return true;
}

void tow_thread_join(tow_thread_t *thread)
{
    if (thread->started)
        pthread_join(thread->id, NULL);
    thread->started = false;
}

void tow_thread_detach(tow_thread_t *thread)
{
    if (thread->started)
        pthread_detach(thread->id);
    thread->started = false;
}
