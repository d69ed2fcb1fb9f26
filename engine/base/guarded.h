/* SPDX-License-Identifier: Apache-2.0 */
/* guarded.h: says which lock guards what, so that clang can check it (tests/lib/locks).
 *
 * The analysis knows of no lock of a particular structure in C, only of kinds of locks: one for
 * each type of structure that has a lock. TOW_LOCK(tow_spool, tow_spool_t, lock) after the
 * structure defines tow_spool_lock() and tow_spool_unlock() for the kind that TOW_GUARD(tow_spool)
 * declared before it. Waiting on a condition gives the lock back as it took it, and needs no word.
 */
#ifndef TOW_BASE_GUARDED_H
#define TOW_BASE_GUARDED_H

#include <pthread.h>

#ifdef __clang__
#define TOW_ATTRIBUTE(x) __attribute__((x))
#else
#define TOW_ATTRIBUTE(x)
#endif

#define TOW_GUARDED_BY(name) TOW_ATTRIBUTE(guarded_by(name##_capability))
/* What is pointed at is guarded; the pointer itself is constant. */
#define TOW_POINTEE_GUARDED_BY(name) TOW_ATTRIBUTE(pt_guarded_by(name##_capability))
/* The caller holds the lock; or must not, since the function takes it. */
#define TOW_REQUIRES(name) TOW_ATTRIBUTE(requires_capability(name##_capability))
#define TOW_EXCLUDES(name) TOW_ATTRIBUTE(locks_excluded(name##_capability))
#define TOW_ACQUIRE(name) TOW_ATTRIBUTE(acquire_capability(name##_capability))
#define TOW_RELEASE(name) TOW_ATTRIBUTE(release_capability(name##_capability))
/* Nobody else knows the structure yet, or any more; a reason stands beside any other use. */
#define TOW_UNSHARED TOW_ATTRIBUTE(no_thread_safety_analysis)

typedef struct TOW_ATTRIBUTE(capability("lock")) {
    char unused;
} tow_guard_t;

/* Declared for the compiler alone: there is no such object. */
#define TOW_GUARD(name) extern const tow_guard_t name##_capability

#define TOW_LOCK(name, type, member)                                                               \
    static inline TOW_ACQUIRE(name) TOW_UNSHARED void name##_lock(const type *it)                  \
    {                                                                                              \
        pthread_mutex_lock((pthread_mutex_t *)&it->member);                                        \
    }                                                                                              \
    static inline TOW_RELEASE(name) TOW_UNSHARED void name##_unlock(const type *it)                \
    {                                                                                              \
        pthread_mutex_unlock((pthread_mutex_t *)&it->member);                                      \
    }

#endif
