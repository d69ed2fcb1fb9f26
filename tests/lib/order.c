/* SPDX-License-Identifier: Apache-2.0 */
/* order.c: whether documents come in the order of their _ids as the engine knows it: BSON documents
 * on stdin, one behind the other. Says how many, or which two are the wrong way round (exit status
 * 1). */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/state/key.h"

static tow_value_t id_of(const bson_t *document)
{
    tow_value_t id;

    if (document && tow_value_id(document, &id))
        return id;
    fprintf(stderr, "order: a document without _id\n");
    exit(2);
}

int main(void)
{
    bson_reader_t *reader = bson_reader_new_from_fd(STDIN_FILENO, false);
    bson_t *before = NULL;
    const bson_t *document;
    bool end = false;
    size_t count = 0;

    while ((document = bson_reader_read(reader, &end))) {
        if (before && tow_value_compare(id_of(before), id_of(document)) >= 0) {
            fprintf(stderr, "order: %zu: %s stands before %s\n", count,
                    bson_as_canonical_extended_json(before, NULL),
                    bson_as_canonical_extended_json(document, NULL));
            return 1;
        }
        if (before)
            bson_destroy(before);
        before = bson_copy(document);
        count++;
    }
    printf("%zu\n", count);
    return end ? 0 : 2;
}
