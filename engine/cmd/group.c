/* SPDX-License-Identifier: Apache-2.0 */
/* group.c: the memory of a container or a service, which is killed where it takes more
 * than it may. */
#include <stdlib.h>

#include "engine/base/cgroup.h"
#include "engine/base/memory.h"
#include "engine/cmd/cmd.h"

/* MB besides --memory: what the program itself takes, and what the largest job stays within. */
enum { MEMORY_LEAST = 64, MEMORY_GOOD = 150 };

static unsigned long long memory_of(const tow_options_t *options)
{
    return strtoull(tow_options_get(options, "memory", 0), NULL, 10);
}

bool cmd_fits_group(const tow_options_t *options, tow_error_t *error)
{
    unsigned long long most = tow_cgroup_memory("") >> 20, memory = memory_of(options);

    return !most || most >= memory + MEMORY_LEAST ||
           tow_fail(error, TOW_ERROR_UNSUITABLE,
                    "this process may take %llu MB of memory, and needs %llu MB with --memory "
                    "%llu; raise the limit "
                    "of its container or service, or lower --memory",
                    most, memory + MEMORY_LEAST, memory);
}

void cmd_warn_of_memory(const tow_options_t *options, cmd_log_t *log)
{
    unsigned long long most = tow_cgroup_memory("") >> 20, memory = memory_of(options);
    char *text;

    if (!most || most >= memory + MEMORY_GOOD)
        return;
    text = tow_format(
        "this process may take %llu MB of memory, and with --memory %llu a large job takes up to "
        "%llu MB: it may be killed, and goes on when it is started again; raise the limit of its "
        "container or service, or lower --memory",
        most, memory, memory + MEMORY_GOOD);
    cmd_log_event(log, TOW_LEVEL_WARNING, "little_memory", text);
    free(text);
}
