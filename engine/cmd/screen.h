/* SPDX-License-Identifier: Apache-2.0 */
/* screen.h: one block at the bottom of the terminal, which is redrawn in place, and lines above it.
 *
 * There is one terminal, so there is one screen. The cursor is hidden only while a frame is drawn,
 * and rests below the block: however the process ends, the prompt that follows finds it there.
 * Threads: all functions may be called from any thread. */
#ifndef TOW_CMD_SCREEN_H
#define TOW_CMD_SCREEN_H

#include <stdbool.h>
#include <stddef.h>

/* False: stdout is no terminal, or one that moves no cursor (TERM=dumb). */
bool cmd_screen_begin(void);
/* The size as of now; a terminal that does not say is of 80 by 24. */
void cmd_screen_size(size_t *out_columns, size_t *out_rows);
/* Shows this block instead of the last. Each line ends with a newline and fits the terminal. */
void cmd_screen_draw(const char *block);
/* Writes whole lines above the block. False: there is none, or the file is another than its
 * terminal; nothing is written then. */
bool cmd_screen_above(int file, const char *lines, size_t length);
/* The block goes, and what is printed next is where it was. */
void cmd_screen_end(void);

#endif
