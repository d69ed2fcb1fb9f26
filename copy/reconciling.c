/* SPDX-License-Identifier: Apache-2.0 */
/* reconciling.c: what all parts of a reconciliation do: send, compare, report, remember what
 * expires. */
#include <stdlib.h>

#include "copy/internal.h"

void tow_reconcile_tell(const tow_reconciling_t *task, const char *ns, const char *what)
{
    tow_emit(&task->copy->options.sink, TOW_LEVEL_INFO, "reconciled", "%s: %s", ns, what);
}

bool tow_reconcile_run(const tow_reconciling_t *task, const char *database, const bson_t *command,
                       tow_error_t *error)
{
    tow_send_options_t send = {.flags = TOW_SEND_WRITE | TOW_SEND_RETRY};
    bson_t reply;
    bool ok = tow_conn_command(task->destination, database, command, &send, &reply, error);

    bson_destroy(&reply);
    return ok;
}

bool tow_reconcile_alike(const tow_reconciling_t *task, const bson_t *ours, const bson_t *theirs,
                         const char *const *except)
{
    char *name = tow_options_difference(ours, theirs, &task->takes, except);

    free(name);
    return !name;
}

bool tow_reconcile_is_copied(const tow_reconciling_t *task, const tow_collection_info_t *info)
{
    tow_namespaces_t *table = task->copy->options.namespaces;
    tow_namespace_t *known = tow_namespaces_find(table, info->database, info->name);

    return known && !tow_namespaces_copied(table, known);
}

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
