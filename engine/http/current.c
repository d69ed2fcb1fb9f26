/* SPDX-License-Identifier: Apache-2.0 */
/* current.c: the job of the moment: started, attached, ended, its progress. */
#include "engine/http/internal.h"

#include <stdlib.h>

#include "engine/base/json.h"

enum { END_MS = 5000 };

/* Both for the jobs that the server starts and for one that is attached. */
static void note(void *data, tow_level_t level, const char *name, const char *message)
{
    tow_server_t *server = data;

    tow_events_add(server->events, level, name, message);
    if (server->own && server->listener)
        server->listener(server->listener_data, level, name, message);
}

void tow_server_attach(tow_server_t *server, tow_job_t *job)
{
    pthread_rwlock_wrlock(&server->lock);
    server->job = job;
    server->own = false;
    pthread_rwlock_unlock(&server->lock);
    tow_job_on_event(job, note, server);
}

/* The end comes a moment after the last phase, which is what others see. */
bool tow_server_job_ended(tow_job_t *job)
{
    tow_progress_t progress;

    tow_job_progress(job, &progress);
    return tow_job_ended(
        job, progress.phase == TOW_PHASE_DONE || progress.phase >= TOW_PHASE_FAILED ? END_MS : 0);
}

/* Makes room for a new job; the lock is held for writing. */
static bool make_room(tow_server_t *server, tow_error_t *error)
{
    if (server->closing)
        return tow_fail(error, TOW_ERROR_STATE, "the process is ending");
    if (!server->job)
        return true;
    if (!tow_server_job_ended(server->job))
        return tow_fail(error, TOW_ERROR_STATE,
                        "cannot start a job: one is running; wait for its end, or "
                        "cancel it");
    if (!server->own)
        return tow_fail(error, TOW_ERROR_STATE,
                        "this process runs one job only; `towline serve` starts one after another");
    tow_job_destroy(server->job);
    server->job = NULL;
    return true;
}

bool tow_server_start(tow_server_t *server, const tow_options_t *options, tow_error_t *error)
{
    tow_job_t *job = NULL;
    bool ok;

    pthread_rwlock_wrlock(&server->lock);
    ok = make_room(server, error) && (job = tow_job_new(options, error));
    if (ok) {
        server->own = true;
        tow_job_on_event(job, note, server);
        ok = tow_job_start(job, error);
    }
    if (ok)
        server->job = job;
    else
        tow_job_destroy(job);
    pthread_rwlock_unlock(&server->lock);
    return ok;
}

/* Where a start would go; "" when the process was not told. */
static void put_side(tow_json_t *out, const char *name, const tow_server_t *server,
                     const char *side)
{
    char *address = tow_options_address(server->options, side);

    tow_json_put_text(out, name, address ? address : "");
    free(address);
}

static char *idle_progress(const tow_server_t *server)
{
    tow_json_t out = {0};

    tow_json_begin(&out, NULL);
    tow_json_put_text(&out, "state", "IDLE");
    tow_json_put_text(&out, "phase", tow_phase_name(TOW_PHASE_NEW));
    tow_json_put_text(&out, "info", "");
    tow_json_put_text(&out, "job", "");
    tow_json_put_text(&out, "reason", "");
    tow_json_put_flag(&out, "canCommit", false);
    tow_json_put_flag(&out, "canWrite", false);
    tow_json_put_null(&out, "lagTimeSeconds");
    tow_json_put_null(&out, "lagMs");
    tow_json_begin(&out, "directionMapping");
    put_side(&out, "Source", server, "source");
    put_side(&out, "Destination", server, "destination");
    tow_json_end(&out);
    tow_json_end(&out);
    return tow_json_take(&out);
}

char *tow_server_progress(tow_server_t *server)
{
    char *json;

    pthread_rwlock_rdlock(&server->lock);
    json = server->job ? tow_job_progress_json(server->job) : NULL;
    pthread_rwlock_unlock(&server->lock);
    return json ? json : idle_progress(server);
}
