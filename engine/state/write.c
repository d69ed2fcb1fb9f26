/* SPDX-License-Identifier: Apache-2.0 */
/* write.c: see write.h. */
#include "engine/state/write.h"

#include <stdlib.h>
#include <string.h>

#include "engine/link/codes.h"
#include "engine/link/reply.h"
#include "engine/link/versions.h"

enum {
    UPDATE_BYTES =
        16 * 1024 * 1024 /* of a statement's query and document, which share one command */
};

static void drop_open(tow_write_t *write)
{
    if (!write->open)
        return;
    bson_append_array_end(&write->command, &write->list);
    bson_destroy(&write->command);
    write->open = false;
    write->count = 0;
}

static void begin(tow_write_t *write, tow_write_kind_t kind, const tow_namespace_t *collection,
                  bool ordered)
{
    static const char *const names[] = {"update", "delete", "insert"};
    static const char *const lists[] = {"updates", "deletes", "documents"};

    drop_open(write);
    write->kind = kind;
    write->collection = collection;
    write->open = true;
    write->strict = ordered;
    write->bounds = tow_bounds(TOW_WRITE_MOST, TOW_REQUEST_BYTES);
    bson_init(&write->command);
    bson_append_utf8(&write->command, names[kind], -1, collection->name, -1);
    bson_append_bool(&write->command, "ordered", -1, ordered);
    bson_append_array_begin(&write->command, lists[kind], -1, &write->list);
}

void tow_write_begin(tow_write_t *write, tow_write_kind_t kind, const tow_namespace_t *collection)
{
    begin(write, kind, collection, false);
}

void tow_write_begin_ordered(tow_write_t *write, const tow_namespace_t *collection)
{
    begin(write, TOW_WRITE_INSERT, collection, true);
}

bool tow_write_fits(const tow_write_t *write, size_t bytes)
{
    return tow_bounds_fit(&write->bounds, bytes);
}

/* The statement that was just appended counts with what it really takes. */
static void count_in(tow_write_t *write)
{
    write->bounds.count = write->count;
    write->bounds.bytes = write->list.len;
}

static void tag_next(tow_write_t *write, void *tag, char key[16], const char **out_key)
{
    if (write->count == write->tag_capacity) {
        write->tag_capacity = write->tag_capacity ? write->tag_capacity * 2 : 256;
        write->tags = tow_realloc(write->tags, write->tag_capacity * sizeof *write->tags);
    }
    write->tags[write->count] = tag;
    bson_uint32_to_string(write->count, out_key, key, 16);
    write->count++;
}

/* q: {_id: value}; a document needs $eq, since its first field may begin with a dollar. */
static void append_query(bson_t *statement, tow_value_t id)
{
    bson_t query, equal;

    bson_append_document_begin(statement, "q", 1, &query);
    if (id.type == BSON_TYPE_DOCUMENT) {
        bson_append_document_begin(&query, "_id", 3, &equal);
        tow_value_append(&equal, "$eq", 3, id);
        bson_append_document_end(&query, &equal);
    } else {
        tow_value_append(&query, "_id", 3, id);
    }
    bson_append_document_end(statement, &query);
}

static void append_update(tow_write_t *write, tow_value_t id, const bson_t *update, bool array,
                          bool upsert, void *tag)
{
    char buffer[16];
    const char *key;
    bson_t statement;

    tag_next(write, tag, buffer, &key);
    bson_append_document_begin(&write->list, key, -1, &statement);
    append_query(&statement, id);
    if (array)
        bson_append_array(&statement, "u", 1, update);
    else
        bson_append_document(&statement, "u", 1, update);
    if (upsert)
        bson_append_bool(&statement, "upsert", 6, true);
    bson_append_document_end(&write->list, &statement);
    count_in(write);
}

void tow_write_replace(tow_write_t *write, tow_value_t id, const bson_t *document, void *tag)
{
    append_update(write, id, document, false, true, tag);
}

void tow_write_replace_present(tow_write_t *write, tow_value_t id, const bson_t *document,
                               void *tag)
{
    append_update(write, id, document, false, false, tag);
}

void tow_write_literal(tow_write_t *write, tow_value_t id, const bson_t *document, void *tag)
{
    bson_t pipeline = BSON_INITIALIZER, stage, literal;

    bson_append_document_begin(&pipeline, "0", 1, &stage);
    bson_append_document_begin(&stage, "$replaceWith", -1, &literal);
    bson_append_document(&literal, "$literal", -1, document);
    bson_append_document_end(&stage, &literal);
    bson_append_document_end(&pipeline, &stage);
    append_update(write, id, &pipeline, true, false, tag);
    bson_destroy(&pipeline);
}

/* Servers fill in all but an _id. */
static bool is_empty_timestamp(const bson_iter_t *field)
{
    uint32_t seconds, increment;

    if (!BSON_ITER_HOLDS_TIMESTAMP(field) || !strcmp(bson_iter_key(field), "_id"))
        return false;
    bson_iter_timestamp(field, &seconds, &increment);
    return !seconds && !increment;
}

bool tow_has_empty_timestamp(const bson_t *document)
{
    bson_iter_t iter;

    if (!bson_iter_init(&iter, document))
        return false;
    while (bson_iter_next(&iter))
        if (is_empty_timestamp(&iter))
            return true;
    return false;
}

/* A name that $set takes for the field itself, and for no path. */
static bool is_plain_name(const char *name)
{
    return *name && *name != '$' && !strchr(name, '.');
}

void tow_write_timestamps(tow_write_t *write, tow_value_t id, const bson_t *document, void *tag)
{
    bson_t update = BSON_INITIALIZER, set;
    bool plain = true;
    bson_iter_t iter;

    bson_append_document_begin(&update, "$set", 4, &set);
    if (bson_iter_init(&iter, document))
        while (bson_iter_next(&iter))
            if (is_empty_timestamp(&iter)) {
                plain = plain && is_plain_name(bson_iter_key(&iter));
                bson_append_timestamp(&set, bson_iter_key(&iter), -1, 0, 0);
            }
    bson_append_document_end(&update, &set);
    if (plain)
        append_update(write, id, &update, false, false, tag);
    else
        tow_write_literal(write, id, document, tag);
    bson_destroy(&update);
}

/* {$ref: …, $id: …, $db: …}, in this order: what servers of every version take as it is. */
static bool is_reference(const bson_iter_t *field, const char *before)
{
    const char *name = bson_iter_key(field);
    bson_iter_t next = *field;

    if (!strcmp(name, "$ref"))
        return BSON_ITER_HOLDS_UTF8(field) && bson_iter_next(&next) &&
               !strcmp(bson_iter_key(&next), "$id");
    return !strcmp(name, "$id") ? !strcmp(before, "$ref")
                                : !strcmp(name, "$db") && !strcmp(before, "$id");
}

/* Whether a name begins with a dollar, at any depth. Deeper than servers go nobody looks. */
static bool has_dollar(const bson_iter_t *fields, unsigned depth)
{
    bson_iter_t iter = *fields, child;
    const char *before = "";

    while (bson_iter_next(&iter)) {
        const char *name = bson_iter_key(&iter);

        if (name[0] == '$' && (!depth || !is_reference(&iter, before)))
            return true;
        if ((BSON_ITER_HOLDS_DOCUMENT(&iter) || BSON_ITER_HOLDS_ARRAY(&iter)) &&
            depth < TOW_NESTING_MOST && bson_iter_recurse(&iter, &child) &&
            has_dollar(&child, depth + 1))
            return true;
        before = name;
    }
    return false;
}

static bool has_top_dollar(const bson_iter_t *fields)
{
    bson_iter_t iter = *fields;

    while (bson_iter_next(&iter))
        if (bson_iter_key(&iter)[0] == '$')
            return true;
    return false;
}

bool tow_is_replaceable(const bson_t *document, const tow_facts_t *facts)
{
    bson_iter_t iter;
    tow_value_t id;

    if (!bson_iter_init(&iter, document) ||
        (tow_value_id(document, &id) && (size_t)id.length + document->len > UPDATE_BYTES))
        return false;
    return tow_server_can(facts, TOW_NESTED_DOLLAR) ? !has_top_dollar(&iter)
                                                    : !has_dollar(&iter, 0);
}

bool tow_is_updatable(const bson_t *document)
{
    bson_iter_t iter;

    if (!bson_iter_init(&iter, document))
        return false;
    while (bson_iter_next(&iter))
        if (bson_iter_key(&iter)[0] == '$' || is_empty_timestamp(&iter))
            return false;
    return true;
}

void tow_write_delete(tow_write_t *write, tow_value_t id, void *tag)
{
    char buffer[16];
    const char *key;
    bson_t statement;

    tag_next(write, tag, buffer, &key);
    bson_append_document_begin(&write->list, key, -1, &statement);
    append_query(&statement, id);
    bson_append_int32(&statement, "limit", 5, 1);
    bson_append_document_end(&write->list, &statement);
    count_in(write);
}

void tow_write_insert(tow_write_t *write, const bson_t *document, void *tag)
{
    char buffer[16];
    const char *key;

    tag_next(write, tag, buffer, &key);
    bson_append_document(&write->list, key, -1, document);
    count_in(write);
}

/* Ends the list and adds what all statements share. */
static void complete(const tow_write_t *write, const tow_facts_t *facts, bson_t *command)
{
    if (write->kind == TOW_WRITE_DELETE)
        return;
    bson_append_bool(command, "bypassDocumentValidation", -1, true);
    if (facts->bypass_empty_ts)
        bson_append_bool(command, "bypassEmptyTsReplacement", -1, true);
}

static void report(const tow_write_t *write, const bson_t *reply, uint32_t offset,
                   tow_write_error_fn each, void *data, uint32_t *out_matched)
{
    tow_write_error_t failure;
    uint32_t position = 0;
    bson_iter_t iter;

    if (bson_iter_init_find(&iter, reply, "n"))
        *out_matched += (uint32_t)bson_iter_as_int64(&iter);
    while (tow_reply_write_error(reply, &position, &failure))
        if (failure.index + offset < write->count)
            each(data, write->tags[failure.index + offset], &failure);
}

/* The fields of a duplicate key that a reply carries for the command as a whole. */
static tow_write_error_t whole_error(const bson_t *reply, const tow_error_t *error)
{
    tow_write_error_t failure = {.code = error->server_code, .message = error->message};
    bson_iter_t iter;

    if (bson_iter_init_find(&iter, reply, "keyValue") && BSON_ITER_HOLDS_DOCUMENT(&iter)) {
        failure.key_value = iter;
        failure.has_key_value = true;
    }
    if (bson_iter_init_find(&iter, reply, "keyPattern") && BSON_ITER_HOLDS_DOCUMENT(&iter))
        failure.key_pattern = iter;
    return failure;
}

static bool is_about_id(const tow_write_error_t *failure)
{
    bson_iter_t key;

    return failure->has_key_value && bson_iter_recurse(&failure->key_value, &key) &&
           bson_iter_next(&key) && !strcmp(bson_iter_key(&key), "_id");
}

/* A duplicate key may fail a message as a whole, without saying which statement it was, nor which
 * of the others were done: they are sent one by one. Inserts that are found done are fine. */
static bool send_singly(tow_write_t *write, tow_conn_t *conn, const tow_send_options_t *send,
                        tow_write_error_fn each, void *data, uint32_t *out_matched,
                        tow_error_t *error)
{
    static const char *const lists[] = {"updates", "deletes", "documents"};
    static const char *const names[] = {"update", "delete", "insert"};
    bson_iter_t iter, list;
    bool ok = bson_iter_init_find(&iter, &write->command, lists[write->kind]) &&
              bson_iter_recurse(&iter, &list);

    for (uint32_t i = 0; ok && bson_iter_next(&list); i++) {
        bson_t command = BSON_INITIALIZER, single, reply;

        bson_append_utf8(&command, names[write->kind], -1, write->collection->name, -1);
        bson_append_array_begin(&command, lists[write->kind], -1, &single);
        bson_append_iter(&single, "0", 1, &list);
        bson_append_array_end(&command, &single);
        complete(write, tow_link_facts(tow_conn_link(conn)), &command);
        ok = tow_conn_command(conn, write->collection->database, &command, send, &reply, error);
        if (ok) {
            report(write, &reply, i, each, data, out_matched);
        } else if (error->server_code == TOW_CODE_DUPLICATE_KEY) {
            tow_write_error_t failure = whole_error(&reply, error);

            ok = true;
            if (write->kind != TOW_WRITE_INSERT || write->strict || !is_about_id(&failure))
                each(data, write->tags[i], &failure);
        }
        bson_destroy(&reply);
        bson_destroy(&command);
    }
    return ok;
}

bool tow_write_send(tow_write_t *write, tow_conn_t *conn, tow_write_error_fn each, void *data,
                    uint32_t *out_matched, tow_error_t *error)
{
    static const char *const verbs[] = {"update", "delete from", "insert into"};
    tow_send_options_t send = {.flags = TOW_SEND_WRITE | TOW_SEND_ONCE};
    bson_t reply;
    bool ok;

    *out_matched = 0;
    if (!write->count) {
        drop_open(write);
        return true;
    }
    bson_append_array_end(&write->command, &write->list);
    complete(write, tow_link_facts(tow_conn_link(conn)), &write->command);
    ok = tow_conn_command(conn, write->collection->database, &write->command, &send, &reply, error);
    if (ok)
        report(write, &reply, 0, each, data, out_matched);
    else if (error->server_code == TOW_CODE_DUPLICATE_KEY)
        ok = send_singly(write, conn, &send, each, data, out_matched, error);
    if (!ok)
        tow_fail_context(error, "%s %s", verbs[write->kind], write->collection->ns);
    bson_destroy(&reply);
    bson_destroy(&write->command);
    write->open = false;
    write->count = 0;
    return ok;
}

void tow_write_clear(tow_write_t *write)
{
    drop_open(write);
    free(write->tags);
    *write = (tow_write_t){0};
}
