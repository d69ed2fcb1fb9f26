/* report.c: collects differences, and writes the report as JSON. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "verify/internal.h"

enum { ID_TEXT = 512, BOUND_TEXT = 160 };

static const char *const kind_names[] = {[TOW_DIFFERENCE_MISSING] = "missing",
                                         [TOW_DIFFERENCE_EXTRA] = "extra",
                                         [TOW_DIFFERENCE_CONTENT] = "content",
                                         [TOW_DIFFERENCE_OPTIONS] = "options",
                                         [TOW_DIFFERENCE_INDEXES] = "indexes"};

static void bound_text(const bson_value_t *bound, char *out, size_t size)
{
    bson_t holder = BSON_INITIALIZER;
    bson_iter_t iter;

    *out = 0;
    if (bson_append_value(&holder, "", 0, bound) && bson_iter_init(&iter, &holder) &&
        bson_iter_next(&iter))
        tow_value_text(tow_value_of(&iter), out, size);
    bson_destroy(&holder);
}

static char *range_text(const tow_verify_unit_t *unit)
{
    char min[BOUND_TEXT] = "", max[BOUND_TEXT] = "";

    if (unit->has_min)
        bound_text(&unit->min, min, sizeof min);
    if (unit->has_max)
        bound_text(&unit->max, max, sizeof max);
    return tow_format("%s%s, %s)", unit->has_min ? "[" : "(", unit->has_min ? min : "-inf",
                      unit->has_max ? max : "+inf");
}

static void clear_difference(tow_difference_t *difference)
{
    free(difference->ns);
    free(difference->id);
    free(difference->path);
    free(difference->range);
    if (difference->id_value.value_type != BSON_TYPE_EOD)
        bson_value_destroy(&difference->id_value);
}

bool tow_verify_list_full(tow_verify_run_t *run)
{
    bool full;

    pthread_mutex_lock(&run->lock);
    full = run->report->difference_count >= run->options->max_differences;
    pthread_mutex_unlock(&run->lock);
    return full;
}

void tow_verify_count(tow_verify_run_t *run, tow_verify_item_t *item, uint64_t differences)
{
    pthread_mutex_lock(&run->lock);
    item->differences += differences;
    run->report->differences_total += differences;
    pthread_mutex_unlock(&run->lock);
}

void tow_verify_add(tow_verify_run_t *run, tow_verify_item_t *item, tow_difference_kind_t kind,
                    const tow_value_t *id, const char *path, const tow_verify_unit_t *unit)
{
    tow_verify_report_t *report = run->report;
    tow_difference_t difference = {.kind = kind};
    char text[ID_TEXT];

    tow_verify_count(run, item, 1);
    if (tow_verify_list_full(run))
        return;
    difference.ns = tow_strdup(item->ns);
    difference.path = path ? tow_strdup(path) : NULL;
    difference.range = unit ? range_text(unit) : NULL;
    if (id) {
        tow_value_text(*id, text, sizeof text);
        difference.id = tow_strdup(text);
        tow_value_to_bson(*id, &difference.id_value);
    }

    pthread_mutex_lock(&run->lock);
    /* Another worker may have taken the last place meanwhile. */
    if (report->difference_count < run->options->max_differences) {
        /* The room grows by powers of two, so the count alone says when it is used up. */
        if ((report->difference_count & (report->difference_count - 1)) == 0)
            report->differences = tow_realloc(
                report->differences,
                (report->difference_count ? report->difference_count * 2 : 1) * sizeof difference);
        report->differences[report->difference_count++] = difference;
        difference = (tow_difference_t){0};
    }
    pthread_mutex_unlock(&run->lock);
    clear_difference(&difference);
}

static int by_place(const void *left, const void *right)
{
    const tow_difference_t *a = left, *b = right;
    int order = strcmp(a->ns, b->ns);

    if (order)
        return order;
    if (!a->id || !b->id) {
        order = (a->id != NULL) - (b->id != NULL);
        if (order || !a->path || !b->path)
            return order;
        return strcmp(a->path, b->path);
    }
    return tow_bson_value_compare(&a->id_value, &b->id_value);
}

void tow_verify_report_finish(tow_verify_run_t *run)
{
    tow_verify_report_t *report = run->report;

    report->collections = tow_alloc((run->item_count + 1) * sizeof *report->collections);
    for (uint32_t i = 0; i < run->item_count; i++) {
        const tow_verify_item_t *item = &run->items[i];
        const tow_collection_info_t *info = item->source ? item->source : item->destination;
        tow_verify_collection_t *out;

        if (item->unsupported)
            continue;
        out = &report->collections[report->collection_count++];
        out->ns = tow_strdup(item->ns);
        out->view = info->type == TOW_VIEW;
        out->differences = item->differences;
        out->equal = item->differences == 0;
        out->source_documents = item->totals[TOW_SOURCE].documents;
        out->source_bytes = item->totals[TOW_SOURCE].bytes;
        out->destination_documents = item->totals[TOW_DESTINATION].documents;
        out->destination_bytes = item->totals[TOW_DESTINATION].bytes;
        tow_digest_text(item->totals[TOW_SOURCE].sum, out->source_hash);
        tow_digest_text(item->totals[TOW_DESTINATION].sum, out->destination_hash);
    }
    if (report->difference_count)
        qsort(report->differences, report->difference_count, sizeof *report->differences, by_place);
    report->equal = report->differences_total == 0;
}

void tow_verify_report_destroy(tow_verify_report_t *report)
{
    if (!report)
        return;
    for (uint32_t i = 0; i < report->collection_count; i++)
        free(report->collections[i].ns);
    free(report->collections);
    for (uint32_t i = 0; i < report->difference_count; i++)
        clear_difference(&report->differences[i]);
    free(report->differences);
    free(report);
}

/* JSON ------------------------------------------------------------------------------------------
 */

static void put(tow_buffer_t *out, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void put(tow_buffer_t *out, const char *format, ...)
{
    char text[256];
    va_list arguments;
    int length;

    va_start(arguments, format);
    length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    tow_buffer_append(out, text, (size_t)length < sizeof text ? (size_t)length : sizeof text - 1);
}

/* Field names need not be UTF-8, JSON must be: bytes that are not are shown as \ufffd. */
static void put_string(tow_buffer_t *out, const char *text)
{
    tow_buffer_append(out, "\"", 1);
    while (*text) {
        uint8_t c = (uint8_t)*text;
        size_t length = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;

        if (c < 0x20 || c == '"' || c == '\\') {
            put(out, c < 0x20 ? "\\u%04x" : "\\%c", c);
        } else if (strnlen(text, length) == length && bson_utf8_validate(text, length, false)) {
            tow_buffer_append(out, text, length);
        } else {
            put(out, "\\ufffd");
            length = 1;
        }
        text += length;
    }
    tow_buffer_append(out, "\"", 1);
}

static void put_field(tow_buffer_t *out, const char *name, const char *text)
{
    if (!text)
        return;
    put(out, ",\"%s\":", name);
    put_string(out, text);
}

static void put_side(tow_buffer_t *out, const char *name, uint64_t documents, uint64_t bytes,
                     const char *hash)
{
    put(out, ",\"%s\":{\"documents\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"hash\":\"%s\"}", name,
        documents, bytes, hash);
}

static void put_collection(tow_buffer_t *out, const tow_verify_collection_t *collection)
{
    tow_buffer_append(out, "{\"ns\":", 6);
    put_string(out, collection->ns);
    put(out, ",\"type\":\"%s\",\"equal\":%s", collection->view ? "view" : "collection",
        collection->equal ? "true" : "false");
    if (!collection->view) {
        put_side(out, "source", collection->source_documents, collection->source_bytes,
                 collection->source_hash);
        put_side(out, "destination", collection->destination_documents,
                 collection->destination_bytes, collection->destination_hash);
    }
    put(out, ",\"differences\":%" PRIu64 "}", collection->differences);
}

char *tow_verify_report_json(const tow_verify_report_t *report)
{
    tow_timestamp_t time = tow_optime_split(report->time);
    tow_buffer_t out = {0};

    put(&out, "{\"equal\":%s,\"seconds\":%.3f,\"seed\":\"%016" PRIx64 "\"",
        report->equal ? "true" : "false", report->seconds, report->seed);
    put(&out, ",\"sourceTime\":{\"t\":%" PRIu32 ",\"i\":%" PRIu32 "}", time.t, time.i);
    put(&out, ",\"differencesTotal\":%" PRIu64 ",\"collections\":[", report->differences_total);
    for (uint32_t i = 0; i < report->collection_count; i++) {
        if (i)
            put(&out, ",");
        put_collection(&out, &report->collections[i]);
    }
    put(&out, "],\"differences\":[");
    for (uint32_t i = 0; i < report->difference_count; i++) {
        const tow_difference_t *difference = &report->differences[i];

        put(&out, "%s{\"kind\":\"%s\"", i ? "," : "", kind_names[difference->kind]);
        put_field(&out, "ns", difference->ns);
        put_field(&out, "id", difference->id);
        put_field(&out, "path", difference->path);
        put_field(&out, "range", difference->range);
        put(&out, "}");
    }
    put(&out, "]}");
    tow_buffer_append(&out, "", 1);
    return (char *)out.data;
}
