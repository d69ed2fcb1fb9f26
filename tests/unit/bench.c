/* SPDX-License-Identifier: Apache-2.0 */
/* bench.c: see bench.h. */
#include "bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "engine/base/clock.h"
#include "oplog/record.h"

/* What the layers beside do ---------------------------------------------------------------------*/

static bool is_copying(void *data)
{
    return atomic_load(&((bench_t *)data)->copying);
}

static bool create(void *data, tow_conn_t *destination, const tow_collection_info_t *info,
                   tow_error_t *error)
{
    return true;
}

static bool copy_again(void *data, const char *database, const char *name, bool *out_found,
                       tow_error_t *error)
{
    atomic_fetch_add(&((bench_t *)data)->copied_again, 1);
    return true;
}

static void add_name(char *list, size_t size, const char *name)
{
    size_t length = strlen(list);

    snprintf(list + length, size - length, "%s ", name);
}

static bool forget(void *data, const char *ns, tow_error_t *error)
{
    bench_t *bench = data;

    add_name(bench->forgotten, sizeof bench->forgotten, ns);
    return true;
}

static bool hold(void *data, const char *database, const char *name, tow_error_t *error)
{
    bench_t *bench = data;

    add_name(bench->held, sizeof bench->held, name ? name : "*");
    return true;
}

static void touched(void *data, const char *database, const char *collection, tow_value_t id)
{
    atomic_fetch_add(&((bench_t *)data)->touched, 1);
}

static void release(void *data, const char *database, const char *name, bool again)
{
}

static void alike(void *data, const char *database, const char *name)
{
    bench_t *bench = data;

    if (atomic_fetch_add(&bench->alike, 1) + 1 == bench->drops_at)
        double_unique(bench->destination, NULL);
}

static bool index_gone(void *data, const char *database, const char *name, const char *index,
                       tow_error_t *error)
{
    return true;
}

static bool reconcile(void *data, const char *database, const char *name, tow_error_t *error)
{
    return true;
}

static bool placeholder(void *data, tow_conn_t *destination, const char *database, const char *name,
                        tow_error_t *error)
{
    ((bench_t *)data)->placeholders++;
    return true;
}

static bool save_ddl(void *data, const bson_t *token, tow_optime_t time, tow_error_t *error)
{
    bench_t *bench = data;

    bson_reinit(&bench->ddl_token);
    bson_concat(&bench->ddl_token, token);
    bench->ddl_time = time;
    bench->ddl_saved++;
    return true;
}

static bool may_rename(void *data, tow_conn_t *destination, const tow_namespace_t *from,
                       const char *to_database, const char *to_name, bool *out_ours,
                       bool *out_replaces, tow_error_t *error)
{
    bench_t *bench = data;

    *out_ours = true;
    *out_replaces = !bench->target_free;
    return !bench->target_foreign || tow_fail(error, TOW_ERROR_CONFLICT, "%s is foreign", to_name);
}

void bench_start_replay(bench_t *bench, tow_optime_t horizon)
{
    tow_replay_options_t options = {.source = double_link(bench->source),
                                    .destination = double_link(bench->destination),
                                    .namespaces = bench->table,
                                    .filter = bench->filter,
                                    .ledger = bench->ledger,
                                    .stop = bench->stop,
                                    .lanes = bench->lanes,
                                    .dirty_bytes = 1 << 20,
                                    .refusals_most = 8,
                                    .knot_large = bench->knot_large,
                                    .retry_window_ms = bench->retry_window_ms,
                                    .touched = touched,
                                    .track_data = bench,
                                    .ddl = {.data = bench,
                                            .copying = is_copying,
                                            .create = create,
                                            .placeholder = placeholder,
                                            .copy_again = copy_again,
                                            .may_rename = may_rename,
                                            .alike = alike,
                                            .index_gone = index_gone,
                                            .reconcile = reconcile,
                                            .hold = hold,
                                            .release = release,
                                            .forget = forget,
                                            .save_ddl = save_ddl}};
    tow_error_t error;

    double_stop(bench->source, bench->stop);
    double_stop(bench->destination, bench->stop);
    bench->replay = tow_replay_new(&options);
    assert_true(
        tow_replay_start(bench->replay, horizon, &bench->ddl_token, bench->ddl_time, &error));
}

static bson_t *token_of(tow_optime_t time)
{
    return BCON_NEW("_data", BCON_INT64((int64_t)time));
}

void bench_start_ledger(bench_t *bench, tow_optime_t time)
{
    bson_t *token = token_of(time);

    bench->ledger = tow_ledger_new(bench->stop, 64 << 20);
    tow_ledger_begin(bench->ledger, token, time);
    bson_destroy(token);
}

tow_namespace_t *bench_add_collection(bench_t *bench, const char *name)
{
    tow_collection_info_t info = {.database = (char *)"d", .name = (char *)name};
    tow_namespace_t *collection;

    bson_init(&info.options);
    collection = tow_namespaces_add(bench->table, &info, 0);
    bson_destroy(&info.options);
    return collection;
}

bench_t *bench_begin(uint64_t seed)
{
    bench_t *bench = tow_alloc(sizeof *bench);

    bson_init(&bench->ddl_token);
    bench->random = seed;
    bench->lanes = 3;
    bench->retry_window_ms = 5000;
    bench->stop = tow_stop_new();
    bench->source = double_new("source", true);
    bench->destination = double_new("destination", false);
    double_seed(bench->source, seed);
    bench->table = tow_namespaces_new();
    bench->collection = bench_add_collection(bench, "a");
    bench->filter = tow_filter_new();
    bench_start_ledger(bench, 0);
    return bench;
}

void bench_fill(bench_t *bench, int32_t count)
{
    for (int32_t id = 0; id < count; id++) {
        bson_t *document;

        bench_put(bench, "insert", id, id, 0);
        document = double_get(bench->source, NS, value_of(&id), 0);
        double_put(bench->destination, NS, document);
        bson_destroy(document);
    }
    bench->delivered = bench->told;
    tow_link_note_time(double_link(bench->source), double_now(bench->source));
    tow_namespaces_set_ranges(bench->table, bench->collection, NULL, 0);
    double_unique(bench->destination, "u");
}

bench_t *bench_filled(void)
{
    bench_t *bench = bench_begin(1);

    bench_fill(bench, 6);
    bench->unique = 100;
    return bench;
}

bench_t *bench_in_sync(void)
{
    bench_t *bench = bench_filled();

    bench_start_replay(bench, 0);
    return bench;
}

tow_replay_progress_t bench_progress(bench_t *bench)
{
    tow_replay_progress_t progress;

    tow_replay_progress(bench->replay, &progress);
    return progress;
}

void bench_await(atomic_uint *counter, uint32_t count)
{
    int64_t until_ms = tow_now_ms() + BENCH_WAIT_MS;

    while (atomic_load(counter) < count && tow_now_ms() < until_ms)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    if (atomic_load(counter) < count)
        fail_msg("%u instead of %u", atomic_load(counter), count);
}

void bench_end_replay(bench_t *bench)
{
    tow_stop_request(bench->stop, NULL);
    tow_replay_destroy(bench->replay);
    tow_ledger_destroy(bench->ledger);
}

void bench_end(bench_t *bench)
{
    bench_end_replay(bench);
    double_free(bench->source);
    double_free(bench->destination);
    tow_namespaces_destroy(bench->table);
    tow_filter_destroy(bench->filter);
    tow_stop_destroy(bench->stop);
    bson_destroy(&bench->ddl_token);
    for (uint32_t i = 0; i < bench->told; i++)
        if (bench->history[i].document)
            bson_destroy(bench->history[i].document);
    free(bench);
}

/* The source and its stream ---------------------------------------------------------------------*/

told_t *bench_tell(bench_t *bench, const char *operation, int32_t id, tow_optime_t time)
{
    told_t *told = &bench->history[bench->told++];

    assert_true(bench->told < BENCH_HISTORY);
    *told = (told_t){.operation = operation, .collection = "a", .id = id, .time = time};
    return told;
}

void bench_put(bench_t *bench, const char *operation, int32_t id, int32_t u, int32_t n)
{
    bson_t *document = BCON_NEW("_id", BCON_INT32(id), "n", BCON_INT32(n), "u", BCON_INT32(u));
    told_t *told = bench_tell(bench, operation, id, double_put(bench->source, NS, document));

    told->document = *operation == 'u' ? NULL : bson_copy(document);
    bson_destroy(document);
}

void bench_take_away(bench_t *bench, int32_t id)
{
    bench_tell(bench, "delete", id, double_remove(bench->source, NS, value_of(&id)));
}

int32_t bench_field_of(const bson_t *document, const char *name)
{
    bson_iter_t iter;

    return bson_iter_init_find(&iter, document, name) ? bson_iter_int32(&iter) : 0;
}

void bench_swap(bench_t *bench, int32_t one, int32_t two)
{
    bson_t *first = double_get(bench->source, NS, value_of(&one), 0);
    bson_t *second = double_get(bench->source, NS, value_of(&two), 0);

    if (first && second && one != two) {
        bench_put(bench, "update", one, ++bench->unique, bench_field_of(first, "n"));
        bench_put(bench, "update", two, bench_field_of(first, "u"), bench_field_of(second, "n"));
        bench_put(bench, "update", one, bench_field_of(second, "u"), bench_field_of(first, "n"));
    }
    if (first)
        bson_destroy(first);
    if (second)
        bson_destroy(second);
}

/* A KeyString: the time, that it is an event's, and which of those of one time. */
void bench_append_token(const bench_t *bench, bson_t *event, const told_t *told)
{
    char text[80];
    bson_t token;

    snprintf(text, sizeof text, "82%08X%08X2B042C0100296E5A1004%08X04",
             1500000000 + (uint32_t)(told->time >> 32), (uint32_t)told->time, (uint32_t)told->id);
    bson_append_document_begin(event, "_id", -1, &token);
    if (bench->opaque)
        bson_append_int64(&token, "_data", -1, told->id);
    else
        bson_append_utf8(&token, "_data", -1, text, -1);
    bson_append_document_end(event, &token);
}

static bool is_ddl(const told_t *told)
{
    return !strncmp(told->operation, "drop", 4) || !strcmp(told->operation, "rename");
}

static void append_event(const bench_t *bench, bson_t *batch, uint32_t number, const told_t *told)
{
    char room[16];
    const char *key;
    bson_t event, child;

    bson_uint32_to_string(number, &key, room, sizeof room);
    bson_append_document_begin(batch, key, -1, &event);
    bench_append_token(bench, &event, told);
    bson_append_utf8(&event, "operationType", -1, told->operation, -1);
    bson_append_timestamp(&event, "clusterTime", -1, (uint32_t)(told->time >> 32),
                          (uint32_t)told->time);
    bson_append_document_begin(&event, "ns", -1, &child);
    bson_append_utf8(&child, "db", -1, "d", -1);
    if (told->collection[0])
        bson_append_utf8(&child, "coll", -1, told->collection, -1);
    bson_append_document_end(&event, &child);
    if (told->to[0]) {
        bson_append_document_begin(&event, "to", -1, &child);
        bson_append_utf8(&child, "db", -1, "d", -1);
        bson_append_utf8(&child, "coll", -1, told->to, -1);
        bson_append_document_end(&event, &child);
    }
    if (!is_ddl(told)) {
        bson_append_document_begin(&event, "documentKey", -1, &child);
        bson_append_int32(&child, "_id", -1, told->id);
        bson_append_document_end(&event, &child);
    }
    if (told->document)
        bson_append_document(&event, "fullDocument", -1, told->document);
    bson_append_document_end(batch, &event);
}

/* Whole events, as the tail hands them on in direct mode. */
static void fill_direct(const bench_t *bench, tow_block_t *block, const told_t *told,
                        uint32_t count)
{
    bson_t cursor, batch;

    block->direct = true;
    bson_init(&block->reply);
    bson_append_document_begin(&block->reply, "cursor", -1, &cursor);
    bson_append_array_begin(&cursor, "nextBatch", -1, &batch);
    for (uint32_t i = 0; i < count; i++)
        append_event(bench, &batch, i, &told[i]);
    bson_append_array_end(&cursor, &batch);
    bson_append_document_end(&block->reply, &cursor);
    block->payload_bytes = block->reply.len;
}

/* Keys alone, as in refetch mode. */
static void fill_keys(const bench_t *bench, tow_block_t *block, const told_t *told, uint32_t count)
{
    bson_t *before = token_of(0);

    tow_record_begin(&block->records, before, 0);
    for (uint32_t i = 0; i < count; i++) {
        bool insert = *told[i].operation == 'i';
        tow_record_t record = {.kind = insert ? TOW_RECORD_INSERT : TOW_RECORD_CHANGE,
                               .database = "d",
                               .collection = told[i].collection,
                               .id = value_of(&told[i].id),
                               .time = told[i].time};
        bson_t batch = BSON_INITIALIZER;
        bson_iter_t iter;

        if (is_ddl(&told[i])) {
            append_event(bench, &batch, 0, &told[i]);
            bson_iter_init(&iter, &batch);
            bson_iter_next(&iter);
            record.kind = TOW_RECORD_EVENT;
            record.database = record.collection = "";
            record.id = tow_value_of(&iter);
            record.id.type = 0;
        }
        tow_record_append(&block->records, &record);
        bson_destroy(&batch);
    }
    block->payload_bytes = block->records.capacity;
    bson_destroy(before);
}

void bench_deliver(bench_t *bench, bool direct)
{
    const told_t *told = &bench->history[bench->delivered];
    uint32_t count = bench->told - bench->delivered;
    tow_block_t *block;
    bson_t *token;

    if (!count)
        return;
    block = tow_alloc(sizeof *block);
    block->events = count;
    block->time = told[count - 1].time;
    token = token_of(block->time);
    bson_copy_to(token, &block->token);
    bson_destroy(token);
    (direct ? fill_direct : fill_keys)(bench, block, told, count);
    bench->delivered = bench->told;
    tow_link_note_event(double_link(bench->source), block->time, false);
    tow_ledger_append(bench->ledger, block);
}

void bench_catch_up(bench_t *bench)
{
    tow_optime_t now = double_now(bench->source);
    bson_t *token = token_of(now);
    tow_error_t error = {0};

    tow_replay_pause(bench->replay, false);
    bench_deliver(bench, false);
    tow_ledger_idle(bench->ledger, token, now);
    if (!tow_ledger_wait_floor(bench->ledger, now, BENCH_WAIT_MS)) {
        tow_stop_error(bench->stop, &error);
        fail_msg("the floor is %llu and not %llu: %s",
                 (unsigned long long)tow_ledger_floor_time(bench->ledger), (unsigned long long)now,
                 error.message);
    }
    bson_destroy(token);
}

void bench_expect_equal(bench_t *bench)
{
    char different[100];

    double_compare(bench->source, bench->destination, NS, different, sizeof different);
    if (different[0])
        fail_msg("_id %s differs", different);
}

void bench_restart(bench_t *bench)
{
    tow_floor_t floor;

    tow_ledger_floor(bench->ledger, &floor);
    bench_end_replay(bench);
    tow_stop_destroy(bench->stop);
    bench->stop = tow_stop_new();
    bench_start_ledger(bench, floor.time);
    tow_link_note_time(double_link(bench->source), double_now(bench->source));
    bench_start_replay(bench, double_now(bench->source));
    bench->delivered = 0;
    while (bench->delivered < bench->told && bench->history[bench->delivered].time <= floor.time)
        bench->delivered++;
    bson_destroy(&floor.token);
}
