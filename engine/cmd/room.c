/* SPDX-License-Identifier: Apache-2.0 */
/* room.c: room on the disk for a file that is written when it is too late to ask
 * for another one. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/file.h"
#include "engine/cmd/cmd.h"

enum { ROOM_BYTES = 1 << 20 };

static bool fail(const char *path, int code, tow_error_t *error)
{
    error->code = TOW_ERROR_OPTION;
    snprintf(error->message, sizeof error->message, "cannot write '%s': %s; choose another file",
             path, strerror(code));
    return false;
}

bool cmd_take_room(const char *path, int *out, tow_error_t *error)
{
    struct stat facts;
    tow_draft_t draft;
    int code;

    *out = -1;
    if (!path || (lstat(path, &facts) == 0 && !S_ISREG(facts.st_mode)))
        return true;
    tow_draft_open(&draft, path);
    *out = tow_draft_unname(&draft);
    code = *out < 0 ? errno : posix_fallocate(*out, 0, ROOM_BYTES);
    if (!code)
        return true;
    cmd_free_room(*out);
    *out = -1;
    return fail(path, code, error);
}

void cmd_free_room(int room)
{
    if (room >= 0)
        close(room);
}
