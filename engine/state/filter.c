/* filter.c: see filter.h.
 *
 * A job's filter is filled before its threads start and only read afterwards: there is no lock. */
#include "engine/state/filter.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/memory.h"

/* What tow_filter_takes refuses by name: some names, and all with a prefix. A range from the prefix to
 * its successor says the latter to the server, which is several times faster there than a regex. */
typedef struct {
    const char *const *names; /* NULL at the end */
    const char *prefix, *behind;
} internal_t;

static const internal_t internal_databases = {(const char *const[]){"admin", "local", "config", NULL},
                                              "towline_", "towline`"};
static const internal_t internal_collections = {
    (const char *const[]){"system.profile", "system.views", NULL}, "system.buckets.",
    "system.buckets/"};

typedef struct {
    char *text; /* "db" or "db.collection" */
    char *database;
    char *collection; /* NULL: all of the database */
} pattern_t;

typedef struct {
    pattern_t *items; /* sorted by text, distinct */
    size_t count;
} patterns_t;

struct tow_filter {
    patterns_t include, exclude;
};

static bool is_internal(const internal_t *internal, const char *name)
{
    for (size_t i = 0; internal->names[i]; i++)
        if (!strcmp(name, internal->names[i]))
            return true;
    return !strncmp(name, internal->prefix, strlen(internal->prefix));
}

static void clear_pattern(pattern_t *pattern)
{
    free(pattern->text);
    free(pattern->database);
    free(pattern->collection);
}

static void clear_patterns(patterns_t *patterns)
{
    for (size_t i = 0; i < patterns->count; i++)
        clear_pattern(&patterns->items[i]);
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
    free(filter);
}

static bool parse(const char *text, pattern_t *out, tow_error_t *error)
{
    const char *dot = strchr(text, '.');
    size_t database_length = dot ? (size_t)(dot - text) : strlen(text);

    if (database_length == 0 || (dot && dot[1] == 0))
        return tow_fail(error, TOW_ERROR_OPTION,
                        "'%s' is not a namespace: expected db, db.* or db.collection", text);
    if (strchr(text, '$'))
        return tow_fail(error, TOW_ERROR_OPTION,
                        "'%s' is not a namespace: the name of a database or collection has no '$'",
                        text);
    *out = (pattern_t){.database = tow_format("%.*s", (int)database_length, text)};
    if (is_internal(&internal_databases, out->database)) {
        tow_fail(
            error, TOW_ERROR_OPTION,
            "'%s' is a server's or Towline's own database, which is never synced; leave it out",
            out->database);
        clear_pattern(out);
        return false;
    }
    if (dot && strcmp(dot, ".*") != 0)
        out->collection = tow_strdup(dot + 1);
    out->text = out->collection ? tow_strdup(text) : tow_strdup(out->database);
    return true;
}

static bool add(patterns_t *patterns, const char *text, tow_error_t *error)
{
    pattern_t pattern;
    size_t at = 0;

    if (!parse(text, &pattern, error))
        return false;
    while (at < patterns->count && strcmp(patterns->items[at].text, pattern.text) < 0)
        at++;
    if (at < patterns->count && strcmp(patterns->items[at].text, pattern.text) == 0) {
        clear_pattern(&pattern);
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
    return add(&filter->include, pattern, error);
}

bool tow_filter_exclude(tow_filter_t *filter, const char *pattern, tow_error_t *error)
{
    return add(&filter->exclude, pattern, error);
}

static bool matches(const patterns_t *patterns, const char *database, const char *collection)
{
    for (size_t i = 0; i < patterns->count; i++) {
        const pattern_t *pattern = &patterns->items[i];

        if (strcmp(pattern->database, database) == 0 &&
            (!pattern->collection || strcmp(pattern->collection, collection) == 0))
            return true;
    }
    return false;
}

static bool matches_whole(const patterns_t *patterns, const char *database)
{
    for (size_t i = 0; i < patterns->count; i++)
        if (!patterns->items[i].collection && strcmp(patterns->items[i].database, database) == 0)
            return true;
    return false;
}

bool tow_filter_takes(const tow_filter_t *filter, const char *database, const char *collection)
{
    if (is_internal(&internal_databases, database) || is_internal(&internal_collections, collection))
        return false;
    if (matches(&filter->exclude, database, collection))
        return false;
    return filter->include.count == 0 || matches(&filter->include, database, collection);
}

bool tow_filter_takes_database(const tow_filter_t *filter, const char *database)
{
    if (is_internal(&internal_databases, database) || matches_whole(&filter->exclude, database))
        return false;
    if (filter->include.count == 0 || matches_whole(&filter->include, database))
        return true;
    /* Only collections of it are included: one must be left after the exclusions. */
    for (size_t i = 0; i < filter->include.count; i++) {
        const pattern_t *pattern = &filter->include.items[i];

        if (strcmp(pattern->database, database) == 0 &&
            tow_filter_takes(filter, database, pattern->collection))
            return true;
    }
    return false;
}

/* The $match stage ------------------------------------------------------------------------------
 */

static void append_next(bson_t *array, uint32_t *index, bson_t *child)
{
    char room[16];
    const char *key;
    size_t length = bson_uint32_to_string((*index)++, &key, room, sizeof room);

    bson_append_document_begin(array, key, (int)length, child);
}

static void append_not_internal(bson_t *document, const char *field, const internal_t *internal)
{
    bson_t condition, list, range;
    uint32_t index = 0;

    bson_append_document_begin(document, field, -1, &condition);
    bson_append_array_begin(&condition, "$nin", -1, &list);
    for (; internal->names[index]; index++) {
        char room[16];
        const char *key;

        bson_uint32_to_string(index, &key, room, sizeof room);
        BSON_APPEND_UTF8(&list, key, internal->names[index]);
    }
    bson_append_array_end(&condition, &list);
    bson_append_document_begin(&condition, "$not", -1, &range);
    BSON_APPEND_UTF8(&range, "$gte", internal->prefix);
    BSON_APPEND_UTF8(&range, "$lt", internal->behind);
    bson_append_document_end(&condition, &range);
    bson_append_document_end(document, &condition);
}

static void append_patterns(bson_t *document, const char *operator_name, const patterns_t *patterns,
                            const char *database_field, const char *collection_field)
{
    bson_t list, item;
    uint32_t index = 0;

    if (patterns->count == 0)
        return;
    bson_append_array_begin(document, operator_name, -1, &list);
    for (size_t i = 0; i < patterns->count; i++) {
        append_next(&list, &index, &item);
        BSON_APPEND_UTF8(&item, database_field, patterns->items[i].database);
        if (patterns->items[i].collection)
            BSON_APPEND_UTF8(&item, collection_field, patterns->items[i].collection);
        bson_append_document_end(&list, &item);
    }
    bson_append_array_end(document, &list);
}

/* tow_filter_takes as a condition on one namespace of an event, which stands in `side`: ns or to.
 */
static void append_takes(bson_t *document, const tow_filter_t *filter, const char *side)
{
    char database[16], collection[16];

    snprintf(database, sizeof database, "%s.db", side);
    snprintf(collection, sizeof collection, "%s.coll", side);
    append_not_internal(document, database, &internal_databases);
    append_not_internal(document, collection, &internal_collections);
    append_patterns(document, "$or", &filter->include, database, collection);
    append_patterns(document, "$nor", &filter->exclude, database, collection);
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
        const char *database = filter->include.items[i].database;
        char room[16];
        const char *key;

        /* Patterns are sorted, so those of one database mostly stand together; a name that comes
         * twice does no harm. */
        if (!tow_filter_takes_database(filter, database) ||
            (i && strcmp(filter->include.items[i - 1].database, database) == 0))
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

    if (filter->include.count)
        append_drops(&alternatives, &index, filter);
    bson_append_array_end(&match, &alternatives);
    bson_append_document_end(&stage, &match);
    bson_append_document_end(pipeline, &stage);
}

/* Text ------------------------------------------------------------------------------------------
 */

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
