/* SPDX-License-Identifier: Apache-2.0 */
/* settings.c: the body of a start (check, plan) becomes options: mongosync's fields as they are
 * documented, and ours. What is not supported is refused, never passed over. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/http/internal.h"

/* Options of the process or of its host's files, which no request sets. */
bool tow_settings_may_set(const tow_option_t *option)
{
    static const char *const own[] = {"config",          "listen",
                                      "token-file",      "no-token",
                                      "log-path",        "log-format",
                                      "log-level",       "on-phase",
                                      "progress",        "quiet",
                                      "summary",         "spool",
                                      "source-file",     "destination-file",
                                      "notify-key-file", "notify-password-file",
                                      "notify-ca-file",  "tls-cert",
                                      "tls-key",         "tls-ca"};
    const char *found = strstr(option->verbs, "run");

    if (!found || (found[3] && found[3] != ' ') || (found > option->verbs && found[-1] != ' '))
        return false;
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (!strcmp(own[i], option->name))
            return false;
    return true;
}

/* Addresses and the secrets that go with them belong together, and so do both sides: the data of
 * one goes to the other. NULL: the option is of neither kind. */
static const char *group_of(const char *name)
{
    static const char *const groups[][2] = {
        {"source", "sides"}, {"destination", "sides"}, {"notify", "notices"}};

    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
        size_t length = strlen(groups[i][0]);

        if (!strncmp(name, groups[i][0], length) && (!name[length] || name[length] == '-'))
            return groups[i][1];
    }
    return NULL;
}

/* What the process was started with, a request cannot replace: it may not lead the operator's data,
 * logins and signatures to addresses of its own. Without a token it gives no address at all. */
static bool may_give(const tow_server_t *server, const char *name, tow_error_t *error)
{
    size_t count;
    const tow_option_t *table = tow_options_table(&count);
    const char *group = group_of(name);

    if (!group)
        return true;
    if (!server->token)
        return tow_fail(error, TOW_ERROR_OPTION,
                        "--%s is given where the process is started: with --no-token no request "
                        "gives an address",
                        name);
    for (size_t i = 0; i < count; i++)
        if (group_of(table[i].name) == group && tow_options_is_set(server->options, table[i].name))
            return tow_fail(error, TOW_ERROR_OPTION,
                            "--%s: the process was started with --%s, which no request replaces "
                            "or goes with; give both where the process is started",
                            name, table[i].name);
    return true;
}

static bool refuse(tow_error_t *error, const char *field, const char *reason)
{
    return tow_fail(error, TOW_ERROR_OPTION, "%s: %s", field, reason);
}

/* Simple fields ---------------------------------------------------------------------------------*/

/* Fields of mongosync's that ask for something we do not do, unless the value asks for nothing. */
static const struct {
    const char *field, *reason;
} unsupported[] = {
    {"reversible",
     "a migration is not reversed; leave it out, and start one the other way if need be"},
    {"sharding",
     "collections arrive unsharded, on the primary shard of their database; leave it out, and "
     "shard them after the cutover"},
    {"copyInNaturalOrder", "collections are copied by _id in ranges; leave it out"},
    {"detectRandomId",
     "collections are copied by _id in ranges, whatever their order; leave it out"},
    {"skipDiskSpaceCheck", "the check of free disk space only warns; leave it out"},
    {"hotDocIDs", "a document is read once however often it changes, without a list; leave it out"},
    {"createIndexesBatchSize", "indexes are built one collection at a time; leave it out"},
};

static bool asks_for_nothing(const bson_iter_t *value)
{
    return BSON_ITER_HOLDS_NULL(value) || (BSON_ITER_HOLDS_BOOL(value) && !bson_iter_bool(value)) ||
           (BSON_ITER_HOLDS_UTF8(value) && !strcmp(bson_iter_utf8(value, NULL), "none"));
}

static bool set_text(tow_options_t *options, const char *name, const bson_iter_t *value,
                     const char *field, tow_error_t *error)
{
    return BSON_ITER_HOLDS_UTF8(value)
               ? tow_options_set(options, name, bson_iter_utf8(value, NULL), error)
               : refuse(error, field, "expected a text");
}

static bool set_verification(tow_options_t *options, const bson_iter_t *value, tow_error_t *error)
{
    bson_iter_t field;

    if (!BSON_ITER_HOLDS_DOCUMENT(value) || !bson_iter_recurse(value, &field))
        return refuse(error, "verification", "expected {\"enabled\": true}");
    while (bson_iter_next(&field))
        if (strcmp(bson_iter_key(&field), "enabled") != 0 || !BSON_ITER_HOLDS_BOOL(&field))
            return refuse(error, "verification",
                          "expected {\"enabled\": true} or {\"enabled\": false}");
        else if (!tow_options_set(options, "no-verify", bson_iter_bool(&field) ? "false" : "true",
                                  error))
            return false;
    return true;
}

/* Older versions have a boolean. */
static bool set_write_blocking(tow_options_t *options, const bson_iter_t *value, tow_error_t *error)
{
    bool both = (BSON_ITER_HOLDS_BOOL(value) && bson_iter_bool(value)) ||
                (BSON_ITER_HOLDS_UTF8(value) &&
                 !strcmp(bson_iter_utf8(value, NULL), "sourceAndDestination"));

    if (asks_for_nothing(value))
        return true;
    if (!both)
        return refuse(
            error, "enableUserWriteBlocking",
            "expected none or sourceAndDestination: writes to the source are blocked at the "
            "cutover, those to the destination are noticed by the verification");
    return tow_options_set(options, "block-writes", "true", error);
}

/* Sides -----------------------------------------------------------------------------------------*/

/* 0 or 1 for "cluster0" or "cluster1"; -1 otherwise. */
static int cluster_of(const bson_t *body, const char *field)
{
    bson_iter_t iter;

    if (!bson_iter_init_find(&iter, body, field) || !BSON_ITER_HOLDS_UTF8(&iter))
        return -1;
    return !strcmp(bson_iter_utf8(&iter, NULL), "cluster0")   ? 0
           : !strcmp(bson_iter_utf8(&iter, NULL), "cluster1") ? 1
                                                              : -1;
}

/* Puts what the process was told about one side in the place of the other. */
static bool move_side(const tow_options_t *from, const char *from_side, tow_options_t *to,
                      const char *to_side, tow_error_t *error)
{
    char from_file[32], to_file[32];
    const char *uri = tow_options_get(from, from_side, 0), *path;

    snprintf(from_file, sizeof from_file, "%s-file", from_side);
    snprintf(to_file, sizeof to_file, "%s-file", to_side);
    path = tow_options_get(from, from_file, 0);
    if (uri)
        return tow_options_set(to, to_side, uri, error);
    return !path || tow_options_set(to, to_file, path, error);
}

/* cluster0 is what the process knows as its source. */
static bool set_sides(const tow_options_t *given, tow_options_t *options, const bson_t *body,
                      tow_error_t *error)
{
    bson_iter_t iter;
    int source = cluster_of(body, "source"), destination = cluster_of(body, "destination");
    bool any = bson_iter_init_find(&iter, body, "source") ||
               bson_iter_init_find(&iter, body, "destination");

    if (!any)
        return true;
    if (source < 0 || destination < 0 || source == destination)
        return refuse(
            error, "source and destination",
            "expected \"cluster0\" and \"cluster1\", one each; connection strings go into "
            "sourceUri and destinationUri");
    return source == 0 || (move_side(given, "source", options, "destination", error) &&
                           move_side(given, "destination", options, "source", error));
}

/* Namespaces ------------------------------------------------------------------------------------*/

/* {"pattern": …, "options": …} as /pattern/options. */
static char *regex_of(const bson_iter_t *value)
{
    const char *pattern = NULL, *flags = "";
    tow_buffer_t out = {0};
    bson_iter_t field;

    if (!BSON_ITER_HOLDS_DOCUMENT(value) || !bson_iter_recurse(value, &field))
        return NULL;
    while (bson_iter_next(&field)) {
        if (!BSON_ITER_HOLDS_UTF8(&field))
            return NULL;
        if (!strcmp(bson_iter_key(&field), "pattern"))
            pattern = bson_iter_utf8(&field, NULL);
        else if (!strcmp(bson_iter_key(&field), "options"))
            flags = bson_iter_utf8(&field, NULL);
        else
            return NULL;
    }
    if (!pattern)
        return NULL;
    tow_buffer_append(&out, "/", 1);
    for (const char *at = pattern; *at; at++) {
        if (*at == '/')
            tow_buffer_append(&out, "\\", 1);
        tow_buffer_append(&out, at, 1);
        if (*at == '\\' && at[1])
            tow_buffer_append(&out, ++at, 1);
    }
    tow_buffer_append(&out, "/", 1);
    tow_buffer_append(&out, flags, strlen(flags) + 1);
    return (char *)out.data;
}

typedef struct {
    char *database, *collection; /* as --include takes them; collection NULL: all */
    bson_iter_t list;            /* `collections` */
    bool has_list;
} entry_t;

static bool read_entry(const bson_iter_t *value, entry_t *out)
{
    bson_iter_t field;

    if (!BSON_ITER_HOLDS_DOCUMENT(value) || !bson_iter_recurse(value, &field))
        return false;
    while (bson_iter_next(&field)) {
        const char *name = bson_iter_key(&field);

        if (!strcmp(name, "database") && BSON_ITER_HOLDS_UTF8(&field) && !out->database)
            out->database = tow_strdup(bson_iter_utf8(&field, NULL));
        else if (!strcmp(name, "databaseRegex") && !out->database)
            out->database = regex_of(&field);
        else if (!strcmp(name, "collectionsRegex") && !out->has_list)
            out->collection = regex_of(&field);
        else if (!strcmp(name, "collections") && BSON_ITER_HOLDS_ARRAY(&field) && !out->collection)
            out->has_list = bson_iter_recurse(&field, &out->list);
        else
            return false;
        if (!strcmp(name, "collectionsRegex") && !out->collection)
            return false;
    }
    return out->database != NULL;
}

static bool add_entry(tow_options_t *options, const char *name, entry_t *entry, tow_error_t *error)
{
    bool ok = true, any = false;
    char *text;

    while (ok && entry->has_list && bson_iter_next(&entry->list)) {
        any = true;
        text = BSON_ITER_HOLDS_UTF8(&entry->list)
                   ? tow_format("%s.%s", entry->database, bson_iter_utf8(&entry->list, NULL))
                   : NULL;
        ok = text ? tow_options_set(options, name, text, error)
                  : refuse(error, name, "collections: expected a list of texts");
        free(text);
    }
    if (!ok || any)
        return ok;
    text = entry->collection ? tow_format("%s.%s", entry->database, entry->collection)
                             : tow_strdup(entry->database);
    ok = tow_options_set(options, name, text, error);
    free(text);
    return ok;
}

static bool set_namespaces(tow_options_t *options, const char *name, const bson_iter_t *value,
                           const char *field, tow_error_t *error)
{
    bson_iter_t item;
    bool ok = true;

    if (BSON_ITER_HOLDS_NULL(value))
        return true;
    if (!BSON_ITER_HOLDS_ARRAY(value) || !bson_iter_recurse(value, &item))
        return refuse(error, field, "expected a list of {database, collections}");
    while (ok && bson_iter_next(&item)) {
        entry_t entry = {0};

        ok = read_entry(&item, &entry)
                 ? add_entry(options, name, &entry, error)
                 : refuse(error, field,
                          "expected entries of database or databaseRegex with collections, "
                          "collectionsRegex "
                          "or neither; a regex is {\"pattern\": …, \"options\": …}");
        free(entry.database);
        free(entry.collection);
    }
    return ok;
}

/* Our options -----------------------------------------------------------------------------------*/

static bool set_option(tow_options_t *options, const tow_option_t *row, const bson_iter_t *value,
                       tow_error_t *error)
{
    char number[32];
    bson_iter_t item;

    if (BSON_ITER_HOLDS_UTF8(value))
        return tow_options_set(options, row->name, bson_iter_utf8(value, NULL), error);
    if (BSON_ITER_HOLDS_BOOL(value))
        return tow_options_set(options, row->name, bson_iter_bool(value) ? "true" : "false", error);
    if (BSON_ITER_HOLDS_INT(value)) {
        snprintf(number, sizeof number, "%lld", (long long)bson_iter_as_int64(value));
        return tow_options_set(options, row->name, number, error);
    }
    if (row->type != TOW_OPTION_LIST || !BSON_ITER_HOLDS_ARRAY(value) ||
        !bson_iter_recurse(value, &item))
        return refuse(error, row->name,
                      "expected a text, a whole number, true or false, or for a list of "
                      "them a list");
    while (bson_iter_next(&item))
        if (!BSON_ITER_HOLDS_UTF8(&item))
            return refuse(error, row->name, "expected a list of texts");
        else if (!tow_options_set(options, row->name, bson_iter_utf8(&item, NULL), error))
            return false;
    return true;
}

static bool set_options(const tow_server_t *server, tow_options_t *options,
                        const bson_iter_t *value, tow_error_t *error)
{
    size_t count;
    const tow_option_t *table = tow_options_table(&count), *row;
    bson_iter_t field;

    if (!BSON_ITER_HOLDS_DOCUMENT(value) || !bson_iter_recurse(value, &field))
        return refuse(error, "options", "expected an object of option names and values");
    while (bson_iter_next(&field)) {
        row = NULL;
        for (size_t i = 0; i < count; i++)
            if (!strcmp(table[i].name, bson_iter_key(&field)))
                row = &table[i];
        if (!row)
            return tow_fail(error, TOW_ERROR_OPTION,
                            "options: there is no option '%.100s'; see GET "
                            "/api/v1/options",
                            bson_iter_key(&field));
        if (!tow_settings_may_set(row))
            return tow_fail(error, TOW_ERROR_OPTION,
                            "options: --%s is given where the process is started, not by a request",
                            row->name);
        if (!may_give(server, row->name, error) || !set_option(options, row, &field, error))
            return false;
    }
    return true;
}

/* The body --------------------------------------------------------------------------------------*/

static bool set_side(const tow_server_t *server, tow_options_t *options, const char *side,
                     const bson_iter_t *value, tow_error_t *error)
{
    return may_give(server, side, error)
               ? set_text(options, side, value, bson_iter_key(value), error)
               : tow_fail_context(error, "%s", bson_iter_key(value));
}

static bool set_field(const tow_server_t *server, tow_options_t *options, const bson_iter_t *value,
                      tow_error_t *error)
{
    const char *field = bson_iter_key(value);

    if (!strcmp(field, "source") || !strcmp(field, "destination"))
        return true; /* set_sides */
    if (!strcmp(field, "sourceUri"))
        return set_side(server, options, "source", value, error);
    if (!strcmp(field, "destinationUri"))
        return set_side(server, options, "destination", value, error);
    if (!strcmp(field, "includeNamespaces"))
        return set_namespaces(options, "include", value, field, error);
    if (!strcmp(field, "excludeNamespaces"))
        return set_namespaces(options, "exclude", value, field, error);
    if (!strcmp(field, "buildIndexes"))
        return set_text(options, "build-indexes", value, field, error) ||
               tow_fail_context(error, "%s", field);
    if (!strcmp(field, "verification"))
        return set_verification(options, value, error);
    if (!strcmp(field, "enableUserWriteBlocking"))
        return set_write_blocking(options, value, error);
    if (!strcmp(
            field,
            "preExistingDestinationData")) /* what is not in the way is left alone in any case */
        return BSON_ITER_HOLDS_BOOL(value) ? true : refuse(error, field, "expected true or false");
    if (!strcmp(field, "options"))
        return set_options(server, options, value, error);
    for (size_t i = 0; i < sizeof unsupported / sizeof *unsupported; i++)
        if (!strcmp(unsupported[i].field, field))
            return asks_for_nothing(value) ? true : refuse(error, field, unsupported[i].reason);
    return tow_fail(error, TOW_ERROR_OPTION,
                    "the field '%.100s' is unknown; see GET /api/v1/openapi.json", field);
}

tow_options_t *tow_settings_of(const tow_request_t *request, tow_error_t *error)
{
    const tow_options_t *given = request->server->options;
    tow_options_t *options = tow_options_copy(given);
    bson_iter_t field;
    bool ok = true;

    tow_options_override(options);
    if (request->body) {
        ok = set_sides(given, options, request->body, error);
        bson_iter_init(&field, request->body);
        while (ok && bson_iter_next(&field))
            ok = set_field(request->server, options, &field, error);
    }
    if (ok)
        return options;
    tow_options_destroy(options);
    return NULL;
}
