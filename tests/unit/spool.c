/* SPDX-License-Identifier: Apache-2.0 */
/* Frames survive what a crash leaves of them, and nothing broken is read as good. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "oplog/spool_internal.h"

static char folder[64];

static int make_folder(void **state)
{
    strcpy(folder, "/tmp/towline-spool-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    char command[128];

    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static tow_spool_t *open_spool(const char *id)
{
    tow_error_t error;
    tow_spool_t *spool = tow_spool_open_sized(folder, "job", id, 2000, &error);

    if (!spool)
        fail_msg("%s", error.message);
    return spool;
}

static tow_spool_place_t append(tow_spool_t *spool, uint32_t number)
{
    char text[600];
    bson_t *token = BCON_NEW("_data", "token");
    tow_spool_frame_t frame = {number, number, token};
    tow_spool_place_t place;
    tow_error_t error;

    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)(number * 31 + i * i % 251);
    assert_true(tow_spool_append(spool, text, sizeof text, &frame, &place, &error));
    bson_destroy(token);
    return place;
}

typedef struct {
    tow_spool_t *spool;
    uint32_t count, first, last;
} seen_t;

static bool see(void *data, tow_spool_place_t place, const tow_spool_frame_t *frame,
                tow_error_t *error)
{
    seen_t *seen = data;
    tow_buffer_t records = {0};

    if (!tow_spool_read(seen->spool, place, &records, error))
        return false;
    assert_int_equal(records.length, 600);
    assert_int_equal((uint8_t)records.data[1], (uint8_t)(frame->records * 31 + 1));
    tow_buffer_free(&records);
    if (!seen->count++)
        seen->first = frame->records;
    seen->last = frame->records;
    return true;
}

static seen_t look(tow_spool_t *spool)
{
    seen_t seen = {.spool = spool};
    tow_error_t error;

    if (!tow_spool_each(spool, see, &seen, &error))
        fail_msg("%s", error.message);
    return seen;
}

static void frames_are_found_again(void **state)
{
    tow_spool_t *spool = open_spool("a");
    seen_t seen;
    tow_error_t error;

    for (uint32_t i = 1; i <= 20; i++)
        append(spool, i);
    assert_true(tow_spool_sync(spool, &error));
    tow_spool_close(spool);
    spool = open_spool("a");
    seen = look(spool);
    assert_int_equal(seen.count, 20);
    assert_int_equal(seen.first, 1);
    assert_int_equal(seen.last, 20);
    append(spool, 21);
    tow_spool_close(spool);
    spool = open_spool("a");
    assert_int_equal(look(spool).last, 21);
    tow_spool_close(spool);
    spool = open_spool("b"); /* another run series: not ours */
    assert_int_equal(look(spool).count, 0);
    tow_spool_close(spool);
}

static void released_segments_are_deleted(void **state)
{
    tow_spool_t *spool = open_spool("a");
    tow_spool_place_t places[20];
    uint64_t before;
    tow_error_t error;
    seen_t seen;

    for (uint32_t i = 0; i < 20; i++)
        places[i] = append(spool, i + 1);
    /* What is needed begins in the middle: its segment stays, and can be read. */
    for (uint32_t i = 0; i < 20; i++) {
        tow_buffer_t records = {0};

        tow_spool_release(spool, places[i / 2]);
        assert_true(tow_spool_read(spool, places[i / 2], &records, &error));
        tow_buffer_free(&records);
    }
    before = tow_spool_bytes(spool);
    assert_true(places[19].segment > places[0].segment + 2);
    tow_spool_release(spool, places[19]);
    assert_true(tow_spool_bytes(spool) < before);
    tow_spool_close(spool);
    spool = open_spool("a");
    seen = look(spool);
    assert_true(seen.first > 1);
    assert_int_equal(seen.last, 20);
    tow_spool_close(spool);
}

static void a_second_process_is_refused(void **state)
{
    tow_spool_t *spool = open_spool("a");
    tow_error_t error;

    assert_null(tow_spool_open_sized(folder, "job", "a", 2000, &error));
    assert_int_equal(error.code, TOW_ERROR_SPOOL);
    tow_spool_close(spool);
}

/* Others could put their own in the place of what lies beside the job's own folder. */
static void a_folder_that_others_may_write_is_refused(void **state)
{
    static const mode_t modes[] = {0770, 0777, 01777};
    tow_error_t error;

    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        assert_int_equal(chmod(folder, modes[i]), 0);
        assert_null(tow_spool_open_sized(folder, "job", "a", 2000, &error));
        assert_int_equal(error.code, TOW_ERROR_SPOOL);
        assert_non_null(strstr(error.message, "others may write the folder"));
    }
    assert_int_equal(chmod(folder, 0750), 0);
    tow_spool_close(open_spool("a"));
}

static char *segment_path(uint32_t number)
{
    return tow_format("%s/towline-job/%08u.spool", folder, number);
}

/* Invariant: of a frame that was not written whole nothing is read, whatever its length. */
static void a_torn_frame_is_cut_off_at_every_length(void **state)
{
    tow_spool_t *spool = open_spool("a");
    tow_spool_place_t last;
    struct stat status, left;
    char *path;
    uint8_t *whole;
    int file;

    append(spool, 1);
    last = append(spool, 2);
    tow_spool_close(spool);
    assert_int_equal(last.segment, 1);
    path = segment_path(1);
    file = open(path, O_RDWR);
    assert_int_equal(fstat(file, &status), 0);
    whole = malloc((size_t)status.st_size);
    assert_int_equal(pread(file, whole, (size_t)status.st_size, 0), status.st_size);
    for (off_t length = (off_t)last.offset; length < status.st_size; length++) {
        assert_int_equal(pwrite(file, whole, (size_t)status.st_size, 0), status.st_size);
        assert_int_equal(ftruncate(file, length), 0);
        spool = open_spool("a");
        assert_int_equal(fstat(file, &left), 0);
        assert_int_equal(left.st_size, last.offset);
        assert_int_equal(look(spool).count, 1);
        assert_int_equal(append(spool, 3).offset, last.offset);
        tow_spool_close(spool);
        assert_int_equal(ftruncate(file, 0), 0);
    }
    close(file);
    free(whole);
    free(path);
}

/* Invariant: a broken frame with good ones behind it is an error that names file and offset. */
static void a_flipped_byte_in_the_middle_is_an_error(void **state)
{
    off_t second = 1;

    for (off_t at = 0; at < second; at++) {
        tow_spool_t *spool = open_spool("a");
        tow_error_t error;
        uint8_t byte;
        char *path = segment_path(1);
        int file;

        append(spool, 1);
        second = (off_t)append(spool, 2).offset;
        tow_spool_close(spool);
        file = open(path, O_RDWR);
        assert_int_equal(pread(file, &byte, 1, at), 1);
        byte ^= 0x40;
        assert_int_equal(pwrite(file, &byte, 1, at), 1);
        close(file);
        spool = tow_spool_open_sized(folder, "job", "a", 2000, &error);
        assert_null(spool);
        assert_int_equal(error.code, TOW_ERROR_SPOOL);
        assert_non_null(strstr(error.message, "00000001.spool is broken at offset 0"));
        unlink(path);
        free(path);
    }
}

/* In place of the C library's: a machine that loses its power keeps what was synced. */
static int synced; /* the file's length at the last sync */
static int syncs;

int __wrap_fdatasync(int file);

int __wrap_fdatasync(int file)
{
    struct stat status;

    fstat(file, &status);
    synced = (int)status.st_size;
    syncs++;
    return 0;
}

static void a_sync_covers_all_that_was_appended(void **state)
{
    tow_spool_t *spool = open_spool("id");
    tow_error_t error;
    int first;

    syncs = synced = 0;
    append(spool, 1);
    assert_true(tow_spool_sync(spool, &error));
    assert_int_equal(syncs, 1);
    assert_int_equal(synced, tow_spool_bytes(spool));
    first = synced;
    assert_true(tow_spool_sync(spool, &error));
    assert_int_equal(syncs, 1); /* nothing new */
    append(spool, 2);
    assert_int_equal(synced, first);
    assert_true(tow_spool_sync(spool, &error));
    assert_int_equal(syncs, 2);
    assert_int_equal(synced, tow_spool_bytes(spool));
    tow_spool_close(spool);
}

/* What is in the segment before must not be lost while what follows it is not. */
static void a_full_segment_is_synced_before_the_next(void **state)
{
    tow_spool_t *spool = open_spool("id");
    tow_spool_place_t place;
    int length = 0;

    syncs = synced = 0;
    for (uint32_t i = 1; (place = append(spool, i)).segment == 1; i++)
        length = (int)tow_spool_bytes(spool);
    assert_int_equal(syncs, 1);
    assert_int_equal(synced, length);
    tow_spool_close(spool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(frames_are_found_again, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(released_segments_are_deleted, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(a_second_process_is_refused, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(a_folder_that_others_may_write_is_refused, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(a_torn_frame_is_cut_off_at_every_length, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(a_sync_covers_all_that_was_appended, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(a_full_segment_is_synced_before_the_next, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(a_flipped_byte_in_the_middle_is_an_error, make_folder,
                                        remove_folder),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
