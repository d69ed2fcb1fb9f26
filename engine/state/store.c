/* store.c: see store.h. */
#include "engine/state/store.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/memory.h"
#include "engine/state/key.h"

enum { LEASE_MS = 15000, RANGES_A_MESSAGE = 1000, NAMESPACE_NOT_FOUND = 26, DUPLICATE_KEY = 11000 };

struct tow_store {
    char *database;
    char holder[25];          /* random, new for every process */
    pthread_mutex_t lock;     /* guards what follows */
    tow_conn_t *conn;
    int64_t renewed_ms;       /* tow_now_ms when the lease was last known to be ours */
};

void tow_range_clear(tow_range_t *range)
{
    if (range->has_min)
        bson_value_destroy(&range->min);
    if (range->has_max)
        bson_value_destroy(&range->max);
    range->has_min = range->has_max = false;
}

/* Commands --------------------------------------------------------------------------------------*/

static bool run(tow_store_t *store, const bson_t *command, int flags, bson_t *reply,
                tow_error_t *error)
{
    tow_send_options_t send = {.flags = flags | TOW_SEND_RETRY};

    if (tow_conn_command(store->conn, store->database, command, &send, reply, error))
        return true;
    return tow_fail_context(error, "the job's state (%s)", store->database);
}

/* update one document; *out_matched: how many the filter found (or were inserted). */
static bool update_one(tow_store_t *store, const char *collection, const bson_t *filter,
                       const bson_t *update, bool upsert, int64_t *out_matched, int *out_code,
                       tow_error_t *error)
{
    bson_t command = BSON_INITIALIZER, list, statement, reply;
    tow_write_error_t failure;
    bson_iter_t iter;
    uint32_t position = 0;
    bool ok;

    *out_matched = 0;
    *out_code = 0;
    bson_append_utf8(&command, "update", -1, collection, -1);
    bson_append_array_begin(&command, "updates", -1, &list);
    bson_append_document_begin(&list, "0", -1, &statement);
    bson_append_document(&statement, "q", -1, filter);
    bson_append_document(&statement, "u", -1, update);
    bson_append_bool(&statement, "upsert", -1, upsert);
    bson_append_document_end(&list, &statement);
    bson_append_array_end(&command, &list);
    ok = run(store, &command, TOW_SEND_WRITE, &reply, error);
    if (ok && bson_iter_init_find(&iter, &reply, "n"))
        *out_matched = bson_iter_as_int64(&iter);
    if (ok && tow_reply_write_error(&reply, &position, &failure)) {
        *out_code = failure.code;
        if (failure.code != DUPLICATE_KEY)
            ok = tow_fail(error, TOW_ERROR_SERVER, "the job's state (%s): %s", store->database,
                          failure.message);
    }
    bson_destroy(&reply);
    bson_destroy(&command);
    return ok;
}

static bool find_one(tow_store_t *store, const char *collection, const char *id, bson_t *out,
                     bool *out_found, tow_error_t *error)
{
    bson_t command = BSON_INITIALIZER, filter, reply;
    bson_iter_t iter, first;
    bool ok;

    *out_found = false;
    bson_append_utf8(&command, "find", -1, collection, -1);
    bson_append_document_begin(&command, "filter", -1, &filter);
    bson_append_utf8(&filter, "_id", -1, id, -1);
    bson_append_document_end(&command, &filter);
    bson_append_int32(&command, "limit", -1, 1);
    bson_append_bool(&command, "singleBatch", -1, true);
    ok = run(store, &command, TOW_SEND_READ, &reply, error);
    if (ok && bson_iter_init(&iter, &reply) &&
        bson_iter_find_descendant(&iter, "cursor.firstBatch.0", &first) &&
        BSON_ITER_HOLDS_DOCUMENT(&first)) {
        const uint8_t *data;
        uint32_t length;
        bson_t found;

        bson_iter_document(&first, &length, &data);
        if (bson_init_static(&found, data, length)) {
            bson_copy_to(&found, out);
            *out_found = true;
        }
    }
    bson_destroy(&reply);
    bson_destroy(&command);
    return ok;
}

/* Lease -----------------------------------------------------------------------------------------*/

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
    ok = run(store, &command, 0, &reply, error);
    *out_ms = tow_wall_ms();
    if (ok && bson_iter_init_find(&iter, &reply, "localTime") && BSON_ITER_HOLDS_DATE_TIME(&iter))
        *out_ms = bson_iter_date_time(&iter);
    bson_destroy(&reply);
    bson_destroy(&command);
    return ok;
}

static void append_lease(bson_t *out, const tow_store_t *store, int64_t now_ms)
{
    char host[256] = "", boot[64];
    bson_t lease;

    gethostname(host, sizeof host - 1);
    read_line("/proc/sys/kernel/random/boot_id", boot, sizeof boot);
    bson_append_document_begin(out, "lease", -1, &lease);
    bson_append_utf8(&lease, "holder", -1, store->holder, -1);
    bson_append_utf8(&lease, "host", -1, host, -1);
    bson_append_utf8(&lease, "bootId", -1, boot, -1);
    bson_append_int64(&lease, "pid", -1, getpid());
    bson_append_int64(&lease, "pidStart", -1, process_start(getpid()));
    bson_append_date_time(&lease, "expires", -1, now_ms + LEASE_MS);
    bson_append_document_end(out, &lease);
}

typedef struct {
    char holder[64], host[256], boot[64];
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
        else if (!strcmp(name, "pid"))
            out->pid = bson_iter_as_int64(&field);
        else if (!strcmp(name, "pidStart"))
            out->pid_start = bson_iter_as_int64(&field);
        else if (!strcmp(name, "expires") && BSON_ITER_HOLDS_DATE_TIME(&field))
            out->expires_ms = bson_iter_date_time(&field);
    }
}

/* On this host, since this boot, and its process is there no more. */
static bool holder_is_gone(const lease_t *lease)
{
    char boot[64];

    read_line("/proc/sys/kernel/random/boot_id", boot, sizeof boot);
    if (!boot[0] || strcmp(boot, lease->boot) != 0)
        return false;
    if (kill((pid_t)lease->pid, 0) && errno == ESRCH)
        return true;
    return process_start(lease->pid) != lease->pid_start;
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

/* Tries to create the job's document. *out_code DUPLICATE_KEY: it exists. */
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
    bson_append_utf8(&document, "source", -1, settings->source_identity, -1);
    bson_append_utf8(&document, "destination", -1, settings->destination_identity, -1);
    bson_append_utf8(&document, "filter", -1, settings->filter, -1);
    append_lease(&document, store, now_ms);
    bson_append_document_end(&list, &document);
    bson_append_array_end(&command, &list);
    ok = run(store, &command, TOW_SEND_WRITE, &reply, error);
    if (ok) {
        *out_created = !tow_reply_write_error(&reply, &position, &failure);
        if (!*out_created && failure.code != DUPLICATE_KEY)
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
    ok = update_one(store, "job", &filter, &update, false, &matched, &code, error);
    *out_taken = matched == 1;
    bson_destroy(&filter);
    bson_destroy(&update);
    return ok;
}

static bool take_lease(tow_store_t *store, const tow_settings_t *settings, int64_t wait_ms,
                       bool *out_resumed, tow_error_t *error)
{
    int64_t until_ms = tow_now_ms() + wait_ms, seen_expires_ms = 0;
    tow_link_t *link = tow_conn_link(store->conn);

    for (;;) {
        bool created, found, taken = false, ok;
        bson_t document;
        lease_t lease;
        int64_t now_ms;

        if (!server_now(store, &now_ms, error) ||
            !create_job(store, settings, now_ms, &created, error))
            return false;
        *out_resumed = !created;
        if (created)
            return true;
        if (!find_one(store, "job", "job", &document, &found, error))
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
        if (tow_now_ms() >= until_ms || wait_ms == 0 ||
            !tow_backoff(link, 6, until_ms))
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
         find_one(&store, "job", "job", &document, &out->exists, error);
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

tow_store_t *tow_store_open(tow_link_t *destination, const char *job, const tow_settings_t *settings,
                            int64_t wait_ms, bool *out_resumed, tow_error_t *error)
{
    tow_store_t *store = tow_alloc(sizeof *store);
    bson_oid_t oid;

    store->database = tow_format("towline_%s", job);
    pthread_mutex_init(&store->lock, NULL);
    bson_oid_init(&oid, NULL);
    bson_oid_to_string(&oid, store->holder);
    store->conn = tow_conn_open(destination, error);
    if (!store->conn || !take_lease(store, settings, wait_ms, out_resumed, error)) {
        tow_store_destroy(store);
        return NULL;
    }
    store->renewed_ms = tow_now_ms();
    return store;
}

void tow_store_destroy(tow_store_t *store)
{
    if (!store)
        return;
    tow_conn_close(store->conn);
    pthread_mutex_destroy(&store->lock);
    free(store->database);
    free(store);
}

const char *tow_store_database(const tow_store_t *store)
{
    return store->database;
}

/* Updates the job's document while the lease is ours. The lock is held. */
static bool guarded_update(tow_store_t *store, const bson_t *update, tow_error_t *error)
{
    bson_t filter = BSON_INITIALIZER;
    int64_t matched;
    int code;
    bool ok;

    bson_append_utf8(&filter, "_id", -1, "job", -1);
    bson_append_utf8(&filter, "lease.holder", -1, store->holder, -1);
    ok = update_one(store, "job", &filter, update, false, &matched, &code, error);
    bson_destroy(&filter);
    if (ok && !matched)
        return tow_fail(error, TOW_ERROR_LEASE,
                        "another process took this job over, or its state (%s) was removed; this "
                        "one stops, nothing is lost",
                        store->database);
    return ok;
}

bool tow_store_renew(tow_store_t *store, tow_error_t *error)
{
    bson_t update = BSON_INITIALIZER, set;
    int64_t now_ms, before_ms;
    bool ok;

    pthread_mutex_lock(&store->lock);
    before_ms = tow_now_ms();
    ok = server_now(store, &now_ms, error);
    if (ok) {
        bson_append_document_begin(&update, "$set", -1, &set);
        bson_append_date_time(&set, "lease.expires", -1, now_ms + LEASE_MS);
        bson_append_document_end(&update, &set);
        ok = guarded_update(store, &update, error);
    }
    if (ok)
        store->renewed_ms = before_ms;
    pthread_mutex_unlock(&store->lock);
    bson_destroy(&update);
    return ok;
}

bool tow_store_lease_valid(tow_store_t *store)
{
    bool valid;

    pthread_mutex_lock(&store->lock);
    valid = tow_now_ms() - store->renewed_ms < LEASE_MS;
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
    ok = guarded_update(store, &update, error);
    pthread_mutex_unlock(&store->lock);
    bson_destroy(&update);
    return ok;
}

bool tow_store_drop(tow_store_t *store, tow_error_t *error)
{
    bson_t command = BSON_INITIALIZER, reply;
    bool ok;

    bson_append_int32(&command, "dropDatabase", -1, 1);
    pthread_mutex_lock(&store->lock);
    ok = run(store, &command, TOW_SEND_WRITE, &reply, error);
    pthread_mutex_unlock(&store->lock);
    bson_destroy(&reply);
    bson_destroy(&command);
    return ok;
}

/* Job document and checkpoint -------------------------------------------------------------------*/

bool tow_store_set(tow_store_t *store, const bson_t *fields, tow_error_t *error)
{
    bson_t update = BSON_INITIALIZER;
    bool ok;

    bson_append_document(&update, "$set", -1, fields);
    pthread_mutex_lock(&store->lock);
    ok = guarded_update(store, &update, error);
    pthread_mutex_unlock(&store->lock);
    bson_destroy(&update);
    return ok;
}

bool tow_store_get(tow_store_t *store, bson_t *out, tow_error_t *error)
{
    bool found, ok;

    pthread_mutex_lock(&store->lock);
    ok = find_one(store, "job", "job", out, &found, error);
    pthread_mutex_unlock(&store->lock);
    if (!ok || !found)
        bson_init(out);
    return ok;
}

/* No time is no field: a server puts its own time in the place of an empty timestamp. */
static void append_time(bson_t *out, const char *name, tow_optime_t time)
{
    if (!time)
        return;
    bson_append_timestamp(out, name, -1, (uint32_t)(time >> 32), (uint32_t)time);
}

static tow_optime_t read_time(const bson_iter_t *iter)
{
    uint32_t seconds, increment;

    if (!BSON_ITER_HOLDS_TIMESTAMP(iter))
        return 0;
    bson_iter_timestamp(iter, &seconds, &increment);
    return TOW_OPTIME(seconds, increment);
}

/* The checkpoint stands in the job's document, so that one guarded write stores it. */
bool tow_store_save_checkpoint(tow_store_t *store, const tow_checkpoint_t *checkpoint,
                               tow_error_t *error)
{
    bson_t fields = BSON_INITIALIZER, part;
    bool ok;

    bson_append_document_begin(&fields, "checkpoint", -1, &part);
    bson_append_document(&part, "token", -1, &checkpoint->token);
    append_time(&part, "time", checkpoint->time);
    append_time(&part, "ddlTime", checkpoint->ddl_time);
    bson_append_document_end(&fields, &part);
    ok = tow_store_set(store, &fields, error);
    bson_destroy(&fields);
    return ok;
}

bool tow_store_load_checkpoint(tow_store_t *store, tow_checkpoint_t *out, bool *out_found,
                               tow_error_t *error)
{
    bson_t document;
    bson_iter_t iter, field;
    bool ok = tow_store_get(store, &document, error);

    *out_found = false;
    *out = (tow_checkpoint_t){0};
    if (ok && bson_iter_init_find(&iter, &document, "checkpoint") &&
        BSON_ITER_HOLDS_DOCUMENT(&iter) && bson_iter_recurse(&iter, &field))
        while (bson_iter_next(&field)) {
            const char *name = bson_iter_key(&field);

            if (!strcmp(name, "token") && BSON_ITER_HOLDS_DOCUMENT(&field) && !*out_found) {
                const uint8_t *data;
                uint32_t length;
                bson_t token;

                bson_iter_document(&field, &length, &data);
                if (bson_init_static(&token, data, length)) {
                    bson_copy_to(&token, &out->token);
                    *out_found = true;
                }
            } else if (!strcmp(name, "time")) {
                out->time = read_time(&field);
            } else if (!strcmp(name, "ddlTime")) {
                out->ddl_time = read_time(&field);
            }
        }
    bson_destroy(&document);
    return ok;
}

/* Collections and ranges ------------------------------------------------------------------------*/

static void append_range_id(bson_t *out, const char *ns, uint32_t number)
{
    bson_t id;

    bson_append_document_begin(out, "_id", -1, &id);
    bson_append_utf8(&id, "ns", -1, ns, -1);
    bson_append_int32(&id, "n", -1, (int32_t)number);
    bson_append_document_end(out, &id);
}

static void append_range(bson_t *out, const char *ns, const tow_range_t *range)
{
    static const char *const states[] = {"open", "started", "done"};
    bson_t bounds;

    append_range_id(out, ns, range->number);
    bson_append_utf8(out, "ns", -1, ns, -1);
    /* In a document of their own, where a server leaves an empty timestamp alone. */
    bson_append_document_begin(out, "bounds", -1, &bounds);
    if (range->has_min)
        bson_append_value(&bounds, "min", -1, &range->min);
    if (range->has_max)
        bson_append_value(&bounds, "max", -1, &range->max);
    bson_append_document_end(out, &bounds);
    bson_append_utf8(out, "state", -1, states[range->state], -1);
    append_time(out, "lo", range->lo);
    append_time(out, "hi", range->hi);
    bson_append_int64(out, "documents", -1, (int64_t)range->documents);
    bson_append_int64(out, "bytes", -1, (int64_t)range->bytes);
}

/* deleteMany by one field. */
static bool delete_by(tow_store_t *store, const char *collection, const char *field,
                      const char *value, tow_error_t *error)
{
    bson_t command = BSON_INITIALIZER, list, statement, filter, reply;
    bool ok;

    bson_append_utf8(&command, "delete", -1, collection, -1);
    bson_append_array_begin(&command, "deletes", -1, &list);
    bson_append_document_begin(&list, "0", -1, &statement);
    bson_append_document_begin(&statement, "q", -1, &filter);
    bson_append_utf8(&filter, field, -1, value, -1);
    bson_append_document_end(&statement, &filter);
    bson_append_int32(&statement, "limit", -1, 0);
    bson_append_document_end(&list, &statement);
    bson_append_array_end(&command, &list);
    ok = run(store, &command, TOW_SEND_WRITE, &reply, error);
    bson_destroy(&reply);
    bson_destroy(&command);
    return ok;
}

static bool remove_collection(tow_store_t *store, const char *ns, tow_error_t *error)
{
    /* The collection first: ranges without one mean nothing. */
    return delete_by(store, "collections", "_id", ns, error) &&
           delete_by(store, "ranges", "ns", ns, error);
}

static bool insert_ranges(tow_store_t *store, const char *ns, const tow_range_t *ranges,
                          uint32_t count, tow_error_t *error)
{
    for (uint32_t from = 0; from < count; from += RANGES_A_MESSAGE) {
        bson_t command = BSON_INITIALIZER, list, document, reply;
        tow_write_error_t failure;
        uint32_t position = 0;
        bool ok;

        bson_append_utf8(&command, "insert", -1, "ranges", -1);
        bson_append_array_begin(&command, "documents", -1, &list);
        for (uint32_t i = from; i < count && i < from + RANGES_A_MESSAGE; i++) {
            char buffer[16];
            const char *key;

            bson_uint32_to_string(i - from, &key, buffer, sizeof buffer);
            bson_append_document_begin(&list, key, -1, &document);
            append_range(&document, ns, &ranges[i]);
            bson_append_document_end(&list, &document);
        }
        bson_append_array_end(&command, &list);
        bson_append_bool(&command, "ordered", -1, false);
        ok = run(store, &command, TOW_SEND_WRITE, &reply, error);
        while (ok && tow_reply_write_error(&reply, &position, &failure))
            if (failure.code != DUPLICATE_KEY) /* a retried insert finds its own work */
                ok = tow_fail(error, TOW_ERROR_SERVER, "the job's state (%s): %s",
                              store->database, failure.message);
        bson_destroy(&reply);
        bson_destroy(&command);
        if (!ok)
            return false;
    }
    return true;
}

static bool replace(tow_store_t *store, const char *collection, const bson_t *document,
                    tow_error_t *error)
{
    bson_t filter = BSON_INITIALIZER;
    bson_iter_t iter;
    int64_t matched;
    int code;
    bool ok;

    if (bson_iter_init_find(&iter, document, "_id"))
        bson_append_iter(&filter, "_id", 3, &iter);
    ok = update_one(store, collection, &filter, document, true, &matched, &code, error);
    bson_destroy(&filter);
    return ok;
}

/* The collection's document is written last, with the number of ranges: whoever reads it finds all of
 * them, or knows that some are missing. */
bool tow_store_put_collection(tow_store_t *store, const tow_collection_info_t *info,
                              tow_optime_t read_at, const tow_range_t *ranges, uint32_t count,
                              tow_error_t *error)
{
    bson_t document = BSON_INITIALIZER;
    bool ok;

    if (!store)
        return true;
    bson_append_utf8(&document, "_id", -1, info->ns, -1);
    bson_append_utf8(&document, "db", -1, info->database, -1);
    bson_append_utf8(&document, "name", -1, info->name, -1);
    bson_append_int32(&document, "type", -1, info->type);
    bson_append_document(&document, "options", -1, &info->options);
    bson_append_binary(&document, "uuid", -1, BSON_SUBTYPE_UUID, info->uuid, sizeof info->uuid);
    append_time(&document, "readTime", read_at);
    bson_append_int32(&document, "ranges", -1, (int32_t)count);
    bson_append_bool(&document, "copied", -1, false);
    bson_append_bool(&document, "indexed", -1, false);
    pthread_mutex_lock(&store->lock);
    ok = remove_collection(store, info->ns, error) &&
         insert_ranges(store, info->ns, ranges, count, error) &&
         replace(store, "collections", &document, error);
    pthread_mutex_unlock(&store->lock);
    bson_destroy(&document);
    return ok;
}

bool tow_store_put_range(tow_store_t *store, const char *ns, const tow_range_t *range,
                         tow_error_t *error)
{
    bson_t document = BSON_INITIALIZER;
    bool ok;

    if (!store)
        return true;
    append_range(&document, ns, range);
    pthread_mutex_lock(&store->lock);
    ok = replace(store, "ranges", &document, error);
    pthread_mutex_unlock(&store->lock);
    bson_destroy(&document);
    return ok;
}

bool tow_store_set_collection(tow_store_t *store, const char *ns, const bson_t *fields,
                              tow_error_t *error)
{
    bson_t filter = BSON_INITIALIZER, update = BSON_INITIALIZER;
    int64_t matched;
    int code;
    bool ok;

    if (!store)
        return true;
    bson_append_utf8(&filter, "_id", -1, ns, -1);
    bson_append_document(&update, "$set", -1, fields);
    pthread_mutex_lock(&store->lock);
    ok = update_one(store, "collections", &filter, &update, false, &matched, &code, error);
    pthread_mutex_unlock(&store->lock);
    bson_destroy(&filter);
    bson_destroy(&update);
    return ok;
}

bool tow_store_remove_collection(tow_store_t *store, const char *ns, tow_error_t *error)
{
    bool ok;

    if (!store)
        return true;
    pthread_mutex_lock(&store->lock);
    ok = remove_collection(store, ns, error);
    pthread_mutex_unlock(&store->lock);
    return ok;
}

/* Restart ---------------------------------------------------------------------------------------*/

typedef struct {
    bson_t **items;
    size_t count;
} documents_t;

static void free_documents(documents_t *documents)
{
    for (size_t i = 0; i < documents->count; i++)
        bson_destroy(documents->items[i]);
    free(documents->items);
    *documents = (documents_t){0};
}

/* All documents of a collection that match {field: value}, or all with NULL. */
static bool read_all(tow_store_t *store, const char *collection, const char *field,
                     const char *value, documents_t *out, tow_error_t *error)
{
    bson_t command = BSON_INITIALIZER, filter, reply;
    char batch_name[16] = "firstBatch";
    bool ok;

    *out = (documents_t){0};
    bson_append_utf8(&command, "find", -1, collection, -1);
    if (field) {
        bson_append_document_begin(&command, "filter", -1, &filter);
        bson_append_utf8(&filter, field, -1, value, -1);
        bson_append_document_end(&command, &filter);
    }
    ok = run(store, &command, TOW_SEND_READ, &reply, error);
    while (ok) {
        bson_iter_t iter, child, list;
        int64_t cursor = 0;

        bson_destroy(&command);
        bson_init(&command);
        if (bson_iter_init_find(&iter, &reply, "cursor") && bson_iter_recurse(&iter, &child))
            while (bson_iter_next(&child)) {
                if (!strcmp(bson_iter_key(&child), "id"))
                    cursor = bson_iter_as_int64(&child);
                if (strcmp(bson_iter_key(&child), batch_name) != 0 ||
                    !bson_iter_recurse(&child, &list))
                    continue;
                while (bson_iter_next(&list)) {
                    const uint8_t *data;
                    uint32_t length;

                    bson_iter_document(&list, &length, &data);
                    out->items =
                        tow_realloc(out->items, (out->count + 1) * sizeof *out->items);
                    out->items[out->count++] = bson_new_from_data(data, length);
                }
            }
        if (!cursor)
            break;
        bson_destroy(&reply);
        snprintf(batch_name, sizeof batch_name, "nextBatch");
        bson_append_int64(&command, "getMore", -1, cursor);
        bson_append_utf8(&command, "collection", -1, collection, -1);
        ok = run(store, &command, 0, &reply, error);
    }
    bson_destroy(&reply);
    bson_destroy(&command);
    if (!ok)
        free_documents(out);
    return ok;
}

static void parse_bounds(bson_iter_t *iter, tow_range_t *out)
{
    while (bson_iter_next(iter)) {
        if (!strcmp(bson_iter_key(iter), "min")) {
            bson_value_copy(bson_iter_value(iter), &out->min);
            out->has_min = true;
        } else if (!strcmp(bson_iter_key(iter), "max")) {
            bson_value_copy(bson_iter_value(iter), &out->max);
            out->has_max = true;
        }
    }
}

static bool parse_range(const bson_t *document, tow_range_t *out)
{
    bson_iter_t iter, child;

    *out = (tow_range_t){0};
    if (!bson_iter_init(&iter, document))
        return false;
    while (bson_iter_next(&iter)) {
        const char *name = bson_iter_key(&iter);

        if (!strcmp(name, "_id") && bson_iter_recurse(&iter, &child) &&
            bson_iter_find(&child, "n")) {
            out->number = (uint32_t)bson_iter_as_int64(&child);
        } else if (!strcmp(name, "bounds") && bson_iter_recurse(&iter, &child)) {
            parse_bounds(&child, out);
        } else if (!strcmp(name, "state") && BSON_ITER_HOLDS_UTF8(&iter)) {
            const char *state = bson_iter_utf8(&iter, NULL);

            out->state = !strcmp(state, "done")      ? TOW_RANGE_DONE
                         : !strcmp(state, "started") ? TOW_RANGE_STARTED
                                                     : TOW_RANGE_OPEN;
        } else if (!strcmp(name, "lo")) {
            out->lo = read_time(&iter);
        } else if (!strcmp(name, "hi")) {
            out->hi = read_time(&iter);
        } else if (!strcmp(name, "documents")) {
            out->documents = (uint64_t)bson_iter_as_int64(&iter);
        } else if (!strcmp(name, "bytes")) {
            out->bytes = (uint64_t)bson_iter_as_int64(&iter);
        }
    }
    return true;
}

static int by_number(const void *left, const void *right)
{
    const tow_range_t *a = left, *b = right;

    return a->number < b->number ? -1 : a->number > b->number;
}

static bool hand_over(tow_store_t *store, const bson_t *collection, tow_store_each_fn each,
                      void *data, tow_error_t *error)
{
    documents_t documents;
    tow_range_t *ranges;
    bson_iter_t iter;
    uint32_t count = 0, expected = 0;
    bool ok;

    if (bson_iter_init_find(&iter, collection, "ranges"))
        expected = (uint32_t)bson_iter_as_int64(&iter);
    bson_iter_init_find(&iter, collection, "_id");
    if (!read_all(store, "ranges", "ns", bson_iter_utf8(&iter, NULL), &documents, error))
        return false;
    ranges = tow_alloc((documents.count + 1) * sizeof *ranges);
    for (size_t i = 0; i < documents.count; i++)
        count += parse_range(documents.items[i], &ranges[count]);
    free_documents(&documents);
    qsort(ranges, count, sizeof *ranges, by_number);
    if (count != expected) {
        for (uint32_t i = 0; i < count; i++)
            tow_range_clear(&ranges[i]);
        count = 0;
    }
    ok = each(data, collection, ranges, count, error); /* takes what the ranges hold */
    free(ranges);
    return ok;
}

bool tow_store_each_collection(tow_store_t *store, tow_store_each_fn each, void *data,
                               tow_error_t *error)
{
    documents_t collections;
    bool ok;

    pthread_mutex_lock(&store->lock);
    ok = read_all(store, "collections", NULL, NULL, &collections, error);
    pthread_mutex_unlock(&store->lock);
    for (size_t i = 0; ok && i < collections.count; i++)
        ok = hand_over(store, collections.items[i], each, data, error);
    free_documents(&collections);
    return ok;
}
