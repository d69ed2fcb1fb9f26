/* SPDX-License-Identifier: Apache-2.0 */
/* shim.c: preloaded into the program under test, it makes the system fail as a test asks.
 *
 *   TOWLINE_SHIM=CALL:K:ERROR      the K-th call (from 1) of CALL fails with the errno ERROR (a
 * number) TOWLINE_SHIM=CALL:K+:ERROR     so does every later one TOWLINE_SHIM=clock:K:SECONDS from
 * K ms after the start CLOCK_REALTIME is SECONDS off TOWLINE_SHIM_FOLDER=DIR        files elsewhere
 * are left alone TOWLINE_SHIM_COUNT=FILE        gets a byte for each call that failed
 *
 * CALL is write (write, pwrite, in a short form first: half of the bytes are written), sync (fsync,
 * fdatasync), open (for writing), truncate, or thread (pthread_create by the program's own code:
 * what libraries do without a thread is theirs).
 *
 * Files have offsets of 64 bits here as in the program: pwrite is pwrite64 to the linker, and so
 * on. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static struct {
    char call[16];
    long number, value;
    bool onward;
    const char *folder, *count;
    atomic_long seen;
    struct timespec began;
} shim;

#define REAL(type, name) ((type)dlsym(RTLD_NEXT, name))

typedef int (*clock_fn)(clockid_t, struct timespec *);

static clock_fn real_clock(void)
{
    static _Atomic(clock_fn) found;

    if (!found)
        found = REAL(clock_fn, "clock_gettime");
    return found;
}

__attribute__((constructor)) static void set_up(void)
{
    const char *text = getenv("TOWLINE_SHIM");
    char number[32] = "";

    shim.folder = getenv("TOWLINE_SHIM_FOLDER");
    shim.count = getenv("TOWLINE_SHIM_COUNT");
    if (text && sscanf(text, "%15[a-z]:%31[0-9+]:%ld", shim.call, number, &shim.value) == 3) {
        shim.number = atol(number);
        shim.onward = strchr(number, '+') != NULL;
    }
    real_clock()(CLOCK_MONOTONIC, &shim.began);
}

/* Tells the test that something happened. */
static void note(void)
{
    int file;

    if (!shim.count)
        return;
    file = (int)syscall(SYS_openat, AT_FDCWD, shim.count, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (file < 0 || syscall(SYS_write, file, "x", 1) != 1)
        abort();
    close(file);
}

/* Whether this call is the one; then errno is set. */
static bool fails(const char *call)
{
    long seen;

    if (strcmp(shim.call, call) != 0)
        return false;
    seen = atomic_fetch_add(&shim.seen, 1) + 1;
    if (shim.onward ? seen < shim.number : seen != shim.number)
        return false;
    note();
    errno = (int)shim.value;
    return true;
}

static bool is_watched(int file)
{
    char link[64], path[PATH_MAX];
    ssize_t length;

    if (!shim.folder)
        return false;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return false;
    path[length] = '\0';
    return !strncmp(path, shim.folder, strlen(shim.folder));
}

/* What stands in front of the C library's must be seen by the linker. */
#pragma GCC visibility push(default)

ssize_t write(int file, const void *data, size_t length)
{
    ssize_t (*real)(int, const void *, size_t) =
        REAL(ssize_t(*)(int, const void *, size_t), "write");

    if (!strcmp(shim.call, "write") && is_watched(file) && fails("write")) {
        int error = errno;

        if (length > 1 && real(file, data, length / 2) < 0)
            abort();
        errno = error;
        return -1;
    }
    return real(file, data, length);
}

ssize_t pwrite(int file, const void *data, size_t length, off_t offset)
{
    ssize_t (*real)(int, const void *, size_t, off_t) =
        REAL(ssize_t(*)(int, const void *, size_t, off_t), "pwrite64");

    if (!strcmp(shim.call, "write") && is_watched(file) && fails("write")) {
        int error = errno;

        if (length > 1 && real(file, data, length / 2, offset) < 0)
            abort();
        errno = error;
        return -1;
    }
    return real(file, data, length, offset);
}

int fsync(int file)
{
    return !strcmp(shim.call, "sync") && is_watched(file) && fails("sync")
               ? -1
               : REAL(int (*)(int), "fsync")(file);
}

int fdatasync(int file)
{
    return !strcmp(shim.call, "sync") && is_watched(file) && fails("sync")
               ? -1
               : REAL(int (*)(int), "fdatasync")(file);
}

int ftruncate(int file, off_t length)
{
    return !strcmp(shim.call, "truncate") && is_watched(file) && fails("truncate")
               ? -1
               : REAL(int (*)(int, off_t), "ftruncate64")(file, length);
}

int open(const char *path, int flags, ...)
{
    mode_t mode = 0;
    va_list list;

    if (flags & (O_CREAT | O_TMPFILE)) {
        va_start(list, flags);
        mode = va_arg(list, mode_t);
        va_end(list);
    }
    if (shim.folder && !strncmp(path, shim.folder, strlen(shim.folder)) &&
        (flags & (O_WRONLY | O_RDWR)) && fails("open"))
        return -1;
    return REAL(int (*)(const char *, int, ...), "open64")(path, flags, mode);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                   void *data)
{
    Dl_info place;

    if (!strcmp(shim.call, "thread") && dladdr((void *)(uintptr_t)run, &place) && place.dli_fname &&
        strstr(place.dli_fname, "towline") && fails("thread"))
        return (int)shim.value;
    return REAL(int (*)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *),
                "pthread_create")(thread, attributes, run, data);
}

int clock_gettime(clockid_t id, struct timespec *out)
{
    struct timespec now;
    int result = real_clock()(id, out);

    if (result || id != CLOCK_REALTIME || strcmp(shim.call, "clock"))
        return result;
    real_clock()(CLOCK_MONOTONIC, &now);
    if ((now.tv_sec - shim.began.tv_sec) * 1000 + (now.tv_nsec - shim.began.tv_nsec) / 1000000 >=
        shim.number) {
        if (!atomic_exchange(&shim.seen, 1))
            note();
        out->tv_sec += shim.value;
    }
    return 0;
}
