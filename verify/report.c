/* SPDX-License-Identifier: Apache-2.0 */
/* report.c: collects differences, and writes the report as JSON. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/json.h"
#include "verify/internal.h"

enum { ID_TEXT = 512, BOUND_TEXT = 160 };

static const char *const kind_names[] = {
    [TOW_DIFFERENCE_MISSING] = "missing",     [TOW_DIFFERENCE_EXTRA] = "extra",
    [TOW_DIFFERENCE_DIFFERENT] = "different", [TOW_DIFFERENCE_OPTIONS] = "options",
    [TOW_DIFFERENCE_INDEXES] = "indexes",     [TOW_DIFFERENCE_ORDER] = "order",
    [TOW_DIFFERENCE_DUPLICATE] = "duplicate"};

static const char *const mode_names[] = {[TOW_VERIFY_BYTES] = "bytes",
                                         [TOW_VERIFY_FIELD_ORDER] = "field-order",
                                         [TOW_VERIFY_NUMERIC_TYPE] = "numeric-type"};

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

void tow_verify_unsettled(tow_verify_run_t *run, uint64_t documents)
{
    pthread_mutex_lock(&run->lock);
    run->report->unsettled += documents;
    pthread_mutex_unlock(&run->lock);
}

/* Takes the difference. */
static void list_difference(tow_verify_report_t *report, tow_difference_t difference)
{
    /* The room grows by powers of two, so the count alone says when it is used up. */
    if ((report->difference_count & (report->difference_count - 1)) == 0)
        report->differences = tow_realloc(
            report->differences,
            (report->difference_count ? report->difference_count * 2 : 1) * sizeof difference);
    report->differences[report->difference_count++] = difference;
}

void tow_verify_add(tow_verify_run_t *run, tow_verify_item_t *item, const tow_finding_t *finding)
{
    tow_verify_report_t *report = run->report;
    tow_difference_t difference = {.kind = finding->kind,
                                   .source_length = finding->lengths[TOW_SOURCE],
                                   .destination_length = finding->lengths[TOW_DESTINATION],
                                   .repaired = finding->repaired,
                                   .outside = finding->outside};
    char text[ID_TEXT];

    tow_verify_count(run, item, 1);
    difference.ns = tow_strdup(item->ns);
    difference.path = finding->path ? tow_strdup(finding->path) : NULL;
    difference.range = finding->unit ? range_text(finding->unit) : NULL;
    if (finding->id) {
        tow_value_text(*finding->id, text, sizeof text);
        difference.id = tow_strdup(text);
        tow_value_to_bson(*finding->id, &difference.id_value);
    }

    pthread_mutex_lock(&run->lock);
    item->repaired += finding->repaired;
    report->repaired_total += finding->repaired;
    if (report->difference_count < run->options->max_differences) {
        list_difference(report, difference);
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
        out->view = info && info->type == TOW_VIEW;
        out->differences = item->differences;
        out->repaired = item->repaired;
        out->equal = item->differences == item->repaired;
        out->source_documents = item->totals[TOW_SOURCE].documents;
        out->source_bytes = item->totals[TOW_SOURCE].bytes;
        out->destination_documents = item->totals[TOW_DESTINATION].documents;
        out->destination_bytes = item->totals[TOW_DESTINATION].bytes;
        tow_digest_text(item->totals[TOW_SOURCE].sum, out->source_hash);
        tow_digest_text(item->totals[TOW_DESTINATION].sum, out->destination_hash);
    }
    if (report->difference_count)
        qsort(report->differences, report->difference_count, sizeof *report->differences, by_place);
    report->equal = report->differences_total == report->repaired_total && !report->unsettled;
}

/* The catalog -------------------------------------------------------------------------------- */

static bool is_of_catalog(const tow_difference_t *difference)
{
    return difference->kind == TOW_DIFFERENCE_OPTIONS || difference->kind == TOW_DIFFERENCE_INDEXES;
}

static bool is_among(const tow_verify_report_t *report, const tow_difference_t *wanted)
{
    for (uint32_t i = 0; i < report->difference_count; i++)
        if (report->differences[i].kind == wanted->kind &&
            !strcmp(report->differences[i].ns, wanted->ns) &&
            !strcmp(report->differences[i].path, wanted->path))
            return true;
    return false;
}

static tow_verify_collection_t *find_collection(tow_verify_report_t *report, const char *ns)
{
    for (uint32_t i = 0; i < report->collection_count; i++)
        if (!strcmp(report->collections[i].ns, ns))
            return &report->collections[i];
    return NULL;
}

static void count_of_catalog(tow_verify_report_t *report, const tow_difference_t *difference,
                             int differences, int repaired)
{
    tow_verify_collection_t *collection = find_collection(report, difference->ns);

    report->differences_total += (uint64_t)differences;
    report->repaired_total += (uint64_t)repaired;
    if (!collection)
        return; /* it was dropped meanwhile */
    collection->differences += (uint64_t)differences;
    collection->repaired += (uint64_t)repaired;
    collection->equal = collection->differences == collection->repaired;
}

void tow_verify_report_catalog(tow_verify_report_t *report, const tow_verify_report_t *before,
                               const tow_verify_report_t *after)
{
    uint32_t kept = 0;

    /* What the comparison of the documents saw of the catalog was half repaired. */
    for (uint32_t i = 0; i < report->difference_count; i++) {
        if (is_of_catalog(&report->differences[i])) {
            count_of_catalog(report, &report->differences[i], -1,
                             report->differences[i].repaired ? -1 : 0);
            clear_difference(&report->differences[i]);
        } else {
            report->differences[kept++] = report->differences[i];
        }
    }
    report->difference_count = kept;
    if (!kept) {
        free(report->differences);
        report->differences = NULL;
    } else {
        uint32_t room = 1;

        while (room < kept)
            room *= 2;
        report->differences = tow_realloc(report->differences, room * sizeof *report->differences);
    }
    for (int side = 0; side < 2; side++) {
        const tow_verify_report_t *from = side ? after : before;

        for (uint32_t i = 0; i < from->difference_count; i++) {
            const tow_difference_t *found = &from->differences[i];
            tow_difference_t copy = {.kind = found->kind, .repaired = !is_among(after, found)};

            if (side && is_among(before, found))
                continue;
            copy.ns = tow_strdup(found->ns);
            copy.path = tow_strdup(found->path);
            count_of_catalog(report, found, 1, copy.repaired);
            list_difference(report, copy);
        }
    }
    if (report->difference_count)
        qsort(report->differences, report->difference_count, sizeof *report->differences, by_place);
    report->equal = report->differences_total == report->repaired_total && !report->unsettled;
}

static tow_difference_t copy_difference(const tow_difference_t *from)
{
    tow_difference_t copy = *from;

    copy.ns = tow_strdup(from->ns);
    copy.id = from->id ? tow_strdup(from->id) : NULL;
    copy.path = from->path ? tow_strdup(from->path) : NULL;
    copy.range = from->range ? tow_strdup(from->range) : NULL;
    if (from->id_value.value_type != BSON_TYPE_EOD)
        bson_value_copy(&from->id_value, &copy.id_value);
    return copy;
}

void tow_verify_report_merge(tow_verify_report_t *report, const tow_verify_report_t *earlier,
                             uint32_t max_differences)
{
    report->differences_total += earlier->repaired_total;
    report->repaired_total += earlier->repaired_total;
    for (uint32_t i = 0; i < earlier->collection_count; i++) {
        const tow_verify_collection_t *from = &earlier->collections[i];
        tow_verify_collection_t *to = find_collection(report, from->ns);

        if (to) {
            to->differences += from->repaired;
            to->repaired += from->repaired;
        }
    }
    for (uint32_t i = 0; i < earlier->difference_count; i++)
        if (earlier->differences[i].repaired && report->difference_count < max_differences) {
            list_difference(report, copy_difference(&earlier->differences[i]));
        }
    if (report->difference_count)
        qsort(report->differences, report->difference_count, sizeof *report->differences, by_place);
}

const char *tow_difference_kind_name(tow_difference_kind_t kind)
{
    return kind_names[kind];
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

/* JSON ----------------------------------------------------------------------------------------- */

static void put_side(tow_json_t *out, const char *name, uint64_t documents, uint64_t bytes,
                     const char *hash)
{
    tow_json_begin(out, name);
    tow_json_put_count(out, "documents", documents);
    tow_json_put_count(out, "bytes", bytes);
    tow_json_put_text(out, "hash", hash);
    tow_json_end(out);
}

static void put_collection(tow_json_t *out, const tow_verify_collection_t *collection)
{
    tow_json_begin(out, NULL);
    tow_json_put_text(out, "ns", collection->ns);
    tow_json_put_text(out, "type", collection->view ? "view" : "collection");
    tow_json_put_flag(out, "equal", collection->equal);
    if (!collection->view) {
        put_side(out, "source", collection->source_documents, collection->source_bytes,
                 collection->source_hash);
        put_side(out, "destination", collection->destination_documents,
                 collection->destination_bytes, collection->destination_hash);
    }
    tow_json_put_count(out, "differences", collection->differences);
    tow_json_put_count(out, "repaired", collection->repaired);
    tow_json_end(out);
}

static void put_given(tow_json_t *out, const char *name, const char *text)
{
    if (text)
        tow_json_put_text(out, name, text);
}

static void put_difference(tow_json_t *out, const tow_difference_t *difference)
{
    tow_json_begin(out, NULL);
    tow_json_put_text(out, "kind", kind_names[difference->kind]);
    put_given(out, "ns", difference->ns);
    put_given(out, "id", difference->id);
    put_given(out, "path", difference->path);
    put_given(out, "range", difference->range);
    if (difference->source_length)
        tow_json_put_count(out, "sourceLength", difference->source_length);
    if (difference->destination_length)
        tow_json_put_count(out, "destinationLength", difference->destination_length);
    if (difference->outside)
        tow_json_put_flag(out, "outside", true);
    tow_json_put_flag(out, "repaired", difference->repaired);
    tow_json_end(out);
}

static void put_totals(tow_json_t *out, const tow_verify_report_t *report)
{
    tow_timestamp_t time = tow_optime_split(report->time);
    char seed[20];

    snprintf(seed, sizeof seed, "%016" PRIx64, report->seed);
    tow_json_put_flag(out, "equal", report->equal);
    tow_json_put_text(out, "mode", mode_names[report->mode]);
    tow_json_put_number(out, "seconds", report->seconds, 3);
    tow_json_put_text(out, "seed", seed);
    tow_json_begin(out, "sourceTime");
    tow_json_put_count(out, "t", time.t);
    tow_json_put_count(out, "i", time.i);
    tow_json_end(out);
    tow_json_put_count(out, "differencesTotal", report->differences_total);
    tow_json_put_count(out, "repaired", report->repaired_total);
    tow_json_put_count(out, "unsettled", report->unsettled);
    tow_json_put_count(out, "rangesRead", report->ranges_read);
    tow_json_put_count(out, "rangesKept", report->ranges_kept);
    tow_json_put_count(out, "keysRead", report->keys_read);
}

char *tow_verify_report_json(const tow_verify_report_t *report)
{
    tow_json_t out = {0};

    tow_json_begin(&out, NULL);
    put_totals(&out, report);
    tow_json_begin_array(&out, "collections");
    for (uint32_t i = 0; i < report->collection_count; i++)
        put_collection(&out, &report->collections[i]);
    tow_json_end_array(&out);
    tow_json_begin_array(&out, "differences");
    for (uint32_t i = 0; i < report->difference_count; i++)
        put_difference(&out, &report->differences[i]);
    tow_json_end_array(&out);
    tow_json_end(&out);
    return tow_json_take(&out);
}
