/* translate.c: see translate.h. */
#include "oplog/translate.h"

#include <string.h>

#include "engine/link/reply.h"
#include "engine/state/write.h"

/* A document that `update` writes as it stands. */
static tow_statement_t translate_document(const bson_iter_t *field, bson_t *document)
{
    if (!tow_iter_document(field, document) || !tow_is_updatable(document))
        return TOW_STATEMENT_REFETCH;
    return TOW_STATEMENT_REPLACE;
}

tow_statement_t tow_translate(const bson_t *event, bson_t *document, bool merged)
{
    const char *operation;
    bson_iter_t field;

    if (!tow_field_text(event, "operationType", &operation))
        return TOW_STATEMENT_REFETCH;
    if (!strcmp(operation, "delete"))
        return merged ? TOW_STATEMENT_REFETCH : TOW_STATEMENT_DELETE;
    if ((!strcmp(operation, "insert") || !strcmp(operation, "replace")) &&
        bson_iter_init_find(&field, event, "fullDocument"))
        return translate_document(&field, document);
    return TOW_STATEMENT_REFETCH;
}
