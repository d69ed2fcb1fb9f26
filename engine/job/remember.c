/* SPDX-License-Identifier: Apache-2.0 */
/* remember.c: keeps with the job what the verification compared, so that a restart need not read it
 * again.
 *
 * Ranges stand in the collection `compared` of the job's database, as verify/entry.h says, and the
 * position of the destination's watch in the job's document, as `watchToken`. Both are
 * stored just before a checkpoint: ranges in which something was written up to it are removed
 * first, so that what a restart finds is equal up to the positions from which both
 * streams go on. */
#include <stdlib.h>
#include <string.h>

#include "engine/job/internal.h"
#include "engine/link/reader.h"
#include "engine/link/reply.h"
#include "engine/state/write.h"
#include "verify/entry.h"

static char collection_name[] = "compared";

/* The collection as the writers want it. */
static tow_namespace_t place_of(tow_job_t *job)
{
    return (tow_namespace_t){.database = (char *)(uintptr_t)tow_store_database(job->journal.store),
                             .name = collection_name,
                             .ns = collection_name};
}

/* Storing ---------------------------------------------------------------------------------------*/

static void refused(void *data, void *tag TOW_UNUSED, const tow_write_error_t *failure)
{
    tow_error_t *error = data;

    if (error->code == TOW_OK)
        tow_fail(error, TOW_ERROR_SERVER, "store compared ranges: %s", failure->message);
}

static bool send(tow_job_t *job, tow_write_t *write, tow_error_t *error)
{
    tow_error_t refusal = {0};
    uint32_t matched;

    if (!tow_write_send(write, job->comparer.conn, refused, &refusal, &matched, error))
        return false;
    if (refusal.code != TOW_OK)
        *error = refusal;
    return refusal.code == TOW_OK;
}

static bool write_entries(tow_job_t *job, const tow_track_entry_t *entries, uint32_t count,
                          tow_write_kind_t kind, tow_error_t *error)
{
    tow_namespace_t place = place_of(job);
    tow_write_t write = {0};
    bool ok = true;

    tow_write_begin(&write, kind, &place);
    for (uint32_t i = 0; ok && i < count; i++) {
        bson_t document;
        tow_value_t id;

        tow_track_entry_to_bson(&entries[i], job->config.verify_mode,
                                tow_track_seed(job->comparer.track), &document);
        if (!tow_write_fits(&write, document.len)) {
            ok = send(job, &write, error);
            tow_write_begin(&write, kind, &place);
        }
        if (ok && tow_value_id(&document, &id)) {
            if (kind == TOW_WRITE_DELETE)
                tow_write_delete(&write, id, NULL);
            else
                tow_write_replace(&write, id, &document, NULL);
        }
        bson_destroy(&document);
    }
    ok = ok && send(job, &write, error);
    tow_write_clear(&write);
    return ok;
}

static bool remove_all(tow_job_t *job, tow_error_t *error)
{
    tow_send_options_t send_options = {.flags = TOW_SEND_WRITE | TOW_SEND_RETRY};
    bson_t command = BSON_INITIALIZER, list, statement, query, reply;
    bool ok;

    bson_append_utf8(&command, "delete", -1, collection_name, -1);
    bson_append_array_begin(&command, "deletes", -1, &list);
    bson_append_document_begin(&list, "0", -1, &statement);
    bson_append_document_begin(&statement, "q", -1, &query);
    bson_append_document_end(&statement, &query);
    bson_append_int32(&statement, "limit", -1, 0);
    bson_append_document_end(&list, &statement);
    bson_append_array_end(&command, &list);
    ok = tow_conn_command(job->comparer.conn, tow_store_database(job->journal.store), &command,
                          &send_options, &reply, error);
    bson_destroy(&reply);
    bson_destroy(&command);
    return ok;
}

static bool store_changes(tow_job_t *job, const tow_track_changes_t *changes, tow_error_t *error)
{
    if (!changes->all && !changes->removed_count && !changes->added_count)
        return true;
    if (!job->comparer.conn)
        job->comparer.conn = tow_conn_open(job->sides.destination);
    return (!changes->all || remove_all(job, error)) &&
           write_entries(job, changes->removed, changes->removed_count, TOW_WRITE_DELETE, error) &&
           write_entries(job, changes->added, changes->added_count, TOW_WRITE_UPDATE, error);
}

/* The token is older than the changes: what was told since will be told again. */
bool tow_job_save_track(tow_job_t *job, tow_error_t *error)
{
    tow_watch_t *watch = atomic_load(&job->comparer.watch);
    tow_track_changes_t changes;
    bson_t token, fields = BSON_INITIALIZER;
    bool ok;

    /* Nothing was ever stored, or the checkpoint will say that the lease is lost. */
    if ((!watch && !job->comparer.watch_token) || !tow_store_lease_valid(job->journal.store))
        return true;
    bson_init(&token); /* until the watch goes on, the position of the earlier one holds */
    if (watch)
        tow_watch_token(watch, &token);
    tow_track_changes(job->comparer.track, &changes);
    ok = store_changes(job, &changes, error);
    if (ok && !bson_empty(&token)) {
        bson_append_document(&fields, "watchToken", -1, &token);
        ok = tow_store_set(job->journal.store, &fields, error);
    }
    if (!ok)
        tow_track_unsaved(job->comparer.track);
    tow_track_changes_clear(&changes);
    bson_destroy(&fields);
    bson_destroy(&token);
    return ok;
}

/* Restoring -------------------------------------------------------------------------------------*/

/* Only what was compared in this job's mode and with one seed counts. */
static void take_stored(tow_job_t *job, const bson_t *document, tow_track_changes_t *list,
                        uint64_t *seed)
{
    tow_track_entry_t entry;
    tow_verify_mode_t mode;
    uint64_t own;

    if (!tow_track_entry_from_bson(document, &entry, &mode, &own)) {
        list->all = true;
        return;
    }
    if (!list->added_count)
        *seed = own;
    tow_track_changes_add(list, &entry);
    if (mode != job->config.verify_mode || own != *seed)
        list->all = true;
}

static bool read_stored(tow_job_t *job, tow_track_changes_t *list, uint64_t *seed,
                        tow_error_t *error)
{
    tow_conn_t *conn = tow_conn_open(job->sides.destination);
    tow_read_t what = {.database = tow_store_database(job->journal.store),
                       .collection = collection_name,
                       .kept_most = TOW_KEPT_BYTES_MOST};
    tow_reader_t *reader = tow_reader_open(conn, &what, error);
    bool ok = reader != NULL, more = true;
    bson_t document;

    while (ok && more) {
        while (tow_reader_next(reader, &document))
            take_stored(job, &document, list, seed);
        ok = tow_reader_next_batch(reader, &more, error);
    }
    tow_reader_close(reader);
    tow_conn_close(conn);
    return ok;
}

bool tow_job_restore_track(tow_job_t *job, tow_error_t *error)
{
    tow_track_changes_t list = {0};
    uint64_t seed = tow_track_seed(job->comparer.track);
    bson_t document, token;
    bool ok = read_stored(job, &list, &seed, error);

    if (ok) {
        ok = tow_store_get(job->journal.store, &document, error);
        if (ok && tow_field_document(&document, "watchToken", &token))
            job->comparer.watch_token = bson_copy(&token);
        bson_destroy(&document);
    }
    /* Without the position of the watch nobody knows what was written since. */
    if (ok && job->comparer.watch_token && !list.all)
        tow_track_restore(job->comparer.track, seed, list.added, list.added_count);
    else
        tow_track_unsaved(job->comparer.track);
    tow_track_changes_clear(&list);
    return ok;
}
