/* lease.c: a job belongs to one process at a time.
 *
 * The lease {holder, expires, …} is a part of the job's document, and the document's `epoch` counts
 * how often it was taken. It is taken and renewed by one guarded update each, in which the server
 * compares the expiry with its own clock; on a mongos that is the clock of the mongos. A holder
 * counts its time from before the renewal was sent, by its own monotonic clock, less a margin. */
#include "engine/link/codes.h"
#include "engine/state/store_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/link/identity.h"
#include "engine/link/reply.h"

enum { LOOK_MS = 500, TELL_MS = 10000, TURNS_MOST = 8 };

/* What the waiting process shows; the server itself decides when the lease has run out. */
static bool server_now(tow_store_t *store, int64_t *out_ms, tow_error_t *error)
{
    bson_t command = BSON_INITIALIZER, reply;
    bson_iter_t iter;
    bool ok;

    bson_append_int32(&command, "isMaster", -1, 1);
    ok = tow_store_run(store, &command, 0, &reply, error);
    *out_ms = tow_wall_ms();
    if (ok && bson_iter_init_find(&iter, &reply, "localTime"))
        tow_iter_wall_ms(&iter, out_ms);
    bson_destroy(&reply);
    bson_destroy(&command);
    return ok;
}

/* Reading ---------------------------------------------------------------------------------------*/

static void parse_field(const bson_iter_t *field, tow_lease_t *out)
{
    const char *name = bson_iter_key(field);

    if (!strcmp(name, "holder") && BSON_ITER_HOLDS_UTF8(field))
        snprintf(out->holder, sizeof out->holder, "%s", bson_iter_utf8(field, NULL));
    else if (!strcmp(name, "host") && BSON_ITER_HOLDS_UTF8(field))
        snprintf(out->host, sizeof out->host, "%s", bson_iter_utf8(field, NULL));
    else if (!strcmp(name, "pid"))
        tow_iter_number(field, &out->pid);
    else if (!strcmp(name, "expires"))
        tow_iter_wall_ms(field, &out->expires_ms);
}

void tow_lease_parse(const bson_t *document, tow_lease_t *out)
{
    bson_iter_t iter, field;

    *out = (tow_lease_t){0};
    if (bson_iter_init_find(&iter, document, "epoch"))
        tow_iter_count(&iter, INT64_MAX - 1, &out->epoch);
    if (bson_iter_init_find(&iter, document, "user") && BSON_ITER_HOLDS_UTF8(&iter))
        snprintf(out->user, sizeof out->user, "%s", bson_iter_utf8(&iter, NULL));
    if (bson_iter_init_find(&iter, document, "lease") && BSON_ITER_HOLDS_DOCUMENT(&iter) &&
        bson_iter_recurse(&iter, &field))
        while (bson_iter_next(&field))
            parse_field(&field, out);
}

static bool is_true(const bson_t *document, const char *name)
{
    bson_iter_t iter;

    return bson_iter_init_find(&iter, document, name) && bson_iter_as_bool(&iter);
}

static bool is_begun(const bson_t *document)
{
    return is_true(document, "begun") || is_true(document, "prepared");
}

/* Members come and go, and so may the right to read an id. `here`: only an id that is another one
 * says that it is another deployment. */
static bool is_same_deployment(const char *before, const char *now, bool here)
{
    tow_relation_t identity = tow_identity_compare(before, now);

    return identity == TOW_IDENTITY_SAME || (here && identity == TOW_IDENTITY_OPEN);
}

/* How the job's records are laid out; a job goes on in the format that it began with. */
static bool check_format(const bson_t *document, tow_error_t *error)
{
    bson_iter_t iter;
    int64_t format = 1; /* the first had no number */

    if (bson_iter_init_find(&iter, document, "format"))
        tow_iter_number(&iter, &format);
    return format == TOW_STATE_FORMAT ||
           tow_fail(
               error, TOW_ERROR_SETTINGS,
               "the job was begun by another version of Towline: its records have format %" PRId64
               ", this version reads %d; go on with that version, or begin a new job with another "
               "--job and an empty destination",
               format, TOW_STATE_FORMAT);
}

/* Another job may have cleared what this one had copied while nobody held it. */
static bool check_cleared(const bson_t *document, tow_error_t *error)
{
    const char *by = "another job";

    if (!bson_has_field(document, "clearedBy"))
        return true;
    tow_field_text(document, "clearedBy", &by);
    return tow_fail(error, TOW_ERROR_CONFLICT,
                    "another job (its state: %s) cleared on the destination what this job had "
                    "copied there, so this one does not go on; to begin it from the start, remove "
                    "its own state (dropDatabase of towline_ and its --job) and run the same "
                    "command again",
                    by);
}

/* Compares what must not change. */
static bool check_settings(const bson_t *document, const tow_settings_t *settings,
                           tow_error_t *error)
{
    const struct {
        const char *field, *what, *now;
        bool identity, here; /* here: the job's document is on it */
    } checks[] = {{"source", "the source", settings->source_identity, true, false},
                  {"destination", "the destination", settings->destination_identity, true, true},
                  {"filter", "the filter", settings->filter, false, false}};

    if (!check_format(document, error) || !check_cleared(document, error))
        return false;
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++) {
        bson_iter_t iter;
        const char *before = "";

        if (bson_iter_init_find(&iter, document, checks[i].field) && BSON_ITER_HOLDS_UTF8(&iter))
            before = bson_iter_utf8(&iter, NULL);
        if (checks[i].identity ? !is_same_deployment(before, checks[i].now, checks[i].here)
                               : strcmp(before, checks[i].now) != 0)
            return tow_fail(error, TOW_ERROR_SETTINGS,
                            "%s differs from the one this job began with: it was '%s' and is now "
                            "'%s'; give the same options again, or another --job for a new job",
                            checks[i].what, before, checks[i].now);
    }
    return true;
}

/* Who we are logged in as: "name@database", several with a comma; "" without a login. */
static bool read_user(tow_store_t *store, char out[512], tow_error_t *error)
{
    tow_send_options_t send = {.flags = TOW_SEND_RETRY};
    bson_t command = BSON_INITIALIZER, reply;
    bson_iter_t iter, list, user;
    size_t length = 0;
    bool ok;

    out[0] = '\0';
    bson_append_int32(&command, "connectionStatus", -1, 1);
    ok = tow_conn_command(store->conn, "admin", &command, &send, &reply, error);
    if (ok && bson_iter_init(&iter, &reply) &&
        bson_iter_find_descendant(&iter, "authInfo.authenticatedUsers", &list) &&
        BSON_ITER_HOLDS_ARRAY(&list) && bson_iter_recurse(&list, &list))
        while (bson_iter_next(&list) && length < 500) {
            const char *name = "", *database = "";

            if (!BSON_ITER_HOLDS_DOCUMENT(&list) || !bson_iter_recurse(&list, &user))
                continue;
            while (bson_iter_next(&user))
                if (BSON_ITER_HOLDS_UTF8(&user))
                    *(strcmp(bson_iter_key(&user), "db") ? &name : &database) =
                        bson_iter_utf8(&user, NULL);
            length += (size_t)snprintf(out + length, 512 - length, "%s%s@%s", length ? "," : "",
                                       name, database);
        }
    bson_destroy(&reply);
    bson_destroy(&command);
    return ok;
}

static bool names_sessions(const bson_t *document)
{
    bson_iter_t iter, list;

    return bson_iter_init_find(&iter, document, "sessions") && BSON_ITER_HOLDS_ARRAY(&iter) &&
           bson_iter_recurse(&iter, &list) && bson_iter_next(&list);
}

/* A session belongs to its user: nobody else can end what another user's holds. One that did not
 * give the lease back may name its first until that is taken. */
static bool check_user(const tow_store_t *store, const bson_t *document, const tow_lease_t *lease,
                       const char *user, tow_error_t *error)
{
    bool numbered = !tow_link_facts(store->options.destination)->standalone;

    if (!numbered || !strcmp(lease->user, user) || (!lease->holder[0] && !names_sessions(document)))
        return true;
    return tow_fail(
        error, TOW_ERROR_SETTINGS,
        "the destination's user differs from the one that the job's last process logged in "
        "with: it was '%s' and is now '%s'; only the same user can end what that process "
        "may still have under way there",
        lease->user, user);
}

/* Taking ----------------------------------------------------------------------------------------*/

void tow_store_append_expiry(bson_t *out, const char *name, int64_t length_ms)
{
    bson_t sum, list, now;

    bson_append_document_begin(out, name, -1, &sum);
    bson_append_array_begin(&sum, "$add", -1, &list);
    bson_append_document_begin(&list, "0", 1, &now);
    bson_append_utf8(&now, "$toLong", -1, "$$NOW", -1);
    bson_append_document_end(&list, &now);
    bson_append_int64(&list, "1", 1, length_ms);
    bson_append_array_end(&sum, &list);
    bson_append_document_end(out, &sum);
}

/* {name: {$literal: text}}: no text is taken for an expression. */
static void append_literal(bson_t *out, const char *name, const char *text)
{
    bson_t literal;

    bson_append_document_begin(out, name, -1, &literal);
    bson_append_utf8(&literal, "$literal", -1, text, -1);
    bson_append_document_end(out, &literal);
}

void tow_store_stage(bson_t *out, const bson_t *fields)
{
    bson_t stage;

    bson_init(out);
    bson_append_document_begin(out, "0", 1, &stage);
    bson_append_document(&stage, "$set", -1, fields);
    bson_append_document_end(out, &stage);
}

/* Host and process are for people alone. */
static void append_lease(bson_t *out, const tow_store_t *store)
{
    char host[256] = "";
    bson_t lease;

    gethostname(host, sizeof host - 1);
    bson_append_document_begin(out, "lease", -1, &lease);
    append_literal(&lease, "holder", store->holder);
    append_literal(&lease, "host", host);
    bson_append_int64(&lease, "pid", -1, getpid());
    bson_append_utf8(&lease, "taken", -1, "$$NOW", -1);
    tow_store_append_expiry(&lease, "expires", store->options.lease_ms);
    bson_append_document_end(out, &lease);
}

/* Nobody holds it, or exactly the lease that was read has run out by the server's clock. */
static void append_takeable(bson_t *out, const tow_lease_t *old)
{
    bson_t compare, list, part;

    bson_append_utf8(out, "_id", -1, "job", -1);
    bson_append_int64(out, "epoch", -1, old->epoch);
    if (!old->holder[0]) {
        bson_append_null(out, "lease", -1);
        return;
    }
    bson_append_utf8(out, "lease.holder", -1, old->holder, -1);
    bson_append_document_begin(out, "$expr", -1, &compare);
    bson_append_array_begin(&compare, "$lte", -1, &list);
    bson_append_document_begin(&list, "0", 1, &part);
    bson_append_utf8(&part, "$toLong", -1, "$lease.expires", -1);
    bson_append_document_end(&list, &part);
    bson_append_document_begin(&list, "1", 1, &part);
    bson_append_utf8(&part, "$toLong", -1, "$$NOW", -1);
    bson_append_document_end(&list, &part);
    bson_append_array_end(&compare, &list);
    bson_append_document_end(out, &compare);
}

/* Of two who try, one finds another epoch. A job that was not begun has no settings yet but ours:
 * whoever held it may begin it until the lease is taken. */
static bool try_take(tow_store_t *store, const tow_lease_t *old, bool begun, const char *user,
                     bool *out_taken, tow_error_t *error)
{
    const tow_settings_t *settings = &store->options.settings;
    bson_t filter = BSON_INITIALIZER, fields = BSON_INITIALIZER, update;
    int64_t matched;
    int code;
    bool ok;

    append_takeable(&filter, old);
    if (!begun)
        bson_append_null(&filter, "begun", -1);
    append_lease(&fields, store);
    bson_append_int64(&fields, "epoch", -1, old->epoch + 1);
    append_literal(&fields, "user", user);
    if (!begun) {
        append_literal(&fields, "source", settings->source_identity);
        append_literal(&fields, "destination", settings->destination_identity);
        append_literal(&fields, "filter", settings->filter);
    }
    tow_store_stage(&update, &fields);
    ok = tow_store_update_one(store, "job", &filter, &update, true, false, &matched, &code, error);
    *out_taken = ok && matched == 1;
    if (*out_taken)
        store->epoch = old->epoch + 1;
    bson_destroy(&filter);
    bson_destroy(&fields);
    bson_destroy(&update);
    return ok;
}

/* The document, without a lease: that is taken in one way only. It may be there by now. */
static bool create_job(tow_store_t *store, tow_error_t *error)
{
    bson_t command = BSON_INITIALIZER, list, document, reply;
    tow_write_error_t failure;
    uint32_t position = 0;
    bool ok;

    bson_append_utf8(&command, "insert", -1, "job", -1);
    bson_append_array_begin(&command, "documents", -1, &list);
    bson_append_document_begin(&list, "0", -1, &document);
    bson_append_utf8(&document, "_id", -1, "job", -1);
    bson_append_int32(&document, "format", -1, TOW_STATE_FORMAT);
    bson_append_int64(&document, "epoch", -1, 0);
    bson_append_document_end(&list, &document);
    bson_append_array_end(&command, &list);
    ok = tow_store_run(store, &command, TOW_SEND_WRITE, &reply, error);
    if (ok && tow_reply_write_error(&reply, &position, &failure) &&
        failure.code != TOW_CODE_DUPLICATE_KEY)
        ok = tow_fail(error, TOW_ERROR_SERVER, "the job's state (%s): %s", store->database,
                      failure.message);
    bson_destroy(&reply);
    bson_destroy(&command);
    return ok;
}

static bool fail_held(const tow_lease_t *lease, double left_s, const char *why, tow_error_t *error)
{
    return tow_fail(error, TOW_ERROR_LEASE,
                    "the job is held by process %" PRId64
                    " on %s, %s, and runs out in %.0f s; stop that "
                    "process, or give another --job",
                    lease->pid, lease->host, why, left_s > 0 ? left_s : 0);
}

/* What a start knows while it waits. */
typedef struct {
    tow_lease_t first; /* the lease that it found; no holder: none yet */
    int64_t told_ms;
    unsigned turns; /* since it waited */
} waiting_t;

/* The job's document is made, then taken. More turns follow only when others come in between, or
 * when what the server says of it and what it does contradict each other. */
static bool take_turn(tow_store_t *store, waiting_t *waiting, tow_error_t *error)
{
    unsigned turn = waiting->turns++;

    if (turn < 2)
        return true;
    if (turn < TURNS_MOST && tow_backoff(store->options.destination, turn - 2, INT64_MAX))
        return true;
    if (store->options.stop && tow_stop_requested(store->options.stop))
        return tow_fail(error, TOW_ERROR_INTERRUPTED, "stopped while taking the job's lease");
    return tow_fail(
        error, TOW_ERROR_SERVER,
        "the job's lease (%s) could not be taken in %d turns: each time the destination "
        "shows another state than the one that it acts on; look at the collection job "
        "of that database",
        store->database, TURNS_MOST);
}

/* Waits a little for a lease that is not renewed. False: it is, or nobody wants to wait. */
static bool wait_for(tow_store_t *store, waiting_t *waiting, const tow_lease_t *lease,
                     tow_error_t *error)
{
    int64_t now_ms, left_ms;

    if (!server_now(store, &now_ms, error))
        return false;
    left_ms = lease->expires_ms - now_ms;
    if (!store->options.wait)
        return fail_held(lease, (double)left_ms / 1000, "whose lease has not run out", error);
    if (waiting->first.holder[0] &&
        (strcmp(waiting->first.holder, lease->holder) != 0 ||
         waiting->first.epoch != lease->epoch || waiting->first.expires_ms != lease->expires_ms))
        return fail_held(lease, (double)left_ms / 1000, "which renews its lease", error);
    waiting->first = *lease;
    if (!waiting->told_ms || tow_now_ms() - waiting->told_ms >= TELL_MS) {
        waiting->told_ms = tow_now_ms();
        tow_emit(&store->options.sink, TOW_LEVEL_INFO, "lease_waited",
                 "waiting for the lease of process %" PRId64 " on %s to run out, %.0f s",
                 lease->pid, lease->host, (double)(left_ms > 0 ? left_ms : 0) / 1000);
    }
    if (store->options.stop && tow_stop_wait(store->options.stop, LOOK_MS))
        return tow_fail(error, TOW_ERROR_INTERRUPTED, "stopped while waiting for the job's lease");
    waiting->turns = 0;
    return true;
}

/* The job's document under our lease: until that was taken, a holder whose time was over could
 * still name sessions and operations in it. With another epoch than its own it cannot. */
static bool read_taken(tow_store_t *store, bson_t *out_document, tow_error_t *error)
{
    bool found;

    return tow_store_find_one(store, "job", "job", out_document, &found, error) &&
           (found ||
            tow_fail(error, TOW_ERROR_LEASE,
                     "the job's state (%s) was removed as soon as its lease was taken; run "
                     "the same command again",
                     store->database));
}

/* It was cleared between our look and the moment when we took it: nobody has it then. */
static bool keep_taken(tow_store_t *store, bson_t *document, tow_error_t *error)
{
    bson_t *update;
    tow_error_t ignored;

    if (check_cleared(document, error))
        return true;
    bson_destroy(document);
    update = BCON_NEW("$unset", "{", "lease", "", "}");
    if (!tow_store_update_guarded(store, update, &ignored))
        store->epoch = 0; /* it runs out by itself */
    bson_destroy(update);
    return false;
}

/* *out_document: the job's, as its former holders left it; the caller's when true.
 * store->renewed_ms: before the lease's time began. */
static bool take(tow_store_t *store, bson_t *out_document, tow_error_t *error)
{
    waiting_t waiting = {0};
    char user[512];
    tow_lease_t lease;

    if (!read_user(store, user, error))
        return false;
    for (;;) {
        bool found, taken = false, ok;

        if (!take_turn(store, &waiting, error) ||
            !tow_store_find_one(store, "job", "job", out_document, &found, error) ||
            (!found && !create_job(store, error)))
            return false;
        if (!found)
            continue;
        tow_lease_parse(out_document, &lease);
        ok = (!is_begun(out_document) ||
              check_settings(out_document, &store->options.settings, error)) &&
             check_user(store, out_document, &lease, user, error);
        if (ok) {
            atomic_store(&store->renewed_ms, tow_boot_ms());
            ok = try_take(store, &lease, is_begun(out_document), user, &taken, error);
        }
        if (taken) {
            bson_destroy(out_document);
            return read_taken(store, out_document, error) && keep_taken(store, out_document, error);
        }
        ok = ok && (!lease.holder[0] || wait_for(store, &waiting, &lease, error));
        bson_destroy(out_document);
        if (!ok)
            return false;
    }
}

static void open_conns(tow_store_t *store)
{
    tow_link_t *link = store->options.destination;

    store->conn = tow_conn_open(link);
    store->keeper.conn = tow_conn_open(link);
    /* They write nothing but the state, each time only where it is ours. */
    tow_conn_unguarded(store->conn);
    tow_conn_unguarded(store->keeper.conn);
}

static bool is_removed(const bson_t *document)
{
    return is_true(document, "removing") && !bson_has_field(document, "ended");
}

/* Takes the job's lease, and ends what its former holders may have under way. *out_removed: a
 * process before was about to remove the state, and could not; that is done now, and the job is
 * new. */
static bool take_over(tow_store_t *store, bool *out_resumed, bool *out_removed, tow_error_t *error)
{
    bson_t document;
    bool ok;

    if (!take(store, &document, error))
        return false;
    *out_removed = is_removed(&document);
    *out_resumed = is_begun(&document);
    tow_lease_limit(store, atomic_load(&store->renewed_ms));
    ok = tow_keeper_start(store, error) && tow_fence(store, &document, error);
    bson_destroy(&document);
    return ok && (!*out_removed || tow_store_drop(store, error));
}

static tow_store_t *make(const tow_store_options_t *options)
{
    tow_store_t *store = tow_alloc(sizeof *store);

    store->options = *options;
    store->database = tow_format("towline_%s", options->job);
    pthread_mutex_init(&store->lock, NULL);
    pthread_mutex_init(&store->keeper.lock, NULL);
    tow_condition_init(&store->keeper.changed);
    tow_new_id(store->holder);
    return store;
}

tow_store_t *tow_store_open(const tow_store_options_t *options, bool *out_resumed,
                            tow_error_t *error)
{
    bool removed = true;
    tow_store_t *store = NULL;

    while (removed) {
        tow_store_destroy(store);
        store = make(options);
        open_conns(store);
        if (!take_over(store, out_resumed, &removed, error)) {
            tow_store_destroy(store);
            return NULL;
        }
    }
    store->options.settings = (tow_settings_t){0}; /* they were borrowed */
    store->options.job = NULL;
    return store;
}

void tow_store_destroy(tow_store_t *store)
{
    if (!store)
        return;
    tow_keeper_end(store);
    if (store->conn)
        tow_link_guard(store->options.destination, NULL, NULL);
    tow_conn_close(store->keeper.conn);
    tow_conn_close(store->conn);
    pthread_cond_destroy(&store->keeper.changed);
    pthread_mutex_destroy(&store->keeper.lock);
    pthread_mutex_destroy(&store->lock);
    free(store->slots);
    free(store->database);
    free(store);
}

/* Looking ---------------------------------------------------------------------------------------*/

/* A look at a job's document: whose it is, and for how long. *out_document is the caller's when
 * *out_found. */
static bool look_at(tow_store_t *store, tow_store_view_t *out, bson_t *out_document,
                    bool *out_found, tow_error_t *error)
{
    tow_lease_t lease;
    int64_t now_ms;

    *out = (tow_store_view_t){0};
    *out_found = false;
    if (!server_now(store, &now_ms, error) ||
        !tow_store_find_one(store, "job", "job", out_document, out_found, error))
        return false;
    if (!*out_found)
        return true;
    tow_lease_parse(out_document, &lease);
    out->exists = is_begun(out_document) && !is_removed(out_document);
    out->writes_blocked = is_true(out_document, "writesBlocked");
    out->held = lease.holder[0] && lease.expires_ms > now_ms;
    memcpy(out->host, lease.host, sizeof out->host);
    out->pid = lease.pid;
    out->expires_ms = lease.expires_ms;
    out->expires_seconds = (double)(lease.expires_ms - now_ms) / 1000;
    return true;
}

bool tow_store_peek(tow_link_t *destination, const char *job, const tow_settings_t *settings,
                    tow_store_view_t *out, tow_error_t *error)
{
    tow_store_t store = {.options.destination = destination,
                         .database = tow_format("towline_%s", job)};
    bool found = false, ok;
    bson_t document;

    *out = (tow_store_view_t){0};
    store.conn = tow_conn_open(destination);
    ok = look_at(&store, out, &document, &found, error) &&
         (!out->exists || check_settings(&document, settings, error));
    if (found)
        bson_destroy(&document);
    tow_conn_close(store.conn);
    free(store.database);
    return ok;
}

static bool refuse_held(tow_conn_t *conn, const char *database, tow_error_t *error)
{
    tow_store_t store = {.conn = conn, .database = (char *)database};
    tow_lease_t lease = {0};
    bson_t document;
    bool found;

    if (!tow_store_find_one(&store, "job", "job", &document, &found, error))
        return false;
    if (found) {
        tow_lease_parse(&document, &lease);
        bson_destroy(&document);
    }
    return !lease.holder[0] ||
           tow_fail(error, TOW_ERROR_LEASE,
                    "a job is writing to the destination, or was killed: its state is %s, and the "
                    "lease of process %" PRId64
                    " on %s was not given back; finish or stop that job (one that was killed: "
                    "start it again first), then repair",
                    database, lease.pid, lease.host);
}

bool tow_store_refuse_held(tow_link_t *destination, tow_error_t *error)
{
    tow_conn_t *conn = tow_conn_open(destination);
    tow_catalog_t catalog = {0};
    bool ok = tow_catalog_read(conn, NULL, &catalog, error);

    for (size_t i = 0; ok && i < catalog.count; i++)
        if (!strcmp(catalog.items[i].name, "job") &&
            tow_may_be_job_state(catalog.items[i].database) &&
            strcmp(catalog.items[i].database, "towline_" TOW_REPAIR_NAME) != 0)
            ok = refuse_held(conn, catalog.items[i].database, error);
    tow_catalog_clear(&catalog);
    tow_conn_close(conn);
    return ok;
}

bool tow_store_find_repair(tow_link_t *destination, bool *out, tow_error_t *error)
{
    tow_store_t store = {.conn = tow_conn_open(destination),
                         .database = (char *)"towline_" TOW_REPAIR_NAME};
    bson_t document;
    bool ok = tow_store_find_one(&store, "job", "job", &document, out, error);

    if (ok && *out)
        bson_destroy(&document);
    tow_conn_close(store.conn);
    return ok;
}
