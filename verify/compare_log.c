/* SPDX-License-Identifier: Apache-2.0 */
/* compare_log.c: compares a capped collection, whose natural order is content.
 *
 * Both sides are read whole, in natural order. Where the documents differ they are found as
 * everywhere; where only their order does, that is a difference of its own kind, and so it is when
 * it is all that is left after the documents were repaired. While the source is written to, an
 * order counts as different only when both sides are the same in two looks one after the other.
 *
 * A server may hold a little more than its cap for a while. What of the source's oldest documents
 * has no room at the destination is not missing there: an event says so. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "verify/internal.h"

enum { LOOKS_MOST = 6 };

typedef struct {
    tow_verify_pair_t *pair;
    tow_verify_unit_t *unit;
    tow_sequence_t *sequences[2], *before[2]; /* of this look and of the one before */
    tow_digest_t totals[2];
    bool equal;
    bool located;  /* documents that differ were looked at one by one */
    bool repaired; /* tried to */
    char *order;   /* where the order was found to differ; NULL: it was not */
} log_t;

static bool read_log(log_t *log, tow_reading_t readings[2], tow_error_t *error)
{
    tow_readings_prepare(log->pair, log->unit, readings);
    tow_readings_begin(readings, log->unit->documents);
    for (int which = TOW_SOURCE; which <= TOW_DESTINATION; which++) {
        tow_sequence_t *old = log->before[which];

        log->before[which] = log->sequences[which];
        log->sequences[which] = readings[which].sequence = old;
        old->skip = 0;
    }
    if (!tow_readings_read(log->pair, readings, error))
        return false;
    for (int which = TOW_SOURCE; which <= TOW_DESTINATION; which++)
        log->totals[which] = readings[which].digest;
    return true;
}

static bool has_moved(const log_t *log, int looks)
{
    if (!log->pair->run->options->settle)
        return false;
    return !looks || !tow_sequence_equal(log->sequences[TOW_SOURCE], log->before[TOW_SOURCE]) ||
           !tow_sequence_equal(log->sequences[TOW_DESTINATION], log->before[TOW_DESTINATION]);
}

static uint64_t limit(const tow_collection_info_t *info, const char *name)
{
    bson_iter_t iter;

    return bson_iter_init_find(&iter, &info->options, name) && bson_iter_as_int64(&iter) > 0
               ? (uint64_t)bson_iter_as_int64(&iter)
               : UINT64_MAX;
}

/* The destination has the source's newest documents in their order, and no room for the next older
 * one. */
static bool has_no_room(log_t *log, bool *out, tow_error_t *error)
{
    const tow_collection_info_t *info = log->unit->item->destination;
    const tow_digest_t *totals = log->totals;
    uint64_t more = totals[TOW_SOURCE].documents - totals[TOW_DESTINATION].documents;
    tow_reading_t readings[2];
    bool ok;

    *out = false;
    if (totals[TOW_SOURCE].documents <= totals[TOW_DESTINATION].documents)
        return true;
    tow_readings_prepare(log->pair, log->unit, readings);
    for (int which = TOW_SOURCE; which <= TOW_DESTINATION; which++)
        readings[which].sequence = log->before[which];
    log->before[TOW_SOURCE]->skip = more;
    log->before[TOW_DESTINATION]->skip = 0;
    ok = tow_readings_read(log->pair, readings, error);
    tow_readings_free(readings);
    *out = ok && tow_sequence_equal(log->before[TOW_SOURCE], log->before[TOW_DESTINATION]) &&
           (totals[TOW_DESTINATION].documents >= limit(info, "max") ||
            totals[TOW_DESTINATION].bytes + log->before[TOW_SOURCE]->last_skipped_bytes >
                limit(info, "size"));
    if (*out)
        tow_emit(&log->pair->run->options->sink, TOW_LEVEL_WARNING, "capped_shorter",
                 "%s: the source holds %" PRIu64
                 " documents more than its cap allows, and the destination's "
                 "cap has dropped them",
                 log->unit->item->ns, more);
    return ok;
}

static bool take_documents(log_t *log, tow_reading_t readings[2], tow_error_t *error)
{
    memset(log->totals, 0, sizeof log->totals);
    log->located = true;
    return tow_readings_locate(log->pair, log->unit, readings, log->totals, error);
}

/* *out_done: nothing more is to be looked at. */
static bool take_order(log_t *log, bool *out_done, tow_error_t *error)
{
    const tow_verify_options_t *options = log->pair->run->options;
    const tow_verify_item_t *item = log->unit->item;

    if (!log->order)
        log->order = tow_format(
            "natural order, after about %" PRIu64 " documents",
            tow_sequence_shared(log->sequences[TOW_SOURCE], log->sequences[TOW_DESTINATION]));
    *out_done = !options->repair || log->repaired;
    log->repaired = true;
    if (*out_done)
        return true;
    return options->repair(options->data, item->database, item->name, NULL, 0, false, error) ||
           tow_fail_context(error, "repair");
}

/* One look at both sides; *out_done: the last. */
static bool look(log_t *log, int looks, bool *out_done, tow_error_t *error)
{
    const tow_verify_options_t *options = log->pair->run->options;
    tow_reading_t readings[2];
    bool ok, same;

    if (looks && options->settle && !options->settle(options->data, error))
        return false;
    ok = read_log(log, readings, error);
    same = ok && tow_digest_equal(&log->totals[TOW_SOURCE], &log->totals[TOW_DESTINATION]);
    if (same && tow_sequence_equal(log->sequences[TOW_SOURCE], log->sequences[TOW_DESTINATION]))
        log->equal = *out_done = true;
    else if (same && !has_moved(log, looks))
        ok = take_order(log, out_done, error);
    else if (ok && !same && log->located)
        *out_done = true;
    else if (ok && !same)
        ok = has_no_room(log, out_done, error) &&
             (*out_done || take_documents(log, readings, error));
    tow_readings_free(readings);
    return ok;
}

static void report(log_t *log)
{
    tow_verify_run_t *run = log->pair->run;
    tow_finding_t finding = {
        .kind = TOW_DIFFERENCE_ORDER, .path = log->order, .repaired = log->equal};

    log->unit->unequal = log->unit->unequal || (log->order && !log->equal);
    if (log->order)
        tow_verify_add(run, log->unit->item, &finding);
    tow_verify_add_totals(log->pair, log->unit->item, log->totals);
    pthread_mutex_lock(&run->lock);
    run->report->ranges_read++;
    pthread_mutex_unlock(&run->lock);
    if (run->options->track && log->equal && !log->unit->unequal)
        tow_track_equal(run->options->track, log->unit->item->ns, log->unit->range,
                        &log->totals[TOW_SOURCE]);
}

bool tow_verify_compare_log(tow_verify_pair_t *pair, tow_verify_unit_t *unit, tow_error_t *error)
{
    log_t log = {.pair = pair, .unit = unit};
    bool ok = true, done = false;

    for (int which = TOW_SOURCE; which <= TOW_DESTINATION; which++) {
        log.sequences[which] = tow_alloc(sizeof *log.sequences[which]);
        log.before[which] = tow_alloc(sizeof *log.before[which]);
    }
    for (int looks = 0; ok && !done && looks < LOOKS_MOST; looks++) {
        if (pair->run->options->track)
            tow_track_begin(pair->run->options->track, unit->item->ns, unit->range);
        ok = look(&log, looks, &done, error);
    }
    if (ok)
        report(&log);
    for (int which = TOW_SOURCE; which <= TOW_DESTINATION; which++) {
        free(log.sequences[which]);
        free(log.before[which]);
    }
    free(log.order);
    return ok;
}
