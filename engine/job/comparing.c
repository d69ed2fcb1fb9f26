/* SPDX-License-Identifier: Apache-2.0 */
/* comparing.c: what all comparisons of a job have in common, in the background and
 * at the cutover. */
#include "engine/job/internal.h"
#include "engine/job/repair.h"

enum { TRACKED_BYTES = 16 << 20 };

void tow_comparer_clear(tow_comparer_t *comparer)
{
    tow_verify_report_destroy(comparer->report);
    tow_verify_report_destroy(comparer->online);
}

void tow_comparer_begin(tow_comparer_t *comparer)
{
    atomic_store(&comparer->verified_documents, 0);
    atomic_store(&comparer->verified_bytes, 0);
    atomic_store(&comparer->verify_total, 0);
}

/* Everything that the source had is on the destination: what still differs does not
 * come of delay. */
static bool settle(void *data, tow_error_t *error)
{
    return tow_job_drain(data, error);
}

bool tow_job_repair(void *data, const char *database, const char *collection,
                    const tow_value_t *ids, uint32_t count, bool anew, tow_error_t *error)
{
    tow_job_t *job = data;
    tow_repairing_t with = {job->flow.namespaces, job->flow.copy, job->flow.replay,
                            job->sides.stop};

    return tow_repair_with(&with, database, collection, ids, count, anew, error);
}

/* Everything that the source had is settled: a difference is somebody else's write, or our bug. */
void tow_job_tell_differences(tow_job_t *job, const tow_verify_report_t *report)
{
    for (uint32_t i = 0; i < report->difference_count; i++) {
        const tow_difference_t *difference = &report->differences[i];

        tow_emit(
            &job->sides.sink, TOW_LEVEL_ERROR, "difference",
            "%s %s%s: %s%s%s, %u bytes at the source, %u at the destination, range %s: %s; %s",
            difference->ns, difference->id ? "_id " : "", difference->id ? difference->id : "",
            tow_difference_kind_name(difference->kind), difference->path ? " at " : "",
            difference->path ? difference->path : "", difference->source_length,
            difference->destination_length, difference->range ? difference->range : "-",
            difference->repaired ? "repaired" : "not repaired",
            difference->outside
                ? "it was written at the destination, and not at the source, since it was equal: "
                  "something else writes to the destination"
                : "unless something else wrote to the destination, this is a bug of Towline");
    }
}

void tow_job_verify_options(tow_job_t *job, tow_track_t *track, tow_verify_options_t *out)
{
    uint64_t range_bytes = job->config.range_bytes;

    /* What is written in a range may make it to be read again. */
    if (track && range_bytes > TRACKED_BYTES)
        range_bytes = TRACKED_BYTES;
    *out = (tow_verify_options_t){.source = job->sides.source,
                                  .destination = job->sides.destination,
                                  .filter = job->sides.filter,
                                  .stop = job->sides.stop,
                                  .sink = job->sides.sink,
                                  .workers = job->config.workers > 1 ? job->config.workers / 2 : 1,
                                  .range_bytes = range_bytes,
                                  .whole_bytes = track ? range_bytes : 0,
                                  .track = track,
                                  .max_differences = job->config.max_differences,
                                  .mode = job->config.verify_mode,
                                  .repair = job->config.verify_repair ? tow_job_repair : NULL,
                                  .settle = settle,
                                  .claims = job->journal.claims,
                                  .sharding_aside = true, /* the copy does not shard */
                                  .ttl_held_off = true,   /* until it was compared */
                                  .data = job,
                                  .documents = &job->comparer.verified_documents,
                                  .bytes = &job->comparer.verified_bytes,
                                  .total_documents = &job->comparer.verify_total};
}
