/* classify.c: the one place where errors get their code, their retry class and their words.
 *
 * Numbers: src/mongo/base/error_codes.yml; which of them may be retried: the drivers' specification of
 * retryable writes and reads, and shared/servers.md for change streams. */
#include <string.h>

#include "engine/link/internal.h"

/* The server changes its role or goes away: the same request may succeed on a new connection. */
static const int reconnect_codes[] = {
    6,     /* HostUnreachable */
    7,     /* HostNotFound */
    89,    /* NetworkTimeout */
    91,    /* ShutdownInProgress */
    189,   /* PrimarySteppedDown */
    9001,  /* SocketException */
    10107, /* NotWritablePrimary */
    11600, /* InterruptedAtShutdown */
    11602, /* InterruptedDueToReplStateChange */
    13435, /* NotPrimaryNoSecondaryOk */
    13436, /* NotPrimaryOrSecondary */
    262    /* ExceededTimeLimit */
};

/* The server is busy or moves data about: the same request may succeed on the same connection. */
static const int same_codes[] = {
    24,    /* LockTimeout */
    43,    /* CursorNotFound: read again */
    50,    /* MaxTimeMSExpired */
    63,    /* StaleShardVersion */
    64,    /* WriteConcernFailed (time-out) */
    112,   /* WriteConflict */
    133,   /* FailedToSatisfyReadPreference */
    134,   /* ReadConcernMajorityNotAvailableYet */
    150,   /* StaleEpoch */
    202,   /* NetworkInterfaceExceededTimeLimit */
    234,   /* RetryChangeStream */
    237,   /* CursorKilled */
    246,   /* SnapshotUnavailable */
    251,   /* NoSuchTransaction */
    317,   /* ConnectionPoolExpired */
    358,   /* InternalTransactionNotSupported (shard moves) */
    384,   /* ConnectionError */
    13388  /* StaleConfig */
};

static const int lost_codes[] = {286, 136, 280, 260};

static const int stream_codes[] = {6,   7,    43,    63,    89,    91,    133,   150,   189, 234,
                                   262, 9001, 10107, 11600, 11602, 13388, 13435, 13436};

#define HOLDS(list, number) holds(list, sizeof list / sizeof *list, number)

static bool holds(const int *list, size_t count, int number)
{
    for (size_t i = 0; i < count; i++)
        if (list[i] == number)
            return true;
    return false;
}

static bool has_label(const bson_t *reply, const char *label)
{
    bson_iter_t iter, list;

    if (!reply || !bson_iter_init_find(&iter, reply, "errorLabels") ||
        !BSON_ITER_HOLDS_ARRAY(&iter) || !bson_iter_recurse(&iter, &list))
        return false;
    while (bson_iter_next(&list))
        if (BSON_ITER_HOLDS_UTF8(&list) && !strcmp(bson_iter_utf8(&list, NULL), label))
            return true;
    return false;
}

/* Errors of the driver itself: nothing reached a server, or the connection broke. */
static void classify_driver(const bson_error_t *driver, const char *side, tow_error_t *out)
{
    if (driver->domain == MONGOC_ERROR_CLIENT &&
        driver->code == MONGOC_ERROR_CLIENT_AUTHENTICATE) {
        tow_fail(out, TOW_ERROR_UNREACHABLE,
                 "the %s refuses the login: %s; check user, password and authSource in its URI",
                 side, driver->message);
        return;
    }
    tow_fail(out, TOW_ERROR_UNREACHABLE,
             "the %s cannot be reached: %s; check that it runs and that host, port, TLS options and "
             "firewall are right",
             side, driver->message);
    out->retry = TOW_RETRY_RECONNECT;
}

void tow_classify(const bson_error_t *driver, const bson_t *reply, const char *side,
                  tow_error_t *out)
{
    int number = (int)driver->code;
    bool from_server = driver->domain == MONGOC_ERROR_SERVER ||
                       driver->domain == MONGOC_ERROR_QUERY ||
                       driver->domain == MONGOC_ERROR_WRITE_CONCERN ||
                       driver->domain == MONGOC_ERROR_COLLECTION;

    if (!from_server) {
        classify_driver(driver, side, out);
        return;
    }
    tow_fail(out, TOW_ERROR_SERVER, "%s: %s", side, driver->message);
    out->server_code = number;
    if (HOLDS(lost_codes, number))
        out->code = TOW_ERROR_HISTORY_LOST;
    else if (number == 18 || number == 13)
        out->code = TOW_ERROR_UNREACHABLE;
    else if (HOLDS(reconnect_codes, number) || has_label(reply, "RetryableWriteError"))
        out->retry = TOW_RETRY_RECONNECT;
    else if (HOLDS(same_codes, number) || has_label(reply, "TransientTransactionError"))
        out->retry = TOW_RETRY_SAME;
    else if (number == 11000)
        out->retry = TOW_RETRY_REFETCH;
    if (number == 13)
        tow_fail_context(out, "a privilege is missing");
}

bool tow_error_stream_resumable(const tow_error_t *error, const bson_t *reply)
{
    if (tow_error_history_lost(error))
        return false;
    return error->retry == TOW_RETRY_RECONNECT || HOLDS(stream_codes, error->server_code) ||
           has_label(reply, "ResumableChangeStreamError");
}

bool tow_error_history_lost(const tow_error_t *error)
{
    return HOLDS(lost_codes, error->server_code);
}
