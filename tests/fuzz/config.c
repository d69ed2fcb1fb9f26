/* SPDX-License-Identifier: Apache-2.0 */
/* config.c: any bytes as a file of options. They are taken or refused with a message that names the
 * file. */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/options/options.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char path[64];
    static int file = -1;
    tow_options_t *options = tow_options_new();
    tow_error_t error = {0};

    if (file < 0) {
        file = memfd_create("config", MFD_CLOEXEC);
        snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    }
    if (file < 0 || fchmod(file, 0600) || ftruncate(file, 0) ||
        pwrite(file, data, size, 0) != (ssize_t)size)
        exit(1);
    if (!tow_options_load(options, path, &error))
        HOLDS(error.code != TOW_OK && strstr(error.message, path));
    tow_options_destroy(options);
    return 0;
}
