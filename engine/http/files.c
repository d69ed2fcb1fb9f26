/* SPDX-License-Identifier: Apache-2.0 */
/* files.c: see files.h. */
#include "engine/http/files.h"

#include <string.h>

const tow_file_t *tow_file_find(const char *path)
{
    for (const tow_file_t *file = tow_files; file->path; file++)
        if (!strcmp(file->path, path))
            return file;
    return NULL;
}

const char *tow_file_type(const tow_file_t *file)
{
    static const struct {
        const char *ending, *type;
    } types[] = {{".html", "text/html; charset=utf-8"},
                 {".css", "text/css; charset=utf-8"},
                 {".js", "text/javascript; charset=utf-8"},
                 {".svg", "image/svg+xml"},
                 {".json", "application/json"}};
    const char *ending = strrchr(file->path, '.');

    for (size_t i = 0; ending && i < sizeof types / sizeof *types; i++)
        if (!strcmp(types[i].ending, ending))
            return types[i].type;
    return "text/plain; charset=utf-8";
}
