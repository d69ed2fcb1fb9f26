/* SPDX-License-Identifier: Apache-2.0 */
/* progress.c: a snapshot of the job from all its components. */
#include <string.h>

#include "engine/base/clock.h"
#include "engine/job/internal.h"
#include "engine/job/next.h"

enum { COMMIT_LAG_MS = 30000 };

bool tow_job_can_commit(tow_job_t *job, char reason[REASON_SIZE])
{
    reason[0] = '\0';
    if (tow_job_tell_silence(job, reason, REASON_SIZE))
        return false;
    if (atomic_load(&job->flow.rollover))
        snprintf(reason, REASON_SIZE,
                 "the source's oplog rolled over: both sides are compared by ranges and repaired");
    else if (job->control.phase != TOW_PHASE_IN_SYNC)
        snprintf(reason, REASON_SIZE, "the job is %s, not in sync",
                 tow_phase_name(job->control.phase));
    else if (!atomic_load(&job->flow.synced_once))
        snprintf(reason, REASON_SIZE, "unique indexes are not built yet");
    else if (job->flow.lag_ms < 0 || job->flow.lag_ms > COMMIT_LAG_MS)
        snprintf(reason, REASON_SIZE, "the lag is %.1f s, at most %d s is accepted",
                 (double)job->flow.lag_ms / 1000, COMMIT_LAG_MS / 1000);
    return !reason[0];
}

/* How long finalizing still takes, by what this cutover has measured so far
 * ----------------------*/

double tow_effort_seconds(uint64_t left, uint64_t done, double seconds)
{
    if (!left)
        return 0;
    return done && seconds > 0 ? (double)left * seconds / (double)done : -1;
}

static uint64_t settled(const tow_progress_t *progress)
{
    return progress->events_seen > progress->backlog_events
               ? progress->events_seen - progress->backlog_events
               : 0;
}

/* What the verification has left to read; before it begins that is known only where nothing is. */
static double verify_seconds(const tow_job_t *job, const tow_progress_t *progress, double seconds)
{
    tow_track_totals_t totals = {.open = 1};
    uint64_t done = progress->verified_documents, total = progress->verify_total_documents;

    if (!job->config.verify)
        return 0;
    if (job->control.effort.kind == TOW_EFFORT_VERIFY)
        return total ? tow_effort_seconds(total > done ? total - done : 0, done, seconds) : -1;
    if (job->comparer.watch)
        tow_track_totals(job->comparer.track, &totals);
    return totals.open || totals.keys ? -1 : 0;
}

double tow_job_finalize_seconds(const tow_job_t *job, const tow_progress_t *progress)
{
    double seconds = (double)(tow_now_ms() - job->control.effort.since_ms) / 1000;
    double events = tow_effort_seconds(progress->backlog_events,
                                       settled(progress) - job->control.effort.settled, seconds);
    double indexes =
        progress->indexes_total > progress->indexes_built
            ? tow_effort_seconds(progress->indexes_total - progress->indexes_built,
                                 progress->indexes_built - job->control.effort.indexes, seconds)
            : 0;
    double verification = verify_seconds(job, progress, seconds);

    return events < 0 || indexes < 0 || verification < 0 ? -1 : events + indexes + verification;
}

/* The snapshot ----------------------------------------------------------------------------------*/

static void collect_components(tow_job_t *job, tow_progress_t *out)
{
    tow_copy_progress_t copy;
    tow_replay_progress_t replay;

    tow_namespaces_progress(job->flow.namespaces, out);
    tow_copy_progress(job->flow.copy, &copy);
    out->copied_documents = copy.documents;
    out->copied_bytes = copy.bytes;
    if (out->estimated_documents < copy.documents)
        out->estimated_documents = copy.documents;
    if (out->estimated_bytes < copy.bytes)
        out->estimated_bytes = copy.bytes;
    out->indexes_total = copy.indexes;
    out->indexes_built = copy.indexes_built;
    tow_replay_progress(job->flow.replay, &replay);
    out->events_seen = tow_tail_events(job->flow.tail);
    out->events_skipped = replay.skipped;
    out->events_applied = replay.applied;
    out->keys_dirty = replay.dirty_keys;
    out->keys_refetched = replay.refetched;
    out->statements_applied = replay.statements;
    out->dirty_bytes = replay.dirty_bytes;
    out->spool_bytes = tow_spool_bytes(job->flow.spool);
    out->backlog_events = tow_ledger_backlog(job->flow.ledger);
    out->direct_mode = tow_tail_direct(job->flow.tail);
    out->read = tow_optime_split(tow_tail_read_time(job->flow.tail));
    out->spooled = tow_optime_split(tow_tail_spooled_time(job->flow.tail));
    out->floor = tow_optime_split(tow_ledger_floor_time(job->flow.ledger));
}

void tow_job_collect(tow_job_t *job, tow_progress_t *out)
{
    int64_t end_ms;

    if (job->outcome.ended) {
        *out = job->outcome.last;
        out->phase = job->control.phase; /* the last word on it comes after the snapshot */
        out->writes_blocked = job->journal.writes_blocked;
        snprintf(out->reason, sizeof out->reason, "%s", job->outcome.reason);
        return;
    }
    tow_job_measure_lag(job);
    tow_job_note_moves(job);
    *out = (tow_progress_t){.phase = job->control.phase,
                            .cutover = job->control.step,
                            .cutover_seconds = job->control.step == TOW_CUTOVER_DONE ? 0 : -1,
                            .writes_blocked = job->journal.writes_blocked,
                            .late_writes = job->control.late_writes,
                            .lag_ms = job->flow.lag_ms,
                            .oplog_headroom_seconds = job->flow.oplog_headroom,
                            .source_silent_ms = tow_job_silent_ms(job, job->sides.source),
                            .destination_silent_ms = tow_job_silent_ms(job, job->sides.destination),
                            .moved_ms = job->flow.moves.wall_ms};
    end_ms = job->control.ended_ms ? job->control.ended_ms : tow_now_ms();
    out->elapsed_seconds =
        job->control.started_ms ? (double)(end_ms - job->control.started_ms) / 1000 : 0;
    out->can_commit = tow_job_can_commit(job, out->reason);
    if (job->outcome.reason[0])
        snprintf(out->reason, sizeof out->reason, "%s", job->outcome.reason);
    if (job->flow.replay)
        collect_components(job, out);
    out->source_time = tow_optime_split(job->flow.source_time);
    out->start = tow_optime_split(job->journal.start_time);
    out->checkpoint = tow_optime_split(job->journal.checkpoint_time);
    out->consistent = tow_optime_split(job->flow.consistent_time);
    out->stop = tow_optime_split(job->flow.stop_time);
    out->verified = tow_optime_split(job->comparer.verified_time);
    out->verified_documents = atomic_load(&job->comparer.verified_documents);
    out->verified_bytes = atomic_load(&job->comparer.verified_bytes);
    out->verify_total_documents = atomic_load(&job->comparer.verify_total);
    if (job->control.window.length_ms)
        out->window_length_ms = job->control.window.length_ms + job->control.window.extra_ms;
    out->window_end_ms = tow_window_end_ms(&job->control.window);
    out->window_left_ms = tow_window_left_ms(&job->control.window, tow_wall_ms());
    if (job->control.step == TOW_CUTOVER_FINALIZING) {
        out->late_writes = tow_tail_late(job->flow.tail);
        out->cutover_seconds = tow_job_finalize_seconds(job, out);
    }
    if (job->sides.source) {
        out->retries = tow_link_retries(job->sides.source);
        out->source_ping_ms = tow_link_ping_ms(job->sides.source);
        tow_link_retrying(job->sides.source, out->retrying, sizeof out->retrying);
    }
    if (job->sides.destination) {
        out->retries += tow_link_retries(job->sides.destination);
        out->destination_ping_ms = tow_link_ping_ms(job->sides.destination);
        if (!out->retrying[0])
            tow_link_retrying(job->sides.destination, out->retrying, sizeof out->retrying);
    }
}

void tow_job_begin_effort(tow_job_t *job, tow_effort_t kind)
{
    tow_progress_t progress;

    pthread_mutex_lock(&job->control.lock);
    tow_job_collect(job, &progress);
    job->control.effort.kind = kind;
    job->control.effort.since_ms = tow_now_ms();
    job->control.effort.settled = settled(&progress);
    job->control.effort.indexes = progress.indexes_built;
    pthread_mutex_unlock(&job->control.lock);
}

void tow_job_progress_sized(tow_job_t *job, tow_progress_t *out, size_t size)
{
    tow_progress_t progress;

    pthread_mutex_lock(&job->control.lock);
    tow_job_collect(job, &progress);
    pthread_mutex_unlock(&job->control.lock);
    memset(out, 0, size);
    memcpy(out, &progress, size < sizeof progress ? size : sizeof progress);
}

static const char *next_step(const tow_job_t *job, const tow_progress_t *progress)
{
    return tow_next_step(&(tow_next_facts_t){
        .phase = progress->phase,
        .can_commit = progress->can_commit,
        .by_itself = !job->config.manual && !job->control.waits_for_word,
        .called_off = job->control.attempt.called_off_ms,
        .late_writes = job->control.attempt.late_writes,
        .wished = job->control.cutover_wished,
        .committed = job->control.committed,
        .silent = !tow_phase_is_final(job->control.phase) &&
                  (progress->source_silent_ms || progress->destination_silent_ms),
        .exit_status = (int)job->outcome.error.code});
}

char *tow_job_progress_json(tow_job_t *job)
{
    tow_progress_t progress;
    tow_identity_t identity = {
        .job = job->config.name, .exit_status = -1, .attempt = &job->control.attempt};
    char *json;

    pthread_mutex_lock(&job->control.lock);
    tow_job_collect(job, &progress);
    identity.source = job->sides.source ? tow_link_hosts(job->sides.source) : "";
    identity.destination = job->sides.destination ? tow_link_hosts(job->sides.destination) : "";
    if (tow_phase_is_final(job->control.phase))
        identity.exit_status = job->outcome.ok ? 0 : (int)job->outcome.error.code;
    identity.next = next_step(job, &progress);
    json = tow_progress_to_json(&progress, &identity);
    pthread_mutex_unlock(&job->control.lock);
    return json;
}

char *tow_job_collections_json(tow_job_t *job, uint32_t limit)
{
    tow_namespace_state_t *states = NULL;
    uint32_t count = 0;
    char *json;

    pthread_mutex_lock(&job->control.lock);
    if (job->flow.namespaces)
        states = tow_namespaces_states(job->flow.namespaces, &count);
    json = job->outcome.ended ? tow_collections_to_json(job->outcome.last_states,
                                                        job->outcome.last_state_count, limit)
                              : tow_collections_to_json(states, count, limit);
    pthread_mutex_unlock(&job->control.lock);
    tow_namespaces_states_free(states, count);
    return json;
}
