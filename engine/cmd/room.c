/* room.c: room on the disk for a file that is written when it is too late to ask for another one.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/cmd/cmd.h"

enum { ROOM_BYTES = 1 << 20 };

static bool fail(const char *path, int code, tow_error_t *error)
{
    error->code = TOW_ERROR_OPTION;
    snprintf(error->message, sizeof error->message, "cannot write %s: %s; choose another file",
             path, strerror(code));
    return false;
}

bool cmd_take_room(const char *path, char **out, tow_error_t *error)
{
    struct stat facts;
    int file, code;

    *out = NULL;
    if (!path || (lstat(path, &facts) == 0 && !S_ISREG(facts.st_mode)))
        return true;
    *out = tow_format("%s.room", path);
    unlink(*out); /* a killed process's */
    file = open(*out, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    code = file < 0 ? errno : posix_fallocate(file, 0, ROOM_BYTES);
    if (file >= 0)
        close(file);
    if (!code)
        return true;
    if (file >= 0)
        unlink(*out);
    free(*out);
    *out = NULL;
    return fail(path, code, error);
}

void cmd_free_room(char *room)
{
    if (room)
        unlink(room);
    free(room);
}
