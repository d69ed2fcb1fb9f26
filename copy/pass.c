/* SPDX-License-Identifier: Apache-2.0 */
/* pass.c: a worker's way through one range: its batches on their way to the inserters, and how its
 * errors are judged. */
#include <stdlib.h>
#include <utlist.h>

#include "copy/internal.h"
#include "engine/base/clock.h"
#include "engine/link/codes.h"

enum {
    FLIGHT_BYTES = 32 * 1024 * 1024
}; /* of all batches on their way, unless one alone is larger */

bool tow_pass_given_up(const tow_pass_t *pass)
{
    return tow_copy_ended(pass->worker->copy) || atomic_load(&pass->collection->stale);
}

/* Errors of a read that another read of the range is spared: the collection was dropped, renamed or
 * lost an index under the cursor, or a capped one has overtaken it. */
static bool is_cursor_lost(const tow_error_t *error)
{
    return error->server_code == TOW_CODE_QUERY_PLAN_KILLED ||
           error->server_code == TOW_CODE_CAPPED_POSITION_LOST;
}

tow_outcome_t tow_pass_judge(const tow_pass_t *pass, const tow_error_t *error)
{
    if (tow_pass_given_up(pass))
        return TOW_PASS_GIVEN_UP;
    return error->retry == TOW_RETRY_NEVER && !is_cursor_lost(error) ? TOW_PASS_FAILED
                                                                     : TOW_PASS_AGAIN;
}

/* Until then the range may not be emptied, read again, or given up, after which another collection
 * may have its name: an insert that arrives later would bring back what was deleted since. */
void tow_copy_settle(tow_copy_t *copy, tow_conn_t *destination)
{
    int64_t until_ms = tow_now_ms() + TOW_PASS_RETRY_MS;
    unsigned attempt = 0;
    tow_error_t error;

    while (!tow_copy_ended(copy) && !tow_conn_settle(destination, &error)) {
        if (error.retry == TOW_RETRY_NEVER ||
            !tow_backoff(copy->options.destination, attempt++, until_ms))
            tow_copy_fail(copy, &error);
    }
}

void tow_pass_count_refusal(void *data, void *tag TOW_UNUSED,
                            const tow_write_error_t *error TOW_UNUSED)
{
    uint32_t *refused = data;

    (*refused)++;
}

/* Whether the batch may go. One of a range at a time is enough to read and write at once; it keeps
 * the order of a capped collection, and several would only make the server's threads wait for each
 * other. */
static TOW_REQUIRES(tow_copy) bool has_room(const tow_pass_t *pass, uint64_t bytes)
{
    const tow_copy_t *copy = pass->worker->copy;

    return !pass->in_flight && (!copy->load_bytes || copy->load_bytes + bytes <= FLIGHT_BYTES);
}

bool tow_pass_submit(tow_pass_t *pass, tow_reader_t *reader)
{
    tow_copy_t *copy = pass->worker->copy;
    tow_load_t *load = tow_alloc(sizeof *load);
    bool goes_on;

    tow_reader_detach(reader, &load->batch);
    load->pass = pass;
    load->bytes = tow_reader_batch_bytes(reader);
    tow_copy_lock(copy);
    while ((goes_on = pass->outcome == TOW_PASS_DONE && !tow_pass_given_up(pass)) &&
           !has_room(pass, load->bytes))
        tow_copy_wait_changed(copy);
    if (goes_on) {
        DL_APPEND(copy->loads, load);
        copy->load_bytes += load->bytes;
        pass->in_flight++;
        pthread_cond_broadcast(&copy->changed);
    }
    tow_copy_unlock(copy);
    if (!goes_on) {
        tow_batch_clear(&load->batch);
        free(load);
    }
    return goes_on;
}

tow_outcome_t tow_pass_settle(tow_pass_t *pass, tow_error_t *error)
{
    tow_copy_t *copy = pass->worker->copy;
    tow_outcome_t outcome;

    tow_copy_lock(copy);
    while (pass->in_flight)
        tow_copy_wait_changed(copy);
    outcome = pass->outcome;
    *error = pass->error;
    tow_copy_unlock(copy);
    return outcome == TOW_PASS_DONE && tow_pass_given_up(pass) ? TOW_PASS_GIVEN_UP : outcome;
}
