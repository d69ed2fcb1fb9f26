/* SPDX-License-Identifier: Apache-2.0 */
/* privileges.c: whether the user of a URI may do what a job does there, as connectionStatus tells.
 *
 * A server lists every privilege by resource and actions. One that gives roles alone is judged by
 * what MongoDB's built-in roles hold (manual, "Built-In Roles"). */
#include <stdlib.h>
#include <string.h>

#include "engine/base/memory.h"
#include "engine/check/privileges.h"
#include "engine/link/codes.h"
#include "engine/link/reply.h"

typedef enum {
    READING = 1,
    WRITING = 2,
    ADMINISTERING = 4,
    MONITORING = 8,
    BLOCKING = 16,
    REMOVING = 32, /* of its own user */
    SHARDING = 64,
    ALL = 127
} kind_t;

typedef enum { IN_DATA, IN_CLUSTER, IN_LOCAL, IN_USERS } place_t;

/* An action that a job needs; `kind` is that of the roles that hold it. */
typedef struct {
    const char *action;
    place_t place;
    kind_t kind;
} need_t;

static const need_t source_needs[] = {{"find", IN_DATA, READING},
                                      {"changeStream", IN_DATA, READING},
                                      {"listCollections", IN_DATA, READING},
                                      {"listIndexes", IN_DATA, READING},
                                      {"listDatabases", IN_CLUSTER, READING},
                                      {"find", IN_LOCAL, MONITORING}};

static const need_t blocking_need = {"setUserWriteBlockMode", IN_CLUSTER, BLOCKING};
static const need_t removing_need = {"dropUser", IN_USERS, REMOVING};
/* Of a sharded destination: what an earlier process sent is ended on
 * every shard (state/marks.c). */
static const need_t sharding_need = {"enableSharding", IN_DATA, SHARDING};

static const need_t destination_needs[] = {{"find", IN_DATA, WRITING},
                                           {"insert", IN_DATA, WRITING},
                                           {"update", IN_DATA, WRITING},
                                           {"remove", IN_DATA, WRITING},
                                           {"createCollection", IN_DATA, WRITING},
                                           {"dropCollection", IN_DATA, WRITING},
                                           {"createIndex", IN_DATA, WRITING},
                                           {"dropIndex", IN_DATA, WRITING},
                                           {"listCollections", IN_DATA, WRITING},
                                           {"listIndexes", IN_DATA, WRITING},
                                           {"collMod", IN_DATA, ADMINISTERING},
                                           {"dropDatabase", IN_DATA, ADMINISTERING},
                                           {"bypassDocumentValidation", IN_DATA, ADMINISTERING}};

static const struct {
    const char *name;
    bool everywhere; /* in all databases, when it is a role of admin */
    unsigned kinds;
} built_in[] = {{"root", true, ALL},
                {"__system", true, ALL},
                {"atlasAdmin", true, ALL},
                {"readAnyDatabase", true, READING},
                {"readWriteAnyDatabase", true, READING | WRITING},
                {"dbAdminAnyDatabase", true, ADMINISTERING},
                {"clusterMonitor", true, MONITORING},
                {"clusterAdmin", true, MONITORING | SHARDING},
                {"clusterManager", true, SHARDING},
                {"enableSharding", true, SHARDING},
                {"backup", true, READING | MONITORING},
                {"read", false, READING},
                {"readWrite", false, READING | WRITING},
                {"dbAdmin", false, ADMINISTERING},
                {"userAdminAnyDatabase", true, REMOVING},
                {"userAdmin", false, REMOVING},
                {"dbOwner", false, READING | WRITING | ADMINISTERING | REMOVING}};

static const char *text_at(const bson_iter_t *document, const char *name)
{
    const char *text = NULL;
    bson_iter_t iter;

    if (bson_iter_recurse(document, &iter) && bson_iter_find(&iter, name))
        tow_iter_text(&iter, &text);
    return text;
}

static bool flag_at(const bson_iter_t *document, const char *name)
{
    bson_iter_t iter;

    return bson_iter_recurse(document, &iter) && bson_iter_find(&iter, name) &&
           bson_iter_as_bool(&iter);
}

/* Whether a privilege's resource covers a place. `database` NULL: all of them. */
static bool covers(const bson_iter_t *resource, place_t place, const char *database)
{
    const char *db = text_at(resource, "db"), *collection = text_at(resource, "collection");

    if (flag_at(resource, "anyResource"))
        return true;
    if (place == IN_CLUSTER)
        return flag_at(resource, "cluster");
    if (!db || !collection)
        return false;
    if (place == IN_LOCAL)
        return !strcmp(db, "local") && (!*collection || !strcmp(collection, "oplog.rs"));
    return !*collection && (!*db || (database && !strcmp(db, database)));
}

static bool privilege_grants(const bson_iter_t *privilege, const need_t *need, const char *database)
{
    bson_iter_t resource, actions, action;
    const char *text;

    if (!bson_iter_recurse(privilege, &resource) || !bson_iter_find(&resource, "resource") ||
        !BSON_ITER_HOLDS_DOCUMENT(&resource) || !covers(&resource, need->place, database) ||
        !bson_iter_recurse(privilege, &actions) || !bson_iter_find(&actions, "actions") ||
        !BSON_ITER_HOLDS_ARRAY(&actions) || !bson_iter_recurse(&actions, &action))
        return false;
    while (bson_iter_next(&action))
        if (tow_iter_text(&action, &text) &&
            (!strcmp(text, need->action) || !strcmp(text, "anyAction")))
            return true;
    return false;
}

static bool role_grants(const bson_iter_t *role, const need_t *need, const char *database)
{
    const char *name = text_at(role, "role"), *db = text_at(role, "db");

    for (size_t i = 0; name && db && i < sizeof built_in / sizeof *built_in; i++)
        if (!strcmp(name, built_in[i].name) && (built_in[i].kinds & need->kind))
            return built_in[i].everywhere ? !strcmp(db, "admin")
                                          : (need->place == IN_DATA || need->place == IN_USERS) &&
                                                database && !strcmp(db, database);
    return false;
}

/* What connectionStatus answered. */
typedef struct {
    bson_iter_t users, roles, privileges;
    bool has_roles, has_privileges;
} status_t;

static bool open_list(const bson_t *reply, const char *path, bson_iter_t *out)
{
    bson_iter_t iter, found, first;

    if (!bson_iter_init(&iter, reply) || !bson_iter_find_descendant(&iter, path, &found) ||
        !BSON_ITER_HOLDS_ARRAY(&found) || !bson_iter_recurse(&found, out))
        return false;
    first = *out;
    return bson_iter_next(&first);
}

static bool is_granted(const status_t *status, const need_t *need, const char *database)
{
    bson_iter_t iter = status->has_privileges ? status->privileges : status->roles;

    if (!status->has_privileges && !status->has_roles)
        return false;
    while (bson_iter_next(&iter))
        if (status->has_privileges ? privilege_grants(&iter, need, database)
                                   : role_grants(&iter, need, database))
            return true;
    return false;
}

/* In every database that the job writes; where the filter takes any, in all at once. */
static bool is_granted_for(const status_t *status, const need_t *need,
                           const tow_privilege_scope_t *scope)
{
    if (is_granted(status, need, NULL))
        return true;
    if (need->place != IN_DATA || !scope->database_count)
        return false;
    for (size_t i = 0; i < scope->database_count; i++)
        if (!is_granted(status, need, scope->databases[i]))
            return false;
    return true;
}

static void append(tow_buffer_t *out, const char *separator, const char *text)
{
    if (out->length)
        tow_buffer_append(out, separator, strlen(separator));
    tow_buffer_append(out, text, strlen(text));
}

/* The command that gives the user the roles of the kinds that are missing. */
static char *grant_command(const char *side, const char *user, const char *database,
                           unsigned missing)
{
    bool source = !strcmp(side, "source");
    tow_buffer_t roles = {0};
    char *command;

    if (missing & READING)
        append(&roles, ", ", "{role: \"readAnyDatabase\", db: \"admin\"}");
    if (missing & WRITING)
        append(&roles, ", ", "{role: \"readWriteAnyDatabase\", db: \"admin\"}");
    if (missing & ADMINISTERING)
        append(&roles, ", ", "{role: \"dbAdminAnyDatabase\", db: \"admin\"}");
    if (missing & MONITORING)
        append(&roles, ", ", "{role: \"clusterMonitor\", db: \"admin\"}");
    if (missing & SHARDING)
        append(&roles, ", ", "{role: \"enableSharding\", db: \"admin\"}");
    if (missing & BLOCKING)
        append(&roles, ", ", "{role: \"blockWrites\", db: \"admin\"}");
    if (missing & REMOVING)
        append(&roles, ", ", "{role: \"userAdminAnyDatabase\", db: \"admin\"}");
    tow_buffer_append(&roles, "", 1);
    command = tow_format(
        "grant it on the %s: %sdb.getSiblingDB(\"%s\").grantRolesToUser(\"%s\", [%s])",
        source ? "source" : "destination",
        missing & BLOCKING
            ? "db.getSiblingDB(\"admin\").createRole({role: \"blockWrites\", privileges: "
              "[{resource: "
              "{cluster: true}, actions: [\"setUserWriteBlockMode\"]}], roles: []}), then "
            : "",
        database, user, (char *)roles.data);
    tow_buffer_free(&roles);
    return command;
}

static const char *place_text(place_t place)
{
    return place == IN_CLUSTER ? "on the cluster"
           : place == IN_LOCAL ? "on local.oplog.rs"
           : place == IN_USERS ? "on its own database"
                               : "on data";
}

static void miss(const need_t *need, unsigned *missing, tow_buffer_t *list)
{
    char text[96];

    *missing |= need->kind;
    snprintf(text, sizeof text, "%s %s", need->action, place_text(need->place));
    append(list, ", ", text);
}

static void judge(const char *side, const char *name, const status_t *status,
                  const tow_privilege_scope_t *scope, tow_findings_t *findings)
{
    bool source = !strcmp(side, "source");
    const need_t *needs = source ? source_needs : destination_needs;
    size_t count = source ? sizeof source_needs / sizeof *source_needs
                          : sizeof destination_needs / sizeof *destination_needs;
    bson_iter_t first = status->users;
    const char *user, *database;
    unsigned missing = 0;
    tow_buffer_t list = {0};
    struct {
        const need_t *need;
        bool wanted;
        const char *where;
    } options[] = {{&blocking_need, source && scope->block_writes, NULL},
                   {&removing_need, !source && scope->remove_user, NULL},
                   {&sharding_need, !source && scope->sharded_state, scope->sharded_state}};

    bson_iter_next(&first);
    user = text_at(&first, "user");
    database = text_at(&first, "db");
    for (size_t i = 0; i < count; i++)
        if (!is_granted_for(status, &needs[i], scope))
            miss(&needs[i], &missing, &list);
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        if (options[i].wanted &&
            !is_granted(status, options[i].need, options[i].where ? options[i].where : database))
            miss(options[i].need, &missing, &list);
    tow_buffer_append(&list, "", 1);
    if (!missing)
        tow_find_pass(findings, name, "user %s@%s has what it needs", user ? user : "?",
                      database ? database : "?");
    else if (missing == MONITORING)
        tow_find_warning(findings, name,
                         grant_command(side, user ? user : "?", database ? database : "?", missing),
                         "user %s@%s may not: %s (the oplog window cannot be told)",
                         user ? user : "?", database ? database : "?", (char *)list.data);
    else
        tow_find_failure(findings, name, TOW_ERROR_UNREACHABLE,
                         grant_command(side, user ? user : "?", database ? database : "?", missing),
                         "a privilege is missing: user %s@%s may not: %s", user ? user : "?",
                         database ? database : "?", (char *)list.data);
    tow_buffer_free(&list);
}

/* Nobody is logged in: right where the server asks nobody. */
static void judge_stranger(tow_conn_t *conn, const char *side, const char *name,
                           const tow_privilege_scope_t *scope, tow_findings_t *findings)
{
    tow_send_options_t send = {.flags = TOW_SEND_RETRY};
    bson_t command = BSON_INITIALIZER, reply;
    tow_error_t error = {0};

    bson_append_int32(&command, "listDatabases", -1, 1);
    bson_append_bool(&command, "nameOnly", -1, true);
    if (tow_conn_command(conn, "admin", &command, &send, &reply, &error) && scope->remove_user)
        tow_find_failure(findings, name, TOW_ERROR_UNSUITABLE,
                         tow_format("leave out --remove-user, or log in"),
                         "--remove-user: the %s's URI names no user that could be removed", side);
    else if (error.code == TOW_OK)
        tow_find_pass(findings, name, "the server asks for no login");
    else if (error.server_code == TOW_CODE_UNAUTHORIZED)
        tow_find_failure(findings, name, TOW_ERROR_UNREACHABLE,
                         tow_format("put user:password@ before the host and "
                                    "authSource=admin (or the user's database) into the URI"),
                         "the %s asks for a login, and its URI names no user", side);
    else
        tow_find_error(findings, name, &error);
    bson_destroy(&reply);
    bson_destroy(&command);
}

bool tow_judge_privileges(const bson_t *reply, const char *side, const char *name,
                          const tow_privilege_scope_t *scope, tow_findings_t *findings)
{
    status_t status = {0};

    if (!open_list(reply, "authInfo.authenticatedUsers", &status.users))
        return false;
    status.has_privileges =
        open_list(reply, "authInfo.authenticatedUserPrivileges", &status.privileges);
    if (!status.has_privileges)
        status.has_roles = open_list(reply, "authInfo.authenticatedUserRoles", &status.roles);
    judge(side, name, &status, scope, findings);
    return true;
}

void tow_check_privileges(tow_conn_t *conn, const char *side, const char *name,
                          const tow_privilege_scope_t *scope, tow_findings_t *findings)
{
    tow_send_options_t send = {.flags = TOW_SEND_RETRY};
    bson_t command = BSON_INITIALIZER, reply;
    tow_error_t error;
    bool ok;

    bson_append_int32(&command, "connectionStatus", -1, 1);
    bson_append_bool(&command, "showPrivileges", -1, true);
    ok = tow_conn_command(conn, "admin", &command, &send, &reply, &error);
    if (!ok && error.server_code != TOW_CODE_UNAUTHORIZED) /* some tell strangers nothing at all */
        tow_find_error(findings, name, &error);
    else if (!ok || !tow_judge_privileges(&reply, side, name, scope, findings))
        judge_stranger(conn, side, name, scope, findings);
    bson_destroy(&reply);
    bson_destroy(&command);
}
