/* SPDX-License-Identifier: Apache-2.0 */
/* metadata.c: compares what collections are: type, options, a view's definition, indexes; what is
 * equal says engine/state/spec.h. */
#include <stdlib.h>
#include <string.h>

#include "engine/link/reply.h"
#include "engine/state/spec.h"
#include "verify/internal.h"

typedef struct {
    tow_verify_item_t *item;
    bool want_indexes;
    tow_indexes_t indexes;
    tow_collection_stats_t stats;
} metadata_t;

static bool is_number(tow_value_t value)
{
    return value.type == BSON_TYPE_INT32 || value.type == BSON_TYPE_INT64 ||
           value.type == BSON_TYPE_DOUBLE || value.type == BSON_TYPE_DECIMAL128;
}

static bool same_value(tow_value_t a, tow_value_t b)
{
    if (is_number(a) && is_number(b))
        return tow_value_compare(a, b) == 0;
    return a.type == b.type && a.length == b.length &&
           (a.length == 0 || memcmp(a.data, b.data, a.length) == 0);
}

static const char *type_name(const tow_collection_info_t *info)
{
    static const char *const names[] = {[TOW_COLLECTION] = "a collection",
                                        [TOW_VIEW] = "a view",
                                        [TOW_TIMESERIES] = "a time-series collection",
                                        [TOW_UNKNOWN_KIND] = "of an unknown kind"};

    return names[info->type];
}

static void add_text(tow_verify_run_t *run, tow_verify_item_t *item, tow_difference_kind_t kind,
                     char *text)
{
    tow_verify_add(run, item, &(tow_finding_t){.kind = kind, .path = text});
    free(text);
}

const char *tow_verify_sharding_difference(const tow_shard_key_t *source,
                                           const tow_shard_key_t *destination)
{
    bson_iter_t left, right;

    if (!source && !destination)
        return NULL;
    if (!source || !destination)
        return source ? "shardKey, not sharded at the destination"
                      : "shardKey, not sharded at the source";
    bson_iter_init(&left, &source->key);
    bson_iter_init(&right, &destination->key);
    while (bson_iter_next(&left))
        if (!bson_iter_next(&right) || strcmp(bson_iter_key(&left), bson_iter_key(&right)) != 0 ||
            !same_value(tow_value_of(&left), tow_value_of(&right)))
            return "shardKey.key";
    if (bson_iter_next(&right))
        return "shardKey.key";
    return source->unique == destination->unique ? NULL : "shardKey.unique";
}

static void compare_sharding(tow_verify_run_t *run, tow_verify_item_t *item)
{
    const char *text = tow_verify_sharding_difference(
        tow_shard_keys_find(run->shard_keys[TOW_SOURCE], item->ns),
        tow_shard_keys_find(run->shard_keys[TOW_DESTINATION], item->ns));

    if (!text)
        return;
    if (run->options->sharding_aside)
        tow_emit(&run->options->sink, TOW_LEVEL_WARNING, "sharding_differs",
                 "%s differs in how it is sharded: %s", item->ns, text);
    else
        add_text(run, item, TOW_DIFFERENCE_OPTIONS, tow_strdup(text));
}

/* Decides what of the item can be compared beyond its type. */
static void compare_types(tow_verify_run_t *run, tow_verify_item_t *item)
{
    const tow_collection_info_t *source = item->source, *destination = item->destination;
    const tow_collection_info_t *any = source ? source : destination;
    static const char *const ttl[] = {"expireAfterSeconds", NULL};
    const tow_takes_t takes = tow_takes(run->options->destination);
    bool tell = !run->options->documents_only;
    char *text;

    if (source && !tow_kind_is_supported(source->type)) {
        item->unsupported = true;
        if (tell)
            tow_emit(&run->options->sink, TOW_LEVEL_WARNING, "verify_unsupported",
                     "%s is %s, which is not compared", item->ns, type_name(source));
        return;
    }
    if (!any) {
        if (tell)
            add_text(run, item, TOW_DIFFERENCE_OPTIONS,
                     tow_strdup("copied by this job, and listed by neither side"));
        return;
    }
    if (!source || !destination) {
        if (tell)
            add_text(run, item, TOW_DIFFERENCE_OPTIONS,
                     tow_format("%s, missing at the %s", type_name(any),
                                source ? "destination" : "source"));
        item->data = any->type == TOW_COLLECTION;
    } else if (source->type != destination->type) {
        if (tell)
            add_text(run, item, TOW_DIFFERENCE_OPTIONS,
                     tow_format("%s at the source, %s at the destination", type_name(source),
                                type_name(destination)));
    } else {
        text = tow_options_difference(&source->options, &destination->options, &takes,
                                      run->options->ttl_held_off ? ttl : NULL);
        if (text && tell)
            add_text(run, item, TOW_DIFFERENCE_OPTIONS, text);
        else
            free(text);
        item->data = source->type == TOW_COLLECTION;
        if (item->data && run->sharded)
            compare_sharding(run, item);
    }
    item->capped = source && destination && source->capped && destination->capped;
    item->ordered = !(source && (source->capped || source->collated)) &&
                    !(destination && (destination->capped || destination->collated));
}

static const char *index_name(const bson_t *index)
{
    const char *name = "";

    tow_field_text(index, "name", &name);
    return name;
}

static const bson_t *find_index(const tow_indexes_t *indexes, const char *name)
{
    for (size_t i = 0; i < indexes->count; i++)
        if (strcmp(index_name(&indexes->items[i]), name) == 0)
            return &indexes->items[i];
    return NULL;
}

static void compare_indexes(tow_verify_run_t *run, tow_verify_item_t *item,
                            const tow_indexes_t *source, const tow_indexes_t *destination)
{
    for (size_t i = 0; i < source->count; i++) {
        const char *name = index_name(&source->items[i]);
        const bson_t *other = find_index(destination, name);
        char *field;

        if (!other) {
            add_text(run, item, TOW_DIFFERENCE_INDEXES,
                     tow_format("index %s: missing at the destination", name));
        } else if ((field = tow_index_difference(&source->items[i], other,
                                                 run->options->ttl_held_off))) {
            add_text(run, item, TOW_DIFFERENCE_INDEXES, tow_format("index %s: %s", name, field));
            free(field);
        }
    }
    for (size_t i = 0; i < destination->count; i++) {
        const char *name = index_name(&destination->items[i]);

        if (!find_index(source, name))
            add_text(run, item, TOW_DIFFERENCE_INDEXES,
                     tow_format("index %s: missing at the source", name));
    }
}

static bool read_metadata(tow_verify_side_t *side, void *data, tow_error_t *error)
{
    metadata_t *metadata = data;
    const tow_verify_item_t *item = metadata->item;

    if (!tow_side_goes_on(side, error))
        return false;
    if (!(side->which == TOW_SOURCE ? item->source : item->destination))
        return true;
    if (metadata->want_indexes &&
        !tow_indexes_read(side->conn, item->database, item->name, &metadata->indexes, error))
        return false;
    return tow_collection_stats(side->conn, item->database, item->name, &metadata->stats, error);
}

bool tow_verify_prepare(tow_verify_pair_t *pair, tow_verify_item_t *item, tow_error_t *error)
{
    tow_verify_run_t *run = pair->run;
    metadata_t sides[2];
    const metadata_t *estimate = &sides[item->source ? TOW_SOURCE : TOW_DESTINATION];
    bool ok;

    compare_types(run, item);
    if (run->options->documents_only &&
        (!item->source || !item->destination || !tow_collection_is_streamed(item->name)))
        item->data = false;
    if (!item->data)
        return true;
    for (int which = TOW_SOURCE; which <= TOW_DESTINATION; which++)
        sides[which] = (metadata_t){.item = item,
                                    .want_indexes = item->source && item->destination &&
                                                    !run->options->documents_only};
    ok = tow_pair_run(pair, read_metadata, &sides[TOW_SOURCE], &sides[TOW_DESTINATION], error);
    if (ok) {
        compare_indexes(run, item, &sides[TOW_SOURCE].indexes, &sides[TOW_DESTINATION].indexes);
        item->documents = estimate->stats.documents;
        item->bytes = estimate->stats.bytes;
        if (item->source && run->options->total_documents && !run->options->catalog_only)
            atomic_fetch_add(run->options->total_documents, item->documents);
    }
    for (int which = TOW_SOURCE; which <= TOW_DESTINATION; which++)
        tow_indexes_clear(&sides[which].indexes);
    return ok ? true : tow_fail_context(error, "compare %s", item->ns);
}
