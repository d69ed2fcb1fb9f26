/* SPDX-License-Identifier: Apache-2.0 */
/* gaps.c: what the two catalogs say that no event explains: before a cutover, which would drop or
 * leave out what it does not understand. */
#include <stdlib.h>
#include <string.h>

#include "copy/internal.h"
#include "engine/link/reply.h"

void tow_gaps_clear(tow_gaps_t *gaps)
{
    tow_names_clear(&gaps->lost);
    tow_names_clear(&gaps->left_out);
    tow_names_clear(&gaps->by_hand);
    tow_names_clear(&gaps->foreign);
    tow_names_clear(&gaps->strays);
}

/* What writes of ours made again is copied again, and nothing to ask about. */
static bool add_foreign(tow_copy_t *copy, tow_conn_t *destination,
                        const tow_collection_info_t *ours, const tow_collection_info_t *there,
                        tow_names_t *names, tow_error_t *error)
{
    tow_whose_t whose;
    bool remade;

    if (tow_copy_is_ours(copy, there))
        return true;
    if (!tow_copy_whose(copy, destination, there->database, there->name, &whose, error))
        return false;
    if (whose != TOW_WHOSE_FOREIGN)
        return true;
    if (there->type != TOW_COLLECTION || ours->type != TOW_COLLECTION)
        remade = false;
    else if (!tow_copy_is_remade(copy, there, &remade, error))
        return false;
    if (!remade)
        tow_names_add(names, there->ns);
    return true;
}

/* A view that is made here, or has changed, takes the place of what has its name. */
static bool is_otherwise(tow_copy_t *copy, const tow_collection_info_t *view,
                         const tow_collection_info_t *there)
{
    const tow_takes_t takes = tow_takes(copy->options.destination);
    char *name = there->type == TOW_VIEW
                     ? tow_options_difference(&view->options, &there->options, &takes, NULL)
                     : tow_strdup("type");

    free(name);
    return name != NULL;
}

static bool look_at_source(tow_copy_t *copy, tow_conn_t *destination, const tow_catalog_t *ours,
                           const tow_catalog_t *theirs, tow_gaps_t *out, tow_error_t *error)
{
    for (size_t i = 0; i < ours->count; i++) {
        const tow_collection_info_t *info = &ours->items[i],
                                    *there = tow_catalog_get(theirs, info->ns);

        if (!tow_filter_takes(copy->options.filter, info->database, info->name))
            continue;
        if (!tow_kind_is_supported(info->type))
            tow_names_add(there && there->type == info->type ? &out->by_hand : &out->left_out,
                          info->ns);
        else if (there && (info->type == TOW_COLLECTION || is_otherwise(copy, info, there)) &&
                 !add_foreign(copy, destination, info, there, &out->foreign, error))
            return false;
    }
    return true;
}

bool tow_copy_gaps(tow_copy_t *copy, tow_gaps_t *out, tow_error_t *error)
{
    tow_conn_t *source = tow_conn_open(copy->options.source);
    tow_conn_t *destination = tow_conn_open(copy->options.destination);
    tow_catalog_t ours = {0}, theirs = {0};
    tow_namespace_t **list;
    uint32_t count;
    bool ok;

    *out = (tow_gaps_t){0};
    ok = tow_catalog_strays(source, &out->strays, error) &&
         tow_catalog_read(source, NULL, &ours, error) &&
         tow_catalog_read(destination, NULL, &theirs, error) &&
         look_at_source(copy, destination, &ours, &theirs, out, error);
    if (ok) {
        list = tow_namespaces_list(copy->options.namespaces, &count);
        for (uint32_t i = 0; i < count; i++)
            if (list[i]->type == TOW_COLLECTION && !tow_catalog_get(&ours, list[i]->ns) &&
                tow_catalog_get(&theirs, list[i]->ns))
                tow_names_add(&out->lost, list[i]->ns);
        free(list);
    }
    tow_catalog_clear(&ours);
    tow_catalog_clear(&theirs);
    tow_conn_close(source);
    tow_conn_close(destination);
    return ok;
}

static bool drop_if_gone(tow_copy_t *copy, tow_conn_t *source, const char *ns, tow_error_t *error)
{
    char *database = tow_strdup(ns), *name = strchr(database, '.');
    tow_collection_info_t info;
    bool found, ok;

    *name++ = '\0';
    ok = tow_catalog_find(source, database, name, &info, &found, error);
    if (ok && found)
        tow_collection_info_clear(&info);
    else if (ok) /* it also forgets what the job knows of it */
        ok = tow_copy_again(copy, database, name, &found, error);
    free(database);
    return ok;
}

bool tow_copy_drop_gone(tow_copy_t *copy, tow_error_t *error)
{
    tow_conn_t *source = tow_conn_open(copy->options.source);
    tow_gaps_t gaps = {0};
    bool ok = tow_copy_gaps(copy, &gaps, error);

    for (size_t i = 0; ok && i < gaps.lost.count; i++) {
        ok = drop_if_gone(copy, source, gaps.lost.names[i], error);
        if (ok)
            tow_emit(&copy->options.sink, TOW_LEVEL_INFO, "reconciled",
                     "%s: looked for at the source, which lost its history", gaps.lost.names[i]);
    }
    tow_gaps_clear(&gaps);
    tow_conn_close(source);
    return ok;
}

typedef struct {
    const tow_catalog_t *source;
    tow_names_t gone;
} earlier_t;

static void add_gone(earlier_t *earlier, const char *ns)
{
    if (!tow_catalog_get(earlier->source, ns))
        tow_names_add(&earlier->gone, ns);
}

static bool add_recorded(void *data, const bson_t *document, tow_range_t *ranges, uint32_t count,
                         tow_error_t *error TOW_UNUSED)
{
    const char *ns;

    for (uint32_t i = 0; i < count; i++)
        tow_range_clear(&ranges[i]);
    if (tow_field_text(document, "_id", &ns))
        add_gone(data, ns);
    return true;
}

static bool forget(tow_copy_t *copy, tow_conn_t *destination, const char *ns, tow_error_t *error)
{
    char *database = tow_strdup(ns), *name = strchr(database, '.');
    tow_whose_t whose;
    bool ok = true;

    if (name) {
        *name++ = '\0';
        ok = tow_copy_unmake(copy, destination, database, name, &whose, error) &&
             tow_store_remove_collection(copy->options.store, ns, error);
    }
    free(database);
    return ok;
}

static bool is_ours(tow_copy_t *copy, tow_conn_t *destination, const tow_collection_info_t *there,
                    bool *out, tow_error_t *error)
{
    tow_whose_t whose = TOW_WHOSE_FOREIGN;

    if (tow_claims_of(copy->options.claims, there->ns, there->uuid) == TOW_CLAIM_MAYBE &&
        !tow_copy_whose(copy, destination, there->database, there->name, &whose, error))
        return false;
    *out = whose == TOW_WHOSE_OURS || tow_copy_is_ours(copy, there);
    return true;
}

bool tow_copy_forget_gone(tow_copy_t *copy, tow_conn_t *destination, const tow_catalog_t *source,
                          tow_error_t *error)
{
    earlier_t earlier = {.source = source};
    tow_catalog_t theirs = {0};
    bool ok, ours;

    if (!copy->options.claims || !tow_claims_any(copy->options.claims))
        return true;
    ok = tow_catalog_read(destination, NULL, &theirs, error) &&
         tow_store_each_collection(copy->options.store, add_recorded, &earlier, error);
    for (size_t i = 0; ok && i < theirs.count; i++)
        if (theirs.items[i].type == TOW_COLLECTION &&
            !tow_catalog_get(source, theirs.items[i].ns)) {
            ok = is_ours(copy, destination, &theirs.items[i], &ours, error);
            if (ok && ours)
                add_gone(&earlier, theirs.items[i].ns);
        }
    for (size_t i = 0; ok && i < earlier.gone.count; i++)
        ok = forget(copy, destination, earlier.gone.names[i], error);
    tow_names_clear(&earlier.gone);
    tow_catalog_clear(&theirs);
    return ok || tow_fail_context(error, "drop what an earlier start made");
}
