/* SPDX-License-Identifier: Apache-2.0 */
/* resume.c: where the change stream of a job begins. */
#include <stdlib.h>

#include "engine/job/internal.h"
#include "oplog/record.h"

/* Frames of the spool that go on from the checkpoint without a gap. */
typedef struct {
    tow_job_t *job;
    bson_t token; /* of the last frame taken, or of the checkpoint */
    tow_optime_t time;
    bool taken, broken;
} chain_t;

static bool take_frame(void *data, tow_spool_place_t place, const tow_spool_frame_t *frame,
                       tow_error_t *error)
{
    chain_t *chain = data;
    tow_block_t *block;
    tow_buffer_t records = {0};
    bson_t previous;
    tow_optime_t previous_time;
    bool goes_on;

    if (chain->broken || frame->time < chain->time)
        return true;
    if (!tow_spool_read(chain->job->flow.spool, place, &records, error))
        return false;
    /* A frame goes on where its beginning is known to lie at or before what we have. */
    goes_on = tow_record_previous(&records, &previous, &previous_time) &&
              (previous_time < chain->time || bson_equal(&previous, &chain->token));
    tow_buffer_free(&records);
    if (!goes_on) {
        chain->broken = true;
        return true;
    }
    block = tow_alloc(sizeof *block);
    block->time = frame->time;
    block->events = frame->records;
    block->spooled = true;
    block->place = place;
    bson_copy_to(frame->token, &block->token);
    tow_ledger_append_spooled(chain->job->flow.ledger, block);
    bson_destroy(&chain->token);
    bson_copy_to(frame->token, &chain->token);
    chain->time = frame->time;
    chain->taken = true;
    return true;
}

/* Position of the tail at a restart: behind the spool where it survived, else the checkpoint. */
bool tow_job_resume_stream(tow_job_t *job, const tow_checkpoint_t *checkpoint, tow_error_t *error)
{
    chain_t chain = {.job = job, .time = checkpoint->time};
    bson_t token;
    tow_optime_t time;
    bool ok;

    tow_ledger_begin(job->flow.ledger, &checkpoint->token, checkpoint->time);
    bson_copy_to(&checkpoint->token, &chain.token);
    ok = tow_spool_each(job->flow.spool, take_frame, &chain, error);
    if (ok && chain.taken)
        tow_emit(&job->sides.sink, TOW_LEVEL_INFO, "spool_found",
                 "the spool of the run before is used");
    if (ok && chain.broken && !chain.taken)
        ok = tow_spool_clear(job->flow.spool, error);
    if (ok)
        ok = tow_tail_open(job->flow.tail, &chain.token, chain.time, &token, &time, error);
    if (ok)
        bson_destroy(&token);
    else if (tow_error_history_lost(error))
        ok = tow_tail_open_anew(job->flow.tail, error);
    bson_destroy(&chain.token);
    return ok;
}

bool tow_job_begin_stream(tow_job_t *job, tow_error_t *error)
{
    tow_checkpoint_t start = {.ddl_token = BSON_INITIALIZER};
    bool ok;

    if (!tow_spool_clear(job->flow.spool, error) ||
        !tow_tail_open(job->flow.tail, NULL, 0, &start.token, &start.time, error))
        return false;
    tow_ledger_begin(job->flow.ledger, &start.token, start.time);
    ok = tow_store_save_checkpoint(job->journal.store, &start, error);
    pthread_mutex_lock(&job->control.lock);
    job->journal.start_time = job->journal.checkpoint_time = start.time;
    pthread_mutex_unlock(&job->control.lock);
    bson_destroy(&start.token);
    return ok;
}
