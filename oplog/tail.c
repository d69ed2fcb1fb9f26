/* tail.c: see tail.h. */
#include "oplog/tail.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/base/thread.h"
#include "engine/link/codes.h"
#include "engine/link/reply.h"
#include "engine/link/versions.h"
#include "oplog/record.h"
#include "oplog/token.h"

enum {
    AWAIT_MOST_MS = 5000, /* … unless it needs longer to look through its oplog */
    PACE_MS = 5,          /* between two requests that find little: events come in company */
    PACE_EVENTS = 500,    /* what is not little */
    HURRY_MS = 10,        /* the same, while somebody waits for the floor */
    AWAIT_MS = 100,       /* how long the server holds an empty getMore: bounds the floor's delay */
    BLOCK_BYTES = 256 * 1024, /* keys of one block */
    BLOCK_AGE_MS = 100,       /* and how long it is filled at most */
    SYNC_MS = 1000,           /* between two syncs of the spool */
    LARGE_EVENT_MS = 10000,   /* how long to stay in refetch mode after an event over 16 MB */
    LOST_MS = 1000,           /* the same after a rollover, until that is known everywhere */
    KEYS_BATCH = 10000,
    DIRECT_BATCH = 2000
};

struct tow_tail {
    tow_tail_options_t options;
    tow_thread_t thread, syncer;
    atomic_bool wish_direct, direct, hurry;
    atomic_bool large;          /* not direct for a while, because an event was too large for it */
    _Atomic tow_optime_t read_time, certain_time, appended_time, spooled_time;
    _Atomic tow_optime_t event_time, late_since;
    _Atomic uint64_t events, idle_replies, late;
    /* The thread's own. */
    tow_conn_t *conn;
    int64_t cursor, await_ms, asked_ms; /* asked_ms: of the last request */
    uint32_t last_events;       /* of the last reply */
    uint32_t server;
    bool asked_direct;          /* the mode of the last stream that was asked for */
    bson_t token;               /* last position read */
    tow_optime_t time;
    tow_buffer_t records;       /* the block being filled */
    uint32_t record_count;
    int64_t record_since_ms, refetch_until_ms;
    bson_t record_token;        /* position of its last event */
    tow_optime_t record_time;
};

tow_tail_t *tow_tail_new(const tow_tail_options_t *options)
{
    tow_tail_t *tail = tow_alloc(sizeof *tail);

    tail->options = *options;
    tail->await_ms = AWAIT_MS;
    tail->late_since = UINT64_MAX;
    bson_init(&tail->token);
    bson_init(&tail->record_token);
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
    tow_conn_close(tail->conn);
    bson_destroy(&tail->token);
    bson_destroy(&tail->record_token);
    tow_buffer_free(&tail->records);
    free(tail);
}

/* The fields that a dirty key or a DDL event needs. */
static void append_projection(bson_t *stages, const char *key)
{
    static const char *const fields[] = {"operationType", "clusterTime", "ns", "to", "documentKey",
                                         "operationDescription", "nsType", "collectionUUID"};
    bson_t stage, project;

    bson_append_document_begin(stages, key, -1, &stage);
    bson_append_document_begin(&stage, "$project", -1, &project);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        bson_append_int32(&project, fields[i], -1, 1);
    bson_append_document_end(&stage, &project);
    bson_append_document_end(stages, &stage);
}

static void build_aggregate(const tow_tail_t *tail, const bson_t *resume, bool direct, bson_t *out)
{
    bson_t stages, stage, change, cursor;

    bson_init(out);
    bson_append_int32(out, "aggregate", -1, 1);
    bson_append_array_begin(out, "pipeline", -1, &stages);
    bson_append_document_begin(&stages, "0", -1, &stage);
    bson_append_document_begin(&stage, "$changeStream", -1, &change);
    bson_append_bool(&change, "allChangesForCluster", -1, true);
    if (tow_server_can(tow_link_facts(tail->options.source), TOW_EXPANDED_EVENTS))
        bson_append_bool(&change, "showExpandedEvents", -1, true);
    if (resume)
        bson_append_document(&change, "resumeAfter", -1, resume);
    bson_append_document_end(&stage, &change);
    bson_append_document_end(&stages, &stage);
    tow_filter_match(tail->options.filter, &stages, "1");
    if (!direct)
        append_projection(&stages, "2");
    bson_append_array_end(out, &stages);
    bson_append_document_begin(out, "cursor", -1, &cursor);
    bson_append_int32(&cursor, "batchSize", -1, 0);
    bson_append_document_end(out, &cursor);
}

static void move_token(tow_tail_t *tail, const bson_t *token, tow_optime_t time)
{
    tow_optime_t certain;
    bson_t copy;

    bson_copy_to(token, &copy);
    bson_destroy(&tail->token);
    bson_steal(&tail->token, &copy);
    if (time > tail->time)
        tail->time = time;
    atomic_store(&tail->read_time, tail->time);
    if (tow_token_time(token, &certain))
        atomic_store(&tail->certain_time, certain);
}

/* Ends the cursor on the server; a failure does not matter, it dies by itself. */
static void kill_cursor(tow_tail_t *tail)
{
    bson_t command = BSON_INITIALIZER, list, reply;
    tow_send_options_t send = {.server_id = tail->server};
    tow_error_t ignored;

    if (!tail->cursor)
        return;
    bson_append_utf8(&command, "killCursors", -1, "$cmd.aggregate", -1);
    bson_append_array_begin(&command, "cursors", -1, &list);
    bson_append_int64(&list, "0", -1, tail->cursor);
    bson_append_array_end(&command, &list);
    if (!tow_conn_command(tail->conn, "admin", &command, &send, &reply, &ignored))
        tow_emit(&tail->options.sink, TOW_LEVEL_DEBUG, "cursor_kept", "%s", ignored.message);
    bson_destroy(&reply);
    bson_destroy(&command);
    tail->cursor = 0;
}

/* The time of a token: from itself where it is a KeyString, else `other`. */
static tow_optime_t token_time(const bson_t *token, tow_optime_t other)
{
    tow_optime_t time;

    return tow_token_time(token, &time) || tow_token_embedded_time(token, &time) ? time : other;
}

/* A stream that answers so is opened again after the last position: what is read again is the same. */
static bool fail_stream(const char *what, tow_error_t *error)
{
    tow_fail_reply(error, "source", what);
    error->retry = TOW_RETRY_RECONNECT;
    return false;
}

/* A mongod answers a getMore only when it has found something or has looked through all of its oplog, which may take
 * longer than any socket time-out; a mongos answers in time. */
static int patience(const tow_link_t *link)
{
    return tow_link_facts(link)->sharded ? TOW_SEND_PLAIN : TOW_SEND_NO_TIMEOUT;
}

/* `flags` besides that it is a read. */
static bool open_stream(tow_tail_t *tail, const bson_t *resume, bool direct, int flags,
                        bson_t *reply, tow_error_t *error)
{
    tow_send_options_t send = {.flags = TOW_SEND_READ | flags};
    tow_reply_cursor_t cursor;
    bson_t command;
    bool ok;

    if (!tail->conn && !(tail->conn = tow_conn_open(tail->options.source, error))) {
        bson_init(reply);
        return false;
    }
    tail->asked_direct = direct;
    build_aggregate(tail, resume, direct, &command);
    ok = tow_conn_command(tail->conn, "admin", &command, &send, reply, error);
    bson_destroy(&command);
    if (!ok)
        return tow_fail_context(error, "open the change stream");
    tail->server = tow_conn_server(tail->conn);
    tail->cursor = 0;
    if (!tow_reply_cursor(reply, &cursor) || !cursor.id)
        return fail_stream("it opened a change stream without a cursor", error);
    tail->cursor = cursor.id;
    atomic_store(&tail->direct, direct);
    if (direct)
        atomic_store(&tail->large, false);
    return true;
}

bool tow_tail_try(tow_link_t *source, const tow_filter_t *filter, tow_error_t *error)
{
    tow_tail_t *tail = tow_tail_new(&(tow_tail_options_t){.source = source, .filter = filter});
    bson_t reply;
    bool ok = open_stream(tail, NULL, false, TOW_SEND_RETRY, &reply, error);

    bson_destroy(&reply);
    kill_cursor(tail);
    tow_tail_destroy(tail);
    return ok;
}

bool tow_tail_open(tow_tail_t *tail, const bson_t *token, tow_optime_t time, bson_t *out_token,
                   tow_optime_t *out_time, tow_error_t *error)
{
    tow_reply_cursor_t cursor;
    bson_t reply;
    bool ok;
    /* Known before the request: everything up to it lies before the stream's first position. */
    tow_optime_t before = tow_link_time(tail->options.source);

    ok = open_stream(tail, token, false, TOW_SEND_RETRY | patience(tail->options.source), &reply,
                     error);
    if (ok && token) {
        move_token(tail, token, time);
    } else if (ok) {
        if (!tow_reply_cursor(&reply, &cursor) || !cursor.has_token)
            ok = tow_fail(error, TOW_ERROR_SERVER,
                          "the source gave no resume token when the stream was opened; a server of "
                          "4.2 or newer does");
        else
            move_token(tail, &cursor.token, token_time(&cursor.token, before));
    }
    bson_destroy(&reply);
    if (ok) {
        tow_link_note_event(tail->options.source, 0,
                            !tow_token_time(&tail->token, &(tow_optime_t){0}));
        bson_copy_to(&tail->token, out_token);
        *out_time = tail->time;
        atomic_store(&tail->appended_time, tail->time);
    }
    return ok;
}

/* Hands the filled block to spool and ledger. */
static bool seal(tow_tail_t *tail, tow_error_t *error)
{
    tow_spool_frame_t frame = {tail->record_count, tail->record_time, &tail->record_token};
    tow_block_t *block;

    if (!tail->record_count)
        return true;
    block = tow_alloc(sizeof *block);
    if (!tow_spool_append(tail->options.spool, tail->records.data, tail->records.length, &frame,
                          &block->place, error)) {
        free(block);
        return false;
    }
    block->time = tail->record_time;
    block->events = tail->record_count;
    block->spooled = true;
    block->payload_bytes = tail->records.capacity;
    block->records = tail->records;
    bson_copy_to(&tail->record_token, &block->token);
    tail->records = (tow_buffer_t){0};
    tail->record_count = 0;
    atomic_store(&tail->appended_time, tail->record_time);
    tow_ledger_append(tail->options.ledger, block);
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

static void add_record(tow_tail_t *tail, const bson_t *event, const tow_event_t *parsed)
{
    tow_record_t record = {.kind = 'c',
                           .database = parsed->database,
                           .collection = parsed->collection,
                           .id = parsed->id,
                           .time = parsed->time};

    if (!tail->record_count) {
        tow_record_begin(&tail->records, &tail->token, tail->time);
        tail->record_since_ms = tow_now_ms();
    }
    if (!parsed->change || !parsed->has_id) {
        record.kind = 'e';
        record.database = record.collection = "";
        record.id = (tow_value_t){0, event->len, bson_get_data(event)};
    } else if (parsed->operation[0] == 'i') {
        record.kind = 'i';
    }
    tow_record_append(&tail->records, &record);
    tail->record_count++;
}

/* The time is told first, and then compared: of an event that is read while the count begins at least
 * one side knows. */
static void note_time(tow_tail_t *tail, tow_optime_t time)
{
    if (time > atomic_load(&tail->event_time))
        atomic_store(&tail->event_time, time);
    if (time > atomic_load(&tail->late_since))
        atomic_fetch_add(&tail->late, 1);
}

/* Takes in a reply; `known` is a time of the source before the request was sent. Takes *reply when it
 * becomes a block (then *reply is empty). */
static bool take_reply(tow_tail_t *tail, bson_t *reply, tow_optime_t known, tow_error_t *error)
{
    bool direct = atomic_load(&tail->direct), broken;
    tow_reply_cursor_t cursor;
    bson_t event, last = BSON_INITIALIZER;
    const bson_t *token;
    bson_iter_t batch;
    uint32_t count = 0;
    tow_optime_t time = 0;

    if (!tow_reply_cursor(reply, &cursor))
        return fail_stream("it answered getMore without a batch", error);
    if (!tow_reply_are_events(&cursor.batch))
        return fail_stream("it sent a change event that cannot be read", error);
    tail->cursor = cursor.id;
    batch = cursor.batch;
    while (tow_batch_document(&batch, &event, &broken)) {
        tow_event_t parsed;

        tow_event_parse(&event, &parsed);
        if (parsed.time > time)
            time = parsed.time;
        note_time(tail, parsed.time);
        if (!direct)
            add_record(tail, &event, &parsed);
        tow_field_document(&event, "_id", &last);
        count++;
    }
    if (!count && !cursor.has_token)
        return fail_stream("it answered getMore without a resume token", error);
    token = cursor.has_token ? &cursor.token : &last;
    if (time)
        atomic_store(&tail->certain_time, time);
    tow_link_note_event(tail->options.source, time,
                        cursor.has_token && !tow_token_time(token, &(tow_optime_t){0}));
    tail->last_events = count;
    if (count == 0) {
        if (!seal(tail, error))
            return false;
        move_token(tail, token, token_time(token, known));
        /* Nothing found, and still far behind: the time was too short to look through the oplog. */
        tail->await_ms = (known >> 32) > (tail->time >> 32) + 2 ? tail->await_ms * 2 : AWAIT_MS;
        if (tail->await_ms > AWAIT_MOST_MS)
            tail->await_ms = AWAIT_MOST_MS;
        tow_ledger_idle(tail->options.ledger, &tail->token, tail->time);
        atomic_fetch_add(&tail->idle_replies, 1);
        return true;
    }
    move_token(tail, token, token_time(token, time));
    tail->await_ms = AWAIT_MS;
    atomic_fetch_add(&tail->events, count);
    if (direct) {
        tow_block_t *block = tow_alloc(sizeof *block);

        bson_copy_to(&tail->token, &block->token);
        block->time = tail->time;
        block->events = count;
        block->direct = true;
        bson_steal(&block->reply, reply);
        bson_init(reply);
        block->payload_bytes = block->reply.len;
        tow_ledger_append(tail->options.ledger, block);
        return true;
    }
    bson_destroy(&tail->record_token);
    bson_copy_to(&tail->token, &tail->record_token);
    tail->record_time = tail->time;
    if (tail->records.length >= BLOCK_BYTES ||
        tow_now_ms() - tail->record_since_ms >= BLOCK_AGE_MS)
        return seal(tail, error);
    return true;
}

static bool get_more(tow_tail_t *tail, tow_error_t *error, bson_t *reply)
{
    bson_t command = BSON_INITIALIZER;
    tow_send_options_t send = {.flags = patience(tail->options.source), .server_id = tail->server};
    bool hurry = atomic_load(&tail->hurry) && tail->await_ms == AWAIT_MS, ok;

    bson_append_int64(&command, "getMore", -1, tail->cursor);
    bson_append_utf8(&command, "collection", -1, "$cmd.aggregate", -1);
    bson_append_int32(&command, "batchSize", -1,
                      atomic_load(&tail->direct) ? DIRECT_BATCH : KEYS_BATCH);
    bson_append_int64(&command, "maxTimeMS", -1, hurry ? HURRY_MS : tail->await_ms);
    ok = tow_conn_command(tail->conn, "admin", &command, &send, reply, error);
    bson_destroy(&command);
    return ok;
}

/* What to do after an error of the stream: false when it is final. */
static bool survive(tow_tail_t *tail, tow_error_t *error, const bson_t *reply, unsigned *attempt,
                    int64_t *failing_since_ms)
{
    int64_t now = tow_now_ms();

    if (tow_error_history_lost(error))
        return tow_fail_context(error, "the source's oplog no longer reaches back to this job's "
                                       "position; start the job anew with --clear-destination and "
                                       "a longer oplog window");
    if (error->server_code == TOW_CODE_BSON_OBJECT_TOO_LARGE && tail->asked_direct) {
        tail->refetch_until_ms = now + LARGE_EVENT_MS;
        atomic_store(&tail->large, true);
        tow_emit(&tail->options.sink, TOW_LEVEL_INFO, "event_too_large",
                 "a change event is over 16 MB: its key will be refetched");
        return true;
    }
    if (error->code == TOW_ERROR_SPOOL || error->code == TOW_ERROR_INTERRUPTED)
        return false;
    if (error->retry == TOW_RETRY_NEVER && !tow_error_stream_resumable(error, reply))
        return false;
    if (!*failing_since_ms)
        *failing_since_ms = now;
    if (*attempt == 1)
        tow_emit(&tail->options.sink, TOW_LEVEL_WARNING, "stream_lost",
                 "the change stream broke and is reopened: %s", error->message);
    return tow_backoff(tail->options.source, (*attempt)++,
                       *failing_since_ms + tail->options.retry_window_ms);
}

/* A request for each event would cost more than the event: a few milliseconds bring several. */
static void pace(tow_tail_t *tail)
{
    int64_t passed_ms = tow_now_ms() - tail->asked_ms;

    if (tail->last_events && tail->last_events < PACE_EVENTS && passed_ms < PACE_MS)
        tow_stop_wait(tail->options.stop, (int)(PACE_MS - passed_ms));
    tail->asked_ms = tow_now_ms();
}

/* One round: reopen where the mode or an error asks for it, then one getMore. */
static bool read_once(tow_tail_t *tail, bson_t *reply, tow_error_t *error)
{
    bool direct =
        atomic_load(&tail->wish_direct) && tow_now_ms() >= tail->refetch_until_ms;
    tow_optime_t known;

    if (tail->cursor && direct != atomic_load(&tail->direct))
        kill_cursor(tail);
    if (!tail->cursor) {
        /* However the stream ended, what it gave comes before what the next one gives, maybe in another mode. */
        if (!seal(tail, error) || !open_stream(tail, &tail->token, direct,
                                               patience(tail->options.source), reply, error))
            return false;
        bson_destroy(reply);
        bson_init(reply);
    }
    pace(tail);
    known = tow_link_time(tail->options.source);
    bson_destroy(reply);
    if (!get_more(tail, error, reply))
        return false;
    return take_reply(tail, reply, known, error);
}

bool tow_tail_open_anew(tow_tail_t *tail, tow_error_t *error)
{
    const tow_tail_options_t *options = &tail->options;
    bson_t reply = BSON_INITIALIZER;
    tow_reply_cursor_t cursor;
    bool ok;
    tow_optime_t before = tow_link_time(options->source);

    ok = options->lost(options->data, false, error) && seal(tail, error);
    if (ok) {
        bson_destroy(&reply);
        ok = open_stream(tail, NULL, false, TOW_SEND_RETRY | patience(options->source), &reply, error);
    }
    if (ok && (!tow_reply_cursor(&reply, &cursor) || !cursor.has_token))
        ok = tow_fail(error, TOW_ERROR_SERVER, "the source gave no resume token");
    if (ok) {
        move_token(tail, &cursor.token, token_time(&cursor.token, before));
        tow_ledger_idle(options->ledger, &tail->token, tail->time);
        atomic_store(&tail->appended_time, tail->time);
        /* What was lost is missing at the destination; whoever was told wishes refetch mode soon. */
        tail->refetch_until_ms = tow_now_ms() + LOST_MS;
    }
    bson_destroy(&reply);
    return ok && options->lost(options->data, true, error);
}

/* Whether no stream can go on after the last token. An event over 16 MB that comes without its large fields is too
 * large for good: a mongos before 8.0 leaves them out itself, and its shards cannot send the event to it. */
static bool is_lost(const tow_tail_t *tail, const tow_error_t *error)
{
    return tow_error_history_lost(error) ||
           (error->server_code == TOW_CODE_BSON_OBJECT_TOO_LARGE && !tail->asked_direct);
}

/* After an error of the stream; false: the thread ends with *error. */
static bool recover(tow_tail_t *tail, tow_error_t *error, const bson_t *reply, unsigned *attempt,
                    int64_t *failing_since_ms)
{
    bool lost = is_lost(tail, error);

    /* What was read stays: the stream goes on after the last token. */
    tail->cursor = 0;
    if (tow_stop_requested(tail->options.stop))
        return false;
    if (lost && tail->options.lost) {
        if (tow_tail_open_anew(tail, error))
            return true;
        tail->cursor = 0;
        if (tow_error_history_lost(error))
            return false;
    }
    return survive(tail, error, reply, attempt, failing_since_ms);
}

static void *run(void *data)
{
    tow_tail_t *tail = data;
    unsigned attempt = 0;
    int64_t failing_since_ms = 0;
    tow_error_t error;

    while (!tow_stop_requested(tail->options.stop)) {
        bson_t reply = BSON_INITIALIZER;

        if (read_once(tail, &reply, &error)) {
            attempt = 0;
            failing_since_ms = 0;
        } else {
            if (!recover(tail, &error, &reply, &attempt, &failing_since_ms)) {
                bson_destroy(&reply);
                break;
            }
        }
        bson_destroy(&reply);
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
    atomic_store(&tail->late_since, since);
    if (atomic_load(&tail->event_time) > since)
        atomic_fetch_add(&tail->late, 1);
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
