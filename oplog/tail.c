/* SPDX-License-Identifier: Apache-2.0 */
/* tail.c: see tail.h. */
#include "oplog/tail.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "engine/base/clock.h"
#include "engine/base/thread.h"
#include "oplog/filling.h"
#include "oplog/stream.h"
#include "oplog/token.h"

enum {
    AWAIT_MOST_MS = 5000, /* … unless it needs longer to look through its oplog */
    HURRY_MS = 10,        /* the same, while somebody waits for the floor */
    AWAIT_MS = 100,       /* how long the server holds an empty getMore: bounds the floor's delay */
    SYNC_MS = 1000,       /* between two syncs of the spool */
    LARGE_EVENT_MS = 10000, /* how long to stay in refetch mode after an event over 16 MB */
    LOST_MS = 1000,         /* the same after a rollover, until that is known everywhere */
    LOST_AGAIN_MS =
        60000, /* a position that is lost sooner than this after the last one was is waited for */
    KEYS_BATCH = 10000,
    DIRECT_BATCH = 2000
};

struct tow_tail {
    tow_tail_options_t options;
    tow_thread_t thread, syncer;
    atomic_bool wish_direct, direct, hurry;
    atomic_bool large; /* not direct for a while, because an event was too large for it */
    _Atomic tow_optime_t read_time, certain_time, appended_time, spooled_time;
    _Atomic tow_optime_t event_time, late_since;
    _Atomic uint64_t events, idle_replies, late;
    _Atomic int64_t late_first_ms, late_last_ms; /* 0: none was read */
    /* The thread's own. */
    tow_stream_t *stream;
    int64_t await_ms;
    tow_filling_t filling;
    int64_t refetch_until_ms;
    int64_t lost_ms; /* when the position was last lost, 0: never */
    unsigned losses; /* in a row */
};

/* Errors in a row. */
typedef struct {
    unsigned attempt;
    int64_t since_ms; /* 0: none */
} failing_t;

tow_tail_t *tow_tail_new(const tow_tail_options_t *options)
{
    tow_tail_t *tail = tow_alloc(sizeof *tail);

    tail->options = *options;
    tail->await_ms = AWAIT_MS;
    tail->late_since = UINT64_MAX;
    tow_filling_init(&tail->filling);
    tail->stream = tow_stream_new(&(tow_stream_options_t){.link = options->source,
                                                          .filter = options->filter,
                                                          .expanded = true,
                                                          .sink = options->sink});
    return tail;
}

void tow_tail_end(tow_tail_t *tail)
{
    tow_thread_join(&tail->thread);
    tow_thread_join(&tail->syncer);
}

void tow_tail_destroy(tow_tail_t *tail)
{
    if (!tail)
        return;
    tow_tail_end(tail);
    tow_stream_destroy(tail->stream);
    tow_filling_clear(&tail->filling);
    free(tail);
}

/* The fields that a dirty key or a DDL event needs. */
static const char *const key_fields[] = {
    "operationType", "clusterTime",    "ns", "to", "documentKey", "operationDescription",
    "nsType",        "collectionUUID", NULL};

/* Makes the stream's position known to whoever asks. */
static void publish_position(tow_tail_t *tail)
{
    tow_optime_t certain;

    atomic_store(&tail->read_time, tow_stream_time(tail->stream));
    if (tow_token_time(tow_stream_token(tail->stream), &certain))
        atomic_store(&tail->certain_time, certain);
}

static bool open_stream(tow_tail_t *tail, tow_stream_start_t start, bool direct, int flags,
                        tow_error_t *error)
{
    if (!tow_stream_open(tail->stream, start, direct ? NULL : key_fields, flags, error))
        return false;
    atomic_store(&tail->direct, direct);
    if (direct)
        atomic_store(&tail->large, false);
    publish_position(tail);
    return true;
}

bool tow_tail_try(tow_link_t *source, const tow_filter_t *filter, tow_error_t *error)
{
    tow_tail_t *tail = tow_tail_new(&(tow_tail_options_t){.source = source, .filter = filter});
    bool ok = tow_stream_try(tail->stream, key_fields, error);

    tow_tail_destroy(tail);
    return ok;
}

bool tow_tail_open(tow_tail_t *tail, const bson_t *token, tow_optime_t time, bson_t *out_token,
                   tow_optime_t *out_time, tow_error_t *error)
{
    if (token)
        tow_stream_move(tail->stream, token, time);
    if (!open_stream(tail, token ? TOW_STREAM_AFTER : TOW_STREAM_NOW, false, TOW_SEND_RETRY, error))
        return false;
    tow_link_note_event(tail->options.source, 0,
                        !tow_token_time(tow_stream_token(tail->stream), &(tow_optime_t){0}));
    bson_copy_to(tow_stream_token(tail->stream), out_token);
    *out_time = tow_stream_time(tail->stream);
    atomic_store(&tail->appended_time, *out_time);
    return true;
}

/* Hands the filled block to spool and ledger. */
static bool seal(tow_tail_t *tail, tow_error_t *error)
{
    tow_block_t *block;

    if (!tow_filling_seal(&tail->filling, tail->options.spool, &block, error))
        return false;
    if (block) {
        atomic_store(&tail->appended_time, block->time);
        tow_ledger_append(tail->options.ledger, block);
    }
    return true;
}

static bool sync_spool(tow_tail_t *tail, tow_error_t *error)
{
    tow_optime_t appended = atomic_load(&tail->appended_time);

    if (!tow_spool_sync(tail->options.spool, error))
        return false;
    atomic_store(&tail->spooled_time, appended);
    return true;
}

/* A thread of its own: a disk that takes long must not hold up the stream. */
static void *run_syncer(void *data)
{
    tow_tail_t *tail = data;
    tow_error_t error;

    while (!tow_stop_wait(tail->options.stop, SYNC_MS))
        if (!sync_spool(tail, &error))
            tow_stop_request(tail->options.stop, &error);
    return NULL;
}

static void count_late(tow_tail_t *tail)
{
    int64_t none = 0, now_ms = tow_now_ms();

    atomic_compare_exchange_strong(&tail->late_first_ms, &none, now_ms);
    atomic_store(&tail->late_last_ms, now_ms);
    atomic_fetch_add(&tail->late, 1);
}

/* Publish event_time before reading late_since; tow_tail_count_late() does it the other way round.
 * Whichever thread is later counts an event read in between. */
static void note_time(tow_tail_t *tail, tow_optime_t time)
{
    if (time > atomic_load(&tail->event_time))
        atomic_store(&tail->event_time, time);
    if (time > atomic_load(&tail->late_since))
        count_late(tail);
}

/* Looks at each event of the batch. In refetch mode its key goes into the block that is being
 * filled, whose beginning is the position before this batch: so the stream's position does not move
 * yet. */
static void take_events(tow_tail_t *tail, tow_stream_batch_t *batch)
{
    bool direct = atomic_load(&tail->direct);
    tow_event_t parts;
    bson_t event;

    while (tow_stream_event(batch, &event, &parts)) {
        note_time(tail, parts.time);
        if (!direct)
            tow_filling_add(&tail->filling, tail->stream, &event, &parts);
    }
    if (batch->newest)
        atomic_store(&tail->certain_time, batch->newest);
    tow_link_note_event(tail->options.source, batch->newest, tow_stream_is_opaque(batch));
}

/* A batch without events moves the floor, and only the floor. What was read before is sealed first,
 * so that the idle token comes after it in the ledger. */
static bool take_idle(tow_tail_t *tail, const tow_stream_batch_t *batch, tow_error_t *error)
{
    tow_optime_t time;

    if (!seal(tail, error))
        return false;
    tow_stream_take(tail->stream, batch);
    publish_position(tail);
    time = tow_stream_time(tail->stream);
    /* Nothing found, and still far behind: the time was too short to look through the oplog. */
    tail->await_ms = (batch->known >> 32) > (time >> 32) + 2 ? tail->await_ms * 2 : AWAIT_MS;
    if (tail->await_ms > AWAIT_MOST_MS)
        tail->await_ms = AWAIT_MOST_MS;
    tow_ledger_idle(tail->options.ledger, tow_stream_token(tail->stream), time);
    atomic_fetch_add(&tail->idle_replies, 1);
    return true;
}

/* The whole reply becomes a block of the ledger, without a copy; *reply is empty then. */
static void keep_direct(tow_tail_t *tail, bson_t *reply, uint32_t count)
{
    tow_block_t *block = tow_alloc(sizeof *block);

    bson_copy_to(tow_stream_token(tail->stream), &block->token);
    block->time = tow_stream_time(tail->stream);
    block->events = count;
    block->direct = true;
    bson_steal(&block->reply, reply);
    bson_init(reply);
    block->payload_bytes = block->reply.len;
    tow_ledger_append(tail->options.ledger, block);
}

/* The block being filled ends with this batch for now; it goes on its way when it is large or old
 * enough. */
static bool keep_keys(tow_tail_t *tail, tow_error_t *error)
{
    tow_filling_reached(&tail->filling, tail->stream);
    return !tow_filling_is_due(&tail->filling) || seal(tail, error);
}

/* Takes in a batch. The position moves only when all its events are in the ledger or in the block
 * that is being filled: an error before that reads them again. May take *reply. */
static bool take_batch(tow_tail_t *tail, bson_t *reply, tow_stream_batch_t *batch,
                       tow_error_t *error)
{
    take_events(tail, batch);
    if (!batch->count)
        return take_idle(tail, batch, error);
    tow_stream_take(tail->stream, batch);
    publish_position(tail);
    tail->await_ms = AWAIT_MS;
    atomic_fetch_add(&tail->events, batch->count);
    if (!atomic_load(&tail->direct))
        return keep_keys(tail, error);
    keep_direct(tail, reply, batch->count);
    return true;
}

/* What to do after an error of the stream: false when it is final. */
static bool survive(tow_tail_t *tail, tow_error_t *error, tow_stream_verdict_t verdict,
                    failing_t *failing)
{
    int64_t now = tow_now_ms();

    if (tow_error_history_lost(error))
        return tow_fail_context(error, "the source's oplog no longer reaches back to this job's "
                                       "position; start the job anew with --clear-destination and "
                                       "a longer oplog window");
    if (verdict == TOW_STREAM_TOO_LARGE) {
        tail->refetch_until_ms = now + LARGE_EVENT_MS;
        atomic_store(&tail->large, true);
        tow_emit(&tail->options.sink, TOW_LEVEL_INFO, "event_too_large",
                 "a change event is over 16 MB: its key will be refetched");
        return true;
    }
    if (error->code == TOW_ERROR_SPOOL || error->code == TOW_ERROR_INTERRUPTED ||
        error->retry == TOW_RETRY_NEVER)
        return false;
    if (!failing->since_ms)
        failing->since_ms = now;
    if (failing->attempt == 1)
        tow_emit(&tail->options.sink, TOW_LEVEL_WARNING, "stream_lost",
                 "the change stream broke and is reopened: %s", error->message);
    return tow_backoff(tail->options.source, failing->attempt++,
                       failing->since_ms + tail->options.retry_window_ms);
}

/* How long the server holds an empty reply. */
static int64_t await_ms(const tow_tail_t *tail)
{
    return atomic_load(&tail->hurry) && tail->await_ms == AWAIT_MS ? HURRY_MS : tail->await_ms;
}

/* One round: reopen where the mode or an error asks for it, then one getMore. */
static bool read_once(tow_tail_t *tail, tow_error_t *error)
{
    bool direct = atomic_load(&tail->wish_direct) && tow_now_ms() >= tail->refetch_until_ms, ok;
    int64_t pause_ms = tow_stream_pause_ms(tail->stream);
    tow_stream_batch_t batch;
    bson_t reply;

    if (pause_ms)
        tow_stop_wait(tail->options.stop, pause_ms);
    if (direct != atomic_load(&tail->direct))
        tow_stream_close(tail->stream);
    /* However the stream ended, what it gave comes before what the next one gives, maybe in another
     * mode. */
    if (!tow_stream_is_open(tail->stream) &&
        (!seal(tail, error) || !open_stream(tail, TOW_STREAM_AFTER, direct, 0, error)))
        return false;
    ok = tow_stream_next(tail->stream, await_ms(tail), direct ? DIRECT_BATCH : KEYS_BATCH, &reply,
                         &batch, error) &&
         take_batch(tail, &reply, &batch, error);
    bson_destroy(&reply);
    return ok;
}

bool tow_tail_open_anew(tow_tail_t *tail, tow_error_t *error)
{
    const tow_tail_options_t *options = &tail->options;

    if (!options->lost(options->data, false, error) || !seal(tail, error) ||
        !open_stream(tail, TOW_STREAM_NOW, false, TOW_SEND_RETRY, error))
        return false;
    tow_ledger_idle(options->ledger, tow_stream_token(tail->stream), tow_stream_time(tail->stream));
    atomic_store(&tail->appended_time, tow_stream_time(tail->stream));
    /* What was lost is missing at the destination; whoever was told wishes refetch mode soon. */
    tail->refetch_until_ms = tow_now_ms() + LOST_MS;
    return options->lost(options->data, true, error);
}

/* A new stream costs a write of the job's state and a comparison of everything. Where one position
 * after another is lost, as of a server that contradicts itself, there is a longer
 * pause each time. */
static void pace_losses(tow_tail_t *tail)
{
    bool again = tail->lost_ms && tow_now_ms() - tail->lost_ms < LOST_AGAIN_MS;

    tail->losses = again ? tail->losses + 1 : 0;
    if (again)
        tow_backoff(tail->options.source, tail->losses, INT64_MAX);
    tail->lost_ms = tow_now_ms();
}

/* After an error of the stream; false: the thread ends with *error. What was read stays: the stream
 * goes on after its position. */
static bool recover(tow_tail_t *tail, tow_error_t *error, failing_t *failing)
{
    tow_stream_verdict_t verdict = tow_stream_judge(tail->stream, error);

    if (tow_stop_requested(tail->options.stop))
        return false;
    if (verdict == TOW_STREAM_LOST && tail->options.lost) {
        pace_losses(tail);
        if (tow_tail_open_anew(tail, error))
            return true;
        verdict = tow_stream_judge(tail->stream, error);
    }
    return survive(tail, error, verdict, failing);
}

static void *run(void *data)
{
    tow_tail_t *tail = data;
    failing_t failing = {0};
    tow_error_t error;

    while (!tow_stop_requested(tail->options.stop)) {
        if (read_once(tail, &error))
            failing = (failing_t){0};
        else if (!recover(tail, &error, &failing))
            break;
    }
    if (!tow_stop_requested(tail->options.stop))
        tow_stop_request(tail->options.stop, &error);
    if (seal(tail, &error) && !sync_spool(tail, &error))
        tow_emit(&tail->options.sink, TOW_LEVEL_WARNING, "spool_not_synced", "%s", error.message);
    return NULL;
}

bool tow_tail_start(tow_tail_t *tail, tow_error_t *error)
{
    if (!tow_thread_start(&tail->syncer, "sync", run_syncer, tail, error))
        return false;
    if (!tow_thread_start(&tail->thread, "tail", run, tail, error)) {
        tow_stop_request(tail->options.stop, error);
        tow_thread_join(&tail->syncer);
        return false;
    }
    return true;
}

void tow_tail_wish_direct(tow_tail_t *tail, bool direct)
{
    atomic_store(&tail->wish_direct, direct);
    if (!direct)
        atomic_store(&tail->large, false);
}

void tow_tail_hurry(tow_tail_t *tail, bool hurry)
{
    atomic_store(&tail->hurry, hurry);
}

bool tow_tail_direct(const tow_tail_t *tail)
{
    return atomic_load(&tail->direct);
}

bool tow_tail_close(const tow_tail_t *tail)
{
    return atomic_load(&tail->direct) || atomic_load(&tail->large);
}

tow_optime_t tow_tail_read_time(const tow_tail_t *tail)
{
    return atomic_load(&tail->read_time);
}

tow_optime_t tow_tail_certain_time(const tow_tail_t *tail)
{
    return atomic_load(&tail->certain_time);
}

tow_optime_t tow_tail_spooled_time(const tow_tail_t *tail)
{
    return atomic_load(&tail->spooled_time);
}

tow_optime_t tow_tail_event_time(const tow_tail_t *tail)
{
    return atomic_load(&tail->event_time);
}

void tow_tail_count_late(tow_tail_t *tail, tow_optime_t since)
{
    atomic_store(&tail->late, 0);
    atomic_store(&tail->late_first_ms, 0);
    atomic_store(&tail->late_last_ms, 0);
    atomic_store(&tail->late_since, since);
    if (atomic_load(&tail->event_time) > since)
        count_late(tail);
}

int64_t tow_tail_late_ms(const tow_tail_t *tail)
{
    int64_t first_ms = atomic_load(&tail->late_first_ms),
            last_ms = atomic_load(&tail->late_last_ms);

    return last_ms > first_ms ? last_ms - first_ms : 0;
}

uint64_t tow_tail_late(const tow_tail_t *tail)
{
    return atomic_load(&tail->late);
}

uint64_t tow_tail_events(const tow_tail_t *tail)
{
    return atomic_load(&tail->events);
}

uint64_t tow_tail_idle_replies(const tow_tail_t *tail)
{
    return atomic_load(&tail->idle_replies);
}
