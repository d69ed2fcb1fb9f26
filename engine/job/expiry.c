/* SPDX-License-Identifier: Apache-2.0 */
/* expiry.c: the window of a running job: begun when first in sync, watched, extended, stored. */
#include <stdio.h>

#include "engine/base/clock.h"
#include "engine/base/duration.h"
#include "engine/job/internal.h"
#include "engine/link/reply.h"

/* The error of a job whose window is over. */
static bool expire(int64_t end_ms, tow_error_t *error)
{
    char end[32];

    tow_wall_text(end_ms, end);
    return tow_fail(error, TOW_ERROR_EXPIRED,
                    "the window ran out at %s: nothing more is applied; run the same command again "
                    "with --extend 24h to go on while the source's oplog still reaches back",
                    end);
}

void tow_job_begin_window(tow_job_t *job)
{
    char end[32], message[200] = "in sync for the first time";
    int64_t end_ms;
    bool begun;

    pthread_mutex_lock(&job->control.lock);
    begun = tow_window_begin(&job->control.window, tow_wall_ms());
    job->control.window_changed = job->control.window_changed || begun;
    end_ms = tow_window_end_ms(&job->control.window);
    pthread_mutex_unlock(&job->control.lock);
    if (begun) {
        tow_wall_text(end_ms, end);
        if (end_ms)
            snprintf(
                message, sizeof message,
                "in sync for the first time; cut over before %s, or add time with towline extend",
                end);
        tow_emit(&job->sides.sink, TOW_LEVEL_INFO, "window_begun", "%s", message);
        tow_job_notify(job, "in_sync", "in sync", message);
    }
}

void tow_job_warn_of_window(tow_job_t *job)
{
    int64_t now = tow_wall_ms(), end_ms, left_ms;
    char end[32], left[32], message[200];
    bool warns;

    pthread_mutex_lock(&job->control.lock);
    end_ms = tow_window_end_ms(&job->control.window);
    left_ms = tow_window_left_ms(&job->control.window, now);
    warns = tow_window_warns(&job->control.window, now);
    pthread_mutex_unlock(&job->control.lock);
    if (!warns)
        return;
    tow_wall_text(end_ms, end);
    snprintf(message, sizeof message,
             "%s left until the sync stops at %s; cut over, or add time with towline extend",
             tow_duration_text((double)left_ms / 1000, left), end);
    tow_emit(&job->sides.sink, TOW_LEVEL_WARNING, "window_low", "%s", message);
    tow_job_notify(job, "window_low", "the window is nearly over", message);
}

bool tow_job_expired(tow_job_t *job, tow_error_t *error)
{
    int64_t end_ms;

    pthread_mutex_lock(&job->control.lock);
    end_ms = tow_window_end_ms(&job->control.window);
    pthread_mutex_unlock(&job->control.lock);
    return expire(end_ms, error);
}

bool tow_job_extend(tow_job_t *job, int64_t seconds, tow_error_t *error)
{
    char end[32];
    const char *state;
    bool refused;
    int64_t end_ms;

    if (seconds < 1 || seconds > INT64_C(3650) * 86400)
        return tow_fail(error, TOW_ERROR_OPTION,
                        "the window cannot be extended by %lld s; give 1 s to 3650 d",
                        (long long)seconds);
    if (!job->config.window_ms)
        return tow_fail(error, TOW_ERROR_STATE,
                        "there is no window to extend: the job runs with --continuous");
    pthread_mutex_lock(&job->control.lock);
    refused = tow_job_is_over(job) || job->control.cutover_wished ||
              job->control.phase == TOW_PHASE_FINALIZING;
    state = job->control.expired ? "expired; run it again with --extend" : tow_job_state_name(job);
    if (!refused) {
        tow_window_extend(&job->control.window, seconds * 1000, tow_wall_ms());
        job->control.window_changed = true;
    }
    end_ms = tow_window_end_ms(&job->control.window);
    pthread_mutex_unlock(&job->control.lock);
    if (refused)
        return tow_fail(error, TOW_ERROR_STATE, "cannot extend the window of a job that is %s",
                        state);
    tow_wall_text(end_ms, end);
    tow_emit(&job->sides.sink, TOW_LEVEL_INFO, "window_extended", "by %lld s%s%s",
             (long long)seconds, end_ms ? ", to " : "", end_ms ? end : "");
    return true;
}

bool tow_job_save_window(tow_job_t *job, tow_error_t *error)
{
    bson_t fields = BSON_INITIALIZER;
    tow_window_t window;
    bool changed, ok;

    pthread_mutex_lock(&job->control.lock);
    changed = job->control.window_changed;
    window = job->control.window;
    job->control.window_changed = false;
    pthread_mutex_unlock(&job->control.lock);
    if (!changed)
        return true;
    bson_append_int64(&fields, "windowExtraMs", -1, window.extra_ms);
    if (window.start_ms) {
        bson_append_date_time(&fields, "windowStart", -1, window.start_ms);
        bson_append_date_time(&fields, "windowEnd", -1,
                              tow_window_end_ms(&window)); /* for people */
    }
    ok = tow_store_set(job->journal.store, &fields, error);
    bson_destroy(&fields);
    if (!ok) {
        pthread_mutex_lock(&job->control.lock);
        job->control.window_changed = true;
        pthread_mutex_unlock(&job->control.lock);
    }
    return ok;
}

bool tow_job_restore_window(tow_job_t *job, const bson_t *document, tow_error_t *error)
{
    int64_t start_ms = 0, extra_ms = 0, asked_ms = job->config.extend_ms, now = tow_wall_ms(),
            end_ms;
    bson_iter_t iter;
    bool over;

    if (bson_iter_init_find(&iter, document, "windowStart"))
        tow_iter_wall_ms(&iter, &start_ms);
    if (bson_iter_init_find(&iter, document, "windowExtraMs"))
        tow_iter_count(&iter, TOW_WALL_MOST_MS, &extra_ms);
    pthread_mutex_lock(&job->control.lock);
    asked_ms +=
        job->control.window.extra_ms; /* by tow_job_extend, before what is stored was known */
    tow_window_restore(&job->control.window, start_ms, extra_ms);
    if (asked_ms) {
        tow_window_extend(&job->control.window, asked_ms, now);
        job->control.window_changed = true;
    }
    over = job->control.expired = tow_window_over(&job->control.window, now);
    end_ms = tow_window_end_ms(&job->control.window);
    pthread_mutex_unlock(&job->control.lock);
    return over ? expire(end_ms, error) : true;
}
