/* double.c: see double.h. */
#include "double.h"

#include <mongoc/mongoc.h>
#include <stdlib.h>
#include <string.h>

#include "engine/link/internal.h"
#include "random.h"

enum { CURSORS = 64, DUPLICATE = 11000, IMMUTABLE = 66, TOO_OLD = 225 };

typedef struct {
    char ns[64];
    bson_t id;        /* {_id: …} */
    tow_optime_t time, until; /* until: the next version's time */
    bson_t *document;         /* NULL: deleted */
} version_t;

typedef struct {
    bool open;
    char ns[64];
    bson_t ids;       /* of the documents that are not given out yet */
    tow_optime_t snapshot;
} cursor_t;

struct double_server {
    tow_link_t *link;
    version_t *versions;
    uint32_t count, capacity;
    tow_optime_t now;
    bool stale, worst;
    const char *unique;
    uint64_t random;
    cursor_t cursors[CURSORS];
    uint32_t next_cursor;
    double_hook_t hook;
    void *hook_data;
    char lose[16];
};

typedef struct {
    bson_t lsid, reply; /* reply: of the last numbered write */
    int64_t number;
} session_t;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

double_server_t *double_new(const char *side, bool stale)
{
    double_server_t *server = tow_alloc(sizeof *server);
    tow_link_t *link = tow_alloc(sizeof *link);

    link->options = (tow_link_options_t){.side = side, .retry_window_ms = 5000};
    snprintf(link->side, sizeof link->side, "%s", side);
    link->pool = (mongoc_client_pool_t *)server;
    link->uri = (mongoc_uri_t *)server;
    link->facts = (tow_facts_t){.major = 7, .max_write_batch = 100000,
                                .max_message_bytes = 48000000, .bypass_empty_ts = true};
    pthread_mutex_init(&link->lock, NULL);
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
    pthread_mutex_lock(&lock);
    server->unique = field;
    pthread_mutex_unlock(&lock);
}

void double_hook(double_server_t *server, double_hook_t hook, void *data)
{
    pthread_mutex_lock(&lock);
    server->hook = hook;
    server->hook_data = data;
    pthread_mutex_unlock(&lock);
}

void double_lose_answer(double_server_t *server, const char *name)
{
    pthread_mutex_lock(&lock);
    snprintf(server->lose, sizeof server->lose, "%s", name);
    pthread_mutex_unlock(&lock);
}

/* Versions ----------------------------------------------------------------------------------------*/

static tow_value_t id_of(const bson_t *document)
{
    tow_value_t id = {0};

    tow_value_id(document, &id);
    return id;
}

static bool is_of(const version_t *version, const char *ns, tow_optime_t time)
{
    return version->time <= time && time < version->until && !strcmp(version->ns, ns);
}

/* The newest version of a key up to a time; NULL: there never was one. The lock is held. */
static version_t *find(const double_server_t *server, const char *ns, tow_value_t id,
                       tow_optime_t time)
{
    for (uint32_t i = server->count; i-- > 0;)
        if (is_of(&server->versions[i], ns, time) &&
            !tow_value_compare(id_of(&server->versions[i].id), id))
            return &server->versions[i];
    return NULL;
}

static const bson_t *document_of(const double_server_t *server, const char *ns, tow_value_t id,
                                 tow_optime_t time)
{
    const version_t *version = find(server, ns, id, time);

    return version ? version->document : NULL;
}

static tow_optime_t add(double_server_t *server, const char *ns, tow_value_t id,
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

    pthread_mutex_lock(&lock);
    time = add(server, ns, id_of(document), document);
    pthread_mutex_unlock(&lock);
    return time;
}

tow_optime_t double_remove(double_server_t *server, const char *ns, tow_value_t id)
{
    tow_optime_t time;

    pthread_mutex_lock(&lock);
    time = add(server, ns, id, NULL);
    pthread_mutex_unlock(&lock);
    return time;
}

tow_optime_t double_now(double_server_t *server)
{
    tow_optime_t now;

    pthread_mutex_lock(&lock);
    now = server->now;
    pthread_mutex_unlock(&lock);
    return now;
}

bson_t *double_get(double_server_t *server, const char *ns, tow_value_t id, tow_optime_t time)
{
    const bson_t *document;
    bson_t *copy;

    pthread_mutex_lock(&lock);
    document = document_of(server, ns, id, time ? time : server->now);
    copy = document ? bson_copy(document) : NULL;
    pthread_mutex_unlock(&lock);
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
    pthread_mutex_lock(&lock);
    for (int side = 0; side < 2; side++)
        for (uint32_t i = 0; i < sides[side]->count && !out[0]; i++) {
            const version_t *version = &sides[side]->versions[i];

            if (!strcmp(version->ns, ns) &&
                !is_equal(document_of(left, ns, id_of(&version->id), left->now),
                          document_of(right, ns, id_of(&version->id), right->now)))
                tow_value_text(id_of(&version->id), out, size);
        }
    pthread_mutex_unlock(&lock);
}

/* Reads -------------------------------------------------------------------------------------------*/

/* When a read that is sure to see `from` is done. */
static tow_optime_t between(double_server_t *server, tow_optime_t from, tow_optime_t to)
{
    if (server->worst)
        return from;
    return server->stale && to > from ? from + random_below(&server->random,
                                                            (uint32_t)(to - from + 1))
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

/* Whether a filter of the engine's takes a document: {field: {$operator: value, …}, …}, $and of such. */
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

static void append_index(bson_t *list, uint32_t number, const bson_t *document)
{
    char room[16];
    const char *key;

    bson_uint32_to_string(number, &key, room, sizeof room);
    bson_append_document(list, key, -1, document);
}

/* The matching _ids at a time, each once, as {0: {_id: …}, …}. */
static uint32_t match(double_server_t *server, const char *ns, const bson_t *command,
                      const bson_t *filter, tow_optime_t time, bson_t *out)
{
    uint32_t count = 0;

    bson_init(out);
    for (uint32_t i = 0; i < server->count; i++) {
        const version_t *version = &server->versions[i];

        if (is_of(version, ns, time) && version->document &&
            (!filter || takes(filter, version->document)) &&
            is_between(command, id_of(version->document)))
            append_index(out, count++, &version->id);
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
        document = document_of(server, ns, id_of(&key), time);
        if (count >= most)
            append_index(rest, left++, &key);
        else if (document)
            append_index(batch, count++, document);
        bson_destroy(&key);
    }
}

static void append_time(bson_t *reply, tow_optime_t time)
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
    append_time(reply, server->worst ? server->now : between(server, snapshot, server->now));
    bson_destroy(&rest);
}

static void do_find(double_server_t *server, const char *database, const bson_t *command,
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

static void do_get_more(double_server_t *server, const bson_t *command, bson_t *reply)
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
static void do_list_collections(double_server_t *server, const char *database,
                                const bson_t *command, bson_t *reply)
{
    bson_t child, batch, entry, options = BSON_INITIALIZER, ids;
    bson_iter_t iter, name;
    char ns[64];

    bson_iter_init(&iter, command);
    bson_iter_find_descendant(&iter, "filter.name", &name);
    snprintf(ns, sizeof ns, "%s.%s", database, bson_iter_utf8(&name, NULL));
    bson_append_document_begin(reply, "cursor", -1, &child);
    bson_append_array_begin(&child, "firstBatch", -1, &batch);
    if (match(server, ns, command, NULL, server->now, &ids)) {
        bson_append_document_begin(&batch, "0", -1, &entry);
        bson_append_utf8(&entry, "name", -1, ns + strlen(database) + 1, -1);
        bson_append_utf8(&entry, "type", -1, "collection", -1);
        bson_append_document(&entry, "options", -1, &options);
        bson_append_document(&entry, "info", -1, &options);
        bson_append_document_end(&batch, &entry);
    }
    bson_append_array_end(&child, &batch);
    bson_append_int64(&child, "id", -1, 0);
    bson_append_utf8(&child, "ns", -1, ns, -1);
    bson_append_document_end(reply, &child);
    append_time(reply, server->now);
    bson_destroy(&ids);
}

/* The one on _id, and the unique one. */
static void do_list_indexes(double_server_t *server, bson_t *reply)
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
    append_time(reply, server->now);
}

/* Writes ------------------------------------------------------------------------------------------*/

typedef struct {
    bson_t errors;
    uint32_t index, error_count, n;
} outcome_t;

static void add_error(outcome_t *outcome, int code, const char *field, tow_value_t value)
{
    char room[16];
    const char *key;
    bson_t entry, child;

    bson_uint32_to_string(outcome->error_count++, &key, room, sizeof room);
    bson_append_document_begin(&outcome->errors, key, -1, &entry);
    bson_append_int32(&entry, "index", -1, (int32_t)outcome->index);
    bson_append_int32(&entry, "code", -1, code);
    bson_append_utf8(&entry, "errmsg", -1,
                     code == DUPLICATE ? "duplicate key" : "immutable _id", -1);
    if (field) {
        bson_append_document_begin(&entry, "keyPattern", -1, &child);
        bson_append_int32(&child, field, -1, 1);
        bson_append_document_end(&entry, &child);
        bson_append_document_begin(&entry, "keyValue", -1, &child);
        tow_value_append(&child, field, -1, value);
        bson_append_document_end(&entry, &child);
    }
    bson_append_document_end(&outcome->errors, &entry);
}

/* Whether another document holds the value of the unique field. */
static bool is_held(double_server_t *server, const char *ns, const bson_t *document,
                    tow_value_t *out_value)
{
    bson_iter_t own, other;

    if (!server->unique || !bson_iter_init_find(&own, document, server->unique))
        return false;
    *out_value = tow_value_of(&own);
    for (uint32_t i = 0; i < server->count; i++) {
        const version_t *version = &server->versions[i];

        if (is_of(version, ns, server->now) && version->document &&
            tow_value_compare(id_of(&version->id), id_of(document)) != 0 &&
            bson_iter_init_find(&other, version->document, server->unique) &&
            !tow_value_compare(tow_value_of(&other), *out_value))
            return true;
    }
    return false;
}

static void store(double_server_t *server, const char *ns, const bson_t *document,
                  outcome_t *outcome)
{
    tow_value_t value;

    if (is_held(server, ns, document, &value)) {
        add_error(outcome, DUPLICATE, server->unique, value);
        return;
    }
    add(server, ns, id_of(document), document);
    outcome->n++;
}

static void do_insert(double_server_t *server, const char *ns, const bson_t *document,
                      outcome_t *outcome)
{
    if (document_of(server, ns, id_of(document), server->now))
        add_error(outcome, DUPLICATE, "_id", id_of(document));
    else
        store(server, ns, document, outcome);
}

static tow_value_t id_of_query(const bson_t *statement)
{
    bson_iter_t iter, id, equal;

    bson_iter_init(&iter, statement);
    bson_iter_find_descendant(&iter, "q._id", &id);
    if (BSON_ITER_HOLDS_DOCUMENT(&id) && bson_iter_recurse(&id, &equal) &&
        bson_iter_find(&equal, "$eq"))
        return tow_value_of(&equal);
    return tow_value_of(&id);
}

static void do_update(double_server_t *server, const char *ns, const bson_t *statement,
                      outcome_t *outcome)
{
    tow_value_t id = id_of_query(statement);
    const bson_t *there = document_of(server, ns, id, server->now);
    bson_iter_t iter, child;
    const uint8_t *data;
    uint32_t length;
    bson_t document;

    if (!bson_iter_init(&iter, statement) ||
        !bson_iter_find_descendant(&iter, "u.0.$replaceWith.$literal", &child))
        bson_iter_init_find(&child, statement, "u");
    bson_iter_document(&child, &length, &data);
    bson_init_static(&document, data, length);
    if (there && (id_of(there).type != id_of(&document).type))
        add_error(outcome, IMMUTABLE, NULL, id);
    else if (there || bson_has_field(statement, "upsert"))
        store(server, ns, &document, outcome);
}

static void do_delete(double_server_t *server, const char *ns, const bson_t *statement,
                      outcome_t *outcome)
{
    tow_value_t id = id_of_query(statement);

    if (!document_of(server, ns, id, server->now))
        return;
    add(server, ns, id, NULL);
    outcome->n++;
}

static void do_write(double_server_t *server, const char *database, const bson_t *command,
                     bson_t *reply)
{
    bson_iter_t iter, list;
    outcome_t outcome = {.errors = BSON_INITIALIZER};
    const char *name;
    char ns[64];

    bson_iter_init(&iter, command);
    bson_iter_next(&iter);
    name = bson_iter_key(&iter);
    snprintf(ns, sizeof ns, "%s.%s", database, bson_iter_utf8(&iter, NULL));
    bson_iter_init_find(&list, command, *name == 'i'   ? "documents"
                                        : *name == 'u' ? "updates"
                                                       : "deletes");
    for (bson_iter_recurse(&list, &iter); bson_iter_next(&iter); outcome.index++) {
        const uint8_t *data;
        uint32_t length;
        bson_t item;

        bson_iter_document(&iter, &length, &data);
        bson_init_static(&item, data, length);
        (*name == 'i' ? do_insert : *name == 'u' ? do_update : do_delete)(server, ns, &item,
                                                                          &outcome);
    }
    bson_append_int32(reply, "n", -1, (int32_t)outcome.n);
    if (outcome.error_count)
        bson_append_array(reply, "writeErrors", -1, &outcome.errors);
    append_time(reply, server->now);
    bson_destroy(&outcome.errors);
}

static void do_drop(double_server_t *server, const char *database, const char *name, bson_t *reply)
{
    char ns[64];

    snprintf(ns, sizeof ns, "%s.%s", database, name);
    for (uint32_t i = 0, count = server->count; i < count; i++)
        if (is_of(&server->versions[i], ns, server->now) && server->versions[i].document)
            add(server, ns, id_of(&server->versions[i].id), NULL);
    append_time(reply, server->now);
}

/* The driver ---------------------------------------------------------------------------------------*/

bool __wrap_mongoc_client_command_with_opts(mongoc_client_t *client, const char *database,
                                            const bson_t *command, const mongoc_read_prefs_t *prefs,
                                            const bson_t *opts, bson_t *reply, bson_error_t *error);
mongoc_client_t *__wrap_mongoc_client_pool_pop(mongoc_client_pool_t *pool);
void __wrap_mongoc_client_pool_push(mongoc_client_pool_t *pool, mongoc_client_t *client);
mongoc_client_session_t *__wrap_mongoc_client_start_session(mongoc_client_t *client,
                                                            const mongoc_session_opt_t *options,
                                                            bson_error_t *error);
void __wrap_mongoc_client_session_destroy(mongoc_client_session_t *session);
bool __wrap_mongoc_client_session_append(const mongoc_client_session_t *session, bson_t *opts,
                                         bson_error_t *error);
const bson_t *__wrap_mongoc_client_session_get_lsid(mongoc_client_session_t *session);

mongoc_client_t *__wrap_mongoc_client_pool_pop(mongoc_client_pool_t *pool)
{
    return (mongoc_client_t *)pool; /* both are the server */
}

void __wrap_mongoc_client_pool_push(mongoc_client_pool_t *pool, mongoc_client_t *client)
{
}

/* A client of its own, for calls that may take long, is the server as well. */
mongoc_uri_t *__wrap_mongoc_uri_copy(const mongoc_uri_t *uri);
bool __wrap_mongoc_uri_set_option_as_int32(mongoc_uri_t *uri, const char *option, int32_t value);
void __wrap_mongoc_uri_destroy(mongoc_uri_t *uri);
mongoc_client_pool_t *__wrap_mongoc_client_pool_new_with_error(const mongoc_uri_t *uri,
                                                               bson_error_t *error);
bool __wrap_mongoc_client_pool_set_error_api(mongoc_client_pool_t *pool, int32_t version);
void __wrap_mongoc_client_pool_destroy(mongoc_client_pool_t *pool);
mongoc_server_description_t *__wrap_mongoc_client_select_server(mongoc_client_t *client,
                                                                bool for_writes,
                                                                const mongoc_read_prefs_t *prefs,
                                                                bson_error_t *error);

mongoc_uri_t *__wrap_mongoc_uri_copy(const mongoc_uri_t *uri)
{
    return (mongoc_uri_t *)uri;
}

bool __wrap_mongoc_uri_set_option_as_int32(mongoc_uri_t *uri, const char *option, int32_t value)
{
    return true;
}

void __wrap_mongoc_uri_destroy(mongoc_uri_t *uri)
{
}

mongoc_client_pool_t *__wrap_mongoc_client_pool_new_with_error(const mongoc_uri_t *uri,
                                                               bson_error_t *error)
{
    return (mongoc_client_pool_t *)uri;
}

bool __wrap_mongoc_client_pool_set_error_api(mongoc_client_pool_t *pool, int32_t version)
{
    return true;
}

void __wrap_mongoc_client_pool_destroy(mongoc_client_pool_t *pool)
{
}

mongoc_server_description_t *__wrap_mongoc_client_select_server(mongoc_client_t *client,
                                                                bool for_writes,
                                                                const mongoc_read_prefs_t *prefs,
                                                                bson_error_t *error)
{
    return NULL;
}

mongoc_client_session_t *__wrap_mongoc_client_start_session(mongoc_client_t *client,
                                                            const mongoc_session_opt_t *options,
                                                            bson_error_t *error)
{
    session_t *session = tow_alloc(sizeof *session);

    bson_init(&session->lsid);
    bson_append_int64(&session->lsid, "id", -1, (int64_t)(uintptr_t)session);
    bson_init(&session->reply);
    return (mongoc_client_session_t *)session;
}

void __wrap_mongoc_client_session_destroy(mongoc_client_session_t *session)
{
    bson_destroy(&((session_t *)session)->lsid);
    bson_destroy(&((session_t *)session)->reply);
    free(session);
}

bool __wrap_mongoc_client_session_append(const mongoc_client_session_t *session, bson_t *opts,
                                         bson_error_t *error)
{
    return bson_append_int64(opts, "sessionId", -1, (int64_t)(uintptr_t)session);
}

const bson_t *__wrap_mongoc_client_session_get_lsid(mongoc_client_session_t *session)
{
    return &((session_t *)session)->lsid;
}

static bool fail_command(bson_t *reply, bson_error_t *error, int code, const char *message)
{
    bson_append_double(reply, "ok", -1, 0.0);
    bson_append_int32(reply, "code", -1, code);
    bson_append_utf8(reply, "errmsg", -1, message, -1);
    bson_set_error(error, MONGOC_ERROR_SERVER, (uint32_t)code, "%s", message);
    return false;
}

static bool execute(double_server_t *server, const char *database, const bson_t *command,
                    bson_t *reply, bson_error_t *error)
{
    bson_iter_t iter;
    const char *name;

    bson_iter_init(&iter, command);
    bson_iter_next(&iter);
    name = bson_iter_key(&iter);
    if (!strcmp(name, "find"))
        do_find(server, database, command, reply);
    else if (!strcmp(name, "getMore"))
        do_get_more(server, command, reply);
    else if (!strcmp(name, "listCollections"))
        do_list_collections(server, database, command, reply);
    else if (!strcmp(name, "listIndexes"))
        do_list_indexes(server, reply);
    else if (!strcmp(name, "killCursors"))
        append_time(reply, server->now);
    else if (!strcmp(name, "insert") || !strcmp(name, "update") || !strcmp(name, "delete"))
        do_write(server, database, command, reply);
    else if (!strcmp(name, "listIndexes"))
        return fail_command(reply, error, 26, "ns does not exist"); /* it has none */
    else if (!strcmp(name, "drop"))
        do_drop(server, database, bson_iter_utf8(&iter, NULL), reply);
    else
        return fail_command(reply, error, 59, "no such command");
    return true;
}

/* A numbered write is done once, and none after a newer one. */
static bool execute_once(double_server_t *server, session_t *session, int64_t number,
                         const char *database, const bson_t *command, bson_t *reply,
                         bson_error_t *error)
{
    bool ok;

    if (number && number < session->number)
        return fail_command(reply, error, TOO_OLD, "transaction too old");
    if (number && number == session->number) {
        bson_concat(reply, &session->reply);
        return true;
    }
    ok = execute(server, database, command, reply, error);
    if (number) {
        session->number = number;
        bson_destroy(&session->reply);
        bson_copy_to(reply, &session->reply);
    }
    return ok;
}

static int64_t int64_of(const bson_t *document, const char *field)
{
    bson_iter_t iter;

    return bson_iter_init_find(&iter, document, field) ? bson_iter_as_int64(&iter) : 0;
}

bool __wrap_mongoc_client_command_with_opts(mongoc_client_t *client, const char *database,
                                            const bson_t *command, const mongoc_read_prefs_t *prefs,
                                            const bson_t *opts, bson_t *reply, bson_error_t *error)
{
    double_server_t *server = (double_server_t *)client;
    session_t *session = (session_t *)(uintptr_t)int64_of(opts, "sessionId");
    double_hook_t hook;
    void *hook_data;
    bson_iter_t iter;
    bool ok;

    bson_init(reply);
    *error = (bson_error_t){0};
    pthread_mutex_lock(&lock);
    hook = server->hook;
    hook_data = server->hook_data;
    pthread_mutex_unlock(&lock);
    if (hook && hook(hook_data, database, command, reply, error))
        return !error->code;
    pthread_mutex_lock(&lock);
    ok = execute_once(server, session, int64_of(command, "txnNumber"), database, command, reply,
                      error);
    bson_iter_init(&iter, command);
    if (bson_iter_next(&iter) && !strcmp(server->lose, bson_iter_key(&iter))) {
        server->lose[0] = '\0';
        bson_reinit(reply);
        bson_set_error(error, MONGOC_ERROR_STREAM, MONGOC_ERROR_STREAM_SOCKET, "socket closed");
        ok = false;
    }
    pthread_mutex_unlock(&lock);
    return ok;
}

/* Inserts of many documents -------------------------------------------------------------------------*/

mongoc_collection_t *__wrap_mongoc_client_get_collection(mongoc_client_t *client,
                                                         const char *database, const char *name);
void __wrap_mongoc_collection_destroy(mongoc_collection_t *collection);
bool __wrap_mongoc_collection_insert_many(mongoc_collection_t *collection,
                                          const bson_t **documents, size_t count,
                                          const bson_t *opts, bson_t *reply, bson_error_t *error);

typedef struct {
    mongoc_client_t *client;
    char database[64], name[64];
} collection_t;

mongoc_collection_t *__wrap_mongoc_client_get_collection(mongoc_client_t *client,
                                                         const char *database, const char *name)
{
    collection_t *collection = tow_alloc(sizeof *collection);

    collection->client = client;
    snprintf(collection->database, sizeof collection->database, "%s", database);
    snprintf(collection->name, sizeof collection->name, "%s", name);
    return (mongoc_collection_t *)collection;
}

void __wrap_mongoc_collection_destroy(mongoc_collection_t *collection)
{
    free(collection);
}

bool __wrap_mongoc_collection_insert_many(mongoc_collection_t *handle, const bson_t **documents,
                                          size_t count, const bson_t *opts, bson_t *reply,
                                          bson_error_t *error)
{
    collection_t *collection = (collection_t *)handle;
    bson_t command = BSON_INITIALIZER, list, answer;
    bson_iter_t iter;
    bool ok;

    bson_append_utf8(&command, "insert", -1, collection->name, -1);
    bson_append_array_begin(&command, "documents", -1, &list);
    for (size_t i = 0; i < count; i++)
        append_index(&list, (uint32_t)i, documents[i]);
    bson_append_array_end(&command, &list);
    if (int64_of(opts, "txnNumber"))
        bson_append_int64(&command, "txnNumber", -1, int64_of(opts, "txnNumber"));
    ok = __wrap_mongoc_client_command_with_opts(collection->client, collection->database, &command,
                                                NULL, opts, &answer, error);
    bson_init(reply);
    if (ok) {
        bson_append_int64(reply, "insertedCount", -1, int64_of(&answer, "n"));
        append_time(reply, (tow_optime_t)double_now((double_server_t *)collection->client));
    }
    if (ok && bson_iter_init_find(&iter, &answer, "writeErrors")) {
        bson_append_iter(reply, NULL, 0, &iter);
        bson_set_error(error, MONGOC_ERROR_SERVER, DUPLICATE, "duplicate key");
        ok = false;
    }
    bson_destroy(&answer);
    bson_destroy(&command);
    return ok;
}

/* Calls without a time-out --------------------------------------------------------------------------*/

tow_patient_t *__wrap_tow_patient_new(const tow_link_t *link, tow_error_t *error);
void __wrap_tow_patient_free(tow_patient_t *patient);
bool __wrap_tow_patient_call(tow_link_t *link, tow_patient_t *patient, const tow_stop_t *stop,
                             const char *database, const bson_t *command, const bson_t *opts,
                             bson_t *reply, tow_error_t *error);

tow_patient_t *__wrap_tow_patient_new(const tow_link_t *link, tow_error_t *error)
{
    return (tow_patient_t *)link->pool; /* the server */
}

void __wrap_tow_patient_free(tow_patient_t *patient)
{
}

bool __wrap_tow_patient_call(tow_link_t *link, tow_patient_t *patient, const tow_stop_t *stop,
                             const char *database, const bson_t *command, const bson_t *opts,
                             bson_t *reply, tow_error_t *error)
{
    bson_error_t driver;

    if (__wrap_mongoc_client_command_with_opts((mongoc_client_t *)patient, database, command, NULL,
                                               opts, reply, &driver))
        return true;
    tow_classify(&driver, reply, link->side, error);
    return false;
}
