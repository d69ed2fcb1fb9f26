/* write.c: see write.h. */
#include "engine/state/write.h"

#include <stdlib.h>
#include <string.h>

enum { DUPLICATE_KEY = 11000 };

static void drop_open(tow_write_t *write)
{
    if (!write->open)
        return;
    bson_append_array_end(&write->command, &write->list);
    bson_destroy(&write->command);
    write->open = false;
    write->count = 0;
}

void tow_write_begin(tow_write_t *write, tow_write_kind_t kind, const tow_namespace_t *collection)
{
    static const char *const names[] = {"update", "delete", "insert"};
    static const char *const lists[] = {"updates", "deletes", "documents"};

    drop_open(write);
    write->kind = kind;
    write->collection = collection;
    write->open = true;
    write->strict = false;
    bson_init(&write->command);
    bson_append_utf8(&write->command, names[kind], -1, collection->name, -1);
    bson_append_bool(&write->command, "ordered", -1, false);
    bson_append_array_begin(&write->command, lists[kind], -1, &write->list);
}

bool tow_write_fits(const tow_write_t *write, size_t bytes)
{
    return write->count == 0 ||
           (write->count < TOW_WRITE_MOST && write->list.len + bytes + 256 < TOW_WRITE_BYTES);
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
}

void tow_write_replace(tow_write_t *write, tow_value_t id, const bson_t *document, void *tag)
{
    append_update(write, id, document, false, true, tag);
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
}

void tow_write_insert(tow_write_t *write, const bson_t *document, void *tag)
{
    char buffer[16];
    const char *key;

    tag_next(write, tag, buffer, &key);
    bson_append_document(&write->list, key, -1, document);
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

/* A duplicate key may fail a message as a whole, without saying which statement it was, nor which of
 * the others were done: they are sent one by one. Inserts that are found done are fine. */
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
        } else if (error->server_code == DUPLICATE_KEY) {
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
    else if (error->server_code == DUPLICATE_KEY)
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
