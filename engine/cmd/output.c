/* SPDX-License-Identifier: Apache-2.0 */
/* output.c: lines on stderr and results on stdout, which others may read, or not. */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/json.h"
#include "engine/base/text.h"
#include "engine/cmd/cmd.h"

enum { SAY_MS = 1000, PIECE = 4096 /* what a pipe with room takes at once */ };

static bool has_room(int file, int wait_ms)
{
    struct pollfd look = {.fd = file, .events = POLLOUT};

    return poll(&look, 1, wait_ms) != 0; /* an error shows when it is written to */
}

bool cmd_is_blocked(int file)
{
    return !has_room(file, 0);
}

bool cmd_write(int file, const void *data, size_t length, int wait_ms)
{
    for (size_t done = 0; done < length;) {
        size_t piece = length - done < PIECE || wait_ms < 0 ? length - done : PIECE;
        ssize_t written;

        if (!has_room(file, wait_ms))
            return false;
        written = write(file, (const char *)data + done, piece);
        if (written < 0 && errno != EINTR && errno != EAGAIN)
            return false;
        done += written > 0 ? (size_t)written : 0;
    }
    return true;
}

void cmd_say(const char *format, ...)
{
    va_list arguments;
    char *text = NULL, *shown, *line;

    va_start(arguments, format);
    if (vasprintf(&text, format, arguments) < 0)
        tow_out_of_memory();
    va_end(arguments);
    tow_hide_credentials(text);
    shown = tow_printable(text);
    line = tow_format("towline: %s\n", shown);
    cmd_write(STDERR_FILENO, line, strlen(line), SAY_MS);
    free(line);
    free(shown);
    free(text);
}

int cmd_fail(const tow_error_t *error)
{
    cmd_say("%s", error->message);
    return (int)error->code;
}

void cmd_print_json(const char *json)
{
    char *shown = tow_json_printable(json);

    puts(shown);
    free(shown);
}

int cmd_end(int status)
{
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    cmd_say("the result cannot be written to standard output%s%s; it is not whole",
            errno ? ": " : "", errno ? strerror(errno) : "");
    return status ? status : TOW_ERROR_OUTPUT;
}
