/* SPDX-License-Identifier: Apache-2.0 */
/* clock.h: monotonic and wall time, in the units that the names say. */
#ifndef TOW_BASE_CLOCK_H
#define TOW_BASE_CLOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

int64_t tow_now_ms(void);                          /* monotonic */
int64_t tow_now_us(void);                          /* monotonic */
int64_t tow_boot_ms(void);                         /* monotonic; goes on while the machine sleeps */
int64_t tow_wall_ms(void);                         /* since 1970 */
void tow_wall_text(int64_t wall_ms, char out[32]); /* "2026-11-23T07:00:00Z" */
double tow_cpu_seconds(void);                      /* of this process, user and system */
/* The largest resident memory of a process since it was started as what it is; 0: it is gone. (The
 * kernel's other figure, ru_maxrss, counts from before the exec: it may be the parent's.) */
uint64_t tow_peak_bytes(int64_t pid);

/* Conditions whose deadlines are of the monotonic clock, as tow_now_ms gives it. */
void tow_condition_init(pthread_cond_t *condition);
/* Waits under the lock until somebody signals (or for no reason). False: the
 * deadline has passed. */
bool tow_condition_wait(pthread_cond_t *condition, pthread_mutex_t *lock, int64_t until_ms);

#endif
