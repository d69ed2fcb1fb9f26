/* SPDX-License-Identifier: Apache-2.0 */
/* write.c: insert, update and delete, as far as the engine uses them. */
#include <string.h>

#include "document.h"
#include "schedule.h"
#include "server.h"

enum { DUPLICATE = 11000, IMMUTABLE = 66 };

typedef struct {
    sim_server_t *server;
    const char *ns;
    bson_t errors;
    uint32_t index, error_count, n;
} outcome_t;

static void add_error(outcome_t *outcome, int code, const bson_t *index, const bson_t *document)
{
    char room[16];
    const char *key;
    bson_t entry, child;
    bson_iter_t pattern, field;

    bson_uint32_to_string(outcome->error_count++, &key, room, sizeof room);
    bson_append_document_begin(&outcome->errors, key, -1, &entry);
    bson_append_int32(&entry, "index", -1, (int32_t)outcome->index);
    bson_append_int32(&entry, "code", -1, code);
    bson_append_utf8(&entry, "errmsg", -1, code == DUPLICATE ? "duplicate key" : "immutable _id",
                     -1);
    if (index) {
        sim_path(index, "key", &pattern);
        bson_append_iter(&entry, "keyPattern", -1, &pattern);
        bson_append_document_begin(&entry, "keyValue", -1, &child);
        for (bson_iter_recurse(&pattern, &pattern); bson_iter_next(&pattern);)
            if (bson_iter_init_find(&field, document, bson_iter_key(&pattern)))
                bson_append_iter(&child, NULL, 0, &field);
        bson_append_document_end(&entry, &child);
    }
    bson_append_document_end(&outcome->errors, &entry);
}

static const bson_t *id_index(void)
{
    static bson_t *index;

    if (!index)
        index = BCON_NEW("key", "{", "_id", BCON_INT32(1), "}", "name", "_id_");
    return index;
}

static bool store(outcome_t *outcome, const bson_t *document, const char *operation)
{
    sim_collection_t *collection = sim_find_collection(outcome->server, outcome->ns);
    const bson_t *refusal;

    if (!collection)
        collection = sim_make_collection(outcome->server, outcome->ns, NULL);
    refusal = sim_refusal(collection, document);
    if (refusal) {
        add_error(outcome, DUPLICATE, refusal, document);
        return false;
    }
    sim_put(outcome->server, collection, operation, sim_id(document), document);
    outcome->n++;
    return true;
}

static bool do_insert(outcome_t *outcome, const bson_t *document)
{
    sim_collection_t *collection = sim_find_collection(outcome->server, outcome->ns);

    if (collection && sim_get(collection, sim_id(document), 0)) {
        add_error(outcome, DUPLICATE, id_index(), document);
        return false;
    }
    return store(outcome, document, "insert");
}

static bool read_document(const bson_t *statement, const char *name, bson_t *out)
{
    bson_iter_t iter;
    const uint8_t *data;
    uint32_t length;

    if (!bson_iter_init_find(&iter, statement, name) || !BSON_ITER_HOLDS_DOCUMENT(&iter))
        return false;
    bson_iter_document(&iter, &length, &data);
    return bson_init_static(out, data, length);
}

/* The _id that a query names, whatever else it asks. */
static bool named_id(const bson_t *query, tow_value_t *out)
{
    bson_iter_t id, equal;

    if (!bson_iter_init_find(&id, query, "_id"))
        return false;
    if (BSON_ITER_HOLDS_DOCUMENT(&id) && bson_iter_recurse(&id, &equal) && bson_iter_next(&equal) &&
        bson_iter_key(&equal)[0] == '$') {
        if (strcmp(bson_iter_key(&equal), "$eq") != 0)
            return false;
        *out = tow_value_of(&equal);
        return true;
    }
    *out = tow_value_of(&id);
    return true;
}

static bool do_update(outcome_t *outcome, const bson_t *statement)
{
    sim_collection_t *collection = sim_find_collection(outcome->server, outcome->ns);
    const bson_t *there = NULL;
    bson_t query, base = BSON_INITIALIZER, document;
    bson_iter_t update;
    tow_value_t id = {0};
    bool ok = true;

    read_document(statement, "q", &query);
    bson_iter_init_find(&update, statement, "u");
    if (!named_id(&query, &id))
        sim_fail("the simulated server knows updates by _id alone: %s",
                 bson_as_relaxed_extended_json(statement, NULL));
    if (collection)
        there = sim_get(collection, id, 0);
    if (there && !sim_matches(&query, there))
        there = NULL;
    if (!there && !sim_number(statement, "upsert", 0)) {
        bson_destroy(&base);
        return true;
    }
    if (!there)
        tow_value_append(&base, "_id", 3, id);
    sim_update(there ? there : &base, &update, &document);
    if (tow_value_compare(sim_id(&document), id) || sim_id(&document).type != id.type) {
        if (there && sim_id(there).type == sim_id(&document).type) {
            ok = store(outcome, &document, "replace");
        } else {
            add_error(outcome, IMMUTABLE, NULL, NULL);
            ok = false;
        }
    } else if (there && bson_equal(there, &document)) {
        outcome->n++; /* nothing changes */
    } else {
        ok = store(outcome, &document, there ? "replace" : "insert");
    }
    bson_destroy(&document);
    bson_destroy(&base);
    return ok;
}

static bool do_delete(outcome_t *outcome, const bson_t *statement)
{
    sim_collection_t *collection = sim_find_collection(outcome->server, outcome->ns);
    int64_t limit = sim_number(statement, "limit", 0);
    bson_t query;

    read_document(statement, "q", &query);
    for (uint32_t i = 0; collection && i < collection->count; i++) {
        const bson_t *document = sim_document_at(&collection->entries[i], 0);

        if (!document || !sim_matches(&query, document))
            continue;
        sim_put(outcome->server, collection, "delete", sim_id(collection->entries[i].id), NULL);
        outcome->n++;
        if (limit)
            break;
    }
    return true;
}

bool sim_write(sim_server_t *server, const char *database, const bson_t *command, bool *done,
               uint32_t most, bson_t *reply)
{
    outcome_t outcome = {.server = server, .errors = BSON_INITIALIZER};
    bool ordered = sim_number(command, "ordered", 1), ok = true, whole = true;
    const char *name;
    bson_iter_t iter, list;
    char ns[2 * SIM_NAME];

    bson_iter_init(&iter, command);
    bson_iter_next(&iter);
    name = bson_iter_key(&iter);
    snprintf(ns, sizeof ns, "%s.%s", database, bson_iter_utf8(&iter, NULL));
    outcome.ns = ns;
    bson_iter_init_find(&list, command,
                        *name == 'i'   ? "documents"
                        : *name == 'u' ? "updates"
                                       : "deletes");
    for (bson_iter_recurse(&list, &iter); (ok || !ordered) && bson_iter_next(&iter);
         outcome.index++) {
        const uint8_t *data;
        uint32_t length;
        bson_t item;

        if (outcome.index == SIM_STATEMENTS)
            sim_fail("too many statements");
        if (done[outcome.index]) {
            outcome.n++;
            continue;
        }
        if (!most--) {
            whole = false;
            break;
        }
        bson_iter_document(&iter, &length, &data);
        bson_init_static(&item, data, length);
        ok = (*name == 'i' ? do_insert : *name == 'u' ? do_update : do_delete)(&outcome, &item);
        done[outcome.index] = ok;
    }
    bson_append_int32(reply, "n", -1, (int32_t)outcome.n);
    if (*name == 'u')
        bson_append_int32(reply, "nModified", -1, (int32_t)outcome.n);
    if (outcome.error_count)
        bson_append_array(reply, "writeErrors", -1, &outcome.errors);
    sim_append_time(server, reply, server->now);
    bson_destroy(&outcome.errors);
    return whole;
}
