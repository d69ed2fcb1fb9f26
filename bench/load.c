/* SPDX-License-Identifier: Apache-2.0 */
/* load.c: writes to the source: at a steady rate, one message an operation, as applications do; or
 * as fast as it goes, in bulks, where only the events matter.
 *
 * The rate is an open loop: operation k is due at start + k / rate whatever the ones before it
 * took. A server that stalls is therefore caught up with, and the stall is not hidden. */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "bench/bench.h"
#include "engine/base/clock.h"
#include "engine/base/memory.h"

enum { LOAD_BATCH = 1000 };

typedef struct {
    tow_bench_load_t *load;
    int index;
    pthread_t thread;
    uint64_t random;
    mongoc_client_t *client;
    mongoc_client_session_t *session;
    mongoc_collection_t *collection;
    bson_t with_session;
    int64_t operations;
    tow_timestamp_t last;
    bool ok;
    tow_error_t error;
} writer_t;

struct tow_bench_load {
    tow_bench_load_spec_t spec;
    int64_t started_us;
    atomic_bool stop;
    atomic_llong
        sequence; /* makes every update change something: an update that does not is no event */
    int threads;
    writer_t *writers;
};

bool tow_bench_kind(const char *name, tow_bench_kind_t *out, tow_error_t *error)
{
    if (strcmp(name, "update") == 0)
        *out = TOW_BENCH_UPDATE;
    else if (strcmp(name, "hot") == 0)
        *out = TOW_BENCH_HOT;
    else if (strcmp(name, "insert") == 0)
        *out = TOW_BENCH_INSERT;
    else
        return tow_fail(error, TOW_ERROR_OPTION,
                        "--kind %s: expected \"update\", \"hot\" or \"insert\"", name);
    return true;
}

static void make_update(writer_t *writer, bson_t *selector, bson_t *update)
{
    const tow_bench_load_spec_t *spec = &writer->load->spec;
    bson_oid_t id;
    bson_t set;
    tow_bench_key((int64_t)(tow_bench_random(&writer->random) % (uint64_t)spec->keys), &id);
    bson_init(selector);
    BSON_APPEND_OID(selector, "_id", &id);
    bson_init(update);
    bson_append_document_begin(update, "$set", -1, &set);
    BSON_APPEND_INT64(&set, "n", atomic_fetch_add(&writer->load->sequence, 1));
    BSON_APPEND_DOUBLE(&set, "total", (double)(tow_bench_random(&writer->random) % 1000000) / 100);
    BSON_APPEND_DATE_TIME(&set, "changed", tow_wall_ms());
    bson_append_document_end(update, &set);
}

/* An update that matches nothing makes no event: the figures would count work that never was. */
static bool check_matched(const bson_t *reply, const char *field, int64_t expected,
                          tow_error_t *error)
{
    bson_iter_t iter;
    int64_t matched = bson_iter_init_find(&iter, reply, field) ? bson_iter_as_int64(&iter) : 0;
    if (matched == expected)
        return true;
    return tow_fail(error, TOW_ERROR_VERIFY,
                    "%lld of %lld writes took effect: is the collection filled with --keys "
                    "documents?",
                    (long long)matched, (long long)expected);
}

static bool write_one(writer_t *writer)
{
    const tow_bench_load_spec_t *spec = &writer->load->spec;
    bson_error_t reason;
    bson_t reply, selector, update;
    bool ok;
    if (spec->kind == TOW_BENCH_INSERT) {
        tow_bench_document(&update, NULL, spec->bytes, &writer->random);
        ok = mongoc_collection_insert_one(writer->collection, &update, &writer->with_session,
                                          &reply, &reason);
    } else {
        make_update(writer, &selector, &update);
        ok = mongoc_collection_update_one(writer->collection, &selector, &update,
                                          &writer->with_session, &reply, &reason);
        bson_destroy(&selector);
    }
    bson_destroy(&update);
    if (ok)
        ok = check_matched(&reply,
                           spec->kind == TOW_BENCH_INSERT ? "insertedCount" : "modifiedCount", 1,
                           &writer->error);
    else
        tow_bench_mongo(&writer->error, &reason, "load");
    bson_destroy(&reply);
    writer->operations += ok;
    return ok;
}

static bool write_bulk(writer_t *writer, int64_t count)
{
    const tow_bench_load_spec_t *spec = &writer->load->spec;
    bson_t opts, reply, selector, update;
    bson_copy_to(&writer->with_session, &opts);
    BSON_APPEND_BOOL(&opts, "ordered", false);
    mongoc_bulk_operation_t *bulk =
        mongoc_collection_create_bulk_operation_with_opts(writer->collection, &opts);
    bson_destroy(&opts);
    for (int64_t i = 0; i < count; i++) {
        if (spec->kind == TOW_BENCH_INSERT) {
            tow_bench_document(&update, NULL, spec->bytes, &writer->random);
            mongoc_bulk_operation_insert(bulk, &update);
        } else {
            make_update(writer, &selector, &update);
            mongoc_bulk_operation_update_one_with_opts(bulk, &selector, &update, NULL, NULL);
            bson_destroy(&selector);
        }
        bson_destroy(&update);
    }
    bson_error_t reason;
    bool ok = mongoc_bulk_operation_execute(bulk, &reply, &reason) != 0;
    mongoc_bulk_operation_destroy(bulk);
    if (ok)
        ok = check_matched(&reply, spec->kind == TOW_BENCH_INSERT ? "nInserted" : "nModified",
                           count, &writer->error);
    else
        tow_bench_mongo(&writer->error, &reason, "load");
    bson_destroy(&reply);
    if (ok)
        writer->operations += count;
    return ok;
}

static void sleep_until_us(int64_t due_us)
{
    int64_t wait_us = due_us - tow_now_us();
    if (wait_us <= 0)
        return;
    struct timespec wait = {wait_us / 1000000, wait_us % 1000000 * 1000};
    nanosleep(&wait, NULL);
}

/* Writer w of T takes the operations w, w + T, w + 2T, … of a paced load, or its share
 * of a count. */
static bool write_all(writer_t *writer)
{
    tow_bench_load_t *load = writer->load;
    const tow_bench_load_spec_t *spec = &load->spec;
    int64_t share = spec->count * (writer->index + 1) / load->threads -
                    spec->count * writer->index / load->threads;
    bool endless = spec->count == 0;
    while (!atomic_load(&load->stop) && (endless || writer->operations < share)) {
        if (spec->rate > 0) {
            int64_t number = writer->operations * load->threads + writer->index;
            sleep_until_us(load->started_us + number * 1000000 / spec->rate);
            if (!write_one(writer))
                return false;
            continue;
        }
        int64_t count = endless || share - writer->operations > LOAD_BATCH
                            ? LOAD_BATCH
                            : share - writer->operations;
        if (!write_bulk(writer, count))
            return false;
    }
    return true;
}

static void *writer_main(void *data)
{
    writer_t *writer = data;
    const tow_bench_load_spec_t *spec = &writer->load->spec;
    bson_error_t reason;
    writer->client = tow_bench_connect(spec->uri, &writer->error);
    if (!writer->client)
        return NULL;
    bson_init(&writer->with_session);
    writer->session = mongoc_client_start_session(writer->client, NULL, &reason);
    if (writer->session &&
        mongoc_client_session_append(writer->session, &writer->with_session, &reason)) {
        writer->collection =
            mongoc_client_get_collection(writer->client, spec->database, spec->collection);
        writer->ok = write_all(writer);
        mongoc_client_session_get_operation_time(writer->session, &writer->last.t, &writer->last.i);
        mongoc_collection_destroy(writer->collection);
    } else {
        tow_bench_mongo(&writer->error, &reason, "start a session");
    }
    if (writer->session)
        mongoc_client_session_destroy(writer->session);
    bson_destroy(&writer->with_session);
    mongoc_client_destroy(writer->client);
    return NULL;
}

tow_bench_load_t *tow_bench_load_start(const tow_bench_load_spec_t *spec)
{
    tow_bench_load_t *load = tow_alloc(sizeof *load);
    load->spec = *spec;
    load->threads = spec->threads;
    load->started_us = tow_now_us();
    /* Later loads must not write what an earlier one wrote: start above all of them. */
    atomic_init(&load->sequence, tow_wall_ms() * 1000);
    load->writers = tow_alloc((size_t)load->threads * sizeof *load->writers);
    for (int i = 0; i < load->threads; i++) {
        writer_t *writer = &load->writers[i];
        writer->load = load;
        writer->index = i;
        writer->random = (uint64_t)tow_now_us() * 31 + (uint64_t)i;
        if (pthread_create(&writer->thread, NULL, writer_main, writer) != 0)
            abort();
    }
    return load;
}

bool tow_bench_load_finish(tow_bench_load_t *load, bool stop, tow_bench_load_result_t *out,
                           tow_error_t *error)
{
    if (stop)
        atomic_store(&load->stop, true);
    tow_bench_load_result_t result = {0};
    bool ok = true;
    for (int i = 0; i < load->threads; i++) {
        writer_t *writer = &load->writers[i];
        pthread_join(writer->thread, NULL);
        result.operations += writer->operations;
        if (writer->last.t > result.last.t ||
            (writer->last.t == result.last.t && writer->last.i > result.last.i))
            result.last = writer->last;
        if (ok && !writer->ok) {
            ok = false;
            *error = writer->error;
        }
    }
    result.seconds = (double)(tow_now_us() - load->started_us) / 1e6;
    free(load->writers);
    free(load);
    if (ok)
        *out = result;
    return ok;
}

bool tow_bench_load(const tow_bench_options_t *options, tow_error_t *error)
{
    tow_bench_load_spec_t spec = {.uri = options->uri,
                                  .database = options->database,
                                  .collection = options->collection,
                                  .keys = options->keys,
                                  .bytes = options->bytes,
                                  .rate = options->rate,
                                  .count = options->count,
                                  .threads = (int)options->threads};
    tow_bench_load_result_t result;
    if (!tow_bench_kind(options->kind, &spec.kind, error))
        return false;
    if (spec.kind == TOW_BENCH_HOT && spec.keys > 100)
        spec.keys = 100;
    if (spec.count == 0)
        spec.count = spec.rate * options->seconds;
    if (spec.count == 0)
        return tow_fail(error, TOW_ERROR_OPTION, "load: give --count, or --rate and --seconds");
    if (!tow_bench_load_finish(tow_bench_load_start(&spec), false, &result, error))
        return false;
    printf("%s: %lld operations in %.2f s, %.0f a second\n", options->kind,
           (long long)result.operations, result.seconds,
           (double)result.operations / result.seconds);
    return true;
}
