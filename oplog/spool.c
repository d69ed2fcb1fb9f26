/* SPDX-License-Identifier: Apache-2.0 */
/* spool.c: see spool.h.
 *
 * The folder holds `id` (the run series) and `lock` besides 00000001.spool and so on. */
#include "oplog/spool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "engine/base/file.h"
#include "engine/base/guarded.h"
#include "oplog/frame.h"
#include "oplog/spool_internal.h"

TOW_GUARD(tow_spool);
struct tow_spool {
    char *folder;
    uint64_t segment_bytes;
    int lock_file;
    ZSTD_CCtx *compressor;              /* the appender's */
    tow_buffer_t scratch;               /* the appender's */
    pthread_mutex_t lock;               /* guards what follows */
    int file TOW_GUARDED_BY(tow_spool); /* segment being written, -1: none */
    uint32_t first TOW_GUARDED_BY(tow_spool), last
        TOW_GUARDED_BY(tow_spool);          /* segments on disk; last 0: none */
    uint64_t end TOW_GUARDED_BY(tow_spool); /* of the last segment */
    bool dirty TOW_GUARDED_BY(tow_spool);
    _Atomic uint64_t bytes;
    uint64_t *sizes TOW_GUARDED_BY(tow_spool); /* of segments first … last, by number - first */
};
TOW_LOCK(tow_spool, tow_spool_t, lock)

static char *path_of(const tow_spool_t *spool, uint32_t segment)
{
    return tow_format("%s/%08u.spool", spool->folder, segment);
}

static bool fail_broken(const tow_spool_t *spool, uint32_t segment, uint64_t offset,
                        tow_error_t *error)
{
    return tow_fail(error, TOW_ERROR_SPOOL,
                    "the spool %s/%08u.spool is broken at offset %llu; remove the folder %s: the "
                    "same command then reads the source's oplog from the checkpoint",
                    spool->folder, segment, (unsigned long long)offset, spool->folder);
}

/* Opening ---------------------------------------------------------------------------------------*/

static bool sync_folder(const tow_spool_t *spool)
{
    int folder = open(spool->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = folder >= 0 && fsync(folder) == 0;

    if (folder >= 0)
        close(folder);
    return ok;
}

static bool make_folder(const char *path, tow_error_t *error)
{
    if (tow_folder_make(path, error))
        return true;
    error->code = TOW_ERROR_SPOOL;
    return tow_fail_context(error, "the spool (choose another folder with --spool)");
}

static TOW_REQUIRES(tow_spool) void find_segments(tow_spool_t *spool)
{
    DIR *folder = opendir(spool->folder);
    struct dirent *entry;

    while (folder && (entry = readdir(folder))) {
        unsigned number;
        int end = 0;

        if (sscanf(entry->d_name, "%8u.spool%n", &number, &end) != 1 || !end ||
            entry->d_name[end] || !number)
            continue;
        if (!spool->last || number < spool->first)
            spool->first = number;
        if (number > spool->last)
            spool->last = number;
    }
    if (folder)
        closedir(folder);
}

static TOW_REQUIRES(tow_spool) void remove_segments(tow_spool_t *spool)
{
    for (uint32_t i = spool->first; spool->last && i <= spool->last; i++) {
        char *path = path_of(spool, i);

        unlink(path);
        free(path);
    }
    if (spool->file >= 0)
        close(spool->file);
    spool->file = -1;
    if (spool->last)
        spool->first = spool->last + 1;
    spool->last = 0;
    spool->end = 0;
    free(spool->sizes);
    spool->sizes = NULL;
    atomic_store(&spool->bytes, 0);
}

/* The id file tells whose frames these are. */
static TOW_REQUIRES(tow_spool) bool check_id(tow_spool_t *spool, const char *id, tow_error_t *error)
{
    char *path = tow_format("%s/id", spool->folder);
    char found[128] = "";
    int file = tow_file_open(path, O_RDONLY);
    ssize_t length = file >= 0 ? read(file, found, sizeof found - 1) : errno == ENOENT ? 0 : -1;
    bool ok = length >= 0;

    if (ok && strcmp(found, id) != 0) {
        remove_segments(spool);
        ok = tow_file_replace(path, id, strlen(id));
    }
    if (file >= 0)
        close(file);
    if (!ok)
        tow_fail_errno(error, TOW_ERROR_SPOOL, "the spool's file %s cannot be written", path);
    free(path);
    return ok;
}

/* Takes the last segment's length; a torn or broken last frame is cut off. */
static TOW_REQUIRES(tow_spool) bool scan(tow_spool_t *spool, tow_error_t *error)
{
    tow_buffer_t body = {0};
    bool ok = true;

    if (!spool->last)
        return true;
    spool->sizes = tow_alloc((spool->last - spool->first + 1) * sizeof *spool->sizes);
    for (uint32_t i = spool->first; ok && i <= spool->last; i++) {
        char *path = path_of(spool, i);
        int file = tow_file_open(path, i == spool->last ? O_RDWR : O_RDONLY);
        struct stat status;
        uint64_t offset = 0;
        tow_frame_head_t head;

        free(path);
        if (file < 0 || fstat(file, &status)) {
            ok = fail_broken(spool, i, 0, error);
            break;
        }
        while (offset < (uint64_t)status.st_size && tow_frame_read(file, offset, &head, &body))
            offset += TOW_FRAME_HEAD_BYTES + body.length;
        if (offset < (uint64_t)status.st_size) {
            /* Torn: the bad frame is the last thing on disk. */
            bool torn = i == spool->last &&
                        !tow_frame_follows(file, offset, (uint64_t)status.st_size, &body);

            if (!torn || ftruncate(file, (off_t)offset))
                ok = fail_broken(spool, i, offset, error);
        }
        spool->sizes[i - spool->first] = offset;
        atomic_fetch_add(&spool->bytes, offset);
        if (ok && i == spool->last) {
            spool->file = file;
            spool->end = offset;
        } else {
            close(file);
        }
    }
    tow_buffer_free(&body);
    return ok;
}

TOW_UNSHARED tow_spool_t *tow_spool_open_sized(const char *directory, const char *job,
                                               const char *id, uint64_t segment_bytes,
                                               tow_error_t *error)
{
    tow_spool_t *spool = tow_alloc(sizeof *spool);
    char *lock_path;
    bool ok;

    pthread_mutex_init(&spool->lock, NULL);
    spool->folder = tow_format("%s/towline-%s", directory, job);
    spool->segment_bytes = segment_bytes;
    spool->file = spool->lock_file = -1;
    spool->first = 1;
    spool->compressor = ZSTD_createCCtx();
    ok = make_folder(directory, error) && make_folder(spool->folder, error);
    if (ok) {
        lock_path = tow_format("%s/lock", spool->folder);
        spool->lock_file = tow_file_open(lock_path, O_RDWR | O_CREAT);
        free(lock_path);
        if (spool->lock_file < 0)
            ok = tow_fail_errno(error, TOW_ERROR_SPOOL,
                                "the spool folder %s cannot be written (choose another with "
                                "--spool)",
                                spool->folder);
        else if (flock(spool->lock_file, LOCK_EX | LOCK_NB))
            ok = tow_fail(error, TOW_ERROR_SPOOL,
                          "the spool folder %s is used by another process; choose another with "
                          "--spool or another --job",
                          spool->folder);
    }
    if (ok) {
        find_segments(spool);
        ok = check_id(spool, id, error) && scan(spool, error);
    }
    if (!ok) {
        tow_spool_close(spool);
        return NULL;
    }
    return spool;
}

tow_spool_t *tow_spool_open(const char *directory, const char *job, const char *id,
                            tow_error_t *error)
{
    return tow_spool_open_sized(directory, job, id, UINT64_C(64) << 20, error);
}

TOW_UNSHARED void tow_spool_close(tow_spool_t *spool)
{
    if (!spool)
        return;
    if (spool->file >= 0)
        close(spool->file);
    if (spool->lock_file >= 0)
        close(spool->lock_file);
    ZSTD_freeCCtx(spool->compressor);
    tow_buffer_free(&spool->scratch);
    free(spool->sizes);
    free(spool->folder);
    pthread_mutex_destroy(&spool->lock);
    free(spool);
}

/* Before the first append: nobody else is at it yet. */
TOW_UNSHARED bool tow_spool_each(tow_spool_t *spool, tow_spool_each_fn each, void *data,
                                 tow_error_t *error)
{
    tow_buffer_t body = {0};
    bool ok = true;

    for (uint32_t i = spool->first; ok && spool->last && i <= spool->last; i++) {
        char *path = path_of(spool, i);
        int file = open(path, O_RDONLY | O_CLOEXEC);
        uint64_t offset = 0, size = spool->sizes[i - spool->first];

        free(path);
        if (file < 0)
            return fail_broken(spool, i, 0, error);
        while (ok && offset < size) {
            tow_spool_frame_t frame;
            tow_frame_head_t head;
            bson_t token;

            if (!tow_frame_read(file, offset, &head, &body) ||
                !bson_init_static(&token, body.data, head.token_bytes)) {
                ok = fail_broken(spool, i, offset, error);
                break;
            }
            frame = (tow_spool_frame_t){head.records, head.time, &token};
            ok = each(data, (tow_spool_place_t){i, offset}, &frame, error);
            offset += TOW_FRAME_HEAD_BYTES + body.length;
        }
        close(file);
    }
    tow_buffer_free(&body);
    return ok;
}

/* Writing ---------------------------------------------------------------------------------------*/

/* Begins the next segment; the lock is held. */
static TOW_REQUIRES(tow_spool) bool next_segment(tow_spool_t *spool, tow_error_t *error)
{
    uint32_t number = spool->last ? spool->last + 1 : spool->first;
    char *path = path_of(spool, number);
    int file = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (file < 0 || !sync_folder(spool)) {
        tow_fail_errno(error, TOW_ERROR_SPOOL, "the spool's file %s cannot be made", path);
        free(path);
        if (file >= 0)
            close(file);
        return false;
    }
    free(path);
    if (spool->file >= 0) {
        /* What stands in the segment before must be durable before anything behind it is. */
        fdatasync(spool->file);
        close(spool->file);
    }
    spool->sizes = tow_realloc(spool->sizes, (number - spool->first + 1) * sizeof *spool->sizes);
    spool->sizes[number - spool->first] = 0;
    spool->file = file;
    spool->last = number;
    spool->end = 0;
    return true;
}

static bool write_fully(int file, const uint8_t *data, size_t length, uint64_t offset)
{
    while (length) {
        ssize_t done = pwrite(file, data, length, (off_t)offset);

        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return false;
        data += done;
        offset += (uint64_t)done;
        length -= (size_t)done;
    }
    return true;
}

bool tow_spool_append(tow_spool_t *spool, const void *data, size_t length,
                      const tow_spool_frame_t *frame, tow_spool_place_t *out_place,
                      tow_error_t *error)
{
    tow_buffer_t *out = &spool->scratch;
    bool ok = true;

    if (!tow_frame_build(out, spool->compressor, data, length, frame, error))
        return false;
    tow_spool_lock(spool);
    if (spool->file < 0 || (spool->end && spool->end + out->length > spool->segment_bytes))
        ok = next_segment(spool, error);
    if (ok && !write_fully(spool->file, out->data, out->length, spool->end)) {
        tow_fail_errno(error, TOW_ERROR_SPOOL,
                       "the spool folder %s cannot be written; make room there, or choose another "
                       "with --spool, and run the same command again",
                       spool->folder);
        if (ftruncate(spool->file, (off_t)spool->end))
            tow_fail_context(error, "and the half frame could not be cut off");
        ok = false;
    }
    if (ok) {
        *out_place = (tow_spool_place_t){spool->last, spool->end};
        spool->end += out->length;
        spool->sizes[spool->last - spool->first] = spool->end;
        spool->dirty = true;
        atomic_fetch_add(&spool->bytes, out->length);
    }
    tow_spool_unlock(spool);
    return ok;
}

bool tow_spool_sync(tow_spool_t *spool, tow_error_t *error)
{
    int file = -1;
    bool ok = true;

    /* A duplicate, so that appending is not held up by the disk. */
    tow_spool_lock(spool);
    if (spool->dirty && spool->file >= 0)
        file = fcntl(spool->file, F_DUPFD_CLOEXEC, 0);
    spool->dirty = false;
    tow_spool_unlock(spool);
    if (file >= 0) {
        ok = fdatasync(file) == 0;
        if (!ok)
            tow_fail_errno(error, TOW_ERROR_SPOOL, "the spool folder %s cannot be synced",
                           spool->folder);
        close(file);
    }
    return ok;
}

bool tow_spool_read(tow_spool_t *spool, tow_spool_place_t place, tow_buffer_t *out,
                    tow_error_t *error)
{
    char *path = path_of(spool, place.segment);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    tow_buffer_t body = {0};
    tow_frame_head_t head;
    bool ok;

    free(path);
    ok = file >= 0 && tow_frame_read(file, place.offset, &head, &body) &&
         tow_frame_unpack(&head, &body, out);
    tow_buffer_free(&body);
    if (file >= 0)
        close(file);
    return ok ? true : fail_broken(spool, place.segment, place.offset, error);
}

/* Giving up -------------------------------------------------------------------------------------*/

void tow_spool_release(tow_spool_t *spool, tow_spool_place_t place)
{
    tow_spool_lock(spool);
    while (spool->last && spool->first < place.segment && spool->first < spool->last) {
        char *path = path_of(spool, spool->first);

        atomic_fetch_sub(&spool->bytes, spool->sizes[0]);
        memmove(spool->sizes, spool->sizes + 1,
                (spool->last - spool->first) * sizeof *spool->sizes);
        unlink(path);
        free(path);
        spool->first++;
    }
    tow_spool_unlock(spool);
}

bool tow_spool_clear(tow_spool_t *spool, tow_error_t *error)
{
    tow_spool_lock(spool);
    remove_segments(spool);
    spool->dirty = false;
    tow_spool_unlock(spool);
    if (!sync_folder(spool))
        return tow_fail_errno(error, TOW_ERROR_SPOOL, "the spool folder %s cannot be synced",
                              spool->folder);
    return true;
}

uint64_t tow_spool_bytes(const tow_spool_t *spool)
{
    return atomic_load(&spool->bytes);
}

bool tow_spool_remove(tow_spool_t *spool, tow_error_t *error)
{
    static const char *const files[] = {"id", "lock"};
    char *folder = tow_strdup(spool->folder);
    bool ok;

    tow_spool_lock(spool);
    remove_segments(spool);
    tow_spool_unlock(spool);
    for (size_t i = 0; i < 2; i++) {
        char *path = tow_format("%s/%s", folder, files[i]);

        unlink(path);
        free(path);
    }
    tow_spool_close(spool);
    ok = rmdir(folder) == 0;
    if (!ok)
        tow_fail_errno(error, TOW_ERROR_SPOOL, "the spool folder %s cannot be removed", folder);
    free(folder);
    return ok;
}
