/* SPDX-License-Identifier: Apache-2.0 */
/* file.h: files and folders that are ours alone: made private, whole or not at all, and without
 * following anybody's links; what others may have written is not trusted, and a secret that others
 * may read is refused.
 *
 * "Ours" is what our user owns, or root. What root owns may be open to one group, as a secret or a
 * volume that a container is given is; what our own user owns may not. */
#ifndef TOW_BASE_FILE_H
#define TOW_BASE_FILE_H

#include <stddef.h>

#include "engine/base/error.h"

/* From the kernel; aborts where that is not possible. */
void tow_random(void *out, size_t length);

/* A file that is being written beside its place, with mode 0600. Errors are kept until it is
 * finished. */
typedef struct {
    int file;  /* -1: there is none */
    int error; /* errno of the first failure, 0: none yet */
    char *path, *temporary;
} tow_draft_t;

void tow_draft_open(tow_draft_t *draft, const char *path);
void tow_draft_write(tow_draft_t *draft, const void *data, size_t length);
/* Puts the file in its place, durably, or leaves no trace of it. False with errno. */
bool tow_draft_finish(tow_draft_t *draft) TOW_CHECK;
/* Leaves no trace of it; one that is not open may be dropped too. */
void tow_draft_drop(tow_draft_t *draft);
/* Takes its name away, so that nothing of it is left when the process is killed: what is written is
 * gone when the file is closed, which is the caller's to do. -1 with errno. */
int tow_draft_unname(tow_draft_t *draft) TOW_CHECK;
/* Removes the drafts of a file that killed processes have left; no other may be writing it. */
void tow_drafts_remove(const char *path);

/* The same in one step. False with errno. */
bool tow_file_replace(const char *path, const void *data, size_t length) TOW_CHECK;
/* Never replaces: of several processes that make it one wins, and that too is true. False with
 * errno. */
bool tow_file_create(const char *path, const void *data, size_t length) TOW_CHECK;

/* open(2) of a regular file of ours; with O_CREAT it is made with mode 0600. -1 with errno: ELOOP
 * for a link, EPERM for what is no regular file, is another user's, or is to be written and has a
 * second name. */
int tow_file_open(const char *path, int flags) TOW_CHECK;

/* The text of a file, or of a pipe, that nobody else may read; at most 1 MB. Owned by the caller.
 * TOW_ERROR_OPTION names --option, the file, and what to do. */
bool tow_secret_read(const char *option, const char *path, char **out,
                     tow_error_t *error) TOW_CHECK;
/* Whether an open file is such a one. TOW_ERROR_OPTION, likewise. */
bool tow_secret_check(int file, const char *option, const char *path, tow_error_t *error) TOW_CHECK;
/* The same of what no option gives: `name` as the error shows it. */
bool tow_secret_check_as(int file, const char *name, const char *path,
                         tow_error_t *error) TOW_CHECK;
/* Whether what an open file says is to be done: nobody else owns it or may write it. A device, such
 * as /dev/null, has no text to change. */
bool tow_trusted_check(int file, const char *option, const char *path,
                       tow_error_t *error) TOW_CHECK;
/* As tow_secret_read, of a file that others may read. */
bool tow_file_read(const char *option, const char *path, char **out, tow_error_t *error) TOW_CHECK;

/* Makes a folder and those above it, what is new with mode 0700. TOW_ERROR_OPTION: it cannot be
 * made, or others own or may write it, or may replace one of those above it. */
bool tow_folder_make(const char *path, tow_error_t *error) TOW_CHECK;

/* Where our user's state is: $XDG_STATE_HOME/towline, or ~/.local/state/towline, where ~ is $HOME
 * or what the user database says. NULL: there is no such place. Owned by the caller. */
char *tow_state_folder(void);

#endif
