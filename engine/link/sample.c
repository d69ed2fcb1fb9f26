/* SPDX-License-Identifier: Apache-2.0 */
/* sample.c: where to cut a collection into ranges. */
#include <stdlib.h>

#include "engine/base/memory.h"
#include "engine/link/catalog.h"
#include "engine/link/codes.h"
#include "engine/link/internal.h"

enum {
    SMALL_COLLECTION = 1000,
    SCAN_MOST = 2000,
    SAMPLES_EACH = 10,
    SAMPLES_MOST = 100000,
    ATTEMPTS = 3 /* each with half as many samples */
};

typedef struct {
    bson_value_t *values;
    size_t count, capacity;
} samples_t;

static bool has_id(const bson_t *entry)
{
    return bson_has_field(entry, "_id");
}

static void take_sample(void *data, const bson_t *entry)
{
    samples_t *samples = data;
    bson_iter_t iter;

    if (!bson_iter_init_find(&iter, entry, "_id"))
        return;
    if (samples->count == samples->capacity) {
        samples->capacity = samples->capacity ? samples->capacity * 2 : 256;
        samples->values = tow_realloc(samples->values, samples->capacity * sizeof *samples->values);
    }
    bson_value_copy(bson_iter_value(&iter), &samples->values[samples->count++]);
}

/* A real server samples by a random cursor, and so cheaply, only for fewer than 5% of the documents
 * of a collection of more than 100. */
static uint32_t sample_size(uint64_t documents, uint32_t wanted)
{
    uint64_t size = (uint64_t)wanted * SAMPLES_EACH, most = documents / 21;

    if (size > most)
        size = most;
    return (uint32_t)(size > SAMPLES_MOST ? SAMPLES_MOST : size);
}

static void build_sample(const char *collection, uint32_t size, bson_t *out)
{
    bson_t stages, stage, part, empty = BSON_INITIALIZER;

    bson_init(out);
    bson_append_utf8(out, "aggregate", -1, collection, -1);
    bson_append_array_begin(out, "pipeline", -1, &stages);
    bson_append_document_begin(&stages, "0", -1, &stage);
    bson_append_document_begin(&stage, "$sample", -1, &part);
    bson_append_int32(&part, "size", -1, (int32_t)size);
    bson_append_document_end(&stage, &part);
    bson_append_document_end(&stages, &stage);
    bson_append_document_begin(&stages, "1", -1, &stage);
    bson_append_document_begin(&stage, "$project", -1, &part);
    bson_append_int32(&part, "_id", -1, 1);
    bson_append_document_end(&stage, &part);
    bson_append_document_end(&stages, &stage);
    bson_append_array_end(out, &stages);
    bson_append_document(out, "cursor", -1, &empty);
    bson_destroy(&empty);
}

static void build_scan(const char *collection, bson_t *out)
{
    bson_t part;

    bson_init(out);
    bson_append_utf8(out, "find", -1, collection, -1);
    bson_append_document_begin(out, "hint", -1, &part);
    bson_append_int32(&part, "_id", -1, 1);
    bson_append_document_end(out, &part);
    bson_append_document_begin(out, "projection", -1, &part);
    bson_append_int32(&part, "_id", -1, 1);
    bson_append_document_end(out, &part);
    bson_append_int32(out, "limit", -1, SCAN_MOST);
}

static int compare_values(const void *left, const void *right, void *compare)
{
    return (*(int (**)(const bson_value_t *, const bson_value_t *))compare)(left, right);
}

static void forget(samples_t *samples)
{
    for (size_t i = 0; i < samples->count; i++)
        bson_value_destroy(&samples->values[i]);
    free(samples->values);
    *samples = (samples_t){0};
}

static void count_shard(void *data, const bson_t *entry)
{
    (void)entry;
    ++*(uint32_t *)data;
}

/* Each shard takes the whole sample of its own part, and counts its 5% there. */
static bool count_shards(tow_conn_t *conn, const tow_collection_info_t *info, uint32_t *out,
                         tow_error_t *error)
{
    bson_t command = BSON_INITIALIZER, stages, stage, empty = BSON_INITIALIZER;
    bool ok;

    *out = 0;
    if (tow_link_facts(tow_conn_link(conn))->sharded) {
        bson_append_utf8(&command, "aggregate", -1, info->name, -1);
        bson_append_array_begin(&command, "pipeline", -1, &stages);
        bson_append_document_begin(&stages, "0", -1, &stage);
        bson_append_document(&stage, "$collStats", -1, &empty);
        bson_append_document_end(&stages, &stage);
        bson_append_array_end(&command, &stages);
        bson_append_document(&command, "cursor", -1, &empty);
        ok = tow_cursor_each(conn, info->database, &command, NULL, count_shard, out, error);
    } else {
        ok = true;
    }
    if (!*out)
        *out = 1;
    bson_destroy(&command);
    bson_destroy(&empty);
    return ok;
}

/* A server that thinks it has far more documents than it has finds none for a large sample,
 * sometimes; without any sample the collection is one range. */
static bool draw(tow_conn_t *conn, const tow_collection_info_t *info, uint32_t size, samples_t *out,
                 tow_error_t *error)
{
    bool ok = false;

    for (int attempt = 0; !ok && size && attempt < ATTEMPTS; attempt++, size /= 2) {
        bson_t command;

        build_sample(info->name, size, &command);
        ok = tow_cursor_each(conn, info->database, &command, has_id, take_sample, out, error);
        bson_destroy(&command);
        if (!ok && error->server_code != TOW_CODE_NO_SAMPLE)
            return false;
    }
    return true;
}

static bool read_samples(tow_conn_t *conn, const tow_collection_info_t *info, uint64_t documents,
                         uint32_t wanted, samples_t *out, tow_error_t *error)
{
    bson_t command;
    uint32_t shards;
    bool ok;

    if (documents >= SMALL_COLLECTION)
        return count_shards(conn, info, &shards, error) &&
               draw(conn, info, sample_size(documents / shards, wanted), out, error);
    build_scan(info->name, &command);
    ok = tow_cursor_each(conn, info->database, &command, has_id, take_sample, out, error);
    bson_destroy(&command);
    /* The count is an estimate and may be far too low after a crash of the server. */
    if (ok && out->count == SCAN_MOST) {
        forget(out);
        return read_samples(conn, info, SCAN_MOST, wanted, out, error);
    }
    return ok;
}

bool tow_split_bounds(tow_conn_t *conn, const tow_collection_info_t *info, uint64_t documents,
                      uint32_t wanted, int (*compare)(const bson_value_t *, const bson_value_t *),
                      bson_value_t **out_bounds, uint32_t *out_count, tow_error_t *error)
{
    samples_t samples = {0};
    bson_value_t *bounds;
    uint32_t count = 0;

    *out_bounds = NULL;
    *out_count = 0;
    if (wanted < 2 || documents < 2)
        return true;
    if (!read_samples(conn, info, documents, wanted, &samples, error))
        return tow_fail_context(error, "sample %s", info->ns);
    if (!samples.count)
        return true;
    bounds = tow_alloc(wanted * sizeof *bounds);
    qsort_r(samples.values, samples.count, sizeof *samples.values, compare_values, &compare);
    for (uint32_t i = 1; i < wanted; i++) {
        const bson_value_t *value = &samples.values[samples.count * i / wanted];

        if (!count || compare(&bounds[count - 1], value) < 0)
            bson_value_copy(value, &bounds[count++]);
    }
    forget(&samples);
    *out_bounds = bounds;
    *out_count = count;
    return true;
}
