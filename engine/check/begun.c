/* SPDX-License-Identifier: Apache-2.0 */
/* begun.c: what the destination holds of the job already: its settings, and which process holds its
 * lease. */
#include "engine/check/checks.h"

static bool peek(tow_check_run_t *run, tow_error_t *error)
{
    tow_sides_t *sides = run->sides;
    tow_settings_t settings = {tow_link_facts(sides->source)->identity,
                               tow_link_facts(sides->destination)->identity, sides->filter_text};

    return tow_store_peek(sides->destination, run->config->name, &settings, &run->view, error);
}

void tow_check_state(tow_check_run_t *run)
{
    const char *name = run->config->name;
    tow_error_t error;

    if (tow_skip_without(run, "job_settings", true, true))
        return;
    run->viewed = peek(run, &error);
    if (!run->viewed)
        tow_find_error(run->findings, "job_settings", &error);
    else if (run->view.exists)
        tow_find_pass(run->findings, "job_settings", "job %s was begun and goes on", name);
    else
        tow_find_pass(run->findings, "job_settings", "job %s is new", name);
}

bool tow_check_begun_since(tow_check_run_t *run)
{
    tow_error_t ignored;

    return run->viewed && peek(run, &ignored) && run->view.exists;
}

/* Whether a process still holds the job, as far as a check can see: it renews the lease. A holder
 * with our --lease renews it five times in its length; one with a longer lease is taken to be
 * alive. The view is the newest after the call. */
static bool is_renewed(tow_check_run_t *run)
{
    int64_t lease_ms = run->config->lease_ms, expires_ms = run->view.expires_ms;
    tow_error_t ignored;

    if (run->view.expires_seconds * 1000 > (double)lease_ms ||
        tow_stop_wait(run->sides->stop, lease_ms / 3))
        return true;
    (void)peek(run, &ignored); /* its errors were reported by tow_check_state */
    return run->view.held && run->view.expires_ms != expires_ms;
}

void tow_check_lease(tow_check_run_t *run)
{
    const tow_store_view_t *view = &run->view;
    bool renewed;

    if (tow_skip_without(run, "job_lease", true, true))
        return;
    renewed = view->held && !run->starting && is_renewed(run);
    if (!run->viewed && !view->exists)
        tow_find_skipped(run->findings, "job_lease",
                         "not possible: the job's state cannot be read");
    else if (!view->held)
        tow_find_pass(run->findings, "job_lease", "no process holds job %s", run->config->name);
    else if (renewed)
        tow_find_failure(run->findings, "job_lease", TOW_ERROR_LEASE,
                         tow_format("stop that process, or give another --job"),
                         "the job is held by process %lld on %s, which renews its lease",
                         (long long)view->pid, view->host);
    else
        tow_find_warning(run->findings, "job_lease", NULL,
                         "process %lld on %s holds the job and has not renewed its lease during "
                         "this check; a start waits until it runs out, in %.0f s",
                         (long long)view->pid, view->host, view->expires_seconds);
}
