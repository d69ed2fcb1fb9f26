/* SPDX-License-Identifier: Apache-2.0 */
/* repair.c: see repair.h. The parts of a job that write, put together without a change stream. */
#include "engine/job/repair.h"

#include <stdlib.h>

enum { LEDGER_BYTES = 64 << 20, DIRTY_BYTES = 256 << 20, LEASE_MS = 15000 };

struct tow_repair {
    tow_repair_options_t options;
    tow_store_t *store; /* the lease, and what is fenced */
    tow_namespaces_t *namespaces;
    tow_ledger_t *ledger;
    tow_copy_t *copy;
    tow_replay_t *replay;
};

static bool copying(void *data)
{
    return !tow_copy_finished(((tow_repair_t *)data)->copy);
}

static bool create(void *data TOW_UNUSED, tow_conn_t *destination,
                   const tow_collection_info_t *info, tow_error_t *error)
{
    return tow_copy_create(destination, info, NULL, error);
}

static void await_lanes(void *data)
{
    tow_replay_await_lanes(((tow_repair_t *)data)->replay);
}

static bool copy_again(void *data, const char *database, const char *name, bool *out_found,
                       tow_error_t *error)
{
    return tow_copy_again(((tow_repair_t *)data)->copy, database, name, out_found, error);
}

static void alike(void *data, const char *database, const char *name)
{
    tow_copy_make_alike(((tow_repair_t *)data)->copy, database, name);
}

static void make_components(tow_repair_t *repair)
{
    const tow_repair_options_t *options = &repair->options;
    tow_copy_options_t copy = {.source = options->source,
                               .destination = options->destination,
                               .filter = options->filter,
                               .stop = options->stop,
                               .sink = options->sink,
                               .workers = options->workers,
                               .index_workers = 2,
                               .await_lanes = await_lanes,
                               .data = repair,
                               .range_bytes = UINT64_C(256) << 20,
                               .keep_extra = !options->drop_extra,
                               .expires = true};
    /* Without a stream there are no DDL events: only what documents ask for is given. */
    tow_replay_options_t replay = {.source = options->source,
                                   .destination = options->destination,
                                   .filter = options->filter,
                                   .stop = options->stop,
                                   .sink = options->sink,
                                   .lanes = options->workers,
                                   .dirty_bytes = DIRTY_BYTES,
                                   .retry_window_ms = options->retry_window_ms,
                                   .ddl = {.data = repair,
                                           .copying = copying,
                                           .create = create,
                                           .copy_again = copy_again,
                                           .alike = alike}};
    bson_t none = BSON_INITIALIZER;

    repair->namespaces = copy.namespaces = replay.namespaces = tow_namespaces_new();
    repair->ledger = replay.ledger = tow_ledger_new(options->stop, LEDGER_BYTES);
    tow_ledger_begin(repair->ledger, &none, 0);
    repair->copy = tow_copy_new(&copy);
    repair->replay = tow_replay_new(&replay);
}

/* Its own lease first, then a look at the jobs'; a job does both the other way round: of two at
 * least one sees the other. */
static bool take_lease(tow_repair_t *repair, tow_error_t *error)
{
    const tow_repair_options_t *options = &repair->options;
    char *filter = tow_filter_text(options->filter);
    tow_store_options_t store = {.destination = options->destination,
                                 .job = TOW_REPAIR_NAME,
                                 .settings = {tow_link_facts(options->source)->identity,
                                              tow_link_facts(options->destination)->identity,
                                              filter},
                                 .lease_ms = LEASE_MS,
                                 .wait = true,
                                 .sink = options->sink,
                                 .stop = options->stop};
    bool resumed;

    repair->store = tow_store_open(&store, &resumed, error);
    free(filter);
    return repair->store ? tow_store_refuse_held(options->destination, error)
                         : tow_fail_context(error, "another repair");
}

tow_repair_t *tow_repair_new(const tow_repair_options_t *options, tow_error_t *error)
{
    tow_repair_t *repair = tow_alloc(sizeof *repair);

    repair->options = *options;
    if (take_lease(repair, error)) {
        make_components(repair);
        if (tow_copy_start(repair->copy, error) &&
            tow_replay_start(repair->replay, 0, NULL, 0, error))
            return repair;
    }
    tow_stop_request(options->stop, error);
    tow_repair_destroy(repair);
    return NULL;
}

/* Where it cannot be removed, the next repair or job ends what this one may have under way. */
static void end_state(tow_repair_t *repair)
{
    tow_error_t error;

    if (!tow_store_drop(repair->store, &error) && error.code != TOW_ERROR_LEASE)
        tow_emit(&repair->options.sink, TOW_LEVEL_WARNING, "state_kept",
                 "the repair's database %s could not be removed: %s; the next repair or job "
                 "removes it",
                 tow_store_database(repair->store), error.message);
    tow_store_destroy(repair->store);
}

void tow_repair_destroy(tow_repair_t *repair)
{
    if (!repair)
        return;
    tow_replay_destroy(repair->replay);
    tow_copy_destroy(repair->copy);
    tow_ledger_destroy(repair->ledger);
    tow_namespaces_destroy(repair->namespaces);
    if (repair->store)
        end_state(repair);
    free(repair);
}

static bool stopped(tow_stop_t *stop, tow_error_t *error)
{
    return tow_stop_error(stop, error)
               ? false
               : tow_fail(error, TOW_ERROR_INTERRUPTED, "the repair was stopped");
}

/* Lets the replay know the collections that were there already. */
static bool announce(tow_repair_t *repair, tow_error_t *error)
{
    tow_conn_t *source = tow_conn_open(repair->options.source);
    tow_catalog_t catalog = {0};
    bool ok = tow_catalog_read(source, NULL, &catalog, error);

    for (size_t i = 0; ok && i < catalog.count; i++) {
        const tow_collection_info_t *info = &catalog.items[i];

        if (info->type == TOW_COLLECTION &&
            tow_filter_takes(repair->options.filter, info->database, info->name) &&
            !tow_namespaces_find(repair->namespaces, info->database, info->name))
            tow_namespaces_set_ranges(repair->namespaces,
                                      tow_namespaces_add(repair->namespaces, info, 0), NULL, 0);
    }
    tow_catalog_clear(&catalog);
    tow_conn_close(source);
    return ok;
}

bool tow_repair_catalog(tow_repair_t *repair, tow_error_t *error)
{
    if (!tow_copy_reconcile(repair->copy, NULL, NULL, TOW_RECONCILE_TTL, error))
        return false;
    if (!tow_copy_finished(repair->copy) &&
        (!tow_copy_wait(repair->copy) ||
         !tow_copy_reconcile(repair->copy, NULL, NULL, TOW_RECONCILE_TTL, error)))
        return tow_stop_requested(repair->options.stop) ? stopped(repair->options.stop, error)
                                                        : false;
    if (!tow_copy_index_wait(repair->copy))
        return stopped(repair->options.stop, error);
    return announce(repair, error);
}

bool tow_repair_with(const tow_repairing_t *with, const char *database, const char *collection,
                     const tow_value_t *ids, uint32_t count, bool anew, tow_error_t *error)
{
    tow_namespace_t *known = tow_namespaces_find(with->namespaces, database, collection);
    bool found;

    if (!known || !known->capped)
        return tow_replay_repair(with->replay, database, collection, ids, count, anew, error);
    /* The order of a capped collection is part of it: it is copied anew. */
    if (!tow_copy_again(with->copy, database, collection, &found, error))
        return false;
    return tow_copy_wait(with->copy) ? true : stopped(with->stop, error);
}

bool tow_repair_documents(void *data, const char *database, const char *collection,
                          const tow_value_t *ids, uint32_t count, bool anew, tow_error_t *error)
{
    tow_repair_t *repair = data;
    tow_repairing_t with = {repair->namespaces, repair->copy, repair->replay, repair->options.stop};

    return tow_repair_with(&with, database, collection, ids, count, anew, error);
}
