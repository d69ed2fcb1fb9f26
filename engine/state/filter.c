/* SPDX-License-Identifier: Apache-2.0 */
/* filter.c: see filter.h.
 *
 * A job's filter is filled before its threads start and only read afterwards: there is no lock. */
#include "engine/state/filter.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What tow_filter_takes refuses by name. */
static const char *const internal_collections[] = {"system.profile", "system.views", NULL};
/* A range from the prefix to its successor says it to the server, which is several times faster
 * there than a regex. */
static const char internal_prefix[] = "system.buckets.", behind_prefix[] = "system.buckets/";

#include "engine/base/memory.h"
#include "engine/state/pattern.h"

typedef struct {
    tow_pattern_t *items; /* sorted by text, distinct */
    size_t count;
} patterns_t;

struct tow_filter {
    patterns_t include, exclude;
    char *own; /* NULL: none */
};

static bool is_among(const char *name, const char *const *names)
{
    for (; *names; names++)
        if (!strcmp(name, *names))
            return true;
    return false;
}

static bool is_internal_database(const tow_filter_t *filter, const char *name)
{
    return tow_pattern_is_internal(name, filter->own);
}

static bool is_internal_collection(const char *name)
{
    return is_among(name, internal_collections) ||
           !strncmp(name, internal_prefix, sizeof internal_prefix - 1);
}

static void clear_patterns(patterns_t *patterns)
{
    for (size_t i = 0; i < patterns->count; i++)
        tow_pattern_clear(&patterns->items[i]);
    free(patterns->items);
}

tow_filter_t *tow_filter_new(void)
{
    return tow_alloc(sizeof(tow_filter_t));
}

void tow_filter_destroy(tow_filter_t *filter)
{
    if (!filter)
        return;
    clear_patterns(&filter->include);
    clear_patterns(&filter->exclude);
    free(filter->own);
    free(filter);
}

void tow_filter_set_own(tow_filter_t *filter, const char *database)
{
    free(filter->own);
    filter->own = tow_strdup(database);
}

bool tow_filter_is_own(const tow_filter_t *filter, const char *database)
{
    return filter->own && !strcmp(filter->own, database);
}

static bool add(const tow_filter_t *filter, patterns_t *patterns, const char *text,
                tow_error_t *error)
{
    tow_pattern_t pattern;
    size_t at = 0;

    if (!tow_pattern_parse(filter->own, text, &pattern, error))
        return false;
    while (at < patterns->count && strcmp(patterns->items[at].text, pattern.text) < 0)
        at++;
    if (at < patterns->count && strcmp(patterns->items[at].text, pattern.text) == 0) {
        tow_pattern_clear(&pattern);
        return true;
    }
    patterns->items = tow_realloc(patterns->items, (patterns->count + 1) * sizeof pattern);
    memmove(patterns->items + at + 1, patterns->items + at,
            (patterns->count - at) * sizeof pattern);
    patterns->items[at] = pattern;
    patterns->count++;
    return true;
}

bool tow_filter_include(tow_filter_t *filter, const char *pattern, tow_error_t *error)
{
    return add(filter, &filter->include, pattern, error);
}

bool tow_filter_exclude(tow_filter_t *filter, const char *pattern, tow_error_t *error)
{
    return add(filter, &filter->exclude, pattern, error);
}

static bool matches(const patterns_t *patterns, const char *database, const char *collection)
{
    for (size_t i = 0; i < patterns->count; i++) {
        const tow_pattern_t *pattern = &patterns->items[i];

        if (tow_pattern_matches(&pattern->database, database) &&
            tow_pattern_matches(&pattern->collection, collection))
            return true;
    }
    return false;
}

static bool matches_whole(const patterns_t *patterns, const char *database)
{
    for (size_t i = 0; i < patterns->count; i++)
        if (tow_pattern_is_any(&patterns->items[i].collection) &&
            tow_pattern_matches(&patterns->items[i].database, database))
            return true;
    return false;
}

bool tow_filter_takes(const tow_filter_t *filter, const char *database, const char *collection)
{
    if (is_internal_database(filter, database) || is_internal_collection(collection))
        return false;
    if (matches(&filter->exclude, database, collection))
        return false;
    return filter->include.count == 0 || matches(&filter->include, database, collection);
}

bool tow_filter_takes_database(const tow_filter_t *filter, const char *database)
{
    if (is_internal_database(filter, database) || matches_whole(&filter->exclude, database))
        return false;
    if (filter->include.count == 0 || matches_whole(&filter->include, database))
        return true;
    /* Only collections of it are included: one must be left after the exclusions. */
    for (size_t i = 0; i < filter->include.count; i++) {
        const tow_pattern_t *pattern = &filter->include.items[i];

        if (tow_pattern_matches(&pattern->database, database) &&
            (pattern->collection.regex ||
             tow_filter_takes(filter, database, pattern->collection.name)))
            return true;
    }
    return false;
}

/* The
 * $match stage ------------------------------------------------------------------------------ */

static void append_next(bson_t *array, uint32_t *index, bson_t *child)
{
    char room[16];
    const char *key;
    size_t length = bson_uint32_to_string((*index)++, &key, room, sizeof room);

    bson_append_document_begin(array, key, (int)length, child);
}

static void append_name(bson_t *list, uint32_t *index, const char *name)
{
    char room[16];
    const char *key;

    bson_uint32_to_string((*index)++, &key, room, sizeof room);
    BSON_APPEND_UTF8(list, key, name);
}

static void append_not_internal(bson_t *document, const tow_filter_t *filter, const char *database,
                                const char *collection)
{
    bson_t condition, list, range;
    uint32_t index = 0;

    bson_append_document_begin(document, database, -1, &condition);
    bson_append_array_begin(&condition, "$nin", -1, &list);
    for (size_t i = 0; tow_internal_databases[i]; i++)
        append_name(&list, &index, tow_internal_databases[i]);
    if (filter->own)
        append_name(&list, &index, filter->own);
    bson_append_array_end(&condition, &list);
    bson_append_document_end(document, &condition);

    index = 0;
    bson_append_document_begin(document, collection, -1, &condition);
    bson_append_array_begin(&condition, "$nin", -1, &list);
    for (size_t i = 0; internal_collections[i]; i++)
        append_name(&list, &index, internal_collections[i]);
    bson_append_array_end(&condition, &list);
    bson_append_document_begin(&condition, "$not", -1, &range);
    BSON_APPEND_UTF8(&range, "$gte", internal_prefix);
    BSON_APPEND_UTF8(&range, "$lt", behind_prefix);
    bson_append_document_end(&condition, &range);
    bson_append_document_end(document, &condition);
}

/* Regular expressions are not told to the server, where each costs as much as all else: it may
 * deliver too much, which tow_filter_takes sorts out, but never too little. */
static void append_pattern(bson_t *list, uint32_t *index, const tow_pattern_t *pattern,
                           const char *database_field, const char *collection_field)
{
    bson_t item;

    append_next(list, index, &item);
    BSON_APPEND_UTF8(&item, database_field, pattern->database.name);
    if (pattern->collection.name)
        BSON_APPEND_UTF8(&item, collection_field, pattern->collection.name);
    bson_append_document_end(list, &item);
}

/* Whether databases are included by their names alone. */
static bool includes_by_name(const tow_filter_t *filter)
{
    for (size_t i = 0; i < filter->include.count; i++)
        if (filter->include.items[i].database.regex)
            return false;
    return filter->include.count > 0;
}

static void append_includes(bson_t *document, const tow_filter_t *filter,
                            const char *database_field, const char *collection_field)
{
    bson_t list;
    uint32_t index = 0;

    if (!includes_by_name(filter))
        return;
    bson_append_array_begin(document, "$or", -1, &list);
    for (size_t i = 0; i < filter->include.count; i++)
        append_pattern(&list, &index, &filter->include.items[i], database_field, collection_field);
    bson_append_array_end(document, &list);
}

static void append_excludes(bson_t *document, const tow_filter_t *filter,
                            const char *database_field, const char *collection_field)
{
    bson_t nor = BSON_INITIALIZER;
    uint32_t index = 0;

    for (size_t i = 0; i < filter->exclude.count; i++)
        if (!filter->exclude.items[i].database.regex && !filter->exclude.items[i].collection.regex)
            append_pattern(&nor, &index, &filter->exclude.items[i], database_field,
                           collection_field);
    if (index)
        bson_append_array(document, "$nor", -1, &nor);
    bson_destroy(&nor);
}

/* tow_filter_takes as a condition on one namespace of an event, which stands in `side`:
 * ns or to. */
static void append_takes(bson_t *document, const tow_filter_t *filter, const char *side)
{
    char database[16], collection[16];

    snprintf(database, sizeof database, "%s.db", side);
    snprintf(collection, sizeof collection, "%s.coll", side);
    append_not_internal(document, filter, database, collection);
    append_includes(document, filter, database, collection);
    append_excludes(document, filter, database, collection);
}

/* A dropDatabase has no collection, so a list of included collections would lose it. */
static void append_drops(bson_t *alternatives, uint32_t *index, const tow_filter_t *filter)
{
    bson_t item, condition, list;
    uint32_t names = 0;

    append_next(alternatives, index, &item);
    BSON_APPEND_UTF8(&item, "operationType", "dropDatabase");
    bson_append_document_begin(&item, "ns.db", -1, &condition);
    bson_append_array_begin(&condition, "$in", -1, &list);
    for (size_t i = 0; i < filter->include.count; i++) {
        const char *database = filter->include.items[i].database.name;
        char room[16];
        const char *key;

        /* Patterns are sorted, so those of one database mostly stand together; a name that comes
         * twice does no harm. */
        if (!tow_filter_takes_database(filter, database) ||
            (i && strcmp(filter->include.items[i - 1].database.name, database) == 0))
            continue;
        bson_uint32_to_string(names++, &key, room, sizeof room);
        BSON_APPEND_UTF8(&list, key, database);
    }
    bson_append_array_end(&condition, &list);
    bson_append_document_end(&item, &condition);
    bson_append_document_end(alternatives, &item);
}

void tow_filter_match(const tow_filter_t *filter, bson_t *pipeline, const char *key)
{
    bson_t stage, match, alternatives, item;
    uint32_t index = 0;

    bson_append_document_begin(pipeline, key, -1, &stage);
    bson_append_document_begin(&stage, "$match", -1, &match);
    bson_append_array_begin(&match, "$or", -1, &alternatives);

    append_next(&alternatives, &index, &item);
    append_takes(&item, filter, "ns");
    bson_append_document_end(&alternatives, &item);

    /* A rename out of the filter is a drop to us, one into it is a new collection. */
    append_next(&alternatives, &index, &item);
    BSON_APPEND_UTF8(&item, "operationType", "rename");
    append_takes(&item, filter, "to");
    bson_append_document_end(&alternatives, &item);

    if (includes_by_name(filter))
        append_drops(&alternatives, &index, filter);
    bson_append_array_end(&match, &alternatives);
    bson_append_document_end(&stage, &match);
    bson_append_document_end(pipeline, &stage);
}

/* Text ---------------------------------------------------------------------------------------- */

static void append_list(bson_t *document, const char *key, const patterns_t *patterns)
{
    bson_t list;

    bson_append_array_begin(document, key, -1, &list);
    for (size_t i = 0; i < patterns->count; i++) {
        char room[16];
        const char *index;

        bson_uint32_to_string((uint32_t)i, &index, room, sizeof room);
        BSON_APPEND_UTF8(&list, index, patterns->items[i].text);
    }
    bson_append_array_end(document, &list);
}

/* JSON, since a collection's name may hold any separator that one could choose. */
const char *tow_filter_included(const tow_filter_t *filter, size_t index)
{
    return index < filter->include.count ? filter->include.items[index].text : NULL;
}

char *tow_filter_text(const tow_filter_t *filter)
{
    bson_t document = BSON_INITIALIZER;
    char *json, *text;

    append_list(&document, "include", &filter->include);
    append_list(&document, "exclude", &filter->exclude);
    json = bson_as_relaxed_extended_json(&document, NULL);
    /* Only a name that is not UTF-8 has no JSON, and no server has such a name. */
    text = tow_strdup(json ? json : "{ }");
    bson_free(json);
    bson_destroy(&document);
    return text;
}
