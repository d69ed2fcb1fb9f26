/* SPDX-License-Identifier: Apache-2.0 */
/* view.h: a job's progress for people: state in, text out, without a clock and without I/O. */
#ifndef TOW_CMD_VIEW_H
#define TOW_CMD_VIEW_H

#include "engine/cmd/json.h"

typedef struct {
    const bson_t *progress;    /* {"progress": {…}} as an answer of the API has it */
    const bson_t *collections; /* {"collections": [{…}]}, or NULL */
    double bytes_per_second;   /* of the copy; 0: not known */
    const char *now;           /* the time, as JSON has times */
    size_t columns, rows;      /* of the terminal */
    bool colour;
} cmd_view_t;

/* The block: lines that fit the terminal, each with a newline; what does not fit on one goes on on
 * the next, and a name or text too long for a line is cut. Owned by the caller. */
char *cmd_view_block(const cmd_view_t *view);
/* The same in one line, however long, where there is no terminal. */
char *cmd_view_line(const cmd_view_t *view);

/* "21:34 UTC", with the day where that is another one than `now`'s; both are times as JSON has
 * them. */
const char *cmd_moment(const char *time, const char *now, char out[64]);

/* Bytes a second, smoothed. */
typedef struct {
    double bytes, seconds, rate;
} cmd_rate_t;
void cmd_rate_update(cmd_rate_t *rate, const bson_t *progress);
/* progress.c: draws the block on the terminal, as it is now; fills in what the view lacks. */
void cmd_draw(cmd_view_t *view, cmd_rate_t *rate);

#endif
