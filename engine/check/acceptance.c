/* SPDX-License-Identifier: Apache-2.0 */
/* acceptance.c: the checks of what the destination takes of the source's views and options, by
 * asking it. */
#include <string.h>

#include "engine/check/checks.h"
#include "engine/link/codes.h"
#include "engine/link/reply.h"
#include "engine/state/spec.h"

enum { MOST_MS = 2000 };

/* The view's pipeline over a collection that is not there yet, so that it is parsed and reads
 * nothing. */
static void append_pipeline(bson_t *command, const bson_t *options)
{
    bson_iter_t iter, stages;
    bson_t list, stage;
    char buffer[16];
    const char *key;
    uint32_t count = 0;

    bson_append_array_begin(command, "pipeline", -1, &list);
    if (bson_iter_init_find(&iter, options, "pipeline") && BSON_ITER_HOLDS_ARRAY(&iter) &&
        bson_iter_recurse(&iter, &stages))
        while (bson_iter_next(&stages)) {
            bson_uint32_to_string(count++, &key, buffer, sizeof buffer);
            bson_append_iter(&list, key, -1, &stages);
        }
    bson_uint32_to_string(count, &key, buffer, sizeof buffer);
    bson_append_document_begin(&list, key, -1, &stage);
    bson_append_int32(&stage, "$limit", -1, 1);
    bson_append_document_end(&list, &stage);
    bson_append_array_end(command, &list);
}

/* Text and geo stages want an index, which is not there yet either. */
static bool is_refusal(const tow_error_t *error)
{
    return error->retry == TOW_RETRY_NEVER && error->server_code > 0 &&
           error->server_code != TOW_CODE_UNAUTHORIZED &&
           error->server_code != TOW_CODE_NAMESPACE_NOT_FOUND &&
           error->server_code != TOW_CODE_INDEX_NOT_FOUND &&
           error->server_code != TOW_CODE_NO_QUERY_EXECUTION_PLANS;
}

static bool takes_view(tow_conn_t *destination, const tow_collection_info_t *view,
                       tow_error_t *error)
{
    tow_send_options_t send = {.flags = TOW_SEND_PLAIN};
    bson_t command = BSON_INITIALIZER, cursor = BSON_INITIALIZER, reply;
    const char *name;
    bool ok = true;

    if (tow_field_text(&view->options, "viewOn", &name)) {
        bson_append_utf8(&command, "aggregate", -1, name, -1);
        append_pipeline(&command, &view->options);
        bson_append_document(&command, "cursor", -1, &cursor);
        bson_append_int32(&command, "maxTimeMS", -1,
                          MOST_MS); /* something may be there after all */
        ok = tow_conn_command(destination, view->database, &command, &send, &reply, error) ||
             !is_refusal(error);
        bson_destroy(&reply);
    }
    bson_destroy(&command);
    bson_destroy(&cursor);
    return ok;
}

void tow_check_views(tow_check_run_t *run)
{
    size_t views = 0;
    tow_error_t error;

    if (tow_skip_without(run, "views", true, true) || tow_skip_without_survey(run, "views"))
        return;
    for (size_t i = 0; i < run->out->survey.count; i++) {
        const tow_collection_info_t *info = run->out->survey.items[i].info;

        if (info->type != TOW_VIEW)
            continue;
        views++;
        if (!takes_view(run->destination, info, &error)) {
            tow_find_failure(run->findings, "views", TOW_ERROR_UNSUITABLE,
                             tow_format("leave it out with --exclude %s", info->ns),
                             "the destination refuses the view %s: %s", info->ns, error.message);
            return;
        }
    }
    tow_find_pass(run->findings, "views", views ? "the destination takes %zu" : "none", views);
}

/* Whether changes are recorded with their documents, which the destination cannot do. */
static bool loses_images(const tow_collection_info_t *info, const tow_takes_t *takes)
{
    const tow_takes_t any = {.images = true};
    bson_t listed;
    bool records;

    if (takes->images || takes->pre_images)
        return false;
    tow_options_canonical(&info->options, &any, &listed);
    records = bson_has_field(&listed, "changeStreamPreAndPostImages");
    bson_destroy(&listed);
    return records;
}

void tow_check_options(tow_check_run_t *run)
{
    const char *never = NULL, *images = NULL;
    tow_takes_t takes;

    if (tow_skip_without(run, "options", true, true) || tow_skip_without_survey(run, "options"))
        return;
    takes = tow_takes(run->sides->destination);
    for (size_t i = 0; i < run->out->survey.count; i++) {
        const tow_surveyed_t *item = &run->out->survey.items[i];

        if (!never && item->never_expires)
            never = item->info->ns;
        if (!images && item->info->type == TOW_COLLECTION && loses_images(item->info, &takes))
            images = item->info->ns;
    }
    if (never)
        tow_find_warning(
            run->findings, "options",
            tow_format("set expireAfterSeconds at the source with collMod if they are to expire"),
            "the TTL index of %s, or of others too, has an expireAfterSeconds that is no number "
            "of seconds: nothing expires by it, at the destination neither",
            never);
    else if (images)
        tow_find_warning(
            run->findings, "options",
            tow_format("set it again at the destination after an upgrade, if streams need it"),
            "%s, or others too, record the documents before a change; this destination cannot, "
            "and they arrive without",
            images);
    else
        tow_find_pass(run->findings, "options", "the destination has them all");
}
