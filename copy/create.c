/* SPDX-License-Identifier: Apache-2.0 */
/* create.c: creates and drops collections on the destination with raw options. */
#include <stdlib.h>

#include "copy/internal.h"
#include "engine/link/codes.h"

/* TTL of a clustered collection is held off until the cutover, like that of an index. */
static const char *const held_off[] = {"expireAfterSeconds", NULL};

static bool exists_alike(tow_conn_t *destination, const tow_collection_info_t *info, bool *out,
                         tow_error_t *error)
{
    const tow_takes_t takes = tow_takes(tow_conn_link(destination));
    tow_collection_info_t there;
    char *difference;
    bool found;

    *out = false;
    if (!tow_catalog_find(destination, info->database, info->name, &there, &found, error))
        return false;
    if (found) {
        difference = tow_options_difference(&there.options, &info->options, &takes, held_off);
        *out = there.type == info->type && !difference;
        free(difference);
        tow_collection_info_clear(&there);
    }
    return true;
}

bool tow_copy_create(tow_conn_t *destination, const tow_collection_info_t *info, bool *out_late,
                     tow_error_t *error)
{
    tow_send_options_t send = {.flags = TOW_SEND_WRITE | TOW_SEND_RETRY, .out_late = out_late};
    const tow_takes_t takes = tow_takes(tow_conn_link(destination));
    bson_t command = BSON_INITIALIZER, options, reply;
    tow_error_t problem;
    bool ok, alike;

    bson_append_utf8(&command, "create", -1, info->name, -1);
    tow_options_spec(&info->options, &takes, &options);
    bson_concat(&command, &options);
    bson_destroy(&options);
    ok = tow_conn_command(destination, info->database, &command, &send, &reply, error);
    bson_destroy(&reply);
    bson_destroy(&command);
    if (ok)
        return true;
    if (error->server_code != TOW_CODE_NAMESPACE_EXISTS)
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
