/* SPDX-License-Identifier: Apache-2.0 */
/* options.c: makes the options of a collection those of the source. */
#include <stdlib.h>
#include <string.h>

#include "copy/internal.h"

typedef tow_reconciling_t task_t;

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

bool tow_reconcile_modify(task_t *task, const tow_collection_info_t *ours,
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

bool tow_reconcile_options(task_t *task, const tow_collection_info_t *ours,
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

bool tow_reconcile_options_differ(const task_t *task, const tow_collection_info_t *ours,
                                  const tow_collection_info_t *theirs)
{
    static const char *const held_off[] = {"expireAfterSeconds", NULL};

    return tow_reconcile_alike(task, &ours->options, &theirs->options, modifiable)
               ? !tow_reconcile_alike(task, &ours->options, &theirs->options, held_off)
               : !is_made_of(task, ours, theirs);
}
