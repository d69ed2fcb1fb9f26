/* SPDX-License-Identifier: Apache-2.0 */
/* parts.c: makes the parts of a flow, joins them to each other, and takes them away at the end. */
#include <stdlib.h>

#include "engine/base/clock.h"
#include "engine/job/internal.h"

/* DDL handler -----------------------------------------------------------------------------------*/

static bool ddl_copying(void *data)
{
    return !tow_copy_finished(((tow_job_t *)data)->flow.copy);
}

static bool ddl_create(void *data, tow_conn_t *destination, const tow_collection_info_t *info,
                       tow_error_t *error)
{
    return tow_copy_make(((tow_job_t *)data)->flow.copy, destination, info, error);
}

static bool ddl_placeholder(void *data, tow_conn_t *destination, const char *database,
                            const char *name, tow_error_t *error)
{
    return tow_copy_make_placeholder(((tow_job_t *)data)->flow.copy, destination, database, name,
                                     error);
}

static bool ddl_dropped(void *data, tow_conn_t *destination, const char *database, const char *name,
                        tow_error_t *error)
{
    return tow_copy_dropped(((tow_job_t *)data)->flow.copy, destination, database, name, error);
}

static bool ddl_may_rename(void *data, tow_conn_t *destination, const tow_namespace_t *from,
                           const char *to_database, const char *to_name, bool *out_ours,
                           bool *out_replaces, tow_error_t *error)
{
    return tow_copy_may_rename(((tow_job_t *)data)->flow.copy, destination, from->database,
                               from->name, to_database, to_name, out_ours, out_replaces, error);
}

static bool ddl_renamed(void *data, tow_conn_t *destination, const char *from_ns,
                        const char *database, const char *name, tow_error_t *error)
{
    return tow_copy_renamed(((tow_job_t *)data)->flow.copy, destination, from_ns, database, name,
                            error);
}

static bool ddl_copy_again(void *data, const char *database, const char *name, bool *out_found,
                           tow_error_t *error)
{
    tow_job_t *job = data;

    tow_emit(&job->sides.sink, TOW_LEVEL_INFO, "copy_again",
             "%s.%s is copied again: its events do not say all that was done to it", database,
             name);
    return tow_copy_again(job->flow.copy, database, name, out_found, error);
}

static void ddl_alike(void *data, const char *database, const char *name)
{
    tow_copy_make_alike(((tow_job_t *)data)->flow.copy, database, name);
}

static bool ddl_index_gone(void *data, const char *database, const char *name, const char *index,
                           tow_error_t *error)
{
    tow_job_t *job = data;

    /* Where none are built, one of that name is somebody else's. */
    return job->config.indexes == TOW_INDEXES_NONE ||
           tow_copy_index_gone(job->flow.copy, database, name, index, error);
}

static bool ddl_hold(void *data, const char *database, const char *name, tow_error_t *error)
{
    return tow_copy_hold(((tow_job_t *)data)->flow.copy, database, name, error);
}

static void ddl_release(void *data, const char *database, const char *name, bool again)
{
    tow_copy_release(((tow_job_t *)data)->flow.copy, database, name, again);
}

static bool ddl_reconcile(void *data, const char *database, const char *name, tow_error_t *error)
{
    return tow_copy_reconcile(((tow_job_t *)data)->flow.copy, database, name, TOW_RECONCILE_ALONG,
                              error);
}

static bool ddl_forget(void *data, const char *ns, tow_error_t *error)
{
    return tow_store_remove_collection(((tow_job_t *)data)->journal.store, ns, error);
}

static bool ddl_save(void *data, const bson_t *token, tow_optime_t time, tow_error_t *error)
{
    return tow_job_save_ddl(data, token, time, error);
}

/* What the source writes is to be compared again. */
static void touched(void *data, const char *database, const char *collection, tow_value_t id)
{
    tow_track_touch(data, database, collection, id, TOW_TRACK_SOURCE);
}

static void await_lanes(void *data)
{
    tow_replay_await_lanes(((tow_job_t *)data)->flow.replay);
}

/* Making ----------------------------------------------------------------------------------------*/

static tow_replay_options_t replay_options(tow_job_t *job, tow_spool_t *spool)
{
    const tow_config_t *config = &job->config;

    return (tow_replay_options_t){.source = job->sides.source,
                                  .destination = job->sides.destination,
                                  .filter = job->sides.filter,
                                  .spool = spool,
                                  .stop = job->sides.stop,
                                  .sink = job->sides.sink,
                                  .lanes = config->workers,
                                  .dirty_bytes = config->memory_bytes * 3 / 5,
                                  .retry_window_ms = config->retry_window_ms,
                                  .touched = tow_job_verifies_online(job) ? touched : NULL,
                                  .ddl = {.data = job,
                                          .copying = ddl_copying,
                                          .create = ddl_create,
                                          .placeholder = ddl_placeholder,
                                          .copy_again = ddl_copy_again,
                                          .alike = ddl_alike,
                                          .dropped = ddl_dropped,
                                          .may_rename = ddl_may_rename,
                                          .renamed = ddl_renamed,
                                          .index_gone = ddl_index_gone,
                                          .hold = ddl_hold,
                                          .release = ddl_release,
                                          .reconcile = ddl_reconcile,
                                          .forget = ddl_forget,
                                          .save_ddl = ddl_save}};
}

bool tow_job_make_parts(tow_job_t *job, const char *series, tow_error_t *error)
{
    tow_config_t *config = &job->config;
    tow_spool_t *spool = tow_spool_open(config->spool, config->name, series, error);
    tow_copy_options_t copy = {.source = job->sides.source,
                               .destination = job->sides.destination,
                               .store = job->journal.store,
                               .claims = job->journal.claims,
                               .filter = job->sides.filter,
                               .stop = job->sides.stop,
                               .sink = job->sides.sink,
                               .workers = config->workers,
                               .index_workers = 2,
                               .range_bytes = config->range_bytes,
                               .await_lanes = await_lanes,
                               .data = job,
                               .index_errors_fail = config->index_errors_fail,
                               .indexes_first = config->indexes_first};
    tow_tail_options_t tail = {.source = job->sides.source,
                               .filter = job->sides.filter,
                               .spool = spool,
                               .stop = job->sides.stop,
                               .sink = job->sides.sink,
                               .retry_window_ms = config->retry_window_ms,
                               .lost = tow_job_lost,
                               .data = job};
    tow_replay_options_t replay = replay_options(job, spool);

    if (!spool || !tow_claims_load(job->journal.claims, error)) {
        tow_spool_close(spool);
        return false;
    }
    pthread_mutex_lock(&job->control.lock);
    job->comparer.track = replay.track_data = tow_track_new();
    job->flow.spool = spool;
    job->flow.namespaces = copy.namespaces = replay.namespaces = tow_namespaces_new();
    job->flow.ledger = tail.ledger = replay.ledger =
        tow_ledger_new(job->sides.stop, config->memory_bytes / 5);
    job->flow.copy = tow_copy_new(&copy);
    job->flow.tail = tow_tail_new(&tail);
    job->flow.replay = tow_replay_new(&replay);
    pthread_mutex_unlock(&job->control.lock);
    return true;
}

/* Taking away -----------------------------------------------------------------------------------*/

/* The job's parts, out of reach of everybody else. */
typedef struct {
    tow_store_t *store;
    tow_claims_t *claims;
    tow_namespaces_t *namespaces;
    tow_copy_t *copy;
    tow_spool_t *spool;
    tow_ledger_t *ledger;
    tow_tail_t *tail;
    tow_replay_t *replay;
    tow_track_t *track;
    bson_t *watch_token;
    tow_conn_t *conn;
} parts_t;

/* From here on the job shows what it was last; the lock is held. */
static void detach(tow_job_t *job, parts_t *out)
{
    tow_job_collect(job, &job->outcome.last);
    if (job->flow.namespaces)
        job->outcome.last_states =
            tow_namespaces_states(job->flow.namespaces, &job->outcome.last_state_count);
    job->outcome.ended = true;
    *out = (parts_t){.store = job->journal.store,
                     .claims = job->journal.claims,
                     .namespaces = job->flow.namespaces,
                     .copy = job->flow.copy,
                     .spool = job->flow.spool,
                     .ledger = job->flow.ledger,
                     .tail = job->flow.tail,
                     .replay = job->flow.replay,
                     .track = job->comparer.track,
                     .watch_token = job->comparer.watch_token,
                     .conn = job->comparer.conn};
    if (job->outcome.state_waits) /* told.c destroys it */
        out->store = NULL;
    else
        job->journal.store = NULL;
    job->journal.claims = NULL;
    job->flow.asking = false;
    job->flow.namespaces = NULL;
    job->flow.copy = NULL;
    job->flow.spool = NULL;
    job->flow.ledger = NULL;
    job->flow.tail = NULL;
    job->flow.replay = NULL;
    job->comparer.track = NULL;
    job->comparer.watch_token = NULL;
    job->comparer.conn = NULL;
}

/* A request may be looking at the job: what is destroyed is out of its reach before. The threads
 * that end here do not ask the job for these parts any more. */
void tow_job_teardown(tow_job_t *job)
{
    parts_t parts;

    tow_thread_join(&job->threads.monitor);
    tow_thread_join(&job->threads.pinger);
    tow_thread_join(&job->threads.checkpointer);
    tow_job_end_writers(job);
    if (job->flow.tail)
        tow_tail_end(job->flow.tail);
    tow_watch_destroy(
        atomic_exchange(&job->comparer.watch, NULL)); /* its thread asks the job for the track */
    pthread_mutex_lock(&job->control.lock);
    detach(job, &parts);
    pthread_mutex_unlock(&job->control.lock);
    tow_tail_destroy(parts.tail);
    tow_replay_destroy(parts.replay);
    tow_track_destroy(parts.track);
    tow_conn_close(parts.conn);
    if (parts.watch_token)
        bson_destroy(parts.watch_token);
    tow_questions_clear(&job->flow.questions);
    tow_copy_destroy(parts.copy);
    tow_ledger_destroy(parts.ledger);
    tow_namespaces_destroy(parts.namespaces);
    tow_spool_close(parts.spool);
    tow_claims_destroy(parts.claims);
    tow_store_destroy(parts.store);
}
