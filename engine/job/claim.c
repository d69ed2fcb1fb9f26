/* SPDX-License-Identifier: Apache-2.0 */
/* claim.c: a new job makes sure that the destination holds nothing but what it writes.
 *
 * The checks before the start looked at the destination, but without the job's lease: another
 * process of the same job may have copied everything since. So the lease comes first, then another
 * look, and what --clear-destination drops is exactly what the checks found, unless another job
 * that may be running claims it: what is about to be dropped is recorded before the others are
 * looked at, so that of two new jobs at least one sees the other. */
#include <stdlib.h>
#include <string.h>

#include "engine/job/internal.h"
#include "engine/state/others.h"

/* The namespaces of *catalog that this job would write, but for another job's state; the array is
 * the caller's, sorted as the catalog is. NULL: *error. */
static const tow_collection_info_t **choose(const tow_job_t *job, tow_conn_t *conn,
                                            const tow_catalog_t *catalog, size_t *out_count,
                                            tow_error_t *error)
{
    const tow_collection_info_t **chosen = tow_alloc((catalog->count + 1) * sizeof *chosen);
    const char *last = "";
    bool state = false;

    *out_count = 0;
    for (size_t i = 0; i < catalog->count; i++) {
        const tow_collection_info_t *info = &catalog->items[i];

        if (!tow_filter_takes(job->sides.filter, info->database, info->name))
            continue;
        if (strcmp(info->database, last) != 0 &&
            !tow_is_job_state(conn, info->database, &state, error)) {
            free(chosen);
            return NULL;
        }
        last = info->database;
        if (!state)
            chosen[(*out_count)++] = info;
    }
    return chosen;
}

static int by_ns(const void *key, const void *item)
{
    return strcmp(key, ((const tow_collection_info_t *)item)->ns);
}

/* Whether the checks saw this very namespace, so that its being dropped was announced. */
static bool was_checked(const tow_job_t *job, const tow_collection_info_t *info)
{
    const tow_catalog_t *there = &job->checked.in_the_way;
    const tow_collection_info_t *found =
        there->count ? bsearch(info->ns, there->items, there->count, sizeof *there->items, by_ns)
                     : NULL;

    return found && found->type == info->type &&
           !memcmp(found->uuid, info->uuid, sizeof info->uuid);
}

static bool check_all(const tow_job_t *job, const tow_collection_info_t *const *items, size_t count,
                      tow_error_t *error)
{
    for (size_t i = 0; i < count; i++)
        if (!job->config.clear_destination || !was_checked(job, items[i]))
            return tow_fail(
                error, TOW_ERROR_CONFLICT,
                "the destination has %s by now, which it did not have when it was checked a "
                "moment ago; make sure that nobody else writes there, and run the same command "
                "again",
                items[i]->ns);
    return true;
}

/* With a catalog of after our own record: another job may be new. */
static bool take_from_others(tow_job_t *job, tow_conn_t *conn,
                             const tow_collection_info_t *const *items, size_t count,
                             tow_error_t *error)
{
    const char *own = tow_store_database(job->journal.store);
    tow_others_t *others = NULL;
    tow_catalog_t there = {0};
    bool ok = true;

    if (!count)
        return true;
    if (tow_catalog_read(conn, NULL, &there, error))
        others = tow_others_read(conn, &there, own, error);
    for (size_t i = 0; others && ok && i < count; i++)
        ok = tow_others_take(others, conn, items[i]->ns, own, error);
    ok = ok && others;
    tow_others_destroy(others);
    tow_catalog_clear(&there);
    return ok;
}

static bool drop_one(tow_job_t *job, tow_conn_t *conn, const tow_collection_info_t *info,
                     tow_error_t *error)
{
    if (!tow_collection_drop(conn, info->database, info->name, error))
        return false;
    tow_claims_note_cleared(job->journal.claims, info->ns);
    tow_emit(&job->sides.sink, TOW_LEVEL_INFO, "cleared", "dropped %s on the destination",
             info->ns);
    return true;
}

/* Views first: a view's collection may go at any time, but not the other way round. */
static bool drop_all(tow_job_t *job, tow_conn_t *conn, const tow_collection_info_t *const *items,
                     size_t count, tow_error_t *error)
{
    for (int views = 1; views >= 0; views--)
        for (size_t i = 0; i < count; i++)
            if ((items[i]->type == TOW_VIEW) == (views == 1) &&
                !drop_one(job, conn, items[i], error))
                return false;
    return true;
}

bool tow_job_claim(tow_job_t *job, tow_error_t *error)
{
    tow_conn_t *conn = tow_conn_open(job->sides.destination);
    const tow_collection_info_t **items = NULL;
    tow_catalog_t catalog = {0};
    size_t count = 0;
    bool ok = tow_catalog_read(conn, NULL, &catalog, error);

    if (ok)
        items = choose(job, conn, &catalog, &count, error);
    ok = items && check_all(job, items, count, error) &&
         tow_store_record_cleared(job->journal.store, items, count, error) &&
         take_from_others(job, conn, items, count, error) &&
         drop_all(job, conn, items, count, error) && tow_store_begin(job->journal.store, error);
    free(items);
    tow_catalog_clear(&catalog);
    tow_conn_close(conn);
    return ok;
}
