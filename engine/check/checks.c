/* SPDX-License-Identifier: Apache-2.0 */
/* checks.c: see checks.h. */
#include "engine/check/checks.h"

bool tow_skip_without(tow_check_run_t *run, const char *name, bool source, bool destination)
{
    const char *side = source && !run->source ? "source" : "destination";

    if ((!source || run->source) && (!destination || run->destination))
        return false;
    tow_find_skipped(run->findings, name, "not possible without a connection to the %s", side);
    return true;
}

bool tow_skip_without_survey(tow_check_run_t *run, const char *name)
{
    if (run->viewed && run->view.exists) {
        tow_find_pass(run->findings, name, "decided when the job began, which goes on");
        return true;
    }
    if (run->out->surveyed)
        return false;
    tow_find_skipped(run->findings, name, "not possible: the source's collections cannot be read");
    return true;
}
