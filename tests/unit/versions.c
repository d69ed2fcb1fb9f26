/* SPDX-License-Identifier: Apache-2.0 */
/* versions.c: the table of what servers' versions can do, as the rest of the code asks it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "engine/link/versions.h"

typedef enum { SET, MONGOS, STANDALONE } kind_of_server_t;

static bool can(int major, int minor, kind_of_server_t kind, tow_feature_t feature)
{
    tow_facts_t facts = {.major = major,
                         .minor = minor,
                         .sharded = kind == MONGOS,
                         .standalone = kind == STANDALONE};

    return tow_server_can(&facts, feature);
}

static void begins_with_its_version(void **state)
{
    assert_false(can(4, 0, SET, TOW_SUPPORTED));
    assert_true(can(4, 2, SET, TOW_SUPPORTED));
    assert_true(can(8, 2, MONGOS, TOW_SUPPORTED));
    assert_false(can(4, 4, SET, TOW_CAPPED_DELETES));
    assert_true(can(5, 0, SET, TOW_CAPPED_DELETES));
    assert_false(can(5, 0, SET, TOW_TTL_MAX));
    assert_true(can(8, 0, SET, TOW_TTL_MAX));
    assert_false(can(5, 3, SET, TOW_EXPANDED_EVENTS));
    assert_true(can(6, 0, SET, TOW_EXPANDED_EVENTS));
}

static void ends_with_its_version(void **state)
{
    assert_false(can(4, 2, SET, TOW_RECORD_PRE_IMAGES));
    assert_true(can(4, 4, SET, TOW_RECORD_PRE_IMAGES));
    assert_true(can(5, 3, SET, TOW_RECORD_PRE_IMAGES));
    assert_false(can(6, 0, SET, TOW_RECORD_PRE_IMAGES));
    assert_true(can(6, 0, SET, TOW_PRE_AND_POST_IMAGES));
}

static void depends_on_the_kind_of_server(void **state)
{
    assert_false(can(4, 4, MONGOS, TOW_RECORD_PRE_IMAGES));
    assert_false(can(4, 4, STANDALONE, TOW_RECORD_PRE_IMAGES));
    assert_false(can(8, 0, STANDALONE, TOW_EXPANDED_EVENTS));
    assert_true(can(8, 0, STANDALONE, TOW_HELLO));
    assert_true(can(4, 4, MONGOS, TOW_COMMIT_QUORUM));
    assert_false(can(4, 4, STANDALONE, TOW_COMMIT_QUORUM));
    assert_false(can(4, 2, SET, TOW_COMMIT_QUORUM));
}

static void temp_is_never_created(void **state)
{
    for (int major = 4; major < 12; major++)
        for (int kind = SET; kind <= STANDALONE; kind++)
            assert_false(can(major, 4, kind, TOW_CREATE_TEMP));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(begins_with_its_version), cmocka_unit_test(ends_with_its_version),
        cmocka_unit_test(depends_on_the_kind_of_server), cmocka_unit_test(temp_is_never_created)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
