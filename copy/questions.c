/* SPDX-License-Identifier: Apache-2.0 */
/* questions.c: what the source has under a name and no event has explained so far.
 *
 * Some changes of a catalog are in no change stream: before 6.0 a collection that createIndexes or
 * cloneCollectionAsCapped made, and on any version what became of a name while the stream was lost;
 * movePrimary gives a collection another identity and reports a drop at most. Mostly an event
 * explains it a moment later. So what is found is a question, with a time of the source after the
 * listing was read: once every event up to that time is carried out, what the job knows under the
 * name has changed, or no event will ever change it, and the name is copied again. */
#include <stdlib.h>
#include <string.h>

#include "copy/internal.h"
#include "engine/link/reply.h"

void tow_questions_clear(tow_questions_t *questions)
{
    for (size_t i = 0; i < questions->count; i++) {
        free(questions->items[i].database);
        free(questions->items[i].name);
    }
    free(questions->items);
    *questions = (tow_questions_t){0};
}

static void add(tow_questions_t *questions, const tow_collection_info_t *info,
                const tow_namespace_t *known)
{
    questions->items =
        tow_realloc(questions->items, (questions->count + 1) * sizeof *questions->items);
    questions->items[questions->count++] =
        (tow_question_t){tow_strdup(info->database), tow_strdup(info->name), known};
}

/* What a server fills before it renames it (temp) has an event then. What is somebody else's on the
 * destination the cutover asks about. */
static bool is_question(tow_copy_t *copy, const tow_collection_info_t *ours,
                        const tow_collection_info_t *theirs, const tow_namespace_t **out_known)
{
    tow_namespaces_t *table = copy->options.namespaces;
    tow_namespace_t *known = tow_namespaces_find(table, ours->database, ours->name);

    *out_known = known;
    return ours->type == TOW_COLLECTION && !tow_field_is_set(&ours->options, "temp") &&
           tow_filter_takes(copy->options.filter, ours->database, ours->name) &&
           (!theirs || tow_copy_is_ours(copy, theirs)) &&
           (!known || (tow_namespaces_copied(table, known) && !tow_copy_may_be(known, ours)));
}

void tow_copy_ask(tow_copy_t *copy, const tow_catalog_t *ours, const tow_catalog_t *theirs,
                  tow_questions_t *out)
{
    const tow_namespace_t *known;

    for (size_t i = 0; i < ours->count; i++)
        if (is_question(copy, &ours->items[i], tow_catalog_get(theirs, ours->items[i].ns), &known))
            add(out, &ours->items[i], known);
}

void tow_copy_take_questions(tow_copy_t *copy, tow_questions_t *out)
{
    tow_copy_lock(copy);
    *out = copy->questions;
    copy->questions = (tow_questions_t){0};
    tow_copy_unlock(copy);
}

void tow_copy_keep_questions(tow_copy_t *copy, tow_questions_t *questions)
{
    tow_questions_t old;

    tow_copy_lock(copy);
    old = copy->questions;
    copy->questions = *questions;
    tow_copy_unlock(copy);
    tow_questions_clear(&old);
}

bool tow_copy_answer(tow_copy_t *copy, const tow_questions_t *questions, tow_error_t *error)
{
    for (size_t i = 0; i < questions->count; i++) {
        const tow_question_t *question = &questions->items[i];
        bool found;

        if (tow_namespaces_find(copy->options.namespaces, question->database, question->name) !=
            question->known)
            continue;
        tow_emit(&copy->options.sink, TOW_LEVEL_INFO, "reconciled", "%s.%s: %s", question->database,
                 question->name,
                 question->known ? "copied again: the source has another collection of that name, "
                                   "which no event of its change stream explains"
                                 : "copied: no event of the source's change stream reported it");
        if (!tow_copy_again(copy, question->database, question->name, &found, error))
            return false;
    }
    return true;
}
