/* SPDX-License-Identifier: Apache-2.0 */
/* driver.h: what the driver says besides the errors that its functions return. It has one handler
 * for the whole process, which is the host's unless tow_take_driver_log() was called: then what it
 * gets is kept here until somebody is in a position to take it, since the driver may hold locks of
 * its own when it speaks. Thread-safe. */
#ifndef TOW_LINK_DRIVER_H
#define TOW_LINK_DRIVER_H

#include "engine/base/memory.h"
#include "engine/base/sink.h"

bool tow_driver_is_heard(void); /* its handler is ours */
/* From the first _enter to the last _leave warnings are kept; at other times they are the host
 * program's, and go where libmongoc sends them by itself. */
void tow_driver_enter(void);
void tow_driver_leave(void);
/* What this thread makes the driver say, a line each, goes to *lines alone; NULL: no more. */
void tow_driver_listen(tow_buffer_t *lines);
/* Hands over what is kept, as events `driver_warning`; the same words once a minute at most. */
void tow_driver_tell(const tow_sink_t *sink);

#endif
