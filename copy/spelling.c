/* SPDX-License-Identifier: Apache-2.0 */
/* spelling.c: databases that only dropDatabase ends, above all those whose names differ in nothing
 * but case.
 *
 * A server has only one of them, and goes on knowing the name after its last collection was
 * dropped; only dropDatabase ends it. So when a collection is refused because of another spelling,
 * that one is dropped, where the job had something in it and nothing of anybody's is left. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "copy/internal.h"
#include "engine/link/reply.h"

static bool is_part_of_name(char letter)
{
    return isalnum((unsigned char)letter) || letter == '_' || letter == '-' || (letter & 0x80);
}

char *tow_other_spelling(const char *message, const char *database)
{
    size_t length = strlen(database);

    for (const char *at = message; *at && length; at++)
        if (!strncasecmp(at, database, length) && strncmp(at, database, length) != 0 &&
            (at == message || !is_part_of_name(at[-1])) && !is_part_of_name(at[length])) {
            char *found = tow_strdup(at);

            found[length] = '\0';
            return found;
        }
    return NULL;
}

static bool has_name(const bson_t *entry)
{
    const char *name;

    return tow_field_text(entry, "name", &name);
}

typedef struct {
    const char *ignored;
    uint32_t collections;
} left_t;

/* What is left of views is of no use to anybody. */
static void count(void *data, const bson_t *entry)
{
    left_t *left = data;
    const char *name = "";

    tow_field_text(entry, "name", &name);
    left->collections += strcmp(name, "system.views") != 0 && strcmp(name, left->ignored) != 0;
}

/* Whether it lists nothing but the `ignored` one. */
static bool is_empty(tow_conn_t *destination, const char *database, const char *ignored, bool *out,
                     tow_error_t *error)
{
    bson_t command = BSON_INITIALIZER;
    left_t left = {.ignored = ignored};
    bool ok;

    bson_append_int32(&command, "listCollections", -1, 1);
    ok = tow_cursor_each(destination, database, &command, has_name, count, &left, error);
    bson_destroy(&command);
    *out = ok && !left.collections;
    return ok;
}

static bool drop_database(tow_conn_t *destination, const char *database, tow_error_t *error)
{
    tow_send_options_t send = {.flags = TOW_SEND_WRITE};
    bson_t command = BSON_INITIALIZER, reply;
    bool ok;

    bson_append_int32(&command, "dropDatabase", -1, 1);
    ok = tow_conn_command(destination, database, &command, &send, &reply, error);
    bson_destroy(&reply);
    bson_destroy(&command);
    return ok ? true : tow_fail_context(error, "drop the empty database %s", database);
}

bool tow_copy_drop_emptied(tow_conn_t *destination, const char *database, const char *name,
                           tow_error_t *error)
{
    bool empty;

    return is_empty(destination, database, name, &empty, error) &&
           (!empty || drop_database(destination, database, error));
}

static bool drop_view_if_gone(tow_copy_t *copy, tow_conn_t *source, tow_conn_t *destination,
                              const tow_collection_info_t *view, tow_error_t *error)
{
    tow_collection_info_t info;
    bool found;

    if (!tow_catalog_find(source, view->database, view->name, &info, &found, error))
        return false;
    if (found) {
        tow_collection_info_clear(&info);
        return true;
    }
    return tow_copy_drop(destination, view->database, view->name, error) &&
           tow_claims_end(copy->options.claims, view->ns, error);
}

/* The job's views that the source dropped, of which no event says so before 6.0. The lock of claims
 * is held. */
static bool drop_gone_views(tow_copy_t *copy, tow_conn_t *destination, const char *database,
                            tow_error_t *error)
{
    tow_conn_t *source = tow_conn_open(copy->options.source);
    tow_catalog_t there = {0};
    bool ok = tow_catalog_read(destination, database, &there, error);

    for (size_t i = 0; ok && i < there.count; i++)
        if (there.items[i].type == TOW_VIEW && tow_copy_is_ours(copy, &there.items[i]))
            ok = drop_view_if_gone(copy, source, destination, &there.items[i], error);
    tow_catalog_clear(&there);
    tow_conn_close(source);
    return ok;
}

/* Also a system.profile counts: it is not the job's. */
static bool free_name(tow_copy_t *copy, tow_conn_t *destination, const char *other, const char *ns,
                      tow_error_t *error)
{
    bool empty;

    if (!drop_gone_views(copy, destination, other, error) ||
        !is_empty(destination, other, "", &empty, error))
        return false;
    if (!empty || !tow_claims_had(copy->options.claims, other))
        return tow_fail(error, TOW_ERROR_CONFLICT,
                        "the destination refuses %s, since it knows a database %s, a name that "
                        "differs in nothing but "
                        "case, and %s; drop that database on the destination (dropDatabase) and "
                        "run the same command "
                        "again",
                        ns, other,
                        empty ? "this process made nothing in it, though it is empty"
                              : "it is not empty");
    if (!drop_database(destination, other, error))
        return false;
    tow_emit(&copy->options.sink, TOW_LEVEL_INFO, "database_dropped",
             "%s: dropped on the destination, where it was empty: another spelling of its name is "
             "needed",
             other);
    return true;
}

bool tow_copy_free_spelling(tow_copy_t *copy, tow_conn_t *destination,
                            const tow_collection_info_t *info, tow_error_t *error)
{
    char *other = tow_other_spelling(error->message, info->database);
    bool ok = other && free_name(copy, destination, other, info->ns, error);

    free(other);
    return ok;
}
