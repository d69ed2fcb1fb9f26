/* SPDX-License-Identifier: Apache-2.0 */
/* disk.c: see disk.h. The files are real ones, in a temporary folder. */
#include "disk.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

#include "schedule.h"

enum { FILES = 1024 };

typedef struct {
    bool open, written;
    int process;
    off_t synced;
} file_t;

static file_t files[FILES];

int __wrap_open64(const char *path, int flags, ...);
int __real_open64(const char *path, int flags, ...);
int __wrap_close(int file);
int __real_close(int file);
int __wrap_fdatasync(int file);
int __wrap_fsync(int file);
ssize_t __wrap_pwrite64(int file, const void *data, size_t length, off_t at);
ssize_t __real_pwrite64(int file, const void *data, size_t length, off_t at);

static off_t length_of(int file)
{
    struct stat status;

    return fstat(file, &status) ? 0 : status.st_size;
}

int __wrap_open64(const char *path, int flags, ...)
{
    va_list arguments;
    mode_t mode;
    int file;

    va_start(arguments, flags);
    mode = flags & O_CREAT ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    file = __real_open64(path, flags, mode);
    if (file >= 0 && file < FILES)
        files[file] = (file_t){true, false, sim_process(), length_of(file)};
    return file;
}

int __wrap_close(int file)
{
    if (file >= 0 && file < FILES)
        files[file].open = false;
    return __real_close(file);
}

/* Nothing of the machine is to break: to sync is to remember. */
static int sync_file(int file)
{
    if (file >= 0 && file < FILES)
        files[file].synced = length_of(file);
    if (sim_process() && sim_one_in(SIM_CHAOS, 4))
        sim_sleep(1 + sim_below(SIM_CHAOS, 20000));
    return 0;
}

int __wrap_fdatasync(int file)
{
    return sync_file(file);
}

int __wrap_fsync(int file)
{
    return sync_file(file);
}

ssize_t __wrap_pwrite64(int file, const void *data, size_t length, off_t at)
{
    if (file >= 0 && file < FILES)
        files[file].written = true;
    return __real_pwrite64(file, data, length, at);
}

void sim_disk_kill(int process)
{
    for (int i = 0; i < FILES; i++) {
        file_t *file = &files[i];
        off_t length;

        if (!file->open || file->process != process)
            continue;
        length = length_of(i);
        if (file->written && length > file->synced && !sim_one_in(SIM_CHAOS, 3) &&
            ftruncate(i,
                      file->synced + sim_below(SIM_CHAOS, (uint32_t)(length - file->synced) + 1)))
            sim_fail("a file cannot be cut");
        __wrap_close(i); /* and its lock is free */
    }
}
