/* setup.c: validation, and what stands before the first phase of copying: a new job's preparation, or
 * a resumed one's restoration. */
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/job/internal.h"
#include "engine/check/same.h"
#include "engine/check/validate.h"

/* Validation ------------------------------------------------------------------------------------*/

static void tell_warnings(tow_job_t *job, const tow_findings_t *findings)
{
    for (size_t i = 0; i < findings->count; i++) {
        const tow_finding_t *finding = &findings->items[i];

        if (finding->result == TOW_FINDING_WARNING)
            tow_emit(&job->sides.sink, TOW_LEVEL_WARNING, finding->name, "%s%s%s", finding->facts,
                     *finding->advice ? "; " : "", finding->advice);
    }
}

bool tow_job_validate(tow_job_t *job, tow_error_t *error)
{
    tow_checked_t checked;
    bool ok;

    tow_checks_run(&job->sides, &job->config, true, &checked);
    ok = tow_findings_judge(&checked.findings, error);
    if (tow_stop_requested(job->sides.stop))
        ok = tow_fail(error, TOW_ERROR_INTERRUPTED,
                      "stopped during the validation, which writes nothing; run the same command "
                      "again to go on");
    if (ok) {
        tell_warnings(job, &checked.findings);
        tow_emit(&job->sides.sink, TOW_LEVEL_INFO, "connected",
                 "source %s, version %s; destination %s, version %s", tow_link_hosts(job->sides.source),
                 tow_link_facts(job->sides.source)->version, tow_link_hosts(job->sides.destination),
                 tow_link_facts(job->sides.destination)->version);
    }
    job->survey = checked.survey; /* the copy need not ask again */
    checked.survey = (tow_survey_t){0};
    job->in_the_way = checked.in_the_way; /* what is dropped has to be exactly that */
    checked.in_the_way = (tow_catalog_t){0};
    tow_checked_clear(&checked);
    return ok;
}

/* DDL handler -----------------------------------------------------------------------------------*/

static bool ddl_copying(void *data)
{
    return !tow_copy_finished(((tow_job_t *)data)->copy);
}

static bool ddl_create(void *data, tow_conn_t *destination, const tow_collection_info_t *info,
                       tow_error_t *error)
{
    return tow_copy_make(((tow_job_t *)data)->copy, destination, info, error);
}

static bool ddl_placeholder(void *data, tow_conn_t *destination, const char *database,
                            const char *name, tow_error_t *error)
{
    return tow_copy_make_placeholder(((tow_job_t *)data)->copy, destination, database, name, error);
}

static bool ddl_dropped(void *data, tow_conn_t *destination, const char *database, const char *name,
                        tow_error_t *error)
{
    return tow_copy_dropped(((tow_job_t *)data)->copy, destination, database, name, error);
}

static bool ddl_may_rename(void *data, tow_conn_t *destination, const tow_namespace_t *from,
                           const char *to_database, const char *to_name, bool *out_ours, tow_error_t *error)
{
    return tow_copy_may_rename(((tow_job_t *)data)->copy, destination, from->database, from->name,
                               to_database, to_name, out_ours, error);
}

static bool ddl_renamed(void *data, tow_conn_t *destination, const char *from_ns, const char *database,
                        const char *name, tow_error_t *error)
{
    return tow_copy_renamed(((tow_job_t *)data)->copy, destination, from_ns, database, name, error);
}

static bool ddl_copy_again(void *data, const char *database, const char *name, bool *out_found,
                           tow_error_t *error)
{
    tow_job_t *job = data;

    tow_emit(&job->sides.sink, TOW_LEVEL_INFO, "copy_again",
             "%s.%s changed its identity while it was copied: it is copied again", database, name);
    return tow_copy_again(job->copy, database, name, out_found, error);
}

static void ddl_alike(void *data, const char *database, const char *name)
{
    tow_copy_make_alike(((tow_job_t *)data)->copy, database, name);
}

static bool ddl_index_gone(void *data, const char *database, const char *name, const char *index,
                           tow_error_t *error)
{
    tow_job_t *job = data;

    /* Where none are built, one of that name is somebody else's. */
    return job->config.indexes == TOW_INDEXES_NONE ||
           tow_copy_index_gone(job->copy, database, name, index, error);
}

static bool ddl_hold(void *data, const char *database, const char *name, tow_error_t *error)
{
    return tow_copy_hold(((tow_job_t *)data)->copy, database, name, error);
}

static void ddl_release(void *data, const char *database, const char *name, bool again)
{
    tow_copy_release(((tow_job_t *)data)->copy, database, name, again);
}

static bool ddl_reconcile(void *data, const char *database, const char *name, tow_error_t *error)
{
    return tow_copy_reconcile(((tow_job_t *)data)->copy, database, name, TOW_RECONCILE_ALONG,
                              error);
}

static bool ddl_forget(void *data, const char *ns, tow_error_t *error)
{
    return tow_store_remove_collection(((tow_job_t *)data)->store, ns, error);
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
    tow_replay_await_lanes(((tow_job_t *)data)->replay);
}

/* Components ------------------------------------------------------------------------------------*/

static bool make_components(tow_job_t *job, const char *series, tow_error_t *error)
{
    tow_config_t *config = &job->config;
    tow_spool_t *spool = tow_spool_open(config->spool, config->name, series, error);
    tow_copy_options_t copy = {.source = job->sides.source,
                               .destination = job->sides.destination,
                               .store = job->store,
                               .claims = job->claims,
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
    tow_replay_options_t replay = {
        .source = job->sides.source,
        .destination = job->sides.destination,
        .filter = job->sides.filter,
        .spool = spool,
        .stop = job->sides.stop,
        .sink = job->sides.sink,
        .lanes = config->workers,
        .dirty_bytes = config->memory_bytes * 3 / 5,
        .retry_window_ms = config->retry_window_ms,
        .touched = tow_job_verifies_online(job) ? touched : NULL,
        .ddl = {job, ddl_copying, ddl_create, ddl_placeholder, ddl_copy_again, ddl_dropped, ddl_may_rename, ddl_renamed, ddl_alike,
                ddl_index_gone, ddl_hold, ddl_release, ddl_reconcile, ddl_forget, ddl_save}};

    if (!spool || !tow_claims_load(job->claims, error)) {
        tow_spool_close(spool);
        return false;
    }
    pthread_mutex_lock(&job->lock);
    job->track = replay.track_data = tow_track_new();
    job->spool = spool;
    job->namespaces = copy.namespaces = replay.namespaces = tow_namespaces_new();
    job->ledger = tail.ledger = replay.ledger =
        tow_ledger_new(job->sides.stop, config->memory_bytes / 5);
    job->copy = tow_copy_new(&copy);
    job->tail = tow_tail_new(&tail);
    job->replay = tow_replay_new(&replay);
    pthread_mutex_unlock(&job->lock);
    return true;
}

/* Frames of the spool that go on from the checkpoint without a gap. */
typedef struct {
    tow_job_t *job;
    bson_t token;       /* of the last frame taken, or of the checkpoint */
    tow_optime_t time;
    bool taken, broken;
} chain_t;

static bool take_frame(void *data, tow_spool_place_t place, const tow_spool_frame_t *frame,
                       tow_error_t *error)
{
    chain_t *chain = data;
    tow_block_t *block;
    tow_buffer_t records = {0};
    bson_t previous;
    tow_optime_t previous_time;
    bool goes_on;

    if (chain->broken || frame->time < chain->time)
        return true;
    if (!tow_spool_read(chain->job->spool, place, &records, error))
        return false;
    /* A frame goes on where its beginning is known to lie at or before what we have. */
    goes_on = tow_record_previous(&records, &previous, &previous_time) &&
              (previous_time < chain->time || bson_equal(&previous, &chain->token));
    tow_buffer_free(&records);
    if (!goes_on) {
        chain->broken = true;
        return true;
    }
    block = tow_alloc(sizeof *block);
    block->time = frame->time;
    block->events = frame->records;
    block->spooled = true;
    block->place = place;
    bson_copy_to(frame->token, &block->token);
    tow_ledger_append_spooled(chain->job->ledger, block);
    bson_destroy(&chain->token);
    bson_copy_to(frame->token, &chain->token);
    chain->time = frame->time;
    chain->taken = true;
    return true;
}

/* Position of the tail at a restart: behind the spool where it survived, else the checkpoint. */
static bool resume_tail(tow_job_t *job, const tow_checkpoint_t *checkpoint, tow_error_t *error)
{
    chain_t chain = {.job = job, .time = checkpoint->time};
    bson_t token;
    tow_optime_t time;
    bool ok;

    tow_ledger_begin(job->ledger, &checkpoint->token, checkpoint->time);
    bson_copy_to(&checkpoint->token, &chain.token);
    ok = tow_spool_each(job->spool, take_frame, &chain, error);
    if (ok && chain.taken)
        tow_emit(&job->sides.sink, TOW_LEVEL_INFO, "spool_found", "the spool of the run before is used");
    if (ok && chain.broken && !chain.taken)
        ok = tow_spool_clear(job->spool, error);
    if (ok)
        ok = tow_tail_open(job->tail, &chain.token, chain.time, &token, &time, error);
    if (ok)
        bson_destroy(&token);
    else if (tow_error_history_lost(error))
        ok = tow_tail_open_anew(job->tail, error);
    bson_destroy(&chain.token);
    return ok;
}

static bool begin_tail(tow_job_t *job, tow_error_t *error)
{
    tow_checkpoint_t start = {.ddl_token = BSON_INITIALIZER};
    bool ok;

    if (!tow_spool_clear(job->spool, error) ||
        !tow_tail_open(job->tail, NULL, 0, &start.token, &start.time, error))
        return false;
    tow_ledger_begin(job->ledger, &start.token, start.time);
    ok = tow_store_save_checkpoint(job->store, &start, error);
    pthread_mutex_lock(&job->lock);
    job->start_time = job->checkpoint_time = start.time;
    pthread_mutex_unlock(&job->lock);
    bson_destroy(&start.token);
    return ok;
}

static bool set_field(tow_job_t *job, const char *name, tow_optime_t time, tow_error_t *error)
{
    bson_t fields = BSON_INITIALIZER;
    bool ok;

    bson_append_timestamp(&fields, name, -1, (uint32_t)(time >> 32), (uint32_t)time);
    ok = tow_store_set(job->store, &fields, error);
    bson_destroy(&fields);
    return ok;
}

/* What the job's document tells at a restart. */
typedef struct {
    bool prepared, rollover, blocked, ttl_restored;
    tow_optime_t start;
    char series[64];
    uint32_t restarts;
} remembered_t;

static bool remember(tow_job_t *job, remembered_t *out, tow_error_t *error)
{
    bson_t document, fields = BSON_INITIALIZER;
    bson_iter_t iter;
    bool ok = tow_store_get(job->store, &document, error);

    *out = (remembered_t){0};
    if (ok && bson_iter_init(&iter, &document))
        while (bson_iter_next(&iter)) {
            const char *name = bson_iter_key(&iter);
            uint32_t seconds, increment;

            if (!strcmp(name, "prepared")) {
                out->prepared = bson_iter_as_bool(&iter);
            } else if (!strcmp(name, "series") && BSON_ITER_HOLDS_UTF8(&iter)) {
                snprintf(out->series, sizeof out->series, "%s", bson_iter_utf8(&iter, NULL));
            } else if (!strcmp(name, "restarts")) {
                out->restarts = (uint32_t)bson_iter_as_int64(&iter) + 1;
            } else if (!strcmp(name, "writesBlocked")) {
                out->blocked = bson_iter_as_bool(&iter);
            } else if (!strcmp(name, "ttlRestored")) {
                out->ttl_restored = bson_iter_as_bool(&iter);
            } else if (!strcmp(name, "rollover")) {
                out->rollover = bson_iter_as_bool(&iter);
            } else if (!strcmp(name, "startTime") && BSON_ITER_HOLDS_TIMESTAMP(&iter)) {
                bson_iter_timestamp(&iter, &seconds, &increment);
                out->start = TOW_OPTIME(seconds, increment);
            }
        }
    ok = ok && tow_job_restore_window(job, &document, error);
    bson_destroy(&document);
    if (!ok)
        return false;
    if (!out->series[0]) {
        bson_oid_t oid;

        bson_oid_init(&oid, NULL);
        bson_oid_to_string(&oid, out->series);
        bson_append_utf8(&fields, "series", -1, out->series, -1);
    }
    bson_append_int32(&fields, "restarts", -1, (int32_t)out->restarts);
    ok = tow_store_set(job->store, &fields, error);
    bson_destroy(&fields);
    return ok;
}

static bool prepare_new(tow_job_t *job, tow_error_t *error)
{
    bson_t fields = BSON_INITIALIZER;
    bool ok;

    ok = begin_tail(job, error) && set_field(job, "startTime", job->start_time, error) &&
         tow_copy_prepare(job->copy, tow_survey_size, &job->survey, error);
    tow_survey_clear(&job->survey);
    bson_append_bool(&fields, "prepared", -1, true);
    ok = ok && tow_store_set(job->store, &fields, error);
    bson_destroy(&fields);
    return ok && tow_replay_start(job->replay, 0, NULL, 0, error);
}

static bool prepare_resumed(tow_job_t *job, const tow_checkpoint_t *checkpoint,
                            const remembered_t *remembered, tow_error_t *error)
{
    tow_conn_t *source = tow_conn_open(job->sides.source, error);
    tow_optime_t now;
    bool ok = source && tow_link_barrier_time(source, &now, error);

    tow_conn_close(source);
    if (!ok)
        return false;
    tow_job_restore_ddl(job, &checkpoint->ddl_token, checkpoint->ddl_time);
    if (remembered->rollover)
        atomic_store(&job->rollover, TOW_ROLLOVER_OPENED);
    pthread_mutex_lock(&job->lock);
    job->start_time = remembered->start;
    job->checkpoint_time = checkpoint->time;
    job->restarts = remembered->restarts;
    pthread_mutex_unlock(&job->lock);
    tow_emit(&job->sides.sink, TOW_LEVEL_INFO, "resumed", "the job goes on from its checkpoint");
    return tow_copy_restore(job->copy, error) && tow_job_restore_track(job, error) &&
           resume_tail(job, checkpoint, error) &&
           tow_replay_start(job->replay, now, &checkpoint->ddl_token, checkpoint->ddl_time, error);
}

/* Before anything is cleared or written but the job's state. Destroys the store when it is false; where
 * both sides are one, a new job's state must not stay there. */
static bool prove_different(tow_job_t *job, tow_store_t *store, bool resumed, tow_error_t *error)
{
    tow_error_t ignored;

    if (tow_prove_different(job->sides.source, job->sides.destination, tow_store_database(store), error))
        return true;
    if (tow_stop_requested(job->sides.stop))
        tow_fail(error, TOW_ERROR_INTERRUPTED, "stopped while preparing; run the same command again to go on");
    if (resumed || !tow_store_drop(store, &ignored))
        resumed = !tow_store_release(store, &ignored);
    tow_store_destroy(store);
    return false;
}

static bool open_store(tow_job_t *job, bool *out_resumed, tow_error_t *error)
{
    tow_store_options_t options = tow_job_store_options(job);
    tow_store_t *store;

    options.wait = true;
    store = tow_store_open(&options, out_resumed, error);
    if (!store || !prove_different(job, store, *out_resumed, error))
        return false;
    pthread_mutex_lock(&job->lock);
    job->store = store;
    job->claims = tow_claims_new(store);
    job->before = *out_resumed ? TOW_BEFORE_BEGUN : TOW_BEFORE_NONE;
    pthread_mutex_unlock(&job->lock);
    return true;
}

/* What an earlier process ended is done, or, where nothing of it is left, begun from the start. */
static bool take_ended(tow_job_t *job, bool *resumed, bool *out_done, tow_error_t *error)
{
    tow_claims_t *claims;
    tow_store_t *store;
    bool ended, ok;

    job->begun = *resumed;
    if (!tow_job_ended_before(job, &ended, out_done, error))
        return false;
    if (!ended || *out_done)
        return true;
    ok = tow_store_drop(job->store, error);
    pthread_mutex_lock(&job->lock);
    store = job->store;
    claims = job->claims;
    job->store = NULL;
    job->claims = NULL;
    pthread_mutex_unlock(&job->lock);
    tow_claims_destroy(claims);
    tow_store_destroy(store);
    job->begun = false;
    return ok && open_store(job, resumed, error);
}

static bool start_threads(tow_job_t *job, tow_error_t *error)
{
    return tow_tail_start(job->tail, error) && tow_copy_start(job->copy, error) &&
           tow_job_start_monitor(job, error) && tow_job_start_pinger(job, error) &&
           tow_job_start_checkpointer(job, error) &&
           tow_job_start_verifier(job, error);
}

bool tow_job_prepare(tow_job_t *job, bool *out_done, tow_error_t *error)
{
    tow_checkpoint_t checkpoint;
    remembered_t remembered;
    bool resumed, found = false, ok;

    if (!open_store(job, &resumed, error) || !take_ended(job, &resumed, out_done, error))
        return false;
    if (*out_done)
        return true;
    if (!resumed && !tow_job_claim(job, error))
        return false;
    job->begun = true;
    if (!remember(job, &remembered, error))
        return false;
    job->ttl_restored = remembered.ttl_restored;
    if (remembered.blocked) {
        pthread_mutex_lock(&job->lock);
        job->writes_blocked = true;
        pthread_mutex_unlock(&job->lock);
        tow_job_unblock_writes(job);
    }
    if (!make_components(job, remembered.series, error) || !tow_job_reserve_done(job, error) ||
        !tow_store_load_checkpoint(job->store, &checkpoint, &found, error))
        return false;
    ok = found && remembered.prepared ? prepare_resumed(job, &checkpoint, &remembered, error)
                                      : prepare_new(job, error);
    tow_checkpoint_clear(&checkpoint);
    return ok && start_threads(job, error);
}

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
    tow_conn_t *remember_conn;
} parts_t;

/* From here on the job shows what it was last; the lock is held. */
static void detach(tow_job_t *job, parts_t *out)
{
    tow_job_collect(job, &job->last);
    if (job->namespaces)
        job->last_states = tow_namespaces_states(job->namespaces, &job->last_state_count);
    job->ended = true;
    *out = (parts_t){job->store,  job->claims, job->namespaces, job->copy,        job->spool,        job->ledger,
                     job->tail,   job->replay, job->track,      job->watch_token, job->remember_conn};
    job->store = NULL;
    job->claims = NULL;
    job->asking = false;
    job->namespaces = NULL;
    job->copy = NULL;
    job->spool = NULL;
    job->ledger = NULL;
    job->tail = NULL;
    job->replay = NULL;
    job->track = NULL;
    job->watch_token = NULL;
    job->remember_conn = NULL;
}

/* A request may be looking at the job: what is destroyed is out of its reach before. The threads
 * that end here do not ask the job for these parts any more. */
void tow_job_teardown(tow_job_t *job)
{
    parts_t parts;

    tow_thread_join(&job->monitor);
    tow_thread_join(&job->pinger);
    tow_thread_join(&job->checkpointer);
    tow_job_end_writers(job);
    if (job->tail)
        tow_tail_end(job->tail);
    tow_watch_destroy(
        atomic_exchange(&job->watch, NULL)); /* its thread asks the job for the track */
    pthread_mutex_lock(&job->lock);
    detach(job, &parts);
    pthread_mutex_unlock(&job->lock);
    tow_tail_destroy(parts.tail);
    tow_replay_destroy(parts.replay);
    tow_track_destroy(parts.track);
    tow_conn_close(parts.remember_conn);
    if (parts.watch_token)
        bson_destroy(parts.watch_token);
    tow_copy_destroy(parts.copy);
    tow_ledger_destroy(parts.ledger);
    tow_namespaces_destroy(parts.namespaces);
    tow_spool_close(parts.spool);
    tow_claims_destroy(parts.claims);
    tow_store_destroy(parts.store);
}
