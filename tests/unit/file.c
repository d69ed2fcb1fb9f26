/* SPDX-License-Identifier: Apache-2.0 */
/* file.c: files are made private, exclusively and whole; what others could have
 * written is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/file.h"
#include "engine/base/memory.h"
#include "engine/link/link.h"

enum { NOBODY = 65534 };

static char folder[64];

static const char *in(const char *name)
{
    static char path[2][128];
    static int turn;

    turn = !turn;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

static int make_folder(void **state)
{
    strcpy(folder, "/tmp/towline-file-XXXXXX");
    return mkdtemp(folder) ? 0 : 1;
}

static int remove_folder(void **state)
{
    char command[128];

    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static void put(const char *path, const char *text, mode_t mode)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    assert_int_equal(chmod(path, mode), 0);
}

static void expect_text(const char *path, const char *expected)
{
    char text[64] = "";
    FILE *file = fopen(path, "r");

    assert_non_null(file);
    assert_true(fread(text, 1, sizeof text - 1, file) < sizeof text);
    fclose(file);
    assert_string_equal(text, expected);
}

static void expect_no_draft(void)
{
    glob_t found = {0};

    assert_int_equal(glob(in("*.tmp"), 0, NULL, &found), GLOB_NOMATCH);
    globfree(&found);
}

static void a_file_is_private_and_replaced_whole(void **state)
{
    struct stat facts;

    umask(0);
    put(in("a"), "before", 0644);
    assert_true(tow_file_replace(in("a"), "after", 5));
    expect_text(in("a"), "after");
    assert_int_equal(stat(in("a"), &facts), 0);
    assert_int_equal(facts.st_mode & 0777, 0600);
    expect_no_draft();
    assert_false(tow_file_replace(in("none/a"), "after", 5));
    assert_int_equal(errno, ENOENT);
}

/* In a folder that others may write they may plant links: what these point to must stay
 * as it is. */
static void a_link_in_its_place_is_replaced_and_not_followed(void **state)
{
    struct stat facts;
    char target[128];

    put(in("victim"), "mine", 0600);
    snprintf(target, sizeof target, "%s", in("victim"));
    assert_int_equal(symlink(target, in("a")), 0);
    assert_true(tow_file_replace(in("a"), "after", 5));
    expect_text(target, "mine");
    assert_int_equal(lstat(in("a"), &facts), 0);
    assert_true(S_ISREG(facts.st_mode));
    assert_int_equal(symlink(target, in("b")), 0);
    assert_true(tow_file_create(in("b"), "after", 5)); /* somebody else's won */
    expect_text(target, "mine");
    assert_int_equal(tow_file_open(in("b"), O_RDWR | O_CREAT), -1);
    assert_int_equal(errno, ELOOP);
}

static void a_failed_draft_leaves_the_old_file(void **state)
{
    tow_draft_t draft;

    put(in("a"), "before", 0600);
    tow_draft_open(&draft, in("a"));
    tow_draft_write(&draft, "half", 4);
    draft.error = ENOSPC;
    assert_false(tow_draft_finish(&draft));
    assert_int_equal(errno, ENOSPC);
    expect_text(in("a"), "before");
    expect_no_draft();
}

static void the_first_to_create_wins(void **state)
{
    assert_true(tow_file_create(in("a"), "first", 5));
    assert_true(tow_file_create(in("a"), "later", 5));
    expect_text(in("a"), "first");
    expect_no_draft();
}

static void only_regular_files_of_ours_are_opened(void **state)
{
    int file = tow_file_open(in("new"), O_RDWR | O_CREAT);
    struct stat facts;

    assert_true(file >= 0);
    assert_int_equal(fstat(file, &facts), 0);
    assert_int_equal(facts.st_mode & 0777, 0600);
    close(file);
    assert_int_equal(mkfifo(in("pipe"), 0600), 0);
    assert_int_equal(tow_file_open(in("pipe"), O_RDONLY), -1); /* and is not waited for */
    assert_int_equal(errno, EPERM);
    if (geteuid() == 0) {
        assert_int_equal(chown(in("new"), NOBODY, NOBODY), 0);
        assert_int_equal(tow_file_open(in("new"), O_RDONLY), -1);
        assert_int_equal(errno, EPERM);
    }
}

static void nothing_is_written_through_a_hard_link(void **state TOW_UNUSED)
{
    char target[128];
    int file;

    put(in("victim"), "mine", 0600);
    snprintf(target, sizeof target, "%s", in("victim"));
    assert_int_equal(link(target, in("log")), 0);
    assert_int_equal(tow_file_open(in("log"), O_WRONLY | O_APPEND | O_CREAT), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(tow_file_open(in("log"), O_RDWR | O_CREAT), -1);
    file = tow_file_open(in("log"), O_RDONLY);
    assert_true(file >= 0);
    close(file);
    assert_int_equal(unlink(target), 0);
    file = tow_file_open(in("log"), O_WRONLY | O_APPEND);
    assert_true(file >= 0);
    close(file);
}

static void refuse(const char *path, const char *part)
{
    tow_error_t error;
    char *text;

    assert_false(tow_secret_read("source-file", path, &text, &error));
    assert_null(text);
    assert_int_equal(error.code, TOW_ERROR_OPTION);
    assert_non_null(strstr(error.message, "--source-file"));
    assert_non_null(strstr(error.message, part));
}

static void a_secret_that_others_may_read_is_refused(void **state)
{
    tow_error_t error;
    char *text;

    put(in("good"), "secret\n", 0600);
    assert_true(tow_secret_read("source-file", in("good"), &text, &error));
    assert_string_equal(text, "secret\n");
    free(text);
    for (mode_t bit = 1; bit <= 040; bit <<= 1) {
        put(in("open"), "secret", 0600 | bit);
        refuse(in("open"), "chmod 600 /tmp/towline-file-");
    }
    refuse("/dev/zero", "regular");
    refuse(folder, "regular");
    refuse(in("missing"), "No such file");
    put(in("zero"), "secret", 0600);
    assert_int_equal(truncate(in("zero"), 20), 0);
    refuse(in("zero"), "zero byte");
    assert_int_equal(truncate(in("zero"), (1 << 20) + 1), 0);
    refuse(in("zero"), "1 MB");
    if (geteuid() == 0) {
        assert_int_equal(chown(in("good"), NOBODY, NOBODY), 0);
        refuse(in("good"), "another user");
    }
}

/* As in --source-file <(command). */
static void a_pipe_may_hold_a_secret(void **state)
{
    tow_error_t error;
    char path[32], *text;
    int ends[2];

    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], "secret", 6), 6);
    close(ends[1]);
    snprintf(path, sizeof path, "/dev/fd/%d", ends[0]);
    assert_true(tow_secret_read("source-file", path, &text, &error));
    assert_string_equal(text, "secret");
    free(text);
    close(ends[0]);
}

static void refuse_folder(const char *path, const char *part)
{
    tow_error_t error;

    assert_false(tow_folder_make(path, &error));
    assert_non_null(strstr(error.message, part));
}

static void folders_that_others_may_write_are_refused(void **state)
{
    struct stat facts;
    tow_error_t error;

    umask(0);
    assert_true(tow_folder_make(in("x/y//z/"), &error));
    assert_int_equal(stat(in("x/y"), &facts), 0);
    assert_int_equal(facts.st_mode & 0777, 0700);
    assert_true(tow_folder_make(in("x/y/z"), &error));
    assert_int_equal(chmod(in("x/y/z"), 0755), 0);
    assert_true(tow_folder_make(in("x/y/z"), &error));
    assert_int_equal(chmod(in("x/y/z"), 0775), 0);
    refuse_folder(in("x/y/z"), "chmod go-w");
    assert_int_equal(chmod(in("x/y/z"), 01777), 0); /* as /tmp, which is nobody's to change */
    refuse_folder(in("x/y/z"), "give one below it");
    assert_int_equal(chmod(in("x/y/z"), 0700), 0);
    assert_int_equal(chmod(in("x/y"), 0777), 0);
    refuse_folder(in("x/y/z"), "others may write");
    assert_int_equal(chmod(in("x/y"), 01777), 0);
    assert_true(tow_folder_make(in("x/y/z"), &error));
    put(in("file"), "", 0600);
    refuse_folder(in("file"), "not a folder");
    if (geteuid() == 0) {
        assert_int_equal(chown(in("x/y/z"), NOBODY, NOBODY), 0);
        refuse_folder(in("x/y/z"), "another user");
        refuse_folder(in("x/y/z/new"), "another user");
        assert_int_equal(symlink("/tmp", in("link")), 0);
        assert_int_equal(lchown(in("link"), NOBODY, NOBODY), 0);
        refuse_folder(in("link/below"), "another user");
    }
}

/* Never a place below a folder that others may write. */
static void the_state_folder_is_our_users(void **state)
{
    char *path;

    setenv("XDG_STATE_HOME", "/state", 1);
    path = tow_state_folder();
    assert_string_equal(path, "/state/towline");
    free(path);
    unsetenv("XDG_STATE_HOME");
    setenv("HOME", "/home/me", 1);
    path = tow_state_folder();
    assert_string_equal(path, "/home/me/.local/state/towline");
    free(path);
    unsetenv("HOME");
    path = tow_state_folder();
    assert_true(!path || (*path == '/' && strncmp(path, "/tmp", 4) != 0));
    free(path);
}

/* What a killed process left goes; what is not a draft of that file stays. */
static void drafts_that_were_left_are_removed(void **state)
{
    static const char *const kept[] = {"a",
                                       "a.tmp",
                                       "a.0123456789abcdef",
                                       "a.0123456789abcdeg.tmp",
                                       "b.0123456789abcdef.tmp",
                                       "a.0123456789abcdef0.tmp"};

    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        put(in(kept[i]), "x", 0600);
    put(in("a.0123456789abcdef.tmp"), "x", 0600);
    tow_drafts_remove(in("a"));
    assert_int_not_equal(access(in("a.0123456789abcdef.tmp"), F_OK), 0);
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        assert_int_equal(access(in(kept[i]), F_OK), 0);
}

/* Room is taken in a file that no name leads to, and that no other's is in the place of. */
static void a_draft_may_lose_its_name(void **state)
{
    tow_draft_t draft;
    struct stat facts;
    int file;

    tow_draft_open(&draft, in("a"));
    tow_draft_write(&draft, "x", 1);
    file = tow_draft_unname(&draft);
    assert_true(file >= 0);
    assert_int_equal(fstat(file, &facts), 0);
    assert_int_equal(facts.st_nlink, 0);
    expect_no_draft();
    close(file);
    tow_draft_open(&draft, in("nowhere/a"));
    assert_int_equal(tow_draft_unname(&draft), -1);
    assert_int_equal(errno, ENOENT);
    tow_draft_open(&draft, in("a"));
    tow_draft_drop(&draft);
    tow_draft_drop(&draft);
    expect_no_draft();
}

/* The file of a client's certificate has its key. */
static void the_key_file_of_a_connection_string_is_a_secret(void **state)
{
    tow_link_options_t options = {.side = "source", .max_connections = 1};
    char *uri = tow_format("mongodb://127.0.0.1:1/?tls=true&serverSelectionTimeoutMS=1"
                           "&tlsCertificateKeyFile=%s",
                           in("key.pem"));
    tow_error_t error;

    put(in("key.pem"), "-----BEGIN PRIVATE KEY-----\n", 0644);
    assert_null(tow_link_new(uri, &options, &error));
    assert_int_equal(error.code, TOW_ERROR_OPTION);
    assert_non_null(
        strstr(error.message, "tlsCertificateKeyFile of the source's URI: others may read"));
    assert_int_equal(tow_error_stage(&error), TOW_STAGE_TLS);
    free(uri);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {TEST(a_file_is_private_and_replaced_whole),
                                       TEST(a_link_in_its_place_is_replaced_and_not_followed),
                                       TEST(a_failed_draft_leaves_the_old_file),
                                       TEST(the_first_to_create_wins),
                                       TEST(only_regular_files_of_ours_are_opened),
                                       TEST(nothing_is_written_through_a_hard_link),
                                       TEST(a_secret_that_others_may_read_is_refused),
                                       TEST(a_pipe_may_hold_a_secret),
                                       TEST(folders_that_others_may_write_are_refused),
                                       TEST(the_state_folder_is_our_users),
                                       TEST(drafts_that_were_left_are_removed),
                                       TEST(a_draft_may_lose_its_name),
                                       TEST(the_key_file_of_a_connection_string_is_a_secret)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
