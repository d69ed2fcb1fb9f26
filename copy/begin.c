/* SPDX-License-Identifier: Apache-2.0 */
/* begin.c: begins a collection: creates it, plans and records its ranges, and queues them. */
#include <stdlib.h>

#include "copy/internal.h"

bool tow_copy_begin(tow_copy_t *copy, tow_conn_t *source, tow_conn_t *destination,
                    const tow_collection_info_t *info, tow_optime_t read_time,
                    const tow_collection_stats_t *stats, tow_error_t *error)
{
    tow_namespaces_t *table = copy->options.namespaces;
    tow_namespace_t *collection;
    tow_range_t *ranges;
    uint32_t count;

    if (!tow_copy_make(copy, destination, info, error) ||
        (copy->options.indexes_first &&
         !tow_copy_build_early(copy, source, destination, info, error)) ||
        !tow_copy_plan(copy, source, info, stats, &ranges, &count, error))
        return false;
    if (!tow_store_put_collection(copy->options.store, info, read_time, ranges, count, error)) {
        for (uint32_t i = 0; i < count; i++)
            tow_range_clear(&ranges[i]);
        free(ranges);
        return false;
    }
    collection = tow_namespaces_add(table, info, read_time);
    tow_namespaces_set_estimate(table, collection, stats->documents, stats->bytes);
    tow_namespaces_set_ranges(table, collection, ranges, count);
    for (uint32_t i = 0; i < count; i++)
        tow_copy_queue(copy, collection, i);
    return true;
}

void tow_copy_connect(const tow_copy_t *copy, tow_copy_conns_t *out)
{
    out->source = tow_conn_open(copy->options.source);
    out->destination = tow_conn_open(copy->options.destination);
}

void tow_copy_disconnect(tow_copy_conns_t *conns)
{
    tow_conn_close(conns->source);
    tow_conn_close(conns->destination);
}
