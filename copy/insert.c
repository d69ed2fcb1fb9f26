/* SPDX-License-Identifier: Apache-2.0 */
/* insert.c: writes what workers read. Documents go from the reply to the insert as they are. */
#include <stdlib.h>
#include <utlist.h>

#include "copy/internal.h"
#include "engine/link/codes.h"
#include "engine/state/write.h"

enum { REFUSALS_MOST = 3 }; /* attempts that may meet documents that cannot be written */

/* Documents of one insert, and where they go. */
typedef struct {
    tow_conn_t *destination;
    tow_pass_t *pass;
    bson_t documents[TOW_BATCH_DOCUMENTS];
    const bson_t *pointers[TOW_BATCH_DOCUMENTS];
    size_t count;
    uint64_t bytes;
    uint32_t replaced; /* of them were there already */
} insert_t;

/* Without bypassEmptyTsReplacement the server fills in Timestamp(0,0) fields: put them right. */
static bool restore_timestamps(const insert_t *insert, tow_error_t *error)
{
    tow_write_t write = {0};
    uint32_t matched, refused = 0;
    bool ok = true;

    tow_write_begin(&write, TOW_WRITE_UPDATE, insert->pass->collection);
    for (size_t i = 0; ok && i < insert->count; i++) {
        const bson_t *document = &insert->documents[i];
        tow_value_t id;

        if (!tow_has_empty_timestamp(document) || !tow_value_id(document, &id))
            continue;
        if (!tow_write_fits(&write, id.length + document->len)) {
            ok = tow_write_send(&write, insert->destination, tow_pass_count_refusal, &refused,
                                &matched, error);
            tow_write_begin(&write, TOW_WRITE_UPDATE, insert->pass->collection);
        }
        tow_write_timestamps(&write, id, document, NULL);
    }
    ok = ok && tow_write_send(&write, insert->destination, tow_pass_count_refusal, &refused,
                              &matched, error);
    tow_write_clear(&write);
    if (ok && refused)
        return tow_fail(error, TOW_ERROR_SERVER, "empty timestamps could not be restored");
    return ok;
}

static void name_document(const insert_t *insert, const tow_write_error_t *refusal,
                          tow_error_t *error)
{
    char id[200] = "?";
    tow_value_t value;

    if (refusal->index < insert->count && tow_value_id(insert->pointers[refusal->index], &value))
        tow_value_text(value, id, sizeof id);
    tow_fail(error, TOW_ERROR_SERVER, "document with _id %s: %s", id, refusal->message);
}

/* Whether the range may be emptied and read once more. */
static bool may_try_again(tow_pass_t *pass)
{
    tow_copy_t *copy = pass->worker->copy;
    bool may;

    tow_copy_lock(copy);
    may = ++pass->refusals < REFUSALS_MOST;
    tow_copy_unlock(copy);
    return may;
}

/* Replacements; and for documents that a server takes by insert alone, a delete and an insert. */
typedef struct {
    insert_t *insert;
    tow_write_t writes[3]; /* sent in this order: deletes, updates, inserts */
    uint32_t refused, count;
} replacing_t;

static void begin_replacing(replacing_t *replacing)
{
    static const tow_write_kind_t kinds[] = {TOW_WRITE_DELETE, TOW_WRITE_UPDATE, TOW_WRITE_INSERT};

    for (int i = 0; i < 3; i++)
        tow_write_begin(&replacing->writes[i], kinds[i], replacing->insert->pass->collection);
    replacing->writes[2].strict = true;
}

static bool send_replacements(replacing_t *replacing, tow_error_t *error)
{
    uint32_t matched;
    bool ok = true;

    for (int i = 0; ok && i < 3; i++)
        ok = tow_write_send(&replacing->writes[i], replacing->insert->destination,
                            tow_pass_count_refusal, &replacing->refused, &matched, error);
    begin_replacing(replacing);
    return ok;
}

static bool replace(replacing_t *replacing, tow_value_t id, const bson_t *document,
                    tow_error_t *error)
{
    tow_write_t *writes = replacing->writes;
    size_t bytes = id.length + document->len;

    for (int i = 0; i < 3; i++)
        if (!tow_write_fits(&writes[i], bytes) && !send_replacements(replacing, error))
            return false;
    replacing->count++;
    if (tow_is_replaceable(document,
                           tow_link_facts(tow_conn_link(replacing->insert->destination)))) {
        tow_write_replace(&writes[1], id, document, NULL);
    } else {
        tow_write_delete(&writes[0], id, NULL);
        tow_write_insert(&writes[2], document, NULL);
    }
    return true;
}

/* What was refused is there already and is replaced; *out_possible: only such. */
static bool replace_all(replacing_t *replacing, const bson_t *reply, bool *out_possible,
                        tow_error_t *error)
{
    insert_t *insert = replacing->insert;
    tow_write_error_t refusal;
    uint32_t position = 0;
    bool ok = true;

    while (ok && *out_possible && tow_reply_write_error(reply, &position, &refusal)) {
        tow_value_t id;

        name_document(insert, &refusal, error);
        *out_possible = refusal.code == TOW_CODE_DUPLICATE_KEY && refusal.index < insert->count &&
                        tow_value_id(insert->pointers[refusal.index], &id);
        if (*out_possible)
            ok = replace(replacing, id, insert->pointers[refusal.index], error);
    }
    return ok && (!*out_possible || send_replacements(replacing, error));
}

/* Replaces the documents that are there already: written again at the source while it was read, so
 * that the event that follows says the last word. After an attempt whose end is not known they may
 * be its stragglers, and others of them be gone at the source: then the range is emptied once more
 * first. What cannot be replaced is copied anew with its range. */
static tow_outcome_t replace_present(insert_t *insert, const bson_t *reply, tow_error_t *error)
{
    tow_pass_t *pass = insert->pass;
    replacing_t replacing = {.insert = insert};
    tow_write_error_t refusal;
    uint32_t position = 0;
    bool ok, possible = !pass->collection->capped;

    if (pass->again && tow_reply_write_error(reply, &position, &refusal)) {
        name_document(insert, &refusal, error);
        if (refusal.code == TOW_CODE_DUPLICATE_KEY && may_try_again(pass))
            return tow_pass_given_up(pass) ? TOW_PASS_GIVEN_UP : TOW_PASS_AGAIN;
    }
    begin_replacing(&replacing);
    ok = replace_all(&replacing, reply, &possible, error);
    for (int i = 0; i < 3; i++)
        tow_write_clear(&replacing.writes[i]);
    if (!ok)
        return tow_pass_judge(pass, error);
    if (tow_pass_given_up(pass))
        return TOW_PASS_GIVEN_UP;
    if (possible && !replacing.refused) {
        insert->replaced = replacing.count;
        return TOW_PASS_DONE;
    }
    return may_try_again(pass) ? TOW_PASS_AGAIN : TOW_PASS_FAILED;
}

static tow_outcome_t send(insert_t *insert, tow_error_t *error)
{
    tow_pass_t *pass = insert->pass;
    tow_copy_t *copy = pass->worker->copy;
    tow_write_error_t refusal;
    uint32_t position = 0;
    bson_t reply;
    tow_outcome_t outcome = TOW_PASS_DONE;

    insert->replaced = 0;
    if (!insert->count)
        return TOW_PASS_DONE;
    if (!tow_conn_insert(insert->destination, pass->collection->database, pass->collection->name,
                         insert->pointers, insert->count, pass->collection->capped, &reply, error))
        outcome = tow_pass_judge(pass, error);
    else if (tow_reply_write_error(&reply, &position, &refusal))
        outcome = replace_present(insert, &reply, error);
    bson_destroy(&reply);
    if (outcome == TOW_PASS_DONE && !tow_link_facts(copy->options.destination)->bypass_empty_ts &&
        !restore_timestamps(insert, error))
        outcome = tow_pass_judge(pass, error);
    if (outcome == TOW_PASS_DONE) {
        uint64_t documents = insert->count - insert->replaced;

        tow_copy_lock(copy);
        pass->documents += documents;
        pass->bytes += insert->bytes;
        pass->advanced = true;
        tow_copy_unlock(copy);
        atomic_fetch_add(&copy->documents, documents);
        atomic_fetch_add(&copy->bytes, insert->bytes);
    }
    insert->count = 0;
    insert->bytes = 0;
    return outcome;
}

/* One whole batch, in one insert unless it holds very many documents. */
static tow_outcome_t write_batch(insert_t *insert, tow_batch_t *batch, tow_error_t *error)
{
    tow_outcome_t outcome = TOW_PASS_DONE;

    while (outcome == TOW_PASS_DONE && tow_batch_next(batch, &insert->documents[insert->count])) {
        insert->bytes += insert->documents[insert->count].len;
        if (++insert->count == TOW_BATCH_DOCUMENTS)
            outcome = send(insert, error);
    }
    if (outcome == TOW_PASS_DONE && batch->broken) {
        tow_fail(error, TOW_ERROR_SERVER, "a document of a reply is malformed");
        outcome = TOW_PASS_AGAIN;
    }
    if (outcome == TOW_PASS_DONE)
        outcome = send(insert, error);
    insert->count = 0;
    insert->bytes = 0;
    return outcome;
}

void *tow_copy_inserter(void *data)
{
    tow_worker_t *inserter = data;
    tow_copy_t *copy = inserter->copy;
    insert_t *insert = tow_alloc(sizeof *insert);

    insert->destination = inserter->destination;
    for (uint32_t i = 0; i < TOW_BATCH_DOCUMENTS; i++)
        insert->pointers[i] = &insert->documents[i];
    tow_copy_lock(copy);
    /* At the end, too, what was submitted is taken off the list: its worker waits for that. */
    while (copy->loads || !tow_copy_ended(copy)) {
        tow_load_t *load = copy->loads;
        tow_outcome_t outcome = TOW_PASS_GIVEN_UP;
        tow_error_t error;

        if (!load) {
            tow_copy_wait_changed(copy);
            continue;
        }
        DL_DELETE(copy->loads, load);
        if (load->pass->outcome == TOW_PASS_DONE && !tow_pass_given_up(load->pass)) {
            tow_copy_unlock(copy);
            insert->pass = load->pass;
            outcome = write_batch(insert, &load->batch, &error);
            tow_copy_settle(copy, insert->destination);
            tow_copy_lock(copy);
        }
        if (outcome != TOW_PASS_DONE && load->pass->outcome == TOW_PASS_DONE) {
            load->pass->outcome = outcome;
            if (outcome != TOW_PASS_GIVEN_UP)
                load->pass->error = error;
        }
        load->pass->in_flight--;
        copy->load_bytes -= load->bytes;
        pthread_cond_broadcast(&copy->changed);
        tow_batch_clear(&load->batch);
        free(load);
    }
    tow_copy_unlock(copy);
    free(insert);
    return NULL;
}
