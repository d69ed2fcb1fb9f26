/* SPDX-License-Identifier: Apache-2.0 */
/* readiness.h: what a probe is told. */
#ifndef TOW_HTTP_READINESS_H
#define TOW_HTTP_READINESS_H

#include "engine/towline.h"

/* A line that says whether a job works and both sides answer, and otherwise why not; owned by the
 * caller. NULL: no job was started. Whoever asks has shown no token: it names no host and no
 * namespace. */
char *tow_readiness(const tow_progress_t *now, bool *out_ready);

#endif
