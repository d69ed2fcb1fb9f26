/* SPDX-License-Identifier: Apache-2.0 */
/* file.c: see file.h. */
#include "engine/base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/memory.h"

enum { SECRET_MOST = 1 << 20, PASSWD_BYTES = 16384, RANDOM_BYTES = 8 };

void tow_random(void *out, size_t length)
{
    for (size_t done = 0; done < length;) {
        ssize_t got = getrandom((char *)out + done, length - done, 0);

        if (got < 0 && errno != EINTR)
            abort(); /* no kernel that we run on refuses */
        done += got > 0 ? (size_t)got : 0;
    }
}

static bool is_ours(const struct stat *facts)
{
    return facts->st_uid == geteuid() || facts->st_uid == 0;
}

/* What others may do: `mode` for all of them, `group` where root opened it to one group. */
static bool is_open_to_others(const struct stat *facts, mode_t all, mode_t group)
{
    return facts->st_mode & (facts->st_uid == geteuid() ? all : all & ~group);
}

/* Writing ---------------------------------------------------------------------------------------*/

static char *temporary_name(const char *path)
{
    unsigned char random[RANDOM_BYTES];

    tow_random(random, sizeof random);
    return tow_format("%s.%02x%02x%02x%02x%02x%02x%02x%02x.tmp", path, random[0], random[1],
                      random[2], random[3], random[4], random[5], random[6], random[7]);
}

void tow_draft_open(tow_draft_t *draft, const char *path)
{
    draft->path = tow_strdup(path);
    draft->temporary = temporary_name(path);
    draft->file =
        open(draft->temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    draft->error = draft->file < 0 ? errno : 0;
}

void tow_draft_write(tow_draft_t *draft, const void *data, size_t length)
{
    for (size_t done = 0; !draft->error && done < length;) {
        ssize_t written = write(draft->file, (const char *)data + done, length - done);

        if (written < 0 && errno != EINTR)
            draft->error = errno;
        done += written > 0 ? (size_t)written : 0;
    }
}

static bool sync_folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *folder = !slash          ? tow_strdup(".")
                   : slash == path ? tow_strdup("/")
                                   : tow_format("%.*s", (int)(slash - path), path);
    int file = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = file >= 0 && fsync(file) == 0;
    int error = errno;

    if (file >= 0)
        close(file);
    free(folder);
    errno = error;
    return ok;
}

/* Ends the draft; `place` is rename or link. */
static bool finish(tow_draft_t *draft, int (*place)(const char *, const char *))
{
    int error = draft->error;
    bool made = draft->file >= 0;

    if (!error && (fsync(draft->file) ||
                   (place(draft->temporary, draft->path) && !(place == link && errno == EEXIST)) ||
                   !sync_folder_of(draft->path)))
        error = errno;
    if (made)
        close(draft->file);
    if (made && (error || place == link))
        unlink(draft->temporary);
    free(draft->path);
    free(draft->temporary);
    *draft = (tow_draft_t){.file = -1};
    errno = error;
    return !error;
}

bool tow_draft_finish(tow_draft_t *draft)
{
    return finish(draft, rename);
}

void tow_draft_drop(tow_draft_t *draft)
{
    if (draft->file >= 0) {
        close(draft->file);
        unlink(draft->temporary);
    }
    free(draft->path);
    free(draft->temporary);
    *draft = (tow_draft_t){.file = -1};
}

int tow_draft_unname(tow_draft_t *draft)
{
    int file = draft->error ? -1 : draft->file, error = draft->error;

    if (file >= 0) {
        unlink(draft->temporary);
        draft->file = -1;
    }
    tow_draft_drop(draft);
    errno = error;
    return file;
}

static bool is_draft_of(const char *entry, const char *name)
{
    size_t length = strlen(name);

    return !strncmp(entry, name, length) && entry[length] == '.' &&
           strspn(entry + length + 1, "0123456789abcdef") == 2 * RANDOM_BYTES &&
           !strcmp(entry + length + 1 + 2 * RANDOM_BYTES, ".tmp");
}

void tow_drafts_remove(const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    char *folder = slash ? tow_format("%.*s/", (int)(slash - path), path) : tow_strdup(".");
    DIR *open = opendir(folder);
    struct dirent *entry;

    while (open && (entry = readdir(open)))
        if (is_draft_of(entry->d_name, name))
            unlinkat(dirfd(open), entry->d_name, 0);
    if (open)
        closedir(open);
    free(folder);
}

bool tow_file_replace(const char *path, const void *data, size_t length)
{
    tow_draft_t draft;

    tow_draft_open(&draft, path);
    tow_draft_write(&draft, data, length);
    return finish(&draft, rename);
}

bool tow_file_create(const char *path, const void *data, size_t length)
{
    tow_draft_t draft;

    tow_draft_open(&draft, path);
    tow_draft_write(&draft, data, length);
    return finish(&draft, link);
}

/* With a second name it may be any other file of ours, which somebody linked there to have us
 * overwrite it. A file of one name is read under two while tow_file_create makes it. */
static bool may_be_another(const struct stat *facts, int flags)
{
    return facts->st_nlink > 1 && (flags & O_ACCMODE) != O_RDONLY;
}

/* A pipe in its place would be waited for, which O_NONBLOCK keeps it from. */
int tow_file_open(const char *path, int flags)
{
    int file = open(path, flags | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0600);
    struct stat facts;

    if (file < 0)
        return -1;
    if (fstat(file, &facts) || !S_ISREG(facts.st_mode) || !is_ours(&facts) ||
        may_be_another(&facts, flags)) {
        close(file);
        errno = EPERM;
        return -1;
    }
    fcntl(file, F_SETFL, flags & O_APPEND);
    return file;
}

/* Secrets ---------------------------------------------------------------------------------------*/

bool tow_trusted_check(int file, const char *option, const char *path, tow_error_t *error)
{
    struct stat facts;

    if (fstat(file, &facts))
        return tow_fail_errno(error, TOW_ERROR_OPTION, "--%s: cannot read '%s'", option, path);
    if (!is_ours(&facts))
        return tow_fail(error, TOW_ERROR_OPTION,
                        "--%s: %s belongs to another user (uid %u), who may change it; make it "
                        "yours with chown, or give a file of your own",
                        option, path, (unsigned)facts.st_uid);
    if (!S_ISCHR(facts.st_mode) && is_open_to_others(&facts, 022, 020))
        return tow_fail(error, TOW_ERROR_OPTION,
                        "--%s: others may write %s; make it yours alone with chmod go-w %s", option,
                        path, path);
    return true;
}

bool tow_secret_check_as(int file, const char *name, const char *path, tow_error_t *error)
{
    struct stat facts;

    if (fstat(file, &facts))
        return tow_fail_errno(error, TOW_ERROR_OPTION, "%s: cannot read '%s'", name, path);
    if (!S_ISREG(facts.st_mode) && !S_ISFIFO(facts.st_mode))
        return tow_fail(error, TOW_ERROR_OPTION,
                        "%s: %s is not a regular file; give one that holds the "
                        "secret",
                        name, path);
    if (!is_ours(&facts))
        return tow_fail(
            error, TOW_ERROR_OPTION,
            "%s: %s belongs to another user (uid %u), who may change it; make it yours with "
            "chown, or give a file of your own",
            name, path, (unsigned)facts.st_uid);
    if (is_open_to_others(&facts, 077, 040))
        return tow_fail(error, TOW_ERROR_OPTION,
                        "%s: others may read %s; make it yours alone with chmod 600 %s", name, path,
                        path);
    return true;
}

bool tow_secret_check(int file, const char *option, const char *path, tow_error_t *error)
{
    char name[64];

    snprintf(name, sizeof name, "--%s", option);
    return tow_secret_check_as(file, name, path, error);
}

static bool read_all(int file, const char *option, const char *path, char *out, size_t *length,
                     tow_error_t *error)
{
    ssize_t got;

    *length = 0;
    while ((got = read(file, out + *length, SECRET_MOST + 1 - *length)) != 0) {
        if (got < 0 && errno != EINTR)
            return tow_fail_errno(error, TOW_ERROR_OPTION, "--%s: cannot read '%s'", option, path);
        *length += got > 0 ? (size_t)got : 0;
    }
    out[*length] = '\0';
    if (*length > SECRET_MOST)
        return tow_fail(error, TOW_ERROR_OPTION, "--%s: %s is over 1 MB; give the right file",
                        option, path);
    if (strlen(out) != *length)
        return tow_fail(error, TOW_ERROR_OPTION, "--%s: %s holds a zero byte; expected text",
                        option, path);
    return true;
}

static bool read_text(const char *option, const char *path, bool secret, char **out,
                      tow_error_t *error)
{
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    size_t length;
    char *text;
    bool ok;

    *out = NULL;
    if (file < 0)
        return tow_fail_errno(error, TOW_ERROR_OPTION, "--%s: cannot read '%s'", option, path);
    text = tow_alloc(SECRET_MOST + 2);
    fcntl(file, F_SETFL, 0); /* a pipe is waited for */
    ok = (!secret || tow_secret_check(file, option, path, error)) &&
         read_all(file, option, path, text, &length, error);
    close(file);
    if (ok)
        *out = tow_strdup(text);
    free(text);
    return ok;
}

bool tow_secret_read(const char *option, const char *path, char **out, tow_error_t *error)
{
    return read_text(option, path, true, out, error);
}

bool tow_file_read(const char *option, const char *path, char **out, tow_error_t *error)
{
    return read_text(option, path, false, out, error);
}

/* Folders ---------------------------------------------------------------------------------------*/

/* Whoever may write a folder, or owns it, may put another in the place of what is in it; in a
 * sticky one, as /tmp is, only of what is his own. */
static bool check_folder(const char *path, bool last, tow_error_t *error)
{
    struct stat facts, link;

    if (stat(path, &facts) || lstat(path, &link))
        return tow_fail_errno(error, TOW_ERROR_OPTION, "cannot look at the folder '%s'", path);
    if (!S_ISDIR(facts.st_mode))
        return tow_fail(error, TOW_ERROR_OPTION, "%s is not a folder; remove it, or give another",
                        path);
    if (!is_ours(&facts) || !is_ours(&link))
        return tow_fail(
            error, TOW_ERROR_OPTION,
            "the folder %s belongs to another user (uid %u), who may change what is in it; give "
            "one of your own",
            path, (unsigned)(is_ours(&facts) ? link : facts).st_uid);
    if (last ? is_open_to_others(&facts, 022, 020)
             : (facts.st_mode & S_IWOTH) && !(facts.st_mode & S_ISVTX))
        return facts.st_mode & S_ISVTX
                   ? tow_fail(error, TOW_ERROR_OPTION,
                              "others may write the folder %s; give one below it, which will be "
                              "yours alone",
                              path)
                   : tow_fail(error, TOW_ERROR_OPTION,
                              "others may write the folder %s; make it yours alone with chmod go-w "
                              "%s",
                              path, path);
    return true;
}

static bool make_one(const char *path, bool last, tow_error_t *error)
{
    if (mkdir(path, 0700) && errno != EEXIST)
        return tow_fail_errno(error, TOW_ERROR_OPTION, "cannot make the folder '%s'", path);
    return check_folder(path, last, error);
}

bool tow_folder_make(const char *path, tow_error_t *error)
{
    char *copy = tow_strdup(path);
    size_t length = strlen(copy);
    bool ok = true;

    while (length > 1 && copy[length - 1] == '/')
        copy[--length] = '\0';
    for (char *at = copy + 1; ok && *copy && *at; at++) {
        if (*at != '/' || at[-1] == '/')
            continue;
        *at = '\0';
        ok = make_one(copy, false, error);
        *at = '/';
    }
    ok = ok && make_one(copy, true, error);
    free(copy);
    return ok;
}

static char *home_folder(void)
{
    const char *home = getenv("HOME");
    struct passwd entry, *found = NULL;
    char room[PASSWD_BYTES];

    if (home && *home == '/')
        return tow_strdup(home);
    if (getpwuid_r(geteuid(), &entry, room, sizeof room, &found) || !found || !found->pw_dir ||
        *found->pw_dir != '/')
        return NULL;
    return tow_strdup(found->pw_dir);
}

char *tow_state_folder(void)
{
    const char *state = getenv("XDG_STATE_HOME");
    char *home, *folder;

    if (state && *state)
        return tow_format("%s/towline", state);
    home = home_folder();
    folder = home ? tow_format("%s/.local/state/towline", home) : NULL;
    free(home);
    return folder;
}
