/* SPDX-License-Identifier: Apache-2.0 */
/* classify.c: the one place where errors get their code, their retry class and their words.
 *
 * Numbers and names are in codes.h; newer servers' error_codes.yml marks some as RetriableError or
 * Interruption. Which of them may be sent again: the drivers' specifications of retryable reads and
 * writes and of server discovery ("not primary", "node is recovering"), what was recorded from a
 * real 4.4, and shared/servers.md for change streams. */
#include <string.h>

#include "engine/link/codes.h"
#include "engine/link/internal.h"
#include "engine/link/reply.h"

static const struct {
    int number;
    tow_retry_t retry;
} table[] = {
    /* The server changes its role or goes away: another connection finds the one to ask. */
    {TOW_CODE_HOST_UNREACHABLE, TOW_RETRY_RECONNECT},
    {TOW_CODE_HOST_NOT_FOUND, TOW_RETRY_RECONNECT},
    {TOW_CODE_NETWORK_TIMEOUT, TOW_RETRY_RECONNECT},
    {TOW_CODE_SHUTDOWN_IN_PROGRESS, TOW_RETRY_RECONNECT},
    {TOW_CODE_PRIMARY_STEPPED_DOWN, TOW_RETRY_RECONNECT},
    {TOW_CODE_EXCEEDED_TIME_LIMIT, TOW_RETRY_RECONNECT},
    {TOW_CODE_CONNECTION_POOL_EXPIRED, TOW_RETRY_RECONNECT},
    {TOW_CODE_CONNECTION_ERROR, TOW_RETRY_RECONNECT},
    {TOW_CODE_REAUTHENTICATION_REQUIRED, TOW_RETRY_RECONNECT},
    {TOW_CODE_SOCKET_EXCEPTION, TOW_RETRY_RECONNECT},
    {TOW_CODE_LEGACY_NOT_PRIMARY, TOW_RETRY_RECONNECT},
    {TOW_CODE_NOT_WRITABLE_PRIMARY, TOW_RETRY_RECONNECT},
    {TOW_CODE_INTERRUPTED_AT_SHUTDOWN, TOW_RETRY_RECONNECT},
    {TOW_CODE_INTERRUPTED_DUE_TO_REPL_STATE_CHANGE, TOW_RETRY_RECONNECT},
    {TOW_CODE_NOT_PRIMARY_NO_SECONDARY_OK, TOW_RETRY_RECONNECT},
    {TOW_CODE_NOT_PRIMARY_OR_SECONDARY, TOW_RETRY_RECONNECT},
    {TOW_CODE_WRITE_WHILE_STEPPING_DOWN, TOW_RETRY_RECONNECT},
    {TOW_CODE_RETRIABLE_REMOTE_COMMAND_FAILURE, TOW_RETRY_RECONNECT}, /* a mongos lost a shard */
    /* The server is busy, moves data about or gave up a cursor: the connection is sound. */
    {TOW_CODE_LOCK_TIMEOUT, TOW_RETRY_SAME},
    {TOW_CODE_CURSOR_NOT_FOUND, TOW_RETRY_SAME}, /* the reader begins again */
    {TOW_CODE_LOCK_BUSY, TOW_RETRY_SAME},
    {TOW_CODE_MAX_TIME_MS_EXPIRED, TOW_RETRY_SAME},
    {TOW_CODE_STALE_SHARD_VERSION, TOW_RETRY_SAME},
    {TOW_CODE_WRITE_CONCERN_TIMEOUT, TOW_RETRY_SAME},
    {TOW_CODE_WRITE_CONFLICT, TOW_RETRY_SAME},
    {TOW_CODE_CONFLICTING_OPERATION_IN_PROGRESS, TOW_RETRY_SAME},
    {TOW_CODE_FAILED_TO_SATISFY_READ_PREFERENCE, TOW_RETRY_SAME},
    {TOW_CODE_READ_CONCERN_MAJORITY_NOT_AVAILABLE_YET, TOW_RETRY_SAME},
    {TOW_CODE_STALE_EPOCH, TOW_RETRY_SAME},
    {TOW_CODE_QUERY_PLAN_KILLED,
     TOW_RETRY_SAME}, /* an index or the collection went away under it */
    {TOW_CODE_NETWORK_INTERFACE_EXCEEDED_TIME_LIMIT, TOW_RETRY_SAME},
    {TOW_CODE_KEY_NOT_FOUND,
     TOW_RETRY_SAME}, /* after a restart the keys that sign $clusterTime are read anew */
    {TOW_CODE_DATABASE_DROP_PENDING, TOW_RETRY_SAME},
    {TOW_CODE_INCOMPLETE_TRANSACTION_HISTORY,
     TOW_RETRY_SAME}, /* a write sent again after too long */
    {TOW_CODE_RETRY_CHANGE_STREAM, TOW_RETRY_SAME},
    {TOW_CODE_CURSOR_KILLED, TOW_RETRY_SAME},
    {TOW_CODE_SNAPSHOT_TOO_OLD, TOW_RETRY_SAME},
    {TOW_CODE_SNAPSHOT_UNAVAILABLE, TOW_RETRY_SAME},
    {TOW_CODE_STALE_DB_VERSION, TOW_RETRY_SAME},
    {TOW_CODE_NO_SUCH_TRANSACTION, TOW_RETRY_SAME},
    {TOW_CODE_INDEX_BUILD_ALREADY_IN_PROGRESS, TOW_RETRY_SAME},
    {TOW_CODE_INTERRUPTED_DUE_TO_STORAGE_CHANGE, TOW_RETRY_SAME},
    {TOW_CODE_INTERNAL_TRANSACTION_NOT_SUPPORTED, TOW_RETRY_SAME}, /* shards move */
    {TOW_CODE_TEMPORARILY_UNAVAILABLE, TOW_RETRY_SAME},            /* cache pressure */
    {TOW_CODE_RESOURCE_EXHAUSTED, TOW_RETRY_SAME},
    {TOW_CODE_MIGRATION_BLOCKING_OPERATION_COORDINATOR_CLEANING_UP, TOW_RETRY_SAME},
    {TOW_CODE_POOLED_CONNECTION_ACQUISITION_EXCEEDED_TIME_LIMIT, TOW_RETRY_SAME},
    {TOW_CODE_UPDATES_STILL_PENDING, TOW_RETRY_SAME},
    {TOW_CODE_ADMISSION_QUEUE_OVERFLOW, TOW_RETRY_SAME},
    {TOW_CODE_RATE_LIMIT_EXCEEDED, TOW_RETRY_SAME},
    {TOW_CODE_INTERRUPTED_DUE_TO_RESHARDING_CRITICAL_SECTION, TOW_RETRY_SAME},
    {TOW_CODE_INTERRUPTED_DUE_TO_ADD_SHARD, TOW_RETRY_SAME},
    {TOW_CODE_UNKNOWN_485, TOW_RETRY_SAME},
    {TOW_CODE_PRIMARY_ONLY_SERVICE_INITIALIZING, TOW_RETRY_SAME},
    {TOW_CODE_INTERRUPTED, TOW_RETRY_SAME}, /* killOp, or the session was killed */
    {TOW_CODE_BACKGROUND_OPERATION_IN_PROGRESS_FOR_DATABASE, TOW_RETRY_SAME},
    {TOW_CODE_BACKGROUND_OPERATION_IN_PROGRESS_FOR_NAMESPACE, TOW_RETRY_SAME},
    {TOW_CODE_STALE_CONFIG, TOW_RETRY_SAME},
    {TOW_CODE_INTERRUPTED_DUE_TO_FCV_CHANGE, TOW_RETRY_SAME},
    /* Another document holds the key: what the source has now decides. */
    {TOW_CODE_DUPLICATE_KEY, TOW_RETRY_REFETCH}};

/* A 4.4 that is overtaken answers CappedPositionLost where the stream had read something, and
 * OplogQueryMinTsMissing where it had not, both without any label. */
static const int lost_codes[] = {TOW_CODE_CHANGE_STREAM_HISTORY_LOST, TOW_CODE_CAPPED_POSITION_LOST,
                                 TOW_CODE_CHANGE_STREAM_FATAL_ERROR, TOW_CODE_INVALID_RESUME_TOKEN,
                                 TOW_CODE_OPLOG_QUERY_MIN_TS_MISSING};

/* Resumable by number, for servers before 4.4, which give no label. */
static const int stream_codes[] = {TOW_CODE_HOST_UNREACHABLE,
                                   TOW_CODE_HOST_NOT_FOUND,
                                   TOW_CODE_CURSOR_NOT_FOUND,
                                   TOW_CODE_STALE_SHARD_VERSION,
                                   TOW_CODE_NETWORK_TIMEOUT,
                                   TOW_CODE_SHUTDOWN_IN_PROGRESS,
                                   TOW_CODE_FAILED_TO_SATISFY_READ_PREFERENCE,
                                   TOW_CODE_STALE_EPOCH,
                                   TOW_CODE_PRIMARY_STEPPED_DOWN,
                                   TOW_CODE_RETRY_CHANGE_STREAM,
                                   TOW_CODE_EXCEEDED_TIME_LIMIT,
                                   TOW_CODE_SOCKET_EXCEPTION,
                                   TOW_CODE_NOT_WRITABLE_PRIMARY,
                                   TOW_CODE_INTERRUPTED_AT_SHUTDOWN,
                                   TOW_CODE_INTERRUPTED_DUE_TO_REPL_STATE_CHANGE,
                                   TOW_CODE_STALE_CONFIG,
                                   TOW_CODE_NOT_PRIMARY_NO_SECONDARY_OK,
                                   TOW_CODE_NOT_PRIMARY_OR_SECONDARY};

#define HOLDS(list, number) holds(list, sizeof list / sizeof *list, number)

static bool holds(const int *list, size_t count, int number)
{
    for (size_t i = 0; i < count; i++)
        if (list[i] == number)
            return true;
    return false;
}

static tow_retry_t retry_of(int number)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].number == number)
            return table[i].retry;
    return TOW_RETRY_NEVER;
}

static bool has_label(const bson_t *reply, const char *label)
{
    const char *text;
    bson_iter_t list;

    if (!reply || !tow_field_list(reply, "errorLabels", &list))
        return false;
    while (bson_iter_next(&list))
        if (tow_iter_text(&list, &text) && !strcmp(text, label))
            return true;
    return false;
}

/* Errors of the driver itself -------------------------------------------------------------------*/

/* The words by which tow_error_stage knows its own messages. */
#define SAYS_LOGIN "refuses the login"
#define SAYS_NAME "its name does not resolve"
#define SAYS_TLS "no secure connection"

static void refuse_login(const char *side, const char *message, tow_error_t *out)
{
    tow_fail(out, TOW_ERROR_UNREACHABLE,
             "the %s " SAYS_LOGIN ": %s; check user, password and authSource in its URI", side,
             message);
}

/* The driver reports every failure while it logs in as a refusal, also a connection that broke or a
 * server that changed its role just then. Only the words tell them apart. */
static bool is_login_interrupted(const char *message)
{
    static const char *const words[] = {"socket",         "timeout", "timed out", "failed to send",
                                        "failed to read", "connect", "shutdown",  "shut down",
                                        "interrupted",    "primary", "recovering"};

    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcasestr(message, words[i]))
            return true;
    return false;
}

/* The driver gives the cause as words only. */
static void classify_connection(const char *message, const char *side, tow_error_t *out)
{
    if (strcasestr(message, "failed to resolve") || strcasestr(message, "failed to look up"))
        tow_fail(out, TOW_ERROR_UNREACHABLE,
                 "the %s cannot be reached: " SAYS_NAME ": %s; check the host name in "
                 "its URI and this machine's name service",
                 side, message);
    else if (strcasestr(message, "TLS") || strcasestr(message, "certificate"))
        tow_fail(out, TOW_ERROR_UNREACHABLE,
                 "the %s cannot be reached: " SAYS_TLS ": %s; check tls, tlsCAFile and "
                 "tlsCertificateKeyFile in its URI, and that the server's certificate is valid for "
                 "that host name",
                 side, message);
    else
        tow_fail(
            out, TOW_ERROR_UNREACHABLE,
            "the %s cannot be reached: %s; check that it runs and that host, port, TLS options "
            "and firewall are right",
            side, message);
    out->retry = TOW_RETRY_RECONNECT;
}

/* A malformed or oversized message: sending it again cannot help. */
static void refuse_request(const char *side, const char *message, tow_error_t *out)
{
    tow_fail(out, TOW_ERROR_INTERNAL, "%s: the driver refuses the request: %s", side, message);
}

/* Nothing reached a server, the connection broke, or the driver refuses what we ask of it. */
static void classify_driver(const bson_error_t *driver, const char *side, tow_error_t *out)
{
    const char *message = driver->message;

    switch (driver->domain) {
    case MONGOC_ERROR_CLIENT:
        if (driver->code == MONGOC_ERROR_CLIENT_TOO_BIG)
            refuse_request(side, message, out);
        else if (driver->code == MONGOC_ERROR_CLIENT_AUTHENTICATE && !is_login_interrupted(message))
            refuse_login(side, message, out);
        else
            classify_connection(message, side, out);
        break;
    case MONGOC_ERROR_SCRAM:
    case MONGOC_ERROR_SASL:
        refuse_login(side, message, out);
        break;
    case MONGOC_ERROR_STREAM:
    case MONGOC_ERROR_SERVER_SELECTION:
        classify_connection(message, side, out);
        break;
    case MONGOC_ERROR_PROTOCOL:
        if (driver->code == MONGOC_ERROR_PROTOCOL_BAD_WIRE_VERSION) {
            tow_fail(out, TOW_ERROR_UNSUITABLE, "the %s runs a version that is not supported: %s",
                     side, message);
            break;
        }
        classify_connection(message, side, out);
        break;
    default:
        refuse_request(side, message, out);
        break;
    }
}

/* Public ----------------------------------------------------------------------------------------*/

void tow_classify(const bson_error_t *driver, const bson_t *reply, const char *side,
                  tow_error_t *out)
{
    int number = (int)driver->code;

    if (driver->domain != MONGOC_ERROR_SERVER && driver->domain != MONGOC_ERROR_QUERY &&
        driver->domain != MONGOC_ERROR_WRITE_CONCERN && driver->domain != MONGOC_ERROR_COLLECTION) {
        classify_driver(driver, side, out);
        return;
    }
    if (number == TOW_CODE_AUTHENTICATION_FAILED || number == TOW_CODE_USER_NOT_FOUND ||
        number == TOW_CODE_MECHANISM_UNAVAILABLE) {
        refuse_login(side, driver->message, out);
        out->server_code = number;
        return;
    }
    if (number == TOW_CODE_UNAUTHORIZED) {
        tow_fail(out, TOW_ERROR_UNREACHABLE,
                 "a privilege is missing: %s: %s; grant it to the user of its URI", side,
                 driver->message);
        out->server_code = number;
        return;
    }
    tow_fail(out, HOLDS(lost_codes, number) ? TOW_ERROR_HISTORY_LOST : TOW_ERROR_SERVER, "%s: %s",
             side, driver->message);
    out->server_code = number;
    if (out->code == TOW_ERROR_HISTORY_LOST)
        return;
    out->retry = retry_of(number);
    if (out->retry == TOW_RETRY_NEVER && has_label(reply, "RetryableWriteError"))
        out->retry = TOW_RETRY_RECONNECT;
    /* RetryableError: 8.2 and later, a server under load. */
    if (out->retry == TOW_RETRY_NEVER &&
        (has_label(reply, "TransientTransactionError") || has_label(reply, "RetryableError")))
        out->retry = TOW_RETRY_SAME;
}

bool tow_fail_write_concern(const tow_link_t *link, const bson_iter_t *found, tow_error_t *error)
{
    const char *message = "not acknowledged by a majority";
    bson_iter_t child;
    int number = 0;

    if (bson_iter_recurse(found, &child)) {
        while (bson_iter_next(&child)) {
            if (!strcmp(bson_iter_key(&child), "code"))
                number = (int)bson_iter_as_int64(&child);
            else if (!strcmp(bson_iter_key(&child), "errmsg"))
                tow_iter_text(&child, &message);
        }
    }
    tow_fail(error, TOW_ERROR_SERVER, "%s: write concern majority: %s", link->side, message);
    error->server_code = number;
    /* Done, but perhaps not for good: whatever the number, only sending it again makes it sure. */
    if (number != TOW_CODE_UNKNOWN_REPL_WRITE_CONCERN &&
        number != TOW_CODE_UNSATISFIABLE_WRITE_CONCERN)
        error->retry = TOW_RETRY_RECONNECT;
    return false;
}

/* A mongos that does not reach a shard, or whose shard has no primary just then, says so of each of
 * that shard's statements in a reply that is fine otherwise; and so it does when a shard refuses a
 * number (4.4 s/write_ops/batch_write_op.cpp). From a replica set the same is an error of the
 * command. */
bool tow_fail_passing(const char *side, const bson_t *reply, tow_error_t *error)
{
    tow_write_error_t refusal;
    uint32_t position = 0;

    while (tow_reply_write_error(reply, &position, &refusal)) {
        tow_retry_t retry = retry_of(refusal.code);

        if (retry != TOW_RETRY_SAME && retry != TOW_RETRY_RECONNECT &&
            refusal.code != TOW_CODE_TRANSACTION_TOO_OLD)
            continue;
        tow_fail(error, TOW_ERROR_SERVER, "%s: %s", side, refusal.message);
        error->server_code = refusal.code;
        error->retry = retry;
        return true;
    }
    return false;
}

tow_stage_t tow_error_stage(const tow_error_t *error)
{
    static const char *const tls_options[] = {"tlsCAFile of", "tlsCertificateKeyFile of"};

    if (error->code == TOW_ERROR_OPTION) {
        for (size_t i = 0; i < sizeof tls_options / sizeof *tls_options; i++)
            if (!strncmp(error->message, tls_options[i], strlen(tls_options[i])))
                return TOW_STAGE_TLS;
        return TOW_STAGE_URI;
    }
    if (strstr(error->message, SAYS_LOGIN))
        return TOW_STAGE_LOGIN;
    if (strstr(error->message, SAYS_NAME))
        return TOW_STAGE_NAME;
    return strstr(error->message, SAYS_TLS) ? TOW_STAGE_TLS : TOW_STAGE_CONNECTION;
}

bool tow_error_stream_resumable(const tow_error_t *error, const bson_t *reply)
{
    if (tow_error_history_lost(error))
        return false;
    return error->retry == TOW_RETRY_RECONNECT || error->retry == TOW_RETRY_SAME ||
           HOLDS(stream_codes, error->server_code) ||
           has_label(reply, "ResumableChangeStreamError");
}

bool tow_error_history_lost(const tow_error_t *error)
{
    return HOLDS(lost_codes, error->server_code);
}
