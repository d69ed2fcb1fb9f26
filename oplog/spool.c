/* spool.c: see spool.h. A frame on disk, little-endian:
 *
 *   offset  bytes  meaning
 *   0       4      magic "TwF1"
 *   4       4      length of the token's BSON
 *   8       4      length of the compressed records
 *   12      4      length of the records
 *   16      4      count of records
 *   20      4      zero
 *   24      8      cluster time of the last event
 *   32      8      XXH64 of bytes 0–31, token and compressed records
 *   40      …      token, compressed records (one zstd frame)
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
#include <xxhash.h>
#include <zstd.h>

#include "engine/base/file.h"
#include "oplog/spool_internal.h"

enum { HEAD_BYTES = 40, SUMMED_BYTES = 32, LENGTH_MOST = 256 * 1024 * 1024 };

static const char magic[4] = {'T', 'w', 'F', '1'};

struct tow_spool {
    char *folder;
    uint64_t segment_bytes;
    int lock_file;
    ZSTD_CCtx *compressor;       /* the appender's */
    tow_buffer_t scratch;        /* the appender's */
    pthread_mutex_t lock;        /* guards what follows */
    int file;                    /* segment being written, -1: none */
    uint32_t first, last;        /* segments on disk; last 0: none */
    uint64_t end;                /* of the last segment */
    bool dirty;
    _Atomic uint64_t bytes;
    uint64_t *sizes;             /* of segments first … last, by number - first */
};

typedef struct {
    uint32_t token_bytes, compressed_bytes, raw_bytes, records;
    uint64_t time, sum;
} head_t;

static void put32(uint8_t *at, uint32_t value)
{
    value = BSON_UINT32_TO_LE(value);
    memcpy(at, &value, sizeof value);
}

static void put64(uint8_t *at, uint64_t value)
{
    value = BSON_UINT64_TO_LE(value);
    memcpy(at, &value, sizeof value);
}

static uint32_t get32(const uint8_t *at)
{
    uint32_t value;

    memcpy(&value, at, sizeof value);
    return BSON_UINT32_FROM_LE(value);
}

static uint64_t get64(const uint8_t *at)
{
    uint64_t value;

    memcpy(&value, at, sizeof value);
    return BSON_UINT64_FROM_LE(value);
}

static char *path_of(const tow_spool_t *spool, uint32_t segment)
{
    return tow_format("%s/%08u.spool", spool->folder, segment);
}

static bool read_fully(int file, void *out, size_t length, uint64_t offset)
{
    uint8_t *at = out;

    while (length) {
        ssize_t got = pread(file, at, length, (off_t)offset);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        at += got;
        offset += (uint64_t)got;
        length -= (size_t)got;
    }
    return true;
}

static bool parse_head(const uint8_t bytes[HEAD_BYTES], head_t *out)
{
    if (memcmp(bytes, magic, sizeof magic) != 0)
        return false;
    out->token_bytes = get32(bytes + 4);
    out->compressed_bytes = get32(bytes + 8);
    out->raw_bytes = get32(bytes + 12);
    out->records = get32(bytes + 16);
    out->time = get64(bytes + 24);
    out->sum = get64(bytes + 32);
    return out->token_bytes >= 5 && out->token_bytes < LENGTH_MOST &&
           out->compressed_bytes < LENGTH_MOST && out->raw_bytes < LENGTH_MOST;
}

/* Reads a frame's head and body and checks the sum; false: short or broken. */
static bool read_frame(int file, uint64_t offset, head_t *out_head, tow_buffer_t *out_body)
{
    uint8_t bytes[HEAD_BYTES];
    XXH64_state_t *state;
    bool good;

    if (!read_fully(file, bytes, sizeof bytes, offset) || !parse_head(bytes, out_head))
        return false;
    tow_buffer_clear(out_body);
    tow_buffer_extend(out_body, (size_t)out_head->token_bytes + out_head->compressed_bytes);
    if (!read_fully(file, out_body->data, out_body->length, offset + HEAD_BYTES))
        return false;
    state = XXH64_createState();
    XXH64_reset(state, 0);
    XXH64_update(state, bytes, SUMMED_BYTES);
    XXH64_update(state, out_body->data, out_body->length);
    good = XXH64_digest(state) == out_head->sum;
    XXH64_freeState(state);
    return good;
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

static void find_segments(tow_spool_t *spool)
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

static void remove_segments(tow_spool_t *spool)
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
static bool check_id(tow_spool_t *spool, const char *id, tow_error_t *error)
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

/* Whether a whole frame stands anywhere behind a bad one. */
static bool good_frame_behind(int file, uint64_t offset, uint64_t size, tow_buffer_t *body)
{
    for (uint64_t at = offset + 1; at + HEAD_BYTES <= size; at++) {
        char found[sizeof magic];
        head_t head;

        if (read_fully(file, found, sizeof found, at) && !memcmp(found, magic, sizeof magic) &&
            read_frame(file, at, &head, body))
            return true;
    }
    return false;
}

/* Takes the last segment's length; a torn or broken last frame is cut off. */
static bool scan(tow_spool_t *spool, tow_error_t *error)
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
        head_t head;

        free(path);
        if (file < 0 || fstat(file, &status)) {
            ok = fail_broken(spool, i, 0, error);
            break;
        }
        while (offset < (uint64_t)status.st_size && read_frame(file, offset, &head, &body))
            offset += HEAD_BYTES + body.length;
        if (offset < (uint64_t)status.st_size) {
            /* Torn: the bad frame is the last thing on disk. */
            bool torn = i == spool->last &&
                        !good_frame_behind(file, offset, (uint64_t)status.st_size, &body);

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

tow_spool_t *tow_spool_open_sized(const char *directory, const char *job, const char *id,
                                  uint64_t segment_bytes, tow_error_t *error)
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
    ok = make_folder(spool->folder, error);
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

void tow_spool_close(tow_spool_t *spool)
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

bool tow_spool_each(tow_spool_t *spool, tow_spool_each_fn each, void *data, tow_error_t *error)
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
            head_t head;
            bson_t token;

            if (!read_frame(file, offset, &head, &body) ||
                !bson_init_static(&token, body.data, head.token_bytes)) {
                ok = fail_broken(spool, i, offset, error);
                break;
            }
            frame = (tow_spool_frame_t){head.records, head.time, &token};
            ok = each(data, (tow_spool_place_t){i, offset}, &frame, error);
            offset += HEAD_BYTES + body.length;
        }
        close(file);
    }
    tow_buffer_free(&body);
    return ok;
}

/* Writing ---------------------------------------------------------------------------------------*/

/* Begins the next segment; the lock is held. */
static bool next_segment(tow_spool_t *spool, tow_error_t *error)
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
    size_t bound = ZSTD_compressBound(length), compressed;
    tow_buffer_t *out = &spool->scratch;
    XXH64_state_t *state;
    uint8_t *at;
    bool ok = true;

    tow_buffer_clear(out);
    tow_buffer_extend(out, HEAD_BYTES + frame->token->len + bound);
    at = out->data;
    memcpy(at + HEAD_BYTES, bson_get_data(frame->token), frame->token->len);
    compressed = ZSTD_compressCCtx(spool->compressor, at + HEAD_BYTES + frame->token->len, bound,
                                   data, length, 1);
    if (ZSTD_isError(compressed))
        return tow_fail(error, TOW_ERROR_SPOOL, "zstd: %s", ZSTD_getErrorName(compressed));
    out->length = HEAD_BYTES + frame->token->len + compressed;
    memset(at, 0, HEAD_BYTES);
    memcpy(at, magic, sizeof magic);
    put32(at + 4, frame->token->len);
    put32(at + 8, (uint32_t)compressed);
    put32(at + 12, (uint32_t)length);
    put32(at + 16, frame->records);
    put64(at + 24, frame->time);
    state = XXH64_createState();
    XXH64_reset(state, 0);
    XXH64_update(state, at, SUMMED_BYTES);
    XXH64_update(state, at + HEAD_BYTES, out->length - HEAD_BYTES);
    put64(at + 32, XXH64_digest(state));
    XXH64_freeState(state);

    pthread_mutex_lock(&spool->lock);
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
    pthread_mutex_unlock(&spool->lock);
    return ok;
}

bool tow_spool_sync(tow_spool_t *spool, tow_error_t *error)
{
    int file = -1;
    bool ok = true;

    /* A duplicate, so that appending is not held up by the disk. */
    pthread_mutex_lock(&spool->lock);
    if (spool->dirty && spool->file >= 0)
        file = fcntl(spool->file, F_DUPFD_CLOEXEC, 0);
    spool->dirty = false;
    pthread_mutex_unlock(&spool->lock);
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
    head_t head;
    size_t length = 0;
    bool ok;

    free(path);
    ok = file >= 0 && read_frame(file, place.offset, &head, &body);
    if (ok) {
        tow_buffer_clear(out);
        tow_buffer_extend(out, head.raw_bytes);
        length = ZSTD_decompress(out->data, head.raw_bytes, body.data + head.token_bytes,
                                 head.compressed_bytes);
        ok = !ZSTD_isError(length) && length == head.raw_bytes;
    }
    tow_buffer_free(&body);
    if (file >= 0)
        close(file);
    return ok ? true : fail_broken(spool, place.segment, place.offset, error);
}

/* Giving up -------------------------------------------------------------------------------------*/

bool tow_spool_release(tow_spool_t *spool, tow_spool_place_t place, tow_error_t *error)
{
    pthread_mutex_lock(&spool->lock);
    while (spool->last && spool->first < place.segment && spool->first < spool->last) {
        char *path = path_of(spool, spool->first);

        atomic_fetch_sub(&spool->bytes, spool->sizes[0]);
        memmove(spool->sizes, spool->sizes + 1,
                (spool->last - spool->first) * sizeof *spool->sizes);
        unlink(path);
        free(path);
        spool->first++;
    }
    pthread_mutex_unlock(&spool->lock);
    return true;
}

bool tow_spool_clear(tow_spool_t *spool, tow_error_t *error)
{
    pthread_mutex_lock(&spool->lock);
    remove_segments(spool);
    spool->dirty = false;
    pthread_mutex_unlock(&spool->lock);
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

    pthread_mutex_lock(&spool->lock);
    remove_segments(spool);
    pthread_mutex_unlock(&spool->lock);
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
