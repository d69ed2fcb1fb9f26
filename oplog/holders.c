/* SPDX-License-Identifier: Apache-2.0 */
/* holders.c: see holders.h. */
#include "oplog/holders.h"

#include <stdlib.h>
#include <string.h>

#include "engine/link/reply.h"
#include "engine/state/key.h"

enum { UNDEFINED_TYPE = 6 };

/* The values that a document has at one path. */
typedef struct {
    bson_t values;
    bool missing; /* somewhere on the way there was nothing: null is among the values */
} found_t;

static void take_nothing(found_t *found)
{
    found->missing = true;
    bson_append_null(&found->values, "", 0);
}

/* An array counts by its elements, an empty one as undefined. */
static void take_value(found_t *found, const bson_iter_t *field)
{
    bson_iter_t child;
    bool any = false;

    if (!BSON_ITER_HOLDS_ARRAY(field)) {
        bson_append_iter(&found->values, "", 0, field);
        return;
    }
    if (bson_iter_recurse(field, &child))
        for (; bson_iter_next(&child); any = true)
            bson_append_iter(&found->values, "", 0, &child);
    if (!any)
        bson_append_undefined(&found->values, "", 0);
}

static void gather(found_t *found, bson_iter_t fields, const char *path);

static void go_on(found_t *found, const bson_iter_t *field, const char *rest)
{
    bson_iter_t child;

    if (!*rest)
        take_value(found, field);
    else if (BSON_ITER_HOLDS_DOCUMENT(field) && bson_iter_recurse(field, &child))
        gather(found, child, rest);
    else
        take_nothing(found);
}

/* Each element of an array is gone into, and besides the one that a number in the path names. */
static void go_into_array(found_t *found, const bson_iter_t *array, const char *rest)
{
    size_t length = strcspn(rest, ".");
    bson_iter_t child;
    bool any = false;

    if (bson_iter_recurse(array, &child))
        for (; bson_iter_next(&child); any = true) {
            const char *name = bson_iter_key(&child);

            if (strlen(name) == length && !memcmp(name, rest, length))
                go_on(found, &child, rest[length] ? rest + length + 1 : "");
            if (BSON_ITER_HOLDS_DOCUMENT(&child))
                go_on(found, &child, rest);
            else
                take_nothing(found);
        }
    if (!any)
        take_nothing(found);
}

static void gather(found_t *found, bson_iter_t fields, const char *path)
{
    size_t length = strcspn(path, ".");
    const char *rest = path[length] ? path + length + 1 : "";

    while (bson_iter_next(&fields)) {
        const char *name = bson_iter_key(&fields);

        if (strlen(name) != length || memcmp(name, path, length) != 0)
            continue;
        if (*rest && BSON_ITER_HOLDS_ARRAY(&fields))
            go_into_array(found, &fields, rest);
        else
            go_on(found, &fields, rest);
        return;
    }
    take_nothing(found);
}

/* A value that $in takes as it is: a regular expression would be a pattern there, and a document
 * with a dollar an operator. */
static bool is_plain(const bson_iter_t *value)
{
    tow_value_t raw = tow_value_of(value);

    return !BSON_ITER_HOLDS_REGEX(value) &&
           !(BSON_ITER_HOLDS_DOCUMENT(value) && raw.length > 6 && raw.data[5] == '$');
}

typedef struct {
    bson_t list; /* of conditions */
    uint32_t count;
} conditions_t;

static void add_condition(conditions_t *conditions, const bson_t *condition)
{
    char room[16];
    const char *key;

    bson_uint32_to_string(conditions->count++, &key, room, sizeof room);
    bson_append_document(&conditions->list, key, -1, condition);
}

/* {path: {operator: value}} */
static void add_test(conditions_t *conditions, const char *path, const char *operator,
                     const bson_iter_t * value)
{
    bson_t condition = BSON_INITIALIZER, test;

    bson_append_document_begin(&condition, path, -1, &test);
    bson_append_iter(&test, operator, - 1, value);
    bson_append_document_end(&condition, &test);
    add_condition(conditions, &condition);
    bson_destroy(&condition);
}

static void add_type(conditions_t *conditions, const char *path, int type)
{
    bson_t condition = BSON_INITIALIZER, test;

    bson_append_document_begin(&condition, path, -1, &test);
    bson_append_int32(&test, "$type", -1, type);
    bson_append_document_end(&condition, &test);
    add_condition(conditions, &condition);
    bson_destroy(&condition);
}

static void add_exists(conditions_t *conditions, const char *path)
{
    bson_t condition = BSON_INITIALIZER, test;

    bson_append_document_begin(&condition, path, -1, &test);
    bson_append_bool(&test, "$exists", -1, true);
    bson_append_document_end(&condition, &test);
    add_condition(conditions, &condition);
    bson_destroy(&condition);
}

/* An empty array, and undefined itself, have one key. No server takes {$eq: undefined}. */
static void add_undefined(conditions_t *conditions, const char *path)
{
    bson_t condition = BSON_INITIALIZER, test, empty = BSON_INITIALIZER;

    bson_append_document_begin(&condition, path, -1, &test);
    bson_append_array(&test, "$eq", -1, &empty);
    bson_append_document_end(&condition, &test);
    add_condition(conditions, &condition);
    add_type(conditions, path, UNDEFINED_TYPE);
    bson_destroy(&condition);
    bson_destroy(&empty);
}

/* {$or: […]}, or the only one. */
static void add_any(conditions_t *conditions, conditions_t *any)
{
    bson_t condition = BSON_INITIALIZER, only;

    if (any->count == 1 && tow_field_document(&any->list, "0", &only)) {
        add_condition(conditions, &only);
    } else {
        bson_append_array(&condition, "$or", -1, &any->list);
        add_condition(conditions, &condition);
    }
    bson_destroy(&condition);
    bson_destroy(&any->list);
}

static void add_values(conditions_t *conditions, const char *path, const bson_t *values)
{
    conditions_t any = {.list = BSON_INITIALIZER};
    bson_t list = BSON_INITIALIZER, condition = BSON_INITIALIZER, test;
    bool undefined = false;
    uint32_t plain = 0;
    bson_iter_t iter, last = {0};

    bson_iter_init(&iter, values);
    while (bson_iter_next(&iter)) {
        char room[16];
        const char *key;

        if (BSON_ITER_HOLDS_UNDEFINED(&iter)) {
            undefined = true;
        } else if (is_plain(&iter)) {
            bson_uint32_to_string(plain++, &key, room, sizeof room);
            bson_append_iter(&list, key, -1, &iter);
            last = iter;
        } else {
            add_test(&any, path, "$eq", &iter);
        }
    }
    if (plain == 1) {
        add_test(&any, path, "$eq", &last);
    } else if (plain) {
        bson_append_document_begin(&condition, path, -1, &test);
        bson_append_array(&test, "$in", -1, &list);
        bson_append_document_end(&condition, &test);
        add_condition(&any, &condition);
    }
    if (undefined)
        add_undefined(&any, path);
    add_any(conditions, &any);
    bson_destroy(&list);
    bson_destroy(&condition);
}

bool tow_holders_filter(const bson_t *index, const bson_t *document, bson_t *out_filter)
{
    conditions_t all = {.list = BSON_INITIALIZER}, exists = {.list = BSON_INITIALIZER};
    bool sparse = tow_field_is_set(index, "sparse"), taken = !sparse;
    bson_t key, partial;
    bson_iter_t field, fields;

    if (!tow_field_document(index, "key", &key) || !bson_iter_init(&field, &key))
        taken = false;
    else
        while (bson_iter_next(&field)) {
            found_t found = {.values = BSON_INITIALIZER};

            bson_iter_init(&fields, document);
            gather(&found, fields, bson_iter_key(&field));
            taken = taken || !found.missing || bson_count_keys(&found.values) > 1;
            /* A part that is no plain value, such as a place on a sphere, only narrows the rest. */
            if (BSON_ITER_HOLDS_NUMBER(&field))
                add_values(&all, bson_iter_key(&field), &found.values);
            add_exists(&exists, bson_iter_key(&field));
            bson_destroy(&found.values);
        }
    if (sparse)
        add_any(&all, &exists);
    else
        bson_destroy(&exists.list);
    if (tow_field_document(index, "partialFilterExpression", &partial))
        add_condition(&all, &partial);
    bson_init(out_filter);
    bson_append_array(out_filter, "$and", -1, &all.list);
    bson_destroy(&all.list);
    if (!taken)
        bson_destroy(out_filter);
    return taken;
}

void tow_holders_collation(const bson_t *index, bool collated, bson_t *out)
{
    bson_t own;

    bson_init(out);
    if (tow_field_document(index, "collation", &own))
        bson_concat(out, &own);
    else if (collated)
        bson_append_utf8(out, "locale", -1, "simple", -1);
}

static int direction(const bson_iter_t *field)
{
    return bson_iter_as_double(field) < 0 ? -1 : 1;
}

bool tow_index_has_key(const bson_t *index, const bson_t *key)
{
    bson_iter_t left, right;
    bson_t own;

    if (!tow_field_document(index, "key", &own) || !bson_iter_init(&left, &own) ||
        !bson_iter_init(&right, key))
        return false;
    for (;;) {
        bool more = bson_iter_next(&left), other = bson_iter_next(&right);

        if (!more || !other)
            return more == other;
        if (strcmp(bson_iter_key(&left), bson_iter_key(&right)) != 0 ||
            direction(&left) != direction(&right))
            return false;
    }
}

bool tow_index_is_plain(const bson_t *index)
{
    return !bson_has_field(index, "collation") &&
           !bson_has_field(index, "partialFilterExpression") && !tow_field_is_set(index, "sparse");
}
