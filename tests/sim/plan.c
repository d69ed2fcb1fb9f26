/* SPDX-License-Identifier: Apache-2.0 */
/* plan.c: see plan.h. */
#include "plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/random.h"

const char *const plan_names[PLAN_VALUES] = {
    [PLAN_DOCUMENTS] = "documents", [PLAN_WRITES] = "writes",
    [PLAN_GAP_MS] = "gap",          [PLAN_KILLS] = "kills",
    [PLAN_RIVALS] = "rivals",       [PLAN_FAULTS] = "faults",
    [PLAN_LATE] = "late",           [PLAN_TRANSACTIONS] = "transactions",
    [PLAN_SWAPS] = "swaps",         [PLAN_DDL] = "ddl",
    [PLAN_STOPS] = "stops",         [PLAN_PAUSES] = "pauses",
    [PLAN_EARLY] = "early",         [PLAN_UNIQUE] = "unique",
    [PLAN_VERIFY] = "verify",       [PLAN_WORKERS] = "workers",
    [PLAN_TRIP_US] = "trip",        [PLAN_RETRY_S] = "retry",
    [PLAN_LEASE_S] = "lease",       [PLAN_SALT] = "salt",
    [PLAN_VERSION] = "version"};

/* The first that counts down to 0 is what helps most when it is gone. */
static const plan_value_t order[] = {PLAN_DDL,    PLAN_RIVALS,   PLAN_KILLS,  PLAN_LATE,
                                     PLAN_FAULTS, PLAN_EARLY,    PLAN_PAUSES, PLAN_STOPS,
                                     PLAN_VERIFY, PLAN_SWAPS,    PLAN_UNIQUE, PLAN_TRANSACTIONS,
                                     PLAN_WRITES, PLAN_DOCUMENTS};

static int64_t one_of(uint64_t *random, const int64_t *list, uint32_t count)
{
    return list[random_below(random, count)];
}

void plan_draw(uint64_t seed, plan_t *out)
{
    static const int64_t faults[] = {0, 300, 100, 40, 25}, versions[] = {44, 50, 60, 70},
                         gaps[] = {2, 20, 100}, late[] = {0, 3, 6}, retries[] = {0, 2, 30, 600},
                         leases[] = {3, 6, 15}, trips[] = {200, 1500, 10000, 60000};
    uint64_t random = seed * 31 + 7;
    int64_t *values = out->values;

    *out = (plan_t){.seed = seed};
    values[PLAN_DOCUMENTS] = random_below(&random, 80);
    values[PLAN_WRITES] = 20 + random_below(&random, 300);
    values[PLAN_GAP_MS] = one_of(&random, gaps, 3);
    values[PLAN_KILLS] = random_below(&random, 2) ? random_below(&random, 5) : 0;
    values[PLAN_RIVALS] = random_below(&random, 3) ? 0 : 1 + random_below(&random, 2);
    values[PLAN_FAULTS] = one_of(&random, faults, 5);
    values[PLAN_LATE] = one_of(&random, late, 3);
    values[PLAN_TRANSACTIONS] = random_below(&random, 2);
    values[PLAN_SWAPS] = random_below(&random, 2);
    values[PLAN_DDL] = random_below(&random, 3) ? 0 : 1 + random_below(&random, 6);
    values[PLAN_PAUSES] = random_below(&random, 2) ? 0 : random_below(&random, 4);
    values[PLAN_EARLY] = random_below(&random, 3) ? 0 : 1;
    values[PLAN_UNIQUE] = random_below(&random, 3) != 0;
    values[PLAN_VERIFY] = random_below(&random, 3) == 0;
    values[PLAN_WORKERS] = 1 + random_below(&random, 4);
    values[PLAN_TRIP_US] = one_of(&random, trips, 4);
    values[PLAN_RETRY_S] = one_of(&random, retries, 4);
    values[PLAN_LEASE_S] = one_of(&random, leases, 3);
    values[PLAN_STOPS] = random_below(&random, 3) ? 0 : 1 + random_below(&random, 2);
    values[PLAN_VERSION] = one_of(&random, versions, 4);
}

bool plan_set(plan_t *plan, const char *text)
{
    size_t length = strcspn(text, "=");

    for (int i = 0; text[length] && i < PLAN_VALUES; i++)
        if (strlen(plan_names[i]) == length && !strncmp(text, plan_names[i], length)) {
            plan->values[i] = strtoll(text + length + 1, NULL, 10);
            return true;
        }
    return false;
}

/* With one value less everything after it comes out otherwise, so that a few runs of its kind are
 * tried. */
static bool try_value(plan_t *plan, plan_value_t which, int64_t value,
                      bool (*fails)(const plan_t *plan))
{
    enum { SALTS = 6 };
    plan_t smaller = *plan;

    if (value >= plan->values[which] || value < 0)
        return false;
    smaller.values[which] = value;
    for (int i = 0; i < SALTS; i++) {
        smaller.values[PLAN_SALT] = i ? i : plan->values[PLAN_SALT];
        if (fails(&smaller)) {
            *plan = smaller;
            return true;
        }
    }
    return false;
}

/* Nothing of it, else as little as a few steps down show. */
static bool shrink_value(plan_t *plan, plan_value_t which, bool (*fails)(const plan_t *plan))
{
    bool changed = try_value(plan, which, 0, fails), again = !changed;

    while (again) {
        int64_t value = plan->values[which];

        again = try_value(plan, which, value / 4, fails) ||
                try_value(plan, which, value / 2, fails) ||
                try_value(plan, which, value * 3 / 4, fails) ||
                try_value(plan, which, value - 1, fails);
        changed = changed || again;
    }
    return changed;
}

void plan_shrink(plan_t *plan, bool (*fails)(const plan_t *plan))
{
    enum { ROUNDS = 3 };
    bool changed = true;

    for (int round = 0; changed && round < ROUNDS; round++) {
        changed = false;
        for (size_t i = 0; i < sizeof order / sizeof *order; i++)
            changed = shrink_value(plan, order[i], fails) || changed;
    }
}

void plan_print(const plan_t *plan)
{
    plan_t drawn;

    plan_draw(plan->seed, &drawn);
    printf("--seed %llu", (unsigned long long)plan->seed);
    for (int i = 0; i < PLAN_VALUES; i++)
        if (plan->values[i] != drawn.values[i])
            printf(" --set %s=%lld", plan_names[i], (long long)plan->values[i]);
    printf("\n");
}
