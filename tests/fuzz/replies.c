/* SPDX-License-Identifier: Apache-2.0 */
/* replies.c: any document as the answer of a server, to every reader of answers that the engine
 * has. Commands are not sent: what tow_conn_command would have brought is the input. Whatever it
 * is, it is taken or refused with a message; what is handed on can be used. The first byte chooses
 * the reader. */
#include <pthread.h>

#include "engine/base/memory.h"
#include "engine/check/privileges.h"
#include "engine/link/catalog.h"
#include "engine/link/identity.h"
#include "engine/link/internal.h"
#include "engine/link/reader.h"
#include "engine/link/reply.h"
#include "engine/link/sharding.h"
#include "engine/state/claims.h"
#include "engine/state/store_internal.h"
#include "engine/state/write.h"
#include "oplog/record.h"
#include "oplog/tail.h"
#include "oplog/token.h"
#include "oplog/translate.h"
#include "tests/fuzz/fuzz.h"
#include "verify/entry.h"

enum { CALLS_MOST = 12 };

static const bson_t *answer; /* to every command */
static unsigned calls;

bool __wrap_tow_conn_command(tow_conn_t *conn, const char *database, const bson_t *command,
                             const tow_send_options_t *options, bson_t *reply, tow_error_t *error);
bool __wrap_tow_conn_command(tow_conn_t *conn, const char *database, const bson_t *command,
                             const tow_send_options_t *options, bson_t *reply, tow_error_t *error)
{
    if (++calls > CALLS_MOST) {
        bson_init(reply);
        return tow_fail(error, TOW_ERROR_SERVER, "no more answers");
    }
    bson_copy_to(answer, reply);
    return true;
}

static tow_link_t *make_link(bool sharded)
{
    tow_link_t *link = tow_alloc(sizeof *link);

    strcpy(link->side, "source");
    link->options.side = link->side;
    link->hosts = tow_strdup("h:1");
    link->facts.sharded = sharded;
    strcpy(link->facts.version, "7.0.0");
    link->facts.major = 7;
    pthread_mutex_init(&link->lock, NULL);
    return link;
}

static void free_link(tow_link_t *link)
{
    pthread_mutex_destroy(&link->lock);
    free(link->hosts);
    free(link);
}

static void refused(const tow_error_t *error)
{
    HOLDS(error->code != TOW_OK && error->message[0]);
}

/* Catalogs --------------------------------------------------------------------------------------*/

static int compare(const bson_value_t *a, const bson_value_t *b)
{
    return a->value_type < b->value_type ? -1 : a->value_type > b->value_type;
}

static void read_catalog(tow_conn_t *conn)
{
    tow_collection_info_t info;
    tow_catalog_t catalog;
    tow_error_t error = {0};
    bool found;

    if (tow_catalog_read(conn, "d", &catalog, &error)) {
        for (size_t i = 0; i < catalog.count; i++)
            HOLDS(catalog.items[i].ns && catalog.items[i].name[0]);
        tow_catalog_clear(&catalog);
    } else {
        refused(&error);
    }
    calls = 0;
    if (tow_catalog_read(conn, NULL, &catalog, &error))
        tow_catalog_clear(&catalog);
    calls = 0;
    if (tow_catalog_find(conn, "d", "c", &info, &found, &error) && found) {
        HOLDS(!strcmp(info.ns, "d.c"));
        tow_collection_info_clear(&info);
    }
}

static void read_sizes(tow_conn_t *conn)
{
    tow_collection_info_t info = {
        .database = (char *)"d", .name = (char *)"c", .ns = (char *)"d.c"};
    tow_collection_stats_t stats;
    tow_shard_keys_t keys;
    tow_indexes_t indexes;
    bson_value_t *bounds = NULL;
    tow_error_t error = {0};
    uint32_t count;

    if (tow_indexes_read(conn, "d", "c", &indexes, &error)) {
        for (size_t i = 0; i < indexes.count; i++)
            HOLDS(bson_has_field(&indexes.items[i], "name"));
        tow_indexes_clear(&indexes);
    }
    calls = 0;
    if (!tow_collection_stats(conn, "d", "c", &stats, &error))
        refused(&error);
    calls = 0;
    if (tow_split_bounds(conn, &info, 5000, 4, compare, &bounds, &count, &error)) {
        for (uint32_t i = 0; i < count; i++)
            bson_value_destroy(&bounds[i]);
        free(bounds);
    }
    calls = 0;
    if (tow_shard_keys_read(conn, &keys, &error))
        tow_shard_keys_clear(&keys);
}

static void read_facts(tow_link_t *link, tow_conn_t *conn)
{
    tow_error_t error = {0};
    char id[25], hosts[64];

    if (!tow_facts_read(link, conn, &error)) {
        refused(&error);
        return;
    }
    HOLDS(link->facts.max_write_batch > 0 && link->facts.max_message_bytes > 0);
    HOLDS(tow_identity_compare(link->facts.identity, link->facts.identity) !=
          TOW_IDENTITY_DIFFERENT);
    tow_identity_id(link->facts.identity, id);
    tow_identity_hosts(link->facts.identity, hosts, sizeof hosts);
}

/* Documents and events --------------------------------------------------------------------------*/

static void read_batches(tow_conn_t *conn)
{
    tow_read_t what = {.database = "d", .collection = "c"};
    tow_error_t error = {0};
    tow_reader_t *reader = tow_reader_open(conn, &what, &error);
    bool more = true;
    bson_t document;

    if (!reader) {
        refused(&error);
        return;
    }
    while (more && calls < CALLS_MOST) {
        while (tow_reader_next(reader, &document))
            HOLDS(document.len >= 5);
        if (!tow_reader_next_batch(reader, &more, &error)) {
            refused(&error);
            break;
        }
    }
    tow_reader_close(reader);
}

static void take_event(const bson_t *event)
{
    tow_event_t parsed;
    bson_t document;

    HOLDS(tow_reply_is_event(event));
    tow_event_parse(event, &parsed);
    HOLDS(parsed.operation[0] && parsed.time);
    HOLDS(!parsed.change || (parsed.has_id && parsed.database[0] && parsed.collection[0]));
    (void)tow_translate(event, &document, false);
    (void)tow_translate(event, &document, true);
}

static void read_events(const bson_t *reply)
{
    tow_reply_cursor_t cursor;
    tow_optime_t time;
    bson_iter_t batch;
    bson_t event;
    bool broken;

    if (!tow_reply_cursor(reply, &cursor))
        return;
    if (cursor.has_token)
        tow_token_time(&cursor.token, &time);
    if (!tow_reply_are_events(&cursor.batch))
        return;
    batch = cursor.batch;
    while (tow_batch_document(&batch, &event, &broken))
        take_event(&event);
    HOLDS(!broken);
}

static void read_refusals(const bson_t *reply)
{
    bson_t command = BSON_INITIALIZER, list, empty = BSON_INITIALIZER;
    tow_write_error_t refusal;
    tow_error_t error = {0};
    bson_error_t driver = {0};
    uint32_t position = 0, seen = 0;

    bson_append_array_begin(&command, "updates", -1, &list);
    bson_append_document(&list, "0", -1, &empty);
    bson_append_document(&list, "1", -1, &empty);
    bson_append_array_end(&command, &list);
    if (tow_reply_is_write(&command, reply))
        while (tow_reply_write_error(reply, &position, &refusal)) {
            HOLDS(refusal.index < 2 && refusal.message);
            seen++;
        }
    tow_classify(&driver, reply, "source", &error);
    HOLDS(!tow_error_history_lost(&error) || error.server_code);
    tow_error_stream_resumable(&error, reply);
    bson_destroy(&command);
}

/* The job's state -------------------------------------------------------------------------------*/

static bool take_ranges(void *data, const bson_t *collection, tow_range_t *ranges, uint32_t count,
                        tow_error_t *error)
{
    for (uint32_t i = 0; i < count; i++)
        tow_range_clear(&ranges[i]);
    return true;
}

static void read_state(tow_link_t *link, tow_conn_t *conn)
{
    tow_settings_t settings = {"set id=- hosts=h:1 name=rs", "set id=- hosts=g:1 name=rs", "{ }"};
    tow_store_t store = {.options.destination = link,
                         .conn = conn,
                         .database = (char *)"towline_fuzz",
                         .renewed_ms = INT64_MAX / 2};
    tow_checkpoint_t checkpoint;
    tow_store_view_t view;
    tow_error_t error = {0};
    tow_claims_t *claims;
    bool found;

    pthread_mutex_init(&store.lock, NULL);
    if (!tow_store_peek(link, "fuzz", &settings, &view, &error))
        refused(&error);
    calls = 0;
    if (tow_store_load_checkpoint(&store, &checkpoint, &found, &error) && found)
        bson_destroy(&checkpoint.token);
    calls = 0;
    if (!tow_store_each_collection(&store, take_ranges, NULL, &error))
        refused(&error);
    calls = 0;
    claims = tow_claims_new(&store);
    if (!tow_claims_load(claims, &error))
        refused(&error);
    tow_claims_destroy(claims);
    pthread_mutex_destroy(&store.lock);
}

static void read_rest(const bson_t *reply)
{
    tow_privilege_scope_t scope = {0};
    tow_findings_t findings = {0};

    tow_judge_privileges(reply, "source", "source_privileges", &scope, &findings);
    tow_findings_clear(&findings);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *bytes;
    uint32_t length;
    tow_link_t *link;
    tow_conn_t conn;
    bson_t reply;

    if (size < 6)
        return 0;
    /* Whole on the outside, as the driver hands it on; what is inside is anybody's. */
    length = (uint32_t)size - 1;
    bytes = malloc(length);
    memcpy(bytes, data + 1, length);
    memcpy(bytes, &(uint32_t){BSON_UINT32_TO_LE(length)}, sizeof length);
    bytes[length - 1] = 0;
    if (bson_init_static(&reply, bytes, length)) {
        link = make_link(data[0] & 0x80);
        conn = (tow_conn_t){.link = link};
        answer = &reply;
        calls = 0;
        switch (data[0] & 7) {
        case 0:
            read_catalog(&conn);
            break;
        case 1:
            read_sizes(&conn);
            break;
        case 2:
            read_facts(link, &conn);
            break;
        case 3:
            read_batches(&conn);
            break;
        case 4:
            read_events(&reply);
            break;
        case 5:
            read_refusals(&reply);
            break;
        case 6:
            read_state(link, &conn);
            break;
        default:
            read_rest(&reply);
            break;
        }
        free_link(link);
    }
    free(bytes);
    return 0;
}
