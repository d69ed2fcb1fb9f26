/* SPDX-License-Identifier: Apache-2.0 */
/* done.c: the record of a good end: SPOOL/towline-JOB.done, a line of JSON
 * {job, source, destination, filter, deployment, sourceDeployment, endedAt, collections, summary},
 * the addresses without credentials; and, as long as the job's state is there, its field `ended`
 * {at, collections, summary}.
 *
 * The state stays until the end was told (summary, notices, the command of --on-phase, standard
 * output), wherever the same command runs next. The file is there until after the state is gone: a
 * process that is killed in between leaves it, and the same command ends well by it instead of
 * finding its own collections in the way or, with --clear-destination, dropping them. It lies on
 * this machine and not on the destination, where no trace of the migration is to stay: killed in
 * that moment, the same command on another machine, or with another --spool, does not know.
 *
 * `collections` are those that the job made, {ns, uuid}: it is believed only while the destination
 * still has them, and not of a source that is another one at the same address. Room for the file is
 * taken at the start; where it cannot be written at the end,
 * the state stays. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/file.h"
#include "engine/base/json.h"
#include "engine/job/end_record.h"
#include "engine/job/internal.h"
#include "engine/link/reply.h"

enum {
    ROOM_BYTES = 256 * 1024, /* of the file, */
    ROOM_EACH = 600,         /* and for each collection */
    LISTED_MOST = 20000,     /* collections: they are to fit into one document */
    SUMMARY_MOST = 8 << 20
};

static char *path_of(const tow_job_t *job)
{
    return tow_format("%s/towline-%s.done", job->config.spool, job->config.name);
}

/* The file --------------------------------------------------------------------------------------*/

bool tow_job_reserve_done(tow_job_t *job, tow_error_t *error)
{
    off_t bytes = ROOM_BYTES + (off_t)ROOM_EACH * (off_t)job->checked.survey.count;
    char *path = path_of(job);
    int code;

    tow_drafts_remove(path); /* the spool's lock is ours, so nobody else writes one */
    tow_draft_open(&job->outcome.done_draft, path);
    free(path);
    code = job->outcome.done_draft.error;
    if (code) {
        tow_job_unreserve_done(job);
        errno = code;
        return tow_fail_errno(error, TOW_ERROR_SPOOL,
                              "the record of the job's end cannot be made in %s",
                              job->config.spool);
    }
    code = posix_fallocate(job->outcome.done_draft.file, 0, bytes);
    if (!code)
        return true;
    return tow_fail(error, TOW_ERROR_SPOOL,
                    "%s has no room for the record of the job's end: %s; make room, or "
                    "give another --spool",
                    job->config.spool, strerror(code));
}

void tow_job_unreserve_done(tow_job_t *job)
{
    tow_draft_drop(&job->outcome.done_draft);
}

static bool write_file(tow_job_t *job, const char *text, tow_error_t *error)
{
    tow_draft_t *draft = &job->outcome.done_draft;
    size_t length = strlen(text);
    char *path = path_of(job);
    bool ok;

    if (draft->file < 0)
        tow_draft_open(draft, path);
    tow_draft_write(draft, text, length);
    if (!draft->error && ftruncate(draft->file, (off_t)length))
        draft->error = errno;
    ok = tow_draft_finish(draft) ||
         tow_fail_errno(error, TOW_ERROR_SPOOL, "%s cannot be written", path);
    free(path);
    return ok;
}

/* Proof -----------------------------------------------------------------------------------------*/

/* The collections that the job made, as the destination has them. */
static bool append_collections(tow_job_t *job, bson_t *out, tow_error_t *error)
{
    tow_conn_t *conn = tow_conn_open(job->sides.destination);
    tow_catalog_t there = {0};
    bool ok = tow_catalog_read(conn, NULL, &there, error);
    uint32_t count = 0;
    bson_t list;

    bson_append_array_begin(out, "collections", -1, &list);
    for (size_t i = 0; ok && i < there.count && count < LISTED_MOST; i++) {
        const tow_collection_info_t *info = &there.items[i];
        char buffer[16];
        const char *key;
        bson_t entry;

        if (info->type != TOW_COLLECTION ||
            !tow_namespaces_find(job->flow.namespaces, info->database, info->name))
            continue;
        bson_uint32_to_string(count++, &key, buffer, sizeof buffer);
        bson_append_document_begin(&list, key, -1, &entry);
        bson_append_utf8(&entry, "ns", -1, info->ns, -1);
        bson_append_binary(&entry, "uuid", -1, BSON_SUBTYPE_UUID, info->uuid, sizeof info->uuid);
        bson_append_document_end(&list, &entry);
    }
    bson_append_array_end(out, &list);
    tow_catalog_clear(&there);
    tow_conn_close(conn);
    return ok;
}

typedef struct {
    uint32_t listed, named, held; /* `named`: under any identity */
} proof_t;

/* How much of what the record speaks of the destination has. */
static bool prove(tow_job_t *job, const bson_t *record, proof_t *out, tow_error_t *error)
{
    tow_conn_t *conn = tow_conn_open(job->sides.destination);
    tow_catalog_t there = {0};
    bool ok = tow_catalog_read(conn, NULL, &there, error);

    *out = (proof_t){0};
    if (ok)
        tow_end_record_count(record, &there, &out->listed, &out->named, &out->held);
    tow_catalog_clear(&there);
    tow_conn_close(conn);
    return ok;
}

/* Recording -------------------------------------------------------------------------------------*/

/* A summary that is too long for a document is cut down to what it comes to. */
static void append_summary(tow_job_t *job, bson_t *out)
{
    tow_json_t json = {0};
    char *brief;

    tow_json_begin(&json, NULL);
    tow_json_put_text(&json, "job", job->config.name);
    tow_json_put_text(&json, "state", "done");
    tow_json_end(&json);
    brief = tow_json_take(&json);
    pthread_mutex_lock(&job->control.lock);
    bson_append_utf8(
        out, "summary", -1,
        strlen(job->outcome.summary_json) <= SUMMARY_MOST ? job->outcome.summary_json : brief, -1);
    pthread_mutex_unlock(&job->control.lock);
    free(brief);
}

static bool mark_ended(tow_job_t *job, const bson_t *end, tow_error_t *error)
{
    bson_t fields = BSON_INITIALIZER;
    bool ok;

    bson_append_document(&fields, "ended", -1, end);
    ok = tow_store_set(job->journal.store, &fields, error);
    bson_destroy(&fields);
    return ok;
}

static bool write_record(tow_job_t *job, const bson_t *end, tow_error_t *error)
{
    char *source = tow_uri_address(job->config.source_uri), *text;
    bson_t record = BSON_INITIALIZER;
    bool ok;

    bson_append_utf8(&record, "job", -1, job->config.name, -1);
    bson_append_utf8(&record, "source", -1, source, -1);
    bson_append_utf8(&record, "destination", -1, job->config.destination_address, -1);
    bson_append_utf8(&record, "filter", -1, job->sides.filter_text, -1);
    bson_append_utf8(&record, "deployment", -1, tow_link_facts(job->sides.destination)->identity,
                     -1);
    if (job->sides.source)
        bson_append_utf8(&record, "sourceDeployment", -1,
                         tow_link_facts(job->sides.source)->identity, -1);
    bson_concat(&record, end);
    text = bson_as_relaxed_extended_json(&record, NULL);
    ok = write_file(job, text, error);
    bson_free(text);
    bson_destroy(&record);
    free(source);
    return ok;
}

bool tow_job_record_done(tow_job_t *job, bool *out_recorded, tow_error_t *error)
{
    bson_t end = BSON_INITIALIZER;
    tow_error_t problem;
    char at[32];
    bool ok;

    tow_wall_text(tow_wall_ms(), at);
    bson_append_utf8(&end, "endedAt", -1, at, -1);
    ok = append_collections(job, &end, error);
    append_summary(job, &end);
    ok = ok && mark_ended(job, &end, error);
    *out_recorded = ok && write_record(job, &end, &problem);
    if (ok && !*out_recorded)
        tow_emit(&job->sides.sink, TOW_LEVEL_WARNING, "end_not_recorded",
                 "%s: the job's state stays on the destination, marked as ended, so that the same "
                 "command "
                 "knows of it",
                 problem.message);
    bson_destroy(&end);
    return ok;
}

/* Believing -------------------------------------------------------------------------------------*/

static bson_t *read_record(const tow_job_t *job)
{
    char *path = path_of(job), *line = NULL;
    int descriptor = tow_file_open(path, O_RDONLY);
    FILE *file = descriptor >= 0 ? fdopen(descriptor, "r") : NULL;
    bson_t *record = NULL;
    size_t size = 0;

    if (file && getline(&line, &size, file) > 0)
        record = tow_end_record_parse(line);
    if (file)
        fclose(file);
    free(line);
    free(path);
    return record;
}

/* The earlier process's end is this one's; its summary says whose it is. */
static void believe(tow_job_t *job, const bson_t *record)
{
    const char *at = tow_end_record_text(record, "endedAt");
    char *summary = tow_end_record_summary(record);

    tow_emit(&job->sides.sink, TOW_LEVEL_INFO, "done_before",
             "done at %s by an earlier process, which ended before it said so", at);
    pthread_mutex_lock(&job->control.lock);
    job->outcome.told_before = true;
    snprintf(job->outcome.reason, sizeof job->outcome.reason, "done at %.32s by an earlier process",
             at);
    free(job->outcome.summary_json);
    job->outcome.summary_json = summary;
    pthread_mutex_unlock(&job->control.lock);
}

/* *out_done: all of what it speaks of is there. Nothing has its names: it is of another time.
 * Something has: it is in use, also where the application replaced it, and nobody but a person
 * knows what became of it. */
static bool judge(tow_job_t *job, const bson_t *record, const char *where, bool *out_done,
                  tow_error_t *error)
{
    proof_t proof;

    *out_done = false;
    if (!prove(job, record, &proof, error))
        return tow_fail_context(
            error,
            "%s says that the job was done at %s, and whether the destination is still "
            "as it was then cannot be found out",
            where, tow_end_record_text(record, "endedAt"));
    if (proof.named && proof.held < proof.listed)
        return tow_fail(error, TOW_ERROR_CONFLICT,
                        "the job was done at %s (%s), and of the %u collections that it made the "
                        "destination has %u, and %u under their names that were made since: they "
                        "are in use; to migrate once more, remove that record",
                        tow_end_record_text(record, "endedAt"), where, proof.listed, proof.held,
                        proof.named - proof.held);
    if (!proof.held) {
        tow_emit(&job->sides.sink, TOW_LEVEL_WARNING, "done_ignored",
                 "%s says that the job was done at %s, but the destination has nothing of what it "
                 "made: it begins "
                 "from the start",
                 where, tow_end_record_text(record, "endedAt"));
        return true;
    }
    believe(job, record);
    *out_done = true;
    return true;
}

/* The kill may have come before the state was removed. The source may be gone by now. */
static bool connect_both(tow_job_t *job, tow_error_t *error)
{
    tow_link_options_t options = {.side = "source",
                                  .max_connections = tow_config_connections(&job->config),
                                  .sink = job->sides.sink,
                                  .stop = job->sides.stop};
    tow_link_t *source, *destination;
    tow_error_t ignored;

    source = tow_link_new(job->config.source_uri, &options, &ignored);
    options.side = "destination";
    destination = tow_link_new(job->config.destination_uri, &options, error);
    pthread_mutex_lock(&job->control.lock);
    job->sides.source = source;
    job->sides.destination = destination;
    pthread_mutex_unlock(&job->control.lock);
    return destination != NULL;
}

static void disconnect(tow_job_t *job)
{
    tow_link_t *source, *destination;

    pthread_mutex_lock(&job->control.lock);
    source = job->sides.source;
    destination = job->sides.destination;
    job->sides.source = job->sides.destination = NULL;
    pthread_mutex_unlock(&job->control.lock);
    tow_link_destroy(source);
    tow_link_destroy(destination);
}

/* The destination is asked, and so is a source that is still there. */
static bool is_of_others(const tow_job_t *job, const bson_t *record)
{
    return tow_end_record_is_other(record, "deployment",
                                   tow_link_facts(job->sides.destination)->identity) ||
           (job->sides.source &&
            tow_end_record_is_other(record, "sourceDeployment",
                                    tow_link_facts(job->sides.source)->identity));
}

static bool judge_file(tow_job_t *job, const bson_t *record, bool *out_done, tow_error_t *error)
{
    char *path = path_of(job);
    bool ok = connect_both(job, error) ||
              tow_fail_context(
                  error, "%s says that the job was done at %s, and the destination cannot be asked",
                  path, tow_end_record_text(record, "endedAt"));

    if (ok && is_of_others(job, record))
        tow_emit(&job->sides.sink, TOW_LEVEL_WARNING, "done_ignored",
                 "%s is of other deployments, which had the same addresses", path);
    else if (ok)
        ok = judge(job, record, path, out_done, error);
    job->outcome.end_recorded = ok && *out_done;
    if (job->outcome.end_recorded && !tow_job_open_state(job, false))
        tow_emit(&job->sides.sink, TOW_LEVEL_WARNING, "state_kept",
                 "the job's database towline_%s could not be opened to be removed",
                 job->config.name);
    if (ok && !*out_done)
        unlink(path);
    if (!*out_done)
        disconnect(job); /* the validation connects, and says more */
    free(path);
    return ok;
}

bool tow_job_done_before(tow_job_t *job, bool *out_done, tow_error_t *error)
{
    bson_t *record = read_record(job);
    char *source = tow_uri_address(job->config.source_uri);
    bool ok = true;

    *out_done = false;
    if (record && !strcmp(tow_end_record_text(record, "source"), source) &&
        !strcmp(tow_end_record_text(record, "destination"), job->config.destination_address) &&
        !strcmp(tow_end_record_text(record, "filter"), job->sides.filter_text) &&
        *tow_end_record_text(record, "summary"))
        ok = judge_file(job, record, out_done, error);
    if (record)
        bson_destroy(record);
    free(source);
    return ok;
}

bool tow_job_ended_before(tow_job_t *job, bool *out_ended, bool *out_done, tow_error_t *error)
{
    bson_t document, end;
    char *where = tow_format("the job's state, towline_%s,", job->config.name);
    tow_error_t problem;
    bool ok = tow_store_get(job->journal.store, &document, error);

    *out_ended = *out_done = false;
    if (ok)
        *out_ended = tow_field_document(&document, "ended", &end);
    if (*out_ended)
        ok = judge(job, &end, where, out_done, error);
    if (*out_done)
        job->outcome.end_recorded = write_record(job, &end, &problem);
    bson_destroy(&document);
    free(where);
    return ok;
}

void tow_job_forget_done(tow_job_t *job)
{
    char *path = path_of(job);

    unlink(path);
    free(path);
}
