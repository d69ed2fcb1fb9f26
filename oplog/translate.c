/* translate.c: see translate.h. */
#include "oplog/translate.h"

#include <string.h>

#include "engine/state/write.h"

/* A document that `update` writes as it stands. */
static tow_statement_t translate_document(const bson_iter_t *field, bson_t *document)
{
    const uint8_t *data;
    uint32_t length;

    if (!BSON_ITER_HOLDS_DOCUMENT(field))
        return TOW_STATEMENT_REFETCH;
    bson_iter_document(field, &length, &data);
    if (!bson_init_static(document, data, length) || !tow_is_updatable(document))
        return TOW_STATEMENT_REFETCH;
    return TOW_STATEMENT_REPLACE;
}

tow_statement_t tow_translate(const bson_t *event, bson_t *document, bool merged)
{
    bson_iter_t iter, field;
    const char *operation;

    if (!bson_iter_init_find(&iter, event, "operationType") || !BSON_ITER_HOLDS_UTF8(&iter))
        return TOW_STATEMENT_REFETCH;
    operation = bson_iter_utf8(&iter, NULL);
    if (!strcmp(operation, "delete"))
        return merged ? TOW_STATEMENT_REFETCH : TOW_STATEMENT_DELETE;
    if ((!strcmp(operation, "insert") || !strcmp(operation, "replace")) &&
        bson_iter_init_find(&field, event, "fullDocument"))
        return translate_document(&field, document);
    return TOW_STATEMENT_REFETCH;
}
