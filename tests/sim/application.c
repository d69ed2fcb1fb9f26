/* SPDX-License-Identifier: Apache-2.0 */
/* application.c: see application.h. */
#include "application.h"

#include <mongoc/mongoc.h>
#include <stdio.h>
#include <string.h>

#include "document.h"
#include "network.h"
#include "schedule.h"

enum { NAMES = 3, IDS = 40, SPARE = 3 };

/* The first has the unique index; the last three come and go with DDL. */
static const char *const names[] = {"shop.orders", "shop.items", "crm.people",
                                    "shop.new",    "shop.old",   "crm.extra"};
static plan_t plan;
static int32_t unique;
static bool done, ended;
static tow_optime_t catalog_changed;

static uint32_t below(uint32_t limit)
{
    return sim_below(SIM_WORLD, limit);
}

/* Documents -------------------------------------------------------------------------------------*/

/* An _id of one of several types, always the same one of the same number. */
static void append_id(bson_t *document, int32_t id)
{
    char text[16];
    bson_t child;

    switch (id % 8) {
    case 5:
        bson_append_double(document, "_id", -1, id + 0.5);
        break;
    case 6:
        snprintf(text, sizeof text, "k%d", id);
        bson_append_utf8(document, "_id", -1, text, -1);
        break;
    case 7:
        bson_append_document_begin(document, "_id", -1, &child);
        bson_append_int32(&child, "a", -1, id);
        bson_append_document_end(document, &child);
        break;
    default:
        bson_append_int32(document, "_id", -1, id);
    }
}

/* Fields in an order of their own: only a copy of the bytes is equal. */
static bson_t *make_document(int32_t id, int32_t u)
{
    bson_t *document = bson_new();

    append_id(document, id);
    if (below(2))
        bson_append_int32(document, "n", -1, (int32_t)below(1000));
    bson_append_int32(document, "u", -1, u);
    if (below(2))
        bson_append_utf8(document, "text", -1, "abcdefghij", (int)below(10));
    bson_append_int64(document, "at", -1, sim_now_us());
    return document;
}

static void put(const char *ns, const char *operation, const bson_t *document)
{
    sim_collection_t *collection = sim_find_collection(&sim_source, ns);

    if (!sim_refusal(collection, document))
        sim_put(&sim_source, collection, operation, sim_id(document), document);
}

static void remove_document(const char *ns, const bson_t *document)
{
    bson_t key = BSON_INITIALIZER;

    tow_value_append(&key, "_id", 3, sim_id(document));
    sim_put(&sim_source, sim_find_collection(&sim_source, ns), "delete", sim_id(&key), NULL);
    bson_destroy(&key);
}

static void write_one(const char *ns)
{
    int32_t id = (int32_t)below(IDS), u;
    bson_t *document = make_document(id, 0);
    sim_collection_t *collection = sim_find_collection(&sim_source, ns);
    const bson_t *there = sim_get(collection, sim_id(document), 0);
    uint32_t dice = below(10);

    bson_destroy(document);
    u = there && dice < 4 ? (int32_t)sim_number(there, "u", 0) : ++unique;
    document = make_document(id, u);
    if (!there)
        put(ns, "insert", document);
    else if (dice < 5)
        put(ns, "update", document);
    else if (dice < 8)
        put(ns, "replace", document);
    else
        remove_document(ns, document);
    bson_destroy(document);
}

/* Two documents exchange their values of the unique index. */
static void swap(const char *ns)
{
    int32_t ids[2] = {(int32_t)below(IDS), (int32_t)below(IDS)}, values[2];

    for (int i = 0; i < 2; i++) {
        bson_t *key = make_document(ids[i], 0);
        const bson_t *there = sim_get(sim_find_collection(&sim_source, ns), sim_id(key), 0);

        bson_destroy(key);
        if (!there || ids[0] == ids[1])
            return;
        values[i] = (int32_t)sim_number(there, "u", 0);
    }
    for (int step = 0; step < 3; step++) {
        bson_t *document = make_document(ids[step == 1], step == 0 ? ++unique : values[step == 2]);

        put(ns, below(2) ? "update" : "replace", document);
        bson_destroy(document);
    }
}

/* Catalog ---------------------------------------------------------------------------------------*/

static void add_index(const char *ns, const char *field, bool is_unique)
{
    sim_collection_t *collection = sim_find_collection(&sim_source, ns);

    bson_t *index = BCON_NEW("v", BCON_INT32(2), "key", "{", field, BCON_INT32(1), "}", "name",
                             BCON_UTF8(field));

    if (is_unique)
        bson_append_bool(index, "unique", -1, true);
    collection->indexes[collection->index_count++] = index;
}

static void make_collection(const char *ns)
{
    sim_make_collection(&sim_source, ns, NULL);
    if (plan.values[PLAN_VERSION] >= 60)
        sim_tell(&sim_source, "create", ns, NULL);
}

static void drop_collection(const char *ns)
{
    sim_drop_collection(&sim_source, sim_find_collection(&sim_source, ns));
    sim_tell(&sim_source, "drop", ns, NULL);
}

static void tell_index(const char *operation, const char *ns, const bson_t *index)
{
    if (plan.values[PLAN_VERSION] >= 60)
        sim_tell_index(&sim_source, operation, ns, index);
    else
        sim_server_tick(&sim_source);
}

/* An index comes, and goes the next time. */
static void change_index(const char *ns)
{
    sim_collection_t *collection = sim_find_collection(&sim_source, ns);

    for (uint32_t i = 0; i < collection->index_count; i++)
        if (!strcmp(sim_text(collection->indexes[i], "name"), "text")) {
            tell_index("dropIndexes", ns, collection->indexes[i]);
            bson_destroy(collection->indexes[i]);
            collection->indexes[i] = collection->indexes[--collection->index_count];
            return;
        }
    add_index(ns, "text", false);
    tell_index("createIndexes", ns, collection->indexes[collection->index_count - 1]);
}

/* One step of DDL with one of the names that come and go. */
static void change_names(void)
{
    const char *ns = names[NAMES + below(SPARE)], *to = names[NAMES + below(SPARE)];
    bool there = sim_find_collection(&sim_source, ns) != NULL;

    if (!there) {
        make_collection(ns);
        for (uint32_t i = below(6); i; i--)
            write_one(ns);
    } else if (below(2) || sim_find_collection(&sim_source, to)) {
        drop_collection(ns);
        if (below(2))
            make_collection(ns);
    } else {
        sim_rename_collection(&sim_source, sim_find_collection(&sim_source, ns), to);
        sim_tell(&sim_source, "rename", ns, to);
    }
}

static void change_catalog(void)
{
    if (below(3))
        change_names();
    else
        change_index(names[below(NAMES)]);
    catalog_changed = sim_source.now;
}

/* Writing ---------------------------------------------------------------------------------------*/

static const char *any_name(void)
{
    const char *ns = names[below(NAMES + (plan.values[PLAN_DDL] ? SPARE : 0))];

    return sim_find_collection(&sim_source, ns) ? ns : names[below(NAMES)];
}

static void write_something(void)
{
    bool together = plan.values[PLAN_TRANSACTIONS] && !below(6);
    uint32_t count = together ? 1 + below(5) : 1;

    if (together)
        sim_transaction(&sim_source, true);
    while (count--)
        if (plan.values[PLAN_SWAPS] && !below(5))
            swap(names[0]);
        else
            write_one(any_name());
    if (together)
        sim_transaction(&sim_source, false);
}

void *application_write(void *data)
{
    int64_t writes = plan.values[PLAN_WRITES], ddl = plan.values[PLAN_DDL];
    int64_t each = ddl ? writes / (ddl + 1) + 1 : 0;

    for (int64_t i = 0; i < writes && !ended; i++) {
        sim_sleep(1 + below((uint32_t)plan.values[PLAN_GAP_MS] * 1000));
        if (!below(40))
            sim_sleep(below(3000000));
        if (each && i % each == each - 1)
            change_catalog();
        write_something();
    }
    done = true;
    return NULL;
}

void application_end(void)
{
    ended = true;
}

bool application_is_done(void)
{
    return done;
}

/* What others have on the destination. */
static void plant_foreign(void)
{
    sim_collection_t *collection = sim_make_collection(&sim_destination, "theirs.stuff", NULL);

    for (int32_t id = 0; id < 5; id++) {
        bson_t *document = BCON_NEW("_id", BCON_INT32(id), "theirs", BCON_BOOL(true));

        sim_put(&sim_destination, collection, "insert", sim_id(document), document);
        bson_destroy(document);
    }
}

void application_begin(const plan_t *with)
{
    plan = *with;
    plant_foreign();
    for (int i = 0; i < NAMES; i++)
        sim_make_collection(&sim_source, names[i], NULL);
    if (plan.values[PLAN_UNIQUE])
        add_index(names[0], "u", true);
    add_index(names[1], "n", false);
    for (int64_t i = 0; i < NAMES * plan.values[PLAN_DOCUMENTS]; i++)
        write_one(names[below(NAMES)]);
    sim_source.oplog_count = 0; /* before the job */
    sim_source.committed = sim_source.now;
}

/* Judging ---------------------------------------------------------------------------------------*/

static bool is_alike(const bson_t *left, const bson_t *right)
{
    return left && right ? bson_equal(left, right) : left == right;
}

/* Whether the source had it so at a time from `stop` on. */
static bool had(const sim_collection_t *source, tow_value_t id, const bson_t *document,
                tow_optime_t stop)
{
    uint32_t place;
    const sim_entry_t *entry = sim_find_entry(source, id, &place);

    if (!entry || is_alike(sim_document_at(entry, stop), document))
        return entry || !document;
    for (uint32_t i = 0; i < entry->count; i++)
        if (entry->versions[i].time > stop && is_alike(entry->versions[i].document, document))
            return true;
    return false;
}

static void judge_entries(const sim_collection_t *from, const sim_collection_t *source,
                          const sim_collection_t *there, tow_optime_t stop)
{
    for (uint32_t i = 0; i < from->count; i++) {
        tow_value_t id = sim_id(from->entries[i].id);
        const bson_t *left = sim_get(source, id, stop), *right = sim_get(there, id, 0);
        char text[100];

        if (had(source, id, right, stop))
            continue;
        tow_value_text(id, text, sizeof text);
        sim_fail("%s _id %s differs: the source has %s, the destination %s", source->ns, text,
                 left ? bson_as_relaxed_extended_json(left, NULL) : "none",
                 right ? bson_as_relaxed_extended_json(right, NULL) : "none");
    }
}

static void judge_collection(const sim_collection_t *source, tow_optime_t stop)
{
    const sim_collection_t *there = sim_find_collection(&sim_destination, source->ns);

    if (!there)
        sim_fail("%s is not on the destination", source->ns);
    judge_entries(source, source, there, stop);
    judge_entries(there, source, there, stop);
    if (source->index_count != there->index_count && catalog_changed <= stop)
        sim_fail("%s has %u indexes at the source, %u on the destination", source->ns,
                 source->index_count, there->index_count);
}

static void judge_foreign(void)
{
    const sim_collection_t *theirs = sim_find_collection(&sim_destination, "theirs.stuff");

    if (!theirs || theirs->count != 5)
        sim_fail("what is somebody else's was changed");
    for (uint32_t i = 0; i < theirs->count; i++)
        if (theirs->entries[i].count != 1)
            sim_fail("a document of somebody else's was changed");
}

/* Of a name that came or went after the job's end there is nothing to say. */
static bool is_judged(const char *ns, tow_optime_t stop)
{
    for (int i = 0; i < NAMES + SPARE; i++)
        if (!strcmp(names[i], ns))
            return i < NAMES || catalog_changed <= stop;
    return false;
}

void application_judge(tow_optime_t stop)
{
    judge_foreign();
    for (uint32_t i = 0; i < sim_source.collection_count; i++)
        if (sim_source.collections[i].there && is_judged(sim_source.collections[i].ns, stop))
            judge_collection(&sim_source.collections[i], stop);
    for (uint32_t i = 0; i < sim_destination.collection_count; i++) {
        const sim_collection_t *there = &sim_destination.collections[i];

        if (there->there && is_judged(there->ns, stop) &&
            !sim_find_collection(&sim_source, there->ns))
            sim_fail("%s is on the destination alone", there->ns);
    }
}
