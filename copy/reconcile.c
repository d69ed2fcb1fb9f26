/* reconcile.c: makes the destination's catalog that of the source: options, indexes, views. */
#include <stdlib.h>
#include <string.h>

#include "copy/internal.h"
#include "engine/link/reply.h"

typedef struct {
    tow_copy_t *copy;
    tow_conn_t *source, *destination;
    bool final;
} task_t;

static void tell(const task_t *task, const char *ns, const char *what)
{
    tow_emit(&task->copy->options.sink, TOW_LEVEL_INFO, "reconciled", "%s: %s", ns, what);
}

static bool run(task_t *task, const char *database, const bson_t *command, tow_error_t *error)
{
    tow_send_options_t send = {.flags = TOW_SEND_WRITE | TOW_SEND_RETRY};
    bson_t reply;
    bool ok = tow_conn_command(task->destination, database, command, &send, &reply, error);

    bson_destroy(&reply);
    return ok;
}

/* Options ---------------------------------------------------------------------------------------*/

/* What collMod can change; everything else needs a new collection. */
static const char *const modifiable[] = {"validator", "validationLevel", "validationAction",
                                         "changeStreamPreAndPostImages", "expireAfterSeconds", NULL};
/* The same, and what says nothing about the collection as it is. */
static const char *const passing[] = {"validator", "validationLevel", "validationAction",
                                      "changeStreamPreAndPostImages", "expireAfterSeconds",
                                      "autoIndexId", NULL};
/* From 6.0 on collMod also changes the limits of a capped collection. */
static const char *const passing_capped[] = {"validator", "validationLevel", "validationAction",
                                             "changeStreamPreAndPostImages", "expireAfterSeconds",
                                             "autoIndexId", "size", "max", NULL};

static bool same_value(const bson_t *a, const bson_t *b, const char *name)
{
    bson_t x = BSON_INITIALIZER, y = BSON_INITIALIZER;
    bson_iter_t iter;
    bool same;

    if (bson_iter_init_find(&iter, a, name))
        bson_append_iter(&x, NULL, 0, &iter);
    if (bson_iter_init_find(&iter, b, name))
        bson_append_iter(&y, NULL, 0, &iter);
    same = tow_copy_same_fields(&x, &y, NULL);
    bson_destroy(&x);
    bson_destroy(&y);
    return same;
}

/* A field that the source does not have gets the value that means the same. */
static void append_neutral(bson_t *command, const char *name)
{
    bson_t empty = BSON_INITIALIZER, off;

    if (!strcmp(name, "validator")) {
        bson_append_document(command, name, -1, &empty);
    } else if (!strcmp(name, "validationLevel")) {
        bson_append_utf8(command, name, -1, "strict", -1);
    } else if (!strcmp(name, "validationAction")) {
        bson_append_utf8(command, name, -1, "error", -1);
    } else if (!strcmp(name, "changeStreamPreAndPostImages")) {
        bson_append_document_begin(command, name, -1, &off);
        bson_append_bool(&off, "enabled", -1, false);
        bson_append_document_end(command, &off);
    } else {
        bson_append_utf8(command, name, -1, "off", -1);
    }
    bson_destroy(&empty);
}

static bool modify(task_t *task, const tow_collection_info_t *ours,
                   const tow_collection_info_t *theirs, tow_error_t *error)
{
    bson_t command = BSON_INITIALIZER;
    uint32_t changes = 0;
    bool ok = true;

    bson_append_utf8(&command, "collMod", -1, ours->name, -1);
    for (size_t i = 0; modifiable[i]; i++) {
        bson_iter_t iter;

        bool held_off = !strcmp(modifiable[i], "expireAfterSeconds") && !task->final;

        if (held_off ? !bson_has_field(&theirs->options, modifiable[i])
                     : same_value(&ours->options, &theirs->options, modifiable[i]))
            continue;
        if (!held_off && bson_iter_init_find(&iter, &ours->options, modifiable[i]))
            bson_append_iter(&command, NULL, 0, &iter);
        else
            append_neutral(&command, modifiable[i]);
        changes++;
    }
    if (changes) {
        ok = run(task, ours->database, &command, error);
        if (ok)
            tell(task, ours->ns, "options set as at the source");
        else
            tow_fail_context(error, "collMod %s", ours->ns);
    }
    bson_destroy(&command);
    return ok;
}

/* Gives a capped collection the source's limits. *out_done false: the server cannot; a limit of
 * documents can be changed, but not taken away without a trace. */
static bool resize(task_t *task, const tow_collection_info_t *ours,
                   const tow_collection_info_t *theirs, bool *out_done, tow_error_t *error)
{
    static const char *const limits[][2] = {{"size", "cappedSize"}, {"max", "cappedMax"}};
    bson_t command = BSON_INITIALIZER;
    bool possible = true;

    *out_done = false;
    bson_append_utf8(&command, "collMod", -1, ours->name, -1);
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        bson_iter_t iter;

        if (same_value(&ours->options, &theirs->options, limits[i][0]))
            continue;
        if (bson_iter_init_find(&iter, &ours->options, limits[i][0]))
            bson_append_int64(&command, limits[i][1], -1, bson_iter_as_int64(&iter));
        else
            possible = false;
    }
    if (!possible) {
        bson_destroy(&command);
        return true;
    }
    *out_done = run(task, ours->database, &command, error);
    bson_destroy(&command);
    if (*out_done)
        tell(task, ours->ns, "capped to the source's size");
    return *out_done || error->retry == TOW_RETRY_NEVER;
}

/* Whether the destination's collection was made from the very options that the source lists now.
 * One that lacks any of them came about otherwise. */
static bool is_made_of(const task_t *task, const tow_collection_info_t *ours,
                       const tow_collection_info_t *theirs)
{
    const tow_namespace_t *known =
        tow_namespaces_find(task->copy->options.namespaces, ours->database, ours->name);
    bson_iter_t iter;

    if (!known || !tow_copy_same_fields(&known->options, &ours->options, passing) ||
        !bson_iter_init(&iter, &ours->options))
        return false;
    while (bson_iter_next(&iter))
        if (strcmp(bson_iter_key(&iter), "autoIndexId") != 0 &&
            !bson_has_field(&theirs->options, bson_iter_key(&iter)))
            return false;
    return true;
}

/* What collMod cannot change is alike, or is made so. *out_alike false: only a new copy helps. */
static bool make_alike(task_t *task, const tow_collection_info_t *ours,
                       const tow_collection_info_t *theirs, bool *out_alike, tow_error_t *error)
{
    *out_alike = tow_copy_same_fields(&ours->options, &theirs->options, passing);
    if (!*out_alike && ours->capped && theirs->capped &&
        tow_copy_same_fields(&ours->options, &theirs->options, passing_capped) &&
        !resize(task, ours, theirs, out_alike, error))
        return false;
    if (!*out_alike && is_made_of(task, ours, theirs)) {
        /* The destination lists the same options in its own way: a new copy changes nothing. */
        tow_emit(&task->copy->options.sink, TOW_LEVEL_WARNING, "options_differ",
                 "%s: created with the source's options, which the destination lists otherwise",
                 ours->ns);
        *out_alike = true;
    }
    return true;
}

/* Indexes ---------------------------------------------------------------------------------------*/

static const char *name_of(const bson_t *specification)
{
    const char *name = "";

    tow_field_text(specification, "name", &name);
    return name;
}

static const bson_t *find_index(const tow_indexes_t *indexes, const char *name)
{
    for (size_t i = 0; i < indexes->count; i++)
        if (!strcmp(name_of(&indexes->items[i]), name))
            return &indexes->items[i];
    return NULL;
}

/* `v` may be older at the source, and so may ways to build that mean nothing any more. */
static const char *const ignored[] = {"v", "background", "dropDups", "safe", NULL};
static const char *const collmod_fields[] = {"v", "background", "dropDups", "safe",
                                             "expireAfterSeconds", "hidden", NULL};

static void tell_index(const task_t *task, const tow_collection_info_t *info, const char *name,
                       const char *what)
{
    tow_emit(&task->copy->options.sink, TOW_LEVEL_INFO, "reconciled", "%s: index %s %s", info->ns,
             name, what);
}

static bool is_hidden(const bson_t *specification)
{
    bson_iter_t iter;

    return bson_iter_init_find(&iter, specification, "hidden") && bson_iter_as_bool(&iter);
}

/* Only what differs is sent: older servers know neither. */
static bool modify_index(task_t *task, const tow_collection_info_t *info, const bson_t *wanted,
                         const bson_t *there, tow_error_t *error)
{
    bson_t command = BSON_INITIALIZER, index;
    bson_iter_t iter;
    bool ok;

    bson_append_utf8(&command, "collMod", -1, info->name, -1);
    bson_append_document_begin(&command, "index", -1, &index);
    bson_append_utf8(&index, "name", -1, name_of(wanted), -1);
    if (!same_value(wanted, there, "expireAfterSeconds") &&
        bson_iter_init_find(&iter, wanted, "expireAfterSeconds"))
        bson_append_iter(&index, NULL, 0, &iter);
    if (is_hidden(wanted) != is_hidden(there))
        bson_append_bool(&index, "hidden", -1, is_hidden(wanted));
    bson_append_document_end(&command, &index);
    ok = run(task, info->database, &command, error);
    bson_destroy(&command);
    if (!ok)
        return tow_fail_context(error, "collMod index %s of %s", name_of(wanted), info->ns);
    tell_index(task, info, name_of(wanted), "changed");
    return true;
}

static bool drop_index(task_t *task, const tow_collection_info_t *info, const char *name,
                       tow_error_t *error)
{
    if (!tow_copy_index_drop(task->copy, info->database, info->name, name, error))
        return false;
    tell_index(task, info, name, "dropped");
    return true;
}

static bool reconcile_index(task_t *task, const tow_collection_info_t *info, const bson_t *wanted,
                            const bson_t *there, tow_error_t *error)
{
    const char *name = name_of(wanted);
    bson_iter_t iter;
    uint32_t built;
    bool had_ttl;

    if (there && tow_copy_same_fields(wanted, there, ignored))
        return true;
    had_ttl = there && bson_iter_init_find(&iter, there, "expireAfterSeconds");
    if (there && tow_copy_same_fields(wanted, there, collmod_fields) &&
        had_ttl == bson_iter_init_find(&iter, wanted, "expireAfterSeconds"))
        return modify_index(task, info, wanted, there, error);
    if (there && !drop_index(task, info, name, error))
        return false;
    if (!there)
        atomic_fetch_add(&task->copy->indexes, 1);
    if (!tow_copy_build(task->copy, task->destination, info->database, info->name, wanted, 1,
                        task->final, &built, error))
        return false;
    atomic_fetch_add(&task->copy->indexes_built, built);
    if (built)
        tell_index(task, info, name, "built");
    return true;
}

static bool reconcile_indexes(task_t *task, const tow_collection_info_t *info, tow_error_t *error)
{
    tow_indexes_t ours, theirs = {0};
    bool ok = tow_indexes_read(task->source, info->database, info->name, &ours, error);

    if (!ok)
        return false;
    ok = tow_indexes_read(task->destination, info->database, info->name, &theirs, error);
    for (size_t i = 0; ok && i < theirs.count; i++)
        if (!find_index(&ours, name_of(&theirs.items[i])))
            ok = drop_index(task, info, name_of(&theirs.items[i]), error);
    for (size_t i = 0; ok && i < ours.count; i++) {
        bson_t wanted;

        if (task->final) {
            bson_copy_to(&ours.items[i], &wanted);
        } else {
            tow_index_held_off(&ours.items[i], &wanted);
        }
        ok = reconcile_index(task, info, &wanted,
                             find_index(&theirs, name_of(&ours.items[i])), error);
        bson_destroy(&wanted);
    }
    tow_indexes_clear(&ours);
    tow_indexes_clear(&theirs);
    return ok;
}

/* Collections and views -------------------------------------------------------------------------*/

/* Its indexes are read when its copy ends. Built before, a unique one would refuse what ranges hold that
 * were read at another time, and the copy could never end. */
static bool is_being_copied(const task_t *task, const tow_collection_info_t *info)
{
    tow_namespaces_t *table = task->copy->options.namespaces;
    tow_namespace_t *known = tow_namespaces_find(table, info->database, info->name);

    return known && !tow_namespaces_copied(table, known);
}

/* `theirs` NULL: the destination does not have it. */
static bool reconcile_collection(task_t *task, const tow_collection_info_t *ours,
                                 const tow_collection_info_t *theirs, tow_error_t *error)
{
    bool alike = false, found;

    if (theirs && !tow_copy_is_ours(task->copy, theirs)) {
        /* The cutover asks; until then somebody may put it right. */
        tow_copy_tell_foreign(task->copy, ours->ns);
        return !task->final || tow_copy_fail_foreign(ours->ns, error);
    }
    if (theirs && theirs->type == TOW_COLLECTION && !make_alike(task, ours, theirs, &alike, error))
        return false;
    if (alike)
        return modify(task, ours, theirs, error) &&
               (is_being_copied(task, ours) || reconcile_indexes(task, ours, error));
    tell(task, ours->ns, theirs ? "copied again: its options cannot be changed in place"
                                : "copied: it was missing on the destination");
    return tow_copy_again(task->copy, ours->database, ours->name, &found, error);
}

static bool reconcile_one(task_t *task, const char *database, const char *name, tow_error_t *error)
{
    tow_collection_info_t ours, theirs;
    bool found, there = false, ok;

    if (!tow_catalog_find(task->source, database, name, &ours, &found, error))
        return false;
    if (!found)
        return true; /* a later event drops it */
    ok = ours.type != TOW_COLLECTION ||
         (tow_catalog_find(task->destination, database, name, &theirs, &there, error) &&
          reconcile_collection(task, &ours, there ? &theirs : NULL, error));
    if (there)
        tow_collection_info_clear(&theirs);
    tow_collection_info_clear(&ours);
    return ok;
}

/* Makes a view as at the source. *out_done false: it could not be made yet. */
static bool reconcile_view(task_t *task, const tow_collection_info_t *ours,
                           const tow_collection_info_t *theirs, bool *out_done, tow_error_t *error)
{
    tow_whose_t whose;

    *out_done = theirs && theirs->type == TOW_VIEW &&
                tow_copy_same_fields(&ours->options, &theirs->options, NULL);
    if (*out_done)
        return true;
    if (theirs && (!tow_copy_unmake(task->copy, task->destination, ours->database, ours->name, &whose, error) ||
                   (whose == TOW_WHOSE_FOREIGN && !tow_copy_fail_foreign(ours->ns, error))))
        return false;
    *out_done = tow_copy_make(task->copy, task->destination, ours, error);
    if (*out_done)
        tell(task, ours->ns, theirs ? "view made anew" : "view made");
    return *out_done || error->retry == TOW_RETRY_NEVER;
}

/* Views may stand on views: rounds until none is left, or none can be made. */
static bool reconcile_views(task_t *task, const tow_catalog_t *ours, const tow_catalog_t *theirs,
                            tow_error_t *error)
{
    bool *done = tow_alloc(ours->count + 1);
    bool progress = true, left = true, ok = true;

    while (ok && progress && left) {
        progress = left = false;
        for (size_t i = 0; ok && i < ours->count; i++) {
            const tow_collection_info_t *info = &ours->items[i];

            if (done[i] || info->type != TOW_VIEW ||
                !tow_filter_takes(task->copy->options.filter, info->database, info->name))
                continue;
            ok = reconcile_view(task, info, tow_catalog_get(theirs, info->ns), &done[i], error);
            progress = progress || done[i];
            left = left || !done[i];
        }
    }
    free(done);
    return ok && !left;
}

/* A list may be short, above all where a role was taken away: each is asked for by name before it counts as
 * gone. */
static bool is_gone(task_t *task, const tow_collection_info_t *info, bool *out, tow_error_t *error)
{
    tow_collection_info_t ours;
    bool found;

    if (!tow_catalog_find(task->source, info->database, info->name, &ours, &found, error))
        return false;
    if (found)
        tow_collection_info_clear(&ours);
    *out = !found;
    return true;
}

/* Drops one that the source does not list: never without a claim of the job's own records. A collection that
 * is still in the table is left to its event; the cutover asks about one that has none (tow_copy_gaps). */
static bool drop_one_extra(task_t *task, const tow_collection_info_t *info, tow_error_t *error)
{
    tow_copy_t *copy = task->copy;
    tow_whose_t whose;
    bool gone;

    if (!tow_copy_is_ours(copy, info)) {
        tow_copy_tell_foreign(copy, info->ns);
        return true;
    }
    if (copy->options.claims && tow_namespaces_find(copy->options.namespaces, info->database, info->name))
        return true;
    if (!is_gone(task, info, &gone, error))
        return false;
    if (!gone)
        return true;
    if (!tow_copy_unmake(copy, task->destination, info->database, info->name, &whose, error))
        return false;
    if (whose != TOW_WHOSE_FOREIGN)
        tell(task, info->ns, "dropped: the source does not have it any more");
    return true;
}

static bool drop_extra(task_t *task, const tow_catalog_t *ours, const tow_catalog_t *theirs,
                       tow_error_t *error)
{
    for (size_t i = 0; i < theirs->count; i++) {
        const tow_collection_info_t *info = &theirs->items[i];

        if (tow_filter_takes(task->copy->options.filter, info->database, info->name) &&
            !tow_catalog_get(ours, info->ns) && !drop_one_extra(task, info, error))
            return false;
    }
    return true;
}

static bool reconcile_whole(task_t *task, tow_error_t *error)
{
    tow_catalog_t ours, theirs = {0};
    bool ok = tow_catalog_read(task->source, NULL, &ours, error);

    if (!ok)
        return false;
    ok = tow_catalog_read(task->destination, NULL, &theirs, error) &&
         (task->copy->options.keep_extra || drop_extra(task, &ours, &theirs, error));
    for (size_t i = 0; ok && i < ours.count; i++)
        if (ours.items[i].type == TOW_COLLECTION &&
            tow_filter_takes(task->copy->options.filter, ours.items[i].database,
                             ours.items[i].name))
            ok = reconcile_collection(task, &ours.items[i],
                                      tow_catalog_get(&theirs, ours.items[i].ns), error);
    if (ok && task->final)
        ok = reconcile_views(task, &ours, &theirs, error);
    tow_catalog_clear(&ours);
    tow_catalog_clear(&theirs);
    return ok;
}

bool tow_copy_reconcile(tow_copy_t *copy, const char *database, const char *name, bool final,
                        tow_error_t *error)
{
    task_t task = {.copy = copy, .final = final};
    bool ok;

    ok = (task.source = tow_conn_open(copy->options.source, error)) &&
         (task.destination = tow_conn_open(copy->options.destination, error));
    if (ok)
        ok = name ? reconcile_one(&task, database, name, error) : reconcile_whole(&task, error);
    tow_conn_close(task.source);
    tow_conn_close(task.destination);
    return ok;
}
