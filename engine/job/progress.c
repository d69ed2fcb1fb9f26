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
    if (atomic_load(&job->rollover))
        snprintf(reason, REASON_SIZE,
                 "the source's oplog rolled over: both sides are compared by ranges and repaired");
    else if (job->phase != TOW_PHASE_IN_SYNC)
        snprintf(reason, REASON_SIZE, "the job is %s, not in sync", tow_phase_name(job->phase));
    else if (!atomic_load(&job->synced_once))
        snprintf(reason, REASON_SIZE, "unique indexes are not built yet");
    else if (job->lag_ms < 0 || job->lag_ms > COMMIT_LAG_MS)
        snprintf(reason, REASON_SIZE, "the lag is %.1f s, at most %d s is accepted",
                 (double)job->lag_ms / 1000, COMMIT_LAG_MS / 1000);
    return !reason[0];
}

/* How long finalizing still takes, by what this cutover has measured so far ----------------------*/

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
    if (job->effort.kind == TOW_EFFORT_VERIFY)
        return total ? tow_effort_seconds(total > done ? total - done : 0, done, seconds) : -1;
    if (job->watch)
        tow_track_totals(job->track, &totals);
    return totals.open || totals.keys ? -1 : 0;
}

double tow_job_finalize_seconds(const tow_job_t *job, const tow_progress_t *progress)
{
    double seconds = (double)(tow_now_ms() - job->effort.since_ms) / 1000;
    double events = tow_effort_seconds(progress->backlog_events,
                                       settled(progress) - job->effort.settled, seconds);
    double indexes =
        progress->indexes_total > progress->indexes_built
            ? tow_effort_seconds(progress->indexes_total - progress->indexes_built,
                                 progress->indexes_built - job->effort.indexes, seconds)
            : 0;
    double verification = verify_seconds(job, progress, seconds);

    return events < 0 || indexes < 0 || verification < 0 ? -1 : events + indexes + verification;
}

/* The snapshot ----------------------------------------------------------------------------------*/

static void collect_components(tow_job_t *job, tow_progress_t *out)
{
    tow_copy_progress_t copy;
    tow_replay_progress_t replay;

    tow_namespaces_progress(job->namespaces, out);
    tow_copy_progress(job->copy, &copy);
    out->copied_documents = copy.documents;
    out->copied_bytes = copy.bytes;
    if (out->estimated_documents < copy.documents)
        out->estimated_documents = copy.documents;
    if (out->estimated_bytes < copy.bytes)
        out->estimated_bytes = copy.bytes;
    out->indexes_total = copy.indexes;
    out->indexes_built = copy.indexes_built;
    tow_replay_progress(job->replay, &replay);
    out->events_seen = tow_tail_events(job->tail);
    out->events_skipped = replay.skipped;
    out->events_applied = replay.applied;
    out->keys_dirty = replay.dirty_keys;
    out->keys_refetched = replay.refetched;
    out->statements_applied = replay.statements;
    out->dirty_bytes = replay.dirty_bytes;
    out->spool_bytes = tow_spool_bytes(job->spool);
    out->backlog_events = tow_ledger_backlog(job->ledger);
    out->direct_mode = tow_tail_direct(job->tail);
    out->read = tow_optime_split(tow_tail_read_time(job->tail));
    out->spooled = tow_optime_split(tow_tail_spooled_time(job->tail));
    out->floor = tow_optime_split(tow_ledger_floor_time(job->ledger));
}

void tow_job_collect(tow_job_t *job, tow_progress_t *out)
{
    int64_t end_ms;

    if (job->ended) {
        *out = job->last;
        out->phase = job->phase; /* the last word on it comes after the snapshot */
        out->writes_blocked = job->writes_blocked;
        snprintf(out->reason, sizeof out->reason, "%s", job->reason);
        return;
    }
    tow_job_measure_lag(job);
    tow_job_note_moves(job);
    *out = (tow_progress_t){.phase = job->phase,
                            .cutover = job->cutover,
                            .cutover_seconds = job->cutover == TOW_CUTOVER_DONE ? 0 : -1,
                            .writes_blocked = job->writes_blocked,
                            .late_writes = job->late_writes,
                            .lag_ms = job->lag_ms,
                            .oplog_headroom_seconds = job->oplog_headroom,
                            .source_silent_ms = tow_job_silent_ms(job, job->sides.source),
                            .destination_silent_ms = tow_job_silent_ms(job, job->sides.destination),
                            .moved_ms = job->moves.wall_ms};
    end_ms = job->ended_ms ? job->ended_ms : tow_now_ms();
    out->elapsed_seconds = job->started_ms ? (double)(end_ms - job->started_ms) / 1000 : 0;
    out->can_commit = tow_job_can_commit(job, out->reason);
    if (job->reason[0])
        snprintf(out->reason, sizeof out->reason, "%s", job->reason);
    if (job->replay)
        collect_components(job, out);
    out->source_time = tow_optime_split(job->source_time);
    out->start = tow_optime_split(job->start_time);
    out->checkpoint = tow_optime_split(job->checkpoint_time);
    out->consistent = tow_optime_split(job->consistent_time);
    out->stop = tow_optime_split(job->stop_time);
    out->verified = tow_optime_split(job->verified_time);
    out->verified_documents = atomic_load(&job->verified_documents);
    out->verified_bytes = atomic_load(&job->verified_bytes);
    out->verify_total_documents = atomic_load(&job->verify_total);
    out->window_length_ms = job->window.length_ms + job->window.extra_ms;
    out->window_end_ms = tow_window_end_ms(&job->window);
    out->window_left_ms = tow_window_left_ms(&job->window, tow_wall_ms());
    if (job->cutover == TOW_CUTOVER_FINALIZING) {
        out->late_writes = tow_tail_late(job->tail);
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

    pthread_mutex_lock(&job->lock);
    tow_job_collect(job, &progress);
    job->effort.kind = kind;
    job->effort.since_ms = tow_now_ms();
    job->effort.settled = settled(&progress);
    job->effort.indexes = progress.indexes_built;
    pthread_mutex_unlock(&job->lock);
}

void tow_job_progress(tow_job_t *job, tow_progress_t *out)
{
    pthread_mutex_lock(&job->lock);
    tow_job_collect(job, out);
    pthread_mutex_unlock(&job->lock);
}

static const char *next_step(const tow_job_t *job, const tow_progress_t *progress)
{
    return tow_next_step(&(tow_next_facts_t){
        .phase = progress->phase,
        .can_commit = progress->can_commit,
        .by_itself = !job->config.manual && !job->waits_for_word,
        .called_off = job->attempt.called_off_ms,
        .late_writes = job->attempt.late_writes,
        .wished = job->cutover_wished,
        .committed = job->committed,
        .silent = !tow_phase_is_final(job->phase) &&
                  (progress->source_silent_ms || progress->destination_silent_ms),
        .exit_status = (int)job->error.code});
}

char *tow_job_progress_json(tow_job_t *job)
{
    tow_progress_t progress;
    tow_identity_t identity = {
        .job = job->config.name, .exit_status = -1, .attempt = &job->attempt};
    char *json;

    pthread_mutex_lock(&job->lock);
    tow_job_collect(job, &progress);
    identity.source = job->sides.source ? tow_link_hosts(job->sides.source) : "";
    identity.destination = job->sides.destination ? tow_link_hosts(job->sides.destination) : "";
    if (tow_phase_is_final(job->phase))
        identity.exit_status = job->ok ? 0 : (int)job->error.code;
    identity.next = next_step(job, &progress);
    json = tow_progress_to_json(&progress, &identity);
    pthread_mutex_unlock(&job->lock);
    return json;
}

char *tow_job_collections_json(tow_job_t *job, uint32_t limit)
{
    tow_namespace_state_t *states = NULL;
    uint32_t count = 0;
    char *json;

    pthread_mutex_lock(&job->lock);
    if (job->namespaces)
        states = tow_namespaces_states(job->namespaces, &count);
    json = job->ended ? tow_collections_to_json(job->last_states, job->last_state_count, limit)
                      : tow_collections_to_json(states, count, limit);
    pthread_mutex_unlock(&job->lock);
    tow_namespaces_states_free(states, count);
    return json;
}
