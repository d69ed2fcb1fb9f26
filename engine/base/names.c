/* SPDX-License-Identifier: Apache-2.0 */
/* names.c: see names.h. */
#include "engine/base/names.h"

#include <stdlib.h>

#include "engine/base/memory.h"

void tow_names_add(tow_names_t *names, const char *name)
{
    names->names = tow_realloc(names->names, (names->count + 1) * sizeof *names->names);
    names->names[names->count++] = tow_strdup(name);
}

void tow_names_clear(tow_names_t *names)
{
    for (size_t i = 0; i < names->count; i++)
        free(names->names[i]);
    free(names->names);
    *names = (tow_names_t){0};
}
