/* SPDX-License-Identifier: Apache-2.0 */
/* files.h: what the server answers with as it is: the page and the description of the API. The
 * build makes the table of the files themselves (embed.py). */
#ifndef TOW_HTTP_FILES_H
#define TOW_HTTP_FILES_H

#include <stddef.h>

typedef struct {
    const char *path; /* below engine/http: "page/index.html"; NULL ends the table */
    const unsigned char *data;
    size_t length;
} tow_file_t;

extern const tow_file_t tow_files[];

const tow_file_t *tow_file_find(const char *path); /* NULL: there is none */
const char *tow_file_type(const tow_file_t *file); /* the Content-Type */

#endif
