/* untangle.c: writes that a unique index refused, or that a replacement cannot express.
 *
 * The refused keys and the documents that stand in their way are read from the source once more,
 * deleted at the destination and inserted as the source has them. At the source they fit together, so
 * in the end they do here: values swapped between documents, chains and rings of them alike. It runs
 * alone: no lane works meanwhile, so reading a key of another lane is as good as that lane reading it,
 * and its as-of interval is noted there. */
#include <stdlib.h>
#include <string.h>

#include "engine/link/reader.h"
#include "engine/link/reply.h"
#include "engine/state/selection.h"
#include "oplog/replay_internal.h"

enum {
    SET_MOST = 20000,      /* keys that may be involved in one knot */
    ROUNDS_MOST = 40,      /* without progress; with backoff about a minute */
    ROUNDS_BEFORE_DROP = 4, /* of an index that refuses a value which no document holds */
    CHUNK = 500,
    DUPLICATE_KEY = 11000
};

typedef struct {
    UT_hash_handle hh;
    bson_t id;             /* {_id: …} */
    bson_t *document;      /* as the source has it, NULL: gone */
    tow_optime_t lo, hi;
    tow_buffer_t identity; /* canonical _id */
} member_t;

typedef struct {
    tow_lane_t *lane;
    tow_namespace_t *collection;
    member_t *members;
    bool grew;             /* a document in the way was added in this round */
    uint32_t errors;
    char message[600];     /* of the last refusal, with both documents */
    tow_error_t failure;   /* while handling a refusal */
    bool failed;
    bson_t *phantom;       /* key pattern of an index that refused a value which no document holds */
} knot_t;

static tow_value_t id_of(const member_t *member)
{
    tow_value_t id = {0};

    tow_value_id(&member->id, &id);
    return id;
}

static void add_member(knot_t *knot, tow_value_t id)
{
    tow_buffer_t identity = {0};
    member_t *member;

    tow_value_canonical(id, &identity);
    HASH_FIND(hh, knot->members, identity.data, identity.length, member);
    if (!member) {
        member = tow_alloc(sizeof *member);
        bson_init(&member->id);
        tow_value_append(&member->id, "_id", 3, id);
        member->identity = identity;
        HASH_ADD_KEYPTR(hh, knot->members, member->identity.data, member->identity.length, member);
        knot->grew = true;
    } else {
        tow_buffer_free(&identity);
    }
}

static void clear_documents(knot_t *knot)
{
    member_t *member, *next;

    HASH_ITER(hh, knot->members, member, next)
    {
        if (member->document)
            bson_destroy(member->document);
        member->document = NULL;
    }
}

static void keep_document(knot_t *knot, const bson_t *document)
{
    tow_buffer_t identity = {0};
    member_t *member;
    tow_value_t id;

    if (!tow_value_id(document, &id))
        return;
    tow_value_canonical(id, &identity);
    HASH_FIND(hh, knot->members, identity.data, identity.length, member);
    tow_buffer_free(&identity);
    if (!member && knot->collection->collated) {
        /* Another spelling of a key that was asked for. */
        add_member(knot, id);
        keep_document(knot, document);
        return;
    }
    if (member && !member->document)
        member->document = bson_copy(document);
}

/* Reads members `from` … (at most CHUNK) from the source; *from moves on. */
static bool read_chunk(knot_t *knot, member_t **from, tow_error_t *error)
{
    tow_optime_t lo = tow_link_read_time(knot->lane->replay->options.source);
    tow_read_t what = {.database = knot->collection->database,
                       .collection = knot->collection->name,
                       .after = lo};
    member_t *first = *from, *member = first;
    tow_selection_t selection;
    bson_t filter, document;
    tow_reader_t *reader;
    bool ok, more = true;

    tow_selection_begin(&selection);
    for (uint32_t i = 0; member && i < CHUNK; i++, member = member->hh.next)
        tow_selection_add(&selection, id_of(member));
    tow_selection_end(&selection, &filter);
    what.filter = &filter;
    *from = member;
    reader = tow_reader_open(knot->lane->source, &what, error);
    ok = reader != NULL;
    while (ok && more) {
        while (tow_reader_next(reader, &document))
            keep_document(knot, &document);
        ok = tow_reader_next_batch(reader, &more, error);
    }
    for (; ok && first != member; first = first->hh.next) {
        first->lo = lo;
        first->hi = tow_reader_time(reader);
    }
    tow_reader_close(reader);
    bson_destroy(&filter);
    return ok;
}

static bson_t *copy_pattern(const bson_iter_t *pattern)
{
    bson_t document;

    return tow_iter_document(pattern, &document) ? bson_copy(&document) : NULL;
}

/* An index of the destination that refuses a value which no document there holds is broken. It goes;
 * the catalog's reconciliation at the cutover builds it anew. */
static bool drop_phantom(knot_t *knot, tow_error_t *error)
{
    tow_send_options_t send = {.flags = TOW_SEND_WRITE};
    bson_t command = BSON_INITIALIZER, reply;
    bool ok;

    tow_emit(&knot->lane->replay->options.sink, TOW_LEVEL_WARNING, "index_broken",
             "%s: a unique index of the destination refuses a value that no document there holds; "
             "it is dropped and built anew at the cutover (%s)",
             knot->collection->ns, knot->message);
    bson_append_utf8(&command, "dropIndexes", -1, knot->collection->name, -1);
    bson_append_document(&command, "index", -1, knot->phantom);
    ok = tow_conn_command(knot->lane->destination, knot->collection->database, &command, &send,
                          &reply, error);
    bson_destroy(&reply);
    bson_destroy(&command);
    return ok;
}

/* The index on _id stays. That it refuses an _id which no document has means that the destination holds
 * two _ids for equal which are not: the other one must go first, and its key may be another lane's. */
static bool is_id_index(const bson_t *pattern)
{
    bson_iter_t field;

    return bson_iter_init(&field, pattern) && bson_iter_next(&field) &&
           !strcmp(bson_iter_key(&field), "_id") && !bson_iter_next(&field);
}

static bool leave_to_others(const knot_t *knot, tow_error_t *error)
{
    tow_fail(error, TOW_ERROR_SERVER,
             "%s: the destination takes two different _ids for one and the same: %s; they are tried "
             "again until one is deleted at the source",
             knot->collection->ns, knot->message);
    error->retry = TOW_RETRY_REFETCH;
    return false;
}

static void forget_phantom(knot_t *knot)
{
    if (knot->phantom)
        bson_destroy(knot->phantom);
    knot->phantom = NULL;
}

/* Finds the documents of the destination that hold the refused value and adds them. */
static void add_holders(knot_t *knot, const tow_write_error_t *refusal)
{
    tow_read_t what = {.database = knot->collection->database,
                       .collection = knot->collection->name};
    bson_t filter = BSON_INITIALIZER, projection = BSON_INITIALIZER, document, equal;
    bson_iter_t value;
    tow_reader_t *reader;
    bool held = false;

    if (!bson_iter_recurse(&refusal->key_value, &value))
        return;
    while (bson_iter_next(&value)) {
        bson_append_document_begin(&filter, bson_iter_key(&value), -1, &equal);
        bson_append_iter(&equal, "$eq", 3, &value);
        bson_append_document_end(&filter, &equal);
    }
    bson_append_int32(&projection, "_id", 3, 1);
    what.filter = &filter;
    what.projection = &projection;
    what.batch_documents = 100;
    reader = tow_reader_open(knot->lane->destination, &what, &knot->failure);
    if (!reader)
        knot->failed = true;
    while (reader && tow_reader_next(reader, &document)) {
        tow_value_t id;

        held = true;
        if (tow_value_id(&document, &id))
            add_member(knot, id);
    }
    tow_reader_close(reader);
    bson_destroy(&filter);
    bson_destroy(&projection);
    if (!held && !knot->phantom && refusal->key_pattern.raw)
        knot->phantom = copy_pattern(&refusal->key_pattern);
}

static void refused(void *data, void *tag, const tow_write_error_t *refusal)
{
    knot_t *knot = data;
    member_t *member = tag;
    char id[200];

    knot->errors++;
    tow_value_text(id_of(member), id, sizeof id);
    snprintf(knot->message, sizeof knot->message, "document with _id %s: %s", id, refusal->message);
    if (refusal->code == DUPLICATE_KEY && refusal->has_key_value)
        add_holders(knot, refusal);
}

static bool send(knot_t *knot, tow_write_t *write, tow_error_t *error)
{
    uint32_t matched;

    atomic_fetch_add(&knot->lane->replay->statements, write->count);
    if (!tow_write_send(write, knot->lane->destination, refused, knot, &matched, error))
        return false;
    if (knot->failed)
        *error = knot->failure;
    return !knot->failed;
}

/* One message kind over all members. */
static bool write_members(knot_t *knot, tow_write_kind_t kind, tow_error_t *error)
{
    tow_write_t write = {0};
    member_t *member, *next;
    bool ok = true;

    tow_write_begin(&write, kind, knot->collection);
    HASH_ITER(hh, knot->members, member, next)
    {
        size_t bytes = member->document ? member->document->len : member->id.len;

        if (!tow_write_fits(&write, bytes)) {
            if (!(ok = send(knot, &write, error)))
                break;
            tow_write_begin(&write, kind, knot->collection);
        }
        if (kind == TOW_WRITE_DELETE)
            tow_write_delete(&write, id_of(member), member);
        else if (member->document && kind == TOW_WRITE_INSERT)
            tow_write_insert(&write, member->document, member);
        else if (member->document && tow_has_empty_timestamp(member->document))
            tow_write_literal(&write, id_of(member), member->document, member);
    }
    ok = ok && send(knot, &write, error);
    tow_write_clear(&write);
    return ok;
}

static bool one_round(knot_t *knot, tow_error_t *error)
{
    const tow_facts_t *facts = tow_link_facts(knot->lane->replay->options.destination);
    member_t *at = knot->members;

    knot->grew = false;
    knot->errors = 0;
    clear_documents(knot);
    while (at)
        if (!read_chunk(knot, &at, error))
            return false;
    return write_members(knot, TOW_WRITE_DELETE, error) &&
           write_members(knot, TOW_WRITE_INSERT, error) &&
           (facts->bypass_empty_ts || write_members(knot, TOW_WRITE_UPDATE, error));
}

/* Every member was read and written: notes that in its own lane. */
static void settle_members(knot_t *knot)
{
    tow_replay_t *replay = knot->lane->replay;
    member_t *member, *next;

    HASH_ITER(hh, knot->members, member, next)
    {
        tow_value_t id = id_of(member);
        unsigned hash = tow_item_hash(knot->collection, id);
        tow_lane_t *lane = tow_lane_of(replay, knot->collection, hash);
        tow_dirty_key_t *key = tow_dirty_find(lane->dirty, knot->collection, id, hash);

        tow_recent_note(lane->dirty, knot->collection, id, hash, member->lo, member->hi);
        if (key && key->time <= member->lo) {
            tow_dirty_pick(lane->dirty, key);
            tow_dirty_settle(lane->dirty, key, member->lo);
            atomic_fetch_add(&replay->refetched, 1);
            atomic_fetch_add(&replay->applied, 1);
        }
    }
}

/* Rounds until everything fits. False: a server call failed (the keys stay dirty), or it is hopeless. */
static bool untangle(knot_t *knot, tow_error_t *error)
{
    tow_replay_t *replay = knot->lane->replay;
    unsigned stuck = 0;

    for (;;) {
        forget_phantom(knot);
        if (!one_round(knot, error))
            return false;
        if (!knot->errors)
            break;
        stuck = knot->grew ? 0 : stuck + 1;
        tow_emit(&replay->options.sink, TOW_LEVEL_DEBUG, "untangle", "%s: %u keys, %u refused: %s",
                 knot->collection->ns, HASH_COUNT(knot->members), knot->errors, knot->message);
        if (stuck > ROUNDS_MOST || HASH_COUNT(knot->members) > SET_MOST)
            return tow_fail(error, TOW_ERROR_SERVER,
                            "%s: the destination refuses a document that the source has, also after "
                            "what stood in its way was removed: %s; remove the difference between "
                            "the two sides' indexes and run the same command again",
                            knot->collection->ns, knot->message);
        if (stuck >= ROUNDS_BEFORE_DROP && knot->phantom) {
            if (is_id_index(knot->phantom))
                return leave_to_others(knot, error);
            if (!drop_phantom(knot, error))
                return false;
        }
        if (!knot->grew && !tow_backoff(replay->options.destination, stuck, INT64_MAX))
            return tow_fail(error, TOW_ERROR_INTERRUPTED, "stopped");
    }
    settle_members(knot);
    return true;
}

static void free_members(knot_t *knot)
{
    member_t *member, *next;

    clear_documents(knot);
    forget_phantom(knot);
    HASH_ITER(hh, knot->members, member, next)
    {
        HASH_DELETE(hh, knot->members, member);
        bson_destroy(&member->id);
        tow_buffer_free(&member->identity);
        free(member);
    }
}

/* The collection was dropped, and the key with it. A key that is dirty yet belongs to one whose place
 * another copy has taken: it has to be settled all the same. */
static bool is_moot(const knot_t *knot, tow_value_t id)
{
    return knot->collection->dropped &&
           !tow_dirty_find(knot->lane->dirty, knot->collection, id, tow_item_hash(knot->collection, id));
}

/* Moves the conflicts of one collection (that of the first) into the knot. */
static void take_conflicts(knot_t *knot, tow_conflict_t **list)
{
    knot->collection = (*list)->collection;
    while (*list) {
        tow_conflict_t *conflict = *list;
        tow_value_t id = {0};

        if (conflict->collection != knot->collection) {
            list = &conflict->next;
            continue;
        }
        if (tow_value_id(&conflict->id, &id) && !is_moot(knot, id))
            add_member(knot, id);
        *list = conflict->next;
        bson_destroy(&conflict->id);
        free(conflict);
    }
}

void tow_lane_untangle(tow_lane_t *lane)
{
    tow_replay_t *replay = lane->replay;
    tow_error_t error;
    bool ok = true;

    pthread_rwlock_wrlock(&replay->exclusive);
    atomic_store(&lane->busy, true);
    while (lane->conflicts && !tow_replay_holding(replay)) { /* else they keep */
        knot_t *knot = tow_alloc(sizeof *knot);

        knot->lane = lane;
        take_conflicts(knot, &lane->conflicts);
        if (ok && knot->members)
            ok = untangle(knot, &error);
        free_members(knot);
        free(knot);
    }
    atomic_store(&lane->busy, false);
    pthread_rwlock_unlock(&replay->exclusive);
    if (!ok)
        tow_lane_failed(lane, &error);
}
