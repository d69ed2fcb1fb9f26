/* clock.c: see clock.h. */
#include "engine/base/clock.h"

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

int64_t tow_wall_ms(void)
{
    return read_us(CLOCK_REALTIME) / 1000;
}

double tow_cpu_seconds(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}
