/* SPDX-License-Identifier: Apache-2.0 */
/* setup.c: validation, and what stands before the first phase of copying: a new job's preparation,
 * or a resumed one's restoration. */
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/check/same.h"
#include "engine/check/validate.h"
#include "engine/job/internal.h"

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
    bool ok;

    tow_checks_run(&job->sides, &job->config, true, &job->checked);
    ok = tow_findings_judge(&job->checked.findings, error);
    if (tow_stop_requested(job->sides.stop))
        ok = tow_fail(error, TOW_ERROR_INTERRUPTED,
                      "stopped during the validation, which writes nothing; run the same command "
                      "again to go on");
    if (ok) {
        tell_warnings(job, &job->checked.findings);
        tow_emit(&job->sides.sink, TOW_LEVEL_INFO, "connected",
                 "source %s, version %s; destination %s, version %s",
                 tow_link_hosts(job->sides.source), tow_link_facts(job->sides.source)->version,
                 tow_link_hosts(job->sides.destination),
                 tow_link_facts(job->sides.destination)->version);
    }
    return ok;
}

/* Also after a process that was killed in here: nothing is copied before `prepared` is stored. */
static bool prepare_new(tow_job_t *job, tow_error_t *error)
{
    bool ok = tow_job_begin_stream(job, error) &&
              tow_journal_set_time(&job->journal, "startTime", job->journal.start_time, error) &&
              tow_copy_prepare(job->flow.copy, tow_survey_size, &job->checked.survey, error);

    tow_survey_clear(&job->checked.survey);
    return ok && tow_journal_set_flag(&job->journal, TOW_FLAG_PREPARED, true, error) &&
           tow_replay_start(job->flow.replay, 0, NULL, 0, error);
}

static bool prepare_resumed(tow_job_t *job, const tow_checkpoint_t *checkpoint,
                            const tow_remembered_t *remembered, tow_error_t *error)
{
    tow_conn_t *source = tow_conn_open(job->sides.source);
    tow_optime_t now;
    bool ok = tow_link_barrier_time(source, &now, error);

    tow_conn_close(source);
    if (!ok)
        return false;
    tow_job_restore_ddl(job, &checkpoint->ddl_token, checkpoint->ddl_time);
    if (remembered->flags[TOW_FLAG_ROLLOVER])
        atomic_store(&job->flow.rollover, TOW_ROLLOVER_OPENED);
    pthread_mutex_lock(&job->control.lock);
    job->journal.start_time = remembered->start;
    job->journal.checkpoint_time = checkpoint->time;
    job->journal.restarts = remembered->restarts;
    pthread_mutex_unlock(&job->control.lock);
    tow_emit(&job->sides.sink, TOW_LEVEL_INFO, "resumed", "the job goes on from its checkpoint");
    return tow_copy_restore(job->flow.copy, error) && tow_job_restore_track(job, error) &&
           tow_job_resume_stream(job, checkpoint, error) &&
           tow_replay_start(job->flow.replay, now, &checkpoint->ddl_token, checkpoint->ddl_time,
                            error);
}

/* A new job's state must not stay when it comes to nothing before it began. */
static void give_back(tow_store_t *store, bool resumed)
{
    tow_error_t ignored;

    if (resumed || !tow_store_drop(store, &ignored))
        resumed = !tow_store_release(store, &ignored);
    tow_store_destroy(store);
}

/* Before anything is cleared or written but the job's state. Destroys the store when it is false;
 * where both sides are one, a new job's state must not stay there. */
static bool prove_different(tow_job_t *job, tow_store_t *store, bool resumed, tow_error_t *error)
{
    if (tow_prove_different(job->sides.source, job->sides.destination, tow_store_database(store),
                            error))
        return true;
    if (tow_stop_requested(job->sides.stop))
        tow_fail(error, TOW_ERROR_INTERRUPTED,
                 "stopped while preparing; run the same command again to go on");
    give_back(store, resumed);
    return false;
}

/* Takes a repair's lease, which ends what that has under way, and removes its state; what may still
 * arrive is the job's to know. By a link of its own: that of the job is under the job's lease. */
static bool end_repair(tow_job_t *job, tow_store_t *store, tow_error_t *error)
{
    tow_link_options_t link = {.side = "destination",
                               .max_connections = 8,
                               .sink = job->sides.sink,
                               .stop = job->sides.stop};
    tow_store_options_t options = tow_job_store_options(job);
    tow_store_t *repair = NULL;
    bool resumed, ok;

    options.job = TOW_REPAIR_NAME;
    options.wait = true;
    options.destination = tow_link_new(job->config.destination_uri, &link, error);
    if (options.destination)
        repair = tow_store_open(&options, &resumed, error);
    ok = repair && tow_store_adopt_late(store, repair, error) && tow_store_drop(repair, error);
    tow_store_destroy(repair);
    tow_link_destroy(options.destination);
    return ok ||
           tow_fail_context(error, "end a repair of the destination (towline verify --repair)");
}

/* Under the job's lease; a repair looks for that once it has its own. Destroys the store when it is
 * false. */
static bool exclude_repair(tow_job_t *job, tow_store_t *store, bool resumed, tow_error_t *error)
{
    bool found;

    if (tow_store_find_repair(job->sides.destination, &found, error) &&
        (!found || end_repair(job, store, error)))
        return true;
    give_back(store, resumed);
    return false;
}

static bool open_store(tow_job_t *job, bool *out_resumed, tow_error_t *error)
{
    tow_store_options_t options = tow_job_store_options(job);
    tow_store_t *store;

    options.wait = true;
    store = tow_store_open(&options, out_resumed, error);
    if (!store || !prove_different(job, store, *out_resumed, error) ||
        !exclude_repair(job, store, *out_resumed, error))
        return false;
    pthread_mutex_lock(&job->control.lock);
    job->journal.store = store;
    job->journal.claims = tow_claims_new(store);
    job->journal.before = *out_resumed ? TOW_BEFORE_BEGUN : TOW_BEFORE_NONE;
    pthread_mutex_unlock(&job->control.lock);
    return true;
}

/* What an earlier process ended is done, or, where nothing of it is left, begun from the start. */
static bool take_ended(tow_job_t *job, bool *resumed, bool *out_done, tow_error_t *error)
{
    tow_claims_t *claims;
    tow_store_t *store;
    bool ended, ok;

    job->journal.begun = *resumed;
    if (!tow_job_ended_before(job, &ended, out_done, error))
        return false;
    if (!ended || *out_done)
        return true;
    ok = tow_store_drop(job->journal.store, error);
    pthread_mutex_lock(&job->control.lock);
    store = job->journal.store;
    claims = job->journal.claims;
    job->journal.store = NULL;
    job->journal.claims = NULL;
    pthread_mutex_unlock(&job->control.lock);
    tow_claims_destroy(claims);
    tow_store_destroy(store);
    job->journal.begun = false;
    return ok && open_store(job, resumed, error);
}

static bool start_threads(tow_job_t *job, tow_error_t *error)
{
    return tow_tail_start(job->flow.tail, error) && tow_copy_start(job->flow.copy, error) &&
           tow_job_start_monitor(job, error) && tow_job_start_pinger(job, error) &&
           tow_job_start_checkpointer(job, error) && tow_job_start_verifier(job, error);
}

bool tow_job_prepare(tow_job_t *job, bool *out_done, tow_error_t *error)
{
    tow_checkpoint_t checkpoint;
    tow_remembered_t remembered;
    bool resumed, found = false, ok;

    if (!open_store(job, &resumed, error) || !take_ended(job, &resumed, out_done, error))
        return false;
    if (*out_done)
        return true;
    if (!resumed && !tow_job_claim(job, error))
        return false;
    job->journal.begun = true;
    if (!tow_job_remember(job, &remembered, error))
        return false;
    job->journal.ttl_restored = remembered.flags[TOW_FLAG_TTL_RESTORED];
    pthread_mutex_lock(&job->control.lock);
    job->control.attempt = remembered.attempt;
    pthread_mutex_unlock(&job->control.lock);
    if (remembered.flags[TOW_FLAG_WRITES_BLOCKED]) {
        pthread_mutex_lock(&job->control.lock);
        job->journal.writes_blocked = true;
        pthread_mutex_unlock(&job->control.lock);
        tow_job_unblock_writes(job);
    }
    if (!tow_job_make_parts(job, remembered.series, error) || !tow_job_reserve_done(job, error) ||
        !tow_store_load_checkpoint(job->journal.store, &checkpoint, &found, error))
        return false;
    ok = found && remembered.flags[TOW_FLAG_PREPARED]
             ? prepare_resumed(job, &checkpoint, &remembered, error)
             : prepare_new(job, error);
    tow_checkpoint_clear(&checkpoint);
    return ok && start_threads(job, error);
}
