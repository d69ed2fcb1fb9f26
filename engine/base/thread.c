/* thread.c: see thread.h. */
#include "engine/base/thread.h"

bool tow_thread_start(tow_thread_t *thread, const char *name, void *(*run)(void *), void *data,
                      tow_error_t *error)
{
    if (thread->started)
        return tow_fail(error, TOW_ERROR_INTERNAL,
                        "a bug of Towline: the thread %s is started twice", name);
    if (pthread_create(&thread->id, NULL, run, data))
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
