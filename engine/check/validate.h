/* SPDX-License-Identifier: Apache-2.0 */
/* validate.h: the checks before a start. */
#ifndef TOW_CHECK_VALIDATE_H
#define TOW_CHECK_VALIDATE_H

#include "engine/check/findings.h"
#include "engine/check/survey.h"
#include "engine/options/settings.h"
#include "engine/state/sides.h"

/* What the checks before a start found, and read meanwhile. */
typedef struct {
    tow_findings_t findings;
    tow_survey_t survey;                        /* valid when `surveyed` */
    bool surveyed, exists;                      /* exists: the job was begun before */
    tow_catalog_t in_the_way;                   /* the destination's, where the job was not begun */
    double window_seconds, full_window_seconds; /* of the source's oplog; -1: not known */
} tow_checked_t;

/* Connects both sides (NULL after a failure), which the caller closes, and runs all
 * checks. `starting`: a start follows, which waits for a lease and takes it. */
void tow_checks_run(tow_sides_t *sides, const tow_config_t *config, bool starting,
                    tow_checked_t *out);
void tow_checked_clear(tow_checked_t *checked);

/* That the source's version can block writes; an error says what to do where it cannot. */
bool tow_may_block_writes(const tow_link_t *source, tow_error_t *error) TOW_CHECK;

#endif
