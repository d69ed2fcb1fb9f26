/* SPDX-License-Identifier: Apache-2.0 */
/* ended.c: see ended.h. */
#include "engine/cmd/ended.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/file.h"
#include "engine/base/memory.h"
#include "engine/cmd/json.h"

/* The line of a file of ours; NULL: there is none. */
static char *read_line(const char *path)
{
    int descriptor = tow_file_open(path, O_RDONLY);
    FILE *file = descriptor >= 0 ? fdopen(descriptor, "r") : NULL;
    char *line = NULL;
    size_t size = 0;

    if (file && getline(&line, &size, file) <= 0) {
        free(line);
        line = NULL;
    }
    if (file)
        fclose(file);
    if (line)
        line[strcspn(line, "\n")] = '\0';
    return line;
}

/* The last field of the record, as it stands there. */
static char *summary_of(const char *json)
{
    static const char field[] = "\"summary\":";
    const char *begin = strstr(json, field), *end = strrchr(json, '}');

    return begin && end
               ? tow_format("%.*s", (int)(end - begin - (long)strlen(field)), begin + strlen(field))
               : tow_strdup("null");
}

bool cmd_ended_read(const tow_options_t *options, const char *job, const char *since,
                    cmd_ended_t *out)
{
    char *path = tow_format("%s/towline-%s.ended", tow_options_get(options, "spool", 0), job);

    *out = (cmd_ended_t){
        .json = strchr(job, '/') ? NULL : read_line(path)}; /* a server may have named it */
    free(path);
    out->document = out->json ? cmd_document(out->json) : NULL;
    if (out->document &&
        !strcmp(cmd_text_of(out->document, "listen"), tow_options_get(options, "listen", 0)) &&
        strcmp(cmd_text_of(out->document, "endedAt"), since) >= 0) {
        out->summary = summary_of(out->json);
        return true;
    }
    cmd_ended_clear(out);
    return false;
}

void cmd_ended_clear(cmd_ended_t *ended)
{
    if (ended->document)
        bson_destroy(ended->document);
    free(ended->json);
    free(ended->summary);
    *ended = (cmd_ended_t){0};
}
