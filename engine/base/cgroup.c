/* SPDX-License-Identifier: Apache-2.0 */
/* cgroup.c: see cgroup.h. */
#include "engine/base/cgroup.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/memory.h"

/* What version 1 shows for no limit is a little less than INT64_MAX. */
#define UNLIMITED (UINT64_C(1) << 60)

/* The number in a file; 0: there is none, or no limit. */
static uint64_t read_limit(const char *path)
{
    FILE *file = fopen(path, "re");
    char text[32] = "";
    uint64_t limit = 0;

    if (!file)
        return 0;
    if (fgets(text, sizeof text, file) && isdigit((unsigned char)*text))
        limit = strtoull(text, NULL, 10);
    fclose(file);
    return limit < UNLIMITED ? limit : 0;
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return !a || (b && b < a) ? b : a;
}

/* A container may see its own group as the root, under the path that the host has for it: what is
 * not there is passed over on the way up. */
static uint64_t least_above(const char *folder, char *group, const char *name)
{
    uint64_t least = 0;
    char *slash;

    do {
        char *path = tow_format("%s%s/%s", folder, group, name);

        least = smaller(least, read_limit(path));
        free(path);
        slash = strrchr(group, '/');
        if (slash)
            *slash = '\0';
    } while (slash);
    return least;
}

static bool names_memory(const char *controllers)
{
    for (const char *at = controllers; *at; at += strcspn(at, ",") + (at[strcspn(at, ",")] == ','))
        if (strcspn(at, ",") == 6 && !strncmp(at, "memory", 6))
            return true;
    return false;
}

/* "0::/group" of version 2, "4:memory:/group" of version 1. */
static uint64_t read_line(const char *root, char *line)
{
    char *controllers = strchr(line, ':'),
         *group = controllers ? strchr(controllers + 1, ':') : NULL;
    bool second = controllers && group == controllers + 1, first;
    uint64_t least = 0;
    char *folder;

    if (!group)
        return 0;
    *group++ = '\0';
    group[strcspn(group, "\n")] = '\0';
    first = names_memory(controllers + 1);
    if (!first && !second)
        return 0;
    folder = tow_format("%s/sys/fs/cgroup%s", root, first ? "/memory" : "");
    least = least_above(folder, group, first ? "memory.limit_in_bytes" : "memory.max");
    free(folder);
    return least;
}

uint64_t tow_cgroup_memory(const char *root)
{
    char *path = tow_format("%s/proc/self/cgroup", root), *line = NULL;
    FILE *file = fopen(path, "re");
    uint64_t least = 0;
    size_t size = 0;

    while (file && getline(&line, &size, file) > 0)
        least = smaller(least, read_line(root, line));
    if (file)
        fclose(file);
    free(line);
    free(path);
    return least;
}
