/* SPDX-License-Identifier: Apache-2.0 */
/* clock.c: see clock.h. */
#include "engine/base/clock.h"

#include <stdio.h>
#include <sys/resource.h>
#include <time.h>

static int64_t read_us(clockid_t id)
{
    struct timespec now;

    clock_gettime(id, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t tow_now_us(void)
{
    return read_us(CLOCK_MONOTONIC);
}

int64_t tow_now_ms(void)
{
    return read_us(CLOCK_MONOTONIC) / 1000;
}

int64_t tow_boot_ms(void)
{
    return read_us(CLOCK_BOOTTIME) / 1000;
}

int64_t tow_wall_ms(void)
{
    return read_us(CLOCK_REALTIME) / 1000;
}

void tow_wall_text(int64_t wall_ms, char out[32])
{
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm parts;

    gmtime_r(&seconds, &parts);
    strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &parts);
}

double tow_cpu_seconds(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

uint64_t tow_peak_bytes(int64_t pid)
{
    unsigned long long kilobytes = 0;
    char path[40], line[256];
    FILE *file;

    snprintf(path, sizeof path, "/proc/%lld/status", (long long)pid);
    file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file) &&
           sscanf(line, "VmHWM: %llu kB", &kilobytes) != 1)
        ;
    if (file)
        fclose(file);
    return kilobytes * 1024;
}

void tow_condition_init(pthread_cond_t *condition)
{
    pthread_condattr_t attributes;

    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
}

bool tow_condition_wait(pthread_cond_t *condition, pthread_mutex_t *lock, int64_t until_ms)
{
    struct timespec until = {.tv_sec = until_ms / 1000, .tv_nsec = until_ms % 1000 * 1000000};

    return pthread_cond_timedwait(condition, lock, &until) == 0;
}
