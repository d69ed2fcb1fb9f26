/* SPDX-License-Identifier: Apache-2.0 */
/* watch.h: hears every write to a deployment that the filter takes, as its keys alone.
 *
 * The verifier watches the destination with it, so that what was compared and then written, by
 * whomever, is compared again. It keeps nothing: each key goes to a function, once or more.
 *
 * Threads: one of its own, which calls the functions; the rest may be called from any thread. */
#ifndef TOW_OPLOG_WATCH_H
#define TOW_OPLOG_WATCH_H

#include "engine/link/link.h"
#include "engine/state/filter.h"
#include "engine/state/key.h"

typedef struct {
    tow_link_t *link;
    const tow_filter_t *filter;
    tow_stop_t *stop;
    void *data;
    void (*key)(void *data, const char *database, const char *collection, tow_value_t id);
    /* The collection was dropped or renamed, or another one took its name; "": those of the
     * database. */
    void (*gone)(void *data, const char *database, const char *collection);
    /* The stream could not be continued and began anew: before that, anything may have been
     * written. */
    void (*gap)(void *data, const char *why);
} tow_watch_options_t;

typedef struct tow_watch tow_watch_t;

/* Opens the stream from now on: writes that begin after it returned are heard. With `token`, of an
 * earlier watch, behind that; where it is gone, from now on and with a gap. NULL with *error where
 * there is no change stream to be had. */
tow_watch_t *tow_watch_new(const tow_watch_options_t *options, const bson_t *token,
                           tow_error_t *error);
/* Behind everything that was told so far; owned by the caller. */
void tow_watch_token(tow_watch_t *watch, bson_t *out);
void tow_watch_destroy(tow_watch_t *watch); /* joins; ends without the stop, too; takes NULL */
/* Waits until every write that was acknowledged before the call was told. False: it was not, within
 * wait_ms, or the stop came. */
bool tow_watch_wait(tow_watch_t *watch, int64_t wait_ms);

#endif
