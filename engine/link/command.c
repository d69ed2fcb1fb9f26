/* SPDX-License-Identifier: Apache-2.0 */
/* command.c: sends one command, adds concerns and session, tries again where that is allowed. */
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/base/memory.h"
#include "engine/base/thread.h"
#include "engine/link/codes.h"
#include "engine/link/internal.h"
#include "engine/link/reply.h"

bool tow_conn_ready(tow_conn_t *conn, tow_error_t *error)
{
    mongoc_session_opt_t *options;
    bson_error_t driver;
    sigset_t before;

    if (!conn->client) {
        tow_thread_block_signals(&before); /* the first time, this starts the driver's threads */
        conn->client = mongoc_client_pool_pop(conn->link->pool);
        tow_thread_restore_signals(&before);
    }
    /* NULL only where the URI has a waitQueueTimeoutMS. */
    if (!conn->client) {
        tow_fail(error, TOW_ERROR_UNREACHABLE,
                 "the %s: no connection came free within the waitQueueTimeoutMS of its URI",
                 conn->link->side);
        error->retry = TOW_RETRY_SAME;
        return false;
    }
    if (conn->session)
        return true;
    options = mongoc_session_opts_new();
    mongoc_session_opts_set_causal_consistency(options, false);
    conn->session = mongoc_client_start_session(conn->client, options, &driver);
    mongoc_session_opts_destroy(options);
    if (!conn->session) {
        tow_classify(&driver, NULL, conn->link->side, error);
        return false;
    }
    return true;
}

void tow_conn_forget_session(tow_conn_t *conn)
{
    if (conn->numbered)
        return;
    if (conn->session)
        mongoc_client_session_destroy(conn->session);
    conn->session = NULL;
    conn->gossiped = 0;
}

void tow_link_guard(tow_link_t *link, const tow_write_guard_t *guard, void *data)
{
    link->guard_data = data;
    link->guard = guard;
}

const bson_t *tow_conn_session(tow_conn_t *conn, tow_error_t *error)
{
    return tow_conn_ready(conn, error) ? mongoc_client_session_get_lsid(conn->session) : NULL;
}

bool tow_conn_note(tow_conn_t *conn, int64_t number, tow_error_t *error)
{
    const tow_link_t *link = conn->link;

    if (!number || conn->noted || conn->unguarded || !link->guard)
        return true;
    conn->noted = link->guard->session(link->guard_data,
                                       mongoc_client_session_get_lsid(conn->session), error);
    return conn->noted && tow_conn_may_write(conn, error); /* noting it may have taken long */
}

void tow_conn_explain(const tow_conn_t *conn, int64_t number, tow_error_t *error)
{
    /* Numbers only grow: whoever used a newer one adopted the session. */
    if (number && error->server_code == TOW_CODE_TRANSACTION_TOO_OLD)
        tow_fail(error, TOW_ERROR_LEASE,
                 "another process took this job over and ended what this one was writing to the "
                 "%s; this one stops, nothing is lost",
                 conn->link->side);
}

void tow_conn_doubt(tow_conn_t *conn, int64_t number, unsigned again, const tow_error_t *error)
{
    if (number && (again || (error && error->retry == TOW_RETRY_RECONNECT)))
        conn->doubtful = true;
}

bool tow_conn_settle(tow_conn_t *conn, tow_error_t *error)
{
    const tow_link_t *link = conn->link;

    if (!conn->doubtful || conn->unguarded || !link->guard)
        return true;
    if (!link->guard->outnumber(link->guard_data, conn, error))
        return tow_fail_context(error, "end what is still under way");
    conn->doubtful = false;
    return true;
}

bool tow_conn_adopt(tow_conn_t *conn, const bson_t *session, uint32_t writes, tow_error_t *error)
{
    const bson_t *own = tow_conn_session(conn, error);

    if (!own)
        return false;
    if (own->len != session->len)
        return tow_fail(error, TOW_ERROR_SERVER,
                        "the %s: a session's id has %u bytes instead of %u", conn->link->side,
                        session->len, own->len);
    /* The driver gives no other way to send in a session that it did not begin. No pool takes it
     * back: the client is this connection's own. */
    memcpy((uint8_t *)bson_get_data(own), bson_get_data(session), own->len);
    conn->adopted = writes;
    return true;
}

void tow_link_limit_writes(tow_link_t *link, int64_t until_ms)
{
    atomic_store(&link->writes_until_ms, until_ms);
}

void tow_conn_unguarded(tow_conn_t *conn)
{
    conn->unguarded = true;
}

bool tow_conn_may_write(const tow_conn_t *conn, tow_error_t *error)
{
    int64_t until_ms = atomic_load(&conn->link->writes_until_ms);

    if (!until_ms || conn->unguarded || tow_boot_ms() < until_ms)
        return true;
    tow_fail(error, TOW_ERROR_UNREACHABLE,
             "writes to the %s wait until the job's lease is renewed there", conn->link->side);
    error->retry = TOW_RETRY_RECONNECT;
    return false;
}

int64_t tow_conn_number(tow_conn_t *conn)
{
    if (conn->link->facts.standalone)
        return 0;
    conn->numbered = true;
    if (conn->adopted)
        return INT64_MAX - (conn->adopted > 1 ? --conn->adopted : 0);
    return atomic_fetch_add(&conn->link->numbers, 1) + 1;
}

/* The command with its concerns, and with its number when that is not 0. */
static void complete(const bson_t *command, const tow_send_options_t *options, int64_t number,
                     bson_t *out)
{
    bson_t concern;

    bson_copy_to(command, out);
    if (options->flags & TOW_SEND_READ) {
        bson_append_document_begin(out, "readConcern", -1, &concern);
        bson_append_utf8(&concern, "level", -1, "majority", -1);
        if (options->after)
            bson_append_timestamp(&concern, "afterClusterTime", -1,
                                  (uint32_t)(options->after >> 32), (uint32_t)options->after);
        bson_append_document_end(out, &concern);
    }
    if (options->flags & TOW_SEND_WRITE) {
        bson_append_document_begin(out, "writeConcern", -1, &concern);
        bson_append_utf8(&concern, "w", -1, "majority", -1);
        bson_append_document_end(out, &concern);
    }
    if (number)
        bson_append_int64(out, "txnNumber", -1, number);
}

/* Which server to ask. A cursor lives on one mongos: there the choice is made here and remembered,
 * so that getMore can name it. */
static void append_server(tow_conn_t *conn, mongoc_client_t *client, uint32_t wanted, bson_t *opts)
{
    mongoc_server_description_t *chosen;
    bson_error_t ignored;

    if (!wanted && conn->link->facts.sharded &&
        (chosen = mongoc_client_select_server(client, true, NULL, &ignored))) {
        wanted = mongoc_server_description_id(chosen);
        mongoc_server_description_destroy(chosen);
        conn->server = wanted;
    }
    if (wanted)
        bson_append_int32(opts, "serverId", -1, (int32_t)wanted);
}

static bool is_write(const bson_t *command)
{
    static const char *const names[] = {"insert", "update", "delete"};
    bson_iter_t iter;

    if (bson_iter_init(&iter, command) && bson_iter_next(&iter))
        for (size_t i = 0; i < sizeof names / sizeof *names; i++)
            if (!strcmp(bson_iter_key(&iter), names[i]))
                return true;
    return false;
}

/* The session is told the newest $clusterTime that any connection of this side has heard: each
 * client of the driver passes on only what it heard itself, and a time that another one brought may
 * be news to the server. */
static void gossip(tow_conn_t *conn)
{
    tow_link_t *link = conn->link;
    bson_t newest;

    if (conn->gossiped >= atomic_load(&link->cluster_time))
        return;
    tow_link_lock(link);
    bson_copy_to(&link->gossip, &newest);
    conn->gossiped = atomic_load(&link->cluster_time);
    tow_link_unlock(link);
    mongoc_client_session_advance_cluster_time(conn->session, &newest);
    bson_destroy(&newest);
}

/* Sends by the connection's client; *reply is initialized in any case. */
static bool send_pooled(tow_conn_t *conn, const char *database, const bson_t *command,
                        const tow_send_options_t *options, bson_t *reply, tow_error_t *error)
{
    bson_t opts = BSON_INITIALIZER;
    bson_error_t driver = {0};
    bool ok;

    if (options->after)
        gossip(conn);
    ok = mongoc_client_session_append(conn->session, &opts, &driver);
    if (ok) {
        append_server(conn, conn->client, options->server_id, &opts);
        ok = mongoc_client_command_with_opts(conn->client, database, command, NULL, &opts, reply,
                                             &driver);
    } else {
        bson_init(reply);
    }
    bson_destroy(&opts);
    if (ok)
        return true;
    tow_classify(&driver, reply, conn->link->side, error);
    if (error->retry == TOW_RETRY_RECONNECT)
        tow_conn_forget_session(conn);
    return false;
}

/* Sends by a client without a socket time-out, likewise. */
static bool send_patiently(tow_conn_t *conn, const char *database, const bson_t *command,
                           bson_t *reply, tow_error_t *error)
{
    bson_t opts = BSON_INITIALIZER;
    bool ok;

    ok = tow_patient_call(conn->link, conn->patient, conn->heeds, database, command, &opts, reply,
                          error);
    if (!ok) {
        tow_patient_free(conn->patient);
        conn->patient = NULL;
    }
    bson_destroy(&opts);
    return ok;
}

static bool send_once(tow_conn_t *conn, const char *database, const bson_t *command,
                      const tow_send_options_t *options, int64_t number, bson_t *reply,
                      tow_error_t *error)
{
    bool patient = options->flags & TOW_SEND_NO_TIMEOUT, ok;
    bson_iter_t iter;

    if (patient && !conn->patient)
        conn->patient = tow_patient_new(conn->link, error);
    ok = patient ? conn->patient != NULL : tow_conn_ready(conn, error);
    if (!ok || (options->flags & TOW_SEND_WRITE && !tow_conn_may_write(conn, error)) ||
        !tow_conn_note(conn, number, error)) {
        bson_init(reply);
        return false;
    }
    ok = patient ? send_patiently(conn, database, command, reply, error)
                 : send_pooled(conn, database, command, options, reply, error);
    tow_link_take_time(conn->link, reply);
    if (ok && is_write(command) && !tow_reply_is_write(command, reply)) {
        tow_fail_reply(error, conn->link->side, "its answer to a write cannot be read");
        error->retry = TOW_RETRY_RECONNECT; /* what it did is not known */
        return false;
    }
    if (ok && bson_iter_init_find(&iter, reply, "writeConcernError"))
        return tow_fail_write_concern(conn->link, &iter, error);
    return ok && !tow_fail_passing(conn->link->side, reply, error);
}

/* Whether the command is a write that no number keeps from arriving late, and somebody is to know
 * of it. */
static bool is_announced(const tow_conn_t *conn, const tow_send_options_t *options)
{
    return !conn->unguarded && options->flags & TOW_SEND_WRITE &&
           !(options->flags & TOW_SEND_ONCE) && conn->link->guard;
}

/* Sends it, again where that is allowed. */
static bool send_command(tow_conn_t *conn, const char *database, const bson_t *command,
                         const tow_send_options_t *options, unsigned *out_again, bson_t *reply,
                         tow_error_t *error)
{
    tow_retrying_t retrying = tow_retrying_begin(conn->link, conn->link->options.retry_window_ms);
    int64_t number = options->flags & TOW_SEND_ONCE ? tow_conn_number(conn) : 0;
    bson_t complete_command;
    bool ok;

    complete(command, options, number, &complete_command);
    while (!(ok = send_once(conn, database, &complete_command, options, number, reply, error))) {
        bool again =
            options->flags & TOW_SEND_RETRY || (number && error->retry == TOW_RETRY_RECONNECT);

        if (!again || !tow_retrying_wait(&retrying, error))
            break;
        bson_destroy(reply);
    }
    tow_retrying_end(&retrying);
    tow_conn_doubt(conn, number, retrying.attempt, ok ? NULL : error);
    if (!ok)
        tow_conn_explain(conn, number, error);
    bson_destroy(&complete_command);
    *out_again = retrying.attempt;
    return ok;
}

bool tow_conn_command(tow_conn_t *conn, const char *database, const bson_t *command,
                      const tow_send_options_t *options, bson_t *reply, tow_error_t *error)
{
    const tow_link_t *link = conn->link;
    bool announced = is_announced(conn, options), late, ok;
    unsigned again;
    uint32_t slot;

    if (announced && !link->guard->begin(link->guard_data, database, command, &slot, error)) {
        bson_init(reply);
        return false;
    }
    ok = send_command(conn, database, command, options, &again, reply, error);
    late = again || (!ok && error->retry != TOW_RETRY_NEVER);
    if (announced)
        link->guard->end(link->guard_data, slot, !late);
    if (options->out_late)
        *options->out_late = late;
    return ok;
}

uint32_t tow_conn_server(const tow_conn_t *conn)
{
    return conn->server;
}

void tow_link_take_time(tow_link_t *link, const bson_t *reply)
{
    bson_t document;
    tow_optime_t time = tow_reply_cluster_time(reply, &document);

    if (bson_has_field(reply, "ok")) /* and not what the driver says of a lost connection */
        atomic_store(&link->answered_ms, tow_now_ms());
    if (time > atomic_load(&link->cluster_time)) {
        tow_link_lock(link);
        if (time > atomic_load(&link->cluster_time)) {
            bson_destroy(&link->gossip);
            bson_copy_to(&document, &link->gossip);
            atomic_store(&link->cluster_time, time);
        }
        tow_link_unlock(link);
    }
    tow_link_note_time(link, tow_reply_time(reply));
}
