/* SPDX-License-Identifier: Apache-2.0 */
/* notices.h: tells people by webhook and e-mail what became of a job.
 *
 * Each channel has a thread and a bounded queue of its own: a server that does not answer disturbs
 * neither the job nor the other channel. Threads: _send may be called from any thread. */
#ifndef TOW_NOTICE_NOTICES_H
#define TOW_NOTICE_NOTICES_H

#include "engine/base/error.h"
#include "engine/base/sink.h"

typedef struct tow_notices tow_notices_t;

/* The text of a notice; borrowed. */
typedef struct {
    const char
        *event; /* stable: "in_sync", "window_low", "expired", "failed", "different", "done" */
    const char *title;                      /* "in sync" */
    const char *message;                    /* for people; no secrets */
    const char *job, *source, *destination; /* hosts, no credentials */
} tow_notice_t;

/* Reads the options and their files; starts no thread before the first notice. *out NULL: nobody
 * wants notices. TOW_ERROR_OPTION. `sink` hears of what could not be sent. */
bool tow_notices_new(const tow_options_t *options, const tow_sink_t *sink, tow_notices_t **out,
                     tow_error_t *error) TOW_CHECK;
/* Queues a notice for every channel; takes NULL. A full queue drops it, which the sink hears. */
void tow_notices_send(tow_notices_t *notices, const tow_notice_t *notice);
/* Waits up to grace_ms until all is sent, then gives up what is left. Takes NULL. */
void tow_notices_close(tow_notices_t *notices, int64_t grace_ms);
void tow_notices_destroy(tow_notices_t *notices);
/* Sends one notice through every channel, once and now. TOW_ERROR_UNREACHABLE names the channel and
 * why. */
bool tow_notices_try(tow_notices_t *notices, const tow_notice_t *notice,
                     tow_error_t *error) TOW_CHECK;

#endif
