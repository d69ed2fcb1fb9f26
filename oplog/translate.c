/* SPDX-License-Identifier: Apache-2.0 */
/* translate.c: see translate.h. */
#include "oplog/translate.h"

#include "engine/link/reply.h"
#include "engine/state/write.h"
#include "oplog/record.h"

/* A document that `update` writes as it stands. */
static tow_statement_t translate_document(const bson_iter_t *field, bson_t *document)
{
    if (!tow_iter_document(field, document) || !tow_is_updatable(document))
        return TOW_STATEMENT_REFETCH;
    return TOW_STATEMENT_REPLACE;
}

tow_statement_t tow_translate(const bson_t *event, bson_t *document, bool merged)
{
    tow_operation_t operation;
    const char *text;
    bson_iter_t field;

    if (!tow_field_text(event, "operationType", &text))
        return TOW_STATEMENT_REFETCH;
    operation = tow_operation_of(text);
    if (merged && operation != TOW_OPERATION_INSERT)
        return TOW_STATEMENT_REFETCH;
    if (operation == TOW_OPERATION_DELETE)
        return TOW_STATEMENT_DELETE;
    if ((operation == TOW_OPERATION_INSERT || operation == TOW_OPERATION_REPLACE) &&
        bson_iter_init_find(&field, event, "fullDocument"))
        return translate_document(&field, document);
    return TOW_STATEMENT_REFETCH;
}
