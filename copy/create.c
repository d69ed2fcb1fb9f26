/* create.c: creates and drops collections on the destination with raw options. */
#include <stdlib.h>
#include <string.h>

#include "copy/internal.h"

enum { NAMESPACE_EXISTS = 48 };

static bool is_among(const char *name, const char *const *names)
{
    for (; names && *names; names++)
        if (!strcmp(*names, name))
            return true;
    return false;
}

/* A flag that was given as a number is listed as a bool by later servers. */
static bool is_flag_pair(const bson_iter_t *a, const bson_iter_t *b)
{
    return (BSON_ITER_HOLDS_BOOL(a) && (BSON_ITER_HOLDS_BOOL(b) || BSON_ITER_HOLDS_NUMBER(b))) ||
           (BSON_ITER_HOLDS_BOOL(b) && BSON_ITER_HOLDS_NUMBER(a));
}

/* Every field of `a` that counts stands in `b` with the same bytes; a flag that is off may be left
 * out there. */
static bool holds_fields(const bson_t *a, const bson_t *b, const char *const *except)
{
    bson_iter_t left, right;

    if (!bson_iter_init(&left, a))
        return false;
    while (bson_iter_next(&left)) {
        tow_value_t x, y;

        if (is_among(bson_iter_key(&left), except))
            continue;
        if (!bson_iter_init_find(&right, b, bson_iter_key(&left))) {
            if (BSON_ITER_HOLDS_BOOL(&left) && !bson_iter_bool(&left))
                continue;
            return false;
        }
        if (is_flag_pair(&left, &right)) {
            if (bson_iter_as_bool(&left) != bson_iter_as_bool(&right))
                return false;
            continue;
        }
        x = tow_value_of(&left);
        y = tow_value_of(&right);
        /* Numbers by value: a server may give back an int where a double was sent. */
        if (BSON_ITER_HOLDS_NUMBER(&left) && BSON_ITER_HOLDS_NUMBER(&right)) {
            if (tow_value_compare(x, y))
                return false;
        } else if (x.type != y.type || x.length != y.length ||
                   memcmp(x.data, y.data, x.length) != 0) {
            return false;
        }
    }
    return true;
}

bool tow_copy_same_fields(const bson_t *a, const bson_t *b, const char *const *except)
{
    return holds_fields(a, b, except) && holds_fields(b, a, except);
}

/* TTL of a clustered collection is held off until the cutover, like that of an index; what old
 * servers list as autoIndexId is not passed on. */
static const char *const held_off[] = {"expireAfterSeconds", "autoIndexId", NULL};

static bool exists_alike(tow_conn_t *destination, const tow_collection_info_t *info, bool *out,
                         tow_error_t *error)
{
    tow_collection_info_t there;
    bool found;

    *out = false;
    if (!tow_catalog_find(destination, info->database, info->name, &there, &found, error))
        return false;
    if (found) {
        *out = there.type == info->type &&
               tow_copy_same_fields(&there.options, &info->options, held_off);
        tow_collection_info_clear(&there);
    }
    return true;
}

bool tow_copy_create(tow_conn_t *destination, const tow_collection_info_t *info,
                     tow_error_t *error)
{
    tow_send_options_t send = {.flags = TOW_SEND_WRITE | TOW_SEND_RETRY};
    bson_t command = BSON_INITIALIZER, reply;
    tow_error_t problem;
    bool ok, alike;

    bson_append_utf8(&command, "create", -1, info->name, -1);
    bson_copy_to_excluding_noinit(&info->options, &command,
                                  info->clustered ? "expireAfterSeconds" : "autoIndexId",
                                  "autoIndexId", NULL);
    ok = tow_conn_command(destination, info->database, &command, &send, &reply, error);
    bson_destroy(&reply);
    bson_destroy(&command);
    if (ok)
        return true;
    if (error->server_code != NAMESPACE_EXISTS)
        return tow_fail_context(error, "create %s", info->ns);
    if (!exists_alike(destination, info, &alike, &problem)) {
        *error = problem;
        return false;
    }
    return alike ? true
                 : tow_fail(error, TOW_ERROR_CONFLICT,
                            "the destination already has %s, with other options than the source; "
                            "drop it there, or use --clear-destination",
                            info->ns);
}

bool tow_copy_drop(tow_conn_t *destination, const char *database, const char *name,
                   tow_error_t *error)
{
    return tow_collection_drop(destination, database, name, error);
}
