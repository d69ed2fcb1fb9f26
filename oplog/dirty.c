/* SPDX-License-Identifier: Apache-2.0 */
/* dirty.c: see dirty.h. */
#include "oplog/dirty.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "engine/base/bounds.h"

enum { RECENT_MOST = 5000 }; /* reads remembered one by one; more raise the horizon */

/* The waiting keys of one collection. */
typedef struct list {
    UT_hash_handle hh; /* by collection id */
    uint32_t collection_id;
    tow_dirty_key_t *head;    /* utlist: head->prev is the tail */
    struct list *prev, *next; /* in the ring of lists that have keys */
    bool in_ring;
} list_t;

typedef struct recent {
    UT_hash_handle hh;
    struct recent *prev, *next; /* in the order of the reads */
    uint32_t collection_id;
    tow_optime_t lo, hi;
    uint8_t type;
    uint32_t length, identity_length;
    uint8_t bytes[];
} recent_t;

struct tow_dirty {
    tow_ledger_t *ledger;
    _Atomic uint64_t *bytes, *keys;
    tow_dirty_key_t *by_identity;
    list_t *lists, *ring;
    recent_t *recent, *recent_queue;
    tow_optime_t horizon;
    uint64_t count;
    tow_buffer_t identity; /* scratch */
};

tow_dirty_t *tow_dirty_new(tow_ledger_t *ledger, _Atomic uint64_t *bytes, _Atomic uint64_t *keys)
{
    tow_dirty_t *dirty = tow_alloc(sizeof *dirty);

    dirty->ledger = ledger;
    dirty->bytes = bytes;
    dirty->keys = keys;
    return dirty;
}

static void free_recent(tow_dirty_t *dirty, recent_t *recent)
{
    HASH_DELETE(hh, dirty->recent, recent);
    DL_DELETE(dirty->recent_queue, recent);
    free(recent);
}

void tow_dirty_destroy(tow_dirty_t *dirty)
{
    tow_dirty_key_t *key, *next_key;
    list_t *list, *next_list;

    if (!dirty)
        return;
    HASH_ITER(hh, dirty->by_identity, key, next_key) {
        HASH_DELETE(hh, dirty->by_identity, key);
        free(key);
    }
    HASH_ITER(hh, dirty->lists, list, next_list) {
        HASH_DELETE(hh, dirty->lists, list);
        free(list);
    }
    while (dirty->recent_queue)
        free_recent(dirty, dirty->recent_queue);
    tow_buffer_free(&dirty->identity);
    free(dirty);
}

uint64_t tow_dirty_count(const tow_dirty_t *dirty)
{
    return dirty->count;
}

/* Fills the scratch buffer with what identifies a key: collection id and canonical _id. */
static void identify(tow_dirty_t *dirty, const tow_namespace_t *collection, tow_value_t id)
{
    tow_buffer_clear(&dirty->identity);
    tow_buffer_append(&dirty->identity, &collection->id, sizeof collection->id);
    tow_value_canonical(id, &dirty->identity);
}

static tow_dirty_key_t *find_identity(tow_dirty_t *dirty, unsigned hash)
{
    tow_dirty_key_t *key;

    HASH_FIND_BYHASHVALUE(hh, dirty->by_identity, dirty->identity.data, dirty->identity.length,
                          hash, key);
    return key;
}

tow_dirty_key_t *tow_dirty_find(tow_dirty_t *dirty, const tow_namespace_t *collection,
                                tow_value_t id, unsigned hash)
{
    if (!dirty->by_identity)
        return NULL;
    identify(dirty, collection, id);
    return find_identity(dirty, hash);
}

static list_t *list_of(tow_dirty_t *dirty, uint32_t collection_id)
{
    list_t *list;

    HASH_FIND(hh, dirty->lists, &collection_id, sizeof collection_id, list);
    if (!list) {
        list = tow_alloc(sizeof *list);
        list->collection_id = collection_id;
        HASH_ADD(hh, dirty->lists, collection_id, sizeof list->collection_id, list);
    }
    return list;
}

static void enqueue(tow_dirty_t *dirty, tow_dirty_key_t *key, bool first)
{
    list_t *list = list_of(dirty, key->collection->id);

    if (first)
        DL_PREPEND(list->head, key);
    else
        DL_APPEND(list->head, key);
    if (!list->in_ring) {
        DL_APPEND(dirty->ring, list);
        list->in_ring = true;
    }
}

static size_t size_of(const tow_dirty_key_t *key)
{
    return sizeof *key + key->length + key->identity_length +
           32; /* malloc's and the buckets' share */
}

void tow_dirty_mark(tow_dirty_t *dirty, tow_namespace_t *collection, tow_value_t id, unsigned hash,
                    tow_optime_t time, tow_block_t *block, bool fresh)
{
    tow_dirty_key_t *key;

    identify(dirty, collection, id);
    key = find_identity(dirty, hash);
    if (key && key->in_flight) {
        if (key->again)
            tow_ledger_settle(dirty->ledger, block, 1);
        else
            key->again = block;
        if (time > key->again_time)
            key->again_time = time;
        return;
    }
    if (key) {
        if (time > key->time)
            key->time = time;
        tow_ledger_settle(dirty->ledger, block, 1); /* the key's own block holds the floor */
        return;
    }
    key = tow_alloc(sizeof *key + id.length + dirty->identity.length);
    key->collection = collection;
    key->block = block;
    key->time = time;
    key->hash = hash;
    key->fresh = fresh;
    key->type = id.type;
    key->length = id.length;
    key->identity_length = (uint32_t)dirty->identity.length;
    memcpy(key->bytes, id.data, id.length);
    memcpy(key->bytes + id.length, dirty->identity.data, dirty->identity.length);
    HASH_ADD_KEYPTR_BYHASHVALUE(hh, dirty->by_identity, key->bytes + key->length,
                                key->identity_length, hash, key);
    enqueue(dirty, key, false);
    dirty->count++;
    atomic_fetch_add(dirty->bytes, size_of(key));
    atomic_fetch_add(dirty->keys, 1);
}

static void put_in_flight(tow_dirty_key_t *key)
{
    key->in_flight = true;
    key->found = key->failed = false;
    key->again = NULL;
    key->again_time = 0;
}

/* Of one list, as far as they are due and fit. */
static uint32_t take_due(list_t *list, tow_dirty_key_t **out, uint32_t most, int64_t now_ms)
{
    tow_bounds_t bounds = tow_bounds(most, TOW_REQUEST_BYTES);
    tow_dirty_key_t *key, *next;

    DL_FOREACH_SAFE(list->head, key, next) {
        if (key->due_ms > now_ms)
            continue;
        if (!tow_bounds_take(&bounds, key->length))
            break;
        DL_DELETE(list->head, key);
        put_in_flight(key);
        out[bounds.count - 1] = key;
    }
    return bounds.count;
}

uint32_t tow_dirty_take(tow_dirty_t *dirty, tow_dirty_key_t **out, uint32_t most, int64_t now_ms)
{
    list_t *last = dirty->ring ? dirty->ring->prev : NULL, *list;
    uint32_t count = 0;

    while (!count && (list = dirty->ring)) {
        count = take_due(list, out, most, now_ms);
        DL_DELETE(dirty->ring, list);
        list->in_ring = list->head != NULL;
        if (list->in_ring)
            DL_APPEND(dirty->ring, list);
        if (list == last)
            break;
    }
    return count;
}

void tow_dirty_pick(tow_dirty_t *dirty, tow_dirty_key_t *key)
{
    list_t *list = list_of(dirty, key->collection->id);

    DL_DELETE(list->head, key);
    if (!list->head) {
        DL_DELETE(dirty->ring, list);
        list->in_ring = false;
    }
    put_in_flight(key);
}

static void remove_key(tow_dirty_t *dirty, tow_dirty_key_t *key)
{
    HASH_DELETE(hh, dirty->by_identity, key);
    dirty->count--;
    atomic_fetch_sub(dirty->bytes, size_of(key));
    atomic_fetch_sub(dirty->keys, 1);
    free(key);
}

void tow_dirty_settle(tow_dirty_t *dirty, tow_dirty_key_t *key, tow_optime_t lo)
{
    key->in_flight = false;
    tow_ledger_settle(dirty->ledger, key->block, 1);
    if (key->again && key->again_time > lo) {
        key->block = key->again;
        key->time = key->again_time;
        key->again = NULL;
        key->fresh = key->anew = false;
        key->refusals = 0;
        key->due_ms = 0;
        enqueue(dirty, key, false);
        return;
    }
    if (key->again)
        tow_ledger_settle(dirty->ledger, key->again, 1);
    remove_key(dirty, key);
}

void tow_dirty_return(tow_dirty_t *dirty, tow_dirty_key_t *key)
{
    key->in_flight = false;
    if (key->again) {
        /* The older block holds the floor; only the time matters of the newer event. */
        if (key->again_time > key->time)
            key->time = key->again_time;
        tow_ledger_settle(dirty->ledger, key->again, 1);
        key->again = NULL;
    }
    enqueue(dirty, key, !key->due_ms);
}

tow_dirty_key_t *tow_dirty_detach(tow_dirty_t *dirty, const tow_namespace_t *collection)
{
    list_t *list;
    tow_dirty_key_t *head;

    HASH_FIND(hh, dirty->lists, &collection->id, sizeof collection->id, list);
    if (!list)
        return NULL;
    head = list->head;
    if (list->in_ring)
        DL_DELETE(dirty->ring, list);
    HASH_DELETE(hh, dirty->lists, list);
    free(list);
    return head;
}

void tow_dirty_each(tow_dirty_t *dirty, const tow_namespace_t *collection,
                    void (*each)(void *data, tow_value_t id), void *data)
{
    list_t *list;

    HASH_FIND(hh, dirty->lists, &collection->id, sizeof collection->id, list);
    for (const tow_dirty_key_t *key = list ? list->head : NULL; key; key = key->next)
        each(data, tow_dirty_id(key));
}

void tow_dirty_forget(tow_dirty_t *dirty, tow_dirty_key_t *key, bool settle)
{
    if (settle)
        tow_ledger_settle(dirty->ledger, key->block, 1);
    remove_key(dirty, key);
}

void tow_recent_note(tow_dirty_t *dirty, const tow_namespace_t *collection, tow_value_t id,
                     unsigned hash, tow_optime_t lo, tow_optime_t hi)
{
    recent_t *recent;

    identify(dirty, collection, id);
    HASH_FIND_BYHASHVALUE(hh, dirty->recent, dirty->identity.data, dirty->identity.length, hash,
                          recent);
    if (recent) {
        DL_DELETE(dirty->recent_queue, recent);
    } else {
        if (HASH_COUNT(dirty->recent) >= RECENT_MOST) {
            tow_dirty_raise_horizon(dirty, dirty->recent_queue->hi);
            free_recent(dirty, dirty->recent_queue);
        }
        recent = tow_alloc(sizeof *recent + id.length + dirty->identity.length);
        recent->collection_id = collection->id;
        recent->type = id.type;
        recent->length = id.length;
        recent->identity_length = (uint32_t)dirty->identity.length;
        memcpy(recent->bytes, id.data, id.length);
        memcpy(recent->bytes + id.length, dirty->identity.data, dirty->identity.length);
        HASH_ADD_KEYPTR_BYHASHVALUE(hh, dirty->recent, recent->bytes + recent->length,
                                    recent->identity_length, hash, recent);
    }
    recent->lo = lo;
    recent->hi = hi;
    DL_APPEND(dirty->recent_queue, recent);
}

tow_recent_t tow_recent_find(tow_dirty_t *dirty, const tow_namespace_t *collection, tow_value_t id,
                             unsigned hash)
{
    recent_t *recent;

    if (!dirty->recent)
        return (tow_recent_t){false, 0, 0};
    identify(dirty, collection, id);
    HASH_FIND_BYHASHVALUE(hh, dirty->recent, dirty->identity.data, dirty->identity.length, hash,
                          recent);
    return recent ? (tow_recent_t){true, recent->lo, recent->hi} : (tow_recent_t){false, 0, 0};
}

void tow_recent_purge(tow_dirty_t *dirty, tow_optime_t passed)
{
    while (dirty->recent_queue && dirty->recent_queue->hi < passed)
        free_recent(dirty, dirty->recent_queue);
}

void tow_recent_detach(tow_dirty_t *dirty, const tow_namespace_t *collection, tow_optime_t time,
                       tow_recent_fn each, void *data)
{
    recent_t *recent, *next;

    DL_FOREACH_SAFE(dirty->recent_queue, recent, next) {
        if (recent->collection_id != collection->id)
            continue;
        if (each && recent->hi >= time)
            each(data, (tow_value_t){recent->type, recent->length, recent->bytes});
        free_recent(dirty, recent);
    }
}

tow_optime_t tow_dirty_horizon(const tow_dirty_t *dirty)
{
    return dirty->horizon;
}

void tow_dirty_raise_horizon(tow_dirty_t *dirty, tow_optime_t time)
{
    if (time > dirty->horizon)
        dirty->horizon = time;
}
