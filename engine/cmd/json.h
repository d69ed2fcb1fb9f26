/* SPDX-License-Identifier: Apache-2.0 */
/* json.h: reads fields of the library's JSON for the tables on stdout. Paths are dotted. */
#ifndef TOW_CMD_JSON_H
#define TOW_CMD_JSON_H

#include <bson/bson.h>

/* JSON as a document whose texts are printable, since all of them are to be printed; NULL: it is
 * none. The caller destroys it. */
bson_t *cmd_document(const char *json);
double cmd_number_of(const bson_t *document, const char *path);    /* -1: no number there */
const char *cmd_text_of(const bson_t *document, const char *path); /* "": no text there; borrowed */
bool cmd_flag_of(const bson_t *document, const char *path);        /* false: no flag there */
/* Calls `print` or `take` for each document of an array. */
void cmd_for_each(const bson_t *document, const char *path, void (*print)(const bson_t *));
void cmd_each(const bson_t *document, const char *path, void (*take)(void *, const bson_t *),
              void *data);

#endif
