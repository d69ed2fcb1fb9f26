/* SPDX-License-Identifier: Apache-2.0 */
/* ended.c: what a job that has ended leaves for `towline status`: SPOOL/towline-JOB.ended, a line
 * of JSON {job, listen, endedAt, exitStatus, summary}. It tells people how the job ended when no
 * process answers any more; nothing is concluded from it. A start of the job removes it, so that it
 * never speaks of an earlier run. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/file.h"
#include "engine/base/json.h"
#include "engine/job/internal.h"

static char *path_of(const tow_job_t *job)
{
    return tow_format("%s/towline-%s.ended", job->config.spool, job->config.name);
}

static char *record_of(tow_job_t *job)
{
    tow_json_t out = {0};
    char at[32];

    tow_wall_text(tow_wall_ms(), at);
    tow_json_begin(&out, NULL);
    tow_json_put_text(&out, "job", job->config.name);
    tow_json_put_text(&out, "listen", job->config.listen);
    tow_json_put_text(&out, "endedAt", at);
    pthread_mutex_lock(&job->control.lock);
    tow_json_put_integer(&out, "exitStatus", job->outcome.ok ? 0 : (int)job->outcome.error.code);
    tow_json_put_json(&out, "summary",
                      job->outcome.summary_json ? job->outcome.summary_json : "null");
    pthread_mutex_unlock(&job->control.lock);
    tow_json_end(&out);
    return tow_json_take_line(&out);
}

void tow_job_leave_end(tow_job_t *job)
{
    char *path, *record;

    if (!job->outcome.ok && job->outcome.error.code == TOW_ERROR_LEASE)
        return; /* the job goes on in another process */
    path = path_of(job);
    record = record_of(job);
    /* A job that never came to make the folder has nothing to tell. */
    if (!tow_file_replace(path, record, strlen(record)) && errno != ENOENT)
        tow_emit(&job->sides.sink, TOW_LEVEL_WARNING, "end_not_left",
                 "%s cannot be written: %s; towline status will not know how the job ended", path,
                 strerror(errno));
    free(record);
    free(path);
}

void tow_job_remove_end(tow_job_t *job)
{
    char *path = path_of(job);

    unlink(path);
    free(path);
}
