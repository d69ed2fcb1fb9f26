/* SPDX-License-Identifier: Apache-2.0 */
/* process.c: child processes and what the kernel knows of them. */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/bench.h"
#include "engine/base/clock.h"
#include "engine/base/memory.h"

enum { LOOK_MS = 20 };

/* The bench's own environment with NAME, value pairs put over it; the array is the caller's. */
static char **make_environment(const char *const *pairs)
{
    size_t own = 0, given = 0, count = 0;
    while (environ[own])
        own++;
    while (pairs && pairs[given])
        given += 2;
    char **result = tow_alloc((own + given / 2 + 1) * sizeof *result);
    for (size_t i = 0; i < own; i++) {
        bool replaced = false;
        for (size_t p = 0; p < given && !replaced; p += 2) {
            size_t length = strlen(pairs[p]);
            replaced = strncmp(environ[i], pairs[p], length) == 0 && environ[i][length] == '=';
        }
        if (!replaced)
            result[count++] = tow_strdup(environ[i]);
    }
    for (size_t p = 0; p < given; p += 2)
        result[count++] = tow_format("%s=%s", pairs[p], pairs[p + 1]);
    return result;
}

static void free_environment(char **list)
{
    for (size_t i = 0; list[i]; i++)
        free(list[i]);
    free(list);
}

bool tow_bench_spawn(const char *const *argv, const char *const *environment, const char *log,
                     tow_bench_child_t *out, tow_error_t *error)
{
    /* The kernel counts what a process held before exec towards its peak memory, and that is a copy
     * of ours: give back to the system what is free. */
    malloc_trim(0);
    int output = open(log, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644);
    if (output < 0)
        return tow_fail_errno(error, TOW_ERROR_OPTION, "%s", log);
    char **variables = make_environment(environment);
    pid_t parent = getpid();
    int64_t started_us = tow_now_us();
    pid_t pid = fork();
    if (pid == 0) {
        /* However the bench ends, its children end too. */
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        if (getppid() != parent || dup2(output, 1) < 0 || dup2(output, 2) < 0)
            _exit(127);
        execvpe(argv[0], (char *const *)argv, variables);
        dprintf(2, "%s: %s\n", argv[0], strerror(errno));
        _exit(127);
    }
    int fork_error = errno;
    close(output);
    free_environment(variables);
    errno = fork_error;
    if (pid < 0)
        return tow_fail_errno(error, TOW_ERROR_INTERNAL, "fork");
    int descriptor = pidfd_open(pid, 0);
    if (descriptor < 0) {
        tow_fail_errno(error, TOW_ERROR_INTERNAL, "pidfd_open");
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        return false;
    }
    *out = (tow_bench_child_t){
        .pid = pid, .descriptor = descriptor, .started_us = started_us, .log = log};
    return true;
}

/* Looks at its memory meanwhile: the peak is gone with the process. */
static bool wait_end(tow_bench_child_t *child, int64_t wait_ms)
{
    int64_t deadline = tow_now_ms() + wait_ms;
    for (;;) {
        int64_t left = deadline - tow_now_ms();
        uint64_t peak_bytes = tow_peak_bytes(child->pid);
        if (peak_bytes)
            child->peak_bytes = peak_bytes;
        struct pollfd entry = {.fd = child->descriptor, .events = POLLIN};
        int ready = poll(&entry, 1, left <= 0 ? 0 : left < LOOK_MS ? (int)left : LOOK_MS);
        if (ready > 0)
            return true;
        if (ready == 0 && left <= 0)
            return false;
    }
}

bool tow_bench_outlives(tow_bench_child_t *child, int64_t wait_ms)
{
    return child->pid > 0 && !wait_end(child, wait_ms);
}

bool tow_bench_alive(tow_bench_child_t *child)
{
    return tow_bench_outlives(child, 0);
}

static int reap(tow_bench_child_t *child, struct rusage *out)
{
    int status = 0;
    while (wait4(child->pid, &status, 0, out) < 0 && errno == EINTR)
        ;
    close(child->descriptor);
    child->pid = 0;
    return status;
}

/* The last lines of a log, on one line: what a person would look at first. */
static void read_tail(const char *log, char *out, size_t size)
{
    out[0] = 0;
    FILE *file = fopen(log, "re");
    if (!file)
        return;
    if (fseek(file, -(long)(size - 1), SEEK_END) != 0)
        rewind(file);
    size_t length = fread(out, 1, size - 1, file);
    fclose(file);
    while (length > 0 && out[length - 1] == '\n')
        length--;
    out[length] = 0;
    for (size_t i = 0; i < length; i++)
        if (out[i] == '\n')
            out[i] = '|';
}

bool tow_bench_reap(tow_bench_child_t *child, int64_t timeout_s, tow_bench_usage_t *out,
                    tow_error_t *error)
{
    if (!wait_end(child, timeout_s * 1000))
        return tow_fail(error, TOW_ERROR_INTERNAL, "process %d has not ended in %lld s, see %s",
                        child->pid, (long long)timeout_s, child->log);
    double wall_seconds = (double)(tow_now_us() - child->started_us) / 1e6;
    struct rusage usage;
    pid_t pid = child->pid;
    int status = reap(child, &usage);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        char tail[600];
        read_tail(child->log, tail, sizeof tail);
        return tow_fail(error, TOW_ERROR_INTERNAL, "process %d ended by %s %d, see %s: … %s", pid,
                        WIFEXITED(status) ? "exit status" : "signal",
                        WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status), child->log,
                        tail);
    }
    out->wall_seconds = wall_seconds;
    out->cpu_seconds = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    out->peak_mb = (double)child->peak_bytes / 1e6;
    return true;
}

void tow_bench_kill(tow_bench_child_t *child)
{
    if (child->pid <= 0)
        return;
    kill(child->pid, SIGTERM);
    if (!wait_end(child, 10000))
        kill(child->pid, SIGKILL);
    reap(child, NULL);
}

double tow_bench_cpu(int64_t pid)
{
    if (pid <= 0)
        return -1;
    char *path = tow_format("/proc/%lld/stat", (long long)pid);
    FILE *file = fopen(path, "re");
    free(path);
    if (!file)
        return -1;
    char text[1024];
    size_t length = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[length] = 0;
    /* The name may hold anything; the fields are counted from the bracket that ends it (proc(5)):
     * state is field 3, utime 14, stime 15. */
    const char *fields = strrchr(text, ')');
    unsigned long long user, system;
    if (!fields || sscanf(fields + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu",
                          &user, &system) != 2)
        return -1;
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}
