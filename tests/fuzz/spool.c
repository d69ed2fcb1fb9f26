/* SPDX-License-Identifier: Apache-2.0 */
/* spool.c: any bytes as the last segment of a spool. It is opened or refused, and every frame that
 * it says it has can be read. */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "oplog/record.h"
#include "oplog/spool.h"
#include "tests/fuzz/fuzz.h"

static char folder[64];

static bool read_frame(void *data, tow_spool_place_t place, const tow_spool_frame_t *frame,
                       tow_error_t *error)
{
    HOLDS(frame->token->len >= 5);
    ((tow_spool_place_t *)data)[0] = place;
    return true;
}

static void put_segment(const uint8_t *data, size_t size)
{
    char path[128];
    int file;

    snprintf(path, sizeof path, "%s/towline-job/00000001.spool", folder);
    file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (file < 0 || write(file, data, size) != (ssize_t)size)
        exit(1);
    close(file);
}

static void remove_folder(void)
{
    tow_error_t error;
    tow_spool_t *spool = tow_spool_open(folder, "job", "series", &error);

    if (spool && !tow_spool_remove(spool, &error))
        fprintf(stderr, "%s\n", error.message);
    rmdir(folder);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tow_spool_place_t last = {0};
    tow_buffer_t records = {0};
    tow_spool_t *spool;
    tow_error_t error;

    if (!folder[0]) {
        snprintf(folder, sizeof folder, "/dev/shm/towline-fuzz-XXXXXX");
        if (!mkdtemp(folder))
            exit(1);
        atexit(remove_folder);
        tow_spool_close(tow_spool_open(folder, "job", "series", &error));
    }
    put_segment(data, size);
    spool = tow_spool_open(folder, "job", "series", &error);
    if (!spool) {
        HOLDS(error.code == TOW_ERROR_SPOOL && error.message[0]);
        put_segment(data, 0);
        return 0;
    }
    if (tow_spool_each(spool, read_frame, &last, &error) && last.segment &&
        tow_spool_read(spool, last, &records, &error)) {
        size_t position = 0;
        tow_record_t record;
        bool broken = false;

        while (tow_record_next(&records, &position, &record, &broken))
            HOLDS(position <= records.length);
    }
    tow_buffer_free(&records);
    if (!tow_spool_clear(spool, &error))
        exit(1);
    tow_spool_close(spool);
    return 0;
}
