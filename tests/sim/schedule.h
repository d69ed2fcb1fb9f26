/* SPDX-License-Identifier: Apache-2.0 */
/* schedule.h: threads and time, taken over: every thread of the engine is a fiber of one thread,
 * the next to run is drawn from a seed, and the clock moves only when nobody can run. So a run is
 * the same each time.
 *
 * The program is linked with the pthread functions, clocks and sleeps wrapped (meson.build). A
 * fiber gives way where it locks, unlocks, waits, sleeps or talks to a server; two atomic
 * operations between such places are one step here. */
#ifndef TOW_SIM_SCHEDULE_H
#define TOW_SIM_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

enum { SIM_FOREVER_S = 1000000 };

void sim_begin(uint64_t seed);
/* Runs until sim_end was called. Nobody can run any more, or too much time or too many steps went
 * by: the run fails. */
void sim_run(uint64_t steps_most, int64_t seconds_most);
void sim_end(void);

/* A fiber of a process; process 0 is the world and never dies. */
void sim_spawn(int process, void *(*run)(void *), void *data);
int sim_process(void); /* the current fiber's */
/* Its fibers never run again; what they held is lost. */
void sim_kill(int process);
void sim_freeze(int process, int64_t us); /* as SIGSTOP, and SIGCONT after that time */

int64_t sim_now_us(void);
uint64_t sim_steps(void);
void sim_progress(void); /* a message was sent: the steps since then are not those of a loop that
                            keeps itself busy */
void sim_sleep(int64_t us);
/* Waits until sim_wake of that address. False: `us` went by (-1: never). */
bool sim_wait(const void *on, int64_t us);
void sim_wake(const void *on);
/* Calls it outside any fiber, at that time. */
void sim_at(int64_t us, void (*call)(void *data), void *data);

/* Numbers of independent streams, so that leaving out one kind of event leaves the others alike. */
typedef enum {
    SIM_SCHEDULE,
    SIM_NETWORK,
    SIM_SERVER,
    SIM_WORLD,
    SIM_CHAOS,
    SIM_ENGINE,
    SIM_STREAMS
} sim_stream_t;
uint32_t sim_below(sim_stream_t stream, uint32_t limit);
static inline bool sim_one_in(sim_stream_t stream, uint32_t many)
{
    return many && !sim_below(stream, many);
}

/* A line with the time, when sim_traces is set. */
extern bool sim_traces;
__attribute__((format(printf, 1, 2))) void sim_trace(const char *format, ...);
__attribute__((noreturn, format(printf, 1, 2))) void sim_fail(const char *format, ...);

#endif
