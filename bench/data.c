/* SPDX-License-Identifier: Apache-2.0 */
/* data.c: the documents that the bench works on: making, loading, digesting, clearing them. */
#include <pthread.h>
#include <xxhash.h>

#include "bench/bench.h"
#include "engine/base/clock.h"
#include "engine/base/memory.h"

bool tow_bench_mongo(tow_error_t *error, const bson_error_t *reason, const char *what)
{
    return tow_fail(error, TOW_ERROR_SERVER, "%s: %s", what, reason->message);
}

mongoc_client_t *tow_bench_connect(const char *uri, tow_error_t *error)
{
    bson_error_t reason;
    mongoc_uri_t *parsed = mongoc_uri_new_with_error(uri, &reason);
    if (!parsed) {
        tow_fail(error, TOW_ERROR_OPTION, "connection string: %s", reason.message);
        return NULL;
    }
    mongoc_client_t *client = mongoc_client_new_from_uri_with_error(parsed, &reason);
    mongoc_uri_destroy(parsed);
    if (!client) {
        tow_fail(error, TOW_ERROR_OPTION, "connection string: %s", reason.message);
        return NULL;
    }
    mongoc_client_set_error_api(client, MONGOC_ERROR_API_VERSION_2);
    mongoc_client_set_appname(client, "towline-bench");
    bson_t ping = BSON_INITIALIZER;
    BSON_APPEND_INT32(&ping, "ping", 1);
    bool ok = mongoc_client_command_simple(client, "admin", &ping, NULL, NULL, &reason);
    bson_destroy(&ping);
    if (!ok) {
        tow_fail(error, TOW_ERROR_UNREACHABLE, "connect: %s", reason.message);
        mongoc_client_destroy(client);
        return NULL;
    }
    return client;
}

/* splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014). */
uint64_t tow_bench_random(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* Shaped as a driver would have made it: a time that grows, a process, a counter. */
void tow_bench_key(int64_t index, bson_oid_t *out)
{
    uint32_t seconds = 1700000000u + (uint32_t)(index / 5000);
    uint32_t counter = (uint32_t)index & 0xFFFFFF;
    uint8_t bytes[12] = {(uint8_t)(seconds >> 24),
                         (uint8_t)(seconds >> 16),
                         (uint8_t)(seconds >> 8),
                         (uint8_t)seconds,
                         0x54,
                         0x4f,
                         0x57,
                         0x4c,
                         0x01,
                         (uint8_t)(counter >> 16),
                         (uint8_t)(counter >> 8),
                         (uint8_t)counter};
    bson_oid_init_from_data(out, bytes);
}

/* Six random bits a byte: what a compressing server or link can save on it is what it saves on
 * base64, so that a copy is not made to look fast by data that nobody has. */
static void fill_text(char *out, size_t length, uint64_t *random)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint64_t bits = 0;
    for (size_t i = 0; i < length; i++) {
        if (i % 10 == 0)
            bits = tow_bench_random(random);
        out[i] = alphabet[bits & 63];
        bits >>= 6;
    }
    out[length] = 0;
}

static void append_text(bson_t *out, const char *name, size_t length, uint64_t *random)
{
    char *text = tow_alloc(length + 1);
    fill_text(text, length, random);
    bson_append_utf8(out, name, -1, text, (int)length);
    free(text);
}

void tow_bench_document(bson_t *out, const bson_oid_t *id, int64_t bytes, uint64_t *random)
{
    static const char *const states[] = {"open", "paid", "packed", "shipped", "returned"};
    bson_oid_t fresh;
    bson_t child, item;
    if (!id) {
        bson_oid_init(&fresh, NULL);
        id = &fresh;
    }
    bson_init(out);
    BSON_APPEND_OID(out, "_id", id);
    BSON_APPEND_INT64(out, "n", 0);
    /* Chosen beforehand: the macro below evaluates its argument twice. */
    const char *state = states[tow_bench_random(random) % 5];
    BSON_APPEND_UTF8(out, "state", state);
    BSON_APPEND_DOUBLE(out, "total", (double)(tow_bench_random(random) % 1000000) / 100);
    BSON_APPEND_DATE_TIME(out, "created",
                          1700000000000 + (int64_t)(tow_bench_random(random) >> 30));
    bson_append_document_begin(out, "customer", -1, &child);
    append_text(&child, "name", 16, random);
    append_text(&child, "mail", 24, random);
    BSON_APPEND_BOOL(&child, "company", tow_bench_random(random) % 4 == 0);
    bson_append_document_end(out, &child);
    bson_append_array_begin(out, "items", -1, &child);
    for (uint32_t i = 0; i < 3; i++) {
        static const char *const names[] = {"0", "1", "2"};
        bson_append_document_begin(&child, names[i], -1, &item);
        append_text(&item, "sku", 12, random);
        BSON_APPEND_INT32(&item, "quantity", (int)(1 + tow_bench_random(random) % 9));
        BSON_APPEND_DOUBLE(&item, "price", (double)(tow_bench_random(random) % 100000) / 100);
        bson_append_document_end(&child, &item);
    }
    bson_append_array_end(out, &child);
    int64_t room = bytes - out->len - 11; /* type, "note", NUL, length, NUL */
    append_text(out, "note", room > 0 ? (size_t)room : 0, random);
}

/* Fill ------------------------------------------------------------------------------------------*/

enum { FILL_BATCH = 1000 };

typedef struct {
    const tow_bench_options_t *options;
    int64_t first, last; /* documents [first, last) */
    pthread_t thread;
    bool ok;
    tow_error_t error;
} filler_t;

static bool fill_part(filler_t *filler)
{
    const tow_bench_options_t *options = filler->options;
    mongoc_client_t *client = tow_bench_connect(options->uri, &filler->error);
    if (!client)
        return false;
    mongoc_collection_t *collection =
        mongoc_client_get_collection(client, options->database, options->collection);
    uint64_t random = 0x746f776c696e65 + (uint64_t)filler->first;
    bson_t *documents = tow_alloc(FILL_BATCH * sizeof(bson_t));
    const bson_t **pointers = tow_alloc(FILL_BATCH * sizeof(bson_t *));
    bson_t unordered = BSON_INITIALIZER;
    BSON_APPEND_BOOL(&unordered, "ordered", false);
    bool ok = true;
    for (int64_t next = filler->first; ok && next < filler->last;) {
        size_t count = 0;
        for (; count < FILL_BATCH && next < filler->last; count++, next++) {
            bson_oid_t id;
            tow_bench_key(next, &id);
            tow_bench_document(&documents[count], &id, options->bytes, &random);
            pointers[count] = &documents[count];
        }
        bson_error_t reason;
        ok = mongoc_collection_insert_many(collection, pointers, count, &unordered, NULL, &reason);
        if (!ok)
            tow_bench_mongo(&filler->error, &reason, "insert");
        for (size_t i = 0; i < count; i++)
            bson_destroy(&documents[i]);
    }
    bson_destroy(&unordered);
    free(documents);
    free(pointers);
    mongoc_collection_destroy(collection);
    mongoc_client_destroy(client);
    return ok;
}

static void *fill_main(void *data)
{
    filler_t *filler = data;
    filler->ok = fill_part(filler);
    return NULL;
}

bool tow_bench_fill(const tow_bench_options_t *options, tow_error_t *error)
{
    size_t threads = (size_t)options->threads;
    filler_t *fillers = tow_alloc(threads * sizeof *fillers);
    int64_t started = tow_now_us();
    for (size_t i = 0; i < threads; i++) {
        fillers[i].options = options;
        fillers[i].first = options->documents * (int64_t)i / options->threads;
        fillers[i].last = options->documents * (int64_t)(i + 1) / options->threads;
        if (pthread_create(&fillers[i].thread, NULL, fill_main, &fillers[i]) != 0)
            abort();
    }
    bool ok = true;
    for (size_t i = 0; i < threads; i++) {
        pthread_join(fillers[i].thread, NULL);
        if (ok && !fillers[i].ok) {
            ok = false;
            *error = fillers[i].error;
        }
    }
    free(fillers);
    double seconds = (double)(tow_now_us() - started) / 1e6;
    if (ok)
        printf("filled %s.%s: %lld documents of %lld bytes in %.1f s, %.0f a second\n",
               options->database, options->collection, (long long)options->documents,
               (long long)options->bytes, seconds, (double)options->documents / seconds);
    return ok;
}

/* Digest and clearing ---------------------------------------------------------------------------*/

bool tow_bench_digest(const char *uri, const char *database, const char *collection_name,
                      tow_bench_digest_t *out, tow_error_t *error)
{
    mongoc_client_t *client = tow_bench_connect(uri, error);
    if (!client)
        return false;
    mongoc_collection_t *collection =
        mongoc_client_get_collection(client, database, collection_name);
    bson_t everything = BSON_INITIALIZER;
    mongoc_cursor_t *cursor = mongoc_collection_find_with_opts(collection, &everything, NULL, NULL);
    tow_bench_digest_t digest = {0};
    const bson_t *document;
    while (mongoc_cursor_next(cursor, &document)) {
        digest.documents++;
        digest.bytes += document->len;
        digest.sum += XXH64(bson_get_data(document), document->len, 0);
    }
    bson_error_t reason;
    bool ok = !mongoc_cursor_error(cursor, &reason);
    if (ok)
        *out = digest;
    else
        tow_bench_mongo(error, &reason, "read all documents");
    mongoc_cursor_destroy(cursor);
    bson_destroy(&everything);
    mongoc_collection_destroy(collection);
    mongoc_client_destroy(client);
    return ok;
}

bool tow_bench_compare(const tow_bench_options_t *options, tow_bench_digest_t *out,
                       tow_error_t *error)
{
    tow_bench_digest_t source, destination;
    if (!tow_bench_digest(options->source, options->database, options->collection, &source, error))
        return tow_fail_context(error, "source");
    if (!tow_bench_digest(options->destination, options->database, options->collection,
                          &destination, error))
        return tow_fail_context(error, "destination");
    if (source.documents == 0)
        return tow_fail(error, TOW_ERROR_VERIFY, "%s.%s is empty on the source: fill it first",
                        options->database, options->collection);
    if (source.documents != destination.documents || source.bytes != destination.bytes ||
        source.sum != destination.sum)
        return tow_fail(error, TOW_ERROR_VERIFY,
                        "source and destination differ: %llu documents, %llu bytes, sum %016llx "
                        "and %llu documents, %llu bytes, sum %016llx",
                        (unsigned long long)source.documents, (unsigned long long)source.bytes,
                        (unsigned long long)source.sum, (unsigned long long)destination.documents,
                        (unsigned long long)destination.bytes, (unsigned long long)destination.sum);
    *out = source;
    return true;
}

static bool drop(mongoc_client_t *client, const char *name, tow_error_t *error)
{
    bson_error_t reason;
    mongoc_database_t *database = mongoc_client_get_database(client, name);
    bool ok = mongoc_database_drop(database, &reason);
    mongoc_database_destroy(database);
    return ok || tow_bench_mongo(error, &reason, "drop the destination's database");
}

bool tow_bench_clear(const tow_bench_options_t *options, tow_error_t *error)
{
    mongoc_client_t *client = tow_bench_connect(options->destination, error);
    if (!client)
        return false;
    bool ok = drop(client, options->database, error) && drop(client, "towline_bench", error);
    mongoc_client_destroy(client);
    return ok;
}
