/* SPDX-License-Identifier: Apache-2.0 */
/* checks.h: what the files of the checks before a start share. One thread runs them all. */
#ifndef TOW_CHECK_CHECKS_H
#define TOW_CHECK_CHECKS_H

#include "engine/check/privileges.h"
#include "engine/check/survey.h"
#include "engine/check/validate.h"
#include "engine/state/store.h"

typedef struct {
    tow_sides_t *sides;
    const tow_config_t *config;
    tow_checked_t *out;
    tow_findings_t *findings; /* of `out`, or a list that follows later */
    bool starting;            /* a start follows: what is decided there for good only warns here */
    tow_conn_t *source, *destination; /* NULL: it could not be reached */
    tow_store_view_t view;            /* of the job's own state */
    bool viewed;
} tow_check_run_t;

/* True: what it needs is not there, which was told as a finding. */
bool tow_skip_without(tow_check_run_t *run, const char *name, bool source, bool destination);
bool tow_skip_without_survey(tow_check_run_t *run, const char *name);

/* begun.c: what the destination holds of the job; one finding each. */
/* Whether another process began it since that was looked at: what is there now may be its own. */
bool tow_check_begun_since(tow_check_run_t *run);
void tow_check_state(tow_check_run_t *run);
void tow_check_lease(tow_check_run_t *run);

/* rehearse.c: what is needed later is tried; one finding each. */
void tow_check_rehearsal(tow_check_run_t *run);

/* content.c: reads what is to be copied, and judges it; one finding each. */
void tow_survey_source(tow_check_run_t *run);
void tow_check_supported(tow_check_run_t *run);
void tow_check_left_out(tow_check_run_t *run);
void tow_check_filter(tow_check_run_t *run);
void tow_check_indexes(tow_check_run_t *run);
void tow_check_conflicts(tow_check_run_t *run);

/* acceptance.c: one finding each. */
void tow_check_views(tow_check_run_t *run);
void tow_check_options(tow_check_run_t *run);

#endif
