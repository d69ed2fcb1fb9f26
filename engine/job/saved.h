/* SPDX-License-Identifier: Apache-2.0 */
/* saved.h: what a comparison on its own has compared, kept in a file, so that after a crash the
 * same command goes on from there.
 *
 * A change stream on either side tells of every write, and the file holds their positions with the
 * ranges: what was written while nobody compared is compared again. Where that cannot be known,
 * everything is. Nothing is written to either side.
 *
 * Threads: one of its own saves four times a second; the streams have one each. */
#ifndef TOW_JOB_SAVED_H
#define TOW_JOB_SAVED_H

#include "engine/link/link.h"
#include "engine/state/filter.h"
#include "verify/verify.h"

typedef struct tow_saved tow_saved_t;

typedef struct {
    const char *path;
    tow_link_t *source, *destination;
    const tow_filter_t *filter;
    tow_verify_mode_t mode;
    tow_stop_t *stop;
    tow_sink_t sink;
} tow_saved_options_t;

/* Reads the file where there is one, and writes it at once. NULL with *error: TOW_ERROR_SETTINGS
 * (it is of another comparison), TOW_ERROR_OPTION (it is no such file, or cannot be written),
 * TOW_ERROR_UNSUITABLE (a side has no change stream for us). */
tow_saved_t *tow_saved_open(const tow_saved_options_t *options, tow_error_t *error);
tow_track_t *tow_saved_track(tow_saved_t *saved); /* for the comparison; borrowed */
/* `finished`: the comparison came to its end, and the file goes. Takes NULL. */
void tow_saved_close(tow_saved_t *saved, bool finished);

#endif
