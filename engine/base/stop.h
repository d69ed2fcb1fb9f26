/* SPDX-License-Identifier: Apache-2.0 */
/* stop.h: one stop signal for all threads of a job, with the first error that caused it.
 *
 * Threads wait on it instead of sleeping, so that a stop is seen at once. */
#ifndef TOW_BASE_STOP_H
#define TOW_BASE_STOP_H

#include <pthread.h>

#include "engine/base/error.h"

typedef struct tow_stop tow_stop_t;

tow_stop_t *tow_stop_new(void);
void tow_stop_destroy(tow_stop_t *stop);
/* Asks every thread to end. The first error wins; NULL: a clean stop. Wakes all waiters. */
void tow_stop_request(tow_stop_t *stop, const tow_error_t *error);
bool tow_stop_requested(const tow_stop_t *stop);
/* Waits up to wait_ms; true when a stop was requested. */
bool tow_stop_wait(tow_stop_t *stop, int64_t wait_ms);
/* From now on a stop also wakes whoever waits on `condition`, which is broadcast under `lock`. So a
 * wait needs no deadline for the stop's sake: it asks tow_stop_requested under the lock, and waits.
 * Watch and unwatch are not called with `lock` held, nor is tow_stop_request. */
void tow_stop_watch(tow_stop_t *stop, pthread_mutex_t *lock, pthread_cond_t *condition);
void tow_stop_unwatch(tow_stop_t *stop, pthread_cond_t *condition);
/* True when the stop has an error, which is copied out. */
bool tow_stop_error(const tow_stop_t *stop, tow_error_t *out);

#endif
