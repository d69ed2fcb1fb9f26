/* SPDX-License-Identifier: Apache-2.0 */
/* sides.h: both deployments, and what copy, stream, comparison and checks need to know beside them.
 *
 * Threads: constant from the moment a thread that uses it is started, but for the links: each is
 * set once, when its side is connected, and others may look for it meanwhile. */
#ifndef TOW_STATE_SIDES_H
#define TOW_STATE_SIDES_H

#include "engine/link/link.h"
#include "engine/state/filter.h"

typedef struct {
    tow_link_t *_Atomic source, *_Atomic destination; /* NULL: not connected */
    tow_filter_t *filter;
    char *filter_text;
    tow_stop_t *stop;
    tow_sink_t sink;
} tow_sides_t;

#endif
