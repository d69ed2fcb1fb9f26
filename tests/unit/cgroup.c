/* SPDX-License-Identifier: Apache-2.0 */
/* The memory limit of a container or a service, as the kernel shows it in its ways. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/cgroup.h"
#include "engine/base/memory.h"

static char root[64];

static int make_root(void **state)
{
    strcpy(root, "/tmp/towline-cgroup-XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state)
{
    char command[128];

    snprintf(command, sizeof command, "rm -rf %s", root);
    return system(command);
}

static void put(const char *path, const char *text)
{
    char *whole = tow_format("%s/%s", root, path), *folder = tow_strdup(whole), *command;
    FILE *file;

    *strrchr(folder, '/') = '\0';
    command = tow_format("mkdir -p '%s'", folder);
    assert_int_equal(system(command), 0);
    file = fopen(whole, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    free(command);
    free(folder);
    free(whole);
}

static void nothing_known_is_no_limit(void **state)
{
    assert_int_equal(tow_cgroup_memory(root), 0);
    put("proc/self/cgroup", "");
    assert_int_equal(tow_cgroup_memory(root), 0);
    put("proc/self/cgroup", "rubbish\n:\n::\n0::\n0::/\n");
    assert_int_equal(tow_cgroup_memory(root), 0);
}

static void the_second_version_has_the_least_on_the_way_up(void **state)
{
    put("proc/self/cgroup", "0::/a.slice/b.service\n");
    put("sys/fs/cgroup/a.slice/b.service/memory.max", "max\n");
    assert_int_equal(tow_cgroup_memory(root), 0);
    put("sys/fs/cgroup/a.slice/memory.max", "2000\n");
    assert_int_equal(tow_cgroup_memory(root), 2000);
    put("sys/fs/cgroup/a.slice/b.service/memory.max", "3000\n");
    assert_int_equal(tow_cgroup_memory(root), 2000);
    put("sys/fs/cgroup/memory.max", "1000\n");
    assert_int_equal(tow_cgroup_memory(root), 1000);
}

static void the_first_version_has_its_own_folder(void **state)
{
    put("proc/self/cgroup", "5:devices:/x\n4:cpu,memory,io:/docker/1234\n3:memoryless:/y\n0::/\n");
    put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"); /* none */
    assert_int_equal(tow_cgroup_memory(root), 0);
    /* A container sees its group as the root, under the host's name. */
    put("sys/fs/cgroup/memory/memory.limit_in_bytes", "4000\n");
    assert_int_equal(tow_cgroup_memory(root), 4000);
    put("sys/fs/cgroup/memory/docker/1234/memory.limit_in_bytes", "3000\n");
    assert_int_equal(tow_cgroup_memory(root), 3000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_known_is_no_limit, make_root, remove_root),
        cmocka_unit_test_setup_teardown(the_second_version_has_the_least_on_the_way_up, make_root,
                                        remove_root),
        cmocka_unit_test_setup_teardown(the_first_version_has_its_own_folder, make_root,
                                        remove_root),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
