/* SPDX-License-Identifier: Apache-2.0 */
/* silence.c: which side does not answer, and the lag as far as it is known. Silence is not "nothing
 * new": what is shown of a side that does not answer says so.
 *
 * The monitor asks the source many times a second, the pinger the destination once a second, each
 * in a thread that a silent server may hold up; what is shown is computed when it is asked for. */
#include <string.h>

#include "engine/base/clock.h"
#include "engine/job/internal.h"

enum {
    PING_MS = 1000,
    ANSWER_MS = 5000,    /* how long a cutover waits for an answer of either side */
    UNDER_WAY_MS = 1000, /* how long one may have been on its way */
    LOOK_MS = 1000       /* between two looks at what has moved */
};

int64_t tow_job_silent_ms(const tow_job_t *job, const tow_link_t *link)
{
    int64_t silent_ms = job->flow.asking && link ? tow_link_silent_ms(link) : 0;

    return silent_ms > TOW_SILENT_MS ? silent_ms : 0;
}

/* "source has", and so on: the beginning of what is said of those that have not answered; one has
 * not. */
static const char *name_silent(bool source, bool destination)
{
    return !destination ? "source has"
           : !source    ? "destination has"
                        : "source and the destination have";
}

bool tow_job_tell_silence(const tow_job_t *job, char *out, size_t size)
{
    int64_t source_ms = tow_job_silent_ms(job, job->sides.source);
    int64_t destination_ms = tow_job_silent_ms(job, job->sides.destination);

    if (!source_ms && !destination_ms)
        return false;
    snprintf(out, size, "the %s not answered for %lld s", name_silent(source_ms, destination_ms),
             (long long)(source_ms > destination_ms ? source_ms : destination_ms) / 1000);
    return true;
}

void tow_job_measure_lag(tow_job_t *job)
{
    int64_t silent_ms = tow_job_silent_ms(job, job->sides.source), now_ms = tow_now_ms();

    if (!job->flow.asking || !job->flow.ledger)
        return;
    job->flow.lag_ms = tow_lag_of(&job->flow.lag, tow_ledger_floor_time(job->flow.ledger),
                                  tow_ledger_backlog(job->flow.ledger) > 0, now_ms);
    if (job->flow.lag_ms >= 0 && job->flow.lag_ms < silent_ms)
        job->flow.lag_ms = silent_ms;
}

void tow_job_note_moves(tow_job_t *job)
{
    tow_copy_progress_t copy;

    if (!job->flow.replay || tow_now_ms() - job->flow.moves.looked_ms < LOOK_MS)
        return;
    job->flow.moves.looked_ms = tow_now_ms();
    tow_copy_progress(job->flow.copy, &copy);
    tow_moves_saw(&job->flow.moves, tow_ledger_floor_time(job->flow.ledger),
                  copy.documents + copy.indexes_built, tow_wall_ms());
}

/* Whether a side has answered since: an answer that was under way then says nothing of now. What it
 * is asked again and again may be held up by one broken connection, so in time any
 * answer will do. */
static bool has_answered(const tow_link_t *link, int64_t since_ms)
{
    return tow_link_heard_ms(link) > since_ms ||
           tow_link_answered_ms(link) > since_ms + UNDER_WAY_MS;
}

bool tow_job_await_answers(tow_job_t *job, tow_error_t *error)
{
    int64_t began_ms = tow_now_ms(), until_ms = began_ms + ANSWER_MS;
    bool source, destination;

    pthread_mutex_lock(&job->control.lock);
    for (;;) {
        source = has_answered(job->sides.source, began_ms);
        destination = has_answered(job->sides.destination, began_ms);
        if ((source && destination) || tow_now_ms() > until_ms ||
            tow_stop_requested(job->sides.stop))
            break;
        tow_condition_wait(&job->control.changed, &job->control.lock, until_ms + 1);
    }
    pthread_mutex_unlock(&job->control.lock);
    if (source && destination)
        return true;
    return tow_fail(error, TOW_ERROR_UNREACHABLE,
                    "the %s not answered for %d s; ask for the cutover again when `towline status` "
                    "says that it is possible",
                    name_silent(!source, !destination), ANSWER_MS / 1000);
}

/* The pinger ------------------------------------------------------------------------------------*/

static void *ping(void *data)
{
    tow_job_t *job = data;
    tow_error_t error;
    tow_conn_t *destination = tow_conn_open(job->sides.destination);

    while (!tow_stop_wait(job->sides.stop, PING_MS)) {
        tow_optime_t ignored;
        bool answered;

        tow_link_watch(job->sides.destination);
        answered = tow_link_poll_time(destination, &ignored, &error);
        tow_link_watched(job->sides.destination, answered);
        pthread_mutex_lock(&job->control.lock);
        tow_job_note_moves(job);
        if (answered)
            pthread_cond_broadcast(&job->control.changed);
        pthread_mutex_unlock(&job->control.lock);
    }
    tow_conn_close(destination);
    return NULL;
}

bool tow_job_start_pinger(tow_job_t *job, tow_error_t *error)
{
    return tow_thread_start(&job->threads.pinger, "pinger", ping, job, error);
}
