/* SPDX-License-Identifier: Apache-2.0 */
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

/* Who we are logged in as: "name@database", several with a comma; "" without a login. */
static TOW_REQUIRES(tow_store) bool read_user(tow_store_t *store, char out[512], tow_error_t *error)
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

/* Of two who try, one finds another epoch. A job that was not begun has no settings yet but ours:
 * whoever held it may begin it until the lease is taken. */
static TOW_REQUIRES(tow_store) bool try_take(tow_store_t *store, const tow_lease_t *old, bool begun,
                                             const char *user, bool *out_taken, tow_error_t *error)
{
    const tow_settings_t *settings = &store->options.settings;
    bson_t filter = BSON_INITIALIZER, fields = BSON_INITIALIZER, update;
    int64_t matched;
    int code;
    bool ok;

    tow_lease_append_takeable(&filter, old);
    if (!begun)
        bson_append_null(&filter, "begun", -1);
    tow_lease_append(&fields, store);
    bson_append_int64(&fields, "epoch", -1, old->epoch + 1);
    tow_document_append_literal(&fields, "user", user);
    if (!begun) {
        tow_document_append_literal(&fields, "source", settings->source_identity);
        tow_document_append_literal(&fields, "destination", settings->destination_identity);
        tow_document_append_literal(&fields, "filter", settings->filter);
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
static TOW_REQUIRES(tow_store) bool create_job(tow_store_t *store, tow_error_t *error)
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
static TOW_REQUIRES(tow_store) bool wait_for(tow_store_t *store, waiting_t *waiting,
                                             const tow_lease_t *lease, tow_error_t *error)
{
    int64_t now_ms, left_ms;

    if (!tow_store_now(store, &now_ms, error))
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
static TOW_REQUIRES(tow_store) bool read_taken(tow_store_t *store, bson_t *out_document,
                                               tow_error_t *error)
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
static TOW_REQUIRES(tow_store) bool keep_taken(tow_store_t *store, bson_t *document,
                                               tow_error_t *error)
{
    bson_t *update;
    tow_error_t ignored;

    if (tow_document_check_cleared(document, error))
        return true;
    bson_destroy(document);
    update = BCON_NEW("$unset", "{", "lease", "", "}");
    if (!tow_store_update_guarded(store, update, &ignored))
        store->epoch = 0; /* it runs out by itself */
    bson_destroy(update);
    return false;
}

bool tow_lease_take(tow_store_t *store, bson_t *out_document, tow_error_t *error)
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
        ok = (!tow_document_is_begun(out_document) ||
              tow_document_check(out_document, &store->options.settings, error)) &&
             check_user(store, out_document, &lease, user, error);
        if (ok) {
            atomic_store(&store->renewed_ms, tow_boot_ms());
            ok = try_take(store, &lease, tow_document_is_begun(out_document), user, &taken, error);
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
