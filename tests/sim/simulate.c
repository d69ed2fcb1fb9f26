/* SPDX-License-Identifier: Apache-2.0 */
/* simulate.c: whole jobs, from the first connection to the end of the cutover, with the engine's
 * own code on simulated threads, clocks, servers, network and disk; each from a seed. At the end
 * both sides are equal, what others have is as it was, and no verification has repaired anything.
 *
 *   simulate [--from N] [--seeds N] [--keep-going]       many seeds, two at a time
 *   simulate --seed N [--set NAME=VALUE]… [--trace] [--messages] [--plan]    one
 *
 * A seed that fails is printed with the reason and shrunk to the smallest plan that
 * fails as well. */
#include <mongoc/mongoc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "application.h"
#include "process.h"
#include "schedule.h"

enum {
    STEPS_MOST = 3000000,
    SECONDS_MOST = 4000,
    CPU_SECONDS_MOST = 30,
    AT_ONCE = 2,
    REASON = 4096,
    KIND = 24,
    SHRINK_SECONDS = 60
};

/* One run; it ends this process by an exit status. */
__attribute__((noreturn)) static void run_here(const plan_t *plan)
{
    static const char *const versions[] = {"4.4.6", "5.0.9", "6.0.5", "7.0.2"};
    static const int numbers[] = {44, 50, 60, 70};
    const char *version = versions[0];

    for (int i = 0; i < 4; i++)
        if (plan->values[PLAN_VERSION] >= numbers[i])
            version = versions[i];
    setrlimit(RLIMIT_CPU, &(struct rlimit){CPU_SECONDS_MOST, CPU_SECONDS_MOST + 1}); /* it spins */
    mongoc_init();
    sim_begin(plan->seed + (uint64_t)plan->values[PLAN_SALT] * 1000000007);
    sim_server_begin(&sim_source, "source", version);
    sim_server_begin(&sim_destination, "destination", version);
    application_begin(plan);
    process_begin(plan);
    sim_spawn(0, application_write, NULL);
    sim_spawn(0, process_supervise, NULL);
    sim_run(STEPS_MOST, SECONDS_MOST);
    process_judge();
    printf("ok %llu: %llu steps, %llu messages, %.0f s\n", (unsigned long long)plan->seed,
           (unsigned long long)sim_steps(), (unsigned long long)sim_network_count(),
           (double)sim_now_us() / 1e6);
    fflush(stdout);
    _Exit(0);
}

/* Many ------------------------------------------------------------------------------------------*/

typedef struct {
    pid_t pid;
    uint64_t seed;
    FILE *out;
    char *folder;
} child_t;

static child_t begin_child(const plan_t *plan)
{
    child_t child = {.seed = plan->seed, .out = tmpfile()};

    fflush(stdout);
    child.pid = fork();
    if (!child.pid) {
        dup2(fileno(child.out), STDOUT_FILENO);
        dup2(fileno(child.out), STDERR_FILENO);
        run_here(plan);
    }
    return child;
}

/* The last line that the child wrote, and how it ended. */
static bool end_child(child_t *child, int status, char *reason, size_t size)
{
    char line[REASON];

    reason[0] = '\0';
    rewind(child->out);
    while (fgets(line, sizeof line, child->out))
        if (!strncmp(line, "failed", 6) || !strncmp(line, "ok ", 3))
            snprintf(reason, size, "%s", line);
    fclose(child->out);
    process_clean(child->pid);
    if (WIFSIGNALED(status))
        snprintf(reason, size, "failed: ended by signal %d\n", WTERMSIG(status));
    return status == 0;
}

time_t __real_time(time_t *out); /* what the rest calls is the simulation's */

static char wanted[REASON]; /* how the failure that is shrunk begins */
static time_t shrink_until;

/* The beginning of a reason: what went wrong, without the names and the figures of the run. */
static void kind_of(const char *reason, char out[REASON])
{
    const char *text = strstr(reason, "step ");

    text = text ? strchr(text, ':') : NULL;
    snprintf(out, REASON, "%s", text ? text + 2 : reason);
    out[strstr(out, " differs") ? 0 : KIND] = '\0';
}

/* In the same way; after the time for shrinking nothing does. */
static bool fails(const plan_t *plan)
{
    char reason[REASON], kind[REASON];
    child_t child;
    int status;

    if (__real_time(NULL) > shrink_until)
        return false;
    child = begin_child(plan);
    waitpid(child.pid, &status, 0);
    if (end_child(&child, status, reason, sizeof reason))
        return false;
    kind_of(reason, kind);
    return !strcmp(kind, wanted);
}

static void tell_failure(uint64_t seed, const char *reason, bool shrinks)
{
    plan_t plan;

    printf("not ok seed %llu: %s", (unsigned long long)seed, reason);
    if (!shrinks)
        return;
    plan_draw(seed, &plan);
    kind_of(reason, wanted);
    shrink_until = __real_time(NULL) + SHRINK_SECONDS;
    plan_shrink(&plan, fails);
    printf("# shrunk: simulate --trace ");
    plan_print(&plan);
    fflush(stdout);
}

static int run_many(uint64_t from, uint64_t count, bool keeps_going, bool shrinks)
{
    child_t children[AT_ONCE] = {{0}};
    uint64_t next = from, passed = 0, failed = 0, running = 0;
    unsigned long long steps = 0, more;

    while (running || (next < from + count && (keeps_going || !failed))) {
        char reason[REASON];
        int status, i = 0;
        pid_t pid;

        while (running < AT_ONCE && next < from + count && (keeps_going || !failed)) {
            plan_t plan;

            for (i = 0; children[i].pid; i++)
                ;
            plan_draw(next++, &plan);
            children[i] = begin_child(&plan);
            running++;
        }
        pid = wait(&status);
        for (i = 0; children[i].pid != pid; i++)
            ;
        running--;
        children[i].pid = 0;
        if (end_child(&(child_t){pid, children[i].seed, children[i].out, NULL}, status, reason,
                      sizeof reason)) {
            passed++;
            if (sscanf(reason, "ok %*u: %llu", &more) == 1)
                steps += more;
        } else {
            failed++;
            tell_failure(children[i].seed, reason, shrinks && failed == 1);
        }
    }
    printf("%s %llu seeds from %llu: %llu failed, %llu steps\n", failed ? "not ok" : "ok",
           (unsigned long long)(passed + failed), (unsigned long long)from,
           (unsigned long long)failed, steps);
    return failed != 0;
}

int main(int count, char **words)
{
    bool one = false, keeps_going = false, shrinks = true, shows = false;
    uint64_t seed = 1, seeds = 200;
    plan_t plan;

    for (int i = 1; i < count; i++) {
        const char *value = i + 1 < count ? words[i + 1] : "";

        one = one || !strcmp(words[i], "--seed");
        if (!strcmp(words[i], "--seed") || !strcmp(words[i], "--from"))
            seed = strtoull(value, NULL, 10), i++;
        else if (!strcmp(words[i], "--seeds"))
            seeds = strtoull(value, NULL, 10), i++;
        else if (!strcmp(words[i], "--keep-going"))
            keeps_going = true;
        else if (!strcmp(words[i], "--no-shrink"))
            shrinks = false;
        else if (!strcmp(words[i], "--trace"))
            sim_traces = true;
        else if (!strcmp(words[i], "--messages"))
            sim_traces = sim_shows_messages = true;
        else if (!strcmp(words[i], "--plan"))
            shows = true;
        else if (!strcmp(words[i], "--set"))
            i++;
        else
            return fprintf(stderr, "simulate: see the first lines of tests/sim/simulate.c\n"), 2;
    }
    if (!one)
        return run_many(seed, seeds, keeps_going, shrinks);
    plan_draw(seed, &plan);
    for (int i = 1; i + 1 < count; i++)
        if (!strcmp(words[i], "--set") && !plan_set(&plan, words[i + 1]))
            return fprintf(stderr, "simulate: no such value: %s\n", words[i + 1]), 2;
    for (int i = 0; shows && i < PLAN_VALUES; i++)
        printf("%s=%lld\n", plan_names[i], (long long)plan.values[i]);
    run_here(&plan);
}
