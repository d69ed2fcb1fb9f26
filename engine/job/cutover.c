/* SPDX-License-Identifier: Apache-2.0 */
/* cutover.c: the end of a job: replay to `stop`, restore what was held off, verify, sum up. */
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "engine/base/clock.h"
#include "engine/job/internal.h"

enum {
    ROUNDS = 3,    /* of finalizing, each of which late writes made incomplete */
    LATE_MS = 5000 /* how long after the first late write others may come */
};

static bool keep_report(tow_job_t *job, tow_verify_report_t *report, tow_error_t *error)
{
    uint64_t left = report->differences_total - report->repaired_total, repaired;
    const tow_difference_t *first = NULL;
    char message[160];

    tow_job_tell_differences(job, report);
    for (uint32_t i = 0; !first && i < report->difference_count; i++)
        if (!report->differences[i].repaired)
            first = &report->differences[i];
    pthread_mutex_lock(&job->control.lock);
    if (job->comparer.online)
        tow_verify_report_merge(report, job->comparer.online, job->config.max_differences);
    tow_verify_report_destroy(job->comparer.report);
    job->comparer.report = report;
    if (report->equal)
        job->comparer.verified_time = job->flow.stop_time;
    repaired = report->equal ? report->repaired_total : 0;
    pthread_mutex_unlock(&job->control.lock);
    if (repaired) {
        snprintf(message, sizeof message,
                 "the verification found %llu difference%s and repaired %s; the summary names them",
                 (unsigned long long)repaired, repaired == 1 ? "" : "s",
                 repaired == 1 ? "it" : "them");
        tow_job_notify(job, "different", "differences were repaired", message);
    }
    if (report->equal)
        return true;
    if (!left)
        return tow_fail(error, TOW_ERROR_VERIFY,
                        "%llu document%s changed at the source as often as compared; stop the "
                        "writes and run the same command again",
                        (unsigned long long)report->unsettled, report->unsettled == 1 ? "" : "s");
    if (first && first->kind == TOW_DIFFERENCE_DUPLICATE)
        return tow_fail(error, TOW_ERROR_VERIFY,
                        "%s has several documents of the _id %s, on different shards of one side; "
                        "the other can hold only one of them: give them different _ids, and run "
                        "the same command again",
                        first->ns, first->id);
    return tow_fail(
        error, TOW_ERROR_VERIFY,
        "verification found %llu difference%s, first in %s (see the summary); make sure "
        "that nothing else writes to the destination, and run the same command again",
        (unsigned long long)left, left == 1 ? "" : "s", first ? first->ns : "?");
}

/* Late writes -----------------------------------------------------------------------------------*/

/* Changes newer than that were read: the source was written to. */
static bool wrote_since(tow_job_t *job, tow_optime_t time)
{
    return tow_tail_event_time(job->flow.tail) > time;
}

static void tell_late(tow_job_t *job)
{
    bool told;

    pthread_mutex_lock(&job->control.lock);
    told = job->control.late_told;
    job->control.late_told = true;
    pthread_mutex_unlock(&job->control.lock);
    if (!told)
        tow_emit(
            &job->sides.sink, TOW_LEVEL_WARNING, "late_writes",
            "the source was written to after the cutover was confirmed: that is applied too, and "
            "may delay the end");
}

/* A write that was under way at the confirmation comes late; several over seconds are an
 * application that goes on. */
static bool writes_go_on(tow_job_t *job)
{
    return tow_tail_late_ms(job->flow.tail) >= LATE_MS;
}

static tow_finalized_t call_off(tow_job_t *job, tow_error_t *error)
{
    uint64_t late = tow_tail_late(job->flow.tail);

    tow_fail(error, TOW_ERROR_CALLED_OFF,
             "writes go on at the source: %llu since the confirmation; stop them and ask again "
             "(deletions by TTL indexes count too)",
             (unsigned long long)late);
    return TOW_FINALIZE_CALLED_OFF;
}

/* Drains until nothing was written behind `stop` meanwhile. */
static tow_finalized_t drain_quietly(tow_job_t *job, tow_error_t *error)
{
    while (tow_job_drain(job, error)) {
        if (!wrote_since(job, job->flow.stop_time))
            return TOW_FINALIZE_DONE;
        tell_late(job);
        if (writes_go_on(job))
            return call_off(job, error);
    }
    return TOW_FINALIZE_FAILED;
}

/* Finalizing ------------------------------------------------------------------------------------*/

bool tow_job_hold_off_ttl(tow_job_t *job, tow_error_t *error)
{
    if (!tow_copy_reconcile(job->flow.copy, NULL, NULL, TOW_RECONCILE_ALONG, error) ||
        !tow_journal_set_flag(&job->journal, TOW_FLAG_TTL_RESTORED, false, error))
        return false;
    job->journal.ttl_restored = false;
    return true;
}

/* Lets the destination expire documents, the last of all steps: what it does then no comparison
 * sees. A process that comes after a kill has to know. */
static bool restore_ttl(tow_job_t *job, tow_error_t *error)
{
    if (!tow_journal_set_flag(&job->journal, TOW_FLAG_TTL_RESTORED, true, error))
        return false;
    job->journal.ttl_restored = true;
    return tow_copy_restore_ttl(job->flow.copy, error);
}

/* While writes go on, documents that were read at different times may collide for a moment: a
 * unique index that is refused then is built again when these are settled. */
static tow_finalized_t reconcile_last(tow_job_t *job, tow_error_t *error)
{
    int64_t until_ms = tow_now_ms() + LATE_MS;

    while (!tow_copy_reconcile(job->flow.copy, NULL, NULL, TOW_RECONCILE_LAST, error)) {
        tow_finalized_t result;

        if (error->code != TOW_ERROR_INDEX || !wrote_since(job, job->flow.stop_time))
            return TOW_FINALIZE_FAILED;
        result = tow_now_ms() < until_ms ? drain_quietly(job, error) : call_off(job, error);
        if (result != TOW_FINALIZE_DONE)
            return result;
    }
    return TOW_FINALIZE_DONE;
}

/* Gives the destination the source's catalog, but for TTL. A collection that only a new copy makes
 * equal is copied first. */
static tow_finalized_t reconcile(tow_job_t *job, tow_error_t *error)
{
    tow_finalized_t result = tow_job_check_gaps(job, error);

    if (result == TOW_FINALIZE_DONE)
        result = reconcile_last(job, error);
    if (result != TOW_FINALIZE_DONE)
        return result;
    if (!tow_copy_finished(job->flow.copy)) {
        if (!tow_job_await_copy(job, true, error))
            return TOW_FINALIZE_FAILED;
        result = drain_quietly(job, error);
        if (result == TOW_FINALIZE_DONE)
            result = reconcile_last(job, error);
        if (result != TOW_FINALIZE_DONE)
            return result;
    }
    return tow_job_await_copy(job, false, error) ? TOW_FINALIZE_DONE : TOW_FINALIZE_FAILED;
}

/* What no stream has the events of (system.js) is copied again once the writes have stopped. */
static bool copy_unstreamed(tow_job_t *job, tow_error_t *error)
{
    uint32_t count;
    tow_namespace_t **list = tow_namespaces_list(job->flow.namespaces, &count);
    bool found, any = false, ok = true;

    for (uint32_t i = 0; ok && i < count; i++)
        if (!tow_collection_is_streamed(list[i]->name)) {
            ok = tow_copy_again(job->flow.copy, list[i]->database, list[i]->name, &found, error);
            any = true;
        }
    free(list);
    return ok && (!any || tow_job_await_copy(job, true, error));
}

/* What the job copied and still knows: the comparison must not rest on the two catalogs alone. */
static const char **list_copied(tow_job_t *job, size_t *out_count)
{
    uint32_t count;
    tow_namespace_t **list = tow_namespaces_list(job->flow.namespaces, &count);
    const char **names = tow_alloc((count + 1) * sizeof *names);

    *out_count = 0;
    for (uint32_t i = 0; i < count; i++)
        if (list[i]->type == TOW_COLLECTION && tow_claims_has(job->journal.claims, list[i]->ns))
            names[(*out_count)++] = list[i]->ns;
    free(list);
    return names;
}

/* A tow_pace_fn: as fast as it goes, until the cutover is called off. */
static bool go_on(void *data, uint64_t bytes TOW_UNUSED)
{
    return !tow_job_interrupted(data) && !writes_go_on(data);
}

/* `filter`: what is compared where the job compares nothing by itself; NULL: everything. */
static bool verify(tow_job_t *job, const tow_filter_t *filter, tow_verify_report_t **out,
                   tow_error_t *error)
{
    tow_verify_options_t options;
    const char **copied;
    size_t count = 0;
    bool ok;

    tow_comparer_begin(&job->comparer);
    tow_job_begin_effort(job, TOW_EFFORT_VERIFY);
    tow_job_verify_options(job, filter ? NULL : tow_job_watched_track(job), &options);
    if (filter)
        options.filter = filter;
    options.expected = copied = filter ? NULL : list_copied(job, &count);
    options.expected_count = count;
    options.pace = go_on;
    ok = tow_verify_run(&options, out, error);
    free(copied);
    if (!ok && tow_job_interrupted(job))
        return tow_job_stopped(job, error);
    if (!ok && writes_go_on(job)) {
        call_off(job, error);
        return false;
    }
    return ok || tow_fail_context(error, "verify");
}

static bool verify_wanted(tow_job_t *job, tow_verify_report_t **out, tow_error_t *error)
{
    tow_filter_t *late;
    bool ok, all;

    if (job->config.verify)
        return verify(job, NULL, out, error);
    if (!tow_job_find_late(job, &late, &all, error))
        return false;
    ok = (!late && !all) || verify(job, late, out, error);
    tow_filter_destroy(late);
    return ok;
}

static bool look_for_unseen(tow_job_t *job, tow_error_t *error)
{
    tow_conn_t *source = tow_conn_open(job->sides.source);
    bool ok = true, all = false;

    while (ok && !all)
        ok = tow_job_look_for_unseen(job, source, true, job->flow.stop_time, &all, error);
    tow_conn_close(source);
    return ok || tow_fail_context(error, "look at the source's oplog");
}

/* One round: everything up to `stop` is on the destination and compared. *out_late: and more was,
 * or may have been, written meanwhile, which the report then says nothing about. */
static tow_finalized_t finalize_once(tow_job_t *job, tow_verify_report_t **out_report,
                                     bool *out_late, tow_error_t *error)
{
    tow_optime_t stop;
    tow_finalized_t result;

    tow_job_begin_effort(job, TOW_EFFORT_EVENTS);
    result = drain_quietly(job, error);
    stop = job->flow.stop_time;
    if (result == TOW_FINALIZE_DONE && !look_for_unseen(job, error))
        result = TOW_FINALIZE_FAILED;
    /* The floor of a new stream says nothing of what was lost with the one before. */
    if (result == TOW_FINALIZE_DONE && atomic_load(&job->flow.rollover) &&
        !tow_job_resync(job, error))
        result = TOW_FINALIZE_FAILED;
    if (result == TOW_FINALIZE_DONE &&
        (!tow_replay_trim_logs(job->flow.replay, error) || !copy_unstreamed(job, error)))
        result = TOW_FINALIZE_FAILED;
    if (result == TOW_FINALIZE_DONE) {
        tow_job_begin_effort(job, TOW_EFFORT_INDEXES);
        result = reconcile(job, error);
    }
    if (result != TOW_FINALIZE_DONE)
        return result;
    /* The last look at the source comes behind the verification, which may take hours. */
    if (!verify_wanted(job, out_report, error) || !tow_job_drain(job, error))
        return TOW_FINALIZE_FAILED;
    *out_late = wrote_since(job, stop) || atomic_load(&job->flow.rollover);
    return TOW_FINALIZE_DONE;
}

/* What a round repaired stands in the summary too, though the next round has the verdict. Takes the
 * report, which may be NULL. */
static void keep_repaired(tow_job_t *job, tow_verify_report_t *report)
{
    if (!report || !report->repaired_total) {
        tow_verify_report_destroy(report);
        return;
    }
    tow_job_tell_differences(job, report);
    pthread_mutex_lock(&job->control.lock);
    if (job->comparer.online) {
        tow_verify_report_merge(job->comparer.online, report, job->config.max_differences);
        tow_verify_report_destroy(report);
    } else {
        job->comparer.online = report;
    }
    pthread_mutex_unlock(&job->control.lock);
}

/* Behind this the destination changes what the source does not, and the job ends. Decided under the
 * lock: who calls the cutover off comes before it, or is refused. */
static bool pass_no_return(tow_job_t *job, tow_error_t *error)
{
    pthread_mutex_lock(&job->control.lock);
    job->control.committed = job->control.cutover_wished;
    pthread_mutex_unlock(&job->control.lock);
    return job->control.committed || tow_job_stopped(job, error);
}

static tow_finalized_t finalize(tow_job_t *job, tow_error_t *error)
{
    for (int round = 0; round < ROUNDS; round++) {
        tow_verify_report_t *report = NULL;
        bool late = false;
        tow_finalized_t result = finalize_once(job, &report, &late, error);

        if (result == TOW_FINALIZE_DONE && tow_tail_late(job->flow.tail))
            tell_late(job);
        if (result == TOW_FINALIZE_DONE && !late && !pass_no_return(job, error))
            result = TOW_FINALIZE_FAILED;
        if (result == TOW_FINALIZE_DONE && !late)
            return (!report || keep_report(job, report, error)) && restore_ttl(job, error)
                       ? TOW_FINALIZE_DONE
                       : TOW_FINALIZE_FAILED;
        if (result != TOW_FINALIZE_DONE) {
            tow_verify_report_destroy(report);
            return result;
        }
        keep_repaired(job, report);
    }
    return call_off(job, error);
}

/* The destination refuses most of the cutover's steps beside a build, and nothing is gained by
 * waiting for it later. */
static bool await_builds(tow_job_t *job, tow_error_t *error)
{
    tow_copy_end_look(job->flow.copy);
    if (tow_copy_indexes_idle(job->flow.copy))
        return true;
    tow_emit(&job->sides.sink, TOW_LEVEL_INFO, "cutover_waits",
             "the cutover begins when the destination has built the indexes that are under way");
    tow_job_begin_effort(job, TOW_EFFORT_INDEXES);
    return tow_job_await_copy(job, false, error);
}

/* The count of late writes begins with a time of the source after the confirmation, and after the
 * block where one is asked for. */
static tow_finalized_t begin_cutover(tow_job_t *job, tow_error_t *error)
{
    tow_optime_t confirmed;
    bool blocks;

    if (!tow_job_await_answers(job, error))
        return TOW_FINALIZE_CALLED_OFF;
    if (!await_builds(job, error))
        return TOW_FINALIZE_FAILED;
    pthread_mutex_lock(&job->control.lock);
    if (!job->control.confirmed_ms) {
        job->control.confirmed_ms = tow_now_ms();
        job->control.confirmed_wall_ms = tow_wall_ms();
    }
    job->control.step = TOW_CUTOVER_FINALIZING;
    job->control.late_writes = 0;
    job->control.late_told = false;
    blocks = job->control.block_wished || job->config.block_writes;
    pthread_mutex_unlock(&job->control.lock);
    tow_job_end_verifier(job);
    if (tow_job_interrupted(job)) {
        tow_job_stopped(job, error);
        return TOW_FINALIZE_FAILED;
    }
    /* Whoever asked for it can stop the writes otherwise. */
    if (blocks && !tow_job_block_writes(job, error))
        return job->config.manual && error->code != TOW_ERROR_LEASE ? TOW_FINALIZE_CALLED_OFF
                                                                    : TOW_FINALIZE_FAILED;
    if (!tow_job_source_time(job, &confirmed, error))
        return TOW_FINALIZE_FAILED;
    tow_tail_count_late(job->flow.tail, confirmed);
    return TOW_FINALIZE_DONE;
}

/* There is no cutover any more, but the memory of it; the lock is held. */
static void forget(tow_job_t *job, const char *reason)
{
    job->control.attempt = (tow_attempt_t){.called_off_ms = tow_wall_ms(),
                                           .confirmed_ms = job->control.confirmed_wall_ms,
                                           .late_writes = job->control.late_writes};
    snprintf(job->control.attempt.reason, sizeof job->control.attempt.reason, "%s", reason);
    job->control.step = TOW_CUTOVER_NONE;
    job->control.block_wished = false;
    job->control.confirmed_ms = job->control.confirmed_wall_ms = 0;
    job->control.called_off++;
}

/* A process that comes later shows it as well. Where that cannot be stored, it does not. */
static void store_attempt(tow_job_t *job)
{
    tow_attempt_t attempt;
    tow_error_t ignored;

    pthread_mutex_lock(&job->control.lock);
    attempt = job->control.attempt;
    pthread_mutex_unlock(&job->control.lock);
    if (job->journal.store && !tow_journal_set_attempt(&job->journal, &attempt, &ignored))
        tow_emit(&job->sides.sink, TOW_LEVEL_DEBUG, "checkpoint_failed", "%s", ignored.message);
}

/* Back to where the job was before the cutover: TTL held off, the source writable, comparing. */
static bool resume_sync(tow_job_t *job, const tow_error_t *reason, tow_error_t *error)
{
    tow_emit(&job->sides.sink, TOW_LEVEL_WARNING, "cutover_called_off",
             "the cutover is called off: %s", reason->message);
    tow_job_unblock_writes(job);
    if (job->journal.ttl_restored && !tow_job_hold_off_ttl(job, error))
        return false;
    pthread_mutex_lock(&job->control.lock);
    job->control.late_writes = tow_tail_late(job->flow.tail);
    tow_tail_count_late(job->flow.tail, UINT64_MAX); /* none, until the next confirmation */
    forget(job, reason->message);
    atomic_store(&job->comparer.quit, false);
    job->control.cutover_wished = false;
    job->flow.stop_time = 0;
    pthread_mutex_unlock(&job->control.lock);
    store_attempt(job);
    tow_job_move(job, TOW_PHASE_CATCHING_UP);
    tow_job_notify(job, "cutover_called_off", "the cutover was called off", reason->message);
    return tow_job_start_verifier(job, error);
}

void tow_job_forget_cutover(tow_job_t *job)
{
    static const char reason[] = "it was asked for before the cutover began";

    pthread_mutex_lock(&job->control.lock);
    forget(job, reason);
    pthread_mutex_unlock(&job->control.lock);
    store_attempt(job);
    tow_emit(&job->sides.sink, TOW_LEVEL_WARNING, "cutover_called_off",
             "the cutover is called off: %s", reason);
    tow_job_notify(job, "cutover_called_off", "the cutover was called off", reason);
}

tow_finalized_t tow_job_finalize(tow_job_t *job, tow_error_t *error)
{
    tow_finalized_t result = begin_cutover(job, error);
    tow_error_t reason;

    if (result == TOW_FINALIZE_DONE)
        result = finalize(job, error);
    if (result == TOW_FINALIZE_FAILED && error->code == TOW_ERROR_CALLED_OFF)
        result = TOW_FINALIZE_CALLED_OFF;
    if (result != TOW_FINALIZE_CALLED_OFF)
        return result;
    if (tow_stop_requested(job->sides.stop)) {
        tow_job_stopped(job, error);
        return TOW_FINALIZE_FAILED;
    }
    reason = *error;
    return resume_sync(job, &reason, error) ? TOW_FINALIZE_CALLED_OFF : TOW_FINALIZE_FAILED;
}
