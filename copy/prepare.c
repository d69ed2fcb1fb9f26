/* SPDX-License-Identifier: Apache-2.0 */
/* prepare.c: begins every collection of the source's catalog, and makes its views. */
#include <stdlib.h>

#include "copy/internal.h"

static bool check_supported(const tow_copy_t *copy, const tow_catalog_t *catalog,
                            tow_error_t *error)
{
    for (size_t i = 0; i < catalog->count; i++) {
        const tow_collection_info_t *info = &catalog->items[i];

        if (!tow_kind_is_supported(info->type) &&
            tow_filter_takes(copy->options.filter, info->database, info->name))
            return tow_fail(
                error, TOW_ERROR_UNSUITABLE,
                "%s is a time-series collection, or of a kind that this version does not "
                "know, and cannot be followed; leave it out with --exclude %s",
                info->ns, info->ns);
    }
    return true;
}

bool tow_copy_prepare(tow_copy_t *copy, tow_copy_size_fn known, const void *data,
                      tow_error_t *error)
{
    tow_copy_conns_t conns = {0};
    tow_catalog_t catalog = {0};
    const char **names;
    size_t count = 0;
    /* Known before the catalog is read: every DDL event up to it is reflected there. */
    tow_optime_t read_time = tow_link_time(copy->options.source);
    bool ok;

    tow_copy_connect(copy, &conns);
    ok = tow_catalog_read(conns.source, NULL, &catalog, error) &&
         check_supported(copy, &catalog, error) &&
         tow_copy_forget_gone(copy, conns.destination, &catalog, error);

    /* All claims in one message: each alone would cost a write more for every collection. */
    names = tow_alloc((catalog.count + 1) * sizeof *names);
    for (size_t i = 0; i < catalog.count; i++)
        if (catalog.items[i].type == TOW_COLLECTION &&
            tow_filter_takes(copy->options.filter, catalog.items[i].database,
                             catalog.items[i].name))
            names[count++] = catalog.items[i].ns;
    ok =
        ok && (!copy->options.claims || tow_claims_mean(copy->options.claims, names, count, error));
    free(names);
    for (size_t i = 0; ok && i < catalog.count; i++) {
        const tow_collection_info_t *info = &catalog.items[i];
        tow_collection_stats_t stats;

        if (info->type == TOW_COLLECTION &&
            tow_filter_takes(copy->options.filter, info->database, info->name))
            ok = ((known && known(data, info->ns, &stats)) ||
                  tow_collection_stats(conns.source, info->database, info->name, &stats, error)) &&
                 tow_copy_begin(copy, conns.source, conns.destination, info, read_time, &stats,
                                error);
    }
    /* They hold nothing: one that the destination refuses is better known now than
     * in the cutover. */
    ok = ok && tow_copy_make_views(copy, conns.source, conns.destination, &catalog, error);
    tow_catalog_clear(&catalog);
    tow_copy_disconnect(&conns);
    return ok;
}
