/* SPDX-License-Identifier: Apache-2.0 */
/* schedule.c: see schedule.h. */
#include "schedule.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>

#include "../unit/random.h"

enum {
    FIBERS = 512,
    TIMERS = 4096,
    PROCESSES = 64,
    STACK_BYTES = 512 << 10,
    BUSY_MOST = 10000 /* steps without a message: about 25 ms of nothing but work */
};

typedef enum { FREE, READY, WAITING } state_t;

typedef struct {
    state_t state;
    int process;
    uint32_t number; /* as a pthread_t */
    ucontext_t context;
    void *stack;
    void *(*run)(void *);
    void *data;
    const void *on;
    int64_t until_us; /* -1: never */
    bool woken;
    int saved_errno;
} fiber_t;

typedef struct {
    int64_t us;
    uint64_t order;
    void (*call)(void *data);
    void *data;
} event_t;

static fiber_t fibers[FIBERS];
static uint32_t used, numbers;
static event_t events[TIMERS];
static uint32_t event_count;
static uint64_t event_order, steps, progressed_at;
static int64_t now_us, frozen_us[PROCESSES];
static uint64_t streams[SIM_STREAMS];
static fiber_t *current;
static ucontext_t scheduler;
static bool ended;
bool sim_traces;

uint32_t sim_below(sim_stream_t stream, uint32_t limit)
{
    return random_below(&streams[stream], limit);
}

void sim_begin(uint64_t seed)
{
    for (int i = 0; i < SIM_STREAMS; i++)
        streams[i] = seed * 1000003 + (uint64_t)i * 7919;
    now_us = 1000000;
}

void sim_end(void)
{
    ended = true;
}

void sim_fail(const char *format, ...)
{
    va_list arguments;

    printf("failed at %.3f s, step %llu: ", (double)now_us / 1e6, (unsigned long long)steps);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
    fflush(stdout);
    _Exit(1);
}

void sim_trace(const char *format, ...)
{
    va_list arguments;

    if (!sim_traces)
        return;
    printf("%10.3f  ", (double)now_us / 1e6);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
}

int64_t sim_now_us(void)
{
    return now_us;
}

uint64_t sim_steps(void)
{
    return steps;
}

void sim_progress(void)
{
    progressed_at = steps;
}

int sim_process(void)
{
    return current ? current->process : 0;
}

/* Fibers ----------------------------------------------------------------------------------------*/

static void begin_fiber(void)
{
    fiber_t *self = current;

    self->run(self->data);
    self->state = FREE;
    sim_wake((const char *)(uintptr_t)self->number);
    setcontext(&scheduler);
}

static fiber_t *new_fiber(int process, void *(*run)(void *), void *data)
{
    uint32_t i = 0;
    fiber_t *fiber;

    while (i < used && fibers[i].state != FREE)
        i++;
    if (i == FIBERS)
        sim_fail("too many threads");
    if (i == used)
        used++;
    fiber = &fibers[i];
    if (!fiber->stack)
        fiber->stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = fiber->stack;
    fiber->context.uc_stack.ss_size = STACK_BYTES;
    makecontext(&fiber->context, begin_fiber, 0);
    fiber->state = READY;
    fiber->process = process;
    fiber->number = ++numbers;
    fiber->run = run;
    fiber->data = data;
    return fiber;
}

void sim_spawn(int process, void *(*run)(void *), void *data)
{
    new_fiber(process, run, data);
}

static void give_way(void)
{
    fiber_t *self = current;

    self->saved_errno = errno;
    swapcontext(&self->context, &scheduler);
    errno = self->saved_errno;
}

bool sim_wait(const void *on, int64_t us)
{
    fiber_t *self = current;

    if (!self)
        sim_fail("the world itself waits");
    self->state = WAITING;
    self->on = on;
    self->until_us = us < 0 ? -1 : now_us + us;
    self->woken = false;
    give_way();
    return self->woken;
}

void sim_sleep(int64_t us)
{
    sim_wait(NULL, us);
}

static void wake(fiber_t *fiber, bool woken)
{
    fiber->state = READY;
    fiber->woken = woken;
    fiber->on = NULL;
}

void sim_wake(const void *on)
{
    for (uint32_t i = 0; i < used; i++)
        if (fibers[i].state == WAITING && fibers[i].on == on)
            wake(&fibers[i], true);
}

void sim_kill(int process)
{
    for (uint32_t i = 0; i < used; i++)
        if (fibers[i].state != FREE && fibers[i].process == process) {
            if (&fibers[i] == current)
                sim_fail("a process ends itself");
            fibers[i].state = FREE;
        }
}

void sim_freeze(int process, int64_t us)
{
    frozen_us[process] = now_us + us;
}

void sim_at(int64_t us, void (*call)(void *data), void *data)
{
    if (event_count == TIMERS)
        sim_fail("too many messages under way");
    events[event_count++] = (event_t){us > now_us ? us : now_us, event_order++, call, data};
}

/* The scheduler ---------------------------------------------------------------------------------*/

static bool call_due(void)
{
    uint32_t first = UINT32_MAX;
    event_t event;

    for (uint32_t i = 0; i < event_count; i++)
        if (events[i].us <= now_us &&
            (first == UINT32_MAX || events[i].us < events[first].us ||
             (events[i].us == events[first].us && events[i].order < events[first].order)))
            first = i;
    if (first == UINT32_MAX)
        return false;
    event = events[first];
    events[first] = events[--event_count];
    event.call(event.data);
    return true;
}

static bool may_run(fiber_t *fiber)
{
    if (fiber->state == FREE || frozen_us[fiber->process] > now_us)
        return false;
    if (fiber->state == WAITING && fiber->until_us >= 0 && fiber->until_us <= now_us)
        wake(fiber, false);
    return fiber->state == READY;
}

static fiber_t *draw(void)
{
    fiber_t *ready[FIBERS];
    uint32_t count = 0;

    for (uint32_t i = 0; i < used; i++)
        if (may_run(&fibers[i]))
            ready[count++] = &fibers[i];
    return count ? ready[count > 1 ? sim_below(SIM_SCHEDULE, count) : 0] : NULL;
}

/* When the next thing happens; -1: nothing will. */
static int64_t next_us(void)
{
    int64_t next = INT64_MAX;

    for (uint32_t i = 0; i < event_count; i++)
        if (events[i].us < next)
            next = events[i].us;
    for (uint32_t i = 0; i < used; i++) {
        int64_t us = fibers[i].state == READY ? now_us : fibers[i].until_us;

        if (fibers[i].state == FREE || us < 0)
            continue;
        if (frozen_us[fibers[i].process] > us)
            us = frozen_us[fibers[i].process];
        if (us < next)
            next = us;
    }
    return next == INT64_MAX ? -1 : next;
}

void sim_run(uint64_t steps_most, int64_t seconds_most)
{
    while (!ended) {
        if (call_due())
            continue;
        current = draw();
        if (!current) {
            int64_t next = next_us();

            if (next < 0)
                sim_fail("every thread waits for another one");
            now_us = next > now_us ? next : now_us + 1;
            continue;
        }
        if (++steps > steps_most)
            sim_fail("the job does not end: %llu steps", (unsigned long long)steps);
        if (steps - progressed_at > BUSY_MOST)
            sim_fail("no message for %d steps: some loop keeps itself busy", BUSY_MOST);
        if (now_us / 1000000 > seconds_most)
            sim_fail("the job does not end: %lld s", (long long)(now_us / 1000000));
        now_us += 1 + sim_below(SIM_SCHEDULE, 4);
        swapcontext(&scheduler, &current->context);
        current = NULL;
    }
}

/* Threads ---------------------------------------------------------------------------------------*/

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                          void *data);
int __wrap_pthread_join(pthread_t thread, void **result);
int __wrap_pthread_detach(pthread_t thread);
int __wrap_pthread_setname_np(pthread_t thread, const char *name);
int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *mutex);
int __wrap_pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex);
int __wrap_pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex,
                                  const struct timespec *until);
int __wrap_pthread_cond_signal(pthread_cond_t *condition);
int __wrap_pthread_cond_broadcast(pthread_cond_t *condition);
int __wrap_pthread_rwlock_rdlock(pthread_rwlock_t *lock);
int __wrap_pthread_rwlock_wrlock(pthread_rwlock_t *lock);
int __wrap_pthread_rwlock_unlock(pthread_rwlock_t *lock);
int __wrap_clock_gettime(clockid_t id, struct timespec *out);
time_t __wrap_time(time_t *out);
int __wrap_nanosleep(const struct timespec *wanted, struct timespec *left);
long __wrap_getrandom(void *out, size_t length, unsigned flags);

enum { PREEMPT_ONE_IN = 8, SPURIOUS_ONE_IN = 64 };

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                          void *data)
{
    (void)attributes;
    *thread = new_fiber(sim_process(), run, data)->number;
    return 0;
}

static bool lives(uint32_t number)
{
    for (uint32_t i = 0; i < used; i++)
        if (fibers[i].state != FREE && fibers[i].number == number)
            return true;
    return false;
}

int __wrap_pthread_join(pthread_t thread, void **result)
{
    (void)result;
    while (lives((uint32_t)thread))
        sim_wait((const char *)(uintptr_t)thread, -1);
    return 0;
}

int __wrap_pthread_detach(pthread_t thread)
{
    (void)thread;
    return 0;
}

int __wrap_pthread_setname_np(pthread_t thread, const char *name)
{
    (void)thread;
    (void)name;
    return 0;
}

/* A mutex as it was initialised, with its owner's number in the place of the lock's word. */
static bool take(pthread_mutex_t *mutex)
{
    int self = current ? (int)current->number : -1;

    if (mutex->__data.__lock && mutex->__data.__lock != self)
        return false;
    if (mutex->__data.__lock == self && !(mutex->__data.__kind & PTHREAD_MUTEX_RECURSIVE_NP))
        sim_fail("a thread locks what it has locked");
    mutex->__data.__lock = self;
    mutex->__data.__count++;
    return true;
}

int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex)
{
    if (current && sim_one_in(SIM_SCHEDULE, PREEMPT_ONE_IN))
        give_way();
    while (!take(mutex))
        sim_wait(mutex, -1);
    return 0;
}

static void release(pthread_mutex_t *mutex)
{
    if (--mutex->__data.__count)
        return;
    mutex->__data.__lock = 0;
    sim_wake(mutex);
}

int __wrap_pthread_mutex_unlock(pthread_mutex_t *mutex)
{
    release(mutex);
    if (current && sim_one_in(SIM_SCHEDULE, PREEMPT_ONE_IN))
        give_way();
    return 0;
}

static bool wait_for(pthread_cond_t *condition, pthread_mutex_t *mutex, int64_t us)
{
    bool woken;

    if (us && sim_one_in(SIM_SCHEDULE, SPURIOUS_ONE_IN))
        us = 1; /* woken by nobody */
    release(mutex);
    woken = sim_wait(condition, us);
    while (!take(mutex))
        sim_wait(mutex, -1);
    return woken;
}

int __wrap_pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex)
{
    wait_for(condition, mutex, -1);
    return 0;
}

int __wrap_pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex,
                                  const struct timespec *until)
{
    int64_t until_us = (int64_t)until->tv_sec * 1000000 + until->tv_nsec / 1000;
    int64_t us = until_us > now_us ? until_us - now_us : 0;

    return wait_for(condition, mutex, us) || now_us < until_us ? 0 : ETIMEDOUT;
}

int __wrap_pthread_cond_signal(pthread_cond_t *condition)
{
    fiber_t *waiting[FIBERS];
    uint32_t count = 0;

    for (uint32_t i = 0; i < used; i++)
        if (fibers[i].state == WAITING && fibers[i].on == condition)
            waiting[count++] = &fibers[i];
    if (count)
        wake(waiting[sim_below(SIM_SCHEDULE, count)], true);
    return 0;
}

int __wrap_pthread_cond_broadcast(pthread_cond_t *condition)
{
    sim_wake(condition);
    return 0;
}

/* The count of readers, -1: a writer. */
static int *count_of(pthread_rwlock_t *lock)
{
    return (int *)(void *)lock;
}

int __wrap_pthread_rwlock_rdlock(pthread_rwlock_t *lock)
{
    while (*count_of(lock) < 0)
        sim_wait(lock, -1);
    ++*count_of(lock);
    return 0;
}

int __wrap_pthread_rwlock_wrlock(pthread_rwlock_t *lock)
{
    while (*count_of(lock))
        sim_wait(lock, -1);
    *count_of(lock) = -1;
    return 0;
}

int __wrap_pthread_rwlock_unlock(pthread_rwlock_t *lock)
{
    *count_of(lock) = *count_of(lock) < 0 ? 0 : *count_of(lock) - 1;
    sim_wake(lock);
    return 0;
}

/* Time ------------------------------------------------------------------------------------------*/

enum { WALL_S = 1700000000 };

int __wrap_clock_gettime(clockid_t id, struct timespec *out)
{
    int64_t base = id == CLOCK_REALTIME ? WALL_S : 0;

    *out = (struct timespec){base + now_us / 1000000, now_us % 1000000 * 1000};
    return 0;
}

time_t __wrap_time(time_t *out)
{
    time_t now = WALL_S + now_us / 1000000;

    if (out)
        *out = now;
    return now;
}

int __wrap_nanosleep(const struct timespec *wanted, struct timespec *left)
{
    (void)left;
    sim_sleep((int64_t)wanted->tv_sec * 1000000 + wanted->tv_nsec / 1000 + 1);
    return 0;
}

long __wrap_getrandom(void *out, size_t length, unsigned flags)
{
    (void)flags;
    for (size_t i = 0; i < length; i++)
        ((uint8_t *)out)[i] = (uint8_t)sim_below(SIM_ENGINE, 256);
    return (long)length;
}
