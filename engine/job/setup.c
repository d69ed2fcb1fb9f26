/* setup.c: validation, and what stands before the first phase of copying: a new job's preparation, or
 * a resumed one's restoration. */
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/job/internal.h"

enum { LEASE_WAIT_MS = 20000, CONFLICTS_NAMED = 8 };

/* Validation ------------------------------------------------------------------------------------*/

static bool connect_side(tow_job_t *job, const char *uri, const char *side, tow_link_t **out,
                         tow_error_t *error)
{
    tow_link_options_t options = {.side = side,
                                  .retry_window_ms = job->config.retry_window_ms,
                                  .max_connections = job->config.workers * 4 + 32,
                                  .sink = job->sink,
                                  .stop = job->stop};
    tow_link_t *link = tow_link_new(uri, &options, error);

    pthread_mutex_lock(&job->lock);
    *out = link;
    pthread_mutex_unlock(&job->lock);
    return link != NULL;
}

/* Namespaces of the destination that the source would write into. */
static bool find_conflicts(tow_job_t *job, tow_catalog_t *source, tow_catalog_t *destination,
                           uint32_t *out_count, char *list, size_t size)
{
    size_t used = 0;

    *out_count = 0;
    list[0] = '\0';
    for (size_t i = 0; i < destination->count; i++) {
        const tow_collection_info_t *there = &destination->items[i];

        if (!tow_filter_takes(job->filter, there->database, there->name))
            continue;
        (*out_count)++;
        if (*out_count <= CONFLICTS_NAMED && used < size)
            used += (size_t)snprintf(list + used, size - used, "%s%s", used ? ", " : "", there->ns);
    }
    return *out_count > 0;
}

static bool drop_all(tow_job_t *job, tow_conn_t *conn, const tow_catalog_t *catalog,
                     tow_error_t *error)
{
    tow_send_options_t send = {.flags = TOW_SEND_WRITE | TOW_SEND_RETRY};

    /* Views first: a view's collection may go at any time, but not the other way round. */
    for (int views = 1; views >= 0; views--)
        for (size_t i = 0; i < catalog->count; i++) {
            const tow_collection_info_t *info = &catalog->items[i];
            bson_t command = BSON_INITIALIZER, reply;
            bool ok;

            if ((info->type == TOW_VIEW) != (views == 1) ||
                !tow_filter_takes(job->filter, info->database, info->name))
                continue;
            bson_append_utf8(&command, "drop", -1, info->name, -1);
            ok = tow_conn_command(conn, info->database, &command, &send, &reply, error) ||
                 error->server_code == 26;
            bson_destroy(&reply);
            bson_destroy(&command);
            if (!ok)
                return tow_fail_context(error, "drop %s", info->ns);
            tow_emit(&job->sink, TOW_LEVEL_INFO, "cleared", "dropped %s on the destination", info->ns);
        }
    return true;
}

/* Whether the destination holds this job's state already. */
static bool job_exists(tow_job_t *job, tow_conn_t *conn, bool *out, tow_error_t *error)
{
    bson_t command = BSON_INITIALIZER, reply;
    tow_send_options_t send = {.flags = TOW_SEND_RETRY};
    bson_iter_t iter, list, name;
    char *database = tow_format("towline_%s", job->config.name);
    bool ok;

    *out = false;
    bson_append_int32(&command, "listDatabases", -1, 1);
    bson_append_bool(&command, "nameOnly", -1, true);
    ok = tow_conn_command(conn, "admin", &command, &send, &reply, error);
    if (ok && bson_iter_init_find(&iter, &reply, "databases") && bson_iter_recurse(&iter, &list))
        while (bson_iter_next(&list))
            if (bson_iter_recurse(&list, &name) && bson_iter_find(&name, "name") &&
                BSON_ITER_HOLDS_UTF8(&name) && !strcmp(bson_iter_utf8(&name, NULL), database))
                *out = true;
    free(database);
    bson_destroy(&reply);
    bson_destroy(&command);
    return ok;
}

static bool check_destination(tow_job_t *job, tow_conn_t *source, tow_conn_t *destination,
                              tow_error_t *error)
{
    tow_catalog_t ours = {0}, theirs = {0};
    char list[700];
    uint32_t count, taken = 0;
    bool ok;

    ok = tow_catalog_read(source, NULL, &ours, error) &&
         tow_catalog_read(destination, NULL, &theirs, error);
    for (size_t i = 0; ok && i < ours.count; i++)
        taken += tow_filter_takes(job->filter, ours.items[i].database, ours.items[i].name);
    if (ok && !taken)
        tow_emit(&job->sink, TOW_LEVEL_WARNING, "nothing_to_copy",
                 "the source has no collection that the filter takes");
    if (ok && find_conflicts(job, &ours, &theirs, &count, list, sizeof list)) {
        if (job->config.clear_destination)
            ok = drop_all(job, destination, &theirs, error);
        else
            ok = tow_fail(error, TOW_ERROR_CONFLICT,
                          "the destination already has %u namespace%s that this job would write: "
                          "%s%s; drop %s, exclude %s with --exclude, or let --clear-destination "
                          "drop exactly those",
                          count, count == 1 ? "" : "s", list, count > CONFLICTS_NAMED ? ", …" : "",
                          count == 1 ? "it" : "them", count == 1 ? "it" : "them");
    }
    tow_catalog_clear(&ours);
    tow_catalog_clear(&theirs);
    return ok;
}

bool tow_job_validate(tow_job_t *job, tow_error_t *error)
{
    const tow_facts_t *source, *destination;
    tow_conn_t *source_conn = NULL, *destination_conn = NULL;
    bool exists, ok;

    if (!connect_side(job, job->config.source_uri, "source", &job->source, error) ||
        !connect_side(job, job->config.destination_uri, "destination", &job->destination, error))
        return false;
    source = tow_link_facts(job->source);
    destination = tow_link_facts(job->destination);
    if (source->standalone)
        return tow_fail(error, TOW_ERROR_UNSUITABLE,
                        "the source %s is a standalone server, which has no change stream; restart "
                        "it as a replica set of one member (--replSet, then rs.initiate())",
                        tow_link_hosts(job->source));
    if (source->major < 4 || (source->major == 4 && source->minor < 2))
        return tow_fail(error, TOW_ERROR_UNSUITABLE,
                        "the source runs version %s; 4.2 or newer is needed", source->version);
    if (!strcmp(source->identity, destination->identity))
        return tow_fail(error, TOW_ERROR_UNSUITABLE,
                        "source and destination are the same deployment (%s); give two different "
                        "ones",
                        tow_link_hosts(job->source));
    tow_emit(&job->sink, TOW_LEVEL_INFO, "connected", "source %s, version %s; destination %s, version %s",
             tow_link_hosts(job->source), source->version, tow_link_hosts(job->destination),
             destination->version);
    ok = (source_conn = tow_conn_open(job->source, error)) &&
         (destination_conn = tow_conn_open(job->destination, error)) &&
         job_exists(job, destination_conn, &exists, error) &&
         (exists || check_destination(job, source_conn, destination_conn, error));
    tow_conn_close(source_conn);
    tow_conn_close(destination_conn);
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
    return tow_copy_create(destination, info, error);
}

static bool ddl_copy_again(void *data, const char *database, const char *name, bool *out_found,
                           tow_error_t *error)
{
    tow_job_t *job = data;

    tow_emit(&job->sink, TOW_LEVEL_INFO, "copy_again",
             "%s.%s changed its identity while it was copied: it is copied again", database, name);
    return tow_copy_again(job->copy, database, name, out_found, error);
}

static void ddl_index(void *data, const char *database, const char *name,
                      const bson_t *specification)
{
    tow_copy_index_async(((tow_job_t *)data)->copy, database, name, specification);
}

static bool ddl_index_drop(void *data, const char *database, const char *name, const char *index,
                           tow_error_t *error)
{
    return tow_copy_index_drop(((tow_job_t *)data)->copy, database, name, index, error);
}

static bool ddl_reconcile(void *data, const char *database, const char *name, tow_error_t *error)
{
    return tow_copy_reconcile(((tow_job_t *)data)->copy, database, name, false, error);
}

static bool ddl_forget(void *data, const char *ns, tow_error_t *error)
{
    return tow_store_remove_collection(((tow_job_t *)data)->store, ns, error);
}

static bool ddl_save_time(void *data, tow_optime_t time, tow_error_t *error)
{
    return tow_job_save_ddl_time(data, time, error);
}

/* What the source writes is to be compared again. */
static void touched(void *data, const char *database, const char *collection, tow_value_t id)
{
    tow_track_touch(data, database, collection, id, TOW_TRACK_SOURCE);
}

/* Components ------------------------------------------------------------------------------------*/

static bool make_components(tow_job_t *job, const char *series, tow_error_t *error)
{
    tow_config_t *config = &job->config;
    tow_spool_t *spool = tow_spool_open(config->spool, config->name, series, error);
    tow_copy_options_t copy = {.source = job->source,
                               .destination = job->destination,
                               .store = job->store,
                               .filter = job->filter,
                               .stop = job->stop,
                               .sink = job->sink,
                               .workers = config->workers,
                               .index_workers = 2,
                               .range_bytes = config->range_bytes,
                               .index_errors_fail = config->index_errors_fail};
    tow_tail_options_t tail = {.source = job->source,
                               .filter = job->filter,
                               .spool = spool,
                               .stop = job->stop,
                               .sink = job->sink,
                               .retry_window_ms = config->retry_window_ms,
                               .lost = tow_job_lost,
                               .data = job};
    tow_replay_options_t replay = {
        .source = job->source,
        .destination = job->destination,
        .filter = job->filter,
        .spool = spool,
        .stop = job->stop,
        .sink = job->sink,
        .lanes = config->workers,
        .dirty_bytes = config->memory_bytes * 3 / 5,
        .retry_window_ms = config->retry_window_ms,
        .touched = touched,
        .ddl = {job, ddl_copying, ddl_create, ddl_copy_again, ddl_index, ddl_index_drop,
                ddl_reconcile, ddl_forget, ddl_save_time}};

    if (!spool)
        return false;
    pthread_mutex_lock(&job->lock);
    job->track = replay.track_data = tow_track_new();
    job->spool = spool;
    job->namespaces = copy.namespaces = replay.namespaces = tow_namespaces_new();
    job->ledger = tail.ledger = replay.ledger =
        tow_ledger_new(job->stop, config->memory_bytes / 5);
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
        tow_emit(&job->sink, TOW_LEVEL_INFO, "spool_found", "the spool of the run before is used");
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
    tow_checkpoint_t start = {0};
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
    bool prepared, rollover;
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
            } else if (!strcmp(name, "rollover")) {
                out->rollover = bson_iter_as_bool(&iter);
            } else if (!strcmp(name, "startTime") && BSON_ITER_HOLDS_TIMESTAMP(&iter)) {
                bson_iter_timestamp(&iter, &seconds, &increment);
                out->start = TOW_OPTIME(seconds, increment);
            }
        }
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
         tow_copy_prepare(job->copy, error);
    bson_append_bool(&fields, "prepared", -1, true);
    ok = ok && tow_store_set(job->store, &fields, error);
    bson_destroy(&fields);
    return ok && tow_replay_start(job->replay, 0, 0, error);
}

static bool prepare_resumed(tow_job_t *job, const tow_checkpoint_t *checkpoint,
                            const remembered_t *remembered, tow_error_t *error)
{
    tow_conn_t *source = tow_conn_open(job->source, error);
    tow_optime_t now;
    bool ok = source && tow_link_barrier_time(source, &now, error);

    tow_conn_close(source);
    if (!ok)
        return false;
    job->ddl_time = checkpoint->ddl_time;
    if (remembered->rollover)
        atomic_store(&job->rollover, TOW_ROLLOVER_OPENED);
    pthread_mutex_lock(&job->lock);
    job->start_time = remembered->start;
    job->checkpoint_time = checkpoint->time;
    job->restarts = remembered->restarts;
    pthread_mutex_unlock(&job->lock);
    tow_emit(&job->sink, TOW_LEVEL_INFO, "resumed", "the job goes on from its checkpoint");
    return tow_copy_restore(job->copy, error) && tow_job_restore_track(job, error) &&
           resume_tail(job, checkpoint, error) &&
           tow_replay_start(job->replay, now, checkpoint->ddl_time, error);
}

bool tow_job_prepare(tow_job_t *job, tow_error_t *error)
{
    tow_settings_t settings = {tow_link_facts(job->source)->identity,
                               tow_link_facts(job->destination)->identity, job->filter_text};
    tow_checkpoint_t checkpoint;
    remembered_t remembered;
    bool resumed, found = false, ok;
    tow_store_t *store = tow_store_open(job->destination, job->config.name, &settings,
                                        LEASE_WAIT_MS, &resumed, error);

    if (!store)
        return false;
    pthread_mutex_lock(&job->lock);
    job->store = store;
    pthread_mutex_unlock(&job->lock);
    if (!remember(job, &remembered, error) || !make_components(job, remembered.series, error) ||
        !tow_store_load_checkpoint(job->store, &checkpoint, &found, error))
        return false;
    ok = found && remembered.prepared ? prepare_resumed(job, &checkpoint, &remembered, error)
                                      : prepare_new(job, error);
    if (found)
        bson_destroy(&checkpoint.token);
    return ok && tow_tail_start(job->tail, error) && tow_copy_start(job->copy, error) &&
           tow_job_start_monitor(job, error) && tow_job_start_checkpointer(job, error) &&
           tow_job_start_verifier(job, error);
}

void tow_job_teardown(tow_job_t *job)
{
    if (job->monitor_started)
        pthread_join(job->monitor, NULL);
    if (job->checkpointer_started)
        pthread_join(job->checkpointer, NULL);
    job->monitor_started = job->checkpointer_started = false;
    tow_job_end_verifier(job);
    pthread_mutex_lock(&job->lock);
    tow_job_collect(job, &job->last);
    job->ended = true; /* from here on progress tells `last` */
    pthread_mutex_unlock(&job->lock);
    tow_watch_destroy(job->watch);
    tow_tail_destroy(job->tail);
    tow_replay_destroy(job->replay);
    tow_track_destroy(job->track);
    tow_conn_close(job->remember_conn);
    if (job->watch_token)
        bson_destroy(job->watch_token);
    job->watch_token = NULL;
    job->remember_conn = NULL;
    job->watch = NULL;
    job->track = NULL;
    tow_copy_destroy(job->copy);
    tow_ledger_destroy(job->ledger);
    tow_namespaces_destroy(job->namespaces);
    tow_spool_close(job->spool);
    tow_store_destroy(job->store);
    job->tail = NULL;
    job->replay = NULL;
    job->copy = NULL;
    job->ledger = NULL;
    job->namespaces = NULL;
    job->spool = NULL;
    job->store = NULL;
}
