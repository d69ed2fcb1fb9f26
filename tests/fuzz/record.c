/* SPDX-License-Identifier: Apache-2.0 */
/* record.c: any line as the record of a good end. What is taken from it is text, never counts more
 * collections than it lists, and becomes a summary that is JSON. */
#include "engine/base/memory.h"
#include "engine/job/end_record.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char names[2][4] = {"d.a", "d.b"};
    tow_collection_info_t items[2] = {{.ns = names[0]}, {.ns = names[1]}};
    tow_catalog_t there = {.items = items, .count = 2};
    char *line = tow_format("%.*s", (int)size, (const char *)data);
    bson_t *record = tow_end_record_parse(line), *summary;
    uint32_t listed, named, held;
    char *json;

    if (record) {
        tow_end_record_count(record, &there, &listed, &named, &held);
        HOLDS(held <= named && named <= listed);
        HOLDS(bson_utf8_validate(tow_end_record_text(record, "endedAt"),
                                 strlen(tow_end_record_text(record, "endedAt")), false));
        tow_end_record_is_other(record, "deployment",
                                "set id=65f1c0ffee65f1c0ffee65f1 hosts=h:1 name=a");
        json = tow_end_record_summary(record);
        summary = tow_end_record_parse(json);
        HOLDS(summary);
        bson_destroy(summary);
        free(json);
        bson_destroy(record);
    }
    free(line);
    return 0;
}
