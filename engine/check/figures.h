/* SPDX-License-Identifier: Apache-2.0 */
/* figures.h: judgements of figures, which need no server. Each adds one finding. */
#ifndef TOW_CHECK_FIGURES_H
#define TOW_CHECK_FIGURES_H

#include "engine/check/findings.h"

void tow_judge_spool(tow_findings_t *findings, const char *folder, uint64_t free_bytes);
/* `total_bytes` 0: the server does not tell. */
void tow_judge_destination(tow_findings_t *findings, uint64_t copy_bytes, double used_bytes,
                           double total_bytes);
/* `full_seconds`: what the window grows to once the oplog is as large as it may be; at least
 * `window_seconds`. */
void tow_judge_window(tow_findings_t *findings, double window_seconds, double full_seconds,
                      double copy_seconds);
/* How far each side's clock is ahead of this machine's, in seconds. */
void tow_judge_clocks(tow_findings_t *findings, double source_seconds, double destination_seconds);
void tow_judge_files(tow_findings_t *findings, uint64_t limit, uint64_t needed);

#endif
