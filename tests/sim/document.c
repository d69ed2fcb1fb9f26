/* SPDX-License-Identifier: Apache-2.0 */
/* document.c: see document.h. */
#include "document.h"

#include <string.h>

#include "schedule.h"

bool sim_path(const bson_t *document, const char *path, bson_iter_t *out)
{
    bson_iter_t iter;

    return bson_iter_init(&iter, document) && bson_iter_find_descendant(&iter, path, out);
}

tow_value_t sim_id(const bson_t *document)
{
    tow_value_t id = {0};

    tow_value_id(document, &id);
    return id;
}

static int64_t wall_ms(void)
{
    return INT64_C(1700000000000) + sim_now_us() / 1000;
}

/* The document or list that an iterator is at, borrowed. */
static void open_document(const bson_iter_t *iter, bson_t *out)
{
    const uint8_t *data;
    uint32_t length;

    if (BSON_ITER_HOLDS_ARRAY(iter))
        bson_iter_array(iter, &length, &data);
    else
        bson_iter_document(iter, &length, &data);
    bson_init_static(out, data, length);
}

/* Filters ---------------------------------------------------------------------------------------*/

/* A number of {$expr}: a field, {$toLong: "$field" or "$$NOW"}, a number. */
static int64_t evaluate(const bson_iter_t *value, const bson_t *document)
{
    bson_iter_t iter, field;

    if (BSON_ITER_HOLDS_DOCUMENT(value)) {
        bson_iter_recurse(value, &iter);
        bson_iter_next(&iter);
        if (!strcmp(bson_iter_key(&iter), "$toLong"))
            return evaluate(&iter, document);
        if (!strcmp(bson_iter_key(&iter), "$add")) {
            int64_t sum = 0;

            for (bson_iter_recurse(&iter, &field); bson_iter_next(&field);)
                sum += evaluate(&field, document);
            return sum;
        }
        sim_fail("the simulated server does not know %s", bson_iter_key(&iter));
    }
    if (BSON_ITER_HOLDS_UTF8(value)) {
        const char *name = bson_iter_utf8(value, NULL);

        if (!strcmp(name, "$$NOW"))
            return wall_ms();
        return sim_path(document, name + 1, &field) ? bson_iter_as_int64(&field) : 0;
    }
    return bson_iter_as_int64(value);
}

static bool holds_expression(const bson_iter_t *expression, const bson_t *document)
{
    bson_iter_t iter, left, right;

    bson_iter_recurse(expression, &iter);
    bson_iter_next(&iter);
    if (strcmp(bson_iter_key(&iter), "$lte") != 0)
        sim_fail("the simulated server does not know %s", bson_iter_key(&iter));
    bson_iter_recurse(&iter, &left);
    bson_iter_next(&left);
    right = left;
    bson_iter_next(&right);
    return evaluate(&left, document) <= evaluate(&right, document);
}

static bool is_bracket(uint8_t a, uint8_t b)
{
    bool numbers[2];
    const uint8_t types[2] = {a, b};

    for (int i = 0; i < 2; i++)
        numbers[i] = types[i] == BSON_TYPE_INT32 || types[i] == BSON_TYPE_INT64 ||
                     types[i] == BSON_TYPE_DOUBLE || types[i] == BSON_TYPE_DECIMAL128;
    return a == b || (numbers[0] && numbers[1]);
}

static bool holds(const bson_iter_t *condition, const bson_iter_t *field)
{
    const char *name = bson_iter_key(condition);
    tow_value_t wanted = tow_value_of(condition), value = tow_value_of(field);
    bson_iter_t list;
    int order;

    if (!strcmp(name, "$in")) {
        for (bson_iter_recurse(condition, &list); bson_iter_next(&list);)
            if (!tow_value_compare(tow_value_of(&list), value))
                return true;
        return false;
    }
    order = tow_value_compare(value, wanted);
    if (!strcmp(name, "$eq"))
        return !order;
    if (!strcmp(name, "$ne"))
        return order != 0;
    if (!is_bracket(value.type, wanted.type))
        return false;
    if (!strcmp(name, "$gte"))
        return order >= 0;
    if (!strcmp(name, "$gt"))
        return order > 0;
    if (!strcmp(name, "$lte"))
        return order <= 0;
    if (!strcmp(name, "$lt"))
        return order < 0;
    sim_fail("the simulated server does not know %s in a filter", name);
}

static bool is_operators(const bson_iter_t *value)
{
    bson_iter_t iter;

    return BSON_ITER_HOLDS_DOCUMENT(value) && bson_iter_recurse(value, &iter) &&
           bson_iter_next(&iter) && bson_iter_key(&iter)[0] == '$';
}

static bool matches_field(const bson_iter_t *wanted, const bson_t *document)
{
    bson_iter_t field, condition;
    bool found = sim_path(document, bson_iter_key(wanted), &field);

    if (!is_operators(wanted))
        return found ? !tow_value_compare(tow_value_of(&field), tow_value_of(wanted))
                     : BSON_ITER_HOLDS_NULL(wanted);
    if (!found)
        return false;
    for (bson_iter_recurse(wanted, &condition); bson_iter_next(&condition);)
        if (!holds(&condition, &field))
            return false;
    return true;
}

bool sim_matches(const bson_t *filter, const bson_t *document)
{
    bson_iter_t iter, list;

    for (bson_iter_init(&iter, filter); bson_iter_next(&iter);) {
        const char *name = bson_iter_key(&iter);

        if (!strcmp(name, "$expr")) {
            if (!holds_expression(&iter, document))
                return false;
        } else if (!strcmp(name, "$and") || !strcmp(name, "$or")) {
            bool all = name[1] == 'a', result = all;

            for (bson_iter_recurse(&iter, &list); bson_iter_next(&list) && result == all;) {
                bson_t part;

                open_document(&list, &part);
                result = sim_matches(&part, document);
            }
            if (!result)
                return false;
        } else if (!matches_field(&iter, document)) {
            return false;
        }
    }
    return true;
}

/* Updates ---------------------------------------------------------------------------------------*/

/* The value of an expression of a pipeline, appended. */
static void append_value(bson_t *out, const char *key, const bson_iter_t *value)
{
    bson_iter_t iter;
    bson_t child;

    if (BSON_ITER_HOLDS_UTF8(value) && !strcmp(bson_iter_utf8(value, NULL), "$$NOW")) {
        bson_append_date_time(out, key, -1, wall_ms());
    } else if (BSON_ITER_HOLDS_DOCUMENT(value) && bson_iter_recurse(value, &iter) &&
               bson_iter_next(&iter)) {
        if (!strcmp(bson_iter_key(&iter), "$literal")) {
            bson_append_iter(out, key, -1, &iter);
        } else if (bson_iter_key(&iter)[0] == '$') {
            bson_append_int64(out, key, -1, evaluate(value, out));
        } else {
            bson_append_document_begin(out, key, -1, &child);
            for (bson_iter_recurse(value, &iter); bson_iter_next(&iter);)
                append_value(&child, bson_iter_key(&iter), &iter);
            bson_append_document_end(out, &child);
        }
    } else {
        bson_append_iter(out, key, -1, value);
    }
}

typedef enum { SET, COMPUTE, UNSET, DATE, INC, ADD_TO_SET, PULL, PUSH } operator_t;

static bool list_has(const bson_iter_t *list, const bson_iter_t *value)
{
    bson_iter_t iter;

    for (bson_iter_recurse(list, &iter); bson_iter_next(&iter);)
        if (!tow_value_compare(tow_value_of(&iter), tow_value_of(value)))
            return true;
    return false;
}

static void append_next(bson_t *list, uint32_t *count, const bson_iter_t *value)
{
    char room[16];
    const char *key;

    bson_uint32_to_string((*count)++, &key, room, sizeof room);
    bson_append_iter(list, key, -1, value);
}

/* A list after $addToSet, $pull or $push: {$each}. */
static void append_list(bson_t *out, const char *key, const bson_iter_t *old, operator_t what,
                        const bson_iter_t *value)
{
    bson_iter_t iter, each;
    uint32_t count = 0;
    bson_t list;

    bson_append_array_begin(out, key, -1, &list);
    if (old)
        for (bson_iter_recurse(old, &iter); bson_iter_next(&iter);)
            if (what != PULL || tow_value_compare(tow_value_of(&iter), tow_value_of(value)))
                append_next(&list, &count, &iter);
    if (what == ADD_TO_SET && !(old && list_has(old, value)))
        append_next(&list, &count, value);
    if (what == PUSH) {
        bson_iter_recurse(value, &each);
        if (!bson_iter_find(&each, "$each"))
            sim_fail("the simulated server knows $push with $each alone");
        for (bson_iter_recurse(&each, &iter); bson_iter_next(&iter);)
            append_next(&list, &count, &iter);
    }
    bson_append_array_end(out, &list);
}

static void append_changed(bson_t *out, const char *key, const bson_iter_t *old, operator_t what,
                           const bson_iter_t *value)
{
    if (what == SET)
        bson_append_iter(out, key, -1, value);
    else if (what == COMPUTE)
        append_value(out, key, value);
    else if (what == DATE)
        bson_append_date_time(out, key, -1, wall_ms());
    else if (what == INC)
        bson_append_int64(out, key, -1,
                          (old ? bson_iter_as_int64(old) : 0) + bson_iter_as_int64(value));
    else if (what != UNSET)
        append_list(out, key, old, what, value);
}

/* `document` with the field at `path` changed, appended to out. */
static void change(const bson_t *document, const char *path, operator_t what,
                   const bson_iter_t *value, bson_t *out)
{
    size_t length = strcspn(path, ".");
    bool done = false, last = !path[length];
    bson_iter_t iter;
    bson_t child, empty = BSON_INITIALIZER;
    char key[128];

    snprintf(key, sizeof key, "%.*s", (int)length, path);
    for (bson_iter_init(&iter, document); bson_iter_next(&iter);) {
        if (strcmp(bson_iter_key(&iter), key) != 0) {
            bson_append_iter(out, NULL, 0, &iter);
            continue;
        }
        done = true;
        if (last) {
            append_changed(out, key, &iter, what, value);
        } else {
            bson_t old;

            open_document(&iter, &old);
            bson_append_document_begin(out, key, -1, &child);
            change(&old, path + length + 1, what, value, &child);
            bson_append_document_end(out, &child);
        }
    }
    if (done || what == UNSET || what == PULL)
        return;
    if (last) {
        append_changed(out, key, NULL, what, value);
    } else {
        bson_append_document_begin(out, key, -1, &child);
        change(&empty, path + length + 1, what, value, &child);
        bson_append_document_end(out, &child);
    }
}

static void apply_fields(bson_t *document, operator_t what, const bson_iter_t *fields)
{
    bson_iter_t iter;

    for (bson_iter_recurse(fields, &iter); bson_iter_next(&iter);) {
        bson_t next = BSON_INITIALIZER;

        change(document, bson_iter_key(&iter), what, &iter, &next);
        bson_destroy(document);
        bson_copy_to(&next, document);
        bson_destroy(&next);
    }
}

static void apply_operators(bson_t *document, const bson_iter_t *update)
{
    static const char *const names[] = {
        [SET] = "$set",          [COMPUTE] = "",  [UNSET] = "$unset",
        [DATE] = "$currentDate", [INC] = "$inc",  [ADD_TO_SET] = "$addToSet",
        [PULL] = "$pull",        [PUSH] = "$push"};
    bson_iter_t iter;

    for (bson_iter_recurse(update, &iter); bson_iter_next(&iter);) {
        int what = 0;

        while (what <= PUSH && strcmp(names[what], bson_iter_key(&iter)) != 0)
            what++;
        if (what > PUSH)
            sim_fail("the simulated server does not know %s", bson_iter_key(&iter));
        apply_fields(document, (operator_t)what, &iter);
    }
}

static void apply_stage(bson_t *document, const bson_iter_t *stage)
{
    bson_iter_t iter, inner;
    bson_t literal;

    bson_iter_recurse(stage, &iter);
    bson_iter_next(&iter);
    if (!strcmp(bson_iter_key(&iter), "$set")) {
        apply_fields(document, COMPUTE, &iter);
        return;
    }
    if (strcmp(bson_iter_key(&iter), "$replaceWith") != 0)
        sim_fail("the simulated server does not know %s", bson_iter_key(&iter));
    bson_iter_recurse(&iter, &inner);
    bson_iter_next(&inner);
    open_document(&inner, &literal);
    bson_destroy(document);
    bson_copy_to(&literal, document);
}

void sim_update(const bson_t *document, const bson_iter_t *update, bson_t *out)
{
    bson_iter_t iter;
    bson_t whole;

    open_document(update, &whole);
    bson_copy_to(document, out);
    if (BSON_ITER_HOLDS_ARRAY(update)) {
        for (bson_iter_recurse(update, &iter); bson_iter_next(&iter);)
            apply_stage(out, &iter);
    } else if (is_operators(update)) {
        apply_operators(out, update);
    } else {
        bson_destroy(out);
        bson_init(out);
        if (!bson_has_field(&whole, "_id") && bson_iter_init_find(&iter, document, "_id"))
            bson_append_iter(out, "_id", -1, &iter);
        bson_concat(out, &whole);
    }
}
