/* SPDX-License-Identifier: Apache-2.0 */
/* cells.h: text in the cells of a terminal, and its colours. */
#ifndef TOW_CMD_CELLS_H
#define TOW_CMD_CELLS_H

#include <stdbool.h>
#include <stddef.h>

#include "engine/base/memory.h"

/* Marks within a line. Printable text holds no control character, so that these are ours; they take
 * no cell, and cmd_fit makes colours of them, or nothing. */
#define CMD_PLAIN "\001"
#define CMD_BOLD "\002"
#define CMD_DIM "\003"
#define CMD_RED "\004"
#define CMD_GREEN "\005"
#define CMD_YELLOW "\006"

/* The cells that a line takes: two for what East Asia and emoji draw wide, none for what combines
 * with the character before, for marks and for colours. */
size_t cmd_cells(const char *line, size_t length);
/* Appends the line, cut with an ellipsis where it takes more than `cells`: never within a
 * character, nor within the \xNN of one that cannot be shown. */
void cmd_fit(tow_buffer_t *out, const char *line, size_t cells, bool colour);
/* The text, cut at `most` cells and padded to `least`, as a column of a table. Owned by the
 * caller. */
char *cmd_column(const char *text, size_t least, size_t most);
/* Whether colours are for this file: it is a terminal, and neither NO_COLOR nor TERM=dumb says
 * otherwise. */
bool cmd_has_colours(int file);
/* The escape sequence of a mark where stdout has colours, "" otherwise. */
const char *cmd_colour(const char *mark);

#endif
