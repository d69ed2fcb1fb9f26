/* SPDX-License-Identifier: Apache-2.0 */
/* screen.c: see screen.h. */
#include "engine/cmd/screen.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/cmd/cells.h"
#include "engine/cmd/cmd.h"

#define HIDE "\033[?25l"
#define SHOW "\033[?25h"

enum { COLUMNS = 80, ROWS = 24 };

static struct {
    pthread_mutex_t lock; /* guards what follows; held while a frame is written */
    bool active;
    char *block; /* as it is on the terminal; NULL: none is */
} screen = {.lock = PTHREAD_MUTEX_INITIALIZER};

bool cmd_screen_begin(void)
{
    const char *kind = getenv("TERM");

    if (!isatty(STDOUT_FILENO) || !kind || !*kind || !strcmp(kind, "dumb"))
        return false;
    pthread_mutex_lock(&screen.lock);
    screen.active = true;
    pthread_mutex_unlock(&screen.lock);
    return true;
}

void cmd_screen_size(size_t *out_columns, size_t *out_rows)
{
    struct winsize window = {0};

    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &window))
        window = (struct winsize){0};
    *out_columns = window.ws_col ? window.ws_col : COLUMNS;
    *out_rows = window.ws_row ? window.ws_row : ROWS;
}

/* The rows that a block takes: more than it has lines where the terminal became narrower since, and
 * broke them. */
static size_t rows_of(const char *block, size_t columns)
{
    size_t rows = 0;

    for (const char *line = block, *end; (end = strchr(line, '\n')); line = end + 1) {
        size_t cells = cmd_cells(line, (size_t)(end - line));

        rows += cells > columns ? (cells + columns - 1) / columns : 1;
    }
    return rows;
}

static void append(tow_buffer_t *out, const char *text)
{
    tow_buffer_append(out, text, strlen(text));
}

/* What takes the block away: from below it up to its first line, and all from there on. */
static void append_erasure(tow_buffer_t *out, const char *block, size_t columns)
{
    char up[32];

    if (!block || !*block)
        return;
    snprintf(up, sizeof up, "\r\033[%zuA\033[J", rows_of(block, columns));
    append(out, up);
}

/* The lock is held. In one write, so that nobody sees half of it. */
static void write_frame(const char *lines, size_t length, const char *block)
{
    tow_buffer_t frame = {0};
    size_t columns, rows;

    cmd_screen_size(&columns, &rows);
    append(&frame, HIDE);
    append_erasure(&frame, screen.block, columns);
    tow_buffer_append(&frame, lines, length);
    append(&frame, block);
    append(&frame, SHOW);
    cmd_write(STDOUT_FILENO, frame.data, frame.length, -1);
    tow_buffer_free(&frame);
}

void cmd_screen_draw(const char *block)
{
    pthread_mutex_lock(&screen.lock);
    if (screen.active && (!screen.block || strcmp(screen.block, block) != 0)) {
        write_frame("", 0, block);
        free(screen.block);
        screen.block = tow_strdup(block);
    }
    pthread_mutex_unlock(&screen.lock);
}

static bool is_terminal(int file)
{
    struct stat here, there;

    return isatty(file) && fstat(file, &here) == 0 && fstat(STDOUT_FILENO, &there) == 0 &&
           here.st_rdev == there.st_rdev;
}

bool cmd_screen_above(int file, const char *lines, size_t length)
{
    bool above;

    pthread_mutex_lock(&screen.lock);
    above = screen.active && screen.block && is_terminal(file);
    if (above)
        write_frame(lines, length, screen.block);
    pthread_mutex_unlock(&screen.lock);
    return above;
}

void cmd_screen_end(void)
{
    pthread_mutex_lock(&screen.lock);
    if (screen.block)
        write_frame("", 0, "");
    free(screen.block);
    screen.block = NULL;
    screen.active = false;
    pthread_mutex_unlock(&screen.lock);
}
