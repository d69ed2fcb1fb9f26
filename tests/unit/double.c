/* SPDX-License-Identifier: Apache-2.0 */
/* double.c: see double.h. What the servers store, and reads of it. */
#include "double_internal.h"

#include <stdlib.h>
#include <string.h>

#include "random.h"

pthread_mutex_t double_lock = PTHREAD_MUTEX_INITIALIZER;

double_server_t *double_new(const char *side, bool stale)
{
    double_server_t *server = tow_alloc(sizeof *server);
    tow_link_t *link = tow_alloc(sizeof *link);

    link->options = (tow_link_options_t){.side = side, .retry_window_ms = 5000};
    snprintf(link->side, sizeof link->side, "%s", side);
    link->pool = (mongoc_client_pool_t *)server;
    link->uri = (mongoc_uri_t *)server;
    link->facts = (tow_facts_t){.major = 7,
                                .max_write_batch = 100000,
                                .max_message_bytes = 48000000,
                                .bypass_empty_ts = true};
    pthread_mutex_init(&link->lock, NULL);
    bson_init(&link->gossip);
    server->link = link;
    server->stale = stale;
    return server;
}

void double_free(double_server_t *server)
{
    for (uint32_t i = 0; i < server->count; i++) {
        bson_destroy(&server->versions[i].id);
        if (server->versions[i].document)
            bson_destroy(server->versions[i].document);
    }
    for (uint32_t i = 0; i < CURSORS; i++)
        if (server->cursors[i].open)
            bson_destroy(&server->cursors[i].ids);
    bson_destroy(&server->link->gossip);
    pthread_mutex_destroy(&server->link->lock);
    free(server->link);
    free(server->versions);
    free(server);
}

tow_link_t *double_link(double_server_t *server)
{
    return server->link;
}

void double_stop(double_server_t *server, tow_stop_t *stop)
{
    server->link->options.stop = stop;
}

void double_impatient(double_server_t *server)
{
    server->link->options.retry_window_ms = 0;
}

void double_seed(double_server_t *server, uint64_t seed)
{
    server->random = seed;
}

void double_worst(double_server_t *server)
{
    server->worst = true;
}

void double_unique(double_server_t *server, const char *field)
{
    pthread_mutex_lock(&double_lock);
    server->unique = field;
    pthread_mutex_unlock(&double_lock);
}

void double_hook(double_server_t *server, double_hook_t hook, void *data)
{
    pthread_mutex_lock(&double_lock);
    server->hook = hook;
    server->hook_data = data;
    pthread_mutex_unlock(&double_lock);
}

void double_lose_answer(double_server_t *server, const char *name)
{
    pthread_mutex_lock(&double_lock);
    snprintf(server->lose, sizeof server->lose, "%s", name);
    pthread_mutex_unlock(&double_lock);
}

void double_hold(double_server_t *server, const char *name, uint32_t passed)
{
    pthread_mutex_lock(&double_lock);
    snprintf(server->hold, sizeof server->hold, "%s", name);
    server->pass = passed;
    pthread_mutex_unlock(&double_lock);
}

atomic_uint *double_held(double_server_t *server)
{
    return &server->held.is;
}

/* Versions --------------------------------------------------------------------------------------*/

tow_value_t double_id_of(const bson_t *document)
{
    tow_value_t id = {0};

    tow_value_id(document, &id);
    return id;
}

bool double_is_of(const version_t *version, const char *ns, tow_optime_t time)
{
    return version->time <= time && time < version->until && !strcmp(version->ns, ns);
}

/* The newest version of a key up to a time; NULL: there never was one. The lock is held. */
static version_t *find(const double_server_t *server, const char *ns, tow_value_t id,
                       tow_optime_t time)
{
    for (uint32_t i = server->count; i-- > 0;)
        if (double_is_of(&server->versions[i], ns, time) &&
            !tow_value_compare(double_id_of(&server->versions[i].id), id))
            return &server->versions[i];
    return NULL;
}

const bson_t *double_document_of(const double_server_t *server, const char *ns, tow_value_t id,
                                 tow_optime_t time)
{
    const version_t *version = find(server, ns, id, time);

    return version ? version->document : NULL;
}

tow_optime_t double_add(double_server_t *server, const char *ns, tow_value_t id,
                        const bson_t *document)
{
    version_t *version = find(server, ns, id, server->now);

    server->now++;
    if (version)
        version->until = server->now;
    if (server->count == server->capacity) {
        server->capacity = server->capacity * 2 + 64;
        server->versions = tow_realloc(server->versions, server->capacity * sizeof *version);
    }
    version = &server->versions[server->count++];
    snprintf(version->ns, sizeof version->ns, "%s", ns);
    bson_init(&version->id);
    tow_value_append(&version->id, "_id", 3, id);
    version->time = server->now;
    version->until = UINT64_MAX;
    version->document = document ? bson_copy(document) : NULL;
    return version->time;
}

tow_optime_t double_put(double_server_t *server, const char *ns, const bson_t *document)
{
    tow_optime_t time;

    pthread_mutex_lock(&double_lock);
    time = double_add(server, ns, double_id_of(document), document);
    pthread_mutex_unlock(&double_lock);
    return time;
}

tow_optime_t double_remove(double_server_t *server, const char *ns, tow_value_t id)
{
    tow_optime_t time;

    pthread_mutex_lock(&double_lock);
    time = double_add(server, ns, id, NULL);
    pthread_mutex_unlock(&double_lock);
    return time;
}

tow_optime_t double_now(double_server_t *server)
{
    tow_optime_t now;

    pthread_mutex_lock(&double_lock);
    now = server->now;
    pthread_mutex_unlock(&double_lock);
    return now;
}

bson_t *double_get(double_server_t *server, const char *ns, tow_value_t id, tow_optime_t time)
{
    const bson_t *document;
    bson_t *copy;

    pthread_mutex_lock(&double_lock);
    document = double_document_of(server, ns, id, time ? time : server->now);
    copy = document ? bson_copy(document) : NULL;
    pthread_mutex_unlock(&double_lock);
    return copy;
}

static bool is_equal(const bson_t *left, const bson_t *right)
{
    return left && right ? bson_equal(left, right) : left == right;
}

void double_compare(double_server_t *left, double_server_t *right, const char *ns, char *out,
                    size_t size)
{
    double_server_t *sides[] = {left, right};

    out[0] = '\0';
    pthread_mutex_lock(&double_lock);
    for (int side = 0; side < 2; side++)
        for (uint32_t i = 0; i < sides[side]->count && !out[0]; i++) {
            const version_t *version = &sides[side]->versions[i];

            if (!strcmp(version->ns, ns) &&
                !is_equal(double_document_of(left, ns, double_id_of(&version->id), left->now),
                          double_document_of(right, ns, double_id_of(&version->id), right->now)))
                tow_value_text(double_id_of(&version->id), out, size);
        }
    pthread_mutex_unlock(&double_lock);
}

/* Reads -----------------------------------------------------------------------------------------*/

/* When a read that is sure to see `from` is done. */
static tow_optime_t between(double_server_t *server, tow_optime_t from, tow_optime_t to)
{
    if (server->worst)
        return from;
    return server->stale && to > from
               ? from + random_below(&server->random, (uint32_t)(to - from + 1))
               : to;
}

/* What a read with this concern is sure to see. */
static tow_optime_t promised(const double_server_t *server, const bson_t *command)
{
    bson_iter_t iter, child;
    tow_optime_t after = 0;
    uint32_t seconds, increment;

    if (!server->stale)
        return server->now;
    if (bson_iter_init(&iter, command) &&
        bson_iter_find_descendant(&iter, "readConcern.afterClusterTime", &child)) {
        bson_iter_timestamp(&child, &seconds, &increment);
        after = TOW_OPTIME(seconds, increment);
    }
    if (!bson_iter_init(&iter, command) ||
        !bson_iter_find_descendant(&iter, "readConcern.level", &child) ||
        strcmp(bson_iter_utf8(&child, NULL), "majority"))
        return 0;
    return after;
}

/* One operator of a filter of the engine's. */
static bool holds(const bson_iter_t *condition, tow_value_t value)
{
    const char *name = bson_iter_key(condition);
    bson_iter_t list;
    int order;

    if (!strcmp(name, "$in")) {
        bson_iter_recurse(condition, &list);
        while (bson_iter_next(&list))
            if (!tow_value_compare(tow_value_of(&list), value))
                return true;
        return false;
    }
    order = tow_value_compare(value, tow_value_of(condition));
    return !strcmp(name, "$eq") ? !order : !strcmp(name, "$gte") ? order >= 0 : order < 0;
}

static bool takes(const bson_t *filter, const bson_t *document);

/* Each filter of an $and. */
static bool takes_all(const bson_iter_t *list, const bson_t *document)
{
    const uint8_t *data;
    uint32_t length;
    bson_iter_t iter;
    bson_t filter;

    if (!bson_iter_recurse(list, &iter))
        return false;
    while (bson_iter_next(&iter)) {
        bson_iter_document(&iter, &length, &data);
        if (!bson_init_static(&filter, data, length) || !takes(&filter, document))
            return false;
    }
    return true;
}

/* Whether a filter of the engine's takes a document: {field: {$operator: value, …}, …}, $and of
 * such. */
static bool takes(const bson_t *filter, const bson_t *document)
{
    bson_iter_t iter, condition, field;

    if (!bson_iter_init(&iter, filter))
        return false;
    while (bson_iter_next(&iter)) {
        if (!strcmp(bson_iter_key(&iter), "$and")) {
            if (!takes_all(&iter, document))
                return false;
            continue;
        }
        if (!bson_iter_init_find(&field, document, bson_iter_key(&iter)) ||
            !bson_iter_recurse(&iter, &condition))
            return false;
        while (bson_iter_next(&condition))
            if (!holds(&condition, tow_value_of(&field)))
                return false;
    }
    return true;
}

/* Whether an _id is at or above the `min`, and below the `max`, of a find. */
static bool is_between(const bson_t *command, tow_value_t id)
{
    bson_iter_t iter, bound;

    if (bson_iter_init(&iter, command) && bson_iter_find_descendant(&iter, "min._id", &bound) &&
        tow_value_compare(id, tow_value_of(&bound)) < 0)
        return false;
    return !bson_iter_init(&iter, command) ||
           !bson_iter_find_descendant(&iter, "max._id", &bound) ||
           tow_value_compare(id, tow_value_of(&bound)) < 0;
}

void double_append_index(bson_t *list, uint32_t number, const bson_t *document)
{
    char room[16];
    const char *key;

    bson_uint32_to_string(number, &key, room, sizeof room);
    bson_append_document(list, key, -1, document);
}

/* A read in natural order, the newest first. */
static bool is_backwards(const bson_t *command)
{
    bson_iter_t iter, order;

    return bson_iter_init(&iter, command) &&
           bson_iter_find_descendant(&iter, "hint.$natural", &order) &&
           bson_iter_as_int64(&order) < 0;
}

/* The matching _ids at a time, each once, in the order of their writes, as {0: {_id: …}, …}. */
static uint32_t match(double_server_t *server, const char *ns, const bson_t *command,
                      const bson_t *filter, tow_optime_t time, bson_t *out)
{
    bool backwards = is_backwards(command);
    uint32_t count = 0;

    bson_init(out);
    for (uint32_t i = 0; i < server->count; i++) {
        const version_t *version = &server->versions[backwards ? server->count - 1 - i : i];

        if (double_is_of(version, ns, time) && version->document &&
            (!filter || takes(filter, version->document)) &&
            is_between(command, double_id_of(version->document)))
            double_append_index(out, count++, &version->id);
    }
    return count;
}

/* Gives out documents `first` … of the list as they are at a time, up to `most`. */
static void append_documents(double_server_t *server, const char *ns, const bson_t *ids,
                             tow_optime_t time, uint32_t most, bson_t *batch, bson_t *rest)
{
    bson_iter_t iter, id;
    uint32_t count = 0, left = 0;

    bson_iter_init(&iter, ids);
    while (bson_iter_next(&iter)) {
        const bson_t *document;
        bson_t key = BSON_INITIALIZER;

        bson_iter_recurse(&iter, &id);
        bson_iter_next(&id);
        tow_value_append(&key, "_id", 3, tow_value_of(&id));
        document = double_document_of(server, ns, double_id_of(&key), time);
        if (count >= most)
            double_append_index(rest, left++, &key);
        else if (document)
            double_append_index(batch, count++, document);
        bson_destroy(&key);
    }
}

void double_append_time(bson_t *reply, tow_optime_t time)
{
    bson_append_timestamp(reply, "operationTime", -1, (uint32_t)(time >> 32), (uint32_t)time);
    bson_append_double(reply, "ok", -1, 1.0);
}

static void answer_batch(double_server_t *server, const char *ns, const bson_t *ids,
                         tow_optime_t snapshot, uint32_t most, const char *name, bson_t *reply)
{
    bson_t child, batch, rest = BSON_INITIALIZER;
    cursor_t *cursor = &server->cursors[server->next_cursor];
    int64_t number = 0;

    bson_append_document_begin(reply, "cursor", -1, &child);
    bson_append_array_begin(&child, name, -1, &batch);
    append_documents(server, ns, ids, snapshot, most, &batch, &rest);
    bson_append_array_end(&child, &batch);
    if (!bson_empty(&rest)) {
        if (cursor->open)
            bson_destroy(&cursor->ids);
        cursor->open = true;
        snprintf(cursor->ns, sizeof cursor->ns, "%s", ns);
        bson_copy_to(&rest, &cursor->ids);
        cursor->snapshot = snapshot;
        number = (int64_t)server->next_cursor + 1;
        server->next_cursor = (server->next_cursor + 1) % CURSORS;
    }
    bson_append_int64(&child, "id", -1, number);
    bson_append_utf8(&child, "ns", -1, ns, -1);
    bson_append_document_end(reply, &child);
    double_append_time(reply, server->worst ? server->now : between(server, snapshot, server->now));
    bson_destroy(&rest);
}

void double_find(double_server_t *server, const char *database, const bson_t *command,
                 bson_t *reply)
{
    tow_optime_t snapshot = between(server, promised(server, command), server->now);
    bson_t ids, filter;
    bson_iter_t iter;
    const uint8_t *data;
    uint32_t length, count;
    char ns[64];
    bool filtered;

    bson_iter_init_find(&iter, command, "find");
    snprintf(ns, sizeof ns, "%s.%s", database, bson_iter_utf8(&iter, NULL));
    filtered = bson_iter_init_find(&iter, command, "filter");
    if (filtered) {
        bson_iter_document(&iter, &length, &data);
        filtered = bson_init_static(&filter, data, length);
    }
    count = match(server, ns, command, filtered ? &filter : NULL, snapshot, &ids);
    answer_batch(server, ns, &ids, snapshot, server->stale && count > 1 ? count / 2 : count,
                 "firstBatch", reply);
    bson_destroy(&ids);
}

void double_get_more(double_server_t *server, const bson_t *command, bson_t *reply)
{
    bson_iter_t iter;
    cursor_t *cursor;

    bson_iter_init_find(&iter, command, "getMore");
    cursor = &server->cursors[bson_iter_int64(&iter) - 1];
    cursor->open = false;
    answer_batch(server, cursor->ns, &cursor->ids, between(server, cursor->snapshot, server->now),
                 UINT32_MAX, "nextBatch", reply);
    bson_destroy(&cursor->ids);
}

/* A collection is there when it holds a document. */
void double_list_collections(double_server_t *server, const char *database, const bson_t *command,
                             bson_t *reply)
{
    bson_t child, batch, entry, info, options = BSON_INITIALIZER, ids;
    bson_iter_t iter, name;
    uint8_t uuid[16] = {0}; /* its name */
    char ns[64];

    bson_iter_init(&iter, command);
    bson_iter_find_descendant(&iter, "filter.name", &name);
    snprintf(ns, sizeof ns, "%s.%s", database, bson_iter_utf8(&name, NULL));
    memcpy(uuid, ns, strnlen(ns, sizeof uuid));
    bson_append_document_begin(reply, "cursor", -1, &child);
    bson_append_array_begin(&child, "firstBatch", -1, &batch);
    if (match(server, ns, command, NULL, server->now, &ids)) {
        bson_append_document_begin(&batch, "0", -1, &entry);
        bson_append_utf8(&entry, "name", -1, ns + strlen(database) + 1, -1);
        bson_append_utf8(&entry, "type", -1, "collection", -1);
        bson_append_document(&entry, "options", -1, &options);
        bson_append_document_begin(&entry, "info", -1, &info);
        bson_append_binary(&info, "uuid", -1, BSON_SUBTYPE_UUID, uuid, sizeof uuid);
        bson_append_document_end(&entry, &info);
        bson_append_document_end(&batch, &entry);
    }
    bson_append_array_end(&child, &batch);
    bson_append_int64(&child, "id", -1, 0);
    bson_append_utf8(&child, "ns", -1, ns, -1);
    bson_append_document_end(reply, &child);
    double_append_time(reply, server->now);
    bson_destroy(&ids);
}

/* The one on _id, and the unique one. */
void double_list_indexes(double_server_t *server, bson_t *reply)
{
    const char *const fields[] = {"_id", server->unique};
    bson_t child, batch, entry, key;

    bson_append_document_begin(reply, "cursor", -1, &child);
    bson_append_array_begin(&child, "firstBatch", -1, &batch);
    for (int i = 0; i < 2 && fields[i]; i++) {
        bson_append_document_begin(&batch, i ? "1" : "0", -1, &entry);
        bson_append_document_begin(&entry, "key", -1, &key);
        bson_append_int32(&key, fields[i], -1, 1);
        bson_append_document_end(&entry, &key);
        bson_append_utf8(&entry, "name", -1, i ? "unique" : "_id_", -1);
        bson_append_bool(&entry, "unique", -1, i);
        bson_append_document_end(&batch, &entry);
    }
    bson_append_array_end(&child, &batch);
    bson_append_int64(&child, "id", -1, 0);
    bson_append_document_end(reply, &child);
    double_append_time(reply, server->now);
}
