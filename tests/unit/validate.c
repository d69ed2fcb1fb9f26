/* SPDX-License-Identifier: Apache-2.0 */
/* The judgements of the checks before a start, on figures and on recorded answers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine/check/figures.h"
#include "engine/check/privileges.h"
#include "engine/check/validate.h"

static tow_findings_t findings;

/* The one finding there is, with every word in it; the list is empty again. */
static void expect(tow_finding_result_t result, const char *word, const char *other)
{
    char text[4096];

    assert_int_equal(findings.count, 1);
    snprintf(text, sizeof text, "%s %s", findings.items[0].facts, findings.items[0].advice);
    assert_int_equal(findings.items[0].result, result);
    if (!strstr(text, word) || !strstr(text, other))
        fail_msg("no '%s' or no '%s' in: %s", word, other, text);
    assert_true(result != TOW_FINDING_FAILURE ||
                (*findings.items[0].advice && findings.items[0].code != TOW_OK));
    tow_findings_clear(&findings);
}

static void disks(void **state)
{
    tow_judge_spool(&findings, "/spool", 8000000);
    expect(TOW_FINDING_FAILURE, "8.0 MB", "--spool");
    tow_judge_spool(&findings, "/spool", 500000000);
    expect(TOW_FINDING_WARNING, "500.0 MB", "/spool");
    tow_judge_spool(&findings, "/spool", 5000000000);
    expect(TOW_FINDING_PASS, "5.0 GB", "");
    tow_judge_destination(&findings, 1000000000, 0, 0);
    expect(TOW_FINDING_SKIPPED, "does not tell", "1.0 GB");
    tow_judge_destination(&findings, 1000000000, 9e9, 9.2e9);
    expect(TOW_FINDING_FAILURE, "200.0 MB", "1.0 GB");
    tow_judge_destination(&findings, 1000000000, 9e9, 9.9e9);
    expect(TOW_FINDING_WARNING, "900.0 MB", "compresses");
    tow_judge_destination(&findings, 1000000000, 9e9, 20e9);
    expect(TOW_FINDING_PASS, "11.0 GB", "");
    tow_judge_destination(&findings, 1, 9e9, 8e9); /* a server that reserves more than it has */
    expect(TOW_FINDING_FAILURE, "0 B", "");
}

static void windows(void **state)
{
    tow_judge_window(&findings, 3600, 3600, 7200);
    expect(TOW_FINDING_WARNING, "60 min", "2 h 0 min");
    tow_judge_window(&findings, 3600, 360000, 7200); /* young, and large enough */
    expect(TOW_FINDING_PASS, "4 d 4 h once it is full", "");
    tow_judge_window(&findings, 7200, 7200, 7200);
    expect(TOW_FINDING_PASS, "2 h", "");
}

static void clocks_and_files(void **state)
{
    tow_judge_clocks(&findings, 0.2, -0.2);
    expect(TOW_FINDING_PASS, "0.4 s", "");
    tow_judge_clocks(&findings, 60, 60); /* both against ours */
    expect(TOW_FINDING_WARNING, "+60.0 s", "time server");
    tow_judge_clocks(&findings, 3, -3); /* against each other */
    expect(TOW_FINDING_WARNING, "-3.0 s", "");
    tow_judge_files(&findings, 159, 160);
    expect(TOW_FINDING_FAILURE, "159", "ulimit");
    tow_judge_files(&findings, 160, 160);
    expect(TOW_FINDING_PASS, "160", "");
}

/* Privileges ------------------------------------------------------------------------------------*/

static const char *const USER =
    "{'authInfo': {'authenticatedUsers': [{'user': 'bob', 'db': 'admin'}],";

/* Judges an answer, written with ' for ". */
static void judge(const char *rest, const char *side, const tow_privilege_scope_t *scope)
{
    char text[4096];
    bson_t *reply;

    snprintf(text, sizeof text, "%s%s", USER, rest);
    for (char *at = text; *at; at++)
        if (*at == '\'')
            *at = '"';
    reply = bson_new_from_json((const uint8_t *)text, -1, NULL);
    assert_non_null(reply);
    assert_true(tow_judge_privileges(reply, side, "privileges", scope, &findings));
    bson_destroy(reply);
}

/* What mongod 7.0 lists for readAnyDatabase and clusterMonitor, shortened. */
#define READ_ANY                                                                                   \
    "{'resource': {'cluster': true}, 'actions': ['listDatabases']},"                               \
    "{'resource': {'db': '', 'collection': ''}, 'actions': ['changeStream', 'collStats', 'find', " \
    "'killCursors', 'listCollections', 'listIndexes']}"
#define MONITOR                                                                                    \
    ",{'resource': {'db': 'local', 'collection': ''}, "                                            \
    "'actions': ['collStats', 'dbStats', 'find', 'getShardVersion']}"
#define WRITE(DB)                                                                                  \
    "{'resource': {'db': '" DB "', 'collection': ''}, 'actions': ['find', 'insert', 'update', "    \
    "'remove', 'createCollection', 'dropCollection', 'createIndex', 'dropIndex', "                 \
    "'listCollections', 'listIndexes', 'collMod', 'dropDatabase', 'bypassDocumentValidation']}"

static void privileges_of_a_source(void **state)
{
    tow_privilege_scope_t any = {0};

    judge("'authenticatedUserPrivileges': [" READ_ANY MONITOR "]}}", "source", &any);
    expect(TOW_FINDING_PASS, "bob@admin", "");
    judge("'authenticatedUserPrivileges': [" READ_ANY "]}}", "source", &any);
    expect(TOW_FINDING_WARNING, "local.oplog.rs", "clusterMonitor");
    /* The right to read one database is none to follow all. */
    judge("'authenticatedUserPrivileges': [{'resource': {'db': 'shop', 'collection': ''}, "
          "'actions': ['find', 'changeStream']}]}}",
          "source", &any);
    expect(TOW_FINDING_FAILURE, "changeStream", "grantRolesToUser(\"bob\"");
    judge("'authenticatedUserPrivileges': [{'resource': {'anyResource': true}, 'actions': "
          "['anyAction']}]}}",
          "source", &any);
    expect(TOW_FINDING_PASS, "bob", "");
}

static void privileges_of_a_destination(void **state)
{
    static const char *const written[] = {"shop", "towline_a"};
    tow_privilege_scope_t any = {0}, two = {written, 2};

    judge("'authenticatedUserPrivileges': [" WRITE("") "]}}", "destination", &any);
    expect(TOW_FINDING_PASS, "bob", "");
    judge("'authenticatedUserPrivileges': [" READ_ANY "]}}", "destination", &any);
    expect(TOW_FINDING_FAILURE, "insert on data", "readWriteAnyDatabase");
    judge("'authenticatedUserPrivileges': [" WRITE("shop") "," WRITE("towline_a") "]}}",
          "destination", &two);
    expect(TOW_FINDING_PASS, "bob", "");
    judge("'authenticatedUserPrivileges': [" WRITE("shop") "]}}", "destination", &two);
    expect(TOW_FINDING_FAILURE, "insert", "");
    judge("'authenticatedUserPrivileges': [" WRITE("shop") "," WRITE("towline_a") "]}}",
          "destination", &any);
    expect(TOW_FINDING_FAILURE, "insert", "");
}

static void privileges_of_options(void **state)
{
    tow_privilege_scope_t block = {.block_writes = true}, remove = {.remove_user = true};

    judge("'authenticatedUserPrivileges': [" READ_ANY MONITOR "]}}", "source", &block);
    expect(TOW_FINDING_FAILURE, "setUserWriteBlockMode on the cluster", "createRole");
    judge("'authenticatedUserPrivileges': [" READ_ANY MONITOR ",{'resource': {'cluster': true}, "
          "'actions': ['setUserWriteBlockMode']}]}}",
          "source", &block);
    expect(TOW_FINDING_PASS, "bob", "");
    judge("'authenticatedUserPrivileges': [" WRITE("") "]}}", "destination", &block);
    expect(TOW_FINDING_PASS, "bob", "");
    judge("'authenticatedUserPrivileges': [" WRITE("") "]}}", "destination", &remove);
    expect(TOW_FINDING_FAILURE, "dropUser on its own database", "userAdminAnyDatabase");
    judge(
        "'authenticatedUserPrivileges': [" WRITE("") ",{'resource': {'db': 'admin', 'collection': "
                                                     "''}, 'actions': ['dropUser']}]}}",
        "destination", &remove);
    expect(TOW_FINDING_PASS, "bob", "");
    judge("'authenticatedUserRoles': [{'role': 'root', 'db': 'admin'}]}}", "destination", &remove);
    expect(TOW_FINDING_PASS, "bob", "");
}

static void privileges_on_a_sharded_destination(void **state)
{
    tow_privilege_scope_t sharded = {.sharded_state = "towline_a"};

    judge("'authenticatedUserPrivileges': [" WRITE("") "]}}", "destination", &sharded);
    expect(TOW_FINDING_FAILURE, "enableSharding on data",
           "{role: \"enableSharding\", db: \"admin\"}");
    judge("'authenticatedUserPrivileges': [" WRITE(
              "") ",{'resource': {'db': 'towline_a', "
                  "'collection': ''}, 'actions': ['enableSharding']}]}}",
          "destination", &sharded);
    expect(TOW_FINDING_PASS, "bob", "");
    judge("'authenticatedUserPrivileges': [" READ_ANY MONITOR "]}}", "source", &sharded);
    expect(TOW_FINDING_PASS, "bob", "");
}

static void roles_stand_for_privileges(void **state)
{
    tow_privilege_scope_t any = {0};

    judge("'authenticatedUserRoles': [{'role': 'readAnyDatabase', 'db': 'admin'}, "
          "{'role': 'clusterMonitor', 'db': 'admin'}], 'authenticatedUserPrivileges': []}}",
          "source", &any);
    expect(TOW_FINDING_PASS, "bob", "");
    judge("'authenticatedUserRoles': [{'role': 'readAnyDatabase', 'db': 'other'}]}}", "source",
          &any);
    expect(TOW_FINDING_FAILURE, "find", "");
    judge("'authenticatedUserRoles': []}}", "destination", &any);
    expect(TOW_FINDING_FAILURE, "insert", "dbAdminAnyDatabase");
}

/* What follows the last semicolon is what to do. */
static void errors_split_into_facts_and_advice(void **state)
{
    tow_error_t error = {.code = TOW_ERROR_UNREACHABLE, .message = "a; b is so; do this"};

    tow_find_error(&findings, "x", &error);
    assert_string_equal(findings.items[0].facts, "a; b is so");
    assert_string_equal(findings.items[0].advice, "do this");
    assert_false(tow_findings_judge(&findings, &error));
    assert_string_equal(error.message, "a; b is so; do this");
    assert_int_equal(error.code, TOW_ERROR_UNREACHABLE);
    tow_findings_clear(&findings);
    assert_true(tow_findings_judge(&findings, &error));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(disks),
                                       cmocka_unit_test(windows),
                                       cmocka_unit_test(clocks_and_files),
                                       cmocka_unit_test(privileges_of_a_source),
                                       cmocka_unit_test(privileges_of_a_destination),
                                       cmocka_unit_test(privileges_of_options),
                                       cmocka_unit_test(privileges_on_a_sharded_destination),
                                       cmocka_unit_test(roles_stand_for_privileges),
                                       cmocka_unit_test(errors_split_into_facts_and_advice)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
