/* SPDX-License-Identifier: Apache-2.0 */
/* sink.h: how code below the job tells what happened without logging: it hands events to a sink. */
#ifndef TOW_BASE_SINK_H
#define TOW_BASE_SINK_H

#include "engine/towline.h"

typedef struct {
    tow_event_fn fn; /* may be NULL; must be thread-safe */
    void *data;
} tow_sink_t;

void tow_emit(const tow_sink_t *sink, tow_level_t level, const char *name, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

#endif
