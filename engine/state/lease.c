/* lease.c: a job belongs to one process at a time. */
#include "engine/state/store_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/clock.h"

static void read_line(const char *path, char *out, size_t size)
{
    FILE *file = fopen(path, "r");

    out[0] = '\0';
    if (!file)
        return;
    if (!fgets(out, (int)size, file))
        out[0] = '\0';
    out[strcspn(out, "\n")] = '\0';
    fclose(file);
}

/* Which process ids these are: the containers of a machine have the boot id in common, and each its own ids. */
static void read_pid_space(char out[64])
{
    ssize_t length = readlink("/proc/self/ns/pid", out, 63);

    out[length > 0 ? length : 0] = '\0';
}

/* Field 22 of /proc/PID/stat: when the process started, so that a reused id is not taken for it. */
static int64_t process_start(int64_t pid)
{
    char path[64], text[1024];
    char *at;
    long long start = 0;

    snprintf(path, sizeof path, "/proc/%" PRId64 "/stat", pid);
    read_line(path, text, sizeof text);
    at = strrchr(text, ')');
    for (int field = 2; at && field < 22; field++)
        at = strchr(at + 1, ' ');
    if (at)
        sscanf(at, "%lld", &start);
    return start;
}

/* The server's clock decides about leases, not ours. */
static bool server_now(tow_store_t *store, int64_t *out_ms, tow_error_t *error)
{
    bson_t command = BSON_INITIALIZER, reply;
    bson_iter_t iter;
    bool ok;

    bson_append_int32(&command, "isMaster", -1, 1);
    ok = tow_store_run(store, &command, 0, &reply, error);
    *out_ms = tow_wall_ms();
    if (ok && bson_iter_init_find(&iter, &reply, "localTime") && BSON_ITER_HOLDS_DATE_TIME(&iter))
        *out_ms = bson_iter_date_time(&iter);
    bson_destroy(&reply);
    bson_destroy(&command);
    return ok;
}

static void append_lease(bson_t *out, const tow_store_t *store, int64_t now_ms)
{
    char host[256] = "", boot[64], space[64];
    bson_t lease;

    gethostname(host, sizeof host - 1);
    read_line("/proc/sys/kernel/random/boot_id", boot, sizeof boot);
    read_pid_space(space);
    bson_append_document_begin(out, "lease", -1, &lease);
    bson_append_utf8(&lease, "holder", -1, store->holder, -1);
    bson_append_utf8(&lease, "host", -1, host, -1);
    bson_append_utf8(&lease, "bootId", -1, boot, -1);
    bson_append_utf8(&lease, "pidSpace", -1, space, -1);
    bson_append_int64(&lease, "pid", -1, getpid());
    bson_append_int64(&lease, "pidStart", -1, process_start(getpid()));
    bson_append_date_time(&lease, "expires", -1, now_ms + TOW_LEASE_MS);
    bson_append_document_end(out, &lease);
}

typedef struct {
    char holder[64], host[256], boot[64], space[64];
    int64_t pid, pid_start, expires_ms;
} lease_t;

static void parse_lease(const bson_t *document, lease_t *out)
{
    bson_iter_t iter, field;

    *out = (lease_t){0};
    if (!bson_iter_init_find(&iter, document, "lease") || !BSON_ITER_HOLDS_DOCUMENT(&iter) ||
        !bson_iter_recurse(&iter, &field))
        return;
    while (bson_iter_next(&field)) {
        const char *name = bson_iter_key(&field);

        if (!strcmp(name, "holder") && BSON_ITER_HOLDS_UTF8(&field))
            snprintf(out->holder, sizeof out->holder, "%s", bson_iter_utf8(&field, NULL));
        else if (!strcmp(name, "host") && BSON_ITER_HOLDS_UTF8(&field))
            snprintf(out->host, sizeof out->host, "%s", bson_iter_utf8(&field, NULL));
        else if (!strcmp(name, "bootId") && BSON_ITER_HOLDS_UTF8(&field))
            snprintf(out->boot, sizeof out->boot, "%s", bson_iter_utf8(&field, NULL));
        else if (!strcmp(name, "pidSpace") && BSON_ITER_HOLDS_UTF8(&field))
            snprintf(out->space, sizeof out->space, "%s", bson_iter_utf8(&field, NULL));
        else if (!strcmp(name, "pid"))
            out->pid = bson_iter_as_int64(&field);
        else if (!strcmp(name, "pidStart"))
            out->pid_start = bson_iter_as_int64(&field);
        else if (!strcmp(name, "expires") && BSON_ITER_HOLDS_DATE_TIME(&field))
            out->expires_ms = bson_iter_date_time(&field);
    }
}

/* On this host, since this boot, among the processes that we see, and its process is there no more. */
static bool holder_is_gone(const lease_t *lease)
{
    char boot[64], space[64];

    read_line("/proc/sys/kernel/random/boot_id", boot, sizeof boot);
    read_pid_space(space);
    if (!boot[0] || strcmp(boot, lease->boot) != 0 || !space[0] || strcmp(space, lease->space) != 0)
        return false;
    if (kill((pid_t)lease->pid, 0) && errno == ESRCH)
        return true;
    return process_start(lease->pid) != lease->pid_start;
}

/* How the job's records are laid out; a job goes on in the format that it began with. */
static bool check_format(const bson_t *document, tow_error_t *error)
{
    bson_iter_t iter;
    int64_t format = 1; /* the first had no number */

    if (bson_iter_init_find(&iter, document, "format") && BSON_ITER_HOLDS_NUMBER(&iter))
        format = bson_iter_as_int64(&iter);
    return format == TOW_STATE_FORMAT ||
           tow_fail(
               error, TOW_ERROR_SETTINGS,
               "the job was begun by another version of Towline: its records have format %" PRId64
               ", this version reads %d; go on with that version, or begin a new job with another "
               "--job and an empty destination",
               format, TOW_STATE_FORMAT);
}

/* Compares what must not change. */
static bool check_settings(const bson_t *document, const tow_settings_t *settings,
                           tow_error_t *error)
{
    const struct {
        const char *field, *what, *now;
    } checks[] = {{"source", "the source", settings->source_identity},
                  {"destination", "the destination", settings->destination_identity},
                  {"filter", "the filter", settings->filter}};

    if (!check_format(document, error))
        return false;
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++) {
        bson_iter_t iter;
        const char *before = "";

        if (bson_iter_init_find(&iter, document, checks[i].field) && BSON_ITER_HOLDS_UTF8(&iter))
            before = bson_iter_utf8(&iter, NULL);
        if (strcmp(before, checks[i].now) != 0)
            return tow_fail(error, TOW_ERROR_SETTINGS,
                            "%s differs from the one this job began with: it was '%s' and is now "
                            "'%s'; give the same options again, or another --job for a new job",
                            checks[i].what, before, checks[i].now);
    }
    return true;
}

/* Tries to create the job's document. *out_code TOW_DUPLICATE_KEY: it exists. */
static bool create_job(tow_store_t *store, const tow_settings_t *settings, int64_t now_ms,
                       bool *out_created, tow_error_t *error)
{
    bson_t command = BSON_INITIALIZER, list, document, reply;
    tow_write_error_t failure;
    uint32_t position = 0;
    bool ok;

    *out_created = false;
    bson_append_utf8(&command, "insert", -1, "job", -1);
    bson_append_array_begin(&command, "documents", -1, &list);
    bson_append_document_begin(&list, "0", -1, &document);
    bson_append_utf8(&document, "_id", -1, "job", -1);
    bson_append_int32(&document, "format", -1, TOW_STATE_FORMAT);
    bson_append_utf8(&document, "source", -1, settings->source_identity, -1);
    bson_append_utf8(&document, "destination", -1, settings->destination_identity, -1);
    bson_append_utf8(&document, "filter", -1, settings->filter, -1);
    append_lease(&document, store, now_ms);
    bson_append_document_end(&list, &document);
    bson_append_array_end(&command, &list);
    ok = tow_store_run(store, &command, TOW_SEND_WRITE, &reply, error);
    if (ok) {
        *out_created = !tow_reply_write_error(&reply, &position, &failure);
        if (!*out_created && failure.code != TOW_DUPLICATE_KEY)
            ok = tow_fail(error, TOW_ERROR_SERVER, "the job's state (%s): %s", store->database,
                          failure.message);
    }
    bson_destroy(&reply);
    bson_destroy(&command);
    return ok;
}

/* Replaces exactly the lease that was read: of two who try, one finds another holder. */
static bool take_over(tow_store_t *store, const lease_t *old, int64_t now_ms, bool *out_taken,
                      tow_error_t *error)
{
    bson_t filter = BSON_INITIALIZER, update = BSON_INITIALIZER, set;
    int64_t matched;
    int code;
    bool ok;

    bson_append_utf8(&filter, "_id", -1, "job", -1);
    if (old->holder[0]) {
        bson_append_utf8(&filter, "lease.holder", -1, old->holder, -1);
        bson_append_date_time(&filter, "lease.expires", -1, old->expires_ms);
    } else {
        bson_append_null(&filter, "lease", -1);
    }
    bson_append_document_begin(&update, "$set", -1, &set);
    append_lease(&set, store, now_ms);
    bson_append_document_end(&update, &set);
    ok = tow_store_update_one(store, "job", &filter, &update, false, &matched, &code, error);
    *out_taken = matched == 1;
    bson_destroy(&filter);
    bson_destroy(&update);
    return ok;
}

/* *out_began_ms: tow_boot_ms before the lease's time begins. */
static bool take_lease(tow_store_t *store, const tow_settings_t *settings, int64_t wait_ms,
                       int64_t *out_began_ms, bool *out_resumed, tow_error_t *error)
{
    int64_t until_ms = tow_now_ms() + wait_ms, seen_expires_ms = 0;
    tow_link_t *link = tow_conn_link(store->conn);

    for (;;) {
        bool created, found, taken = false, ok;
        bson_t document;
        lease_t lease;
        int64_t now_ms;

        *out_began_ms = tow_boot_ms();
        if (!server_now(store, &now_ms, error) ||
            !create_job(store, settings, now_ms, &created, error))
            return false;
        *out_resumed = !created;
        if (created)
            return true;
        if (!tow_store_find_one(store, "job", "job", &document, &found, error))
            return false;
        if (!found)
            continue; /* removed just now */
        parse_lease(&document, &lease);
        ok = check_settings(&document, settings, error);
        bson_destroy(&document);
        if (!ok)
            return false;
        if (!strcmp(lease.holder, store->holder))
            return true; /* our insert was done although its reply was lost */
        if (!lease.holder[0] || lease.expires_ms <= now_ms || holder_is_gone(&lease)) {
            if (!take_over(store, &lease, now_ms, &taken, error))
                return false;
            if (taken)
                return true;
            continue;
        }
        /* A holder that renews is alive: no use in waiting. One that does not may be dead. */
        if (seen_expires_ms && lease.expires_ms > seen_expires_ms)
            wait_ms = 0;
        seen_expires_ms = lease.expires_ms;
        if (tow_now_ms() >= until_ms || wait_ms == 0 || !tow_backoff(link, 6, until_ms))
            return tow_fail(error, TOW_ERROR_LEASE,
                            "the job is held by process %" PRId64 " on %s, whose lease runs out in "
                            "%.0f s; stop that process, or give another --job",
                            lease.pid, lease.host, (double)(lease.expires_ms - now_ms) / 1000);
    }
}

bool tow_store_peek(tow_link_t *destination, const char *job, const tow_settings_t *settings,
                    tow_store_view_t *out, tow_error_t *error)
{
    tow_store_t store = {.database = tow_format("towline_%s", job)};
    bson_t document;
    bson_iter_t iter;
    int64_t now_ms;
    lease_t lease;
    bool ok;

    *out = (tow_store_view_t){0};
    store.conn = tow_conn_open(destination, error);
    ok = store.conn && server_now(&store, &now_ms, error) &&
         tow_store_find_one(&store, "job", "job", &document, &out->exists, error);
    if (ok && out->exists) {
        parse_lease(&document, &lease);
        out->writes_blocked =
            bson_iter_init_find(&iter, &document, "writesBlocked") && bson_iter_as_bool(&iter);
        out->held = lease.holder[0] && lease.expires_ms > now_ms && !holder_is_gone(&lease);
        memcpy(out->host, lease.host, sizeof out->host);
        out->pid = lease.pid;
        out->expires_seconds = (double)(lease.expires_ms - now_ms) / 1000;
        ok = check_settings(&document, settings, error);
        bson_destroy(&document);
    }
    tow_conn_close(store.conn);
    free(store.database);
    return ok;
}

/* The sessions of the processes before ---------------------------------------------------------*/

/* Called by connections before their first numbered write; also for the store's own. */
static bool note_session(void *data, const bson_t *session, tow_error_t *error)
{
    tow_store_t *store = data;
    bson_t update = BSON_INITIALIZER, set;
    bool ok;

    bson_append_document_begin(&update, "$addToSet", -1, &set);
    bson_append_document(&set, "sessions", -1, session);
    bson_append_document_end(&update, &set);
    pthread_mutex_lock(&store->lock);
    ok = tow_store_update_guarded(store, &update, error);
    pthread_mutex_unlock(&store->lock);
    bson_destroy(&update);
    return ok;
}

/* The update that forgets it is also the write that nothing in it can follow. */
static bool close_session(tow_store_t *store, tow_conn_t *conn, const bson_t *session,
                          tow_error_t *error)
{
    bson_t update = BSON_INITIALIZER, pull;
    tow_conn_t *own = store->conn;
    bool ok;

    bson_append_document_begin(&update, "$pull", -1, &pull);
    bson_append_document(&pull, "sessions", -1, session);
    bson_append_document_end(&update, &pull);
    store->conn = conn;
    ok = tow_conn_adopt(conn, session, error) && tow_store_update_guarded(store, &update, error);
    store->conn = own;
    bson_destroy(&update);
    return ok;
}

/* A process that is gone may have left writes on their way, in a network or in the server, that would put
 * old content over what this one is going to write. */
static bool close_sessions(tow_store_t *store, tow_error_t *error)
{
    tow_link_t *link = tow_conn_link(store->conn);
    bson_iter_t iter, list;
    tow_conn_t *conn;
    bson_t document;
    bool found, ok;

    if (tow_link_facts(link)->standalone)
        return true;
    if (!tow_store_find_one(store, "job", "job", &document, &found, error))
        return false;
    conn = tow_conn_open_apart(link, error);
    ok = conn != NULL;
    if (ok && found && bson_iter_init_find(&iter, &document, "sessions") && bson_iter_recurse(&iter, &list))
        while (ok && bson_iter_next(&list)) {
            const uint8_t *data;
            uint32_t length;
            bson_t session;

            if (!BSON_ITER_HOLDS_DOCUMENT(&list))
                continue;
            bson_iter_document(&list, &length, &data);
            if (bson_init_static(&session, data, length))
                ok = tow_store_keep(store, error) && close_session(store, conn, &session, error);
        }
    tow_conn_close(conn);
    if (found)
        bson_destroy(&document);
    return ok ? true : tow_fail_context(error, "end what an earlier process of this job has under way");
}

static bool begin_sessions(tow_store_t *store, bool resumed, tow_error_t *error)
{
    const bson_t *own;

    if (resumed && !close_sessions(store, error))
        return false;
    tow_link_note_sessions(tow_conn_link(store->conn), note_session, store);
    if (tow_link_facts(tow_conn_link(store->conn))->standalone)
        return true;
    own = tow_conn_session(store->conn, error);
    return own && note_session(store, own, error);
}

tow_store_t *tow_store_open(tow_link_t *destination, const char *job,
                            const tow_settings_t *settings, int64_t wait_ms, bool *out_resumed,
                            tow_error_t *error)
{
    tow_store_t *store = tow_alloc(sizeof *store);
    bson_oid_t oid;
    int64_t began_ms;

    store->database = tow_format("towline_%s", job);
    pthread_mutex_init(&store->lock, NULL);
    bson_oid_init(&oid, NULL);
    bson_oid_to_string(&oid, store->holder);
    store->conn = tow_conn_open(destination, error);
    if (!store->conn || !take_lease(store, settings, wait_ms, &began_ms, out_resumed, error)) {
        tow_store_destroy(store);
        return NULL;
    }
    tow_conn_unlimited(store->conn);
    store->renewed_ms = began_ms;
    if (!begin_sessions(store, *out_resumed, error)) {
        tow_store_destroy(store);
        return NULL;
    }
    return store;
}

void tow_store_destroy(tow_store_t *store)
{
    if (!store)
        return;
    if (store->conn)
        tow_link_note_sessions(tow_conn_link(store->conn), NULL, NULL);
    tow_conn_close(store->conn);
    pthread_mutex_destroy(&store->lock);
    free(store->database);
    free(store);
}

const char *tow_store_database(const tow_store_t *store)
{
    return store->database;
}

static bool renew(tow_store_t *store, tow_error_t *error)
{
    bson_t update = BSON_INITIALIZER, set;
    int64_t now_ms, before_ms = tow_boot_ms();
    bool ok = server_now(store, &now_ms, error);

    if (ok) {
        bson_append_document_begin(&update, "$set", -1, &set);
        bson_append_date_time(&set, "lease.expires", -1, now_ms + TOW_LEASE_MS);
        bson_append_document_end(&update, &set);
        ok = tow_store_update_guarded(store, &update, error);
    }
    if (ok)
        store->renewed_ms = before_ms;
    if (ok && store->guarding)
        tow_link_limit_writes(tow_conn_link(store->conn), before_ms + TOW_LEASE_MS);
    bson_destroy(&update);
    return ok;
}

bool tow_store_renew(tow_store_t *store, tow_error_t *error)
{
    bool ok;

    pthread_mutex_lock(&store->lock);
    ok = renew(store, error);
    pthread_mutex_unlock(&store->lock);
    return ok;
}

bool tow_store_keep(tow_store_t *store, tow_error_t *error)
{
    return tow_boot_ms() - store->renewed_ms < TOW_LEASE_MS / 3 || renew(store, error);
}

void tow_store_guard(tow_store_t *store, bool guarding)
{
    pthread_mutex_lock(&store->lock);
    store->guarding = guarding;
    tow_link_limit_writes(tow_conn_link(store->conn),
                          guarding ? store->renewed_ms + TOW_LEASE_MS : 0);
    pthread_mutex_unlock(&store->lock);
}

bool tow_store_lease_valid(tow_store_t *store)
{
    bool valid;

    pthread_mutex_lock(&store->lock);
    valid = tow_boot_ms() - store->renewed_ms < TOW_LEASE_MS;
    pthread_mutex_unlock(&store->lock);
    return valid;
}

bool tow_store_release(tow_store_t *store, tow_error_t *error)
{
    bson_t update = BSON_INITIALIZER, unset;
    bool ok;

    bson_append_document_begin(&update, "$unset", -1, &unset);
    bson_append_utf8(&unset, "lease", -1, "", -1);
    bson_append_document_end(&update, &unset);
    pthread_mutex_lock(&store->lock);
    ok = tow_store_update_guarded(store, &update, error);
    pthread_mutex_unlock(&store->lock);
    bson_destroy(&update);
    return ok;
}
