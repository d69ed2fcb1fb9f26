/* SPDX-License-Identifier: Apache-2.0 */
/* events.h: the last events of a server's jobs, for whoever reads them as server-sent events.
 *
 * A reader that is slow loses the oldest; it never holds up a job. Threads: any. */
#ifndef TOW_HTTP_EVENTS_H
#define TOW_HTTP_EVENTS_H

#include "engine/base/memory.h"
#include "engine/towline.h"

typedef struct tow_events tow_events_t;

tow_events_t *tow_events_new(void);
void tow_events_destroy(tow_events_t *events);
/* Whoever reads says so, and leaves when all was sent. */
void tow_events_join(tow_events_t *events);
void tow_events_leave(tow_events_t *events);
/* No one waits for events any more: readers come to their end. Returns when they have left, after a
 * second at most: one may be asleep. */
void tow_events_close(tow_events_t *events);
void tow_events_add(tow_events_t *events, tow_level_t level, const char *name, const char *message);
/* Appends what came behind *position, which moves on (0: all that is kept), after waiting for it at
 * most wait_ms. False: closed. */
bool tow_events_read(tow_events_t *events, uint64_t *position, int wait_ms, tow_buffer_t *out);

#endif
