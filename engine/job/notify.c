/* SPDX-License-Identifier: Apache-2.0 */
/* notify.c: which notices a job sends, and the test notice. */
#include <string.h>

#include "engine/job/internal.h"

enum { GRACE_MS = 3000 }; /* how much longer a job may last for its last notice */

void tow_job_notify(tow_job_t *job, const char *event, const char *title, const char *message)
{
    char source[256] = "", destination[256] = "";

    pthread_mutex_lock(&job->control.lock);
    if (job->sides.source)
        snprintf(source, sizeof source, "%s", tow_link_hosts(job->sides.source));
    if (job->sides.destination)
        snprintf(destination, sizeof destination, "%s", tow_link_hosts(job->sides.destination));
    pthread_mutex_unlock(&job->control.lock);
    tow_notices_send(job->notices,
                     &(tow_notice_t){event, title, message, job->config.name, source, destination});
}

void tow_job_notify_end(tow_job_t *job)
{
    int64_t grace_ms = GRACE_MS;

    if (job->outcome.ok)
        tow_job_notify(
            job, "done", "cutover done",
            job->config.verify
                ? "the destination holds all data, compared byte for byte; connect to it"
                : "the destination holds all data, which was not compared; connect to it");
    else if (job->outcome.error.code == TOW_ERROR_EXPIRED)
        tow_job_notify(job, "expired", "the window is over", job->outcome.error.message);
    else if (job->outcome.error.code == TOW_ERROR_VERIFY)
        tow_job_notify(job, "different", "the verification found differences",
                       job->outcome.error.message);
    else if (job->outcome.error.code == TOW_ERROR_INTERRUPTED ||
             job->outcome.error.code == TOW_ERROR_CANCELLED)
        grace_ms = 0; /* somebody asked for it, and waits */
    else
        tow_job_notify(job, "failed", "failed", job->outcome.error.message);
    tow_notices_close(job->notices, grace_ms);
}

bool tow_notify_test(const tow_options_t *options, tow_error_t *error)
{
    const char *name = tow_options_get(options, "job", 0);
    tow_sink_t silent = {0};
    tow_notices_t *notices;
    bool ok;

    if (!tow_notices_new(options, &silent, &notices, error))
        return false;
    if (!notices)
        return tow_fail(error, TOW_ERROR_OPTION,
                        "nobody is to be told; give --notify-webhook, or --notify-smtp with "
                        "--notify-from and --notify-to");
    ok = tow_notices_try(notices,
                         &(tow_notice_t){"test", "a test notice",
                                         "somebody tried whether notices arrive: this one did",
                                         name, "", ""},
                         error);
    tow_notices_destroy(notices);
    return ok;
}
