/* SPDX-License-Identifier: Apache-2.0 */
/* restore.c: goes on with the copy of an earlier process, from the job's records. */
#include <string.h>

#include "copy/internal.h"
#include "engine/link/reply.h"

typedef struct {
    tow_copy_t *copy;
    tow_copy_conns_t conns;
} restoring_t;

static const char *text_of(const bson_t *document, const char *name)
{
    const char *text = "";

    tow_field_text(document, name, &text);
    return text;
}

/* The collection's entry as it was recorded. */
static void parse_info(const bson_t *document, tow_collection_info_t *out,
                       tow_optime_t *out_read_time)
{
    const char *locale;
    bson_iter_t iter;
    bson_t options;

    *out = (tow_collection_info_t){.database = tow_strdup(text_of(document, "db")),
                                   .name = tow_strdup(text_of(document, "name")),
                                   .ns = tow_strdup(text_of(document, "_id"))};
    bson_init(&out->options);
    if (bson_iter_init_find(&iter, document, "options") && tow_store_read_packed(&iter, &options))
        bson_concat(&out->options, &options);
    if (bson_iter_init_find(&iter, document, "uuid") && BSON_ITER_HOLDS_BINARY(&iter)) {
        const uint8_t *uuid;
        uint32_t length;

        bson_iter_binary(&iter, NULL, &length, &uuid);
        if (length == sizeof out->uuid)
            memcpy(out->uuid, uuid, length);
    }
    out->capped = tow_field_is_set(&out->options, "capped");
    out->clustered = bson_has_field(&out->options, "clusteredIndex");
    out->collated =
        tow_field_text(&out->options, "collation.locale", &locale) && strcmp(locale, "simple") != 0;
    *out_read_time = 0;
    if (bson_iter_init_find(&iter, document, "readTime"))
        tow_iter_time(&iter, out_read_time);
}

static bool restore_collection(void *data, const bson_t *document, tow_range_t *ranges,
                               uint32_t count, tow_error_t *error)
{
    restoring_t *restoring = data;
    tow_copy_t *copy = restoring->copy;
    tow_namespaces_t *table = copy->options.namespaces;
    tow_namespace_t *collection;
    tow_collection_info_t info;
    tow_collection_stats_t stats;
    tow_optime_t read_time;
    tow_range_t *own;
    bool ok, found, done = true;

    parse_info(document, &info, &read_time);
    if (!count) {
        /* Its record was cut off: as good as none. */
        ok = tow_copy_again(copy, info.database, info.name, &found, error);
        tow_collection_info_clear(&info);
        return ok;
    }
    own = tow_alloc(count * sizeof *own);
    memcpy(own, ranges, count * sizeof *own);
    ok = tow_collection_stats(restoring->conns.source, info.database, info.name, &stats, error);
    collection = tow_namespaces_add(table, &info, read_time);
    if (ok)
        tow_namespaces_set_estimate(table, collection, stats.documents, stats.bytes);
    tow_namespaces_set_ranges(table, collection, own, count);
    for (uint32_t i = 0; i < count; i++) {
        if (own[i].state == TOW_RANGE_DONE) {
            atomic_fetch_add(&copy->documents, own[i].documents);
            atomic_fetch_add(&copy->bytes, own[i].bytes);
        } else {
            done = false;
            tow_copy_queue(copy, collection, i);
        }
    }
    if (done && !tow_field_is_set(document, "indexed"))
        tow_copy_queue_indexes(copy, collection);
    tow_collection_info_clear(&info);
    return ok;
}

bool tow_copy_restore(tow_copy_t *copy, tow_error_t *error)
{
    restoring_t restoring = {.copy = copy};
    bool ok;

    tow_copy_connect(copy, &restoring.conns);
    ok = tow_store_each_collection(copy->options.store, restore_collection, &restoring, error);

    tow_copy_disconnect(&restoring.conns);
    return ok;
}
