/* reconcile.c: makes the destination's catalog that of the source: options, collections, views. */
#include <stdlib.h>
#include <string.h>

#include "copy/internal.h"
#include "engine/link/codes.h"
#include "engine/link/reply.h"

typedef tow_reconciling_t task_t;

void tow_reconcile_tell(const task_t *task, const char *ns, const char *what)
{
    tow_emit(&task->copy->options.sink, TOW_LEVEL_INFO, "reconciled", "%s: %s", ns, what);
}

/* Options ---------------------------------------------------------------------------------------*/

/* What collMod can change; everything else needs a new collection. */
static const char *const modifiable[] = {"validator",
                                         "validationLevel",
                                         "validationAction",
                                         "changeStreamPreAndPostImages",
                                         "recordPreImages",
                                         "expireAfterSeconds",
                                         NULL};
/* From 6.0 on collMod also changes the limits of a capped collection. */
static const char *const modifiable_capped[] = {"validator",
                                                "validationLevel",
                                                "validationAction",
                                                "changeStreamPreAndPostImages",
                                                "recordPreImages",
                                                "expireAfterSeconds",
                                                "size",
                                                "max",
                                                NULL};

bool tow_reconcile_alike(const task_t *task, const bson_t *ours, const bson_t *theirs,
                         const char *const *except)
{
    char *name = tow_options_difference(ours, theirs, &task->takes, except);

    free(name);
    return !name;
}

static bool same_value(const task_t *task, const bson_t *a, const bson_t *b, const char *name)
{
    bson_t x = BSON_INITIALIZER, y = BSON_INITIALIZER;
    bson_iter_t iter;
    bool same;

    if (bson_iter_init_find(&iter, a, name))
        bson_append_iter(&x, NULL, 0, &iter);
    if (bson_iter_init_find(&iter, b, name))
        bson_append_iter(&y, NULL, 0, &iter);
    same = tow_reconcile_alike(task, &x, &y, NULL);
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
    } else if (!strcmp(name, "recordPreImages")) {
        bson_append_bool(command, name, -1, false);
    } else {
        bson_append_utf8(command, name, -1, "off", -1);
    }
    bson_destroy(&empty);
}

/* The fields of collMod that make the options alike; how many. */
static uint32_t append_changes(const task_t *task, const bson_t *ours, const bson_t *theirs,
                               bson_t *command)
{
    uint32_t changes = 0;
    bson_iter_t iter;

    for (size_t i = 0; modifiable[i]; i++) {
        bool held_off =
            !strcmp(modifiable[i], "expireAfterSeconds") && task->how != TOW_RECONCILE_TTL;

        if (held_off ? !bson_has_field(theirs, modifiable[i])
                     : same_value(task, ours, theirs, modifiable[i]))
            continue;
        if (!held_off && bson_iter_init_find(&iter, ours, modifiable[i]))
            bson_append_iter(command, NULL, 0, &iter);
        else
            append_neutral(command, modifiable[i]);
        changes++;
    }
    return changes;
}

static bool modify(task_t *task, const tow_collection_info_t *ours,
                   const tow_collection_info_t *theirs, tow_error_t *error)
{
    bson_t command = BSON_INITIALIZER, wanted, there;
    bool ok = true;

    tow_options_canonical(&ours->options, &task->takes, &wanted);
    tow_options_canonical(&theirs->options, &task->takes, &there);
    bson_append_utf8(&command, "collMod", -1, ours->name, -1);
    if (append_changes(task, &wanted, &there, &command)) {
        ok = tow_reconcile_run(task, ours->database, &command, error);
        if (ok)
            tow_reconcile_tell(task, ours->ns, "options set as at the source");
        else
            tow_fail_context(error, "collMod %s", ours->ns);
    }
    bson_destroy(&wanted);
    bson_destroy(&there);
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

        if (same_value(task, &ours->options, &theirs->options, limits[i][0]))
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
    *out_done = tow_reconcile_run(task, ours->database, &command, error);
    bson_destroy(&command);
    if (*out_done)
        tow_reconcile_tell(task, ours->ns, "capped to the source's size");
    return *out_done || error->retry == TOW_RETRY_NEVER;
}

/* Whether the destination's collection was made from the very options that the source lists now.
 * One that lacks any of them came about otherwise. */
static bool is_made_of(const task_t *task, const tow_collection_info_t *ours,
                       const tow_collection_info_t *theirs)
{
    const tow_namespace_t *known =
        tow_namespaces_find(task->copy->options.namespaces, ours->database, ours->name);
    bson_t wanted;
    bson_iter_t iter;
    bool made;

    if (!known || !tow_reconcile_alike(task, &known->options, &ours->options, modifiable))
        return false;
    tow_options_canonical(&ours->options, &task->takes, &wanted);
    made = bson_iter_init(&iter, &wanted);
    while (made && bson_iter_next(&iter))
        made = bson_has_field(&theirs->options, bson_iter_key(&iter));
    bson_destroy(&wanted);
    return made;
}

/* What collMod cannot change is alike, or is made so. *out_alike false: only a new copy helps. */
static bool make_alike(task_t *task, const tow_collection_info_t *ours,
                       const tow_collection_info_t *theirs, bool *out_alike, tow_error_t *error)
{
    *out_alike = tow_reconcile_alike(task, &ours->options, &theirs->options, modifiable);
    if (!*out_alike && ours->capped && theirs->capped &&
        tow_reconcile_alike(task, &ours->options, &theirs->options, modifiable_capped) &&
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

/* Collections and views -------------------------------------------------------------------------*/

/* Its indexes are read when its copy ends. Built before, a unique one would refuse what ranges hold
 * that were read at another time, and the copy could never end. */
static bool is_being_copied(const task_t *task, const tow_collection_info_t *info)
{
    tow_namespaces_t *table = task->copy->options.namespaces;
    tow_namespace_t *known = tow_namespaces_find(table, info->database, info->name);

    return known && !tow_namespaces_copied(table, known);
}

static bool reconcile_one(task_t *task, const char *database, const char *name, tow_error_t *error);

/* What the destination lists is not the job's. The list may be older than a drop that the replay
 * carried out meanwhile, together with its claim: then both sides are asked again. */
static bool reconcile_foreign(task_t *task, const tow_collection_info_t *ours,
                              const tow_collection_info_t *theirs, tow_error_t *error)
{
    bool remade, found;
    tow_whose_t whose;

    if (!tow_copy_whose(task->copy, task->destination, ours->database, ours->name, &whose, error))
        return false;
    if (whose != TOW_WHOSE_FOREIGN)
        return reconcile_one(task, ours->database, ours->name, error);
    if (!tow_copy_is_remade(task->copy, theirs, &remade, error))
        return false;
    if (remade) {
        tow_reconcile_tell(task, ours->ns,
                           "copied again: it was dropped on the destination, and writes of this "
                           "job made it again");
        return tow_copy_again(task->copy, ours->database, ours->name, &found, error);
    }
    /* The cutover asks; until then somebody may put it right. */
    tow_copy_tell_foreign(task->copy, ours->ns);
    return task->how == TOW_RECONCILE_ALONG || tow_copy_fail_foreign(ours->ns, error);
}

/* `theirs` NULL: the destination does not have it. */
static bool reconcile_collection(task_t *task, const tow_collection_info_t *ours,
                                 const tow_collection_info_t *theirs, tow_error_t *error)
{
    bool alike = false, found;

    if (theirs && !tow_copy_is_ours(task->copy, theirs))
        return reconcile_foreign(task, ours, theirs, error);
    if (theirs && theirs->type == TOW_COLLECTION && !make_alike(task, ours, theirs, &alike, error))
        return false;
    if (alike) {
        if (task->how == TOW_RECONCILE_LAST && bson_has_field(&ours->options, "expireAfterSeconds"))
            tow_reconcile_note_ttl(task, ours);
        return modify(task, ours, theirs, error) &&
               (is_being_copied(task, ours) || tow_reconcile_indexes(task, ours, error));
    }
    tow_reconcile_tell(task, ours->ns,
                       theirs ? "copied again: its options cannot be changed in place"
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

/* A list may be short, above all where a role was taken away: each is asked for by name before it
 * counts as gone. */
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

/* Drops one that the source does not list: never without a claim of the job's own records. A
 * collection that is still in the table is left to its event; the cutover asks about one that has
 * none (tow_copy_gaps). */
static bool drop_one_extra(task_t *task, const tow_collection_info_t *info, tow_error_t *error)
{
    tow_copy_t *copy = task->copy;
    tow_whose_t whose;
    bool gone;

    if (!tow_copy_is_ours(copy, info)) {
        if (!tow_copy_whose(copy, task->destination, info->database, info->name, &whose, error))
            return false;
        if (whose == TOW_WHOSE_FOREIGN)
            tow_copy_tell_foreign(copy, info->ns);
        if (whose != TOW_WHOSE_OURS)
            return true;
    }
    if (copy->options.claims &&
        tow_namespaces_find(copy->options.namespaces, info->database, info->name))
        return true;
    if (!is_gone(task, info, &gone, error))
        return false;
    if (!gone)
        return true;
    if (!tow_copy_unmake(copy, task->destination, info->database, info->name, &whose, error))
        return false;
    if (whose != TOW_WHOSE_FOREIGN)
        tow_reconcile_tell(task, info->ns, "dropped: the source does not have it any more");
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
    bool ok;

    if (task->how == TOW_RECONCILE_LAST)
        tow_copy_forget_ttl(task->copy);
    ok = tow_catalog_read(task->source, NULL, &ours, error);

    if (!ok)
        return false;
    ok = tow_copy_leave_out_states(task->destination, &ours, error) &&
         tow_catalog_read(task->destination, NULL, &theirs, error) &&
         tow_copy_leave_out_states(task->destination, &theirs, error) &&
         (task->copy->options.keep_extra || drop_extra(task, &ours, &theirs, error));
    for (size_t i = 0; ok && i < ours.count; i++)
        if (ours.items[i].type == TOW_COLLECTION &&
            tow_filter_takes(task->copy->options.filter, ours.items[i].database,
                             ours.items[i].name))
            ok = reconcile_collection(task, &ours.items[i],
                                      tow_catalog_get(&theirs, ours.items[i].ns), error);
    if (ok && task->how != TOW_RECONCILE_ALONG)
        ok = tow_reconcile_views(task, &ours, &theirs, NULL, error);
    tow_catalog_clear(&ours);
    tow_catalog_clear(&theirs);
    return ok;
}

bool tow_copy_reconcile(tow_copy_t *copy, const char *database, const char *name,
                        tow_reconcile_t how, tow_error_t *error)
{
    task_t task = {.copy = copy, .takes = tow_takes(copy->options.destination), .how = how};
    bool ok;

    task.source = tow_conn_open(copy->options.source);
    task.destination = tow_conn_open(copy->options.destination);
    ok = name ? reconcile_one(&task, database, name, error) : reconcile_whole(&task, error);
    tow_conn_close(task.source);
    tow_conn_close(task.destination);
    return ok;
}

/* TTL -------------------------------------------------------------------------------------------*/

void tow_reconcile_note_ttl(tow_reconciling_t *task, const tow_collection_info_t *info)
{
    tow_copy_t *copy = task->copy;

    copy->ttl = tow_realloc(copy->ttl, (copy->ttl_count + 1) * 2 * sizeof *copy->ttl);
    copy->ttl[copy->ttl_count * 2] = tow_strdup(info->database);
    copy->ttl[copy->ttl_count++ * 2 + 1] = tow_strdup(info->name);
}

void tow_copy_forget_ttl(tow_copy_t *copy)
{
    for (uint32_t i = 0; i < copy->ttl_count * 2; i++)
        free(copy->ttl[i]);
    free(copy->ttl);
    copy->ttl = NULL;
    copy->ttl_count = 0;
}

/* In the background -----------------------------------------------------------------------------*/

static bool has_uuid(const uint8_t *uuid)
{
    static const uint8_t none[16];

    return memcmp(uuid, none, sizeof none) != 0;
}

/* The source's name still means the collection that the job knows, as far as anybody can tell. */
static bool is_the_known(const tow_copy_t *copy, const tow_collection_info_t *info)
{
    const tow_namespace_t *known =
        tow_namespaces_find(copy->options.namespaces, info->database, info->name);

    return !known || !has_uuid(known->uuid) || !memcmp(known->uuid, info->uuid, sizeof info->uuid);
}

/* Gone or another collection meanwhile, on one side or both: later events say so. */
static bool is_passing(const tow_error_t *error)
{
    return error->server_code == TOW_CODE_NAMESPACE_NOT_FOUND ||
           error->server_code == TOW_CODE_INDEX_NOT_FOUND ||
           error->server_code == TOW_CODE_BACKGROUND_OPERATION_IN_PROGRESS_FOR_NAMESPACE;
}

static bool alike_or_again(task_t *task, const tow_collection_info_t *ours,
                           const tow_collection_info_t *theirs, bool *out_again, tow_error_t *error)
{
    bool alike;

    if (!make_alike(task, ours, theirs, &alike, error))
        return false;
    *out_again = !alike;
    if (alike)
        return modify(task, ours, theirs, error) &&
               (is_being_copied(task, ours) || tow_reconcile_indexes(task, ours, error));
    tow_reconcile_tell(task, ours->ns, "copied again: its options cannot be changed in place");
    return true;
}

/* Where both sides have it. */
static bool alike_by_name(task_t *task, const char *database, const char *name, bool *out_again,
                          tow_error_t *error)
{
    tow_collection_info_t ours, theirs;
    bool found, there = false, ok;

    *out_again = false;
    if (!tow_catalog_find(task->source, database, name, &ours, &found, error))
        return false;
    if (!found)
        return true;
    ok = ours.type != TOW_COLLECTION || !is_the_known(task->copy, &ours) ||
         (tow_catalog_find(task->destination, database, name, &theirs, &there, error) &&
          (!there || theirs.type != TOW_COLLECTION || !tow_copy_is_ours(task->copy, &theirs) ||
           alike_or_again(task, &ours, &theirs, out_again, error)));
    if (there)
        tow_collection_info_clear(&theirs);
    tow_collection_info_clear(&ours);
    return ok;
}

bool tow_copy_alike(tow_worker_t *worker, const char *database, const char *name, bool *out_again,
                    tow_error_t *error)
{
    task_t task = {worker->copy, worker->source, worker->destination,
                   tow_takes(worker->copy->options.destination), TOW_RECONCILE_ALONG};

    return alike_by_name(&task, database, name, out_again, error) || is_passing(error);
}

bool tow_copy_restore_ttl(tow_copy_t *copy, tow_error_t *error)
{
    task_t task = {
        .copy = copy, .takes = tow_takes(copy->options.destination), .how = TOW_RECONCILE_TTL};
    bool ok = true, again;

    task.source = tow_conn_open(copy->options.source);
    task.destination = tow_conn_open(copy->options.destination);
    for (uint32_t i = 0; ok && i < copy->ttl_count; i++)
        ok = alike_by_name(&task, copy->ttl[i * 2], copy->ttl[i * 2 + 1], &again, error);
    tow_conn_close(task.source);
    tow_conn_close(task.destination);
    return ok ? true : tow_fail_context(error, "restore what expires");
}

/* Whether anything is to be changed; reads, and changes nothing. */
static bool differs(task_t *task, const tow_collection_info_t *ours,
                    const tow_collection_info_t *theirs, bool *out, tow_error_t *error)
{
    static const char *const held_off[] = {"expireAfterSeconds", NULL};
    tow_indexes_t wanted, there = {0};
    bool ok;

    *out = tow_reconcile_alike(task, &ours->options, &theirs->options, modifiable)
               ? !tow_reconcile_alike(task, &ours->options, &theirs->options, held_off)
               : !is_made_of(task, ours, theirs);
    if (*out)
        return true;
    if (!tow_indexes_read(task->source, ours->database, ours->name, &wanted, error))
        return false;
    ok = tow_indexes_read(task->destination, ours->database, ours->name, &there, error);
    *out = wanted.count != there.count;
    for (size_t i = 0; i < wanted.count && !*out; i++) {
        const bson_t *other = tow_index_find(&there, tow_index_name(&wanted.items[i]));
        bson_t specification;

        tow_index_spec(&wanted.items[i], &task->takes, true, &specification);
        *out = !other || !tow_index_is_same(&specification, other, task->how);
        bson_destroy(&specification);
    }
    tow_indexes_clear(&wanted);
    tow_indexes_clear(&there);
    return ok;
}

static bool look_at(task_t *task, const tow_collection_info_t *ours,
                    const tow_collection_info_t *theirs, tow_error_t *error)
{
    tow_copy_t *copy = task->copy;
    bool different;

    if (ours->type != TOW_COLLECTION || !theirs || theirs->type != TOW_COLLECTION ||
        !tow_filter_takes(copy->options.filter, ours->database, ours->name) ||
        !is_the_known(copy, ours) || is_being_copied(task, ours) || !tow_copy_is_ours(copy, theirs))
        return true;
    if (!differs(task, ours, theirs, &different, error))
        return false;
    if (different)
        tow_copy_make_alike(copy, ours->database, ours->name);
    return true;
}

/* A view that the destination refuses keeps nobody from looking at the rest. The cutover asks about
 * it. */
static bool look_at_views(task_t *task, const tow_catalog_t *ours, const tow_catalog_t *theirs,
                          tow_error_t *error)
{
    tow_names_t refused = {0};
    tow_error_t reason = {0};
    bool ok = tow_reconcile_views(task, ours, theirs, &refused, &reason);

    for (size_t i = 0; ok && i < refused.count; i++)
        if (tow_claims_first_told(task->copy->options.claims, refused.names[i]))
            tow_emit(&task->copy->options.sink, TOW_LEVEL_WARNING, "view_refused", "%s: %s",
                     refused.names[i], reason.message);
    tow_names_clear(&refused);
    if (!ok)
        *error = reason;
    return ok;
}

bool tow_copy_look_around(tow_worker_t *worker, bool whole, tow_error_t *error)
{
    tow_copy_t *copy = worker->copy;
    task_t task = {copy, worker->source, worker->destination, tow_takes(copy->options.destination),
                   TOW_RECONCILE_ALONG};
    tow_catalog_t ours, theirs = {0};
    bool ok = tow_catalog_read(task.source, NULL, &ours, error);

    ok = ok && tow_catalog_read(task.destination, NULL, &theirs, error) &&
         (atomic_load(&copy->look_ended) || look_at_views(&task, &ours, &theirs, error));
    for (size_t i = 0;
         ok && whole && i < ours.count && !atomic_load(&copy->look_ended) && !tow_copy_ended(copy);
         i++)
        ok = look_at(&task, &ours.items[i], tow_catalog_get(&theirs, ours.items[i].ns), error);
    tow_catalog_clear(&ours);
    tow_catalog_clear(&theirs);
    return ok;
}
