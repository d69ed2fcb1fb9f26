/* SPDX-License-Identifier: Apache-2.0 */
/* namespaces.c: see namespaces.h. */
#include "engine/state/namespaces.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "engine/base/guarded.h"
#include "engine/base/hash.h"

/* What the table keeps beside the public part: the bounds once more, ready to be compared. */
typedef struct {
    tow_namespace_t public; /* first, so that the pointers are one */
    bson_t bounds;          /* lower bounds of ranges 1.. as array-like document */
    tow_value_t *minima;    /* into `bounds`; [0] is unused: the first range is open */
    UT_hash_handle hh;      /* by ns, while not dropped */
    UT_hash_handle all;     /* by id */
} entry_t;

TOW_GUARD(tow_namespaces);
struct tow_namespaces {
    pthread_mutex_t lock; /* guards everything below and the guarded part of every collection */
    entry_t *by_name TOW_GUARDED_BY(tow_namespaces), *by_id TOW_GUARDED_BY(tow_namespaces);
    uint32_t next_id TOW_GUARDED_BY(tow_namespaces);
};
TOW_LOCK(tow_namespaces, tow_namespaces_t, lock)

tow_namespaces_t *tow_namespaces_new(void)
{
    tow_namespaces_t *table = tow_alloc(sizeof *table);

    pthread_mutex_init(&table->lock, NULL);
    return table;
}

static void clear_ranges(entry_t *entry)
{
    tow_namespace_t *collection = &entry->public;

    for (uint32_t i = 0; i < collection->range_count; i++)
        tow_range_clear(&collection->ranges[i]);
    free(collection->ranges);
    if (entry->minima)
        bson_destroy(&entry->bounds);
    free(entry->minima);
    entry->minima = NULL;
    collection->ranges = NULL;
    collection->range_count = 0;
}

TOW_UNSHARED void tow_namespaces_destroy(tow_namespaces_t *table)
{
    entry_t *entry, *next;

    if (!table)
        return;
    HASH_CLEAR(hh, table->by_name);
    HASH_ITER(all, table->by_id, entry, next) {
        HASH_DELETE(all, table->by_id, entry);
        clear_ranges(entry);
        bson_destroy(&entry->public.options);
        free(entry->public.database);
        free(entry->public.name);
        free(entry->public.ns);
        free(entry);
    }
    pthread_mutex_destroy(&table->lock);
    free(table);
}

static TOW_REQUIRES(tow_namespaces) entry_t *find(tow_namespaces_t *table, const char *ns)
{
    entry_t *entry;

    HASH_FIND(hh, table->by_name, ns, strlen(ns), entry);
    return entry;
}

static TOW_REQUIRES(tow_namespaces) void drop(tow_namespaces_t *table, entry_t *entry)
{
    if (entry->public.dropped)
        return;
    entry->public.dropped = true;
    atomic_store(&entry->public.stale, true);
    HASH_DELETE(hh, table->by_name, entry);
}

tow_namespace_t *tow_namespaces_add(tow_namespaces_t *table, const tow_collection_info_t *info,
                                    tow_optime_t read_time)
{
    entry_t *entry = tow_alloc(sizeof *entry), *old;
    tow_namespace_t *collection = &entry->public;

    collection->database = tow_strdup(info->database);
    collection->name = tow_strdup(info->name);
    collection->ns = tow_format("%s.%s", info->database, info->name);
    collection->type = info->type;
    collection->capped = info->capped;
    collection->clustered = info->clustered;
    collection->collated = info->collated;
    memcpy(collection->uuid, info->uuid, sizeof collection->uuid);
    bson_copy_to(&info->options, &collection->options);
    collection->read_time = read_time;
    collection->name_hash = XXH3_64bits(collection->ns, strlen(collection->ns));

    tow_namespaces_lock(table);
    collection->id = ++table->next_id;
    if ((old = find(table, collection->ns)))
        drop(table, old);
    HASH_ADD_KEYPTR(hh, table->by_name, collection->ns, strlen(collection->ns), entry);
    HASH_ADD(all, table->by_id, public.id, sizeof entry->public.id, entry);
    tow_namespaces_unlock(table);
    return collection;
}

tow_namespace_t *tow_namespaces_find(tow_namespaces_t *table, const char *database,
                                     const char *name)
{
    char ns[512];
    entry_t *entry;

    if ((size_t)snprintf(ns, sizeof ns, "%s.%s", database, name) >= sizeof ns)
        return NULL;
    tow_namespaces_lock(table);
    entry = find(table, ns);
    tow_namespaces_unlock(table);
    return entry ? &entry->public : NULL;
}

void tow_namespaces_drop(tow_namespaces_t *table, tow_namespace_t *collection)
{
    tow_namespaces_lock(table);
    drop(table, (entry_t *)collection);
    tow_namespaces_unlock(table);
}

bool tow_namespace_is_replaced(tow_conn_t *source, const tow_namespace_t *collection, bool *out,
                               tow_error_t *error)
{
    static const uint8_t none[16];
    tow_collection_info_t info;
    bool found;

    if (!tow_catalog_find(source, collection->database, collection->name, &info, &found, error))
        return false;
    *out = !found;
    if (!found)
        return true;
    *out = info.type != TOW_COLLECTION || info.collated != collection->collated ||
           (memcmp(collection->uuid, none, sizeof none) != 0 &&
            memcmp(collection->uuid, info.uuid, sizeof info.uuid) != 0);
    tow_collection_info_clear(&info);
    return true;
}

static int by_ns(const void *left, const void *right)
{
    const tow_namespace_t *const *a = left, *const *b = right;

    return strcmp((*a)->ns, (*b)->ns);
}

tow_namespace_t **tow_namespaces_list(tow_namespaces_t *table, uint32_t *out_count)
{
    tow_namespace_t **list;
    entry_t *entry, *next;
    uint32_t count = 0;

    tow_namespaces_lock(table);
    list = tow_alloc((HASH_CNT(hh, table->by_name) + 1) * sizeof *list);
    HASH_ITER(hh, table->by_name, entry, next)
        list[count++] = &entry->public;
    tow_namespaces_unlock(table);
    qsort(list, count, sizeof *list, by_ns);
    *out_count = count;
    return list;
}

/* Recomputes what follows from the ranges' states. */
static void summarize(tow_namespace_t *collection)
{
    collection->ranges_done = 0;
    collection->lo_least = 0;
    collection->hi_most = 0;
    for (uint32_t i = 0; i < collection->range_count; i++) {
        const tow_range_t *range = &collection->ranges[i];

        if (range->state != TOW_RANGE_DONE)
            continue;
        if (!collection->ranges_done || range->lo < collection->lo_least)
            collection->lo_least = range->lo;
        if (range->hi > collection->hi_most)
            collection->hi_most = range->hi;
        collection->ranges_done++;
    }
    collection->copied = collection->ranges_done == collection->range_count;
    if (collection->range_count == 0)
        collection->lo_least = collection->hi_most = collection->read_time;
}

void tow_namespaces_set_ranges(tow_namespaces_t *table, tow_namespace_t *collection,
                               tow_range_t *ranges, uint32_t count)
{
    entry_t *entry = (entry_t *)collection;
    bson_iter_t iter;

    tow_namespaces_lock(table);
    clear_ranges(entry);
    collection->ranges = ranges;
    collection->range_count = count;
    if (count > 0) {
        entry->minima = tow_alloc(count * sizeof *entry->minima);
        bson_init(&entry->bounds);
        for (uint32_t i = 1; i < count; i++)
            bson_append_value(&entry->bounds, "", 0, &ranges[i].min);
        bson_iter_init(&iter, &entry->bounds);
        for (uint32_t i = 1; i < count && bson_iter_next(&iter); i++)
            entry->minima[i] = tow_value_of(&iter);
    }
    summarize(collection);
    tow_namespaces_unlock(table);
}

void tow_namespaces_set_estimate(tow_namespaces_t *table, tow_namespace_t *collection,
                                 uint64_t documents, uint64_t bytes)
{
    tow_namespaces_lock(table);
    collection->estimated_documents = documents;
    collection->estimated_bytes = bytes;
    tow_namespaces_unlock(table);
}

tow_range_t tow_namespaces_range(tow_namespaces_t *table, tow_namespace_t *collection,
                                 uint32_t range)
{
    tow_range_t copy;

    tow_namespaces_lock(table);
    copy = collection->ranges[range];
    tow_namespaces_unlock(table);
    return copy;
}

tow_optime_t tow_namespaces_start_range(tow_namespaces_t *table, tow_namespace_t *collection,
                                        uint32_t range, const tow_link_t *link)
{
    tow_optime_t lo;

    tow_namespaces_lock(table);
    lo = tow_link_read_time(link);
    collection->ranges[range].state = TOW_RANGE_STARTED;
    collection->ranges[range].lo = lo;
    collection->ranges[range].hi = 0;
    tow_namespaces_unlock(table);
    return lo;
}

void tow_namespaces_finish_range(tow_namespaces_t *table, tow_namespace_t *collection,
                                 uint32_t range, tow_optime_t hi, uint64_t documents,
                                 uint64_t bytes)
{
    tow_range_t *done = &collection->ranges[range];

    tow_namespaces_lock(table);
    done->state = TOW_RANGE_DONE;
    done->hi = hi > done->lo ? hi : done->lo;
    done->documents = documents;
    done->bytes = bytes;
    summarize(collection);
    tow_namespaces_unlock(table);
}

void tow_namespaces_reopen_range(tow_namespaces_t *table, tow_namespace_t *collection,
                                 uint32_t range)
{
    tow_namespaces_lock(table);
    collection->ranges[range].state = TOW_RANGE_OPEN;
    summarize(collection);
    tow_namespaces_unlock(table);
}

/* The range that holds `id`: the last one whose lower bound is not above it. */
static uint32_t locate(const entry_t *entry, tow_value_t id)
{
    uint32_t low = 0, high = entry->public.range_count;

    if (entry->public.collated || entry->public.capped)
        return 0;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;

        if (tow_value_compare(entry->minima[middle], id) <= 0)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static tow_gate_t gate_range(const tow_range_t *range, tow_optime_t time)
{
    switch (range->state) {
    case TOW_RANGE_OPEN:
        return TOW_GATE_SKIP; /* its lo will be at least `time`: see start_range */
    case TOW_RANGE_STARTED:
        return time <= range->lo ? TOW_GATE_SKIP : TOW_GATE_DIRTY;
    case TOW_RANGE_DONE:
    default:
        if (time <= range->lo)
            return TOW_GATE_SKIP;
        return time <= range->hi ? TOW_GATE_DIRTY : TOW_GATE_APPLY;
    }
}

tow_gate_t tow_namespaces_gate(tow_namespaces_t *table, tow_namespace_t *collection, tow_value_t id,
                               tow_optime_t time)
{
    const entry_t *entry = (const entry_t *)collection;
    tow_gate_t gate;

    tow_namespaces_lock(table);
    if (collection->copied && time > collection->hi_most)
        gate = TOW_GATE_APPLY;
    else if (collection->range_count == 0)
        /* Older than its creation; or not planned yet, and perhaps gone by then. */
        gate = collection->copied ? TOW_GATE_SKIP : TOW_GATE_DIRTY;
    else
        gate = gate_range(&collection->ranges[locate(entry, id)], time);
    tow_namespaces_unlock(table);
    return gate;
}

tow_gate_t tow_namespaces_gate_ddl(tow_namespaces_t *table, tow_namespace_t *collection,
                                   tow_optime_t time)
{
    tow_gate_t gate;

    tow_namespaces_lock(table);
    if (time <= collection->read_time)
        gate = TOW_GATE_SKIP;
    else if (collection->copied && time > collection->hi_most)
        gate = TOW_GATE_APPLY;
    else
        gate = TOW_GATE_DIRTY;
    tow_namespaces_unlock(table);
    return gate;
}

bool tow_namespaces_copied(tow_namespaces_t *table, tow_namespace_t *collection)
{
    bool copied;

    tow_namespaces_lock(table);
    copied = collection->copied;
    tow_namespaces_unlock(table);
    return copied;
}

tow_optime_t tow_namespaces_consistent(tow_namespaces_t *table)
{
    tow_optime_t most = 0;
    entry_t *entry, *next;

    tow_namespaces_lock(table);
    HASH_ITER(hh, table->by_name, entry, next)
        if (entry->public.range_count && entry->public.hi_most > most)
            most = entry->public.hi_most;
    tow_namespaces_unlock(table);
    return most;
}

void tow_namespaces_progress(tow_namespaces_t *table, tow_progress_t *out)
{
    entry_t *entry, *next;

    out->estimated_documents = out->estimated_bytes = 0;
    out->collections_total = out->collections_copied = out->ranges_total = out->ranges_copied = 0;
    tow_namespaces_lock(table);
    HASH_ITER(hh, table->by_name, entry, next) {
        const tow_namespace_t *collection = &entry->public;

        if (collection->type != TOW_COLLECTION)
            continue;
        out->collections_total++;
        out->collections_copied += collection->copied;
        out->ranges_total += collection->range_count;
        out->ranges_copied += collection->ranges_done;
        out->estimated_documents += collection->estimated_documents;
        out->estimated_bytes += collection->estimated_bytes;
    }
    tow_namespaces_unlock(table);
}

static bool is_started(const tow_namespace_t *collection)
{
    for (uint32_t i = 0; i < collection->range_count; i++)
        if (collection->ranges[i].state != TOW_RANGE_OPEN)
            return true;
    return false;
}

static int by_size(const void *left, const void *right)
{
    const tow_namespace_state_t *a = left, *b = right;

    if (a->estimated_bytes != b->estimated_bytes)
        return a->estimated_bytes > b->estimated_bytes ? -1 : 1;
    return strcmp(a->ns, b->ns);
}

tow_namespace_state_t *tow_namespaces_states(tow_namespaces_t *table, uint32_t *out_count)
{
    tow_namespace_state_t *states;
    entry_t *entry, *next;
    uint32_t count = 0;

    tow_namespaces_lock(table);
    states = tow_alloc((HASH_COUNT(table->by_name) + 1) * sizeof *states);
    HASH_ITER(hh, table->by_name, entry, next) {
        const tow_namespace_t *collection = &entry->public;

        if (collection->type == TOW_COLLECTION)
            states[count++] = (tow_namespace_state_t){
                tow_strdup(collection->ns),  collection->estimated_documents,
                collection->estimated_bytes, collection->range_count,
                collection->ranges_done,     is_started(collection),
                collection->copied};
    }
    tow_namespaces_unlock(table);
    qsort(states, count, sizeof *states, by_size);
    *out_count = count;
    return states;
}

void tow_namespaces_states_free(tow_namespace_state_t *states, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        free(states[i].ns);
    free(states);
}
