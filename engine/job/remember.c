/* remember.c: keeps with the job what the verification compared, so that a restart need not read it
 * again.
 *
 * Ranges stand in the collection `compared` of the job's database:
 *   {_id: {ns, n}, uuid, mode, seed, min?, max?, documents, bytes, sum}   (min, max absent: open
 * end) and the position of the destination's watch in the job's document, as `watchToken`. Both are
 * stored just before a checkpoint: ranges in which something was written up to it are removed
 * first, so that what a restart finds is equal up to the positions from which both streams go on.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/job/internal.h"
#include "engine/link/reader.h"
#include "engine/state/write.h"

static char collection_name[] = "compared";

/* The collection as the writers want it. */
static tow_namespace_t place_of(tow_job_t *job)
{
    return (tow_namespace_t){.database = (char *)(uintptr_t)tow_store_database(job->store),
                             .name = collection_name,
                             .ns = collection_name};
}

/* Storing ---------------------------------------------------------------------------------------*/

static void append_id(bson_t *out, const tow_track_entry_t *entry)
{
    bson_t id;

    bson_append_document_begin(out, "_id", -1, &id);
    bson_append_utf8(&id, "ns", -1, entry->ns, -1);
    bson_append_int32(&id, "n", -1, (int32_t)entry->range);
    bson_append_document_end(out, &id);
}

static void build_document(tow_job_t *job, const tow_track_entry_t *entry, bson_t *out)
{
    uint64_t halves[2] = {BSON_UINT64_TO_LE((uint64_t)entry->digest.sum),
                          BSON_UINT64_TO_LE((uint64_t)(entry->digest.sum >> 64))};

    bson_init(out);
    append_id(out, entry);
    bson_append_binary(out, "uuid", -1, BSON_SUBTYPE_UUID, entry->uuid, sizeof entry->uuid);
    bson_append_int32(out, "mode", -1, (int32_t)job->config.verify_mode);
    bson_append_int64(out, "seed", -1, (int64_t)tow_track_seed(job->track));
    if (entry->min.value_type != BSON_TYPE_EOD)
        bson_append_value(out, "min", -1, &entry->min);
    if (entry->max.value_type != BSON_TYPE_EOD)
        bson_append_value(out, "max", -1, &entry->max);
    bson_append_int64(out, "documents", -1, (int64_t)entry->digest.documents);
    bson_append_int64(out, "bytes", -1, (int64_t)entry->digest.bytes);
    bson_append_binary(out, "sum", -1, BSON_SUBTYPE_BINARY, (const uint8_t *)halves, sizeof halves);
}

static void refused(void *data, void *tag, const tow_write_error_t *failure)
{
    tow_error_t *error = data;

    if (error->code == TOW_OK)
        tow_fail(error, TOW_ERROR_SERVER, "store compared ranges: %s", failure->message);
}

static bool send(tow_job_t *job, tow_write_t *write, tow_error_t *error)
{
    tow_error_t refusal = {0};
    uint32_t matched;

    if (!tow_write_send(write, job->remember_conn, refused, &refusal, &matched, error))
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

        build_document(job, &entries[i], &document);
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
    ok = tow_conn_command(job->remember_conn, tow_store_database(job->store), &command,
                          &send_options, &reply, error);
    bson_destroy(&reply);
    bson_destroy(&command);
    return ok;
}

static bool store_changes(tow_job_t *job, const tow_track_changes_t *changes, tow_error_t *error)
{
    if (!changes->all && !changes->removed_count && !changes->added_count)
        return true;
    if (!job->remember_conn && !(job->remember_conn = tow_conn_open(job->destination, error)))
        return false;
    return (!changes->all || remove_all(job, error)) &&
           write_entries(job, changes->removed, changes->removed_count, TOW_WRITE_DELETE, error) &&
           write_entries(job, changes->added, changes->added_count, TOW_WRITE_UPDATE, error);
}

/* The token is older than the changes: what was told since will be told again. */
bool tow_job_save_track(tow_job_t *job, tow_error_t *error)
{
    tow_watch_t *watch = atomic_load(&job->watch);
    tow_track_changes_t changes;
    bson_t token, fields = BSON_INITIALIZER;
    bool ok;

    /* Nothing was ever stored, or the checkpoint will say that the lease is lost. */
    if ((!watch && !job->watch_token) || !tow_store_lease_valid(job->store))
        return true;
    bson_init(&token); /* until the watch goes on, the position of the earlier one holds */
    if (watch)
        tow_watch_token(watch, &token);
    tow_track_changes(job->track, &changes);
    ok = store_changes(job, &changes, error);
    if (ok && !bson_empty(&token)) {
        bson_append_document(&fields, "watchToken", -1, &token);
        ok = tow_store_set(job->store, &fields, error);
    }
    if (!ok)
        tow_track_unsaved(job->track);
    tow_track_changes_clear(&changes);
    bson_destroy(&fields);
    bson_destroy(&token);
    return ok;
}

/* Restoring -------------------------------------------------------------------------------------*/

typedef struct {
    tow_track_entry_t entry;
    int32_t mode;
    uint64_t seed;
} stored_t;

static void parse_sum(const bson_iter_t *iter, tow_hash_t *out)
{
    const uint8_t *data;
    uint64_t halves[2];
    uint32_t length;

    bson_iter_binary(iter, NULL, &length, &data);
    if (length != sizeof halves)
        return;
    memcpy(halves, data, sizeof halves);
    *out = (tow_hash_t)BSON_UINT64_FROM_LE(halves[1]) << 64 | BSON_UINT64_FROM_LE(halves[0]);
}

static void parse_id(const bson_iter_t *iter, tow_track_entry_t *out)
{
    bson_iter_t child;

    if (!bson_iter_recurse(iter, &child))
        return;
    while (bson_iter_next(&child)) {
        if (!strcmp(bson_iter_key(&child), "ns") && BSON_ITER_HOLDS_UTF8(&child))
            out->ns = tow_strdup(bson_iter_utf8(&child, NULL));
        else if (!strcmp(bson_iter_key(&child), "n"))
            out->range = (uint32_t)bson_iter_as_int64(&child);
    }
}

static void parse(const bson_t *document, stored_t *out)
{
    bson_iter_t iter;

    *out = (stored_t){.mode = -1};
    if (!bson_iter_init(&iter, document))
        return;
    while (bson_iter_next(&iter)) {
        const char *name = bson_iter_key(&iter);
        const uint8_t *data;
        uint32_t length;

        if (!strcmp(name, "_id")) {
            parse_id(&iter, &out->entry);
        } else if (!strcmp(name, "uuid") && BSON_ITER_HOLDS_BINARY(&iter)) {
            bson_iter_binary(&iter, NULL, &length, &data);
            if (length == sizeof out->entry.uuid)
                memcpy(out->entry.uuid, data, length);
        } else if (!strcmp(name, "mode")) {
            out->mode = (int32_t)bson_iter_as_int64(&iter);
        } else if (!strcmp(name, "seed")) {
            out->seed = (uint64_t)bson_iter_as_int64(&iter);
        } else if (!strcmp(name, "min")) {
            bson_value_copy(bson_iter_value(&iter), &out->entry.min);
        } else if (!strcmp(name, "max")) {
            bson_value_copy(bson_iter_value(&iter), &out->entry.max);
        } else if (!strcmp(name, "documents")) {
            out->entry.digest.documents = (uint64_t)bson_iter_as_int64(&iter);
        } else if (!strcmp(name, "bytes")) {
            out->entry.digest.bytes = (uint64_t)bson_iter_as_int64(&iter);
        } else if (!strcmp(name, "sum") && BSON_ITER_HOLDS_BINARY(&iter)) {
            parse_sum(&iter, &out->entry.digest.sum);
        }
    }
}

/* Only what was compared in this job's mode and with one seed counts. */
static void take_stored(tow_job_t *job, const bson_t *document, tow_track_changes_t *list,
                        uint64_t *seed)
{
    stored_t stored;

    parse(document, &stored);
    if (!list->added_count)
        *seed = stored.seed;
    /* The room grows by powers of two, so the count alone says when it is used up. */
    if ((list->added_count & (list->added_count - 1)) == 0)
        list->added = tow_realloc(list->added, (list->added_count ? list->added_count * 2 : 1) *
                                                   sizeof *list->added);
    list->added[list->added_count++] = stored.entry;
    if (!stored.entry.ns || stored.mode != (int32_t)job->config.verify_mode || stored.seed != *seed)
        list->all = true;
}

static bool read_stored(tow_job_t *job, tow_track_changes_t *list, uint64_t *seed,
                        tow_error_t *error)
{
    tow_conn_t *conn = tow_conn_open(job->destination, error);
    tow_read_t what = {.database = tow_store_database(job->store), .collection = collection_name};
    tow_reader_t *reader = conn ? tow_reader_open(conn, &what, error) : NULL;
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
    uint64_t seed = tow_track_seed(job->track);
    bson_iter_t iter, child;
    bson_t document;
    bool ok = read_stored(job, &list, &seed, error);

    if (ok) {
        ok = tow_store_get(job->store, &document, error);
        if (ok && bson_iter_init_find(&iter, &document, "watchToken") &&
            BSON_ITER_HOLDS_DOCUMENT(&iter) && bson_iter_recurse(&iter, &child)) {
            const uint8_t *data;
            uint32_t length;

            bson_iter_document(&iter, &length, &data);
            job->watch_token = bson_new_from_data(data, length);
        }
        bson_destroy(&document);
    }
    /* Without the position of the watch nobody knows what was written since. */
    if (ok && job->watch_token && !list.all)
        tow_track_restore(job->track, seed, list.added, list.added_count);
    else
        tow_track_unsaved(job->track);
    tow_track_changes_clear(&list);
    return ok;
}
