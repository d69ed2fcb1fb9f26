/* metadata.c: compares what collections are: type, options, a view's definition, indexes.
 *
 * Values must be the same bytes, since both sides store what they were given. Numbers directly in
 * an option are compared by value: servers write `size` or `expireAfterSeconds` back in types of
 * their own. */
#include <stdlib.h>
#include <string.h>

#include "engine/link/reply.h"
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

static bool is_listed(const char *name, const char *const *names)
{
    for (; *names; names++)
        if (strcmp(name, *names) == 0)
            return true;
    return false;
}

/* An option that is listed with the value that it has when it is not: servers write some of them out
 * when a collection is changed. */
static bool is_default(const bson_iter_t *option)
{
    static const char *const values[][2] = {{"validationLevel", "strict"},
                                            {"validationAction", "error"}};
    const char *name = bson_iter_key(option), *text;
    bson_iter_t inner;

    if (BSON_ITER_HOLDS_BOOL(option))
        return !bson_iter_bool(option);
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        if (!strcmp(name, values[i][0]) && tow_iter_text(option, &text))
            return !strcmp(text, values[i][1]);
    if (!BSON_ITER_HOLDS_DOCUMENT(option) || !bson_iter_recurse(option, &inner))
        return false;
    if (!strcmp(name, "changeStreamPreAndPostImages"))
        return bson_iter_find(&inner, "enabled") && !bson_iter_as_bool(&inner);
    return !strcmp(name, "validator") && !bson_iter_next(&inner);
}

/* Returns the name of the first field that is not the same on both sides, borrowed; NULL: none. */
static const char *differing_field(const bson_t *source, const bson_t *destination,
                                   const char *const *ignored)
{
    bson_iter_t left, right;

    if (bson_iter_init(&left, source))
        while (bson_iter_next(&left)) {
            const char *name = bson_iter_key(&left);

            if (is_listed(name, ignored))
                continue;
            if (!bson_iter_init_find(&right, destination, name)) {
                if (!is_default(&left))
                    return name;
            } else if (!same_value(tow_value_of(&left), tow_value_of(&right))) {
                return name;
            }
        }
    if (bson_iter_init(&right, destination))
        while (bson_iter_next(&right)) {
            const char *name = bson_iter_key(&right);

            if (!is_listed(name, ignored) && !bson_iter_init_find(&left, source, name) &&
                !is_default(&right))
                return name;
        }
    return NULL;
}

char *tow_verify_index_difference(const bson_t *source, const bson_t *destination,
                                  bool ttl_held_off)
{
    /* The version of the index format is the server's choice, `background` no longer means
     * anything. */
    static const char *const always[] = {"v", "ns", "background", NULL};
    static const char *const held_off[] = {"v", "ns", "background", "expireAfterSeconds", NULL};
    const char *name = differing_field(source, destination, ttl_held_off ? held_off : always);

    return name ? tow_strdup(name) : NULL;
}

static bool find_document(const bson_t *document, const char *name, bson_t *out)
{
    return tow_field_document(document, name, out);
}

char *tow_verify_options_difference(const bson_t *source, const bson_t *destination,
                                    bool ttl_held_off)
{
    static const char *const always[] = {"uuid", "autoIndexId", "clusteredIndex", NULL};
    static const char *const held_off[] = {"uuid", "autoIndexId", "clusteredIndex",
                                           "expireAfterSeconds", NULL};
    const char *name = differing_field(source, destination, ttl_held_off ? held_off : always);
    bson_t left, right;
    bool on_source, on_destination;
    char *inner, *text;

    if (name)
        return tow_strdup(name);
    /* A cluster key is an index: its format's version does not count. */
    on_source = find_document(source, "clusteredIndex", &left);
    on_destination = find_document(destination, "clusteredIndex", &right);
    if (on_source != on_destination)
        return tow_strdup("clusteredIndex");
    if (!on_source || !(inner = tow_verify_index_difference(&left, &right, ttl_held_off)))
        return NULL;
    text = tow_format("clusteredIndex.%s", inner);
    free(inner);
    return text;
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
        return source ? "shardKey, not sharded at the destination" : "shardKey, not sharded at the source";
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
        text = tow_verify_options_difference(&source->options, &destination->options,
                                             run->options->ttl_held_off);
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
        } else if ((field = tow_verify_index_difference(&source->items[i], other,
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
        sides[which] =
            (metadata_t){.item = item,
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
