/* SPDX-License-Identifier: Apache-2.0 */
/* names.h: a list of names that grows. */
#ifndef TOW_BASE_NAMES_H
#define TOW_BASE_NAMES_H

#include <stddef.h>

typedef struct {
    char **names;
    size_t count;
} tow_names_t;

void tow_names_add(tow_names_t *names, const char *name); /* a copy of it */
void tow_names_clear(tow_names_t *names);

#endif
