/* done.c: the record of a good end: SPOOL/towline-JOB.done, a line of JSON
 * {job, source, destination, filter, summary}, the addresses without credentials.
 *
 * It stands from before the job's state is removed until the end was told. A process that is killed in
 * between leaves it, and the same command ends well by it instead of finding its own collections in the
 * way, also with --clear-destination, which would drop them. It lies on this machine and not on the
 * destination, where no trace of the migration is to stay: asked from another machine, or with another
 * --spool, the same command finds a conflict. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/file.h"
#include "engine/job/internal.h"

static char *path_of(const tow_job_t *job)
{
    return tow_format("%s/towline-%s.done", job->config.spool, job->config.name);
}

static bool write_file(const tow_job_t *job, const char *text, tow_error_t *error)
{
    char *path = path_of(job);
    bool ok = tow_file_replace(path, text, strlen(text));

    if (!ok)
        tow_fail_errno(error, TOW_ERROR_SPOOL, "%s cannot be written", path);
    free(path);
    return ok;
}

void tow_job_record_done(tow_job_t *job)
{
    char *source = tow_uri_address(job->config.source_uri), *text;
    bson_t record = BSON_INITIALIZER;
    tow_error_t error;

    bson_append_utf8(&record, "job", -1, job->config.name, -1);
    bson_append_utf8(&record, "source", -1, source, -1);
    bson_append_utf8(&record, "destination", -1, job->config.destination_address, -1);
    bson_append_utf8(&record, "filter", -1, job->filter_text, -1);
    pthread_mutex_lock(&job->lock);
    bson_append_utf8(&record, "summary", -1, job->summary_json, -1);
    pthread_mutex_unlock(&job->lock);
    text = bson_as_relaxed_extended_json(&record, NULL);
    if (!write_file(job, text, &error))
        tow_emit(&job->sink, TOW_LEVEL_WARNING, "end_not_recorded",
                 "%s: killed from here on, the job could not tell that it is done", error.message);
    bson_free(text);
    bson_destroy(&record);
    free(source);
}

static bson_t *read_record(const tow_job_t *job)
{
    char *path = path_of(job), *line = NULL;
    int opened = tow_file_open(path, O_RDONLY);
    FILE *file = opened >= 0 ? fdopen(opened, "r") : NULL;
    bson_t *record = NULL;
    size_t size = 0;

    if (file && getline(&line, &size, file) > 0)
        record = bson_new_from_json((const uint8_t *)line, -1, NULL);
    if (file)
        fclose(file);
    free(line);
    free(path);
    return record;
}

static const char *text_of(const bson_t *record, const char *name)
{
    bson_iter_t iter;

    return bson_iter_init_find(&iter, record, name) && BSON_ITER_HOLDS_UTF8(&iter)
               ? bson_iter_utf8(&iter, NULL)
               : "";
}

/* The kill may have come before the state was removed. What cannot be reached, perhaps since its user was
 * removed, is let be. */
static void find_state(tow_job_t *job)
{
    tow_link_options_t options = {.side = "source",
                                  .max_connections = tow_job_connections(job),
                                  .sink = job->sink,
                                  .stop = job->stop};
    tow_link_t *source, *destination;
    tow_error_t ignored;

    source = tow_link_new(job->config.source_uri, &options, &ignored);
    options.side = "destination";
    destination = tow_link_new(job->config.destination_uri, &options, &ignored);
    pthread_mutex_lock(&job->lock);
    job->source = source;
    job->destination = destination;
    pthread_mutex_unlock(&job->lock);
    if (!tow_job_open_state(job, false))
        tow_emit(&job->sink, TOW_LEVEL_WARNING, "state_kept",
                 "the job's database towline_%s could not be opened to be removed",
                 job->config.name);
}

bool tow_job_done_before(tow_job_t *job)
{
    bson_t *record = read_record(job);
    char *source = tow_uri_address(job->config.source_uri);
    bool same = record && !strcmp(text_of(record, "source"), source) &&
                !strcmp(text_of(record, "destination"), job->config.destination_address) &&
                !strcmp(text_of(record, "filter"), job->filter_text) && *text_of(record, "summary");

    if (same) {
        tow_emit(&job->sink, TOW_LEVEL_INFO, "done_before",
                 "an earlier process did all of it, and was killed before it said so");
        find_state(job);
        pthread_mutex_lock(&job->lock);
        job->told_before = true;
        job->summary_json = tow_strdup(text_of(record, "summary"));
        pthread_mutex_unlock(&job->lock);
    }
    if (record)
        bson_destroy(record);
    free(source);
    return same;
}

void tow_job_told(tow_job_t *job)
{
    char *path = path_of(job);
    bool done;

    pthread_mutex_lock(&job->lock);
    done = job->stopped && job->ok;
    pthread_mutex_unlock(&job->lock);
    if (done)
        unlink(path);
    free(path);
}
