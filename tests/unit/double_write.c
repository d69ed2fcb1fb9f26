/* SPDX-License-Identifier: Apache-2.0 */
/* double_write.c: see double_internal.h. */
#include "double_internal.h"

#include <string.h>

enum { IMMUTABLE = 66 };

typedef struct {
    bson_t errors;
    uint32_t index, error_count, n;
} outcome_t;

static void add_error(outcome_t *outcome, int code, const char *field, tow_value_t value)
{
    char room[16];
    const char *key;
    bson_t entry, child;

    bson_uint32_to_string(outcome->error_count++, &key, room, sizeof room);
    bson_append_document_begin(&outcome->errors, key, -1, &entry);
    bson_append_int32(&entry, "index", -1, (int32_t)outcome->index);
    bson_append_int32(&entry, "code", -1, code);
    bson_append_utf8(&entry, "errmsg", -1, code == DUPLICATE ? "duplicate key" : "immutable _id",
                     -1);
    if (field) {
        bson_append_document_begin(&entry, "keyPattern", -1, &child);
        bson_append_int32(&child, field, -1, 1);
        bson_append_document_end(&entry, &child);
        bson_append_document_begin(&entry, "keyValue", -1, &child);
        tow_value_append(&child, field, -1, value);
        bson_append_document_end(&entry, &child);
    }
    bson_append_document_end(&outcome->errors, &entry);
}

/* Whether another document holds the value of the unique field. */
static bool is_held(double_server_t *server, const char *ns, const bson_t *document,
                    tow_value_t *out_value)
{
    bson_iter_t own, other;

    if (!server->unique || !bson_iter_init_find(&own, document, server->unique))
        return false;
    *out_value = tow_value_of(&own);
    for (uint32_t i = 0; i < server->count; i++) {
        const version_t *version = &server->versions[i];

        if (double_is_of(version, ns, server->now) && version->document &&
            tow_value_compare(double_id_of(&version->id), double_id_of(document)) != 0 &&
            bson_iter_init_find(&other, version->document, server->unique) &&
            !tow_value_compare(tow_value_of(&other), *out_value))
            return true;
    }
    return false;
}

static void store(double_server_t *server, const char *ns, const bson_t *document,
                  outcome_t *outcome)
{
    tow_value_t value;

    if (is_held(server, ns, document, &value)) {
        add_error(outcome, DUPLICATE, server->unique, value);
        return;
    }
    double_add(server, ns, double_id_of(document), document);
    outcome->n++;
}

static void do_insert(double_server_t *server, const char *ns, const bson_t *document,
                      outcome_t *outcome)
{
    if (double_document_of(server, ns, double_id_of(document), server->now))
        add_error(outcome, DUPLICATE, "_id", double_id_of(document));
    else
        store(server, ns, document, outcome);
}

static tow_value_t id_of_query(const bson_t *statement)
{
    bson_iter_t iter, id, equal;

    bson_iter_init(&iter, statement);
    bson_iter_find_descendant(&iter, "q._id", &id);
    if (BSON_ITER_HOLDS_DOCUMENT(&id) && bson_iter_recurse(&id, &equal) &&
        bson_iter_find(&equal, "$eq"))
        return tow_value_of(&equal);
    return tow_value_of(&id);
}

static void do_update(double_server_t *server, const char *ns, const bson_t *statement,
                      outcome_t *outcome)
{
    tow_value_t id = id_of_query(statement);
    const bson_t *there = double_document_of(server, ns, id, server->now);
    bson_iter_t iter, child;
    const uint8_t *data;
    uint32_t length;
    bson_t document;

    if (!bson_iter_init(&iter, statement) ||
        !bson_iter_find_descendant(&iter, "u.0.$replaceWith.$literal", &child))
        bson_iter_init_find(&child, statement, "u");
    bson_iter_document(&child, &length, &data);
    bson_init_static(&document, data, length);
    if (there && (double_id_of(there).type != double_id_of(&document).type))
        add_error(outcome, IMMUTABLE, NULL, id);
    else if (there || bson_has_field(statement, "upsert"))
        store(server, ns, &document, outcome);
}

static void do_delete(double_server_t *server, const char *ns, const bson_t *statement,
                      outcome_t *outcome)
{
    tow_value_t id = id_of_query(statement);

    if (!double_document_of(server, ns, id, server->now))
        return;
    double_add(server, ns, id, NULL);
    outcome->n++;
}

void double_write(double_server_t *server, const char *database, const bson_t *command,
                  bson_t *reply)
{
    bson_iter_t iter, list;
    outcome_t outcome = {.errors = BSON_INITIALIZER};
    const char *name;
    char ns[64];

    bson_iter_init(&iter, command);
    bson_iter_next(&iter);
    name = bson_iter_key(&iter);
    snprintf(ns, sizeof ns, "%s.%s", database, bson_iter_utf8(&iter, NULL));
    bson_iter_init_find(&list, command,
                        *name == 'i'   ? "documents"
                        : *name == 'u' ? "updates"
                                       : "deletes");
    for (bson_iter_recurse(&list, &iter); bson_iter_next(&iter); outcome.index++) {
        const uint8_t *data;
        uint32_t length;
        bson_t item;

        bson_iter_document(&iter, &length, &data);
        bson_init_static(&item, data, length);
        (*name == 'i'   ? do_insert
         : *name == 'u' ? do_update
                        : do_delete)(server, ns, &item, &outcome);
    }
    bson_append_int32(reply, "n", -1, (int32_t)outcome.n);
    if (outcome.error_count)
        bson_append_array(reply, "writeErrors", -1, &outcome.errors);
    double_append_time(reply, server->now);
    bson_destroy(&outcome.errors);
}

void double_drop(double_server_t *server, const char *database, const char *name, bson_t *reply)
{
    char ns[64];

    snprintf(ns, sizeof ns, "%s.%s", database, name);
    for (uint32_t i = 0, count = server->count; i < count; i++)
        if (double_is_of(&server->versions[i], ns, server->now) && server->versions[i].document)
            double_add(server, ns, double_id_of(&server->versions[i].id), NULL);
    double_append_time(reply, server->now);
}

void double_rename(double_server_t *server, const bson_t *command, bson_t *reply)
{
    bson_iter_t from, to;

    bson_iter_init_find(&from, command, "renameCollection");
    bson_iter_init_find(&to, command, "to");
    for (uint32_t i = 0, count = server->count; i < count; i++) {
        bson_t *document = NULL;

        if (!double_is_of(&server->versions[i], bson_iter_utf8(&from, NULL), server->now) ||
            !server->versions[i].document)
            continue;
        document = bson_copy(server->versions[i].document);
        double_add(server, bson_iter_utf8(&from, NULL), double_id_of(document), NULL);
        double_add(server, bson_iter_utf8(&to, NULL), double_id_of(document), document);
        bson_destroy(document);
    }
    double_append_time(reply, server->now);
}
