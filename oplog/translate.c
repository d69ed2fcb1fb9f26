/* translate.c: see translate.h. What makes an update event exact, and what does not:
 *
 * - `updatedFields` are the fields whose value changed or that are new, `removedFields` those that are
 *   gone. New fields stand at the end of their document, in the order in which they were appended. A
 *   classic $set inserts several new fields sorted by name, a pipeline in the order given; so several
 *   go by pipeline, each in a stage of its own, which leaves no doubt.
 * - A field that is removed and a field that is set in one update: the removal comes first; a field
 *   that was unset and set again stands at the end, and the event then does not tell that it moved
 *   from a field that kept its place. A server that computes the difference of two documents sends
 *   such an update as a replacement of the field's parent or as a replace event; one that logs the
 *   operators sends only the field as updated. We cannot know which: an update that removes and sets
 *   is refetched. The same doubt stands over several set fields at the top level only when one of them
 *   existed before; the event does not say which are new, but the order of those that are new is that
 *   of the event, and those that existed keep their place either way.
 * - A path with a dot goes through documents only when the server says so (disambiguatedPaths, 6.1 and
 *   newer with expanded events): then a component that is all digits, or a name with a dot or a dollar,
 *   is listed there. What is listed, or looks numeric, is refetched. Without disambiguatedPaths every
 *   dotted path is.
 * - In a pipeline $set on a dotted path goes into every element of an array, and makes missing parents:
 *   a path of the difference has parents that are documents, by the rule above.
 * - A shortened array arrives in truncatedArrays; its path has the same doubts as any other. */
#include "oplog/translate.h"

#include <ctype.h>
#include <string.h>

typedef struct {
    bson_iter_t updated, removed, truncated; /* on the containers; valid when has_* */
    bool has_updated, has_removed, has_truncated;
    uint32_t updated_count, removed_count, truncated_count;
    bool disambiguated;       /* the server says which paths are doubtful … */
    bool doubtful;            /* … and there are some */
} description_t;

static uint32_t count_fields(const bson_iter_t *container)
{
    bson_iter_t child;
    uint32_t count = 0;

    if (!bson_iter_recurse(container, &child))
        return 0;
    while (bson_iter_next(&child))
        count++;
    return count;
}

static bool parse_description(const bson_iter_t *field, description_t *out)
{
    bson_iter_t iter;

    *out = (description_t){0};
    if (!BSON_ITER_HOLDS_DOCUMENT(field) || !bson_iter_recurse(field, &iter))
        return false;
    while (bson_iter_next(&iter)) {
        const char *name = bson_iter_key(&iter);

        if (!strcmp(name, "updatedFields") && BSON_ITER_HOLDS_DOCUMENT(&iter)) {
            out->updated = iter;
            out->has_updated = true;
            out->updated_count = count_fields(&iter);
        } else if (!strcmp(name, "removedFields") && BSON_ITER_HOLDS_ARRAY(&iter)) {
            out->removed = iter;
            out->has_removed = true;
            out->removed_count = count_fields(&iter);
        } else if (!strcmp(name, "truncatedArrays") && BSON_ITER_HOLDS_ARRAY(&iter)) {
            out->truncated = iter;
            out->has_truncated = true;
            out->truncated_count = count_fields(&iter);
        } else if (!strcmp(name, "disambiguatedPaths") && BSON_ITER_HOLDS_DOCUMENT(&iter)) {
            out->disambiguated = true;
            out->doubtful = count_fields(&iter) > 0;
        } else {
            return false; /* something newer than we know */
        }
    }
    return true;
}

/* Whether a path surely names one field through documents only. */
static bool is_certain(const char *path, const description_t *description)
{
    bool digits = true, empty = true, dotted = false;

    for (const char *at = path;; at++) {
        if (*at == '.' || *at == '\0') {
            if (empty || digits)
                return false;
            if (*at == '\0')
                break;
            dotted = true;
            digits = empty = true;
            continue;
        }
        if (*at == '$')
            return false;
        if (!isdigit((unsigned char)*at))
            digits = false;
        empty = false;
    }
    return !dotted || (description->disambiguated && !description->doubtful);
}

static bool all_certain(const description_t *description)
{
    bson_iter_t child, path;

    if (description->has_updated && bson_iter_recurse(&description->updated, &child))
        while (bson_iter_next(&child))
            if (!is_certain(bson_iter_key(&child), description))
                return false;
    if (description->has_removed && bson_iter_recurse(&description->removed, &child))
        while (bson_iter_next(&child))
            if (!BSON_ITER_HOLDS_UTF8(&child) ||
                !is_certain(bson_iter_utf8(&child, NULL), description))
                return false;
    if (description->has_truncated && bson_iter_recurse(&description->truncated, &child))
        while (bson_iter_next(&child))
            if (!bson_iter_recurse(&child, &path) || !bson_iter_find(&path, "field") ||
                !BSON_ITER_HOLDS_UTF8(&path) ||
                !is_certain(bson_iter_utf8(&path, NULL), description))
                return false;
    return true;
}

static void begin_stage(bson_t *pipeline, uint32_t *index, const char *operator, bson_t *stage,
                        bson_t *body)
{
    char buffer[16];
    const char *key;

    bson_uint32_to_string((*index)++, &key, buffer, sizeof buffer);
    bson_append_document_begin(pipeline, key, -1, stage);
    bson_append_document_begin(stage, operator, -1, body);
}

static void end_stage(bson_t *pipeline, bson_t *stage, bson_t *body)
{
    bson_append_document_end(stage, body);
    bson_append_document_end(pipeline, stage);
}

/* {$set: {path: {$slice: ["$path", size]}}} */
static bool add_truncations(const description_t *description, bson_t *pipeline, uint32_t *index)
{
    bson_iter_t list, field;

    if (!description->truncated_count)
        return true;
    if (!bson_iter_recurse(&description->truncated, &list))
        return false;
    while (bson_iter_next(&list)) {
        bson_t stage, body, slice, arguments;
        const char *path = NULL;
        int64_t size = -1;
        char *reference;

        if (!bson_iter_recurse(&list, &field))
            return false;
        while (bson_iter_next(&field)) {
            if (!strcmp(bson_iter_key(&field), "field") && BSON_ITER_HOLDS_UTF8(&field))
                path = bson_iter_utf8(&field, NULL);
            else if (!strcmp(bson_iter_key(&field), "newSize"))
                size = bson_iter_as_int64(&field);
        }
        if (!path || size < 1 || size > INT32_MAX)
            return false; /* $slice takes no 0 */
        begin_stage(pipeline, index, "$set", &stage, &body);
        bson_append_document_begin(&body, path, -1, &slice);
        bson_append_array_begin(&slice, "$slice", -1, &arguments);
        reference = bson_strdup_printf("$%s", path);
        bson_append_utf8(&arguments, "0", 1, reference, -1);
        bson_free(reference);
        bson_append_int32(&arguments, "1", 1, (int32_t)size);
        bson_append_array_end(&slice, &arguments);
        bson_append_document_end(&body, &slice);
        end_stage(pipeline, &stage, &body);
    }
    return true;
}

static void add_sets(const description_t *description, bson_t *pipeline, uint32_t *index)
{
    bson_iter_t field;

    if (!description->updated_count || !bson_iter_recurse(&description->updated, &field))
        return;
    while (bson_iter_next(&field)) {
        bson_t stage, body, literal;

        begin_stage(pipeline, index, "$set", &stage, &body);
        bson_append_document_begin(&body, bson_iter_key(&field), -1, &literal);
        bson_append_iter(&literal, "$literal", 8, &field);
        bson_append_document_end(&body, &literal);
        end_stage(pipeline, &stage, &body);
    }
}

static void add_unsets(const description_t *description, bson_t *pipeline, uint32_t *index)
{
    bson_iter_t list;

    if (!description->removed_count || !bson_iter_recurse(&description->removed, &list))
        return;
    while (bson_iter_next(&list)) {
        char buffer[16];
        const char *key;
        bson_t stage;

        bson_uint32_to_string((*index)++, &key, buffer, sizeof buffer);
        bson_append_document_begin(pipeline, key, -1, &stage);
        bson_append_utf8(&stage, "$unset", -1, bson_iter_utf8(&list, NULL), -1);
        bson_append_document_end(pipeline, &stage);
    }
}

/* A value that a classic $set may store differently than it stands: a document or array is safe only
 * without field names that begin with a dollar. */
static bool is_plain(const bson_iter_t *value)
{
    bson_iter_t child;

    if (!BSON_ITER_HOLDS_DOCUMENT(value) && !BSON_ITER_HOLDS_ARRAY(value))
        return true;
    if (!bson_iter_recurse(value, &child))
        return false;
    while (bson_iter_next(&child))
        if (bson_iter_key(&child)[0] == '$' || !is_plain(&child))
            return false;
    return true;
}

static tow_statement_t classic(const description_t *description, bson_t *update)
{
    bson_iter_t field;
    bson_t body;

    if (description->updated_count) {
        if (!bson_iter_recurse(&description->updated, &field) || !bson_iter_next(&field) ||
            !is_plain(&field))
            return TOW_STATEMENT_REFETCH;
        bson_append_document_begin(update, "$set", 4, &body);
        bson_append_iter(&body, bson_iter_key(&field), -1, &field);
        bson_append_document_end(update, &body);
    } else {
        if (!bson_iter_recurse(&description->removed, &field) || !bson_iter_next(&field))
            return TOW_STATEMENT_REFETCH;
        bson_append_document_begin(update, "$unset", 6, &body);
        bson_append_utf8(&body, bson_iter_utf8(&field, NULL), -1, "", 0);
        bson_append_document_end(update, &body);
    }
    return TOW_STATEMENT_UPDATE;
}

/* Whether the set fields stand in the order of their names. That is the order in which a classic $set
 * inserts new fields; in any other order it is not certain that the event tells how the document has
 * them, so it is read. */
static bool are_sorted(const description_t *description)
{
    bson_iter_t field;
    const char *last = "";

    if (!description->updated_count || !bson_iter_recurse(&description->updated, &field))
        return true;
    while (bson_iter_next(&field)) {
        if (strcmp(bson_iter_key(&field), last) < 0)
            return false;
        last = bson_iter_key(&field);
    }
    return true;
}

static tow_statement_t translate_update(const bson_iter_t *field, bson_t *update)
{
    description_t description;
    uint32_t index = 0;

    if (!parse_description(field, &description) || !all_certain(&description))
        return TOW_STATEMENT_REFETCH;
    if (!description.updated_count && !description.removed_count && !description.truncated_count)
        return TOW_STATEMENT_NONE;
    if ((description.removed_count && (description.updated_count || description.truncated_count)) ||
        !are_sorted(&description))
        return TOW_STATEMENT_REFETCH;
    if (description.updated_count + description.removed_count == 1 && !description.truncated_count)
        return classic(&description, update);
    if (!add_truncations(&description, update, &index))
        return TOW_STATEMENT_REFETCH;
    add_unsets(&description, update, &index);
    add_sets(&description, update, &index);
    /* Servers take at most 1,000 stages, and many are slow. */
    return index > 100 ? TOW_STATEMENT_REFETCH : TOW_STATEMENT_PIPELINE;
}

/* A document that `update` writes as it stands. */
static tow_statement_t translate_document(const bson_iter_t *field, bson_t *update)
{
    bson_t document;
    bson_iter_t iter;
    const uint8_t *data;
    uint32_t length, seconds, increment;

    if (!BSON_ITER_HOLDS_DOCUMENT(field))
        return TOW_STATEMENT_REFETCH;
    bson_iter_document(field, &length, &data);
    if (!bson_init_static(&document, data, length) || !bson_iter_init(&iter, &document))
        return TOW_STATEMENT_REFETCH;
    while (bson_iter_next(&iter)) {
        if (bson_iter_key(&iter)[0] == '$')
            return TOW_STATEMENT_REFETCH;
        if (BSON_ITER_HOLDS_TIMESTAMP(&iter)) {
            bson_iter_timestamp(&iter, &seconds, &increment);
            if (!seconds && !increment)
                return TOW_STATEMENT_REFETCH;
        }
    }
    bson_concat(update, &document);
    return TOW_STATEMENT_REPLACE;
}

tow_statement_t tow_translate(const bson_t *event, bson_t *update)
{
    bson_iter_t iter, field;
    const char *operation;

    if (!bson_iter_init_find(&iter, event, "operationType") || !BSON_ITER_HOLDS_UTF8(&iter))
        return TOW_STATEMENT_REFETCH;
    operation = bson_iter_utf8(&iter, NULL);
    if (!strcmp(operation, "delete"))
        return TOW_STATEMENT_DELETE;
    if (!strcmp(operation, "insert") || !strcmp(operation, "replace"))
        return bson_iter_init_find(&field, event, "fullDocument")
                   ? translate_document(&field, update)
                   : TOW_STATEMENT_REFETCH;
    if (!strcmp(operation, "update") && bson_iter_init_find(&field, event, "updateDescription"))
        return translate_update(&field, update);
    return TOW_STATEMENT_REFETCH;
}
