/* SPDX-License-Identifier: Apache-2.0 */
/* cgroup.h: the memory that a control group (a container, a service) leaves to this process. */
#ifndef TOW_BASE_CGROUP_H
#define TOW_BASE_CGROUP_H

#include <stdbool.h>
#include <stdint.h>

/* Bytes; 0: no limit is known. That of version 2 (memory.max) or 1 (memory.limit_in_bytes), the
 * least on the way from this process's group up. `root`: "", or a folder in the place of / (for
 * tests). */
uint64_t tow_cgroup_memory(const char *root);

#endif
