/* SPDX-License-Identifier: Apache-2.0 */
/* thread.h: a thread that is started with a name and an error, and joined once. */
#ifndef TOW_BASE_THREAD_H
#define TOW_BASE_THREAD_H

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>

#include "engine/base/error.h"

/* {0} runs nothing. Whoever starts it joins it; neither locks anything. */
typedef struct {
    pthread_t id;
    bool started; /* and not joined yet */
} tow_thread_t;

/* It blocks signals, as below. `name` is what `top -H` and debuggers show, of at most 15
 * characters. Fails with TOW_ERROR_INTERNAL where the machine allows no more threads or no more
 * memory, and where *thread was started before and not joined: nobody would ever join that one. */
bool tow_thread_start(tow_thread_t *thread, const char *name, void *(*run)(void *), void *data,
                      tow_error_t *error) TOW_CHECK;
/* Blocks all signals but those of a fault for this thread, and for those that it starts meanwhile:
 * the host's signals are handled by the host's threads. *out_before: what was blocked before. */
void tow_thread_block_signals(sigset_t *out_before);
void tow_thread_restore_signals(const sigset_t *before);
/* Waits until it has ended; at once when none was started, or it was joined before. */
void tow_thread_join(tow_thread_t *thread);
/* Leaves it to itself: there is no join any more. */
void tow_thread_detach(tow_thread_t *thread);

#endif
