/* SPDX-License-Identifier: Apache-2.0 */
/* plan.h: what a seed stands for: how much of everything happens. Each value can be set otherwise,
 * and the rest of the run stays as like as it can: that is how a failing seed is shrunk. */
#ifndef TOW_SIM_PLAN_H
#define TOW_SIM_PLAN_H

#include <stdbool.h>
#include <stdint.h>

typedef enum {
    PLAN_DOCUMENTS, /* of each collection at the start */
    PLAN_WRITES,    /* of the application while the job runs */
    PLAN_GAP_MS,    /* between two of them, at most */
    PLAN_KILLS,     /* of the job's process */
    PLAN_RIVALS,    /* a second process begins while the first one stands still */
    PLAN_FAULTS,    /* one message in so many is hit; 0: none */
    PLAN_LATE,      /* one of so many of those arrives when nobody waits for it */
    PLAN_TRANSACTIONS,
    PLAN_SWAPS, /* of values of the unique index */
    PLAN_DDL,   /* so many drops, creations, renames and changes of indexes */
    PLAN_PAUSES,
    PLAN_STOPS,  /* of the job by its operator */
    PLAN_EARLY,  /* cutovers while the application still writes */
    PLAN_UNIQUE, /* a unique index */
    PLAN_VERIFY,
    PLAN_WORKERS,
    PLAN_TRIP_US, /* of a message, at most, in the common case */
    PLAN_RETRY_S, /* how long a call is tried again */
    PLAN_LEASE_S,
    PLAN_SALT,    /* another run of the same kind */
    PLAN_VERSION, /* of both servers: 44, 50, 60, 70 */
    PLAN_VALUES
} plan_value_t;

typedef struct {
    uint64_t seed;
    int64_t values[PLAN_VALUES];
} plan_t;

extern const char *const plan_names[PLAN_VALUES];

void plan_draw(uint64_t seed, plan_t *out);
bool plan_set(plan_t *plan, const char *text); /* "writes=20" */
/* The smallest plan that still fails, as far as one value after the other can show. */
void plan_shrink(plan_t *plan, bool (*fails)(const plan_t *plan));
void plan_print(const plan_t *plan);

#endif
